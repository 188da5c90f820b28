"""Three things to do to a running platform, for the README's tour: `late`, `break` and `plan`.

They act on what the settings and the stack name, so they ask for nothing but a running `make up`.
"""

from __future__ import annotations

import argparse
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import psycopg
from confluent_kafka import Producer

from local_stack.stack import Stack
from partitions import Window, floor_hour
from platform_assets.silver import outcomes
from resources.envelope import WireEvent
from resources.lake import Lake
from resources.settings import Settings


def send_late(settings: Settings, now: datetime, days: float = 3) -> datetime:
    """Send one event of some days ago, from a phone that was offline since.

    Returns:
        The event's time, UTC.
    """
    occurred = now - timedelta(days=days)
    event = WireEvent(
        event_id=str(uuid.uuid4()),
        source="android",
        event_name="page_viewed",
        schema_ref="page_viewed/1",
        client_occurred_at=occurred.isoformat(),
        client_sent_at=now.isoformat(),
        received_at=now.isoformat(),
        anonymous_id=f"tour-{uuid.uuid4().hex[:8]}",
        platform="android",
    )
    producer = Producer(settings.kafka_config())
    producer.produce(settings.client_events_topic, value=msgspec.json.encode(event))
    if producer.flush(10):
        msg = f"Kafka at {settings.kafka_bootstrap_servers} did not take the event; is `make up` running?"
        raise ConnectionError(msg)
    return occurred


def break_outcomes(settings: Settings, now: datetime) -> Window:
    """Take the rows of one ingestion hour out of `silver/outcomes`, behind the platform's back.

    Returns:
        The hour: the latest one that is due, which the job `check_latest_due` judges.
    """
    lake = Lake.from_settings(settings)
    window = Window.of_hour(floor_hour(now - outcomes.TABLE.service_level) - timedelta(hours=1))
    lake.replace(outcomes.TABLE, lake.open(outcomes.TABLE), outcomes.TABLE.empty(), window)
    return window


def change_plan(url: str, plan: str = "enterprise") -> tuple[str, str]:
    """Give a user of the database another plan: the one with the least id who has another.

    Args:
        url: The database.
        plan: The plan.

    Returns:
        The user's id, and the plan that they had.
    """
    with psycopg.connect(url, autocommit=True) as connection, connection.transaction():
        found = connection.execute(
            "SELECT user_id, plan FROM users WHERE plan <> %s ORDER BY user_id LIMIT 1 FOR UPDATE", [plan]
        ).fetchone()
        if found is None:
            msg = f"every user has the plan {plan!r} already"
            raise LookupError(msg)
        connection.execute("UPDATE users SET plan = %s WHERE user_id = %s", [plan, found[0]])
    return found[0], found[1]


def main(arguments: list[str] | None = None) -> None:
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["late", "break", "plan"])
    parser.add_argument("--days", type=float, default=3, help="how late `late` is (default: 3)")
    parser.add_argument("--var", type=Path, help="the stack's folder (default: var in the project)")
    options = parser.parse_args(arguments)
    what = options.what
    settings, now = Stack.at(options.var).settings(), datetime.now(UTC)
    if what == "late":
        sys.stdout.write(f"Sent one event of {send_late(settings, now, options.days):%Y-%m-%d %H:%M} UTC.\n")
    elif what == "plan":
        if settings.oltp_url is None:
            sys.exit("there is no database: `make up` starts one, or set HEADWATER_OLTP_URL")
        user, before = change_plan(settings.oltp_url.get_secret_value())
        sys.stdout.write(f"{user} had the plan {before}, and has enterprise now.\n")
    else:
        window = break_outcomes(settings, now)
        sys.stdout.write(
            f"The rows of {window.start:%Y-%m-%d-%H:%M} are gone from silver/outcomes. The job check_latest_due finds "
            "it; materialize that partition to mend it.\n"
        )


if __name__ == "__main__":
    main()
