"""What can go wrong outside us while the stack starts, runs and stops: Kafka, the lake, the database, the disk."""

from __future__ import annotations

import psycopg
from confluent_kafka import KafkaException
from deltalake.exceptions import DeltaError

from local_stack.process import ProcessFailed
from local_stack.sink import DeliveryFailed
from local_stack.stack import StackRefused
from local_stack.up.running import ComponentDied
from resources.kafka import KafkaUnreachable
from resources.lake import ConflictNotResolved, Fenced, SchemaMismatch, VersionGone
from resources.records import ContinuityBroken, TopicMissing

FAILURES: tuple[type[Exception], ...] = (
    *(ProcessFailed, ComponentDied, StackRefused),
    *(KafkaUnreachable, TopicMissing, ContinuityBroken, Fenced, ConflictNotResolved, SchemaMismatch, VersionGone),
    *(KafkaException, DeltaError, psycopg.Error, DeliveryFailed, OSError, ValueError),
)
