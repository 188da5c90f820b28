"""Where alerts go: names that tell nothing, severities, errors without secrets."""

from __future__ import annotations

import pydantic
import pytest

from resources.alert_sinks import AppriseSink, NotDelivered, sinks, takers, without_secrets
from resources.settings import Settings, split_alert_url
from support.alerts import inbox

SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#alerts"


def settings(*urls: str) -> Settings:
    return Settings.model_validate({"alert_urls": list(urls)})


def there(*urls: str) -> list[AppriseSink]:
    found, refused = sinks(settings(*urls))
    assert refused == {}
    return found


def test_a_sink_is_named_without_its_secret() -> None:
    (sink,) = there(f"critical={SLACK}")
    assert sink.name.startswith("slack-")
    assert sink.floor == "critical"
    assert there(f"critical={SLACK}") == [sink]
    for shown in (repr(sink), repr(settings(SLACK)), settings(SLACK).model_dump_json()):
        assert "TIiajkdnlazkcOXrIdevi7FQ" not in shown


def test_a_sink_takes_its_severity_and_worse() -> None:
    found = there("json://one/a", "error=json://two/b", "critical=json://three/c")
    names = [sink.name for sink in found]
    assert takers(found, "warning") == tuple(names[:1])
    assert takers(found, "error") == tuple(names[:2])
    assert takers(found, "critical") == tuple(names)


def test_an_equals_sign_of_the_url_itself_is_no_severity() -> None:
    assert split_alert_url("json://host/path?method=post") == ("warning", "json://host/path?method=post")


@pytest.mark.parametrize("url", ["nonsense://secret-token", "slack://secret-token", "secret-token"])
def test_a_wrong_url_is_named_by_its_place_and_costs_no_other_sink(url: str) -> None:
    found, refused = sinks(settings("json://one/a", url, "json://three/c"))
    assert found == there("json://one/a", "json://three/c")
    assert list(refused) == ["HEADWATER_ALERT_URLS, number 2"]
    assert "Apprise knows no such URL" in str(refused)
    assert "secret-token" not in str(refused)


def test_an_unknown_severity_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match=r"number 1: 'loud' is no severity") as raised:
        settings("loud=json://secret-host/a")
    assert "secret-host" not in raised.value.errors(include_input=False)[0]["msg"]


def test_the_same_url_twice_is_refused() -> None:
    found, refused = sinks(settings("json://one/a", "error=json://one/a"))
    assert found == there("json://one/a")
    assert refused == {"HEADWATER_ALERT_URLS, number 2": "the same URL stands there twice"}


def test_what_a_service_says_is_told_without_secrets() -> None:
    url = "json://user:hunter22@host/very/secret%20path?token=abcdef"
    told = without_secrets(f"no answer of {url}: hunter22 at /very/secret path, abcdef", url)
    assert told == "no answer of json: … at /…/…, …"


def test_a_message_arrives_or_is_an_error() -> None:
    with inbox() as taken:
        sink = AppriseSink("json-1", "warning", taken.webhook.url)
        sink.send("a title", "a body", "critical")
        assert taken.messages == [("a title", "a body", "failure")]
        taken.webhook.status = 503
        with pytest.raises(NotDelivered, match="error=503"):
            sink.send("a title", "a body", "recovered")
    with pytest.raises(NotDelivered, match="Connection error"):
        sink.send("a title", "a body", "recovered")
    with inbox() as taken, pytest.raises(NotDelivered):  # Apprise sends no empty text, and says so by its answer alone
        AppriseSink("json-2", "warning", taken.webhook.url).send("", "", "warning")
