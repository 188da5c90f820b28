"""A table that answers another one's changes is late where it has not taken them in, and only there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from platform_assets.followed import ANSWERED, Followed
from platform_assets.maintenance import trim_log
from platform_assets.platform import Platform
from platform_assets.quality.checks import whole_checks_of
from platform_assets.quality.verdict import Verdict
from platform_assets.silver import touched_hours
from platform_assets.table import Table
from resources.delta_log import changed_since
from resources.lake import Lake, Writer
from resources.settings import Settings
from support.lakes import age_log

PAIRS = [(followed, table) for followed in ANSWERED for table in followed.followers if table.partitions is None]


def judged(lake: Lake, table: Table, later: timedelta) -> Verdict:
    """What the check says of a table, some time from now."""
    platform = Platform(lake, Settings(), clock=lambda: datetime.now(UTC) + later)
    (check,) = (check for check in whole_checks_of([table]) if check.name == "keeps_up")
    return check.judged(platform)


def change(lake: Lake, table: Table) -> int:
    """A commit that changes rows, as far as the log tells."""
    return lake.write(table, lake.open(table), table.empty(), None, {}, None)


@pytest.mark.parametrize(("followed", "table"), PAIRS, ids=[table.name for _, table in PAIRS])
def test_a_table_is_late_once_what_changed_was_left_for_too_long(
    tmp_path: Path, followed: Followed, table: Table
) -> None:
    lake = Lake(str(tmp_path / "lake"))
    for made in (followed.table, table):
        lake.create(made)
    in_time, too_late = (table.service_level + timedelta(minutes=minutes) for minutes in (-1, 1))
    assert judged(lake, table, too_late).passed, "nothing has changed yet"

    change(lake, followed.table)
    version = change(lake, followed.table)
    assert judged(lake, table, in_time).passed
    late = judged(lake, table, too_late)
    assert not late.passed
    assert late.observed == pytest.approx(too_late.total_seconds(), abs=60)

    writer = Writer(lake, table)
    writer.progress(followed.app)
    writer.record({followed.app: version})
    assert judged(lake, table, too_late).passed


@pytest.mark.parametrize(("followed", "table"), PAIRS, ids=[table.name for _, table in PAIRS])
def test_a_table_stays_late_through_quiet_hours(tmp_path: Path, followed: Followed, table: Table) -> None:
    """Nothing changes above for hours, and its log is trimmed up to a commit that changes no row, as of compaction."""
    lake = Lake(str(tmp_path / "lake"))
    for made in (followed.table, *followed.followers):
        lake.create(made)
    change(lake, followed.table)
    lake.open(followed.table).alter.set_table_properties({"delta.checkpointInterval": "50"})
    age_log(lake, followed.table)
    trim_log(lake, followed.table)
    assert not judged(lake, table, table.service_level + timedelta(minutes=1)).passed


def test_moving_rows_between_files_is_no_change(lake: Lake) -> None:
    hour = datetime(2026, 2, 1, tzinfo=UTC)
    table = touched_hours.TABLE
    for number in range(3):
        row = {"event_hour": hour, "silver_version": number, "added": 1, "removed": 0, "event_date": hour.date()}
        version = lake.append(table, pl.DataFrame([row], schema=table.schema))
    lake.open(table).optimize.compact()
    assert lake.open(table).version() == version + 1
    assert changed_since(lake, table, version) is None
    assert changed_since(lake, table, version - 1) is not None
