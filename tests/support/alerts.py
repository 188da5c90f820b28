"""Alerts in tests: a platform whose messages go to a webhook on this machine."""

# Dagster reads the annotation of `context` when an op is made: no `from __future__ import annotations` here.

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import dagster as dg

from local_stack.webhook import Webhook
from platform_assets.alerts.incidents import CHECK_FAILED, Condition, Incident, Kind, Manner
from resources.settings import Severity

NOW = datetime(2026, 2, 10, 12, tzinfo=UTC)


class Message(NamedTuple):
    """What a webhook was sent."""

    title: str
    body: str
    kind: str

    @property
    def lines(self) -> dict[str, str]:
        """What the body says, by the word before the colon."""
        return dict(line.split(": ", 1) for line in self.body.splitlines() if ": " in line)


@dataclass
class Inbox:
    """What a webhook took."""

    webhook: Webhook
    messages: list[Message] = field(default_factory=list)

    @property
    def titles(self) -> list[str]:
        return [message.title for message in self.messages]


@contextmanager
def inbox() -> Iterator[Inbox]:
    """A webhook that keeps what it takes."""
    messages: list[Message] = []
    with Webhook(0, lambda *told: messages.append(Message(*told))) as webhook:
        yield Inbox(webhook, messages)


def condition(
    cause: str = "check:gold/a:contract",
    severity: Severity = "error",
    kind: Kind = CHECK_FAILED,
    since: datetime = NOW,
    **changes: object,
) -> Condition:
    made = Condition(
        cause=cause,
        kind=kind,
        severity=severity,
        owner="team:data-platform",
        title=f"{cause} is wrong",
        seen="seven of nine",
        since=since,
        path="/assets/gold/a",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def manner(reminder: float = 240, recovery_after: float = 0, sinks: tuple[str, ...] = ("a",)) -> Manner:
    """A manner of telling, in minutes."""
    return Manner(
        reminder=timedelta(minutes=reminder),
        recovery_after=timedelta(minutes=recovery_after),
        ui_url="http://ui:3000",
        takers=lambda _subject, _severity: sinks,
    )


def changes_of(history: list[Incident], cause: str) -> list[str]:
    return [change.change for change in history if change.cause == cause]


def evaluate(
    instance: dg.DagsterInstance,
    table: str,
    check: str,
    *,
    passed: bool,
    partition: str | None,
    metadata: Mapping[str, dg.MetadataValue] | None = None,
) -> None:
    """Let a run log an evaluation."""

    @dg.op(name="judge")
    def judge(context: dg.OpExecutionContext) -> None:
        context.log_event(
            dg.AssetCheckEvaluation(  # type: ignore[arg-type]  # accepted, not annotated
                asset_key=dg.AssetKey(table.split("/")),
                check_name=check,
                passed=passed,
                metadata=metadata or {},
                severity=dg.AssetCheckSeverity.ERROR,
                description="as the test says",
                partition=partition,
            )
        )

    @dg.job(name="judging")
    def judging() -> None:
        judge()

    assert judging.execute_in_process(instance=instance).success
