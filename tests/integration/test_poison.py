"""Poison: one record that is not what it should be stops nobody, and is found again with its reason."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import polars as pl
import pytest

from partitions import Window
from platform_assets.bronze import client_events, dead_letters
from platform_assets.silver import events, outcomes, quarantine
from resources.lake import Lake
from resources.records import FrameSource
from resources.settings import Settings
from support.lakes import assert_conserved, drain, rebuild_silver
from support.records import START, TOPIC, Record, at, encoded, event, frame, record

MEGABYTE = 2**20


@dataclass(frozen=True)
class Poison:
    """A record among healthy ones.

    Attributes:
        name: What it is.
        value: Its bytes.
        ends: Where it ends: ``silver``, ``quarantined`` or ``dead_lettered``.
        reason: The start of one of the reasons told.
        ingested_at: Its record time.
    """

    name: str
    value: bytes | None
    ends: str
    reason: str = ""
    ingested_at: datetime = START


def with_fields(**fields: object) -> bytes:
    return encoded(event("poison", **fields))  # type: ignore[arg-type]


def raw(text: str) -> bytes:
    """An event whose last field is written as it stands."""
    return encoded(event("poison"))[:-1] + f", {text}}}".encode()


def clocks(text: str) -> dict[str, object]:
    """A device whose clock says this, when the event happened and when it was sent."""
    return {"client_occurred_at": text, "client_sent_at": text}


CLOCK = "not_a_timestamp:client_occurred_at"
LAST = datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC)
"""What later record times are set to (`resources.kafka.LAST_MILLISECOND`)."""
FIRST = datetime(1970, 1, 1, tzinfo=UTC)

POISONS = [
    Poison("a tombstone", None, "dead_lettered", "tombstone"),
    Poison("nothing", b"", "dead_lettered", "empty"),
    Poison("no UTF-8", b"\xff\xfe\x00", "dead_lettered", "not_utf8"),
    Poison("no UTF-8 in an unknown field", raw('"x": "?"').replace(b"?", b"\xc3\x28"), "dead_lettered", "not_utf8"),
    Poison("UTF-16", encoded(event()).decode().encode("utf-16"), "dead_lettered", "not_utf8"),
    Poison("a byte order mark", b"\xef\xbb\xbf" + encoded(event("poison")), "dead_lettered", "not_json"),
    Poison("cut off", encoded(event("poison"))[:-3], "dead_lettered", "not_json"),
    Poison("ten megabytes", with_fields(properties={"x": "y" * 10 * MEGABYTE}), "dead_lettered", "too_large"),
    Poison("ten megabytes of nothing", b" " * 10 * MEGABYTE, "dead_lettered", "too_large"),
    Poison("deep", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "dead_lettered", "nested_too_deep"),
    Poison("deep properties", raw('"properties": ' + '{"a":' * 900 + "1" + "}" * 900), "silver"),
    Poison("NaN", raw('"properties": {"x": NaN}'), "dead_lettered", "not_json"),
    Poison("infinity", raw('"session_seq": Infinity'), "dead_lettered", "not_json"),
    Poison("half a surrogate pair", with_fields(platform="\ud800"), "dead_lettered", "not_json"),
    Poison("half a pair in properties", with_fields(properties={"x": "\udfff"}), "dead_lettered", "not_json"),
    Poison("a null byte", with_fields(platform="a\x00b", properties={"x": "\x00"}), "silver"),
    Poison("an array", b"[1, 2]", "dead_lettered", "not_an_object"),
    Poison("a huge integer", raw('"session_seq": ' + "9" * 400), "quarantined", "wrong_type:session_seq"),
    Poison("one more than 64 bits", raw(f'"session_seq": {2**63}'), "quarantined", "wrong_type:session_seq"),
    Poison("a huge integer in properties", raw('"properties": {"x": ' + "9" * 400 + "}"), "silver"),
    Poison("digits without end", raw('"session_seq": ' + "9" * 5000), "dead_lettered", "not_json"),
    Poison("a fraction", raw('"session_seq": 1.7'), "quarantined", "wrong_type:session_seq"),
    Poison("a number as a word", raw('"session_seq": "1"'), "quarantined", "wrong_type:session_seq"),
    Poison("an id twice", raw('"event_id": "other"'), "quarantined", "repeated:event_id"),
    Poison("unknown fields", raw('"x": {"event": [1, 2]}, "y": null'), "silver"),
    Poison("empty object", b"{}", "quarantined", "missing:event_id"),
    Poison("no actor", with_fields(anonymous_id=None), "quarantined", "no_actor"),
    Poison(
        "no time zone", with_fields(received_at="2026-11-20T22:00:00"), "quarantined", "not_a_timestamp:received_at"
    ),
    Poison("no such day", with_fields(received_at="2026-02-30T00:00:00Z"), "quarantined", "not_a_timestamp"),
    Poison(
        "year 10000", with_fields(received_at="10000-01-01T00:00:00Z"), "quarantined", "not_a_timestamp:received_at"
    ),
    Poison("an offset", with_fields(client_occurred_at="2026-11-21T11:59:00+14:00"), "silver"),
    Poison("a clock at year 1", with_fields(**clocks("0001-01-01T00:00:00Z")), "silver"),
    Poison("a clock before year 1", with_fields(**clocks("0001-01-01T00:00:00+14:00")), "quarantined", CLOCK),
    Poison("a clock at year 9999", with_fields(**clocks("9999-12-31T23:59:59.999999Z")), "silver"),
    Poison("a clock after year 9999", with_fields(**clocks("9999-12-31T23:59:59-14:00")), "quarantined", CLOCK),
    Poison("a clock at year +200000", with_fields(**clocks("+200000-01-01T00:00:00Z")), "quarantined", CLOCK),
    Poison("year 1, no sending", with_fields(client_occurred_at="0001-01-01T00:00:00Z"), "quarantined", "too_late"),
    Poison(
        "sent ten thousand years before",
        with_fields(client_occurred_at="9999-12-31T00:00:00Z", client_sent_at="0001-01-01T00:00:00Z"),
        "quarantined",
        "from_the_future",
    ),
    Poison(
        "event time after year 9999",
        with_fields(
            client_occurred_at="9999-12-31T00:00:00Z",
            client_sent_at="0001-01-01T00:00:00Z",
            received_at="9999-12-31T00:00:00Z",
        ),
        "quarantined",
        "from_the_future",
    ),
    Poison(
        "event time before year 1",
        with_fields(
            client_occurred_at="0001-01-01T00:00:00Z",
            client_sent_at="9999-12-31T00:00:00Z",
            received_at="0001-01-01T00:00:00Z",
        ),
        "quarantined",
        "too_late",
    ),
    Poison("a record of 1970", with_fields(), "quarantined", "received_in_the_future", FIRST),
    Poison(
        "an event and a record of 1970",
        with_fields(client_occurred_at="1969-12-31T23:59:00Z", received_at="1970-01-01T00:00:00Z"),
        "silver",
        ingested_at=FIRST,
    ),
    Poison("a record of year 9999", with_fields(), "quarantined", "too_late", LAST),
]


def healthy(first: int, partition: int, offset: int) -> list[Record]:
    return [record(partition, offset + i, i + 2, event(f"good{first + i}", i, i)) for i in range(3)]


def assert_ended(lake: Lake, poison: Record, ends: str, reason: str) -> None:
    """Assert that a record ended in one place, whole, with its reason."""
    here = (pl.col("partition") == poison.partition) & (pl.col("offset") == poison.offset)
    tables = {"silver": events.TABLE, "quarantined": quarantine.TABLE, "dead_lettered": dead_letters.TABLE}
    found = {name: lake.scan(table).filter(here).collect() for name, table in tables.items()}
    assert [name for name, rows in found.items() if rows.height] == [ends]
    assert found[ends].height == 1
    if ends != "silver":
        assert any(told.startswith(reason) for told in found[ends]["reasons"][0]), found[ends]["reasons"][0]
        kept = lake.scan(client_events.TABLE).filter(here).collect()
        assert kept["value"].to_list() == [poison.value]


def assert_still_usable(lake: Lake, records: list[Record], settings: Settings) -> None:
    """Assert that the tables can be compacted, rebuilt, added to, and read by whoever has Python."""
    lake.open(events.TABLE).optimize.compact()
    rebuild_silver(lake, Window(START, at(60)), settings.allowed_lateness)
    ends = {partition: 1 + max(r.offset for r in records if r.partition == partition) for partition in (0, 1)}
    again = replace(records[0], partition=1, offset=ends[1], ingested_at=at(70))
    more = [*records, again, *healthy(20, 1, ends[1] + 1), *healthy(23, 0, ends[0])]
    drain(lake, FrameSource(frame(more), {TOPIC: 2}), settings)
    assert_conserved(lake, TOPIC)
    counted = dict(lake.scan(outcomes.TABLE).group_by("outcome").agg(pl.col("records").sum()).collect().iter_rows())
    assert counted["duplicate"] == 1
    for table, outcome in ((events.TABLE, "silver"), (quarantine.TABLE, "quarantined")):
        assert len(lake.scan(table).collect().rows()) == counted.get(outcome, 0)
    assert lake.scan(outcomes.TABLE).collect().rows()
    good = lake.scan(events.TABLE).filter(pl.col("event_id").str.starts_with("good")).collect()
    assert sorted(good["event_id"]) == sorted(f"good{i}" for i in [*range(9), *range(20, 26)])


@pytest.mark.slow
@pytest.mark.parametrize("poison", POISONS, ids=lambda poison: poison.name)
def test_a_poisoned_record_harms_no_other(poison: Poison, lake: Lake) -> None:
    bad = Record(0, 3, poison.ingested_at, poison.value)
    records = [*healthy(0, 0, 0), bad, *healthy(3, 0, 4), *healthy(6, 1, 0)]
    settings = Settings(micro_batch_records=2)
    drain(lake, FrameSource(frame(records[:6]), {TOPIC: 2}), settings)
    drain(lake, FrameSource(frame(records), {TOPIC: 2}), settings)
    assert_conserved(lake, TOPIC)
    assert_ended(lake, bad, poison.ends, poison.reason)
    assert lake.scan(client_events.TABLE).collect().height == len(records)
    assert_still_usable(lake, records, settings)


def test_all_poisons_at_once(lake: Lake) -> None:
    """One batch of every poison among healthy records."""
    poisons = [
        Record(0, i + 3, p.ingested_at, p.value and p.value.replace(b'"poison"', json.dumps(f"p{i}").encode()))
        for i, p in enumerate(POISONS)
    ]
    records = [*healthy(0, 0, 0), *poisons, *healthy(3, 0, 3 + len(POISONS)), *healthy(6, 1, 0)]
    drain(lake, FrameSource(frame(records), {TOPIC: 2}), Settings())
    assert_conserved(lake, TOPIC)
    for poison, bad in zip(POISONS, poisons, strict=True):
        assert_ended(lake, bad, poison.ends, poison.reason)
    assert_still_usable(lake, records, Settings())
