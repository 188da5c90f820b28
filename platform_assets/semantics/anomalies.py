"""Hours that are not as the hours before them say: too few rows, too many, another share, another distribution.

An hour is expected to be above or below its week as the same hour of the week was in the weeks before, moved by how
the last day differs from that. What is left is compared with the residuals of the last two weeks of the same series,
pooled over all hours of the week: a spread of one hour of the week alone rests on four values, and cries wolf. All of
these are medians, and hours found to be anomalies are left out of them. An hour is judged by what was before it only,
so a verdict does not change because time goes on.

Numbers are judged where their noise does not depend on how great they are: counts as logarithms, shares as
``2 asin √p``, which is defined for 0 and for 1, where the logit is not. A share's noise by chance is then
``1 / √rows``.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from math import pi
from typing import Literal, Self
from zoneinfo import ZoneInfo

import polars as pl
from pydantic import Field, model_validator

from platform_assets.semantics.specification import Duration, Specification

Kind = Literal["count", "share"]
Reason = Literal[
    "as expected", "too low", "too high", "another distribution", "not enough history", "too few rows", "no rows"
]

NOT_JUDGED: tuple[Reason, ...] = ("not enough history", "too few rows", "no rows")
"""Reasons for which an hour has no verdict: it is no anomaly, and nobody knows that it is none."""

INSTANT = pl.Datetime("us", "UTC")
VERDICTS = pl.Schema(
    {
        "series": pl.String(),
        "hour": INSTANT,
        "bucket_hours": pl.Int64(),
        "observed": pl.Float64(),
        "rows": pl.Int64(),
        "expected": pl.Float64(),
        "least": pl.Float64(),
        "most": pl.Float64(),
        "score": pl.Float64(),
        "is_anomaly": pl.Boolean(),
        "reason": pl.String(),
    }
)
"""What is told of an hour.

