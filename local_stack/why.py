"""`headwater why`: what a number was published as, and why it changed; read from the ledger, nothing else."""

from __future__ import annotations

from datetime import date, datetime

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Shown

from partitions import Window
from platform_assets.gold import published_numbers
from platform_assets.gold.metric_numbers import own_metrics
from platform_assets.gold.published_numbers import as_known_at, explained, published_from, shown, signed
from platform_assets.platform import Platform
from resources.settings import Settings

_CAUSE = len("publication")
"""The longest word of a cause: narrow terminals fold none."""


def answer(
    settings: Settings,
    console: Console,
    metric: str,
    day: date,
    slice: str = "",  # noqa: A002
    at: datetime | None = None,
) -> int:
    """Print what was published of a number, step by step, and the answer in words.

    Args:
        settings: Which lake, which timezone.
        console: Where to.
        metric: `active_users.dau`.
        day: The first day of its window, in the reporting timezone.
        slice: `platform=ios`; empty for the total.
        at: An instant; without a timezone it is one of the reporting timezone.

    Returns:
        The exit status; 1 where nothing was published of it.
    """
    platform, zone = Platform.from_settings(settings), settings.zone
    for file in own_metrics().wrong:
        if metric.split(".")[1:2] == [file.name]:
            console.print(f"[red]{escape(file.faults)}[/]", highlight=False)
            console.print("    it is not computed until its file is right; what was published before stands:")
    if not platform.lake.exists(published_numbers.TABLE):
        console.print(f"[red]the lake {escape(settings.lake_url)} has no {published_numbers.TABLE.name} yet[/]")
        return 1
    start = Window.of_days(day, day, zone).start
    published = published_from(platform, start)
    ends = published.filter(metric=metric, slice=slice)["window_end"]
    if ends.is_empty():
        asked = f"{metric} ({slice})" if slice else metric
        known = _known(published, metric, day)
        console.print(f"[red]{escape(f'{asked} of {day} was never published; {known}')}[/]", highlight=False)
        return 1
    for end in ends:
        _print(platform, console, metric, Window(start, end), slice, at)
    return 0


def _known(published: pl.DataFrame, metric: str, day: date) -> str:
    """What could have been asked for instead: the metric's slices, else the metrics."""
    if published.is_empty():
        return f"no number has a window that begins on {day}"
    slices = published.filter(metric=metric)["slice"].unique().sort().to_list()
    if slices:
        return "it is published " + ", ".join(f"--slice {of}" if of else "without --slice" for of in slices)
    return f"what is published of windows that begin on {day}: {', '.join(published['metric'].unique().sort())}"


def _print(
    platform: Platform,
    console: Console,
    metric: str,
    window: Window,
    slice: str,  # noqa: A002
    at: datetime | None,
) -> None:
    zone = platform.settings.zone
    found = explained(platform, metric, window, slice)
    table = Shown(title=escape(metric))
    for heading in ("published", "value", "change", "because of", "final", "still expected", "definition"):
        table.add_column(heading, overflow="fold", min_width=_CAUSE if heading == "because of" else None)
    for row in found.steps.iter_rows(named=True):
        change, expected = row["change"], row["expected_late_share"]
        table.add_row(
            f"{row['published_at'].astimezone(zone):%Y-%m-%d %H:%M:%S}",
            shown(row["value"]),
            "" if change is None else signed(change),
            ", ".join(row["causes"]),
            published_numbers.finality(row),
            "" if expected is None else f"{expected:.1%}",
            row["definition_version"],
        )
    console.print(table)
    console.print(escape(found.sentence), highlight=False)
    if at is not None:
        instant = at if at.tzinfo is not None else at.replace(tzinfo=zone)
        known = as_known_at(platform, metric, window, instant, slice)
        value = "it was not published yet" if known is None else f"it was {shown(known['value'])}"
        console.print(f"As known at {instant.isoformat()}, {value}.", highlight=False)
