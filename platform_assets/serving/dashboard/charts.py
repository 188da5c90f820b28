"""Charts by time and by name, in one look: colours that everybody can tell apart, and how final each number is.

Days and instants are drawn as the reporting timezone's clock shows them, wherever the browser is (`clocked`). Final
numbers are solid, closed ones dashed, open ones hollow or pale.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import cast
from zoneinfo import ZoneInfo

import altair as alt
import polars as pl
import streamlit as st

from partitions import Window

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Okabe and Ito's colours, without black and yellow, which one of the two backgrounds swallows."""

GREY = "#787e88"
STATE_NAMES = ("final", "closed", "open")

_HEIGHT = 300
_PADDING = {"right": 8, "bottom": 8}  # else the name of a last bar is cut on a phone
_DASHES = [[1, 0], [6, 4], [2, 3]]
_OPACITIES = [1.0, 1.0, 0.45]
_WRITTEN = {"light": "#4b515c", "dark": "#c6c9ce"}
_FEW_DAYS, _MANY_DAYS = 45, 120
_PHONE, _SYMBOL, _LETTER = 300, 30, 7
"""In pixels: what a phone has for a legend, and what a symbol and a letter of it take."""

_STATE_LEGEND = alt.Legend(
    orient="top", title=None, symbolStrokeColor=GREY, symbolType="stroke", symbolSize=400, columns=3
)


def draw(chart: alt.Chart | alt.LayerChart, told: str, height: int = _HEIGHT) -> None:
    """Show a chart over the whole width.

    Args:
        chart: The chart.
        told: What it shows, for those who do not see it.
        height: In pixels.
    """
    st.altair_chart(chart.properties(height=height, padding=_PADDING), alt=told)


def over(*charts: alt.Chart) -> alt.LayerChart:
    """Charts one over the other."""
    return cast("alt.LayerChart", alt.layer(*charts))


def clocked(frame: pl.DataFrame, zone: ZoneInfo, *columns: str) -> pl.DataFrame:
    """Days and instants without a timezone, as the zone's clock shows them: Vega draws those as they are."""
    told = []
    for column in columns:
        is_day = frame.schema[column] == pl.Date()
        shown = pl.col(column) if is_day else pl.col(column).dt.convert_time_zone(zone.key).dt.replace_time_zone(None)
        told.append(shown.cast(pl.Datetime("ms")))
    return frame.with_columns(told)


def lines(
    frame: pl.DataFrame, value: str, title: str, series: str, order: Sequence[str], number: str = ",d"
) -> alt.LayerChart:
    """Numbers by day, a line each.

    Args:
        frame: ``day`` (naive), the series, the value, ``state``.
        value: Column of the value.
        title: Of its axis.
        series: Column that tells the lines apart.
        order: Its values, in the order of the colours.
        number: How values are written.
    """
    x, y = days(frame), _quantity(value, title, number)
    scale = colours(order)
    colour = alt.Color(f"{series}:N", scale=scale, legend=legend(order))
    states = alt.Scale(domain=list(STATE_NAMES), range=_DASHES)
    of_states = None if (frame["state"] == "final").all() else _STATE_LEGEND
    drawn = (
        alt.Chart(_joined(frame, series))
        .mark_line(strokeWidth=2.2)
        .encode(
            x=x,
            y=y,
            color=colour,
            strokeDash=alt.StrokeDash("state:N", scale=states, legend=of_states, sort=None),
            detail=f"{series}:N",
        )
    )
    is_open, is_final = "datum.state == 'open'", "datum.state == 'final'"
    few = frame["day"].n_unique() <= _FEW_DAYS
    dots = (
        alt.Chart(frame)
        .mark_point(size=45, strokeWidth=2)
        .encode(
            x=x,
            y=y,
            color=colour,
            fill=alt.condition(is_open, alt.value("transparent"), alt.Color(f"{series}:N", scale=scale, legend=None)),
            opacity=alt.value(1.0) if few else alt.condition(is_final, alt.value(0.0), alt.value(1.0)),
            tooltip=[*_of_day(series, value, title, number), alt.Tooltip("state:N", title="how final")],
        )
    )
    return over(drawn, dots)


