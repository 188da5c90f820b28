"""Event time, lateness and the contract of one event (semantics 1 and 2).

Each record is judged alone: what is decided here does not depend on any other record, nor on a clock, so a
replay judges as the first reading did.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

CLOCK_NOISE = timedelta(minutes=10)
"""How far an event may lie after its arrival before its clock is disbelieved."""

STRAGGLES_AFTER = timedelta(hours=1)
"""An event this late, or from a clock this wrong, is stored apart from those on time."""

_NO_IDS = (
    *("", "null", "none", "undefined", "nan", "guest", "anonymous", "0", "true", "false", "[object object]"),
    "not_authenticated",
)
"""Values that mean that there is no id (semantics 4)."""
_QUOTES = "\"'` "


def event_time(events: pl.LazyFrame) -> pl.LazyFrame:
    """Add ``occurred_at``, the event time.

    ``received_at - (client_sent_at - client_occurred_at)`` where the device said when it sent, else
    ``client_occurred_at``. Up to `CLOCK_NOISE` after ``received_at`` it is set to ``received_at``.

    Args:
        events: ``client_occurred_at``, ``client_sent_at``, ``received_at``: instants, UTC.
    """
    received, sent, occurred = pl.col("received_at"), pl.col("client_sent_at"), pl.col("client_occurred_at")
    derived = pl.when(sent.is_not_null()).then(received - (sent - occurred)).otherwise(occurred)
    is_noise = (derived > received) & (derived <= received + CLOCK_NOISE)
    return events.with_columns(occurred_at=pl.when(is_noise).then(received).otherwise(derived))


def judged(events: pl.LazyFrame, allowed_lateness: timedelta) -> pl.LazyFrame:
    """Add ``occurred_at``, and ``is_valid``: nothing keeps the event out of silver. `reasons` tells what does.

    Args:
        events: The envelope, ``ingested_at``, and ``bad_timestamps``: the fields that hold no timestamp.
        allowed_lateness: The greatest ``ingested_at - occurred_at`` let in.
    """
    is_faulty = pl.any_horizontal(pl.col("bad_timestamps").list.len() > 0, *_faults(allowed_lateness).values())
    return event_time(events).with_columns(is_valid=~is_faulty.fill_null(value=False))


def reasons(allowed_lateness: timedelta) -> pl.Expr:
    """Everything that keeps an event out of silver, as a list; empty if nothing does.

    The reasons: ``empty:<field>``, ``not_a_timestamp:<field>``, ``no_actor`` (neither ``anonymous_id`` nor
    ``user_id``), ``from_the_future`` (after ``received_at`` by more than `CLOCK_NOISE`),
    ``received_in_the_future`` (``received_at`` after the record's own time by more than that), ``too_late``.

    Args:
        allowed_lateness: As given to `judged`, whose result this is to be evaluated on.
    """
    return pl.concat_list(
        pl.col("bad_timestamps").list.eval("not_a_timestamp:" + pl.element()),
        *(pl.when(fault).then(pl.lit(reason)) for reason, fault in _faults(allowed_lateness).items()),
    ).list.drop_nulls()


def _faults(allowed_lateness: timedelta) -> dict[str, pl.Expr]:
    """Reasons, and whether they hold; null where a timestamp is missing."""
    required = ("event_id", "source", "event_name", "schema_ref")
    return {
        **{f"empty:{field}": pl.col(field).str.len_bytes() == 0 for field in required},
        "no_actor": is_absent("anonymous_id") & is_absent("user_id"),
        "from_the_future": pl.col("occurred_at") > pl.col("received_at") + CLOCK_NOISE,
        "received_in_the_future": pl.col("received_at") > pl.col("ingested_at") + CLOCK_NOISE,
        "too_late": pl.col("ingested_at") - pl.col("occurred_at") > allowed_lateness,
    }


def is_absent(field: str) -> pl.Expr:
    """Whether an id is missing or empty."""
    return pl.col(field).is_null() | (pl.col(field).str.len_bytes() == 0)


def straggles() -> pl.Expr:
    """Whether an event came long after it occurred, or from a clock that is far off."""
    lateness = pl.col("ingested_at") - pl.col("occurred_at")
    skew = (pl.col("client_occurred_at") - pl.col("occurred_at")).abs()
    return (lateness > STRAGGLES_AFTER) | (lateness < -STRAGGLES_AFTER) | (skew > STRAGGLES_AFTER)


def is_of_people() -> pl.Expr:
    """Whether an event counts in gold: it is neither a bot's nor a test's. One without these marks is neither."""
    return ~(pl.col("is_bot").fill_null(value=False) | pl.col("is_test").fill_null(value=False))


CANARY = "headwater_canary"
"""The name of the events that the platform itself sends, to see how long an event takes (`ops/canaries`)."""


def is_canary() -> pl.Expr:
    """Whether an event is one of those that the platform itself sends. Marked as a test's, it enters no number.

    Nor does it say anything of the others: it moves no watermark, makes nothing stale, and is not profiled.
    """
    return pl.col("is_test") & (pl.col("event_name") == CANARY)


def is_id(field: str) -> pl.Expr:
    """Whether a field holds an id: not null, and none of the values that are no ids, quoted or in capitals."""
    bare = pl.col(field).str.strip_chars(_QUOTES).str.strip_chars().str.to_lowercase()
    return pl.col(field).is_not_null() & ~bare.is_in(_NO_IDS)


def raw_id() -> pl.Expr:
    """Who acted, by the event alone: ``u:<user_id>``, else ``a:<anonymous_id>``.

    A value that is no id (`is_id`) counts only where there is no other.
    """
    has_user = is_id("user_id") | (is_absent("anonymous_id") | ~is_id("anonymous_id")) & ~is_absent("user_id")
    return pl.when(has_user).then("u:" + pl.col("user_id")).otherwise("a:" + pl.col("anonymous_id"))
