"""`silver/ad_spend`: what advertising cost, and what it brought, by the networks' own reports."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from platform_assets.feeds.feed import DELIVERED, Feed, Field, count, currency, day, money, text
from platform_assets.table import MONEY, Column, Table

TABLE = Table(
    name="silver/ad_spend",
    description=(
        "Advertising spend as the networks report it, from the files of the feed `ad_spend`. A corrected file of the "
        "same name replaces what its earlier version brought; of files with different names, what landed last stands."
    ),
    grain="day × network × campaign × country",
    key=("day", "network", "campaign", "country"),
    columns=(
        Column("day", pl.Date(), "Day in the network's reporting timezone."),
        Column("network", pl.String(), "The advertising network: `google`, `meta`, …"),
        Column("campaign", pl.String(), "Campaign, as in `utm_campaign`."),
        Column("country", pl.String(), "ISO 3166 country; `ZZ` where the network does not tell."),
        Column("spend", MONEY, "What was spent; a credit is negative.", unit="currency units"),
        Column("currency", pl.String(), "ISO 4217 currency of `spend`."),
        Column("impressions", pl.Int64(), "Times shown.", unit="impressions", nullable=True, minimum=0),
        Column("clicks", pl.Int64(), "Clicks.", unit="clicks", nullable=True, minimum=0),
        *DELIVERED,
    ),
    partition_by=("day",),
    window_on="day",
    partitions="day",
    cluster_by=("network", "campaign"),
    update="landed; rebuild",
    service_level=timedelta(hours=36),
    stats=("day",),
)

FEED = Feed(
    table=TABLE,
    fields=(
        Field("day", day, ("date", "report_date")),
        Field("network", text, ("platform", "source")),
        Field("campaign", text, ("campaign_name", "utm_campaign")),
        Field("country", text, ("country_code",)),
        Field("spend", money, ("cost", "amount_spent")),
        Field("currency", currency, ("currency_code",)),
        Field("impressions", count),
        Field("clicks", count),
    ),
)
