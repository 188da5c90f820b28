"""The end-to-end freshness, measured: events of the platform's own are sent through Kafka, and looked up in gold.

A canary is an event like any other on its way: Kafka, bronze, judgement, silver, and what follows silver. It is marked
as a test's, so it enters no number (`semantics.events.is_canary`). What became of it is looked up, not assumed: silver
must hold its row, and `gold/live_metrics` must have taken in the version of silver that brought it. *When* is told by
those two tables' logs, so that looking seldom measures no worse.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

import msgspec
import polars as pl
from deltalake import DeltaTable

from partitions import Window
from platform_assets.bronze import dead_letters
from platform_assets.gold import live_metrics
from platform_assets.ops.canaries import OUTCOMES, TABLE
from platform_assets.platform import Platform
from platform_assets.quality.check import Check
from platform_assets.quality.verdict import Verdict
from platform_assets.semantics.events import CANARY, is_canary
from platform_assets.silver import events, quarantine
from platform_assets.streams import epochs
from platform_assets.streams.stream import EVENT_STREAMS
from platform_assets.table import Table
from resources.delta_log import reached_at
from resources.envelope import WireEvent
from resources.kafka import KafkaUnreachable
from resources.kafka_sink import NotProduced, produce
from resources.lake import Lake, VersionGone, retrying
from resources.records import COORDINATES as PLACE
from resources.records import Position, TopicMissing, progress_app

LATELY = timedelta(hours=1)
"""What is said of canaries is said of those that were sent within this time, and of all that wait."""

MOST_WAITING = 10
"""No more are sent to a topic while so many are on their way: these say what is wrong, and each is looked up."""

_MICROSECOND = timedelta(microseconds=1)


def event_of(topic: str, sent_at: datetime) -> bytes:
    """The record of a canary: the JSON of its event."""
    instant = f"{sent_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    event = WireEvent(
        event_id=f"{topic}/{instant}",
        source="headwater",
        event_name=CANARY,
        schema_ref=f"{CANARY}/1",
        client_occurred_at=instant,
        received_at=instant,
        anonymous_id=CANARY,
        is_test=True,
    )
    return msgspec.json.encode(event)


def tick(platform: Platform) -> pl.DataFrame:
    """Look up the canaries that wait, and send those that are due.

    Where the process ends between sending and writing, a canary is in silver that nobody waits for: no false alarm.

    Returns:
        The rows that came, or changed.
    """
    rows = platform.lake.scan(TABLE)
    waiting = rows.filter(pl.col("outcome") == "waiting").collect()
    sent_lately = rows.filter(pl.col("sent_at") > platform.clock() - platform.settings.canary_every)
    known = waiting["topic"].value_counts()
    resting = {*sent_lately.select("topic").collect()["topic"], *known.filter(pl.col("count") >= MOST_WAITING)["topic"]}
    read = begun(platform)  # before silver is looked into
    changed = pl.concat([looked_up(platform, waiting, read), sent(platform, read, resting)])
    if not changed.is_empty():
        retrying(f"write of {TABLE.name}", partial(_write, platform, changed))
    return changed


def sent(platform: Platform, read: Mapping[str, Position], resting: Collection[str]) -> pl.DataFrame:
    """Send a canary to each topic of events that was ever read: before that, nobody knows where reading begins.

    Args:
        platform: The platform.
        read: `begun`.
        resting: Topics that get none.

    Returns:
        Rows of the table.
    """
    rows = []
    for topic, position in read.items():
        if topic in resting:
            continue
        at = platform.clock()
        row = {"topic": topic, "sent_at": at, "sent_date": at.date()}
        turn = int(at.timestamp() / platform.settings.canary_every.total_seconds())
        try:
            with platform.source() as source:
                partitions = sorted(source.held(topic))
            partition = partitions[turn % len(partitions)]
            offset = produce(platform.settings.kafka_config(), topic, partition, CANARY.encode(), event_of(topic, at))
        except (KafkaUnreachable, TopicMissing, NotProduced) as error:
            rows.append({**row, "outcome": "unsent", "reason": str(error)})
        else:
            place = {"epoch": position.epoch, "partition": partition, "offset": offset}
            rows.append({**row, **place, "outcome": "waiting"})
    return pl.DataFrame(rows, schema=TABLE.schema)


def begun(platform: Platform) -> dict[str, Position]:
    """The topics of events that were ever read, and how far bronze has read each."""
    topics = {stream.topic(platform.settings): stream.table for stream in EVENT_STREAMS}
    found = {name: epochs.recorded(platform.lake.open(table), name) for name, table in topics.items() if name}
    return {topic: position for topic, position in found.items() if position is not None}


def looked_up(platform: Platform, waiting: pl.DataFrame, read: Mapping[str, Position]) -> pl.DataFrame:
    """What became of canaries that wait; those of which nothing is known yet are left out.

    Args:
        platform: The platform.
        waiting: Rows of the table.
        read: `begun`, as it was before: a new epoch begins only when silver has taken in all of the one before.
    """
    lake = platform.lake
    waiting = waiting.filter(pl.col("topic").is_in(list(read)))
    if waiting.is_empty():
        return waiting
    first, last = waiting.select(first=pl.col("sent_at").min(), last=pl.col("sent_at").max()).row(0)
    silver = lake.open(events.TABLE)
    there = lake.scan(events.TABLE, Window(first, last + _MICROSECOND), silver).filter(is_canary())
    found = waiting.join(there.select(*PLACE, arrived_at="ingested_at").collect(), on=PLACE, how="left")
    told = [_became(lake, silver, read[row["topic"]].epoch, row) for row in found.iter_rows(named=True)]
    return pl.DataFrame([row for row in told if row is not None], schema=TABLE.schema)


def lately(platform: Platform, topics: Collection[str]) -> pl.DataFrame:
    """How the canaries of some topics fared that were sent within `LATELY`.

    Args:
        platform: The platform.
        topics: Those that are read (`begun`).

    Returns:
        ``topic``; ``canaries``: how many, and of each of `OUTCOMES`; ``p50``, ``p95``: seconds of those that arrived;
        ``taken_at``: when the newest was sent that Kafka took; ``waiting_since``: when the oldest that still waits was
        sent, however long ago; ``reason``: of the newest that did not arrive. A topic that got none has no row.
    """
    seconds, outcome = pl.col("freshness_seconds"), pl.col("outcome")
    is_late = pl.col("sent_at") > platform.clock() - LATELY
    counts = [(is_late & (outcome == name)).sum().alias(name) for name in OUTCOMES]
    return (
        platform.lake.scan(TABLE)
        .filter(pl.col("topic").is_in(list(topics)), is_late | (outcome == "waiting"))
        .sort("topic", "sent_at")
        .group_by("topic", maintain_order=True)
        .agg(
            is_late.sum().alias("canaries"),
            *counts,
            p50=seconds.quantile(0.5, "linear"),
            p95=seconds.quantile(0.95, "linear"),
            taken_at=pl.col("sent_at").filter(outcome != "unsent").last(),
            waiting_since=pl.col("sent_at").filter(outcome == "waiting").first(),
            reason=pl.col("reason").drop_nulls().last(),
        )
        .collect()
    )


def comes_through(platform: Platform, _table: Table, _window: Window) -> Verdict:
    """Whether the canaries of the last hour can be read in gold, and could soon enough."""
    settings = platform.settings
    if not settings.canary_every:
        return Verdict(passed=True, description="not judged: no canary is sent (HEADWATER_CANARY_EVERY)")
    read, within = begun(platform), settings.canary_within
    fared = lately(platform, read)
    is_wrong = (
        (pl.col("lost") + pl.col("refused") > 0)
        | (pl.col("p95") > within.total_seconds()).fill_null(value=False)
        | (pl.col("waiting_since") < platform.clock() - within).fill_null(value=False)
        | pl.col("taken_at").is_null()
    )
    silent = sorted(set(read) - set(fared["topic"]))
    wrong = fared.filter(is_wrong)
    told = [
        f"{row['topic']}: {row['arrived']} of {row['canaries']} canaries of the last hour arrived"
        + ("" if row["p95"] is None else f", 95 of 100 within {row['p95']:.1f} s")
        + f", {row['lost']} lost, {row['refused']} refused, {row['unsent']} not taken by Kafka"
        + ("" if row["waiting_since"] is None else f", the oldest on its way was sent at {row['waiting_since']}")
        for row in fared.iter_rows(named=True)
    ]
    told += [f"{topic}: no canary was sent in the last hour: is the sensor `canaries` on?" for topic in silent]
    return Verdict(
        passed=wrong.is_empty() and not silent,
        description="; ".join(told) or "no topic of events was ever read",
        observed=cast("float | None", fared["p95"].max()),
        most=within.total_seconds(),
        unit="seconds",
        rows_failed=int(fared.select(pl.col("lost") + pl.col("refused")).sum().item()),
        sample=None if wrong.is_empty() else str(wrong["reason"].drop_nulls().to_list()),
    )


END_TO_END = Check(
    TABLE,
    "end_to_end_freshness",
    comes_through,
    "Events that the platform sends itself can be read in gold, within HEADWATER_CANARY_WITHIN (95 of 100).",
    pillar="freshness",
)
"""Judged by the schedule of due partitions: the canaries of the last hour, whatever partitions there are."""


def _became(lake: Lake, silver: DeltaTable, epoch: int, row: dict[str, Any]) -> dict[str, Any] | None:
    """The row of a canary of which something is known now, else None.

    Args:
        lake: The lake.
        silver: The version of `silver/events` that was looked into.
        epoch: The current one of its topic, as it was before.
        row: The row, with ``arrived_at``: when its record was ingested, where silver has it.
    """
    app, row["ingested_at"] = progress_app(row["topic"], row["epoch"], row["partition"]), row.pop("arrived_at")
    if (silver.transaction_version(app) or 0) <= row["offset"]:
        if row["epoch"] == epoch:
            return None
        return {**row, "outcome": "lost", "reason": "a new epoch of its topic began before it was read"}
    if row["ingested_at"] is None:
        # What is refused is committed before silver's progress, so it is to be found by now.
        reasons = _reasons(lake, row)
        if reasons:
            return {**row, "outcome": "refused", "reason": ", ".join(reasons)}
        version = silver.version()
        return {**row, "outcome": "lost", "reason": f"silver/events has read beyond it, and lacks it in {version}"}
    try:
        in_silver = reached_at(lake, events.TABLE, app, row["offset"] + 1)
        in_gold = None if in_silver is None else reached_at(lake, live_metrics.TABLE, events.FOLLOWS, in_silver.version)
    except VersionGone:  # it came so long ago that the logs do not tell when
        taken_in = lake.open(live_metrics.TABLE).transaction_version(events.FOLLOWS) or 0
        return {**row, "outcome": "arrived"} if taken_in >= silver.version() else None
    if in_silver is None or in_gold is None:
        return None
    seconds = (in_gold.at - row["sent_at"]).total_seconds()
    times = {"in_silver_at": in_silver.at, "in_gold_at": in_gold.at, "freshness_seconds": seconds}
    return {**row, **times, "outcome": "arrived"}


def _reasons(lake: Lake, row: dict[str, Any]) -> list[str]:
    """Why a record was refused; none where it was not. By its place: its time may be what is wrong."""
    is_it = pl.all_horizontal(pl.col(name) == row[name] for name in PLACE)
    refused = (lake.scan(table).filter(is_it).select("reasons") for table in (quarantine.TABLE, dead_letters.TABLE))
    return pl.concat(refused).collect()["reasons"].explode().to_list()


def _write(platform: Platform, changed: pl.DataFrame) -> None:
    """Put rows into the table, in place of those of the same canaries, in one commit."""
    lake, sent_at = platform.lake, changed["sent_at"].sort()
    window = Window(sent_at[0], sent_at[-1] + _MICROSECOND)
    handle = lake.open(TABLE)
    kept = lake.scan(TABLE, window, handle).collect().join(changed, on=TABLE.key, how="anti")
    lake.replace(TABLE, handle, pl.concat([kept, changed]), window)
