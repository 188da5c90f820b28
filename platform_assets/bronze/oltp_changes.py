"""`bronze/oltp_changes`: what changed in the relational database, byte for byte."""

from __future__ import annotations

from platform_assets.bronze.records import received

TABLE = received(
    "bronze/oltp_changes", "Change events of the relational database, in the Debezium envelope,", steady=False
)
