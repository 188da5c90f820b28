"""Funnels, retention and sessions, against Polars by hand and DuckDB: `python -m benchmarks.numbers [--small]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import narwhals as nw
import polars as pl
import pyarrow.parquet as pq

from benchmarks import report
from benchmarks.timing import Prepared, in_turn, ratio
from platform_assets.semantics.engines import collected
from platform_assets.semantics.funnels import Funnel, Step, attempts, furthest
from platform_assets.semantics.retention import Retention
from platform_assets.semantics.retention import retention as retained
from platform_assets.semantics.sessions import sessions as in_sessions

START, DAYS = datetime(2026, 1, 1, tzinfo=UTC), 28
NAMES = ("page_viewed", "product_viewed", "page_viewed", "search_performed", "cart_item_added", "page_viewed")
STEPS = ("product_viewed", "cart_item_added", "order_completed")
WEEK, DAY, GAP = 7 * 86_400 * 10**6, 86_400 * 10**6, 1_800 * 10**6
FUNNEL = Funnel(steps=tuple(Step(event=name) for name in STEPS), window=timedelta(days=7))
RETENTION = Retention(intervals=8)
EVENTS_OF_A_PERSON, EVENTS_OF_A_VISIT = 50, 5
VISIT = 600 * 10**6
"""How long a visit takes at most; in microseconds, as the window, the day and the gap above."""
CRAWLED, CRAWLERS_PAUSE = 120, 1_200 * 10**6
"""Events of a crawler, and the time between them: it goes on for 40 hours, so a session is cut at 24."""

WRITTEN_AT_ONCE = 2_000_000
"""Events that are in memory while they are written."""

Contest = dict[str, Callable[[], pl.DataFrame]]


def write_events(file: Path, events: int) -> None:
    """Events of 28 days in no order: visits of five events in ten minutes, and one event in a thousand a crawler's."""
    chunks = (
        _events(first, min(first + WRITTEN_AT_ONCE, events), events) for first in range(0, events, WRITTEN_AT_ONCE)
    )
    writer: pq.ParquetWriter | None = None
    for chunk in chunks:
        table = chunk.to_arrow(compat_level=pl.CompatLevel.oldest())
        if writer is None:
            writer = pq.ParquetWriter(file, table.schema, compression="zstd", compression_level=1)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _events(first: int, end: int, events: int) -> pl.DataFrame:
    """The events from one place in the disorder to another."""
    # A prime: every number once, in disorder.
    number = pl.int_range(first, end, eager=True) * 2_654_435_761 % events
    name = pl.when(number.hash(seed=3) % 20 == 0).then(pl.lit(STEPS[-1]))
    for place, other in enumerate(NAMES):
        name = name.when(number.hash(seed=4) % len(NAMES) == place).then(pl.lit(other))
    visit = pl.col("number") // EVENTS_OF_A_VISIT
    of_visit = visit.hash(seed=2) % (DAYS * DAY) + pl.col("number").hash(seed=5) % VISIT
    crawler, crawled = pl.col("number") // CRAWLED, pl.col("number") % CRAWLED
    of_crawler = crawler.hash(seed=2) % ((DAYS - 2) * DAY) + crawled * CRAWLERS_PAUSE
    is_crawled = pl.col("number") < events // 1_000
    person = pl.format("u:user-{}", visit.hash(seed=1) % (events // EVENTS_OF_A_PERSON))
    campaign = pl.when(pl.col("number").hash(seed=7) % 10 == 0).then(pl.format("c{}", visit.hash(seed=8) % 50))
    frame = pl.DataFrame({"number": number}).select(
        event_id=pl.format("e{}", "number"),
        person_id=pl.when(is_crawled).then(pl.format("u:crawler-{}", crawler)).otherwise(person),
        anonymous_id=pl.format("device-{}", visit.hash(seed=9) % 2),
        occurred_at=pl.lit(START) + pl.duration(microseconds=pl.when(is_crawled).then(of_crawler).otherwise(of_visit)),
        event_name=name.otherwise(pl.lit(NAMES[0])),
        page_url=pl.format("/p/{}", pl.col("number").hash(seed=6) % 1_000),
        referrer=pl.lit(None, pl.String),
        utm_source=campaign,
        utm_medium=pl.lit(None, pl.String),
        utm_campaign=campaign,
    )
    return frame.with_columns(
        anonymous_id=pl.when(pl.col("person_id").str.starts_with("u:crawler"))
        .then(pl.lit("device"))
        .otherwise("anonymous_id")
    )


def funnel(file: Path, connection: duckdb.DuckDBPyConnection) -> Contest:
    """How far persons got through three steps in a week, and when their furthest attempt took each: by how far."""
    told = ["reached", "persons", "to_second", "to_third"]

    def ours() -> pl.DataFrame:
        counted = furthest(attempts(pl.scan_parquet(file), FUNNEL), ["person_id"])
        first, second, third = (nw.col(f"step_{k}_at") for k in (1, 2, 3))
        lasted = {"to_second": (second - first).sum(), "to_third": (third - first).sum()}
        return collected(counted.group_by("reached").agg(nw.len().alias("persons"), **lasted)).select(told)

    def by_hand() -> pl.DataFrame:
        at, step = pl.col("at"), pl.col("step")
        of_name = pl.col("event_name").replace_strict({name: place for place, name in enumerate(STEPS, 1)})
        ahead = {"partition_by": "person_id", "order_by": ["at", "step"]}
        begun = (
            pl.scan_parquet(file)
            .filter(pl.col("event_name").is_in(STEPS))
            .select("person_id", at=pl.col("occurred_at").dt.epoch("us"), step=of_name)
            .with_columns(third=pl.when(step == 3).then(at).backward_fill().over(**ahead))
            .with_columns(
                second=pl.when(step == 2).then(at).backward_fill().over(**ahead),
                next=pl.when(step == 2).then("third").backward_fill().over(**ahead),
            )
            .filter(step == 1)
        )
        inside = {name: pl.when(pl.col(name) <= at + WEEK).then(name) for name in ("second", "next")}
        tried = begun.with_columns(**inside).with_columns(
            reached=1 + pl.col("second").is_not_null().cast(pl.Int64) + pl.col("next").is_not_null().cast(pl.Int64)
        )
        is_furthest = pl.col("reached") == pl.col("reached").max()
        best = tried.group_by("person_id").agg(
            pl.col("reached").max(),
            *(pl.col(name).filter(is_furthest).min() for name in ("at", "second", "next")),
        )
        lasted = {"to_second": (pl.col("second") - at).sum(), "to_third": (pl.col("next") - at).sum()}
        counted = best.group_by("reached").agg(persons=pl.len(), **lasted)
        return counted.select(told).collect(engine="streaming")

    query = f"""
    with steps as (
        select person_id, epoch_us(occurred_at) as time,
            case event_name when '{STEPS[0]}' then 1 when '{STEPS[1]}' then 2 else 3 end as step
        from read_parquet('{file}') where event_name in {STEPS}),
    thirds as (
        select *, min(case when step = 3 then time end) over ahead as third from steps
        window ahead as (partition by person_id order by time, step rows between current row and unbounded following)),
    seconds as (
        select *, min(case when step = 2 then time end) over ahead as second,
            min(case when step = 2 then third end) over ahead as next from thirds
        window ahead as (partition by person_id order by time, step rows between current row and unbounded following)),
    tried as (
        select person_id, time, case when second <= time + {WEEK} then second end as second,
            case when next <= time + {WEEK} then next end as next,
            1 + coalesce((second <= time + {WEEK})::int, 0) + coalesce((next <= time + {WEEK})::int, 0) as reached
        from seconds where step = 1),
    best as (
        select person_id, max(reached) as reached, arg_min(time, (-reached, time)) as time,
            arg_min_null(second, (-reached, time)) as second, arg_min_null(next, (-reached, time)) as next
        from tried group by person_id)
    select reached, count(*) as persons,
        coalesce(sum(second - time), 0) as to_second, coalesce(sum(next - time), 0) as to_third
    from best group by reached"""
    return {"ours": ours, "Polars": by_hand, "DuckDB": lambda: connection.sql(query).pl()}


def retention(file: Path, connection: duckdb.DuckDBPyConnection) -> Contest:
    """Of the persons active on each day, how many are active so many days after."""
    last = START.date() + timedelta(days=DAYS - 1)
    later = START + timedelta(days=3 * DAYS)
    told = ["cohort", "interval", "persons"]

    def ours() -> pl.DataFrame:
        table = retained(pl.scan_parquet(file), RETENTION, START.date(), last, ZoneInfo("UTC"), later)
        return table.filter(pl.col("persons") > 0).select(told)

    def by_hand() -> pl.DataFrame:
        active = pl.scan_parquet(file).select("person_id", cohort=pl.col("occurred_at").dt.date()).unique()
        pairs = active.join(active, on="person_id", suffix="_later")
        since = (pl.col("cohort_later") - pl.col("cohort")).dt.total_days()
        in_range = (pl.col("cohort") <= last) & since.is_between(0, 7)
        counted = pairs.filter(in_range).group_by("cohort", since.alias("interval")).agg(persons=pl.len())
        return counted.select(told).collect(engine="streaming")

    query = f"""
    with active as (select distinct person_id, occurred_at::date as cohort from read_parquet('{file}'))
    select a.cohort, b.cohort - a.cohort as interval, count(*) as persons
    from active a join active b using (person_id)
    where a.cohort <= '{last}' and b.cohort - a.cohort between 0 and 7 group by all"""
    return {"ours": ours, "Polars": by_hand, "DuckDB": lambda: connection.sql(query).pl()}


def sessions(file: Path, connection: duckdb.DuckDBPyConnection) -> Contest:
    """The table of sessions, cut at a pause of 30 minutes and once at 24 hours, with all that is told of each."""

    def ours() -> pl.DataFrame:
        return collected(in_sessions(pl.scan_parquet(file), most_cuts=1))

    def by_hand() -> pl.DataFrame:
        key, campaign = ["person_id", "anonymous_id"], ["utm_source", "utm_medium", "utm_campaign"]
        at, is_view = pl.col("at"), pl.col("event_name") == "page_viewed"
        has_campaign = pl.any_horizontal((pl.col(name).fill_null("") != "") for name in campaign)
        rows = (
            pl.scan_parquet(file)
            .with_columns(at=pl.col("occurred_at").dt.epoch("us"))
            .sort(*key, "at", "event_id")
            .with_columns(
                pause=at.diff(), is_other=pl.any_horizontal(pl.col(n).ne_missing(pl.col(n).shift()) for n in key)
            )
            .with_columns(
                is_run=pl.col("is_other").fill_null(value=True) | (pl.col("pause") > GAP).fill_null(value=True)
            )
            .with_columns(run_at=pl.when("is_run").then(at).forward_fill())
            .with_columns(is_beyond=at - pl.col("run_at") > DAY)
            .with_columns(
                is_first=pl.col("is_run")
                | (pl.col("is_beyond") & ~(pl.col("is_beyond").shift().fill_null(value=False)))
            )
            .with_columns(
                session=pl.col("is_first").cum_sum(),
                engaged=pl.when(~pl.col("is_first")).then(pl.col("pause").clip(upper_bound=30_000_000)),
                page=pl.when(is_view).then("page_url"),
                landing=pl.when(is_view & pl.col("page_url").is_not_null()).then("referrer"),
                touch=pl.when(has_campaign).then(pl.concat_str(campaign, separator="\x1f", ignore_nulls=True)),
                touch_at=pl.when(has_campaign).then("occurred_at"),
                **{f"touch_{name}": pl.when(has_campaign).then(name) for name in campaign},
            )
        )
        told = rows.group_by("session").agg(
            pl.col(*key).first(),
            event_id=pl.col("event_id").first(),
            started_at=pl.col("occurred_at").first(),
            ended_at=pl.col("occurred_at").last(),
            run_started_at=pl.col("run_at").first().cast(pl.Datetime("us", "UTC")),
            events=pl.len().cast(pl.Int64),
            page_views=is_view.sum().cast(pl.Int64),
            conversions=(pl.col("event_name") == "order_completed").sum().cast(pl.Int64),
            engaged_seconds=pl.col("engaged").sum() / 1e6,
            entry_page=pl.col("page").first(ignore_nulls=True),
            exit_page=pl.col("page").last(ignore_nulls=True),
            landing_referrer=pl.col("landing").first(ignore_nulls=True),
            **{name: pl.col(f"touch_{name}").first(ignore_nulls=True) for name in campaign},
            campaign_at=pl.col("touch_at").first(ignore_nulls=True),
            has_new_campaign=pl.col("touch").min() != pl.col("touch").max(),
        )
        start, end = pl.col("started_at"), pl.col("ended_at")
        person, device = (pl.col(n).str.replace_all("%", "%25", literal=True) for n in key)
        person, device = (text.str.replace_all("|", "%7C", literal=True) for text in (person, device))
        return (
            told.with_columns(
                session_id=pl.format("{}|a:{}|{}|{}", person, device, start.dt.epoch("us"), "event_id"),
                day_number=start.dt.date().cast(pl.Int32).cast(pl.Int64),
                is_bounce=(pl.col("page_views") == 1) & (end - start < timedelta(seconds=10)),
                has_new_day=start.dt.date() != end.dt.date(),
                has_new_campaign=pl.col("has_new_campaign").fill_null(value=False),
            )
            .drop("session", "event_id")
            .collect(engine="streaming")
        )

    query = f"""
    with before as (
        select *, epoch_us(occurred_at) as us, us - lag(us) over key as pause,
            event_name = 'page_viewed' as is_view,
            coalesce(utm_source, '') || coalesce(utm_medium, '') || coalesce(utm_campaign, '') <> '' as has_campaign
        from read_parquet('{file}')
        window key as (partition by person_id, anonymous_id order by occurred_at, event_id)),
    runs as (
        select *, pause is null or pause > {GAP} as is_run,
            max(case when is_run then us end) over key as run_at, us - run_at > {DAY} as is_beyond
        from before window key as (partition by person_id, anonymous_id order by occurred_at, event_id)),
    cut as (
        select *, is_run or (is_beyond and not coalesce(lag(is_beyond) over key, false)) as is_first
        from runs window key as (partition by person_id, anonymous_id order by occurred_at, event_id)),
    numbered as (
        select *, sum(is_first::int) over key as session
        from cut window key as (partition by person_id, anonymous_id order by occurred_at, event_id)),
    told as (
        select person_id, anonymous_id, session, min(occurred_at) as started_at, max(occurred_at) as ended_at,
            min(run_at) as run_us, count(*) as events, count(*) filter (is_view) as page_views,
            count(*) filter (event_name = 'order_completed') as conversions,
            coalesce(sum(case when not is_first then least(pause, 30000000) end), 0) / 1e6 as engaged_seconds,
            arg_min(event_id, (us, event_id)) as first_event,
            arg_min(page_url, (us, event_id)) filter (is_view and page_url is not null) as entry_page,
            arg_max(page_url, (us, event_id)) filter (is_view and page_url is not null) as exit_page,
            arg_min_null(referrer, (us, event_id)) filter (is_view and page_url is not null) as landing_referrer,
            arg_min_null(utm_source, (us, event_id)) filter (has_campaign) as utm_source,
            arg_min_null(utm_medium, (us, event_id)) filter (has_campaign) as utm_medium,
            arg_min_null(utm_campaign, (us, event_id)) filter (has_campaign) as utm_campaign,
            min(occurred_at) filter (has_campaign) as campaign_at,
            min((utm_source, utm_medium, utm_campaign)) filter (has_campaign)
                is distinct from max((utm_source, utm_medium, utm_campaign)) filter (has_campaign) as has_new_campaign
        from numbered group by person_id, anonymous_id, session)
    select * exclude (session, run_us, first_event),
        replace(replace(person_id, '%', '%25'), '|', '%7C') || '|a:'
            || replace(replace(anonymous_id, '%', '%25'), '|', '%7C')
            || '|' || epoch_us(started_at) || '|' || first_event as session_id,
        make_timestamptz(run_us) as run_started_at, date_diff('day', date '1970-01-01', started_at::date) as day_number,
        page_views = 1 and epoch_us(ended_at) - epoch_us(started_at) < 10000000 as is_bounce,
        started_at::date <> ended_at::date as has_new_day
    from told"""
    return {"ours": ours, "Polars": by_hand, "DuckDB": lambda: connection.sql(query).pl()}


def alike(found: Mapping[str, pl.DataFrame]) -> None:
    """Assert that all found the same rows, columns in any order; times of seconds to the millionth."""
    ours = found["ours"]
    seconds = pl.col("^.*_seconds$").round(6)
    ordered = {name: rows.select(ours.columns).cast(dict(ours.schema)) for name, rows in found.items()}
    ordered = {name: rows.with_columns(seconds).sort(rows.columns[:2]) for name, rows in ordered.items()}
    for name, rows in ordered.items():
        assert rows.equals(ordered["ours"]), f"{name}: {rows} is not {ordered['ours']}"


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.numbers", description=__doc__)
    parser.add_argument("--small", action="store_true", help="few events, to see that it runs")
    parser.add_argument("--events", type=int, nargs="+", help="how many; several, one after another (5 and 50 million)")
    options = parser.parse_args()
    sizes = tuple(options.events) if options.events else (200_000,) if options.small else (5_000_000, 50_000_000)
    rows, measured, peaks = [], [], []
    for events in sizes:
        with report.scratch("numbers") as folder, duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            file = folder / "events.parquet"
            write_events(file, events)
            written = report.peak_gib()
            for contest in (funnel, retention, sessions):
                contestants = contest(file, connection)
                alike({name: answer() for name, answer in contestants.items()})

                def prepared(timed: Callable[[], object]) -> Callable[[], Prepared]:
                    return lambda: timed

                seconds = in_turn({name: prepared(timed) for name, timed in contestants.items()}, 3)
                by_hand, in_sql = (ratio(seconds["ours"], seconds[peer]) for peer in ("Polars", "DuckDB"))
                shown = [seconds[name].shown(2) for name in contestants]
                rows.append([contest.__name__, f"{events:,}", *shown, by_hand.shown(2), in_sql.shown(2)])
                measured.append(
                    {
                        "number": contest.__name__,
                        "events": events,
                        **{f"{name}_seconds": seconds[name].as_json() for name in contestants},
                        "ratio_to_polars": by_hand.as_json(),
                        "ratio_to_duckdb": in_sql.as_json(),
                    }
                )
            peaks.append(f"{report.peak_gib():.1f} GiB with {events:,} events ({written:.1f} once they were written)")
    report.write(
        "numbers",
        small=options.small,
        columns=[
            "number",
            "events",
            "ours (s)",
            "Polars by hand (s)",
            "DuckDB (s)",
            "ratio to Polars",
            "ratio to DuckDB",
        ],
        rows=rows,
        measured={"contests": measured, "peaks": peaks},
        notes=[
            "The aims are 0.9 of Polars by hand and 3 times DuckDB. All read the same Parquet file.",
            "Sessions: ours does more than its peers (see its docstring).",
            f"The process's peak so far: {', '.join(peaks)}.",
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
