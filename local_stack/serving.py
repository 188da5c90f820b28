"""`headwater dashboard`, `api`, `sql`, `warehouse`: the lake read by people, by programs, and by SQL."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from local_stack.process import is_free
from local_stack.sql_shell import respond, shell
from platform_assets.gold.metric_numbers import own_metrics, own_numbers
from platform_assets.platform import Platform
from platform_assets.serving import warehouse
from platform_assets.serving.catalog import Catalog, NotReadable
from platform_assets.serving.views import VIEWS
from platform_assets.tables import publications_of, tables
from resources.lake import Lake
from resources.settings import Settings, environment_name
from resources.warehouse import NoWarehouse, Warehouse


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


def ask(settings: Settings, console: Console, query: str | None) -> int:
    """Print the answer to a query, of the newest versions of the tables, or open a shell; 1 where there is none."""
    _tell_wrong(console)
    try:
        catalog = Catalog(Lake.from_settings(settings), tables(), VIEWS)
    except NotReadable as error:
        console.print(f"[red]{escape(str(error))}[/]", highlight=False)
        return 1
    with catalog:
        return shell(catalog, console) if query is None else respond(catalog, console, query)


def refresh_warehouse(settings: Settings, console: Console, copy: Path | None) -> int:
    """Make the warehouse anew, or write a copy for another machine; 1 where that cannot be done."""
    platform, declared = Platform.from_settings(settings), tables()
    try:
        if copy is not None:
            copied = warehouse.copy(platform, declared, copy)
            console.print(f"{copy}: {len(copied)} gold tables, without personal data", highlight=False)
            return 0
        made = warehouse.refresh(platform, warehouse.served(declared))
        console.print(f"{Warehouse.from_settings(settings).path}: {len(made)} tables", highlight=False)
    except (NotReadable, NoWarehouse) as error:
        console.print(f"[red]{escape(str(error))}[/]", highlight=False)
        return 1
    return 0


def _tell_wrong(console: Console) -> None:
    """Say which files of metrics are wrong: their tables are not there."""
    if own_metrics().wrong:
        console.print(f"[red]{escape(own_metrics().faults)}[/]", highlight=False)