``bucket_hours``: how many hours up to the end of this one were judged together. ``observed``, ``expected``, ``least``
and ``most``: rows of the bucket, a share from 0 to 1, or a distance from 0 to 1; the last three are null without a
verdict. ``score``: the residual by the pooled spread.
"""

_HOUR = timedelta(hours=1)
_OF_NORMAL = 1.4826
"""The standard deviation of normal noise by its median absolute deviation."""
_DISTANCE_NOISE = 0.3
"""The standard deviation of a Jensen-Shannon distance by chance, times √rows: √(χ² / (8 ln 2 rows)), of few values."""
_PASSES = 4
"""How often what was found is taken out of the baseline, and the rest judged again, at most."""
_WEEK = 168
_DAY = 24
_LEAST_RESIDUALS = 72


class Anomalies(Specification):
    """How far from what is expected an hour may be.

    Attributes:
        k: In spreads; what is farther away is an anomaly.
        k_of_few: The same where fewer than ``few_rows`` are expected.
        few_rows: In rows of a bucket.
        least_change: The least change that counts, as a share of what is expected. Of shares, of the expected share or
            of what it lacks to one, whichever is less.
        least_share_change: The least change of a share that counts, from 0 to 1, whatever it was.
        least_distance: The least Jensen-Shannon distance that counts, from 0 to 1.
        weeks: How many weeks before say what is expected of an hour of the week.
        level_over: How long before the hour says where the level is.
        pooled_over: How long before the hour says how far residuals spread.
        history: How long a series must have been before there is a verdict.
        adapts_after: A change that lasts for longer, in all of a bucket, is what is expected from then on.
        least_rows: Where fewer rows are expected of a bucket, a wider one is judged.
        buckets: How many hours are judged together, from the narrowest bucket to the widest.
    """

    k: float = Field(default=5.0, gt=0)
    k_of_few: float = Field(default=4.0, gt=0)
    few_rows: int = Field(default=1_000, ge=0)
    least_change: float = Field(default=0.25, ge=0, lt=1)
    least_share_change: float = Field(default=0.02, ge=0, lt=1)
    least_distance: float = Field(default=0.1, ge=0, lt=1)
    weeks: int = Field(default=4, ge=1, le=52)
    level_over: Duration = timedelta(hours=24)
    pooled_over: Duration = timedelta(days=14)
    history: Duration = timedelta(days=14)
    adapts_after: Duration = timedelta(hours=24)
    least_rows: int = Field(default=200, ge=1)
    buckets: tuple[int, ...] = (1, 2, 3, 6, 12, 24)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if not self.buckets or self.buckets[0] < 1 or list(self.buckets) != sorted(set(self.buckets)):
            msg = f"buckets {self.buckets!r}: say hours, at least one, from the narrowest to the widest"
            raise ValueError(msg)
        if self.history < timedelta(days=8) + self.level_over:
            msg = f"history {self.history}: a verdict needs a week before, a level and residuals: say 9 days or more"
            raise ValueError(msg)
        for name in ("level_over", "pooled_over", "adapts_after"):
            if getattr(self, name) < _HOUR:
                msg = f"{name} {getattr(self, name)}: say an hour or more"
                raise ValueError(msg)
        return self

    @property
    def reads(self) -> timedelta:
        """How long before an hour what lies there can matter to its verdict, but for what it kept out of baselines."""
        return timedelta(weeks=self.weeks + 1) + self.pooled_over + self.level_over + self.adapts_after


def judged(
    hours: pl.DataFrame, specification: Anomalies, kind: Kind, zone: ZoneInfo, until: datetime | None = None
) -> pl.DataFrame:
    """What each hour of some series is, and what was expected of it.

    Args:
        hours: ``series``, ``hour`` (starts of UTC hours, once a series), ``value``, ``rows`` (counts). Of a count both
            are the rows. Of a share, ``value`` is how many of the ``rows`` have it. An hour that is not there had none.
        specification: The thresholds.
        kind: Whether ``value`` is judged as such, or as a share of ``rows``.
        zone: The reporting timezone: the hour of the week is one of its clock, so daylight saving moves nothing.
        until: The end of the last hour, exclusive; one after the last hour of any series where None.

    Returns:
        `VERDICTS`, an hour of each series from its first, by series and hour.
    """
    points = _buckets(_whole(hours, until), specification, kind)
    return _verdicts(points, specification, kind, zone)


def shifts(
    counts: pl.DataFrame, specification: Anomalies, zone: ZoneInfo, until: datetime | None = None
) -> pl.DataFrame:
    """Whether the distribution over values is another than in the weeks before, for each hour of some series.

    The Jensen-Shannon distance (to base 2, from 0 to 1) between an hour's shares and those of the same hour of the
    week in the weeks before, taken together. Distances of few rows are greater by chance, and differ from hour to hour:
    so a distance is judged as other numbers are, by what it was, and only where it is too great. A value that was never
    there before counts.

    Args:
        counts: ``series``, ``hour`` (starts of UTC hours), ``category`` (null is a value like others), ``value``
            (rows that have it).
        specification: The thresholds.
        zone: The reporting timezone.
        until: The end of the last hour, exclusive.

    Returns:
        `VERDICTS`; ``observed`` and what was expected are distances.
    """
    kept_out = pl.DataFrame(schema={"series": pl.String(), "hour": INSTANT})
    told = pl.DataFrame(schema=VERDICTS)
    for _ in range(_PASSES):
        told = _verdicts(_distances(counts, kept_out, specification, zone, until), specification, "distance", zone)
        found = told.filter("is_anomaly").select("series", "hour")
        if found.equals(kept_out):
            break
        kept_out = found
    return told


def _whole(hours: pl.DataFrame, until: datetime | None) -> pl.DataFrame:
    """Every hour of each series from its first to the last of all; those without a row have none."""
    if hours.is_empty():
        return hours.select("series", "hour", "value", "rows")
    last = hours["hour"].max() if until is None else until - _HOUR
    every = (
        hours.filter(pl.col("hour") <= last)
        .group_by("series")
        .agg(first=pl.col("hour").min())
        .with_columns(hour=pl.datetime_ranges("first", pl.lit(last, INSTANT), "1h", time_zone="UTC"))
        .explode("hour")
        .select("series", "hour")
    )
    told = every.join(hours.select("series", "hour", "value", "rows"), on=["series", "hour"], how="left")
    return told.with_columns(pl.col("value", "rows").fill_null(0)).sort("series", "hour")


def _buckets(hours: pl.DataFrame, specification: Anomalies, kind: Kind) -> pl.DataFrame:
    """Each hour with the hours before it that share its bucket, at every width: observed, and where it is judged."""
    wide = pl.concat(
        hours.with_columns(
            pl.col("value", "rows").cast(pl.Int64).rolling_sum(width).over("series"),
            bucket_hours=pl.lit(width, pl.Int64),
        )
        for width in specification.buckets
    )
    if kind == "count":
        observed = pl.col("value").cast(pl.Float64)
        # Half a row more: of no rows there is no logarithm.
        level = (observed + 0.5).log()
    else:
        observed = pl.when(pl.col("rows") > 0).then(pl.col("value") / pl.col("rows"))
        level = 2 * observed.sqrt().arcsin()
    return wide.with_columns(observed=observed).with_columns(y=level.alias("y"))


def _distances(
    counts: pl.DataFrame,
    kept_out: pl.DataFrame,
    specification: Anomalies,
    zone: ZoneInfo,
    until: datetime | None,
) -> pl.DataFrame:
    """Each hour's distance to the same hour of the weeks before, at every width of bucket."""
    totals = counts.group_by("series", "hour").agg(rows=pl.col("value").sum()).with_columns(value=pl.col("rows"))
    hours = _whole(totals, until)
    categories = counts.select("series", "category").unique()
    dense = (
        hours.select("series", "hour")
        .join(categories, on="series")
        .join(
            counts.select("series", "hour", "category", of_category="value"),
            on=["series", "hour", "category"],
            how="left",
            nulls_equal=True,
        )
        .join(kept_out.with_columns(kept_out=1), on=["series", "hour"], how="left")
        .with_columns(pl.col("of_category").fill_null(0).cast(pl.Int64))
        .with_columns(clean=pl.when(pl.col("kept_out").is_null()).then("of_category").otherwise(0))
        .sort("series", "category", "hour", nulls_last=True)
    )
    found = []
    for width in specification.buckets:
        own = ["series", "category"]
        bucket = dense.with_columns(
            pl.col("of_category", "clean").rolling_sum(width).over(own), slot=_hour_of_week(zone)
        )
        before = pl.col("clean").shift(1).rolling_sum(specification.weeks, min_samples=1).over(*own, "slot")
        both = bucket.with_columns(before=before)
        of_hour = ["series", "hour"]
        p = pl.col("of_category") / pl.col("of_category").sum().over(of_hour)
        q = pl.col("before") / pl.col("before").sum().over(of_hour)
        divergence = (
            both.with_columns(p=p, q=q)
            .with_columns(middle=(pl.col("p") + pl.col("q")) / 2)
            .group_by(of_hour)
            .agg(
                (_information("p") + _information("q")).sum().alias("divergence"),
                pl.col("of_category").sum().alias("rows"),
                is_known=(pl.col("of_category").sum() > 0) & (pl.col("before").sum() > 0),
            )
            .with_columns(
                observed=pl.when("is_known").then((pl.col("divergence") / 2).clip(0, 1).sqrt()),
                bucket_hours=pl.lit(width, pl.Int64),
            )
        )
        found.append(
            divergence.with_columns(y=pl.col("observed"), value=pl.col("rows")).select(
                "series", "hour", "value", "rows", "bucket_hours", "observed", "y"
            )
        )
    return pl.concat(found).sort("bucket_hours", "series", "hour")


