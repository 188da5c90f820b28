"""`headwater api` and `headwater sql`: the lake read by other programs, and by people who know SQL."""

from __future__ import annotations

import duckdb
import polars as pl
from rich.console import Console
from rich.markup import escape

from platform_assets.definitions import publications_of, tables
from platform_assets.gold.metric_numbers import own_metrics, own_numbers
from platform_assets.serving.catalog import Catalog, NotReadable
from resources.lake import Lake
from resources.settings import Settings

_SHOWN = 200


def serve(settings: Settings, console: Console, host: str, port: int) -> int:
    """Serve published numbers over HTTP until it is stopped; 1 where that cannot be begun."""
    # They take a second to import, which nobody who asks by SQL need wait for.
    import uvicorn  # noqa: PLC0415

    from platform_assets.serving.api import create_app  # noqa: PLC0415

    _tell_wrong(console)
    try:
        catalog = Catalog(Lake.from_settings(settings), tables())
        app = create_app(catalog, publications_of(own_numbers()), settings)
    except (NotReadable, ValueError) as error:
        console.print(f"[red]{escape(str(error))}[/]", highlight=False)
        return 1
    uvicorn.run(app, host=host, port=port, log_level="warning")
    return 0


def ask(settings: Settings, console: Console, query: str) -> int:
    """Print the answer to a query, of the newest versions of the tables; 1 where there is none."""
    _tell_wrong(console)
    try:
        with Catalog(Lake.from_settings(settings), tables()) as catalog:
            found = catalog.sql(query)
    except (NotReadable, FileNotFoundError, duckdb.Error) as error:
        console.print(f"[red]{escape(str(error))}[/]", highlight=False)
        return 1
    with pl.Config(tbl_rows=_SHOWN, tbl_cols=-1, tbl_width_chars=console.width, fmt_str_lengths=60):
        console.print(str(found), highlight=False, markup=False)
    return 0


def _tell_wrong(console: Console) -> None:
    """Say which files of metrics are wrong: their tables are not there."""
    if own_metrics().wrong:
        console.print(f"[red]{escape(own_metrics().faults)}[/]", highlight=False)
