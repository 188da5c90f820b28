"""However the changes were read, the dimensions are those of all changes applied in the order of the source's log.

Changes of a few rows of three tables, delivered by two topic partitions in any order and more than once, with garbage
among them; read in batches of any size, with the process killed at any moment, tables rebuilt and files compacted.
What is wanted is computed here by plain Python.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from platform_assets.bronze import dead_letters, oltp_changes
from platform_assets.changes.dimensions import DIMENSIONS
from platform_assets.changes.following import rebuild
from platform_assets.gold import orders as order_entries
from platform_assets.platform import Platform
from platform_assets.semantics.dimensions import END_OF_TIME
from platform_assets.silver import orders, products, quarantine, row_changes, users
from platform_assets.streams.change_batches import ChangeBatches
from platform_assets.streams.rebuilds import rebuild_row_changes
from resources.lake import Lake
from resources.records import FrameSource
from support.changes import CHANGE_TABLES, SETTINGS, change, drain, encoded, new_lake, source
from support.changes import TOPIC as CHANGES_TOPIC
from support.lakes import EventfulLake, Killed, die
from support.records import Record, at

PARTITIONS = 2
GARBAGE = (b"", b"{", b"[]", b"{}", b'{"op":"c","source":{"table":"users"}}')


@dataclass(frozen=True)
class Drawn:
    """A change of a row: `users` by plan, `orders` by status; `products` is emptied now and then."""

    table: str
    op: str
    lsn: int
    minute: int
    key: str
    value: str | None

    def wire(self) -> dict[str, Any]:
        if self.op == "t":
            return change(self.table, "t", self.lsn, self.minute)
        name, attribute = NAMES[self.table]
        row = {name: self.key, attribute: self.value}
        if self.op == "d":
            return change(self.table, "d", self.lsn, self.minute, before={name: self.key})
        return change(self.table, self.op, self.lsn, self.minute, after=row)


NAMES = {"users": ("user_id", "plan"), "products": ("product_id", "category"), "orders": ("order_id", "status")}


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Drawn], list[Record]]:
    """The changes in the order of the source's log, and the records that deliver them."""
    made = []
    minute = 0
    for lsn in range(1, draw(st.integers(2, 16))):
        minute += draw(st.sampled_from([0, 1, 5]))
        table = draw(st.sampled_from(sorted(NAMES)))
        op = draw(st.sampled_from("cuuurd" + ("t" if table == "products" else "")))
        value = draw(st.sampled_from([None, "a", "b", "c"]))
        made.append(Drawn(table, op, lsn, minute, draw(st.sampled_from("xyz")), value))
    values: list[bytes | None] = [encoded(drawn.wire()) for drawn in made]
    values += draw(st.lists(st.sampled_from([*values, *GARBAGE, None]), max_size=4))
    shuffled = draw(st.permutations(values))
    placed: dict[int, int] = dict.fromkeys(range(PARTITIONS), 0)
    records = []
    for number, value in enumerate(shuffled):
        partition = draw(st.integers(0, PARTITIONS - 1))
        records.append(Record(partition, placed[partition], at(number * 7), value, topic=CHANGES_TOPIC))
        placed[partition] += 1
    return made, records


@dataclass(frozen=True)
class Step:
    """A batch; at one of its moments the process may end."""

    size: int
    kill_at: int | None


scripts = st.lists(
    st.one_of(
        st.builds(Step, st.integers(1, 6), st.none() | st.integers(1, 40)),
        st.builds(Step, st.integers(1, 6), st.none() | st.integers(1, 40)),
        st.sampled_from(["restart", "rebuild dimensions", "rebuild changes"]),
        st.integers(0, len(CHANGE_TABLES) - 1),
    ),
    max_size=6,
)


def play(lake: EventfulLake, held: FrameSource, script: list[Step | str | int]) -> None:
    """Let a script happen, then read what is left."""
    writer: ChangeBatches | None = None
    plain = Platform(Lake(lake.url), SETTINGS)
    for act in script:
        if act == "restart":
            writer = None
        elif act == "rebuild changes":
            rebuild_row_changes(plain)
        elif act == "rebuild dimensions":
            for dimension in DIMENSIONS:
                rebuild(dimension, plain)
        elif isinstance(act, int):
            lake.open(CHANGE_TABLES[act]).optimize.compact()
        elif isinstance(act, Step):
            if act.kill_at is not None:
                lake.happenings = {len(lake.moments) + act.kill_at: die}
            try:
                if writer is None:
                    writer = ChangeBatches(lake, held, SETTINGS.model_copy(update={"micro_batch_records": act.size}))
                    writer.catch_up()
                writer.step()
            except Killed:
                event("killed")
                writer = None
            lake.happenings = {}
    drain(lake, held, 7)