def _information(name: str) -> pl.Expr:
    """What a distribution tells apart from the middle of both, in bits; of a value that it does not have, nothing."""
    share = pl.col(name)
    return pl.when(share > 0).then(share * (share / pl.col("middle")).log(2)).otherwise(0.0)


def _verdicts(
    points: pl.DataFrame, specification: Anomalies, kind: Literal["count", "share", "distance"], zone: ZoneInfo
) -> pl.DataFrame:
    if points.is_empty():
        return pl.DataFrame(schema=VERDICTS)
    own = ["bucket_hours", "series"]
    ordered = points.sort(*own, "hour").with_columns(
        slot=_hour_of_week(zone),
        age=pl.col("hour") - pl.col("hour").min().over("series"),
        is_kept_out=pl.lit(value=False),
    )
    for _ in range(_PASSES):
        told = _against_baseline(ordered, specification, kind)
        # What one bucket tells of an hour is kept out of all: others may have too few rows to tell.
        is_one = pl.col("is_anomaly").any().over("series", "hour")
        told = told.with_columns(is_one=is_one)
        in_a_row = pl.int_range(pl.len()).over(*own, pl.col("is_one").rle_id().over(own))
        # A change is in all of a bucket only when it has lasted for as long.
        lasted = in_a_row - pl.col("bucket_hours")
        adapts_after = specification.adapts_after // _HOUR - 1
        kept_out = told.select(pl.col("is_one") & (lasted < adapts_after)).to_series()
        if kept_out.equals(told["is_kept_out"]):
            break
        ordered = ordered.with_columns(is_kept_out=kept_out)
    # Of each hour the narrowest bucket of which enough is expected; else the widest, where it has what to judge it by.
    width, widest = pl.col("bucket_hours"), specification.buckets[-1]
    place = (
        pl.when("is_enough")
        .then(width)
        .when(pl.col("reason") == "too few rows")
        .then(2 * widest - width)
        .otherwise(2 * widest + width)
    )
    of_hour = told.with_columns(place=place).sort("place").unique(["series", "hour"], keep="first")
    return of_hour.sort("series", "hour").select(VERDICTS.names()).cast(VERDICTS)


