"""What a file writes as a time, as an instant."""

from __future__ import annotations

import reprlib
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, field_validator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_UNITS = {"epoch_seconds": 1_000_000, "epoch_milliseconds": 1_000}
"""In microseconds."""


class EventTime(BaseModel, extra="forbid", frozen=True):
    """The column that holds the event time, and how it is written there.

    Attributes:
        column: Its name.
        format: ``rfc3339``, ``epoch_seconds``, ``epoch_milliseconds`` or a strptime format such as ``%Y%m%d``.
        timezone: IANA zone of times without an offset. What the clock passes twice is the first of the two.
    """

    column: str
    format: str = "rfc3339"
    timezone: str = "UTC"

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        if value == "rfc3339" or value in _UNITS or "%" in value:
            return value
        raise ValueError(f"is no format; write rfc3339, {', '.join(_UNITS)} or one such as '%Y-%m-%d %H:%M:%S'")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            return ZoneInfo(value).key
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError("is no IANA time zone; write one such as 'Europe/Berlin'") from error

    def instant(self, value: object) -> datetime:
        """A value as an instant, UTC; raises `ValueError` where no Kafka record can have it as its time."""
        if isinstance(value, bool) or not isinstance(value, date | str | int | float | Decimal):
            raise ValueError(f"{reprlib.repr(value)} is no time")
        form = "rfc3339" if isinstance(value, date) else self.format
        return _instant(str(value).strip(), form, self.timezone)


@lru_cache(maxsize=2**16)  # files are full of equal times: those of one day, or of two fields
def _instant(text: str, form: str, zone: str) -> datetime:
    try:
        found = _parsed(text, form, zone)
    except ArithmeticError as error:
        raise ValueError(f"{reprlib.repr(text)} lies outside the years 1 to 9999") from error
    if milliseconds(found) < 1:  # to librdkafka 0 is no time but "now"
        raise ValueError(f"{found.isoformat()} is not after 1970 began; a Kafka record cannot have such a time")
    return found


def _parsed(text: str, form: str, zone: str) -> datetime:
    try:
        if form in _UNITS:
            return _EPOCH + timedelta(microseconds=int(Decimal(text) * _UNITS[form]))
        moment = datetime.fromisoformat(text) if form == "rfc3339" else datetime.strptime(text, form)  # noqa: DTZ007
    except (ValueError, InvalidOperation) as error:
        raise ValueError(f"{reprlib.repr(text)} is no time of the format {form}") from error
    if moment.tzinfo is not None:
        return moment.astimezone(UTC)
    instant = moment.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    if instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None) != moment:
        raise ValueError(f"{moment.isoformat(' ')} does not exist in {zone}: the clocks went forward over it")
    return instant


def milliseconds(instant: datetime) -> int:
    """A record's timestamp: whole milliseconds since 1970."""
    return (instant - _EPOCH) // _MILLISECOND
