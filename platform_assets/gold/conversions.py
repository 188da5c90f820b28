"""`gold/conversions`: each order once, and what the touches before it have of it, by each model."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
from deltalake import DeltaTable

from partitions import Window
from platform_assets.gold import fact_events, sessions
from platform_assets.platform import Platform
from platform_assets.publication import Metric, Publication, Reach
from platform_assets.restatement import stale_attributions
from platform_assets.semantics.conversions import MODELS, Attribution, attributed, deduplicated
from platform_assets.semantics.engines import collected
from platform_assets.semantics.identity import PERSONS, joined
from platform_assets.silver import events, persons
from platform_assets.table import MONEY, TIMESTAMP, Column, Plot, Table
from resources.lake import retrying

SPEC = Attribution()
"""How conversions of this table are shared out."""

DIRECT = "direct"
"""The channel of a conversion that no touch led to."""

_CONVERTING = sessions.SPEC.conversion.events or ()
_LONGEST = sessions.SPEC.longest or timedelta(hours=24)
LOOK_BACK_DAYS = -(-(SPEC.look_back + _LONGEST) // timedelta(days=1)) + 1
"""How many days before a conversion the sessions whose campaigns may count can have started; one of them because days
can be shorter than 24 hours."""

TABLE = Table(
    name="gold/conversions",
    description=(
        "What each touch has of each completed order, by each model of attribution. An order counts once, at its first "
        "event. Touches are the first campaigns of the person's sessions within 30 days before. "
        "Filter on one `model`, then sum `amount` by `currency`: each model adds up to what was converted."
    ),
    grain="order × model × touch",
    key=("order_id", "model", "touch"),
    columns=(
        Column("order_id", pl.String(), "The order's id."),
        Column("model", pl.String(), "The model of attribution; if in doubt `last_touch`.", accepted=MODELS),
        Column("touch", pl.Int64(), "Number of the touch, 1 the first; 0 where none led to it.", minimum=0),
        Column("touches", pl.Int64(), "Touches that led to the order.", unit="touches", minimum=0),
        Column("person_id", pl.String(), "Who converted, as `silver/persons` has it.", personal=True),
        Column("converted_at", TIMESTAMP, "Event time of the order's first event."),
        Column("event_id", pl.String(), "Id of that event."),
        Column("session_id", pl.String(), "The session of the touch.", nullable=True, personal=True),
        Column("touched_at", TIMESTAMP, "When the session's first campaign was seen.", nullable=True),
        Column(
            "channel", pl.String(), f"Medium of the touch, else its source, else its campaign; `{DIRECT}` without one."
        ),
        *events.columns("utm_source", "utm_medium", "utm_campaign"),
        Column("credit", pl.Float64(), "The part of the order that the touch has.", unit="orders", minimum=0),
        Column(
            "amount",
            MONEY,
            "The part of the order's amount, to the millionth; null where the event says none.",
            unit="currency units",
            nullable=True,
        ),
        Column("currency", pl.String(), "ISO 4217 currency of `amount`.", nullable=True),
        Column("day", pl.Date(), "Day of the conversion, in the reporting timezone."),
    ),
    partition_by=("day",),
    window_on="day",
    partitions="day",
    cluster_by=("order_id", "model", "touch"),
    update="rebuild",
    service_level=timedelta(hours=6),
    stats=("day", "order_id", "converted_at"),
    steady=False,
    plot=Plot(value="credit", by="channel", only=("model", "last_touch")),
)

PUBLISHES = Publication(
    TABLE,
    metrics=(Metric("credit"), Metric("amount")),
    slices=("model", "channel", "currency"),
    watermark=None,
    definition=None,
    reach={TABLE.name: Reach(before=LOOK_BACK_DAYS), sessions.TABLE.name: sessions.REACH},
    adds_up=True,
    absent=0,
)
"""The numbers that go into `gold/published_numbers`: orders and their amount by model, channel and currency."""

_FIRST = ("order_id", "event_id", "occurred_at", "person_id", "amount", "currency", "day")
_TIES = ("event_id", "source", "client_occurred_at")
_CAMPAIGN = ("utm_source", "utm_medium", "utm_campaign")


def transform(first: pl.LazyFrame, visits: pl.LazyFrame) -> pl.DataFrame:
    """Rows of the table.

    Args:
        first: The orders, each at its first event: ``order_id``, ``event_id``, ``occurred_at``, ``person_id``,
            ``amount``, ``currency``, ``day``.
        visits: Rows of `gold/sessions`.
    """
    campaigns = visits.filter(pl.col("campaign_at").is_not_null())
    touches = campaigns.select("person_id", touch_id="session_id", touched_at="campaign_at")
    sales = first.select("order_id", "person_id", "amount", converted_at="occurred_at")
    shares = collected(attributed(sales, touches, SPEC))
    orders = first.select("order_id", "event_id", "currency", "day").collect()
    known = campaigns.select("session_id", *_CAMPAIGN).collect()
    named = pl.coalesce(*(pl.when(pl.col(c) != "").then(pl.col(c)) for c in ("utm_medium", "utm_source", _CAMPAIGN[2])))
    return (
        shares.rename({"touch_id": "session_id"})
        .join(orders, on="order_id")
        .join(known, on="session_id", how="left")
        .with_columns(touch=pl.col("touch").fill_null(0), channel=named.fill_null(DIRECT))
        .select(TABLE.schema.names())
        .cast(TABLE.schema)
        .sort(TABLE.cluster_by)
    )


def rebuild(platform: Platform, window: Window) -> None:
    """Compute days from `gold/fact_events` and `gold/sessions`, one by one.

    An order that this moves to or from a later day is put right there by the same commit: no other day knows that
    it came or went. Two runs must not do so at once: they share the slot of a pool.
    """
    lake = platform.lake
    for day, span in platform.days(window).items():

        def attempt(day: date = day, span: Window = span) -> None:
            handle = lake.open(TABLE)  # before all that is read: a rival that read later and wrote first is a conflict
            source, visits = lake.open(fact_events.TABLE), lake.open(sessions.TABLE)
            whose = lake.open(persons.TABLE)
            resolution = persons.resolution_of(whose)
            stored = lake.scan(TABLE, handle=handle).select("order_id", "day").unique()
            here = _completed(platform, source, span).select("order_id")
            wanted = pl.concat([here, stored.filter(pl.col("day") == day).select("order_id")]).unique().collect()
            first = _first(platform, source, whose, wanted)
            places = stored.join(wanted.lazy(), on="order_id", how="semi").filter(pl.col("day") > day).collect()
            left = first.filter(pl.col("day") > day)
            moved = pl.concat([places["order_id"], left["order_id"]]).unique().sort()
            of_day = (pl.col("day") == day) | pl.col("order_id").is_in(moved.implode())
            kept = first.filter(of_day)
            rows = transform(kept.lazy(), _visits(platform, visits, kept))
            predicate = f"day = '{day}'"
            if not moved.is_empty():
                predicate += f" OR order_id IN ({', '.join(_quoted(order) for order in moved)})"
            made = lake.write(TABLE, handle, rows, predicate, {}, None)
            number = rows.filter(day=day).height
            platform.record(TABLE, span, fact_events.TABLE, source.version(), made, number)
            platform.record(TABLE, span, sessions.TABLE, visits.version(), made, number)
            platform.record(TABLE, span, persons.TABLE, resolution, made, number)

        retrying(f"rebuild of {TABLE.name}", attempt)


def stale(platform: Platform, ledger: pl.DataFrame, last_day: date) -> set[date]:
    """The days up to ``last_day`` whose facts, persons, or campaigns within the look-back changed after them.

    Args:
        platform: The platform.
        ledger: `ops/computations`.
        last_day: The open day; there is nothing after it.
    """
    lake = platform.lake
    changes = persons.applied_changes(platform)
    return set(
        stale_attributions(
            ledger.filter(table=fact_events.TABLE.name),
            lake.scan(sessions.REACHES).select("day", "touches_version").collect(),
            changes,
            ledger.filter(table=TABLE.name),
            LOOK_BACK_DAYS,
            last_day,
            platform.settings.zone,
        )
    )


def _completed(platform: Platform, source: DeltaTable, window: Window | None = None) -> pl.LazyFrame:
    """The facts that say that an order was completed, repeated ones too."""
    facts = platform.lake.scan(fact_events.TABLE, window, source)
    return facts.filter(pl.col("event_name").is_in(_CONVERTING), pl.col("order_id").is_not_null())


def _first(platform: Platform, source: DeltaTable, whose: DeltaTable, orders: pl.DataFrame) -> pl.DataFrame:
    """Some orders at their first events, over all there is: `_FIRST`."""
    of_orders = _completed(platform, source).join(orders.lazy(), on="order_id", how="semi")
    told = of_orders.select("order_id", "occurred_at", "raw_id", "properties", *_TIES).collect(engine="streaming")
    first = collected(deduplicated(told.lazy(), ties=_TIES))
    text = {name: pl.col("properties").str.json_path_match(f"$.{name}") for name in ("amount", "currency")}
    zone = platform.settings.reporting_timezone
    known = platform.lake.scan(persons.TABLE, handle=whose).select(PERSONS.names())
    return (
        joined(first.lazy(), known)
        .with_columns(
            amount=text["amount"].cast(MONEY, strict=False),
            currency=text["currency"],
            day=pl.col("occurred_at").dt.convert_time_zone(zone).dt.date(),
        )
        .select(_FIRST)
        .collect()
    )


def _visits(platform: Platform, visits: DeltaTable, first: pl.DataFrame) -> pl.LazyFrame:
    """The sessions that may have led to some conversions."""
    days = first["day"].unique().sort().to_list()
    started = platform.lake.scan(sessions.TABLE, handle=visits)
    if not days:
        return started.limit(0)
    early = days[0] - timedelta(days=LOOK_BACK_DAYS)
    return started.filter(pl.col("day").is_between(early, days[-1]), pl.col("campaign_at").is_not_null())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
