"""Persons out of millions of links: `python -m benchmarks.identity [--small]`."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

import duckdb
import polars as pl

from benchmarks import report
from benchmarks.timing import Prepared, in_turn, rate, ratio
from platform_assets.semantics import identity

START = datetime(2026, 1, 1, tzinfo=UTC)

_IN_SQL = """
with seen as (
    select "left" as raw_id, seen_at, min("right") as person_id
    from links where kind = 'login' group by all
), told as (
    select raw_id, seen_at, person_id,
        lag(seen_at) over device + interval 1 microsecond as after,
        lag(person_id) over device as last,
        lead(seen_at) over device is null as is_last
    from seen window device as (partition by raw_id order by seen_at)
), claims as (
    select *, greatest(coalesce(after, seen_at - interval 30 day), seen_at - interval 30 day) as claims from told
)
select raw_id, person_id, claims as valid_from, seen_at + interval 1 microsecond as valid_to from claims
union all select raw_id, last, after, claims from claims where after < claims
union all
select raw_id, person_id, seen_at + interval 1 microsecond, timestamptz '9999-12-31 00:00:00+00'
from claims where is_last
"""
"""The intervals of the devices, neighbours of one person not yet joined; no aliases, unlinks or super nodes."""


def links(count: int) -> pl.DataFrame:
    """Links of some months: a device has five logins, one in ten devices two users; one link in 50 is an alias."""
    number = pl.int_range(count)
    device = number // 5
    user = pl.when((device % 10 == 0) & (number % 5 >= 3)).then(device + 1).otherwise(device)
    is_alias = number % 50 == 49
    return pl.select(
        left=pl.when(is_alias).then(pl.format("u:user-{}", user + 7)).otherwise(pl.format("a:device-{}", device)),
        right=pl.format("u:user-{}", user),
        kind=pl.when(is_alias).then(pl.lit(identity.ALIAS)).otherwise(pl.lit("login")),
        seen_at=pl.lit(START) + pl.duration(seconds=number.hash(seed=1) % (200 * 86_400)),
    ).cast(identity.LINKS)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.identity", description=__doc__)
    parser.add_argument("--small", action="store_true", help="few links, to see that it runs")
    small = parser.parse_args().small
    sizes, repetitions = ((20_000,), 2) if small else ((1_000_000, 10_000_000), 3)
    rows, measured = [], []
    for count in sizes:
        evidence = links(count)
        connection = duckdb.connect()
        connection.register("links", evidence.to_arrow())

        def ours(evidence: pl.DataFrame = evidence) -> Prepared:
            return lambda: identity.persons(evidence.lazy())

        def peer(connection: duckdb.DuckDBPyConnection = connection) -> Prepared:
            return lambda: pl.DataFrame(connection.sql(_IN_SQL).to_arrow_table())

        found, sketched = ours()(), peer()()
        assert isinstance(found, pl.DataFrame)
        assert isinstance(sketched, pl.DataFrame)
        devices = pl.col("raw_id").str.starts_with("a:")
        assert found.filter(devices)["raw_id"].n_unique() == sketched["raw_id"].n_unique()
        seconds = in_turn({"ours": ours, "DuckDB": peer}, repetitions)
        own, other = rate(count, seconds["ours"]), rate(count, seconds["DuckDB"])
        share = ratio(seconds["ours"], seconds["DuckDB"])
        rows.append(
            [f"{count:,}", f"{found.height:,}", seconds["ours"].shown(1), own.shown(), other.shown(), share.shown(2)]
        )
        measured.append(
            {"links": count, "intervals": found.height, "seconds": seconds["ours"].as_json(), "ratio": share.as_json()}
        )
    report.write(
        "identity",
        small=small,
        columns=["links", "rows of persons", "seconds", "links/s", "DuckDB's links/s", "ratio (1 is as fast)"],
        rows=rows,
        measured={"sizes": measured},
        notes=["DuckDB computes the devices' intervals only, by window functions; no aliases, unlinks or super nodes."],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
