"""What the numbers mean, against plain Python and against cases written by hand."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.semantics.arrivals import ARRIVAL_ORDER, first_arrivals
from platform_assets.semantics.events import event_time, judged, reasons
from platform_assets.semantics.watermark import Newest, is_closed, is_final, watermark

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
INSTANT = pl.Datetime("us", "UTC")


@pytest.mark.parametrize(
    ("occurred", "sent", "expected"),
    [
        (0, None, 0),
        (-5, -1, -4),  # it waited four minutes on the device
        (-65, -61, -4),  # the clock an hour slow: the wait is the same
        (60, 61, -1),  # the clock an hour fast
        (5, None, 0),  # clock noise
        (10, None, 0),
        (11, None, 11),  # too much to be noise: quarantined by `judged`
    ],
)
def test_event_time(occurred: int, sent: int | None, expected: int) -> None:
    frame = pl.LazyFrame(
        {
            "client_occurred_at": [NOON + occurred * MINUTE],
            "client_sent_at": [None if sent is None else NOON + sent * MINUTE],
            "received_at": [NOON],
        },
        schema={"client_occurred_at": INSTANT, "client_sent_at": INSTANT, "received_at": INSTANT},
    )
    assert event_time(frame).collect()["occurred_at"].to_list() == [NOON + expected * MINUTE]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"event_id": ""}, ["empty:event_id"]),
        ({"anonymous_id": None}, ["no_actor"]),
        ({"anonymous_id": "", "user_id": ""}, ["no_actor"]),
        ({"anonymous_id": None, "user_id": "u"}, []),
        ({"client_occurred_at": NOON + 11 * MINUTE}, ["from_the_future"]),
        ({"received_at": NOON + 11 * MINUTE}, ["received_in_the_future"]),
        ({"client_occurred_at": NOON - timedelta(days=7)}, []),
        ({"client_occurred_at": NOON - timedelta(days=7, microseconds=1)}, ["too_late"]),
        ({"bad_timestamps": ["received_at"], "received_at": None}, ["not_a_timestamp:received_at"]),
        (
            {"source": "", "anonymous_id": None, "client_occurred_at": NOON - timedelta(days=8)},
            ["empty:source", "no_actor", "too_late"],
        ),
    ],
)
def test_every_reason_is_told(changes: dict[str, object], told: list[str]) -> None:
    event: dict[str, object] = {
        "event_id": "e",
        "source": "web",
        "event_name": "x",
        "schema_ref": "x/1",
        "anonymous_id": "a",
        "user_id": None,
        "client_occurred_at": NOON,
        "client_sent_at": None,
        "received_at": NOON,
        "ingested_at": NOON,
        "bad_timestamps": [],
    }
    schema = {
        **dict.fromkeys(event, pl.String),
        **{name: INSTANT for name in event if name.endswith("_at")},
        "bad_timestamps": pl.List(pl.String),
    }
    frame = pl.LazyFrame([{**event, **changes}], schema=schema)
    week = timedelta(days=7)
    found = judged(frame, week).select("is_valid", reasons=reasons(week)).collect()
    assert found.to_dicts() == [{"is_valid": not told, "reasons": told}]


deliveries = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=20)


@given(deliveries, st.data())
def test_the_same_arrivals_stand_whatever_the_order_and_slicing(
    drawn: list[tuple[int, int]], data: st.DataObject
) -> None:
    rows = [
        {
            "source": "web",
            "event_id": str(event),
            "client_occurred_at": NOON,
            "ingested_at": NOON + minute * MINUTE,
            "topic": "t",
            "epoch": 1,
            "partition": 0,
            "offset": offset,
        }
        for offset, (event, minute) in enumerate(drawn)
    ]
    schema = pl.DataFrame(rows).schema if rows else {}
    expected = {
        event: min((r["ingested_at"], r["offset"]) for r in rows if r["event_id"] == event)
        for event in {r["event_id"] for r in rows}
    }
    order = data.draw(st.permutations(rows))
    there = pl.DataFrame(schema=schema)
    while order:
        size = data.draw(st.integers(1, len(order)))
        new, order = pl.DataFrame(order[:size], schema=schema), order[size:]
        result = first_arrivals(new, there)
        assert result.kept.height + result.duplicates.height == new.height
        there = pl.concat([there.join(result.displaced, on=ARRIVAL_ORDER, how="anti"), result.kept])
    found = {row["event_id"]: (row["ingested_at"], row["offset"]) for row in there.to_dicts()}
    assert found == expected
    assert there.height == len(expected)


def test_a_delivery_met_again_is_not_its_own_duplicate() -> None:
    row = {
        "source": "web",
        "event_id": "e",
        "client_occurred_at": NOON,
        "ingested_at": NOON,
        "topic": "t",
        "epoch": 1,
        "partition": 0,
        "offset": 7,
    }
    frame = pl.DataFrame([row])
    assert first_arrivals(frame, frame).kept.equals(frame)


def test_watermark_is_held_back_by_the_slowest_but_not_by_the_idle() -> None:
    slow = Newest(event_time=NOON - 20 * MINUTE, record_time=NOON)
    fast = Newest(event_time=NOON, record_time=NOON)
    idle = Newest(event_time=NOON - 90 * MINUTE, record_time=NOON - 5 * MINUTE)
    disorder, idle_after = 15 * MINUTE, 5 * MINUTE
    assert watermark({0: slow, 1: fast}, disorder, idle_after) == NOON - 35 * MINUTE
    assert watermark({1: fast, 2: idle}, disorder, idle_after) == NOON - 15 * MINUTE
    assert watermark({0: slow}, disorder, idle_after, before=NOON) == NOON  # monotone
    assert watermark({}, disorder, idle_after) is None


def test_closed_and_final() -> None:
    assert not is_closed(NOON, None)
    assert not is_closed(NOON, NOON - MINUTE)
    assert is_closed(NOON, NOON)
    assert not is_final(NOON, NOON, timedelta(days=7))
    assert is_final(NOON, NOON + timedelta(days=7), timedelta(days=7))
