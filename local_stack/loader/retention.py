"""What a topic would do to historical records: a real broker deletes, restamps or refuses old record times."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, not in its __all__
    AdminClient,
    ConfigResource,
    ResourceType,
)

_ADMIN_SECONDS = 10.0


def topic_settings(config: Mapping[str, str], topic: str) -> dict[str, str] | None:
    """The settings of a topic, as far as the cluster tells them; None where it does not answer."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    admin = AdminClient(dict(config))  # kept until its future has resolved
    try:
        answer = admin.describe_configs([resource], request_timeout=_ADMIN_SECONDS)[resource]
        return {name: entry.value for name, entry in answer.result(_ADMIN_SECONDS + 1).items()} or None
    except (KafkaException, TimeoutError):
        return None


def objection(
    settings: Mapping[str, str], topic: str, oldest_ms: int, newest_ms: int, now_ms: int, *, ignore_retention: bool
) -> str | None:
    """Why records of these times must not go into a topic with these settings, and what to change; None: they may.

    Times are in milliseconds since 1970; ``now_ms`` is the wall clock.
    """
    change = f"kafka-configs.sh --bootstrap-server … --alter --entity-type topics --entity-name {topic} --add-config"
    if settings.get("message.timestamp.type") == "LogAppendTime":
        return (
            f"topic {topic!r} has message.timestamp.type=LogAppendTime: it would replace the historical record times. "
            f"Change it: {change} message.timestamp.type=CreateTime"
        )
    age, ahead = now_ms - oldest_ms, newest_ms - now_ms
    for bound, distance, which in (
        ("before", age, "oldest"),
        ("after", ahead, "newest"),
        ("difference", age, "oldest"),
        ("difference", ahead, "newest"),
    ):
        name = f"message.timestamp.{bound}.max.ms"
        if name in settings and distance > int(settings[name]):
            return (
                f"topic {topic!r} has {name}={settings[name]}: it takes no record {_span(distance)} away from the "
                f"wall clock, as the file's {which} is. Raise it: {change} {name}=…"
            )
    retention = int(settings.get("retention.ms", "-1"))
    deletes = "delete" in settings.get("cleanup.policy", "delete")
    if deletes and 0 <= retention < age and not ignore_retention:
        return (
            f"topic {topic!r} has retention.ms={retention} ({_span(retention)}), but the file's oldest record is "
            f"{_span(age)} old: Kafka would delete it, read or not. Change it: {change} retention.ms=-1; "
            "or go on at that risk with --ignore-retention"
        )
    return None


def _span(milliseconds: int) -> timedelta:
    return timedelta(milliseconds=milliseconds)
