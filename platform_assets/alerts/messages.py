"""The words of a message."""

from __future__ import annotations

from datetime import datetime, timedelta

from platform_assets.alerts.incidents import Incident

_SHOWN = 10


def title(change: Incident) -> str:
    """The line that people see first: severity, or that it is over, and what it is about."""
    said = {"reminded": "still: ", "worsened": "worse: "}.get(change.change, "")
    head = "RECOVERED" if change.change == "recovered" else change.severity.upper()
    return f"[{head}] {said}{change.title}"


def body(change: Incident) -> str:
    """What was seen, since when, who answers for it, where to look, and what to look at first. Never empty."""
    if change.change == "recovered":
        lasted = _length(change.changed_at - change.since)
        lines = [f"It is over, after {lasted}.", f"It was: {change.seen}"]
    else:
        lines = [change.seen]
    if change.members:
        more = len(change.members) - _SHOWN
        shown = ", ".join(change.members[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        lines.append(f"Concerned: {shown}")
    lines += [
        f"Severity: {change.worst if change.change == 'recovered' else change.severity}",
        f"Owner: {change.owner}",
        f"Since: {_instant(change.since)}",
        f"Look: {change.link}",
        f"Runbook: {change.runbook}",
        f"Incident: {change.incident_id}",
    ]
    return "\n".join(lines)


def _instant(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"


def _length(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    days, rest = divmod(minutes, 24 * 60)
    hours, minutes = divmod(rest, 60)
    told = [f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if n]
    return " ".join(told) or "less than a minute"
