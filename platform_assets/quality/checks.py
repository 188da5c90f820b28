"""Asset checks, made from the tables' declarations by one factory."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from platform_assets.bronze import dead_letters, oltp_changes
from platform_assets.changes.dimensions import DIMENSIONS
from platform_assets.followed import ANSWERED
from platform_assets.quality.check import Check
from platform_assets.quality.completeness import is_complete
from platform_assets.quality.conservation import CONSERVATIONS, conservation_check
from platform_assets.quality.evaluations import DUE
from platform_assets.quality.freshness import is_there, keeping_up_check
from platform_assets.quality.records_told import conserves_changes, conserves_records
from platform_assets.quality.references import references_check
from platform_assets.quality.uniqueness import has_no_id_conflict, unique_key_check
from platform_assets.quality.validity import (
    address_check,
    bad_rows_check,
    keeps_addresses_out,
    keeps_contract,
    keeps_schemas,
)
from platform_assets.silver import events, outcomes, quarantine
from platform_assets.table import Table


def whole_checks_of(tables: Sequence[Table]) -> list[Check]:
    """All checks of those of some tables that have no partitions, and are judged whole: of dimensions and ledgers.

    Types and completeness are Delta's to enforce there, which refuses the write. Keys are counted where one database
    brings them; those of ledgers are their writers' own, and those of persons are as many as there ever were. For
    addresses all of them are looked through, as only what may be one is kept in memory.
    """
    made, dimensions = [], {dimension.table.name for dimension in DIMENSIONS}
    for table in tables:
        if table.partitions is not None:
            continue
        if table.name in dimensions:
            made.append(unique_key_check(table, blocking=False))
        if keeps_addresses_out(table):
            made.append(address_check(table))
        if table.references:
            made.append(references_check(table))
        made += [conservation_check(c, blocking=False) for c in CONSERVATIONS if c.table is table]
        made += [keeping_up_check(table, followed) for followed in ANSWERED if table in followed.followers]
    return made


def checks_of(tables: Sequence[Table]) -> list[Check]:
    """All checks of some tables, from their declarations; of those without partitions only of what is rebuilt whole."""
    made = []
    for table in tables:
        if table.partitions is None and table.update != "rebuild":
            continue
        # A wrong table must not feed the next one; the stream, though, is never stopped by a check.
        guards = table.update == "rebuild"
        declared = "Types, completeness, accepted values and ranges are as declared."
        due = "The partition is there; judged for the latest one that is due, by schedule."
        made += [
            Check(table, "contract", keeps_contract, declared, blocking=guards, pillar="validity"),
            unique_key_check(table, blocking=guards),
        ]
        if table.partitions is None:
            continue
        if keeps_addresses_out(table):
            made.append(address_check(table))
        if table.references:
            made.append(references_check(table))
        made += [conservation_check(c, blocking=guards) for c in CONSERVATIONS if c.table is table]
        if table.steady:
            made.append(Check(table, DUE, is_there, due, newest_only=True, pillar="freshness"))
        if table.update == "landed; rebuild":
            made.append(bad_rows_check(table))
    adds_up = "Silver, duplicate, quarantined and dead-lettered add up to the records consumed."
    made.append(Check(outcomes.TABLE, "conservation", conserves_records, adds_up, pillar="consistency"))
    all_told = "Changes, tombstones, quarantined and dead-lettered add up to the records consumed."
    made.append(Check(oltp_changes.TABLE, "conservation", conserves_changes, all_told, pillar="consistency"))
    kept = "No record was refused for the schema that it was written with."
    made += [
        Check(refusals, "schemas_kept", keeps_schemas, kept, pillar="schema")
        for refusals in (quarantine.TABLE, dead_letters.TABLE)
    ]
    one_time = "No event id stands for events of different times."
    warn = dg.AssetCheckSeverity.WARN
    all_in = "About all events of the hour are in, by the watermark and by how late those of past hours came."
    made.append(
        Check(
            events.TABLE,
            "completeness",
            is_complete,
            all_in,
            severity=warn,
            newest_only=True,
            pillar="completeness",
        )
    )
    made.append(Check(events.TABLE, "id_conflicts", has_no_id_conflict, one_time, severity=warn, pillar="uniqueness"))
    return made
