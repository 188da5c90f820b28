"""PostHog's date ranges as half-open windows of instants."""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.conformance.insights.world import Query, World, instant
from tests.conformance.outcome import OutOfScope

_RELATIVE = re.compile(r"[-+]?(\d+)?([hdwmqyM])(Start|End)?")
_CLOCK_UNITS = ("hour", "minute")


@dataclass(frozen=True)
class Window:
    """Instants from `start` up to, not including, `end`, aware and in the project's timezone."""

    start: datetime
    end: datetime


def window(world: World, query: Query, interval: str) -> Window:
    """The range of a query: by default from seven days ago to now, by whole days or whole hours.

    A range says its last day (or hour): the window ends with it. A time that names no zone is one of the project's
    clock.

    Args:
        world: Has the first event, for a range over all time.
        query: Its `dateRange`, or `date_from` and `date_to` of the old dialect, its instant and its zone.
        interval: The length of a bucket: of hours and minutes, the range is not widened to whole days.

    Raises:
        OutOfScope: A date is in no form that we know.
    """
    asked = range_of(query)
    now = query.now.astimezone(query.zone)
    to_the_minute = interval == "minute"
    start = _start(world, query, asked.get("date_from"), now, to_the_minute=to_the_minute)
    text = asked.get("date_to")
    end, is_relative = (now, True) if not text else parsed(text, now, to_the_minute=to_the_minute)
    if not asked.get("explicitDate"):
        if interval not in _CLOCK_UNITS:
            end = _midnight(end) + timedelta(days=1)
        elif is_relative:
            end = _minute(end) + timedelta(minutes=1) if to_the_minute else _hour(end) + timedelta(hours=1)
        else:
            end += timedelta(microseconds=1)
    else:
        end += timedelta(microseconds=1)
    return Window(start, end)


def compared_with(query: Query, current: Window, interval: str, compare_to: str | None) -> Window:
    """The window that a query's own is compared with.

    By default it ends where the current one begins, both by whole days (or hours of the day); of a range of whole
    weeks before today, it is a day later, so that the same days of the week are compared.

    Args:
        query: Its date range, which tells whether it is one of whole weeks.
        current: Its window.
        interval: The length of a bucket.
        compare_to: How far back, as ``-1w``, where the query says so.
    """
    last = current.end - timedelta(microseconds=1)
    if compare_to:
        found = _RELATIVE.fullmatch(compare_to)
        if found is None:
            msg = f"comparison with {compare_to!r}"
            raise OutOfScope(msg)
        start, end = (_shifted(at, found, back=True) for at in (current.start, last))
        return Window(start, end + timedelta(microseconds=1))
    length = last - current.start
    start = current.start - length
    if interval == "hour":
        start = start.replace(hour=current.start.hour, minute=0, second=0, microsecond=0)
        return Window(start, _hour(start + length) + timedelta(hours=1))
    start = _midnight(start)
    asked = range_of(query)
    found = _RELATIVE.fullmatch(str(asked.get("date_from") or "-7d"))
    weeks = found is not None and found[2] == "d" and int(found[1] or 0) % 7 == 0 and int(found[1] or 0) > 0
    if interval == "day" and weeks and asked.get("date_from") and not asked.get("date_to"):
        start += timedelta(days=1)
    return Window(start, _midnight(start + length) + timedelta(days=1))


def range_of(query: Query) -> Mapping[str, Any]:
    """The range as the query says it: `date_from`, `date_to`, `explicitDate`."""
    if query.legacy is not None:
        explicit = query.legacy.get("explicit_date") in (True, "true")
        return {**{key: query.legacy.get(key) for key in ("date_from", "date_to")}, "explicitDate": explicit}
    return query.body.get("dateRange") or {}


def parsed(text: str, now: datetime, *, to_the_minute: bool = False) -> tuple[datetime, bool]:
    """The instant that a text says, and whether it is relative to now.

    Args:
        text: A date or time, naive ones on the zone's clock (`2020-1-3` will do), or ``-7d``, ``dStart``, ``-1dEnd``.
        now: In the project's zone.
        to_the_minute: Whether so many hours ago is that minute, not the beginning of its hour.

    Raises:
        OutOfScope: It is in no form that we know.
    """
    found = _RELATIVE.fullmatch(text)
    if found is None:
        return _absolute(text, now.tzinfo), False
    at = _shifted(now, found, back=not text.startswith("+"))
    if found[3] is None:
        if found[2] == "M" or (found[2] == "h" and to_the_minute):
            return _minute(at), True
        return (_hour(at) if found[2] == "h" else _midnight(at)), True
    return _edge(at, found[2], is_end=found[3] == "End"), True


def _start(world: World, query: Query, text: str | None, now: datetime, *, to_the_minute: bool) -> datetime:
    if text == "all":
        first = min((instant(step["timestamp"]) for step in world.told), default=query.now)
        return _midnight(first.astimezone(query.zone))
    if not text:
        return _midnight(now) - timedelta(days=7)
    return parsed(text, now, to_the_minute=to_the_minute)[0]


def _absolute(text: str, zone: Any) -> datetime:
    padded = re.sub(r"^(\d{4})-(\d{1,2})-(\d{1,2})", lambda d: f"{d[1]}-{int(d[2]):02}-{int(d[3]):02}", text)
    try:
        at = datetime.fromisoformat(padded.replace("Z", "+00:00"))
    except ValueError:
        msg = f"the date {text!r}"
        raise OutOfScope(msg) from None
    return at.replace(tzinfo=zone) if at.tzinfo is None else at.astimezone(zone)


def _shifted(at: datetime, found: re.Match[str], *, back: bool) -> datetime:
    sign = -1 if back else 1
    count, unit = sign * int(found[1] or 0), found[2]
    if unit in ("h", "M"):
        # Hours and minutes pass; the others are turned on the clock.
        length = timedelta(hours=count) if unit == "h" else timedelta(minutes=count)
        return (at.astimezone(UTC) + length).astimezone(at.tzinfo)
    if unit in ("m", "y"):
        months = at.year * 12 + at.month - 1 + count * (12 if unit == "y" else 1)
        year, month = divmod(months, 12)
        return at.replace(year=year, month=month + 1, day=min(at.day, calendar.monthrange(year, month + 1)[1]))
    return at + timedelta(days=count * {"d": 1, "w": 7, "q": 91}[unit])


def _edge(at: datetime, unit: str, *, is_end: bool) -> datetime:
    if unit == "h":
        return _hour(at) + (timedelta(hours=1, microseconds=-1) if is_end else timedelta())
    day = at
    if unit == "m":
        day = at.replace(day=calendar.monthrange(at.year, at.month)[1] if is_end else 1)
    elif unit == "y":
        day = at.replace(month=12, day=31) if is_end else at.replace(month=1, day=1)
    return _midnight(day) + (timedelta(days=1, microseconds=-1) if is_end else timedelta())


def _midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