def stacked(
    frame: pl.DataFrame,
    value: str,
    title: str,
    series: str,
    order: Sequence[str],
    number: str = ",d",
    form: str | None = None,
) -> alt.Chart:
    """Numbers by day that add up, a bar a day; what is below zero hangs down. Open days are pale.

    See `lines` for the arguments; ``state`` may be missing, ``form`` is how days are written where not as such.
    """
    places = pl.DataFrame({series: list(order), "place": range(len(order))})
    placed = frame.join(places, on=series, how="left", maintain_order="left")
    tooltip = _of_day(series, value, title, number)
    chart: alt.Chart = (
        alt.Chart(placed)
        .mark_bar(width={"band": _width(frame["day"].n_unique())})
        .encode(
            x=_bands(frame, form),
            y=_quantity(value, title, number, stack="zero"),
            color=alt.Color(f"{series}:N", scale=colours(order), legend=legend(order, frame[series])),
            order=alt.Order("place:Q"),
            tooltip=tooltip,
        )
    )
    if "state" not in frame.columns:
        return chart
    pale = alt.Opacity("state:N", scale=alt.Scale(domain=list(STATE_NAMES), range=_OPACITIES), legend=None)
    shaded: alt.Chart = chart.encode(opacity=pale, tooltip=[*tooltip, alt.Tooltip("state:N", title="how final")])
    return shaded


def minutes(frame: pl.DataFrame, window: Window, zone: ZoneInfo, order: Sequence[str]) -> alt.Chart:
    """Events by minute and platform, over a span that is drawn whole even where nothing came.

    Instants are drawn as such, so time goes on where a clock is put on or back, the zone's or the browser's.

    Args:
        frame: ``minute`` (UTC), ``platform``, ``events``.
        window: The span.
        zone: The zone whose clock is written.
        order: The platforms.
    """
    span = alt.Scale(type="utc", domain=[_milliseconds(window.start), _milliseconds(window.end)])
    axis = alt.Axis(labelExpr=_clock(window, zone), tickCount=6, grid=False)
    # Of a bar with two ends in x, Vega would stack nothing: what stands on what is said here.
    stacked = frame.sort(pl.col("platform").cast(pl.Enum(order))).with_columns(
        until=pl.col("minute") + pl.duration(seconds=54),
        top=pl.col("events").cum_sum().over("minute"),
        clock=pl.col("minute").dt.convert_time_zone(zone.key).dt.strftime("%H:%M"),
    )
    chart: alt.Chart = (
        alt.Chart(stacked.with_columns(bottom=pl.col("top") - pl.col("events")))
        .mark_rect()
        .encode(
            x=alt.X("minute:T", title=None, scale=span, axis=axis),
            x2="until:T",
            y=_quantity("top", "events a minute", ",d"),
            y2="bottom:Q",
            color=alt.Color("platform:N", scale=colours(order), legend=legend(order)),
            tooltip=[
                alt.Tooltip("clock:N", title="minute"),
                alt.Tooltip("platform:N"),
                alt.Tooltip("events:Q", format=",d"),
            ],
        )
    )
    return chart


def ranked(
    frame: pl.DataFrame, name: str, value: str, title: str, marked: Collection[str] = (), number: str = ",d"
) -> alt.LayerChart:
    """Values by name, in the order of the rows, each written at its bar.

    Args:
        frame: The names and values.
        name: Column of the name.
        value: Column of the value.
        title: Of the value.
        marked: Names that stand out.
        number: How values are written.
    """
    is_marked = alt.FieldOneOfPredicate(field=name, oneOf=list(marked))
    held = [0.0, *frame[value].cast(pl.Float64)]
    x = alt.X(f"{value}:Q", title=None, axis=None, scale=with_room(min(held), max(held), 60))
    y = alt.Y(f"{name}:N", sort=frame[name].to_list(), title=None, axis=alt.Axis(labelLimit=150, ticks=False))
    base = alt.Chart(frame).encode(x=x, y=y)
    bars = base.mark_bar(height={"band": 0.7}).encode(
        color=alt.condition(is_marked, alt.value(PALETTE[1]), alt.value(PALETTE[0])),
        tooltip=[alt.Tooltip(f"{name}:N", title=" "), alt.Tooltip(f"{value}:Q", title=title, format=number)],
    )
    return over(bars, at_its_bar(base).encode(text=alt.Text(f"{value}:Q", format=number)))


def with_room(least: float, greatest: float, pixels: int) -> alt.Scale:
    """Of lengths of bars: room for what is written at the end of the longest, however wide the page is."""
    span = greatest - least or 1
    most = alt.ExprRef(f"{least} + {span} * width / max(width - {pixels}, width / 2)")
    return alt.Scale(domainMin=least, domainMax=most, nice=False)


def at_its_bar(base: alt.Chart) -> alt.Chart:
    """What is written at the end of each bar."""
    colour = _WRITTEN.get(st.context.theme.type or "", GREY)
    written: alt.Chart = base.mark_text(align="left", baseline="middle", dx=5, color=colour)
    return written


def grouped(column: str) -> pl.Expr:
    """Counts as texts, with a sign between thousands."""
    return pl.col(column).map_elements(lambda number: f"{number:,}", return_dtype=pl.String)


