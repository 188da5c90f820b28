"""What Dagster shows of files of metrics that are wrong: an asset that fails, and a check that says why.

Everything else is loaded all the same: a wrong file costs its own numbers, and no others.
"""

# Dagster reads the annotation of `context` when the asset is made: no `from __future__ import annotations` here.

from collections.abc import Sequence
from pathlib import Path

import dagster as dg
from dagster import AssetCheckEvaluation

from partitions import Partitions
from platform_assets.assets import PARTITIONS_PER_RUN
from platform_assets.gold import published_numbers
from platform_assets.gold.metric_files import FOLDER, WrongFile
from platform_assets.gold.metric_numbers import Survey, survey

METRIC_FILES = "metric_files"
"""The name of the check of `gold/published_numbers`, to which every metric comes."""

_ASSET = published_numbers.TABLE.asset_key


def wrong_assets(wrong: Sequence[WrongFile], partitions: Partitions) -> list[dg.AssetsDefinition]:
    """An asset for each wrong file, by the name and with the partitions that its table would have.

    Materializing it fails with the file's faults, without a retry. What its table holds stays as it is.
    """
    faults: dict[str, list[str]] = {}
    for file in wrong:
        faults.setdefault(file.table_name, []).append(file.faults)
    return [_failing(name, "\n".join(told), partitions) for name, told in faults.items()]


def _failing(name: str, faults: str, partitions: Partitions) -> dg.AssetsDefinition:
    @dg.asset(
        key=name.split("/"),
        description=f"**The file of this metric is wrong: it is not computed.**\n\n```\n{faults}\n```",
        partitions_def=partitions.of("day"),
        backfill_policy=dg.BackfillPolicy.multi_run(PARTITIONS_PER_RUN["day"]),
        group_name="gold",
        kinds={"deltalake", "gold"},
        tags={"wrong_file": ""},
    )
    def asset() -> None:
        raise dg.Failure(faults, allow_retries=False)

    return asset


def metric_files_check(folder: Path = FOLDER) -> dg.AssetChecksDefinition:
    """The check that all files of a folder are right, as they are when it runs."""

    @dg.asset_check(
        asset=_ASSET,
        name=METRIC_FILES,
        description="Every file of metrics is right, so that its numbers are kept.",
    )
    def right() -> dg.AssetCheckResult:
        found = survey(folder)
        return dg.AssetCheckResult(passed=not found.wrong, description=verdict(found))

    return right


def evaluation(found: Survey) -> AssetCheckEvaluation:
    """The event that tells Dagster how the files are: an evaluation of `metric_files_check`."""
    return AssetCheckEvaluation(
        asset_key=_ASSET, check_name=METRIC_FILES, passed=not found.wrong, metadata={}, description=verdict(found)
    )


def verdict(found: Survey) -> str:
    """How the files are, in words."""
    if not found.wrong:
        return f"all {len(found.numbers)} files of metrics are right"
    return f"{len(found.wrong)} files of metrics are wrong, and are not computed:\n{found.faults}"
