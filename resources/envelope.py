"""The event envelope on the wire: JSON, one object per Kafka record (semantics 1).

The wire carries what a producer or collector knows. What the platform derives (`occurred_at`, the Kafka
coordinates) is not on the wire. Timestamps are RFC 3339 strings with an offset (`2026-11-22T10:00:00.123Z`),
precise to the microsecond. Fields that the envelope does not name are kept out of the columns; they stay in
bronze, and are no error.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

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
