"""What brings work: the relay of the database's changes, simulated traffic, and the reports of partners."""

from __future__ import annotations

import sys
import time
from datetime import datetime

from local_stack.partners import deliver, reported_days
from local_stack.up.running import Running
from platform_assets.streams.stream import OLTP_CHANGES
from resources.kafka import KafkaSource

_READY_SECONDS = 120.0


def start_relay(running: Running) -> None:
    """Relay the database's changes, and let things happen in the shop's own."""
    began, topic = time.monotonic(), OLTP_CHANGES.required_topic(running.settings)
    # What an embedded broker forgot before it was read, no log tells again.
    stop = running.state.stop_of(topic)
    is_whole = not running.embedded.broker or (stop is not None and not stop.unread)
    arguments = () if is_whole else ("--snapshot",)
    relay = running.child("relay", sys.executable, "-m", "local_stack.relay", *arguments)
    relay.start()
    with running.told.starting("relay"):
        relay.await_ready(
            lambda: None if b"snapshot: " in relay.said() else "the snapshot is being taken", _READY_SECONDS
        )
    if running.embedded.database and running.options.rate > 0:
        running.child("shop", sys.executable, "-m", "local_stack.shop").start()
    running.told.ready("relay", f"the database's changes go to {topic}", began)


def start_traffic(running: Running) -> None:
    """Let simulated persons come, and wait for the first record."""
    began, rate = time.monotonic(), running.options.rate
    traffic = running.child("traffic", sys.executable, "-m", "local_stack.simulator", "live", "--rate", str(rate))
    topic = running.settings.client_events_topic
    with running.told.starting("traffic"), KafkaSource(running.kafka_config) as source:
        before = source.held(topic)
        traffic.start()
        traffic.await_ready(
            lambda: None if source.held(topic) != before else f"no record has come into {topic}", _READY_SECONDS
        )
    running.told.ready("traffic", f"{rate:g} simulated events a second", began)


def deliver_reports(running: Running) -> None:
    """Let partners report on the days before today, where the landing folder is the stack's own."""
    settings, landing = running.settings, running.stack.landing
    if settings.landing_url != str(landing):
        return
    began = time.monotonic()
    days = reported_days(settings.start_date, datetime.now(settings.zone).date())
    files = deliver(landing, days)
    running.told.ready("partners", f"{files} new files in {landing}", began)
