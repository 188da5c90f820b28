"""`ops/incidents`: everything that happened to an incident, one row a change; those that people were told are messages.

The rows of an incident say how it stands and who was told of it, so nothing else is remembered: a daemon that starts
anew goes on from here. The row of a change and the message that tells it are one commit.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from platform_assets.table import TIMESTAMP, Column, Table
from resources.settings import SEVERITIES

MESSAGES = ("opened", "worsened", "reminded", "recovered")
"""The changes that people are told of."""

CHANGES = ("seen", "opened", "worsened", "updated", "reminded", "clearing", "back", "recovered", "gone")
"""What may happen to an incident (`platform_assets.alerts.incidents`)."""

REVISION_APP = "reconciliations"
"""How many commits there were: two that reconcile at once notice each other."""

TABLE = Table(
    name="ops/incidents",
    description=(
        "What is wrong with the platform, and was: a row for each change of an incident. One incident stands for one "
        "cause. The changes opened, worsened, reminded and recovered are messages to the sinks named in the row."
    ),
    grain="incident × change",
    key=("incident_id", "revision"),
    columns=(
        Column("incident_id", pl.String(), "The incident: its cause, and when it was first seen."),
        Column("revision", pl.Int64(), "Number of the change in the incident, from 1.", minimum=1),
        Column("change", pl.String(), "What happened to it.", accepted=CHANGES),
        Column("cause", pl.String(), "What is wrong, as a key: `check:silver/outcomes:conservation`."),
        Column("kind", pl.String(), "Kind of condition; each has a section in docs/operations.md."),
        Column("severity", pl.String(), "How bad it is.", accepted=SEVERITIES),
        Column("worst", pl.String(), "The worst severity that was told of it.", accepted=SEVERITIES),
        Column("owner", pl.String(), "Who answers for it."),
        Column("title", pl.String(), "What is wrong, in a line."),
        Column("seen", pl.String(), "What was seen."),
        Column("asset", pl.String(), "Name of the table that it is about, where there is one.", nullable=True),
        Column("link", pl.String(), "Where to look in the web UI."),
        Column("runbook", pl.String(), "What to look at first: a section of the documentation."),
        Column("members", pl.List(pl.String()), "What belongs to it: partitions, runs, tables that wait for this one."),
        Column("sinks", pl.List(pl.String()), "Names of the sinks that this change is a message to."),
        Column("since", TIMESTAMP, "Since when the condition holds, UTC."),
        Column("told_at", TIMESTAMP, "When people were last told of it.", nullable=True),
        Column("changed_at", TIMESTAMP, "When this change was seen, by the clock of the machine."),
        Column("changed_date", pl.Date(), "UTC date of `changed_at`."),
    ),
    partition_by=("changed_date",),
    window_on="changed_at",
    partitions=None,
    cluster_by=("cause", "changed_at"),
    update="append",
    service_level=timedelta(hours=1),
    stats=("changed_at",),
)
