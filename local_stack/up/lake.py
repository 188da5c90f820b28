"""What a start and a stop do with the lake: its tables, a first history, new epochs, the last records.

The embedded broker forgets everything when it stops: how far its topics were read is kept in the stack's state.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

from msgspec.structs import replace

from local_stack import first_history
from local_stack.ends import EmbeddedSource
from local_stack.instance import instance_of
from local_stack.new_epoch import open_new_epoch
from local_stack.stack import Stop
from local_stack.up.failures import FAILURES
from local_stack.up.running import Running
from platform_assets.gold.metric_numbers import own_metrics
from platform_assets.platform import Platform
from platform_assets.streams import epochs
from platform_assets.streams.advance import WRITERS
from platform_assets.streams.stream import Stream, streams_of
from platform_assets.tables import create_tables
from resources.kafka import KafkaSource
from resources.lake import Lake

_DRAIN_SECONDS = 20.0


def prepare(running: Running) -> None:
    """Make the tables; then a history, a new epoch, or nothing."""
    began, settings, state = time.monotonic(), running.settings, running.state
    platform = Platform.from_settings(settings)
    create_tables(platform.lake)
    for file in own_metrics().wrong:
        for fault in file.faults.splitlines():
            running.told.line(f"{'metrics':<10} {fault}")
    running.stack.keep(state)
    told = []
    # Before anything is read: the writer of the events opens the epochs of all their topics.
    positions = {
        stream.name: epochs.recorded(platform.lake.open(stream.table), stream.required_topic(settings))
        for stream in streams_of(settings)
    }
    for stream in streams_of(settings):
        topic, position = stream.required_topic(settings), positions[stream.name]
        if not running.embedded.broker:
            with KafkaSource(running.kafka_config) as kafka:
                partitions = len(kafka.held(topic))
            told.append(f"{partitions} partitions of {topic} at {settings.kafka_bootstrap_servers}")
        elif position is not None:  # even where nothing came: the topic is another one now
            told.append(_begin_anew(running, platform, stream, position.epoch))
        elif stream.name == "client_events" and running.options.days > 0:
            told.append(_fill(running, platform))
        else:
            told.append(f"{settings.lake_url}, nothing of {topic} was read yet")
    running.stack.keep(replace(state, stops=()))
    running.is_lake_ready = True
    for what in told:
        running.told.ready("lake", what, began)


def _begin_anew(running: Running, platform: Platform, stream: Stream, epoch: int) -> str:
    """Open the next epoch of a topic that the embedded broker has forgotten. Returns what to say."""
    settings, topic = running.settings, stream.required_topic(running.settings)
    running.told.line(f"{'lake':<10} {lost(running.state.stop_of(topic), epoch)}")
    with EmbeddedSource(running.kafka_config) as source:
        opened = open_new_epoch(platform.lake, stream, source, settings, "earliest")
    return f"{settings.lake_url}, epoch {opened} of {topic}: the embedded broker began anew"


def _fill(running: Running, platform: Platform) -> str:
    """Simulate a past, and take it in up to gold. Returns what to say."""
    settings, options = running.settings, running.options
    running.stack.keep(replace(running.state, filling=True))
    past = first_history.Past.of_days(options.days, options.persons, settings.zone)
    past = dataclasses.replace(past, start=max(past.start, settings.first_instant))
    with running.told.starting("lake") as show:
        records = first_history.produce(past, platform, show)
        with EmbeddedSource(running.kafka_config) as source:
            hours = first_history.take_in(platform, source, records, show)
        first_history.compute(platform, past, show)
        with instance_of(running.stack.dagster_home) as instance:
            first_history.tell_dagster(instance, platform, past, hours, show)
    days = len(past.window.days(settings.zone))
    return f"{settings.lake_url}, {records:,} records of {days} days, from Kafka to gold"


def drain(running: Running) -> None:
    """Read what is left in the topics, and keep how far that went: the broker forgets it all."""
    settings = running.settings
    together: dict[type, list[Stream]] = {}
    for stream in streams_of(settings):
        together.setdefault(WRITERS[stream.name], []).append(stream)
    stops: list[Stop] = []
    for streams in together.values():
        topics = " and ".join(stream.required_topic(settings) for stream in streams)
        try:
            records, stopped = _read_out(running, streams)
        except FAILURES as error:
            running.told.line(f"what is left in {topics} could not be read: {error}")
            continue
        stops += stopped
        unread = sum(stop.unread for stop in stopped)
        left = f"; {unread:,} are not read and go with the broker" if unread else ""
        running.told.line(f"the last {records:,} records of {topics} were read{left}")
    running.stack.keep(replace(running.state, stops=tuple(stops)))


def _read_out(running: Running, streams: Sequence[Stream]) -> tuple[int, list[Stop]]:
    """Read streams that have one writer to their ends, or until time is up."""
    settings = running.settings
    lake = Lake.from_settings(settings)
    deadline, records = time.monotonic() + _DRAIN_SECONDS, 0
    topics = [stream.required_topic(settings) for stream in streams]
    writer = WRITERS[streams[0].name]
    with EmbeddedSource(running.kafka_config) as source, writer(lake, source, settings) as batches:
        batches.catch_up()
        while not running.signals.hurry and time.monotonic() < deadline:
            step = batches.step()
            if step is None:
                break
            records += step.records
        held = {topic: {p: at.high for p, at in source.held(topic).items()} for topic in topics}
        positions = {topic: batches.position(topic) for topic in topics}
    return records, [Stop(t, positions[t].epoch, held[t], dict(positions[t].offsets)) for t in topics]


def lost(stop: Stop | None, epoch: int) -> str:
    """What became of the records that the embedded broker held when it stopped."""
    if stop is None or stop.epoch != epoch:
        return (
            "the stack did not stop in order: records produced but not read by then are gone with the broker, "
            "how many is not known"
        )
    if stop.unread:
        return f"{stop.unread:,} records were produced but not read when the broker stopped: they are gone with it"
    return f"nothing was lost: all {sum(stop.read.values()):,} records of epoch {epoch} had been read"
