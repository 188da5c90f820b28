"""Charts that compare: steps of a funnel, cells of cohorts, intervals of an experiment, one number's history."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from platform_assets.serving.dashboard.charts import (
    GREY,
    PALETTE,
    at_its_bar,
    colours,
    days,
    grouped,
    legend,
    over,
    with_room,
)

_NO_LIFT = "datum.value == 0 ? '0%' : datum.label"


def steps(frame: pl.DataFrame, series: str, order: Sequence[str]) -> alt.LayerChart:
    """The steps of a funnel from above, a bar for each series, with the share of the first step at its end.

    Args:
        frame: ``label`` (of the step), ``step``, the series, ``persons``, ``from_first``, ``from_previous``.
        series: Column that tells bars of a step apart.
        order: Its values.
    """
    labels = frame.sort("step")["label"].unique(maintain_order=True).to_list()
    x = alt.X("from_first:Q", title=None, axis=None, scale=with_room(0, 1, 95))
    y = alt.Y("label:N", sort=labels, title=None, axis=alt.Axis(labelLimit=170, ticks=False, domain=False))
    offset = alt.YOffset(f"{series}:N", sort=list(order), scale=alt.Scale(paddingInner=0.15))
    written = pl.format(
        "{} · {}%", grouped("persons"), (pl.col("from_first").fill_null(0) * 100).round().cast(pl.Int64)
    )
    base = alt.Chart(frame.with_columns(written=written)).encode(x=x, y=y, yOffset=offset)
    bars = base.mark_bar(height={"band": 1}).encode(  # of less, each bar would stand beside its place
        color=alt.Color(f"{series}:N", scale=colours(order), legend=legend(order)),
        tooltip=[
            alt.Tooltip("label:N", title="step"),
            alt.Tooltip(f"{series}:N", title=" "),
            alt.Tooltip("persons:Q", format=",d"),
            alt.Tooltip("from_first:Q", title="of the first step", format=".1%"),
            alt.Tooltip("from_previous:Q", title="of the step before", format=".1%"),
        ],
    )
    return over(bars, at_its_bar(base).encode(text="written:N"))


def cells(frame: pl.DataFrame, cohorts: Sequence[str]) -> alt.LayerChart:
    """Cohorts by interval: the share that came back, grey where the interval has not ended, dashed until it is final.

    Args:
        frame: ``cohort`` (a label), ``interval``, ``share``, ``persons``, ``cohort_size``, ``is_complete``, ``state``.
        cohorts: The labels in order.
    """
    x = alt.X(
        "interval:O",
        title="intervals since the start",
        axis=alt.Axis(orient="top", labelAngle=0, labelFlush=False, ticks=False),
    )
    sides = alt.Axis(ticks=False, labelLimit=150, labelFlush=False, domain=False)
    y = alt.Y("cohort:N", sort=list(cohorts), title=None, axis=sides)
    tooltip = [
        alt.Tooltip("cohort:N", title="cohort"),
        alt.Tooltip("interval:O"),
        alt.Tooltip("persons:Q", format=",d"),
        alt.Tooltip("share:Q", format=".1%"),
        alt.Tooltip("state:N", title="how final"),
    ]
    base = alt.Chart(frame).encode(x=x, y=y, tooltip=tooltip)
    shade = alt.Color("share:Q", scale=alt.Scale(scheme="blues", domain=[0, 1]), legend=None)
    known = base.transform_filter("datum.is_complete").mark_rect(cornerRadius=3)
    may_change = base.transform_filter("datum.is_complete && datum.state != 'final'")
    edged = may_change.mark_rect(cornerRadius=3, filled=False, stroke=GREY, strokeDash=[3, 3], strokeWidth=1.5)
    missing = base.transform_filter("!datum.is_complete").mark_rect(cornerRadius=3, color=GREY, opacity=0.18)
    written = base.transform_filter("datum.is_complete").mark_text(fontSize=11)
    on_it = alt.condition("datum.share > 0.55", alt.value("white"), alt.value("#1b1f24"))
    told = written.encode(text=alt.Text("share:Q", format=".0%"), color=on_it)
    return over(missing, known.encode(color=shade), edged, told)


def intervals(frame: pl.DataFrame) -> alt.LayerChart:
    """Relative lifts with their intervals: thick the one of 95 %, thin the always-valid one; a line at no difference.

    Args:
        frame: ``name``, ``lift``, ``lift_low``, ``lift_high``, ``sequential_lift_low``, ``sequential_lift_high``.
    """
    axis = alt.Axis(format="+.0%", labelExpr=_NO_LIFT, tickCount=6)
    names = alt.Axis(labelLimit=170, labelFlush=False, ticks=False, domain=False)
    y = alt.Y("name:N", title=None, sort=None, axis=names)
    decided = "datum.sequential_lift_low > 0 || datum.sequential_lift_high < 0"
    colour = alt.condition(decided, alt.value(PALETTE[0]), alt.value(GREY))
    tooltip = [
        alt.Tooltip("name:N", title=" "),
        *(alt.Tooltip(f"{c}:Q", title=c.replace("_", " "), format="+.2%") for c in ("lift", "lift_low", "lift_high")),
        alt.Tooltip("p_value:Q", title="p", format=".4f"),
    ]
    base = alt.Chart(frame).encode(y=y, color=colour, tooltip=tooltip)
    x = alt.X("sequential_lift_low:Q", title="relative lift against control", axis=axis)
    thin = base.mark_rule(strokeWidth=2).encode(x=x, x2="sequential_lift_high:Q")
    thick = base.mark_rule(strokeWidth=8).encode(x=alt.X("lift_low:Q", axis=axis), x2="lift_high:Q")
    point = base.mark_point(size=110, filled=True, stroke="white", strokeWidth=1.5, opacity=1).encode(x="lift:Q")
    none = alt.Chart(pl.DataFrame({"at": [0.0]})).mark_rule(strokeDash=[4, 4], color=GREY).encode(x="at:Q")
    return over(none, thin, thick, point)


def lift_by_day(frame: pl.DataFrame) -> alt.LayerChart:
    """How the lift and its interval of 95 % settled, by day and metric, a colour each.

    Args:
        frame: ``day`` (naive), ``name``, ``lift``, ``lift_low``, ``lift_high``.
    """
    order = frame["name"].unique(maintain_order=True).to_list()
    colour = alt.Color("name:N", scale=colours(order), legend=legend(order))
    axis = alt.Axis(format="+.0%", labelExpr=_NO_LIFT, tickCount=5, labelFlush=False)
    y = alt.Y("lift_low:Q", title="relative lift", axis=axis)
    base = alt.Chart(frame).encode(x=days(frame), color=colour)
    band = base.mark_area(opacity=0.15).encode(y=y, y2="lift_high:Q")
    middle = base.mark_line(strokeWidth=2.2).encode(
        y="lift:Q", tooltip=[alt.Tooltip("day:T", format="%a %d %b %Y"), "name:N", alt.Tooltip("lift:Q", format="+.2%")]
    )
    none = alt.Chart(pl.DataFrame({"at": [0.0]})).mark_rule(strokeDash=[4, 4], color=GREY).encode(y="at:Q")
    return over(none, band, middle)


def published(frame: pl.DataFrame) -> alt.LayerChart:
    """What one number was said to be, by when it was said: a step at each publication.

    Args:
        frame: ``published_at`` (naive), ``value``, ``why``.
    """
    axis = alt.Axis(format="%-d %b %H:%M", tickCount=4, tickMinStep=60_000, labelOverlap=True)
    x = alt.X("published_at:T", title="published", axis=axis, scale=alt.Scale(padding=20))
    y = alt.Y(
        "value:Q",
        title="value",
        scale=alt.Scale(zero=False),
        axis=alt.Axis(format=",.12~g", tickCount=5, labelFlush=False),
    )
    base = alt.Chart(frame).encode(x=x, y=y)
    dots = base.mark_point(size=70, filled=True, opacity=1, color=PALETTE[1]).encode(
        tooltip=[
            alt.Tooltip("published_at:T", title="published", format="%Y-%m-%d %H:%M"),
            alt.Tooltip("value:Q", format=","),
            alt.Tooltip("why:N", title="because of"),
        ]
    )
    return over(base.mark_line(interpolate="step-after", color=PALETTE[0]), dots)
