"""Where alerts go: services that Apprise reaches by URL. The URLs hold secrets, and are never told.

A sink is called by its service and a few characters of its URL's digest (`slack-3f2a9c`): the name stays the same
over restarts, and tells nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast
from urllib.parse import unquote, urlsplit

import apprise

from resources.settings import SEVERITIES, Settings, Severity, split_alert_url

_KINDS = {
    "warning": apprise.NotifyType.WARNING,
    "error": apprise.NotifyType.FAILURE,
    "critical": apprise.NotifyType.FAILURE,
    "recovered": apprise.NotifyType.SUCCESS,
}
_SECONDS = 20.0
_LONGEST_TOLD = 500


class NotDelivered(ConnectionError):
    """A sink did not take a message; the message says what it answered, without secrets."""


class AlertSink(Protocol):
    """Takes messages."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def floor(self) -> Severity: ...  # noqa: D102

    def send(self, title: str, body: str, kind: str) -> None:
        """Hand over a message.

        Raises:
            NotDelivered: It was not taken.
        """
        ...


@dataclass(frozen=True)
class AppriseSink:
    """A service behind an Apprise URL.

    Attributes:
        name: What it is called.
        floor: The least severity that it takes.
        url: The URL; a secret.
    """

    name: str
    floor: Severity
    url: str = field(repr=False)

    def send(self, title: str, body: str, kind: str) -> None:
        """See `AlertSink.send`. ``kind`` is a severity, or ``recovered``."""
        told: list[str] = []
        service = apprise.Apprise()
        service.add(self.url)
        taken = service.notify(
            title=title,
            body=body,
            notify_type=_KINDS[kind],
            body_format=apprise.NotifyFormat.TEXT,
            timeout=_SECONDS,
            log_callback=lambda entry, _sink: told.append(entry.message),
        )
        if not taken:  # an exception is never raised: only the answer says that nothing was sent
            told.append(f"status {taken.status.name}")
            raise NotDelivered(without_secrets("; ".join(told), self.url)[:_LONGEST_TOLD])


def sinks(settings: Settings) -> tuple[list[AppriseSink], dict[str, str]]:
    """The sinks that the settings name, and of each entry that is none why. Connects to nothing.

    Returns:
        The sinks; and by place (``HEADWATER_ALERT_URLS, number 2``), without the URL, what is wrong there: it is none
        that Apprise knows, or stands there a second time.
    """
    found: dict[str, AppriseSink] = {}
    refused: dict[str, str] = {}
    for number, secret in enumerate(settings.alert_urls, 1):
        floor, url = split_alert_url(secret.get_secret_value())
        where = f"HEADWATER_ALERT_URLS, number {number}"
        name = f"{_service(url)}-{hashlib.sha256(url.encode()).hexdigest()[:6]}"
        if not apprise.Apprise().add(url):
            refused[where] = f"Apprise knows no such URL (service {_service(url)!r}); https://appriseit.com lists them"
        elif name in found:
            refused[where] = "the same URL stands there twice"
        else:
            found[name] = AppriseSink(name, cast("Severity", floor), url)
    return list(found.values()), refused


def takers(available: Sequence[AlertSink], severity: Severity) -> tuple[str, ...]:
    """The names of the sinks that take a severity."""
    return tuple(s.name for s in available if SEVERITIES.index(severity) >= SEVERITIES.index(s.floor))


def without_secrets(text: str, url: str) -> str:
    """A text in which nothing stands that a URL says beyond service and host."""
    parts = urlsplit(url)
    words = [parts.username, parts.password, *parts.path.split("/"), *parts.query.replace("=", "&").split("&")]
    shown = text.replace(url, _service(url))
    secrets = {unquote(w) for w in words if w} | {w for w in words if w}
    for word in sorted(secrets, key=len, reverse=True):
        if len(word) > 3:
            shown = shown.replace(word, "…")
    return shown


def _service(url: str) -> str:
    # Where there is no scheme, all of it may be a secret.
    return url.split("://", 1)[0] if "://" in url else "none"
