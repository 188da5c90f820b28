"""The event envelope on the wire, one event per Kafka record (semantics 1).

The wire carries what a producer or collector knows. What the platform derives (`occurred_at`, the Kafka
coordinates) is not on the wire. In JSON, timestamps are RFC 3339 strings with an offset (`2026-11-22T10:00:00.123Z`),
precise to the microsecond. Fields that the envelope does not name are kept out of the columns; they stay in
bronze, and are no error.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import polars as pl
import pyarrow as pa

Int16 = Annotated[int, msgspec.Meta(ge=-(2**15), le=2**15 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class WireEvent(msgspec.Struct, gc=False, frozen=True):
    """One event as it is written to the topic; the order of the fields is the order of silver's columns."""

    event_id: str
    source: str
    event_name: str
    schema_ref: str
    client_occurred_at: str
    received_at: str
    client_sent_at: str | None = None
    utc_offset_minutes: Int16 | None = None
    anonymous_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    session_seq: Int64 | None = None
    app_version: str | None = None
    platform: str | None = None
    device_type: str | None = None
    os: str | None = None
    country: str | None = None
    locale: str | None = None
    page_url: str | None = None
    referrer: str | None = None
    utm_source: str | None = None
    utm_medium: str | None = None
    utm_campaign: str | None = None
    is_bot: bool | None = None
    is_test: bool | None = None
    consent: list[str] | None = None
    properties: msgspec.Raw = msgspec.Raw(b"{}")


TIMESTAMPS = ("client_occurred_at", "client_sent_at", "received_at")
"""The fields that hold RFC 3339 timestamps."""

REQUIRED = tuple(field.name for field in msgspec.structs.fields(WireEvent) if field.default is msgspec.NODEFAULT)
"""The fields without which a record is no event."""

_ARROW_TYPES = {
    "utc_offset_minutes": pa.int16(),
    "session_seq": pa.int64(),
    "is_bot": pa.bool_(),
    "is_test": pa.bool_(),
    "consent": pa.list_(pa.string()),
    "properties": pa.binary(),
}
WIRE_COLUMNS = pa.schema([(name, _ARROW_TYPES.get(name, pa.string())) for name in WireEvent.__struct_fields__])
"""The fields as Arrow columns, as JSON has them."""

EVENT_FIELDS = pl.Schema(
    {
        **pl.DataFrame(WIRE_COLUMNS.empty_table()).schema,
        **{name: pl.Datetime("us", "UTC") for name in TIMESTAMPS},
        "properties": pl.String(),
    }
)
"""The envelope's fields as columns. A timestamp that is none is null, and its field is in ``bad_timestamps``."""


_YEAR_10000 = 253_402_300_800
"""Seconds since 1970; before 1970, as many reach beyond year 1, too."""


def with_instants(events: pl.DataFrame) -> pl.DataFrame:
    """Events whose timestamps are texts, or instants of any unit, with instants for them.

    Args:
        events: The envelope's fields.

    Returns:
        `EVENT_FIELDS`, and ``bad_timestamps``: the fields that hold something that is no timestamp.
    """
    parsed = events.with_columns(_instant(events, name) for name in TIMESTAMPS)
    # Python, and so whoever reads the lake with it, knows the years 1 to 9999 only.
    parsed = parsed.with_columns(pl.when(pl.col(name).dt.year().is_between(1, 9999)).then(name) for name in TIMESTAMPS)
    faulty = [name for name in TIMESTAMPS if events[name].null_count() < parsed[name].null_count()]
    bad = pl.concat_list(
        pl.lit([], pl.List(pl.String)),
        *(pl.when(events[name].is_not_null() & parsed[name].is_null()).then(pl.lit(name)) for name in faulty),
    ).list.drop_nulls()
    return parsed.with_columns(bad_timestamps=bad)


def _instant(events: pl.DataFrame, name: str) -> pl.Expr:
    if events.schema[name] == pl.String:
        return pl.col(name).str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    unit = events.schema[name].time_unit  # type: ignore[attr-defined]  # a datetime, where it is no text
    most = _YEAR_10000 * {"ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    believable = pl.when(pl.col(name).to_physical().is_between(-most, most)).then(name)  # a cast would overflow
    return believable.cast(EVENT_FIELDS[name])
