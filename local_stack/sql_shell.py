"""`headwater sql` without a query: a shell over the catalog, one statement after another."""

from __future__ import annotations

import readline
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import duckdb
import polars as pl
from rich.console import Console
from rich.markup import escape

from platform_assets.serving.catalog import UNREADABLE, Catalog, UnknownTable
from platform_assets.table import meanings

HINT = "A statement ends with ;  .tables lists the tables, .schema NAME says what one holds, .quit leaves."
_REFUSALS = (*UNREADABLE, UnknownTable, pl.exceptions.PolarsError)
_ASK, _MORE = "headwater> ", "       ...> "
_SHOWN = 200
_WIDEST_TEXT = 60
_NARROWEST = 8
"""What a column needs at least, in signs: Polars goes down to three of a text."""
_ENDLESS = -1
_POLL = 0.05


def shell(catalog: Catalog, console: Console, read: Callable[[str], str] = input) -> int:
    """Read statements until `.quit` or the end of the input, and answer each. Ctrl-C cancels the one at hand.

    Args:
        catalog: What is asked.
        console: Where answers go; tables are cut to its width.
        read: Gives the next line, after a prompt.
    """
    readline.set_completer(_completer(catalog))
    readline.set_completer_delims(" \t\n,;()")
    readline.parse_and_bind("tab: complete")
    console.print(HINT, highlight=False)
    lines: list[str] = []
    while True:
        try:
            lines.append(read(_MORE if lines else _ASK))
            statement = "\n".join(lines).strip()
            if statement.rstrip(";").strip() == ".quit":
                return 0
            if not statement.rstrip(";").strip():
                lines = []
            elif statement.startswith(".") or _is_whole(statement):
                lines = []
                respond(catalog, console, statement)
        except EOFError:
            console.print()
            return 0
        except KeyboardInterrupt:
            lines = []
            console.print()


def respond(catalog: Catalog, console: Console, asked: str) -> int:
    """Print the answer to each of some statements, or to a word with a dot; 1 where there is none.

    A Ctrl-C that comes meanwhile cancels it, and what follows.
    """
    asked = asked.strip().rstrip(";")
    word, _, rest = asked.partition(" ")
    if word == ".tables":
        for name, description in sorted(_descriptions(catalog).items()):
            console.print(f"[bold]{name}[/]  {escape(description.partition('. ')[0].rstrip('.'))}", highlight=False)
        return 0
    if word == ".schema":
        return _schema(catalog, console, rest.strip().lower())
    if word.startswith("."):
        console.print(f"[red]there is no {escape(word)}; there are .tables, .schema NAME and .quit[/]", highlight=False)
        return 1
    try:
        statements = catalog.statements(asked)
    except duckdb.Error as error:
        console.print(f"[red]{escape(str(error))}[/]", highlight=False)
        return 1
    return int(any(_answer(catalog, console, statement) for statement in statements))


def _is_whole(statement: str) -> bool:
    """Whether a statement ends with a semicolon that is part of no text, name or comment."""
    return statement.endswith(";") and duckdb.tokenize(statement)[-1][1] == duckdb.token_type.operator


def _answer(catalog: Catalog, console: Console, statement: str) -> int:
    cancelled = False
    with ThreadPoolExecutor(max_workers=1) as asking:
        answer = asking.submit(catalog.sql, statement)
        while not answer.done():
            try:
                wait([answer], _POLL)  # a longer wait would not end: with Polars loaded, a signal starts it anew
                if cancelled:  # again and again: it may not have begun yet
                    catalog.interrupt()
            except KeyboardInterrupt:
                cancelled = True
        if cancelled:
            console.print("cancelled")
            return 1
        try:
            found = answer.result()
        except _REFUSALS as error:
            console.print(f"[red]{escape(str(error))}[/]", highlight=False)
            return 1
    if not found.width:  # of a statement without an answer
        return 0
    cut = console.is_terminal  # what goes into a file is not
    for text in _told(found, console):
        console.print(text, highlight=False, markup=False, soft_wrap=not cut, no_wrap=cut, overflow="crop")
    return 0


def _told(found: pl.DataFrame, console: Console) -> Iterator[str]:
    """An answer to read: a table; on a terminal that is too narrow for its columns row by row; in a file as wide as
    it is.
    """
    if console.is_terminal and found.width * _NARROWEST > console.width:
        names = max(map(len, found.columns))
        yield f"{found.height} rows of {found.width} columns"
        for number, row in enumerate(found.head(_SHOWN).iter_rows(named=True), 1):
            yield f"── {number} ──"
            yield from (f"{name:>{names}}  {'null' if value is None else value}" for name, value in row.items())
        return
    width = console.width if console.is_terminal else _ENDLESS
    with pl.Config(tbl_rows=_SHOWN, tbl_cols=-1, tbl_width_chars=width, fmt_str_lengths=_WIDEST_TEXT):
        yield str(found)


def _schema(catalog: Catalog, console: Console, name: str) -> int:
    if name in catalog.tables:
        said = meanings(catalog.tables[name])
    elif name in catalog.views:
        said = dict(catalog.views[name].columns)
    else:
        console.print(f"[red]{escape(catalog.no_table(name))}[/]", highlight=False)
        return 1
    console.print(_descriptions(catalog)[name], highlight=False, markup=False)
    try:
        empty = catalog.sql(f"SELECT * FROM {name} LIMIT 0")
    except _REFUSALS as error:
        console.print(f"[red]{escape(str(error))}[/]", highlight=False)
        return 1
    for column, dtype in empty.schema.items():
        console.print(f"  [bold]{column}[/] [cyan]{escape(str(dtype))}[/]  {escape(said[column])}", highlight=False)
    return 0


def _descriptions(catalog: Catalog) -> dict[str, str]:
    of_tables = {name: table.description for name, table in catalog.tables.items()}
    return of_tables | {name: view.description for name, view in catalog.views.items()}


def _completer(catalog: Catalog) -> Callable[[str, int], str | None]:
    def complete(text: str, state: int) -> str | None:
        fitting = sorted(name for name in _descriptions(catalog) if name.startswith(text.lower()))
        return fitting[state] if state < len(fitting) else None

    return complete
