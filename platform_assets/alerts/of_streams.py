"""What is wrong on the way in: Kafka, what is not read yet, streams that stand still, what is refused, or is late."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial

import polars as pl

from platform_assets.alerts import incidents
from platform_assets.alerts.incidents import Condition, Kind
from platform_assets.alerts.rates import lately
from platform_assets.alerts.watched import KAFKA, LONGEST_SEEN, OWNER, stream_node
from platform_assets.ops import canaries
from platform_assets.platform import Platform
from platform_assets.quality import end_to_end
from platform_assets.streams import epochs
from platform_assets.streams.stream import EVENT_STREAMS, Stream, streams_of
from resources.kafka import KafkaUnreachable
from resources.records import ContinuityBroken, Held, Position, RecordSource, TopicMissing, check_continuity
from resources.settings import Severity

_KAFKA_PATIENCE = timedelta(minutes=1)


def of_kafka(platform: Platform, now: datetime) -> Iterator[Condition]:
    """Kafka that does not answer, streams that cannot go on, and what is not read yet."""
    try:
        with platform.source() as source:
            for stream in streams_of(platform.settings):
                yield from _of_stream(platform, source, stream, now)
    except KafkaUnreachable as error:
        yield Condition(
            cause="kafka",
            kind=incidents.KAFKA_UNREACHABLE,
            severity="critical",
            owner=OWNER,
            title="Kafka does not answer",
            seen=str(error)[:LONGEST_SEEN],
            since=now,
            path="/automation",
            subject=KAFKA,
            patience=_KAFKA_PATIENCE,
        )


def _of_stream(platform: Platform, source: RecordSource, stream: Stream, now: datetime) -> Iterator[Condition]:
    topic = stream.required_topic(platform.settings)

    condition = partial(
        _condition,
        of=stream.name,
        asset=stream.table.name,
        since=now,
        owner=stream.table.owner,
        subject=stream_node(stream),
    )
    try:
        held, position = reach_of(platform, source, stream)
        if position is not None:
            check_continuity(position, held)
    except (ContinuityBroken, TopicMissing) as error:
        title = f"nothing is read from topic {topic} until somebody decides"
        yield condition(incidents.STREAM_STOPPED, severity="critical", title=title, seen=str(error))
        return
    records, most = behind(held, position), platform.settings.alert_lag_records
    if records > most:
        seen = f"topic {topic} holds {records:,} records that bronze has not read; {most:,} are accepted"
        title = f"the platform is behind on topic {topic}"
        patience = platform.settings.alert_lag_for
        yield condition(incidents.CONSUMER_LAG, severity="warning", title=title, seen=seen, patience=patience)


def of_rates(platform: Platform, now: datetime) -> Iterator[Condition]:
    """Topics of which too much is refused."""
    settings = platform.settings
    limits = (
        ("dead_lettered", incidents.DEAD_LETTERS, settings.alert_dead_letter_share, "bronze/dead_letters"),
        ("quarantined", incidents.QUARANTINE, settings.alert_quarantine_share, "silver/quarantine"),
    )
    for (topic,), told in lately(platform, now).group_by("topic", maintain_order=True):
        total = int(told["records"].sum())
        if total < settings.alert_rate_records:
            continue
        for outcome, kind, limit, table in limits:
            records = int(told.filter(pl.col("outcome") == outcome)["records"].sum())
            if records / total <= limit:
                continue
            yield _condition(
                kind,
                of=topic,
                asset=table,
                severity="error" if kind is incidents.DEAD_LETTERS else "warning",
                title=f"{records / total:.0%} of topic {topic} is {outcome.replace('_', '-')}",
                seen=f"{records:,} of {total:,} records that arrived lately; {limit:.0%} is accepted",
                since=now,
                subject=table,
            )


def of_canaries(platform: Platform, now: datetime) -> Iterator[Condition]:
    """Events of the platform's own that take too long to gold, are not sent any more, or do not arrive."""
    settings = platform.settings
    if not settings.canary_every:
        return
    read = end_to_end.begun(platform)
    fared = {row["topic"]: row for row in end_to_end.lately(platform, read).iter_rows(named=True)}
    silent_for = max(settings.canary_within, 3 * settings.canary_every)
    for stream in EVENT_STREAMS:
        topic = stream.topic(settings)
        if topic not in read:
            continue
        condition = partial(
            _condition,
            of=topic,
            asset=canaries.TABLE.name,
            subject=stream.table.name,
            patience=timedelta(0) if topic in fared else silent_for,
        )
        row = fared.get(topic, {"waiting_since": None, "taken_at": None, "reason": None, "lost": 0, "refused": 0})
        waiting, taken = row["waiting_since"], row["taken_at"]
        if waiting is not None and now - waiting > settings.canary_within:
            title = f"events of topic {topic} do not come to gold"
            seen = f"what was sent at {waiting} cannot be read yet; {settings.canary_within} are accepted"
            yield condition(incidents.EVENTS_SLOW, severity="error", title=title, seen=seen, since=waiting)
        elif taken is None or now - taken > silent_for:
            seen = row["reason"] or "none was tried: is the sensor `canaries` on, and does it succeed?"
            title = f"no canary goes to topic {topic}"
            yield condition(incidents.EVENTS_SLOW, severity="error", title=title, seen=seen, since=taken or now)
        missing = {name: row[name] for name in ("lost", "refused") if row[name]}
        if missing:
            counted = " and ".join(f"{count} {outcome}" for outcome, count in missing.items())
            title = f"{sum(missing.values())} canaries of topic {topic} did not arrive"
            severity: Severity = "critical" if "lost" in missing else "error"
            seen = f"{counted} of {row['canaries']} that were sent in an hour; the last: {row['reason']}"
            yield condition(incidents.EVENTS_LOST, severity=severity, title=title, seen=seen, since=now)


def _condition(
    kind: Kind,
    *,
    of: str,
    asset: str,
    severity: Severity,
    title: str,
    seen: str,
    since: datetime,
    subject: str,
    owner: str = OWNER,
    patience: timedelta = timedelta(0),
) -> Condition:
    """What is wrong with a stream or a topic (``of``), and is looked at where an asset is."""
    return Condition(
        cause=f"{kind.name}:{of}",
        kind=kind,
        severity=severity,
        owner=owner,
        title=title,
        seen=seen[:LONGEST_SEEN],
        since=since,
        path=f"/assets/{asset}",
        asset=asset,
        subject=subject,
        patience=patience,
    )


def behind(held: Mapping[int, Held], position: Position | None) -> int:
    """How many records a topic holds that bronze has not read."""
    offsets = {} if position is None else position.offsets
    return sum(max(0, at.high - max(at.low, offsets.get(partition, at.low))) for partition, at in held.items())


def reach_of(platform: Platform, source: RecordSource, stream: Stream) -> tuple[Mapping[int, Held], Position | None]:
    """What a stream's topic holds, and how far bronze has read it."""
    topic = stream.required_topic(platform.settings)
    position = epochs.recorded(platform.lake.open(stream.table), topic)
    return source.held(topic, position), position
