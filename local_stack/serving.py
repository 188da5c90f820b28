"""`headwater dashboard`, `api` and `sql`: the lake read by people, other programs, and people who know SQL."""

from __future__ import annotations

import os

import duckdb
import polars as pl
from rich.console import Console
from rich.markup import escape

from local_stack.process import is_free
from platform_assets.definitions import publications_of, tables
from platform_assets.gold.metric_numbers import own_numbers
from platform_assets.serving.catalog import Catalog, NotReadable
from resources.lake import Lake
from resources.settings import Settings, environment_name

_SHOWN = 200


def serve(settings: Settings, console: Console, host: str, port: int) -> int:
    """Serve published numbers over HTTP until it is stopped; 1 where that cannot be begun."""
    # They take a second to import, which nobody who asks by SQL need wait for.
    import uvicorn  # noqa: PLC0415

    from platform_assets.serving.api import create_app  # noqa: PLC0415

    try:
        catalog = Catalog(Lake.from_settings(settings), tables())
        app = create_app(catalog, publications_of(own_numbers()), settings)
    except (NotReadable, ValueError) as error:
        console.print(f"[red]{escape(str(error))}[/]", highlight=False)
        return 1
    uvicorn.run(app, host=host, port=port, log_level="warning")
    return 0


def show(settings: Settings, console: Console, host: str, port: int) -> int:
    """Serve the dashboard until it is stopped; 1 where that cannot be begun."""
    if not is_free(host, port):
        console.print(f"port {port} on {host} is in use; choose another with --port", highlight=False)
        return 1
    # It takes seconds to import, which a refusal need not wait for.
    from platform_assets.serving.dashboard import server  # noqa: PLC0415

    os.environ[environment_name("lake_url")] = settings.lake_url  # its pages read the settings from there
    try:
        Catalog(Lake.from_settings(settings), ())
    except NotReadable as error:
        console.print(f"[red]{escape(str(error))}[/]", highlight=False)
        return 1
    console.print(f"dashboard on http://{host}:{port}", highlight=False)
    server.run(host, port)
    return 0


def ask(settings: Settings, console: Console, query: str) -> int:
    """Print the answer to a query, of the newest versions of the tables; 1 where there is none."""
    try:
        with Catalog(Lake.from_settings(settings), tables()) as catalog:
            found = catalog.sql(query)
    except (NotReadable, FileNotFoundError, duckdb.Error) as error:
        console.print(f"[red]{escape(str(error))}[/]", highlight=False)
        return 1
    with pl.Config(tbl_rows=_SHOWN, tbl_cols=-1, tbl_width_chars=console.width, fmt_str_lengths=60):
        console.print(str(found), highlight=False, markup=False)
    return 0
