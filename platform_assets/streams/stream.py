"""What a stream is: a Kafka topic, the bronze table of its records, and what becomes of each record alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from platform_assets.bronze import backend_logs, client_events, dead_letters, oltp_changes
from platform_assets.changes.judgement import judge_changes
from platform_assets.silver import events, quarantine, row_changes
from platform_assets.silver.judgement import Judgement, Rules, judge
from platform_assets.table import Table
from resources.settings import Settings


@dataclass(frozen=True)
class Stream:
    """A Kafka topic that is read into bronze.

    Attributes:
        table: Where its records are kept as received.
        silver: Where its valid records go.
        topic: The topic that the settings name; None where the deployment has no such stream.
        judge: What becomes of records, each judged alone.
    """

    table: Table
    silver: Table
    topic: Callable[[Settings], str | None]
    judge: Callable[[pl.DataFrame, Rules], Judgement]

    @property
    def name(self) -> str:
        """The name of its bronze table, without the layer."""
        return self.table.name.split("/")[1]

    def required_topic(self, settings: Settings) -> str:
        """The topic that the settings name.

        Raises:
            ValueError: They name none.
        """
        topic = self.topic(settings)
        if topic is None:
            msg = f"no topic of {self.name} is set; set HEADWATER_{self.name.upper()}_TOPIC"
            raise ValueError(msg)
        return topic


CLIENT_EVENTS = Stream(client_events.TABLE, events.TABLE, lambda settings: settings.client_events_topic, judge)
BACKEND_LOGS = Stream(backend_logs.TABLE, events.TABLE, lambda settings: settings.backend_logs_topic, judge)
OLTP_CHANGES = Stream(
    oltp_changes.TABLE, row_changes.TABLE, lambda settings: settings.oltp_changes_topic, judge_changes
)

EVENT_STREAMS = (CLIENT_EVENTS, BACKEND_LOGS)
"""The streams of events; one writer takes them into silver together."""

REFUSALS = (dead_letters.TABLE, quarantine.TABLE)
"""What no stream lets in: undecodable, or against the contract."""

STREAMS = (*EVENT_STREAMS, OLTP_CHANGES)
"""Every stream."""


def streams_of(settings: Settings) -> list[Stream]:
    """The streams whose topic is set."""
    return [stream for stream in STREAMS if stream.topic(settings) is not None]


def named(name: str) -> Stream:
    """The stream of a name.

    Raises:
        ValueError: There is none.
    """
    found = {stream.name: stream for stream in STREAMS}
    if name not in found:
        msg = f"{name!r} is no stream; there are {', '.join(found)}"
        raise ValueError(msg)
    return found[name]