def legend(order: Sequence[str], held: Collection[str] | None = None) -> alt.Legend | None:
    """The legend of some values, as wide as a phone, of those that are held; None where there could be but one."""
    if len(order) < 2:
        return None
    named = [name for name in order if held is None or name in held]
    columns = _columns(named)
    return alt.Legend(
        orient="bottom", title=None, values=named, columns=columns, labelLimit=130, offset=4, symbolOpacity=1
    )


def colours(order: Sequence[str]) -> alt.Scale:
    """A colour for each of some values, in their order."""
    return alt.Scale(domain=list(order), range=[PALETTE[n % len(PALETTE)] for n in range(len(order))])


def _columns(order: Sequence[str]) -> int:
    """Of a legend as wide as a phone: as many as fit, and no row with fewer names than it could have."""

    def width(columns: int) -> int:
        return sum(_SYMBOL + _LETTER * max(map(len, order[k::columns])) for k in range(columns))

    fitting = next((columns for columns in range(len(order), 1, -1) if width(columns) <= _PHONE), 1)
    rows = -(-len(order) // fitting)
    return -(-len(order) // rows)


def _joined(frame: pl.DataFrame, series: str) -> pl.DataFrame:
    """The rows, and where the state changes, the one before once more in the new state: the line goes on."""
    ordered = frame.sort(series, "day")
    bridges = ordered.select(pl.exclude(series, "state").shift(1).over(series), series, "state")
    changed = ordered.select((pl.col("state") != pl.col("state").shift(1).over(series)).fill_null(value=False))
    return pl.concat([ordered, bridges.filter(changed.to_series()).select(ordered.columns)])


def _of_day(series: str, value: str, title: str, number: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("day:T", title="day", format="%a %d %b %Y"),
        alt.Tooltip(f"{series}:N", title=" "),
        alt.Tooltip(f"{value}:Q", title=title, format=number),
    ]


def _quantity(value: str, title: str, number: str, stack: str | None = None) -> alt.Y:
    axis = alt.Axis(format=number, tickCount=5, minExtent=30, labelFlush=False)
    return alt.Y(f"{value}:Q", title=title, stack=stack, axis=axis)  # type: ignore[arg-type]


def _clock(window: Window, zone: ZoneInfo) -> str:
    """What is written on an axis of instants: a zone's clock, that may be put on or back once within the window."""
    start = window.start.replace(second=0, microsecond=0)
    instants = [start + timedelta(minutes=n) for n in range((window.end - start) // timedelta(minutes=1) + 1)]
    offsets = [int(1000 * at.astimezone(zone).utcoffset().total_seconds()) for at in instants]  # type: ignore[union-attr]
    changed = _milliseconds(instants[offsets.index(offsets[-1])])
    offset = f"(time(datum.value) < {changed} ? {offsets[0]} : {offsets[-1]})"
    return f"utcFormat(time(datum.value) + {offset}, '%H:%M')"


def _milliseconds(instant: datetime) -> int:
    return int(1000 * instant.timestamp())


def _moment(instant: datetime) -> alt.DateTime:
    return alt.DateTime(
        year=instant.year,
        month=instant.month,
        date=instant.day,
        hours=instant.hour,
        minutes=instant.minute,
        seconds=instant.second,
    )


def days(frame: pl.DataFrame) -> alt.X:
    """The axis of days: no tick between two of them."""
    told = frame["day"].unique().sort()
    axis = alt.Axis(format=_form(told), labelOverlap=True, tickCount=7, grid=False)
    if len(told) <= 8:
        axis.values = [_moment(day) for day in told]
    return alt.X("day:T", title=None, axis=axis, scale=alt.Scale(padding=20))


def _bands(frame: pl.DataFrame, form: str | None) -> alt.X:
    """The axis of days that have a bar each, however wide the page is; about five of them are named."""
    days = frame["day"].unique().sort()
    named = days.filter(days.dt.day() == 1) if len(days) > _MANY_DAYS else days.gather_every(max(1, len(days) // 5))
    axis = alt.Axis(
        format=form or _form(days),
        formatType="time",
        values=[_moment(day) for day in named],
        labelAngle=0,
        labelOverlap="greedy",
        labelSeparation=8,
        grid=False,
        ticks=False,
    )
    return alt.X("day:O", timeUnit="yearmonthdate", title=None, axis=axis)


def _width(bars: int) -> float:
    """Of each of some bars, as a share of the place that it has: few are slender, many touch."""
    return 1.0 if bars > _MANY_DAYS else min(0.75, 0.1 * bars)


def _form(days: pl.Series) -> str:
    return "%b %Y" if len(days) > _MANY_DAYS else "%-d %b"
