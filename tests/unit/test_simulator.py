"""The simulator's promises: one seed, one world; and the truth says what the deliveries contain."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_stack.simulator import Corruption, Delivery, TrueEvent, TruthFile, TruthRow, World, history
from local_stack.simulator.corrupt import BREAKS_CONTRACT, GARBAGE, UNDECODABLE
from local_stack.simulator.producer import Tape
from local_stack.simulator.world import DAY, HOUR, rfc3339
from resources.envelope import REQUIRED, WireEvent

START = datetime(2026, 10, 1, 5, 30, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WORLD = World(seed=7, persons=200, start=START, days=21, tests=0.03)
ROUGH = Corruption(duplicate_rate=0.1, offline_rate=0.2, too_late_share=0.3, skewed_clock_rate=0.2, garbage_rate=0.05)


def microseconds(timestamp: str) -> int:
    return (datetime.fromisoformat(timestamp) - EPOCH) // timedelta(microseconds=1)


def decoded(delivery: Delivery) -> WireEvent:
    assert delivery.value is not None
    return msgspec.json.decode(delivery.value, type=WireEvent)


def event_time(wire: WireEvent) -> int:
    """Semantics 1, written down again."""
    occurred_at = microseconds(wire.client_occurred_at)
    if wire.client_sent_at is None:
        return occurred_at
    return microseconds(wire.received_at) - (microseconds(wire.client_sent_at) - occurred_at)


def run(world: World, corruption: Corruption) -> tuple[list[Delivery], list[TruthRow]]:
    truth: list[TruthRow] = []
    return list(history(world, corruption, on_truth=truth.append)), truth


@pytest.fixture(scope="module")
def rough() -> tuple[list[Delivery], list[TruthRow]]:
    return run(WORLD, ROUGH)


@pytest.fixture(scope="module")
def events() -> list[TrueEvent]:
    return list(WORLD.events())


class TestWorld:
    def test_one_seed_gives_one_world(self, events: list[TrueEvent]) -> None:
        assert list(WORLD.events()) == events
        assert list(replace(WORLD).events()) == events

    def test_another_seed_or_start_gives_other_events(self, events: list[TrueEvent]) -> None:
        ids = {event.wire.event_id for event in events}
        for other in (replace(WORLD, seed=8), replace(WORLD, start=START + timedelta(days=1))):
            assert ids.isdisjoint(event.wire.event_id for event in other.events())

    def test_events_are_unique_and_in_order_of_true_time(self, events: list[TrueEvent]) -> None:
        times = [event.occurred_at for event in events]
        assert times == sorted(times)
        assert WORLD.start_us <= times[0]
        assert times[-1] < WORLD.end_us
        assert len({event.wire.event_id for event in events}) == len(events)

    def test_the_parts_of_the_story_are_told(self, events: list[TrueEvent]) -> None:
        assert set(Counter(event.wire.event_name for event in events)) == {
            "app_opened",
            "page_viewed",
            "product_viewed",
            "cart_item_added",
            "checkout_started",
            "order_completed",
            "order_refunded",
            "signed_up",
            "logged_in",
            "experiment_exposed",
            "push_received",
        }
        assert {event.wire.source for event in events} == {"web", "ios", "android", "backend"}
        assert any(event.wire.utm_campaign for event in events)
        persons_of: dict[str, set[str]] = defaultdict(set)
        devices_of: dict[str, set[str]] = defaultdict(set)
        for event in events:
            if event.wire.anonymous_id is not None:
                persons_of[event.wire.anonymous_id].add(event.person_id)
                devices_of[event.person_id].add(event.wire.anonymous_id)
        assert any(len(persons) > 1 for persons in persons_of.values())
        assert any(len(devices) > 1 for devices in devices_of.values())

    def test_every_event_names_a_device_or_its_own_persons_account(self, events: list[TrueEvent]) -> None:
        user_of = {person.person_id: person.user_id for person in WORLD.population}
        for event in events:
            assert event.wire.anonymous_id or event.wire.user_id
            assert event.wire.user_id in {None, user_of[event.person_id]}

    def test_an_account_signs_up_at_most_once_and_before_it_logs_in(self, events: list[TrueEvent]) -> None:
        seen: dict[str, list[str]] = defaultdict(list)
        for event in events:
            if event.wire.event_name in {"signed_up", "logged_in"}:
                assert event.wire.user_id is not None
                seen[event.wire.user_id].append(event.wire.event_name)
        assert all("signed_up" not in names[1:] for names in seen.values())

    def test_a_refund_takes_back_its_order(self, events: list[TrueEvent]) -> None:
        amounts: dict[str, Decimal] = {}
        refunds = 0
        for event in events:
            if event.order is None:
                continue
            properties = msgspec.json.decode(event.wire.properties)
            assert properties == msgspec.to_builtins(event.order)
            if event.wire.event_name == "order_completed":
                amounts[event.order.order_id] = Decimal(event.order.amount)
            else:
                refunds += 1
                assert Decimal(event.order.amount) == -amounts[event.order.order_id]
        assert refunds

    def test_the_treatment_orders_more(self) -> None:
        world = World(seed=3, persons=1_500, start=START, days=10, bots=0)
        variant_of: dict[str, str] = {}
        checkouts: Counter[str] = Counter()
        orders: Counter[str] = Counter()
        for event in world.events():
            if event.exposure is not None and event.exposure[0] == "one_page_checkout":
                variant_of[event.person_id] = event.exposure[1]
                checkouts[event.exposure[1]] += 1
            if event.wire.event_name == "order_completed":
                orders[variant_of[event.person_id]] += 1
        control, treatment = (orders[name] / checkouts[name] for name in ("control", "treatment"))
        assert control < treatment


class TestHistory:
    def test_one_seed_gives_one_history(self, rough: tuple[list[Delivery], list[TruthRow]]) -> None:
        assert run(WORLD, ROUGH) == rough

    def test_records_are_in_order_of_their_time_and_end_before_the_end(
        self, rough: tuple[list[Delivery], list[TruthRow]]
    ) -> None:
        times = [delivery.timestamp_ms for delivery in rough[0]]
        assert times == sorted(times)
        assert WORLD.start_us // 1_000 <= times[0]
        assert times[-1] * 1_000 < WORLD.end_us

    def test_truth_counts_what_is_delivered(self, rough: tuple[list[Delivery], list[TruthRow]]) -> None:
        deliveries, truth = rough
        arrived: dict[str, list[Delivery]] = defaultdict(list)
        for delivery in deliveries:
            if delivery.kind not in GARBAGE:
                arrived[decoded(delivery).event_id].append(delivery)
        assert {row.event_id: row.deliveries for row in truth} == {
            event_id: len(copies) for event_id, copies in arrived.items()
        }
        for row in truth:
            first, *repeats = arrived[row.event_id]
            assert (first.kind == "too_late") is row.is_too_late
            assert first.timestamp_ms == row.first_arrival_ms
            assert all(copy.kind in {"duplicate", "too_late"} for copy in repeats)

    def test_the_first_arrival_tells_the_true_time(self, rough: tuple[list[Delivery], list[TruthRow]]) -> None:
        deliveries, truth = rough
        first: dict[str, WireEvent] = {}
        for delivery in deliveries:
            if delivery.kind not in GARBAGE:
                wire = decoded(delivery)
                assert microseconds(wire.received_at) // 1_000 == delivery.timestamp_ms
                original = first.setdefault(wire.event_id, wire)
                assert wire.client_occurred_at == original.client_occurred_at
                assert 0 <= event_time(wire) - event_time(original) < 1_000_000
        for row in truth:
            assert event_time(first[row.event_id]) == row.occurred_at
            assert microseconds(first[row.event_id].client_occurred_at) == row.client_occurred_at

    def test_too_late_is_what_arrives_after_seven_days(self, rough: tuple[list[Delivery], list[TruthRow]]) -> None:
        deliveries, truth = rough
        assert any(row.is_too_late for row in truth)
        for delivery in deliveries:
            if delivery.kind not in GARBAGE:
                lateness = delivery.timestamp_ms * 1_000 - event_time(decoded(delivery))
                assert (lateness > 7 * DAY) is (delivery.kind == "too_late")

    def test_every_kind_of_trouble_occurs(self, rough: tuple[list[Delivery], list[TruthRow]]) -> None:
        deliveries, truth = rough
        assert set(GARBAGE) | {"first", "duplicate", "too_late"} == {item.kind for item in deliveries}
        assert any(abs(row.client_occurred_at - row.occurred_at) > 300 * DAY for row in truth)
        assert any(row.is_bot for row in truth)
        assert any(row.is_test for row in truth)
        assert any(row.is_passive for row in truth)
        late = [row for row in truth if HOUR < row.first_arrival_ms * 1_000 - row.occurred_at < 7 * DAY]
        assert late
        firsts = [event_time(decoded(item)) for item in deliveries if item.kind == "first"]
        assert firsts != sorted(firsts)
        assert any(b'"sdk":' in item.value for item in deliveries if item.kind == "first" and item.value)

    def test_garbage_is_garbage(self, rough: tuple[list[Delivery], list[TruthRow]]) -> None:
        for delivery in rough[0]:
            if delivery.kind == "tombstone":
                assert delivery.value is None
                assert delivery.key
            elif delivery.kind in UNDECODABLE:
                assert delivery.value is not None
                with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
                    msgspec.json.decode(delivery.value, type=dict)
            elif delivery.kind in {"missing_field", "wrong_type"}:
                with pytest.raises(msgspec.ValidationError):
                    decoded(delivery)
            elif delivery.kind == "missing_id":
                assert decoded(delivery).anonymous_id is decoded(delivery).user_id is None
            elif delivery.kind == "bad_timestamp":
                wire = decoded(delivery)
                with pytest.raises(ValueError, match=r"day|isoformat"):
                    [
                        datetime.fromisoformat(value)
                        for value in (wire.client_occurred_at, wire.client_sent_at, wire.received_at)
                        if value is not None
                    ]
            elif delivery.kind == "from_the_future":
                assert event_time(decoded(delivery)) > delivery.timestamp_ms * 1_000 + 10 * 60 * 1_000_000

    def test_the_kinds_of_garbage_are_told_apart(self) -> None:
        assert not set(UNDECODABLE) & set(BREAKS_CONTRACT)
        assert "client_occurred_at" in REQUIRED

    def test_nothing_goes_wrong_where_nothing_may(self, events: list[TrueEvent]) -> None:
        deliveries, truth = run(WORLD, Corruption.none())
        assert [delivery.kind for delivery in deliveries] == ["first"] * len(events)
        assert [decoded(delivery) for delivery in deliveries] == [event.wire for event in events]
        assert all(row.deliveries == 1 and not row.is_too_late for row in truth)
        assert [row.event_id for row in truth] == [event.wire.event_id for event in events]

    @settings(max_examples=20, deadline=None)
    @given(
        seed=st.integers(0, 2**40),
        rates=st.fixed_dictionaries(
            dict.fromkeys(
                ("duplicate_rate", "offline_rate", "too_late_share", "skewed_clock_rate", "garbage_rate"),
                st.floats(0, 1),
            )
        ),
    )
    def test_no_rates_lose_a_true_event_that_could_arrive(self, seed: int, rates: dict[str, float]) -> None:
        world = World(seed, persons=20, start=START, days=10)
        deliveries, truth = run(world, Corruption(**rates))
        copies = Counter(
            decoded(item).event_id for item in deliveries if item.kind in {"first", "duplicate", "too_late"}
        )
        assert copies == {row.event_id: row.deliveries for row in truth}
        firsts = Counter(decoded(item).event_id for item in deliveries if item.kind == "first")
        assert firsts == {row.event_id: 1 for row in truth if not row.is_too_late}


class TestTruthFile:
    def test_it_gives_back_its_rows_with_their_types(self, tmp_path: Path) -> None:
        rows: list[TruthRow] = []
        world = World(seed=7, persons=50, start=START, days=10)
        path = tmp_path / "new" / "truth.parquet"
        with TruthFile(path) as truth:
            for _ in history(world, on_truth=truth.add):
                pass
        for _ in history(world, on_truth=rows.append):
            pass
        frame = pl.read_parquet(path)
        assert frame.columns == list(TruthRow.__struct_fields__)
        assert frame.schema["occurred_at"] == pl.Datetime("us", "UTC")
        times = pl.col("occurred_at", "client_occurred_at").dt.timestamp("us")
        assert frame.with_columns(times).rows() == [msgspec.structs.astuple(row) for row in rows]

    def test_daily_actives_can_be_counted_from_it(self, rough: tuple[list[Delivery], list[TruthRow]]) -> None:
        active = [row for row in rough[1] if not (row.is_bot or row.is_test or row.is_passive or row.is_too_late)]
        by_person: dict[int, set[str]] = defaultdict(set)
        by_id: dict[int, set[str]] = defaultdict(set)
        for row in active:
            by_person[row.occurred_at // DAY].add(row.person_id)
            by_id[row.occurred_at // DAY].add(f"u:{row.user_id}" if row.user_id else f"a:{row.anonymous_id}")
        assert len(by_person) == WORLD.days + 1
        # A person before and after their login counts twice by id: the truth must show the difference.
        assert sum(map(len, by_person.values())) < sum(map(len, by_id.values()))


@pytest.fixture(scope="module")
def tape() -> Tape:
    return Tape(rate=2.0, seed=7, corruption=Corruption.none(), persons=2_000)


class TestTape:
    def test_ids_of_events_never_repeat_and_sessions_keep_their_order(self, tape: Tape) -> None:
        count = 20_000
        played = [tape.event(number, number) for number in range(count)]
        assert len({event.wire.event_id for event in played}) == count
        orders = [
            event.order.order_id for event in played if event.wire.event_name == "order_completed" and event.order
        ]
        assert len(set(orders)) == len(orders)
        last: dict[str, int] = {}
        for event in played:
            if event.wire.session_id is not None and event.wire.session_seq is not None:
                assert event.wire.session_seq > last.get(event.wire.session_id, 0)
                last[event.wire.session_id] = event.wire.session_seq

    def test_an_hour_of_the_rate_is_about_an_hour_of_the_copies(self, tape: Tape) -> None:
        assert tape.copies > 1
        scenes = len({tape.event(number, 0).wire.event_id.split(".")[0] for number in range(5_000)})
        assert scenes * tape.copies == pytest.approx(2.0 * 3_600, rel=0.1)

    def test_phones_come_back_with_old_events(self) -> None:
        tape = Tape(rate=1.0, seed=7, corruption=Corruption(offline_rate=0.5), persons=2_000)
        now = 10**15
        ages = [now - tape.event(number, now).occurred_at for number in range(2_000)]
        assert max(ages) > HOUR
        assert 0 < sum(age > 0 for age in ages) < len(ages)


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001
def test_rfc3339_is_what_the_standard_library_reads(instant: datetime) -> None:
    at = (instant.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    assert microseconds(rfc3339(at)) == at
    assert rfc3339(at).endswith("Z")
