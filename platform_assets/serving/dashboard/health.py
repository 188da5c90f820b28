"""*Health*: whether the data comes in, is good, and is computed in time."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import polars as pl
import streamlit as st

from platform_assets.serving import questions
from platform_assets.serving.dashboard import charts, filters
from platform_assets.serving.dashboard.layout import (
    Figure,
    Nothing,
    ago,
    figures,
    page,
    section,
    share,
    since,
    told,
    whole,
)
from platform_assets.serving.dashboard.source import Source

_SPAN = timedelta(days=28)
_REFUSED = ("duplicate", "quarantined", "dead_lettered", "late")
_MOST_REASONS = 12
_MOST_INCIDENTS = 20
_LOOKED_AT = timedelta(days=7)
_WEEKS = 4


def show() -> None:
    """The page."""
    page("Health", "Whether data comes in, whether it is good, and whether the numbers are computed in time.", _body)


def _body(source: Source) -> None:
    filters.of_everybody("this page is about all records, whoever sent them.")
    with told():
        _figures(source)
    with section("Incidents", "What people were told of; the newest state of each."):
        _incidents(source)
    last = source.now().date()
    with section("Checks that fail", "What the newest look of the last week said of each partition."):
        _checks(source)
    with section(
        "From event to number", "Events that the platform sent itself in the last day, and what became of them."
    ):
        _canaries(source)
    with section("Service levels", "Partitions that were there when they fell due, by week; the worst come first."):
        _service_levels(source)
    with section("Records that are not as they should be", "By the day of arrival, as a share of all records."):
        _outcomes(source, last - _SPAN, last)
    with section("Why records were refused", "A record counts for each of its reasons."):
        _refusals(source, last - _SPAN, last)
    with section("When tables were computed", "The ones furthest behind come first."):
        _computed(source)


def _figures(source: Source) -> None:
    now = source.now()
    fresh = questions.freshness(source.catalog, now)
    today = questions.outcomes(source.catalog, now.date() - timedelta(days=1), now.date())
    records = int(today["records"].sum())

    def part(*columns: str) -> str:
        counted = sum(int(today[column].sum()) for column in columns)
        return share(counted / records, 2) if records else "–"

    figures(
        [
            Figure("Newest arrival", ago(fresh.newest_arrival, now)),
            Figure(
                "Watermark behind",
                "–" if fresh.watermark is None else since(fresh.watermark, now),
                explained="How far the stream is incomplete.",
            ),
            Figure("Batches behind", whole(fresh.behind), explained="Micro-batches that live numbers lack."),
            Figure("Records, 2 days", whole(records)),
            Figure("Refused, 2 days", part("quarantined", "dead_lettered")),
            Figure("Late, 2 days", part("late"), explained="Came over an hour after the hour they belong to."),
        ]
    )


def _incidents(source: Source) -> None:
    newest = told_of(questions.newest_rows(source.catalog, "ops.incidents", 500)).head(_MOST_INCIDENTS)
    if newest.is_empty():
        st.success("Nothing has gone wrong so far.", icon=":material/check_circle:")
        return
    st.dataframe(
        newest.select("severity", "change", "title", "seen", "since", "link"),
        hide_index=True,
        column_config={
            "link": st.column_config.LinkColumn("look here", display_text="open"),
            "since": st.column_config.DatetimeColumn("since", format="YYYY-MM-DD HH:mm", timezone=source.zone.key),
        },
    )


def told_of(rows: pl.DataFrame) -> pl.DataFrame:
    """The newest row of each incident, the newest first; what passed before anybody was told of it is left out."""
    newest = rows.sort("revision").unique("incident_id", keep="last")
    return newest.filter(~pl.col("change").is_in(["seen", "gone"])).sort("changed_at", descending=True)


def _checks(source: Source) -> None:
    found = questions.failing_checks(source.catalog, source.now() - _LOOKED_AT)
    if found.is_empty():
        st.success("No check fails.", icon=":material/check_circle:")
        return
    st.dataframe(
        found.select("severity", "asset", "check_name", "partitions", "partition_key", "description", "evaluated_at"),
        hide_index=True,
        column_config={
            "check_name": "check",
            "partition_key": "newest",
            "evaluated_at": st.column_config.DatetimeColumn(
                "looked at", format="YYYY-MM-DD HH:mm", timezone=source.zone.key
            ),
        },
    )


def _canaries(source: Source) -> None:
    found = questions.canaries(source.catalog, source.now())
    if found.is_empty():
        msg = "No event of the platform's own was sent: set HEADWATER_CANARY_EVERY to `PT1M` to have one sent a minute."
        raise Nothing(msg)
    seconds = {"p50": "half within", "p95": "95 of 100 within", "slowest": "slowest"}
    st.dataframe(
        found.drop("waiting"),
        hide_index=True,
        column_config={name: st.column_config.NumberColumn(shown, format="%.1f s") for name, shown in seconds.items()},
    )


def _service_levels(source: Source) -> None:
    today = source.now().astimezone(source.zone).date()
    found = questions.service_levels(source.catalog, today - timedelta(days=today.weekday() + 7 * (_WEEKS - 1)))
    if found.is_empty():
        msg = "No week was reported yet: `report_service_levels` does it every hour, once partitions have fallen due."
        raise Nothing(msg)
    st.dataframe(
        found,
        hide_index=True,
        placeholder="–",
        column_config={
            "week_name": "week",
            "asset": "table",
            "attained": st.column_config.NumberColumn("attained", format="percent"),
            "budget_left": st.column_config.NumberColumn("error budget left", format="percent"),
        },
    )


def _outcomes(source: Source, first: date, last: date) -> None:
    found = questions.outcomes(source.catalog, first, last)
    if found.is_empty():
        msg = "No record came in the last four weeks. Produce some: `headwater simulate live --rate 5`."
        raise Nothing(msg)
    shares = found.select("day", *(pl.col(name) / pl.col("records") for name in _REFUSED))
    tall = shares.unpivot(list(_REFUSED), index="day", variable_name="of", value_name="share")
    state = pl.when(pl.col("day") < last).then(pl.lit("final")).otherwise(pl.lit("open"))
    named = tall.with_columns(pl.col("of").str.replace("_", " "), state=state)
    order = [name.replace("_", " ") for name in _REFUSED]
    drawn = charts.clocked(named, source.zone, "day")
    charts.draw(charts.lines(drawn, "share", "of all records", "of", order, ".1%"), "Shares by day", 260)


def _refusals(source: Source, first: date, last: date) -> None:
    found = questions.refusals(source.catalog, first, last)
    if found.is_empty():
        st.success("No record was refused.", icon=":material/check_circle:")
        return
    kinds = reasons(found).head(_MOST_REASONS)
    charts.draw(charts.ranked(kinds, "reason", "records", "records"), "Records by reason", 40 + 28 * kinds.height)


def reasons(found: pl.DataFrame) -> pl.DataFrame:
    """The rows of `questions.refusals` by the kind of the reason, without what a parser said of one record."""
    kind = pl.col("reason").str.splitn(":", 2).struct.field("field_0")
    summed = found.group_by(reason=kind).agg(pl.col("records").sum())
    return summed.sort("records", "reason", descending=[True, False])


def _computed(source: Source) -> None:
    found = questions.computed(source.catalog)
    if found.is_empty():
        msg = "Nothing was computed yet: `make up` computes the open day within five minutes of its first event."
        raise Nothing(msg)
    levels = {table.name: table.service_level for table in source.catalog.tables.values()}
    st.dataframe(service(found, levels, source.now()), hide_index=True)


def service(found: pl.DataFrame, levels: dict[str, timedelta], now: datetime) -> pl.DataFrame:
    """The rows of `questions.computed` for people, against the service levels of the tables."""
    rows = []
    for row in found.sort("computed_at").iter_rows(named=True):
        level, age = levels.get(row["table"]), now - row["computed_at"]
        rows.append(
            {
                "table": row["table"],
                "computed": ago(row["computed_at"], now),
                "promised within": "" if level is None else since(now - level, now),
                "kept": "" if level is None else ("yes" if age <= level else "no"),
                "knew events until": ago(row["watermark"], now),
            }
        )
    return pl.DataFrame(rows)