def _against_baseline(
    points: pl.DataFrame, specification: Anomalies, kind: Literal["count", "share", "distance"]
) -> pl.DataFrame:
    """Judge every bucket by those before it, but for those that are kept out of baselines."""
    level_hours, pooled_hours = specification.level_over // _HOUR, specification.pooled_over // _HOUR
    parts = []
    for (width,), part in points.group_by("bucket_hours", maintain_order=True):
        apart = int(width)  # buckets nearer than their width share hours
        clean = pl.when(~pl.col("is_kept_out")).then(pl.col("y"))
        known = part.with_columns(clean=clean).with_columns(
            week=pl.col("clean").shift(apart).rolling_median(_WEEK, min_samples=_DAY).over("series")
        )
        # Above or below its week, not as such: after a change for good, hours of the old level and of the new are one.
        above = (pl.col("clean") - pl.col("week")).shift(1)
        seasonal = known.with_columns(
            usual=pl.col("week") + above.rolling_median(specification.weeks, min_samples=1).over("series", "slot")
        )
        level = (pl.col("clean") - pl.col("usual")).shift(apart).rolling_median(level_hours, min_samples=1)
        centred = seasonal.with_columns(centre=pl.col("usual") + level.over("series"))
        residual = (pl.col("clean") - pl.col("centre")).abs().shift(apart)
        spread = residual.rolling_median(pooled_hours, min_samples=min(_LEAST_RESIDUALS, pooled_hours)).over("series")
        parts.append(centred.with_columns(spread=spread * _OF_NORMAL))
    centre, observed = pl.col("centre"), pl.col("observed")
    by_chance: pl.Expr
    if kind == "count":
        expected = (centre.exp() - 0.5).clip(lower_bound=0.0)
        rows = expected
        by_chance = 1 / expected.clip(lower_bound=1.0).sqrt()
    else:
        angle = centre.clip(0.0, pi)
        expected = (angle / 2).sin().pow(2) if kind == "share" else centre.clip(0.0, 1.0)
        rows = pl.col("rows").cast(pl.Float64)
        by_chance = pl.lit(_DISTANCE_NOISE if kind == "distance" else 1.0) / rows.clip(lower_bound=1.0).sqrt()
    k = pl.when(rows < specification.few_rows).then(specification.k_of_few).otherwise(specification.k)
    # Never tighter than chance alone: a quiet fortnight of full hours says nothing of an hour with few rows.
    scale = pl.when(pl.col("spread").is_not_null()).then(pl.max_horizontal("spread", by_chance))
    told = pl.concat(parts).with_columns(expected=expected, scale=scale, k=k, expected_rows=rows)
    least, most = _bounds(specification, kind)
    told = told.with_columns(score=(pl.col("y") - centre) / pl.col("scale"), least=least, most=most)
    has_history = (pl.col("age") >= specification.history) & pl.col("score").is_not_null()
    is_enough = pl.col("expected_rows") >= specification.least_rows
    reason = (
        pl.when(pl.col("age") < specification.history)
        .then(pl.lit("not enough history"))
        .when(observed.is_null())
        .then(pl.lit("no rows"))
        .when(~has_history)
        .then(pl.lit("not enough history"))
        .when(~is_enough)
        .then(pl.lit("too few rows"))
        .when(observed < pl.col("least"))
        .then(pl.lit("too low"))
        .when(observed > pl.col("most"))
        .then(pl.lit("another distribution" if kind == "distance" else "too high"))
        .otherwise(pl.lit("as expected"))
    )
    told = told.with_columns(reason=reason)
    is_judged = ~pl.col("reason").is_in(NOT_JUDGED)
    return told.with_columns(
        pl.when(is_judged).then(pl.col("expected", "least", "most", "score")),
        is_enough=is_enough.fill_null(value=False),
        is_anomaly=is_judged & (pl.col("reason") != "as expected"),
    )


def _bounds(specification: Anomalies, kind: Literal["count", "share", "distance"]) -> tuple[pl.Expr, pl.Expr]:
    """The least and the most that is no anomaly: within k spreads, or a change too small to count."""
    centre, expected = pl.col("centre"), pl.col("expected")
    low, high = centre - pl.col("k") * pl.col("scale"), centre + pl.col("k") * pl.col("scale")
    if kind == "count":
        change = specification.least_change
        return (
            pl.min_horizontal((low.exp() - 0.5).clip(lower_bound=0.0), expected * (1 - change)),
            pl.max_horizontal(high.exp() - 0.5, expected * (1 + change)),
        )
    if kind == "share":
        by = pl.max_horizontal(
            pl.lit(specification.least_share_change),
            specification.least_change * pl.min_horizontal(expected, 1 - expected),
        )
        share = [(bound.clip(0.0, pi) / 2).sin().pow(2) for bound in (low, high)]
        return pl.min_horizontal(share[0], expected - by), pl.max_horizontal(share[1], expected + by)
    return pl.lit(0.0), pl.max_horizontal(high, pl.lit(specification.least_distance))


def _hour_of_week(zone: ZoneInfo) -> pl.Expr:
    """The hour of the week of each hour's beginning, on the clock of a timezone: 0 to 167, from Monday."""
    local = pl.col("hour").dt.convert_time_zone(zone.key)
    return (local.dt.weekday().cast(pl.Int32) - 1) * 24 + local.dt.hour().cast(pl.Int32)