def versions(made: list[Drawn], table: str) -> list[tuple[Any, ...]]:
    """(key, value, from, to) of a table's versions: the changes applied one by one, in the order of the log."""
    found: list[tuple[Any, ...]] = []
    for key in "xyz":
        state: tuple[str | None] | None = None
        since, spans = None, []
        mine = [drawn for drawn in made if drawn.table == table and (drawn.key == key or drawn.op == "t")]
        for drawn in mine:
            now = None if drawn.op in "dt" else (drawn.value,)
            if now == state:
                continue
            if state is not None:
                spans.append((key, state[0], since, at(drawn.minute)))
            state, since = now, at(drawn.minute)
        if state is not None:
            spans.append((key, state[0], since, END_OF_TIME))
        # What held for no time at all was never there; what came back at once was never gone.
        for span in (span for span in spans if span[2] < span[3]):
            if found and found[-1][:2] == span[:2] and found[-1][3] == span[2]:
                found[-1] = (*found[-1][:3], span[3])
            else:
                found.append(span)
    return found


def latest(made: list[Drawn]) -> dict[str, tuple[Any, ...]]:
    """Per order: its last status, the first and the last commit time, whether it is gone."""
    found: dict[str, tuple[Any, ...]] = {}
    for drawn in (drawn for drawn in made if drawn.table == "orders"):
        status, first = found.get(drawn.key, (None, at(drawn.minute)))[:2]
        gone = drawn.op == "d"
        found[drawn.key] = (status if gone else drawn.value, first, at(drawn.minute), gone)
    return found


def check(made: list[Drawn], records: list[Record], script: list[Step | str | int], folder: Path) -> None:
    held = source(records, PARTITIONS)
    lake = EventfulLake(new_lake(folder / "lake").url)
    play(lake, held, script)
    for table, name, attribute in (
        (users.DIMENSION.table, "user_id", "plan"),
        (products.DIMENSION.table, "product_id", "category"),
    ):
        rows = lake.scan(table).select(name, attribute, "valid_from", "valid_to").sort(name, "valid_from").collect()
        assert rows.rows() == versions(made, table.name.split("/")[1])
    rows = lake.scan(orders.DIMENSION.table).sort("order_id").collect()
    wanted = dict(sorted(latest(made).items()))
    columns = ("status", "first_seen_at", "last_seen_at", "is_deleted")
    assert dict(zip(rows["order_id"], rows.select(columns).rows(), strict=True)) == wanted
    sales = lake.scan(order_entries.TABLE).sort("order_id").collect()
    assert sales["order_id"].to_list() == [key for key, (*_, is_gone) in wanted.items() if not is_gone]

    stored = [lake.scan(table).select(pl.len()).collect().item() for table in BELOW]
    tombstones = sum(record.value is None for record in records)
    assert sum(stored) + tombstones == lake.scan(oltp_changes.TABLE).select(pl.len()).collect().item() == len(records)
    for dimension in DIMENSIONS:
        before = lake.scan(dimension.table).sort(dimension.table.key).collect()
        rebuild(dimension, Platform(Lake(lake.url), SETTINGS))
        assert lake.scan(dimension.table).sort(dimension.table.key).collect().equals(before)


BELOW = (row_changes.TABLE, quarantine.TABLE, dead_letters.TABLE)
LIMITS = {
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
    "phases": [phase for phase in Phase if phase is not Phase.explain],
    "deadline": None,
}


@settings(max_examples=15, **LIMITS)  # type: ignore[arg-type]
@given(histories(), scripts)
def test_dimensions_are_what_the_log_says(
    history: tuple[list[Drawn], list[Record]], script: list[Step | str | int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(*history, script, Path(folder))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=120, **LIMITS)  # type: ignore[arg-type]
@given(histories(), scripts)
def test_dimensions_are_what_the_log_says_at_length(
    history: tuple[list[Drawn], list[Record]], script: list[Step | str | int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(*history, script, Path(folder))
