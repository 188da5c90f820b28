"""The HTTP interface over a real ledger: what is published, as known at, page by page, and for whom."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from pydantic import SecretStr
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from platform_assets.gold import active_users, active_users_by_slice, published_numbers
from platform_assets.serving.api import create_app
from platform_assets.serving.catalog import Catalog
from resources.lake import Lake
from resources.settings import Settings
from support.published import START, Restated

TOKEN = "a-secret-of-the-test"
PUBLICATIONS = (active_users.PUBLISHES, active_users_by_slice.PUBLISHES)
NOON = datetime(2026, 1, 11, 12, tzinfo=UTC)
DAU = "/v1/metrics/active_users.dau/values"


def client(lake: Lake, **changes: object) -> TestClient:
    told = Settings(api_tokens=[SecretStr(TOKEN)], **changes)  # type: ignore[arg-type]
    app = create_app(Catalog(lake, [published_numbers.TABLE]), PUBLICATIONS, told)
    return TestClient(app, headers={"Authorization": f"Bearer {TOKEN}"}, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def restated(tmp_path_factory: pytest.TempPathFactory) -> Restated:
    """Two days of active users; the first was published once more after a late event."""
    made = Restated.begin(tmp_path_factory.mktemp("api") / "lake")
    made.compute(START, 10, 20, 30, NOON)
    made.publish()
    made.late_event(START)
    made.compute(START, 11, 21, 31, NOON + timedelta(hours=1))
    made.compute(START + timedelta(days=1), 5, 22, 32, NOON + timedelta(hours=1))
    made.publish()
    return made


@pytest.fixture(scope="module")
def api(restated: Restated) -> Iterator[TestClient]:
    with client(restated.platform.lake) as made:
        yield made


def days(count: int = 1, **more: Any) -> dict[str, Any]:
    return {"start": str(START), "end": str(START + timedelta(days=count)), **more}


def test_the_values_of_some_days_say_how_final_they_are(api: TestClient) -> None:
    told = api.get(DAU, params=days()).json()
    assert [(v["window_start"], v["value"], v["revision"]) for v in told["values"]] == [
        ("2026-01-10T00:00:00Z", "11", 2),
        ("2026-01-11T00:00:00Z", "5", 1),
    ]
    assert [v["is_closed"] for v in told["values"]] == [True, False]
    assert told["next_offset"] is None


def test_a_value_as_known_at_an_instant_is_the_one_of_then(api: TestClient, restated: Restated) -> None:
    entries = restated.entries().filter(metric="active_users.dau").sort("published_at")
    first, last = entries["published_at"][0], entries["published_at"][-1]
    before = api.get(DAU, params=days(as_known_at=first.isoformat())).json()
    assert [v["value"] for v in before["values"]] == ["10"]
    assert api.get(DAU, params=days(as_known_at=(first - timedelta(seconds=1)).isoformat())).json()["values"] == []
    pinned = api.get(DAU, params=days(as_known_at=last.isoformat())).json()
    assert pinned["values"] == api.get(DAU, params=days()).json()["values"]


def test_an_answer_never_changes_while_others_publish(tmp_path: Path) -> None:
    """Who asks between the clock and the commit of a publication was told what stays, though the clock goes back."""
    made, told, clock_says = Restated.begin(tmp_path / "lake"), [], [NOON, NOON - timedelta(hours=1)]
    with client(made.platform.lake) as api:

        def ask(**more: str) -> dict[str, Any]:
            return dict(api.get(DAU, params=days(0, **more)).json())

        def clock() -> datetime:
            told.extend([ask(), ask(as_known_at="2099-01-01T00:00:00Z")])
            return clock_says.pop(0)

        publishers = [replace(made.platform, clock=lambda: NOON), *[replace(made.platform, clock=clock)] * 2]
        for dau, publisher in enumerate(publishers, 10):
            made.late_event(START)
            made.compute(START, dau, 20, 30, NOON)
            published_numbers.publish(publisher, active_users.PUBLISHES)
            assert ask()["values"][0]["value"] == str(dau)
            assert [ask(as_known_at=before["as_known_at"]) for before in told] == told
    assert [before["values"][0]["value"] for before in told] == ["10", "10", "11", "11"]
    published = made.entries().filter(metric="active_users.dau")["published_at"].to_list()
    assert published == [NOON + timedelta(milliseconds=number) for number in range(3)]


def test_before_anything_is_published_there_is_no_answer(tmp_path: Path) -> None:
    made = Restated.begin(tmp_path / "lake")
    with client(made.platform.lake) as api:
        answer = api.get(DAU, params=days(0))
    assert (answer.status_code, answer.json()["detail"]) == (503, "nothing was published yet")


def test_revisions_say_why_a_number_changed(api: TestClient) -> None:
    told = api.get(DAU.replace("values", "revisions"), params=days(0)).json()["values"]
    assert [(v["value"], v["change"], v["causes"]) for v in told] == [
        ("10", None, ["first publication"]),
        ("11", "1", ["late events"]),
    ]


def test_pages_hold_every_value_once(api: TestClient) -> None:
    asked = days(1, limit=1)
    first = api.get(DAU, params=asked).json()
    assert first["next_offset"] == 1
    second = api.get(DAU, params={**asked, "offset": 1, "as_known_at": first["as_known_at"]}).json()
    assert second["next_offset"] is None
    assert [v["value"] for v in first["values"] + second["values"]] == ["11", "5"]


def test_metrics_are_listed_with_their_units_and_slices(api: TestClient) -> None:
    told = {metric["name"]: metric for metric in api.get("/v1/metrics").json()["metrics"]}
    assert set(told) == {
        f"{t}.{n}" for t in ("active_users", "active_users_by_slice") for n in ("dau", "wau", "mau")
    } | {f"active_users.{metric.column}" for metric in active_users.PUBLISHES.metrics}
    assert told["active_users.dau"]["unit"] == "persons"
    assert told["active_users_by_slice.dau"]["slices"] == ["dimension", "value"]


@pytest.mark.parametrize(
    ("path", "params", "status", "said"),
    [
        ("/v1/metrics/active_users.duo/values", days(), 404, "did you mean active_users.dau"),
        (DAU, days(where="country=DE"), 404, "has no slices by 'country'; it is not sliced"),
        (DAU, {"start": "2026-01-11", "end": "2026-01-10"}, 422, "give the earlier day as start"),
        (DAU, days(as_known_at="2026-01-10T12:00:00"), 422, "timezone"),
        (DAU, days(limit=10_001), 422, "limit"),
        (DAU, days(until="x"), 422, "until"),
        (DAU, {"start": "2026-01-11"}, 422, "end"),
    ],
)
def test_what_cannot_be_answered_is_told_by_name(
    api: TestClient, path: str, params: dict[str, Any], status: int, said: str
) -> None:
    answer = api.get(path, params=params)
    assert answer.status_code == status
    assert said in answer.text
    described = api.get("/openapi.json").json()["paths"]["/v1/metrics/{name}/values"]["get"]["responses"][str(status)]
    shape = described["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert isinstance(answer.json()["detail"], list if shape == "HTTPValidationError" else str)


def test_who_has_no_token_is_told_nothing(restated: Restated) -> None:
    with client(restated.platform.lake) as api:
        for given in ("", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
            answer = api.get(DAU, params=days(), headers={"Authorization": given})
            assert answer.status_code == 401
            assert "values" not in answer.json()
    unchecked = Settings().model_copy(update={"api_tokens": [SecretStr("")]})
    app = create_app(Catalog(restated.platform.lake, [published_numbers.TABLE]), PUBLICATIONS, unchecked)
    assert TestClient(app).get(DAU, params=days()).status_code == 401
    with pytest.raises(ValueError, match="HEADWATER_API_TOKENS"):
        create_app(Catalog(restated.platform.lake, [published_numbers.TABLE]), PUBLICATIONS, Settings(api_tokens=[]))


def test_a_token_has_so_many_requests_a_minute(restated: Restated) -> None:
    with client(restated.platform.lake, api_requests_per_minute=3) as api:
        told = [api.get("/v1/health").status_code for _ in range(4)]
    assert told == [200, 200, 200, 429]


def test_a_file_that_is_gone_is_a_problem_that_is_described(tmp_path: Path) -> None:
    made = Restated.begin(tmp_path)
    made.compute(START, 10, 20, 30, NOON)
    made.publish()
    with client(made.platform.lake) as api:
        assert api.get(DAU, params=days()).status_code == 200
    for file in (tmp_path / published_numbers.TABLE.name).rglob("*.parquet"):
        file.unlink()
    with client(made.platform.lake) as api:
        answer = api.get(DAU, params=days())
    assert (answer.status_code, list(answer.json())) == (503, ["detail"])


def test_its_description_is_shown_to_anybody_and_asks_no_other_machine(restated: Restated) -> None:
    with client(restated.platform.lake) as api:
        page = api.get("/docs", headers={"Authorization": ""})
        parts = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
        told = [api.get(part, headers={"Authorization": ""}).status_code for part in parts]
    assert (page.status_code, told) == (200, [200] * 3)


def test_before_anything_was_published_it_says_so(tmp_path: Path) -> None:
    with client(Lake(str(tmp_path / "none"))) as api:
        answer = api.get(DAU, params=days())
    assert answer.status_code == 503
    assert "gold/published_numbers does not exist" in answer.json()["detail"]


def test_numbers_by_slice_are_found_by_their_parts(tmp_path: Path) -> None:
    """Values with the signs that slices are written with, and one that is null."""
    held = ["a=b,c%", "plain", None]
    made = Restated.begin(tmp_path / "lake")
    lake = made.platform.lake
    lake.create(active_users_by_slice.TABLE)
    publish_slices(made, held)
    with client(lake) as api:
        path = "/v1/metrics/active_users_by_slice.dau/values"
        asked = days(0)
        assert len(api.get(path, params=asked).json()["values"]) == 3
        found = [
            [v["value"] for v in api.get(path, params={**asked, "where": ["dimension=plan", where]}).json()["values"]]
            for where in ("value=a=b,c%", "value=plain", "value")
        ]
    assert found == [["1"], ["2"], ["3"]]


def publish_slices(made: Restated, held: list[str | None]) -> None:
    table = active_users_by_slice.TABLE
    rows = [
        {
            "day": START,
            "dimension": "plan",
            "value": value,
            "dau": number,
            "wau": number,
            "mau": number,
            "stickiness": 1.0,
            "is_closed": True,
            "is_final": False,
            "watermark": NOON,
            "person_day_slices_version": 0,
            "definition_version": table.version,
            "computed_at": NOON,
        }
        for number, value in enumerate(held, 1)
    ]
    made.platform.lake.append(table, pl.DataFrame(rows, schema=table.schema))
    published_numbers.publish(made.platform, active_users_by_slice.PUBLISHES)


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_whatever_is_asked_the_answer_is_as_described(restated: Restated, mode: GenerationMode) -> None:
    """Requests drawn from the interface's own description, right and wrong ones: no server error, no other answer."""
    with client(restated.platform.lake, api_requests_per_minute=10**9) as api:
        described = schemathesis.openapi.from_asgi("/openapi.json", api.app)
        asked: set[str] = set()
        for operation in described.get_all_operations():

            @given(case=operation.ok().as_strategy(generation_mode=mode))
            @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
            def conforms(case: schemathesis.Case) -> None:
                # OpenAPI cannot say which dates are taken (2000 to 2100): right ones may be refused, by 422.
                told = {"Authorization": f"Bearer {TOKEN}"}
                case.call_and_validate(headers=told, excluded_checks=[positive_data_acceptance])
                asked.add(case.path)

            conforms()
    assert len(asked) == len(described)
