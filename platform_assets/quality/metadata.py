"""What a materialization shows in the UI: rows, watermark, late share, Delta version, bytes, a picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from math import nan
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
from deltalake import DeltaTable

from partitions import Window
from platform_assets.gold import active_users, live_metrics, published_numbers
from platform_assets.platform import Platform
from platform_assets.quality import service_levels
from platform_assets.semantics.calendar import bucket_of, start_of
from platform_assets.semantics.watermark import is_closed, is_final
from platform_assets.table import Plot, Table
from resources.lake import disk_usage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PREVIEW_ROWS = 8
_PLOT_DAYS = 28
_CHANGES_DAYS = 7
_CHANGES_SHOWN = 30
_BUDGETS_SHOWN = 10


def partition_metadata(
    platform: Platform, table: Table, keys: Sequence[str]
) -> dict[str, Mapping[str, dg.MetadataValue]]:
    """The metadata of each partition of a range, read from the lake; the newest one also gets a picture."""
    grain = table.partitions or "hour"
    windows = {key: platform.partitions.window(grain, key, key) for key in keys}
    handle = platform.lake.open(table)
    rows = _rows(platform, table, handle, list(windows.values()))
    counts = _counts(table, rows, windows, platform)
    watermark = platform.watermark(table.source)
    size = _bytes_by_date(table, handle)
    found: dict[str, Mapping[str, dg.MetadataValue]] = {}
    for key, window in windows.items():
        count, late = counts.get(key, (0, None))
        metadata: dict[str, dg.MetadataValue] = {
            "dagster/row_count": dg.MetadataValue.int(count),
            "delta version": dg.MetadataValue.int(handle.version()),
            "bytes of its dates": dg.MetadataValue.int(
                sum(size.get(day, 0) for day in _dates(table, window, platform))
            ),
            "closed": dg.MetadataValue.bool(is_closed(window.end, watermark)),
            "final": dg.MetadataValue.bool(_is_final(platform, table, window, watermark)),
        }
        if watermark is not None:
            metadata["watermark"] = dg.MetadataValue.timestamp(watermark)
        if late is not None and count:
            metadata["late share"] = dg.MetadataValue.float(late / count)
        found[key] = metadata
    last = keys[-1]
    found[last] = {**found[last], **_picture(platform, table, windows[last])}
    return found


def whole_metadata(platform: Platform, table: Table) -> dict[str, dg.MetadataValue]:
    """The metadata of a table without partitions, read from the lake."""
    handle = platform.lake.open(table)
    usage = disk_usage(handle)
    rows = platform.lake.scan(table, handle=handle)
    if table is published_numbers.TABLE:
        picture = _published(platform, rows)
    elif table is service_levels.TABLE:
        picture = {"error budgets": _budgets(rows)}
    else:
        picture = {"preview": _shown(table, rows)}
    return {
        "dagster/row_count": dg.MetadataValue.int(usage["rows"]),
        "delta version": dg.MetadataValue.int(handle.version()),
        "bytes": dg.MetadataValue.int(usage["bytes"]),
        **picture,
    }


def _rows(platform: Platform, table: Table, handle: DeltaTable, windows: Sequence[Window]) -> pl.LazyFrame:
    whole = Window(windows[0].start, windows[-1].end)
    rows = platform.lake.scan(table, handle=handle)
    if table.schema[table.window_on] == pl.Date():
        days = whole.days(platform.settings.zone)
        return rows.filter(pl.col(table.window_on).is_between(days[0], days[-1]))
    return platform.lake.scan(table, whole, handle)


def _counts(
    table: Table, rows: pl.LazyFrame, windows: Mapping[str, Window], platform: Platform
) -> dict[str, tuple[int, int | None]]:
    """Rows per partition and, where lateness can be told, how many came over an hour late."""
    on = pl.col(table.window_on)
    slot = on if table.schema[table.window_on] == pl.Date() else on.dt.truncate("1h")
    has_lateness = {"ingested_at", "occurred_at"} <= set(table.schema)
    is_late = pl.col("ingested_at") - pl.col("occurred_at") > timedelta(hours=1)
    late = is_late.sum() if has_lateness else pl.lit(None, pl.UInt32)
    counted = rows.group_by(slot=slot).agg(pl.len(), late=late).collect()
    by_slot = {start: (count, behind) for start, count, behind in counted.iter_rows()}
    zone = platform.settings.zone
    if table.schema[table.window_on] == pl.Date():
        return {key: by_slot.get(window.days(zone)[0], (0, None)) for key, window in windows.items()}
    return {key: by_slot.get(window.start, (0, None)) for key, window in windows.items()}


def _bytes_by_date(table: Table, handle: DeltaTable) -> dict[object, int]:
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    if files.is_empty():
        return {}
    date = f"partition.{table.partition_by[0]}"
    return dict(files.group_by(date).agg(pl.col("size_bytes").sum()).iter_rows())


def _dates(table: Table, window: Window, platform: Platform) -> list[object]:
    if table.schema[table.window_on] == pl.Date():
        return list(window.days(platform.settings.zone))
    return [window.first_date]


def _picture(platform: Platform, table: Table, window: Window) -> dict[str, dg.MetadataValue]:
    """What people would rather look at than at a number."""
    if table is active_users.TABLE:
        return {"active users": _active_users_plot(platform, window)}
    if table is live_metrics.TABLE:
        return {"events per minute": _live_plot(platform, window)}
    if table.plot is not None:
        return {table.plot.value: _days_plot(platform, table, table.plot, window)}
    preview = _rows(platform, table, platform.lake.open(table), [window])
    return {"preview": _shown(table, preview)}


def _shown(table: Table, rows: pl.LazyFrame) -> dg.MetadataValue:
    """Some rows, without personal data."""
    first = rows.drop(*(c.name for c in table.columns if c.personal)).head(_PREVIEW_ROWS).collect()
    return dg.MetadataValue.md(_markdown(first))


def _is_final(platform: Platform, table: Table, window: Window, watermark: datetime | None) -> bool:
    """Whether no event can change a window any more; the database can change one of its own for ever."""
    return table.source == "events" and is_final(window.end, watermark, platform.settings.allowed_lateness)


def _days_plot(platform: Platform, table: Table, plot: Plot, window: Window) -> dg.MetadataValue:
    """A line for each value of a column, over the days up to a window; days that are not final are shaded."""
    last = window.days(platform.settings.zone)[-1]
    days = pl.col(table.window_on).is_between(last - timedelta(days=plot.days - 1), last)
    rows = platform.lake.scan(table).filter(days, pl.col(plot.value).is_not_null())
    if plot.only is not None:
        rows = rows.filter(pl.col(plot.only[0]) == plot.only[1])
    if "is_final" not in table.schema:
        watermark, zone = platform.watermark(table.source), platform.settings.zone
        shown = [last - timedelta(days=back) for back in range(plot.days)]
        final = [day for day in shown if _is_final(platform, table, Window.of_days(day, day, zone), watermark)]
        rows = rows.with_columns(is_final=pl.col(table.window_on).is_in(final))
    numbers = (
        rows.group_by(table.window_on, plot.by)
        .agg(pl.col(plot.value).sum(), pl.col("is_final").all())
        .sort(table.window_on, plot.by)
        .sort(
            pl.col(plot.value).sum().over(plot.by), descending=True, maintain_order=True
        )  # a funnel's first step first
        .collect()
    )
    if numbers.is_empty():
        return dg.MetadataValue.text(none_yet(plot, platform.settings.start_date, last))
    finality = numbers.group_by(table.window_on).agg(pl.col("is_final").all()).sort(table.window_on)
    at = finality[table.window_on].to_list()
    lines = {}
    for (name,), values in numbers.group_by(plot.by, maintain_order=True):
        by_day = dict(values.select(table.window_on, pl.col(plot.value).cast(pl.Float64)).iter_rows())
        lines[str(name)] = [by_day.get(day, nan) for day in at]
    column = next(column for column in table.columns if column.name == plot.value)
    return _plot(_lines(at, lines, finality["is_final"].to_list(), column.unit or plot.value, from_zero=False))


def none_yet(plot: Plot, first_day: date, last_day: date) -> str:
    """Why a picture has nothing to show, in words: a month that began before the first day has no row.

    Args:
        plot: The picture.
        first_day: The first day that there are partitions of.
        last_day: The last day of the picture.
    """
    interval, week_start = plot.interval, plot.week_start
    begun = bucket_of(first_day, interval, week_start)
    bucket = begun + (start_of(begun, interval, week_start).date() < first_day)
    first, after = (start_of(bucket + k, interval, week_start).date() for k in (0, 1))
    if (after if plot.needs_end else first) <= last_day:
        return "no number yet"
    told = f"no number yet: a {interval} stands on its first day, and days begin with {first_day} here"
    known = f", and has a number when it has ended, from {after} on" if plot.needs_end else ""
    return f"{told}; the first {interval} is that of {first}{known}"


def _active_users_plot(platform: Platform, window: Window) -> dg.MetadataValue:
    last = window.days(platform.settings.zone)[-1]
    rows = (
        platform.lake.scan(active_users.TABLE)
        .filter(pl.col("day").is_between(last - timedelta(days=_PLOT_DAYS - 1), last))
        .sort("day")
        .collect()
    )
    lines = {name.upper(): rows[name].to_list() for name in ("mau", "wau", "dau")}
    return _plot(_lines(rows["day"].to_list(), lines, rows["is_final"].to_list(), "persons"))


def _published(platform: Platform, rows: pl.LazyFrame) -> dict[str, dg.MetadataValue]:
    """What changed in the last days, in words, and the numbers as they stand, with what is not final marked.

    That an open window grows is no news.
    """
    now, grows = platform.clock(), pl.lit(["new events"], pl.List(pl.String))
    recent = rows.filter(pl.col("published_at") > now - timedelta(days=_CHANGES_DAYS), pl.col("change") != 0)
    changed = (
        recent.filter(pl.col("causes") != grows).sort("published_at", descending=True).head(_CHANGES_SHOWN).collect()
    )
    told = [published_numbers.in_words(row, platform.settings.zone) for row in changed.iter_rows(named=True)]
    found: dict[str, dg.MetadataValue] = {
        "changes": dg.MetadataValue.md("\n".join(f"- {words}" for words in told) or "No number changed.")
    }
    since = now - timedelta(days=_PLOT_DAYS)
    totals = published_numbers.latest(rows.filter(pl.col("window_start") > since, slice="", grain="day"))
    for (table,), numbers in sorted(totals.group_by("source_table")):
        wide = numbers.filter(pl.col("value").is_not_null()).sort("window_start")
        days = wide["window_start"].unique().sort()
        lines = {}
        for (metric,), values in wide.group_by("metric", maintain_order=True):
            by_day = dict(values.select("window_start", pl.col("value").cast(pl.Float64)).iter_rows())
            lines[str(metric)] = [by_day.get(day, nan) for day in days]
        finality = wide.group_by("window_start").agg(pl.col("is_final").all()).sort("window_start")["is_final"]
        if len(days):
            plotted = _lines(days.to_list(), dict(sorted(lines.items())), finality.to_list(), "published value")
            found[f"{table} as published"] = _plot(plotted)
    return found


def _budgets(rows: pl.LazyFrame) -> dg.MetadataValue:
    """How the last two weeks stand, those with the least left first."""
    weeks = pl.col("week") >= pl.col("week").max() - timedelta(days=7)
    shown = rows.filter(weeks, pl.col("missed") + pl.col("unjudged") > 0).sort("budget_left", "asset").collect()
    if shown.is_empty():
        return dg.MetadataValue.text("No table missed its service level in the last two weeks.")
    names = ("asset", "week_name", "due", "met", "missed", "unjudged", "budget_left", "is_open")
    return dg.MetadataValue.md(_markdown(shown.select(names).head(_BUDGETS_SHOWN)))


def _lines(
    at: Sequence[Any],
    lines: Mapping[str, Sequence[float]],
    is_final: Sequence[bool],
    unit: str,
    *,
    from_zero: bool = True,
) -> Callable[[Axes], None]:
    """Draws lines over days; those after the last final day are shaded as not final."""
    final = [day for day, told in zip(at, is_final, strict=True) if told]

    def draw(axes: Axes) -> None:
        for name, values in lines.items():
            axes.plot(at, values, marker="o", markersize=3, label=name)
        axes.set_ylabel(unit)
        if from_zero:
            axes.set_ylim(bottom=0)
        axes.axvspan(max(final, default=at[0]), at[-1], alpha=0.12, color="grey", label="not final")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)  # beside the lines

    return draw


def _live_plot(platform: Platform, window: Window) -> dg.MetadataValue:
    rows = (
        platform.lake.scan(live_metrics.TABLE, window).group_by("minute").agg(pl.col("events").sum()).sort("minute")
    ).collect()

    def draw(axes: Axes) -> None:
        minutes: list[Any] = rows["minute"].to_list()  # matplotlib takes instants, its annotation does not
        axes.bar(minutes, rows["events"].to_list(), width=1 / 1440)
        axes.set_ylabel("events per minute")

    return _plot(draw)


def _plot(draw: Callable[[Axes], None]) -> dg.MetadataValue:
    # The import costs half a second, and only materializations with a picture need it.
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(8, 3), layout="constrained")
    draw(figure.subplots())
    figure.autofmt_xdate()
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=90)
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(image.getvalue()).decode()})")


def _markdown(rows: pl.DataFrame) -> str:
    with pl.Config(tbl_formatting="MARKDOWN", tbl_hide_dataframe_shape=True, tbl_cols=12, fmt_str_lengths=40):
        return str(rows)
