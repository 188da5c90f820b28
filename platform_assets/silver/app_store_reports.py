"""`silver/app_store_reports`: downloads and proceeds, by the app stores' own reports."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from platform_assets.feeds.feed import DELIVERED, Feed, Field, count, currency, day, money, text
from platform_assets.table import MONEY, Column, Table

TABLE = Table(
    name="silver/app_store_reports",
    description=(
        "Downloads and proceeds as the app stores report them, from the files of the feed `app_store_reports`. A "
        "corrected file of the same name replaces what its earlier version brought; of files with different names, "
        "what landed last stands."
    ),
    grain="day × store × app × country",
    key=("day", "store", "app_id", "country"),
    columns=(
        Column("day", pl.Date(), "Day in the store's reporting timezone."),
        Column("store", pl.String(), "`app_store`, `google_play`, …"),
        Column("app_id", pl.String(), "The app's id in the store."),
        Column("country", pl.String(), "ISO 3166 country of the store front."),
        Column("downloads", pl.Int64(), "First-time downloads.", unit="downloads", minimum=0),
        Column("updates", pl.Int64(), "Updates.", unit="updates", nullable=True, minimum=0),
        Column("proceeds", MONEY, "What the developer gets; refunds are negative.", unit="currency units"),
        Column("currency", pl.String(), "ISO 4217 currency of `proceeds`."),
        *DELIVERED,
    ),
    partition_by=("day",),
    window_on="day",
    partitions="day",
    cluster_by=("store", "app_id"),
    update="landed; rebuild",
    service_level=timedelta(hours=60),
    stats=("day",),
)

FEED = Feed(
    table=TABLE,
    fields=(
        Field("day", day, ("date", "begin_date")),
        Field("store", text),
        Field("app_id", text, ("sku", "package_name")),
        Field("country", text, ("country_code",)),
        Field("downloads", count, ("units", "installs")),
        Field("updates", count),
        Field("proceeds", money, ("developer_proceeds",)),
        Field("currency", currency, ("currency_of_proceeds", "currency_code")),
    ),
)
