"""Mozilla's tables of activity (bigquery-etl), dialect ``mozilla``: what they say of clients, by our functions.

A case is a table of theirs: what it is computed from, the parameters of the run, and the rows expected. Which of our
numbers a table holds is told by the columns of its rows, never by its name:

- ``days_*_bits``: histories a day on (`next_day`, `history_on`). Bit 0 of ``days_seen_bits`` is the client's row of
  the day, of the others what their name says (``visited_5_uri``: at least 5), or a mark of that name in the row; where
  the name does not say it, bit 0 is taken as expected, and the ageing of the others is what is compared. A profile
  counts as created only within a week of its day.
- Numbers of users (``dau``, ``weekly_users``, ``*_count``) by some columns: `active_users` of the marks or bits of
  each client as histories. A table of ids only narrows down who counts (``tou_…``).
- ``resurrections``: active on the day, with no bit in the 28 days before (`history_before`); retained in week *n*: a
  bit in its last 7 days (`was_active_between`). Their label of how long somebody was away is not ours; that it holds
  the number of days is compared.
- A client's ``first_seen_date``: `firsts`. Some of their tables list only the clients that are new, others all.
- A client and a ``submission_date``: `active_days`. What they pick or add up of the day's rows beside is theirs.
- ``valid_from`` and ``valid_to``, out of a log of changes: `versions`, and `as_it_was` where a second history joins in.
  ``was_active_at_month_start`` and ``…_end``: `as_it_was` at those instants.

Beside these, columns that rows carry along are compared where they have the same name; all the other columns are
theirs alone (names of apps, picked attributes). Values are compared by what they say: ``"10"`` is 10.0, a day is its
midnight, an empty list and ``??`` are no value. In their format a case whose name begins with ``test_init`` fills the
table from all of history; any other computes the day that a parameter names.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import yaml

from platform_assets.semantics.activity import (
    ActiveUsers,
    active_days,
    active_users,
    history_before,
    history_on,
    next_day,
    was_active_between,
)
from platform_assets.semantics.dialects import said_in
from platform_assets.semantics.dimensions import END_OF_TIME, as_it_was, versions
from platform_assets.semantics.engines import collected, lazy
from platform_assets.semantics.firsts import firsts
from tests.conformance.outcome import OutOfScope

FAMILY = "activity_tables"
DIALECT = "mozilla"
ACTIVE = said_in(DIALECT, ActiveUsers)

Row = Mapping[str, Any]
UTC_ZONE = ZoneInfo("UTC")

IDS = ("client_id", "user_id", "user_id_sha256", "uid")
"""Columns that say who, in their tables; the first that a table has."""

TIMES = ("submission_timestamp", "submission_timestamp_min", "timestamp", "submission_date")
"""Columns that say when a row came; the first that it has."""

BITS = re.compile(r"^days_(.+)_bits$")
CREATED = ("profile_creation_date", "first_run_date")
TRUSTED = timedelta(days=7)
"""A profile said to be created longer ago than this is not believed by them."""

FLAGS = {
    ("dau", "wau", "mau"): (("is_dau", "is_wau", "is_mau"), "days_active_bits"),
    ("daily_users", "weekly_users", "monthly_users"): (
        ("is_daily_user", "is_weekly_user", "is_monthly_user"),
        "days_seen_bits",
    ),
}
"""Names of the three numbers, the marks of a client that say them, and the bits that do."""

COUNTED_OF = re.compile(r"^(.+)_(daily|weekly|monthly)_active_users$")
POPULATIONS = ("is_desktop", "is_mobile")

CRITERIA: Mapping[str, tuple[frozenset[str], datetime]] = {
    "tou_accept": (
        frozenset({"terms_of_use#accepted", "onboarding#terms_of_service_accepted"}),
        datetime(2023, 1, 1, tzinfo=UTC),
    )
}
"""Of a criterion named in `events_first_seen`: the events that meet it, and since when, as their query has it."""


@dataclass(frozen=True)
class Case:
    """A test of one of their tables.

    Attributes:
        dataset: The dataset of the table.
        table: The table.
        name: The test.
        inputs: Rows of the tables that it is computed from, by ``dataset.table``.
        params: Parameters of the run.
        expected: Its rows.
    """

    dataset: str
    table: str
    name: str
    inputs: Mapping[str, Sequence[Row]]
    params: Mapping[str, Any]
    expected: Sequence[Row]

    def __str__(self) -> str:
        return f"{self.dataset}/{self.table}/{self.name}"

    @property
    def suite(self) -> str:
        """The kind of the table, for the summary."""
        found = kind(self)
        return found[0] if found else "of no kind of ours"

    @property
    def is_init(self) -> bool:
        """Whether the table is filled from all of history."""
        return self.name.startswith("test_init")

    @property
    def day(self) -> date:
        """The day computed."""
        for value in (self.params.get("submission_date"), *(v for v in self.params.values() if _day(v))):
            if (found := _day(value)) is not None:
                return found
        msg = f"{self}: no parameter names a day; there are {', '.join(self.params) or 'none'}"
        raise ValueError(msg)


def cases(folder: Path) -> Iterator[Case]:
    """The cases below ``<dataset>/<table>/<test>``."""
    for test in sorted(folder.glob("*/*/*/")):
        files = {
            path.name: path for path in sorted(test.iterdir()) if path.suffix in {".yaml", ".yml", ".ndjson", ".json"}
        }
        expected = next((path for name, path in files.items() if name.startswith("expect.")), None)
        if expected is None:
            continue
        params = _rows(files["query_params.yaml"]) if "query_params.yaml" in files else []
        inputs = {
            ".".join(path.stem.split(".")[-2:]): _rows(path)
            for name, path in files.items()
            if path != expected and name != "query_params.yaml"
        }
        yield Case(
            test.parent.parent.name,
            test.parent.name,
            test.name,
            inputs,
            {param["name"]: param["value"] for param in params},
            _rows(expected),
        )


def run(case: Case) -> None:
    """Compute what is ours of a table, and compare.

    Raises:
        AssertionError: It is not what they expect.
        OutOfScope: The table holds no number of ours, by the rule that the message says.
    """
    found = kind(case)
    if found is None:
        msg = "tables whose columns say neither who was active when, nor how many, nor what was valid from when to when"
        raise OutOfScope(msg)
    found[1](case)


def kind(case: Case) -> tuple[str, Callable[[Case], None]] | None:
    """What kind of a table it is, by the columns of its rows, and what runs that kind."""
    columns = _columns(case.expected)
    named = {name for rows in case.inputs.values() for name in _columns(rows)}
    has_id = any(name in columns for name in IDS)
    kinds: list[tuple[bool, str, Callable[[Case], None]]] = [
        (any(name.endswith("_bytes") for name in columns), "histories of a year", _year_refused),
        ("visitId" in named or "ga_session_id" in columns, "sessions of a vendor", _sessions_refused),
        (any(BITS.match(name) for name in columns), "last seen", _last_seen),
        (any(name.startswith("resurrections") for name in columns), "retention", _resurrections),
        (any(name in columns for names in FLAGS for name in names), "active users", _aggregates),
        ({"month_start_date", "was_active_at_month_end"} <= columns, "monthly subscriptions", _months),
        ({"valid_from", "valid_to"} <= columns, "versions", _versions),
        (bool({"firestore_export_operation", "type"} & columns) and "timestamp" in columns, "logs", _logs_refused),
        (has_id and "first_submission_timestamp" in columns, "first events", _first_events),
        (has_id and "first_seen_date" in columns and "is_new_profile" not in columns, "first seen", _first_seen),
        (has_id and "submission_date" in columns, "daily", _daily),
        (not has_id and any(name.endswith("_count") for name in columns), "counts of a day", _counts),
    ]
    return next(((name, runs) for matches, name, runs in kinds if matches), None)


# Histories.


def _year_refused(_: Case) -> None:
    msg = "histories of a year, kept as bytes: ours are of 28 days"
    raise OutOfScope(msg)


def _last_seen(case: Case) -> None:
    columns, today = _columns(case.expected), case.day
    if not case.expected and case.is_init:
        msg = "a run that only makes an empty table"
        raise OutOfScope(msg)
    bits = sorted(name for name in columns if BITS.match(name))
    who = _key(case, [name for name in (*IDS, "service") if name in columns])
    sources = {name: rows for name, rows in case.inputs.items() if any(BITS.match(c) for c in _columns(rows))}
    own = _own(case)
    before = [
        row for row in case.inputs.get(own, ()) if _day(row.get("submission_date")) in (None, today - timedelta(days=1))
    ]
    others = {name: rows for name, rows in case.inputs.items() if name != own}
    if own not in case.inputs and len(sources) > 0:
        _joined_histories(case, sources, bits, who)
        return
    firsts_of = {
        name: rows
        for name, rows in others.items()
        if "first_seen_date" in _columns(rows) and "submission_date" not in _columns(rows)
    }
    daily = [
        row
        for name, rows in others.items()
        if name not in firsts_of
        for row in rows
        if _day(_time(row)) == today and all(row.get(c) is not None for c in who[:1])
    ]
    now, past = {_of(row, who): row for row in daily}, {_of(row, who): row for row in before}
    expected = {_of(row, who): row for row in case.expected}
    assert len(expected) == len(case.expected), "a client has two rows"
    found = {column: _a_day_on(column, now, past, expected, today) for column in bits}
    seen = found.get("days_seen_bits") or {key: 1 for column in bits for key in found[column]}
    assert set(expected) == set(seen), "who has a row"
    for key, row in expected.items():
        for column in bits:
            _assert_same(found[column].get(key, 0), row.get(column) or 0, f"{column} of {key}")
        carried = {**(now.get(key) or past[key]), "submission_date": today}
        for rows in firsts_of.values():
            carried |= next((dict(first) for first in rows if _of(first, who[:1]) == key[:1]), {})
        first = _day(carried.get("first_seen_date"))
        carried["is_new_profile"] = None if first is None else first == today
        for column in set(carried) & set(row) - set(bits):
            if column != "is_new_profile" or first is not None:
                _assert_same(carried[column], row[column], f"{column} of {key}")


def _a_day_on(
    column: str, now: Mapping[Any, Row], past: Mapping[Any, Row], expected: Mapping[Any, Row], today: date
) -> dict[Any, int]:
    """A column of bits a day later, by each of the two ways that we have."""
    yesterday = {key: int(row.get(column) or 0) for key, row in past.items()}
    days = [(key, today - timedelta(days=1 + ago)) for key, held in yesterday.items() for ago in _set_bits(held)]
    active = []
    for key, row in now.items():
        if column == "days_created_profile_bits":
            made = _day(next((row[name] for name in CREATED if row.get(name) is not None), None))
            if made is not None and today - made <= TRUSTED:
                days.append((key, made))
            continue
        says = _says(column, row)
        if says is None:
            says = bool(int((expected.get(key) or {}).get(column) or 0) & 1)
        if says:
            active.append(key)
    at_once = _histories([*days, *((key, today) for key in active)], today)
    if column != "days_created_profile_bits":
        keys = list({*yesterday, *active})
        numbered = {key: number for number, key in enumerate(keys)}
        held = pl.DataFrame(
            [(numbered[key], history) for key, history in yesterday.items()],
            schema={"person_id": pl.Int64, "history": pl.Int32},
            orient="row",
        )
        come = pl.DataFrame({"person_id": [numbered[key] for key in active]}, schema={"person_id": pl.Int64})
        rolled = {keys[n]: history for n, history in collected(next_day(held, come)).iter_rows()}
        assert rolled == at_once, f"{column}: a day on is not what the days say at once"
    return at_once


def _says(column: str, row: Row) -> bool | None:
    """Whether a client's row of the day sets bit 0; None where the column's name does not tell."""
    matched = BITS.match(column)
    assert matched is not None
    name = matched[1]
    if name == "seen":
        return True
    for mark in (column, name, f"is_{name}"):
        if mark in row:
            return bool(row[mark])
    at_least = re.match(r"^visited_(\d+)_uri$", name)
    uris = "scalar_parent_browser_engagement_total_uri_count_sum"
    if at_least and any("uri_count" in key for key in row):
        return (row.get(uris) or 0) >= int(at_least[1])
    if name == "opened_dev_tools" and "devtools_toolbox_opened_count_sum" in row:
        return bool((row["devtools_toolbox_opened_count_sum"] or 0) > 0)
    return None


def _joined_histories(
    case: Case, sources: Mapping[str, Sequence[Row]], bits: Sequence[str], who: Sequence[str]
) -> None:
    """Histories of one day out of several tables: each is what its days say."""
    expected = {_of(row, who): row for row in case.expected}
    told: dict[str, dict[Any, int]] = {column: {} for column in bits}
    for rows in sources.values():
        for row in rows:
            at = _day(row.get("submission_date")) or case.day
            for column in set(bits) & set(row):
                days = [(_of(row, who), at - timedelta(days=ago)) for ago in _set_bits(int(row[column] or 0))]
                told[column] |= _histories(days, at)
    base = next((rows for rows in sources.values() if "days_seen_bits" in _columns(rows)), next(iter(sources.values())))
    assert set(expected) == {_of(row, who) for row in base if _day(row.get("submission_date")) in (None, case.day)}
    for key, row in expected.items():
        for column in bits:
            _assert_same(told[column].get(key, 0), row.get(column) or 0, f"{column} of {key}")


def _histories(days: Iterable[tuple[Any, date]], at: date) -> dict[Any, int]:
    keys: dict[Any, int] = {}
    rows = [(keys.setdefault(key, len(keys)), day) for key, day in days]
    frame = pl.DataFrame(rows, schema={"person_id": pl.Int64, "day": pl.Date}, orient="row")
    back = list(keys)
    return {back[number]: history for number, history in collected(history_on(frame, at)).iter_rows()}


def _set_bits(history: int) -> list[int]:
    return [ago for ago in range(ACTIVE.monthly) if history >> ago & 1]


# Numbers of users.


def _aggregates(case: Case) -> None:
    wanted, columns = case.expected, _columns(case.expected)
    counted = {names: says for names, says in FLAGS.items() if set(names) & columns}
    cohorts = {
        name: {_of(row, IDS[:1]) for row in rows if (_day(row.get("submission_date")) or case.day) <= case.day}
        for name, rows in case.inputs.items()
        if rows and _columns(rows) <= {*IDS, "submission_date", "sample_id"}
    }
    of_cohort = {name: matched[2] for name in columns if (matched := COUNTED_OF.match(name))}
    tables = {name: rows for name, rows in case.inputs.items() if name not in cohorts}
    numbers = {name for names in counted for name in names if name in columns} | set(of_cohort)
    if "new_profiles" in columns:
        numbers.add("new_profiles")
    carried = set.union(set(), *(_columns(rows) for rows in tables.values()))
    if "first_seen_date" in carried:
        carried.add("first_seen_year")
    by = sorted((columns & carried) - numbers - {"submission_date"})
    clients = []
    for table, rows in tables.items():
        cohort = next((ids for name, ids in cohorts.items() if name.split(".")[0] == table.split(".")[0]), set())
        for number, row in enumerate(rows):
            if _day(row.get("submission_date")) != case.day or any(row.get(flag) is False for flag in POPULATIONS):
                continue
            client: dict[str, Any] = {"__table": table, "__number": number}
            client |= {name: _text(_dimension(row, name)) for name in by}
            for names, (flags, bits) in counted.items():
                client["__" + names[0]] = _as_history(row, flags, bits)
            client["__cohort"] = client.get("__dau", 0) if _of(row, IDS[:1]) in cohort else 0
            client["__new"] = int(_is_new(row))
            clients.append(client)
    assert clients, "nobody is counted"
    frame = pl.DataFrame(clients, infer_schema_length=None)
    slices = ["__table", *by]
    found = frame.select(slices).unique()
    parts = [(ACTIVE.windows, "__" + names[0], names) for names in counted]
    if of_cohort:
        parts.append((ACTIVE.windows, "__cohort", _cohort_names(of_cohort)))
    for windows, history, names in parts:
        told = collected(active_users(frame, slices, windows, history)).drop("stickiness")
        renamed = told.rename(dict(zip(windows, names, strict=True)))
        found = found.join(renamed, on=slices, nulls_equal=True)
    if "new_profiles" in numbers:
        new = frame.group_by(slices).agg(new_profiles=pl.col("__new").sum())
        found = found.join(new, on=slices, nulls_equal=True)
    names = [*by, *sorted(numbers)]
    _assert_rows(found.select(names).rows(), [[row.get(name) for name in names] for row in wanted], names)
    assert {_day(row.get("submission_date")) for row in wanted} <= {case.day, None}


def _cohort_names(of_cohort: Mapping[str, str]) -> tuple[str, ...]:
    named = {span: name for name, span in of_cohort.items()}
    return tuple(named.get(span, f"__{span}") for span in ("daily", "weekly", "monthly"))


def _as_history(row: Row, flags: Sequence[str], bits: str) -> int:
    """A client's marks as a history: a bit of today, of the last 7, of the last 28 days."""
    if any(flag in row for flag in flags):
        return sum(1 << ago for flag, ago in zip(flags, (0, 6, 27), strict=True) if row.get(flag))
    return int(row.get(bits) or 0)


def _dimension(row: Row, name: str) -> Any:
    if name == "first_seen_year" and name not in row:
        first = _day(row.get("first_seen_date"))
        return None if first is None else first.year
    return row.get(name)


def _is_new(row: Row) -> bool:
    if "is_new_profile" in row:
        return bool(row["is_new_profile"])
    first = _day(row.get("first_seen_date"))
    return first is not None and first == _day(row.get("submission_date"))


def _resurrections(case: Case) -> None:
    columns = _columns(case.expected)
    retained = next((name for name in columns if re.match(r"^resurrections_retained_wk\d$", name)), None)
    week = int(retained[-1]) if retained else 2
    at = case.day - timedelta(days=7 * week - 1)
    (rows,) = (rows for rows in case.inputs.values() if "is_dau" in _columns(rows))
    active = [(row["client_id"], _day(row["submission_date"])) for row in rows if row.get("is_dau")]
    days = pl.DataFrame(active, schema={"person_id": pl.String, "day": pl.Date}, orient="row")
    then = set(collected(history_on(days.filter(pl.col("day") == at), at))["person_id"])
    lately = set(collected(history_before(days, at))["person_id"])
    held = pl.DataFrame(
        [
            (row["client_id"], int(row.get("days_active_bits") or 0))
            for row in rows
            if _day(row["submission_date"]) == case.day
        ],
        schema={"person_id": pl.String, "history": pl.Int32},
        orient="row",
    )
    back = set(collected(lazy(held).filter(was_active_between(0, 6)))["person_id"])
    by = sorted((columns & _columns(rows)) - {"submission_date"})
    groups: dict[tuple[str | None, ...], Counter[str]] = {}
    away: dict[tuple[str | None, ...], set[int]] = {}
    for row in rows:
        client = row["client_id"]
        if client not in then or _day(row["submission_date"]) != at:
            continue
        earlier = [day for other, day in active if other == client and day is not None and day < at]
        group = tuple(_text(row.get(name)) for name in by)
        is_back = bool(earlier) and client not in lately
        counted = groups.setdefault(group, Counter())
        counted += Counter({"dau": 1, "resurrections": int(is_back), "retained": int(is_back and client in back)})
        if is_back:
            away.setdefault(group, set()).add((at - max(earlier)).days)
    found = [(*group, n["dau"], n["resurrections"], n["retained"]) for group, n in groups.items()]
    names = [*by, "dau", "resurrections", *([retained] if retained else [])]
    wanted = [[row.get(name) for name in names] for row in case.expected]
    _assert_rows([row[: len(names)] for row in found], wanted, names)
    for row in case.expected:
        bounds = [int(number) for number in re.findall(r"\d+", str(row.get("num_days_since_last_seen", "")))]
        group = tuple(_text(row.get(name)) for name in by)
        if len(bounds) == 2:
            assert all(bounds[0] <= days <= bounds[1] for days in away.get(group, ())), "days since last seen"
        assert _day(row.get("metric_date")) in (None, at)


def _counts(case: Case) -> None:
    """Clients of a day, by what their rows say: a client counts once in each value they had."""
    columns = _columns(case.expected)
    numbers = [name for name in columns if name.endswith("_count")]
    tables = [rows for rows in case.inputs.values() if rows]
    if len(numbers) != 1 or not tables or any(_id_of(row) is None for rows in tables for row in rows):
        msg = "counts of other things than clients"
        raise OutOfScope(msg)
    by = sorted(columns - set(numbers) - {"submission_date"})
    acted = []
    for rows in tables:
        for row in rows:
            values = {name: _found(row, name) for name in by}
            # A name that no row has is what they call the one text that the row measures.
            texts = list(((row.get("metrics") or {}).get("string") or {}).values())
            missing = [name for name in by if values[name] is None]
            if len(missing) == 1 and len(texts) == 1:
                values[missing[0]] = texts[0]
            acted.append(
                {"person_id": _id_of(row), "event_name": "seen", "occurred_at": _instant(_time(row)), **values}
            )
    frame = pl.DataFrame(acted, schema_overrides={"occurred_at": pl.Datetime("us", "UTC")})
    known = frame.drop_nulls(by)
    days = collected(active_days(known, UTC_ZONE, key=["person_id", *by]))
    histories = history_on(days, case.day, ["person_id", *by])
    told = collected(active_users(histories, by, {numbers[0]: 1})).filter(pl.col(numbers[0]) > 0)
    names = [*by, numbers[0]]
    _assert_rows(told.select(names).rows(), [[row.get(name) for name in names] for row in case.expected], names)
    assert {_day(row.get("submission_date")) for row in case.expected} <= {case.day, None}


# Firsts.


def _seen(rows: Iterable[tuple[str, str, datetime]]) -> dict[tuple[str, str], datetime]:
    schema = {"raw_id": pl.String, "event_name": pl.String, "occurred_at": pl.Datetime("us", "UTC")}
    found = firsts(pl.LazyFrame(list(rows), schema=schema, orient="row")).collect()
    return {(who, what): at for who, what, at in found.iter_rows()}


def _first_seen(case: Case) -> None:
    own, today = _own(case), None if case.is_init else case.day
    past = {str(_id_of(row)): row for row in case.inputs.get(own, ()) if row.get("first_seen_date") is not None}
    others = [row for name, table in case.inputs.items() if name != own for row in table if _id_of(row) is not None]
    rows = [
        row
        for row in others
        if "first_seen_date" not in row and _time(row) is not None and today in (None, _day(_time(row)))
    ]
    # A first that another table knows of counts for the client who brings the id that it is known by.
    known = {str(_id_of(row)).lower(): row["first_seen_date"] for row in others if row.get("first_seen_date")}
    acted = [(str(_id_of(row)), "seen", _instant(_time(row))) for row in rows]
    acted += [(who, "seen", _instant(row["first_seen_date"])) for who, row in past.items()]
    for row in rows:
        former = ((row.get("metrics") or {}).get("uuid") or {}).get("legacy_telemetry_client_id")
        for name in {str(_id_of(row)).lower(), str(former).lower()} & set(known):
            acted.append((str(_id_of(row)), "seen", _instant(known[name])))
    found = {who: at.date() for (who, _), at in _seen(acted).items()}
    expected = {str(_id_of(row)): row for row in case.expected}
    assert len(expected) == len(case.expected), "a client has two rows"
    assert set(expected) in (set(found), set(found) - set(past)), "who has a row: all, or those who are new"
    # The second day seen is one of the daily table's, for them; a profile that only says that it is there has none.
    daily: dict[str, set[date]] = {}
    for row in rows:
        if "submission_date" in row:
            daily.setdefault(str(_id_of(row)), set()).add(_day(row["submission_date"]) or date.min)
    for who, row in expected.items():
        _assert_same(found[who], row["first_seen_date"], f"first_seen_date of {who}")
        if "second_seen_date" in _columns(case.expected):
            before = _day((past.get(who) or {}).get("second_seen_date"))
            later = sorted(day for day in {*daily.get(who, ()), *([before] if before else ())} if day > found[who])
            _assert_same(later[0] if later else None, row.get("second_seen_date"), f"second_seen_date of {who}")
        for column, value in (past.get(who) or {}).items():
            if not isinstance(value, Mapping) and column in row and column != "second_seen_date":
                _assert_same(value, row[column], f"{column} of {who}")


def _first_events(case: Case) -> None:
    criteria = {row.get("criteria") for row in case.expected}
    if not criteria <= set(CRITERIA):
        msg = "first events that meet a criterion which only their query tells"
        raise OutOfScope(msg)
    own, today = _own(case), None if case.is_init else case.day
    least = case.params.get("sample_id")
    batch = case.params.get("sampling_batch_size")
    events, since = frozenset[str]().union(*(CRITERIA[c][0] for c in criteria)), min(CRITERIA[c][1] for c in criteria)
    acted = []
    for name, rows in case.inputs.items():
        for row in rows:
            who, at = _id_of(row), _instant(row.get("submission_timestamp") or row.get("first_submission_timestamp"))
            sample = row.get("sample_id")
            if who is None or row.get("event") not in events or at < since:
                continue
            if name != own and today is not None and at.date() != today:
                continue
            if least is not None and batch is not None and not int(least) <= int(sample) < int(least) + int(batch):
                continue
            acted.append((str(who), str(row["event"]), at))
    past = {(str(_id_of(row)), str(row["event"])) for row in case.inputs.get(own, ())}
    found = _seen(acted)
    expected = {(str(_id_of(row)), str(row["event"])): row for row in case.expected}
    assert len(expected) == len(case.expected), "a client has two rows of an event"
    assert set(expected) in (set(found), set(found) - past), "who did what"
    # Of the rows of the first instant, the one whose event came first tells the rest.
    told: dict[tuple[str, str], list[Row]] = {}
    for name, rows in case.inputs.items():
        for row in rows if name != own else ():
            pair = (str(_id_of(row)), str(row.get("event")))
            if pair in found and _instant(_time(row)) == found[pair]:
                told.setdefault(pair, []).append({**row, "first_event_timestamp": row.get("event_timestamp")})
    for pair, row in expected.items():
        _assert_same(found[pair], row["first_submission_timestamp"], f"first {pair[1]} of {pair[0]}")
        at_first = sorted(told.get(pair, ()), key=lambda told_row: str(told_row["first_event_timestamp"] or "~"))
        for column in set(row) & set(at_first[0] if at_first else ()):
            _assert_same(at_first[0][column], row[column], f"{column} of {pair}")


def _daily(case: Case) -> None:
    known = {name: rows for name, rows in case.inputs.items() if "first_seen_date" in _columns(rows)}
    if len(known) == len(case.inputs):
        known = {}
    pings = [row for name, rows in case.inputs.items() if name not in known for row in rows]
    if any({"event_type", "event_name", "event", "jsonPayload"} & set(row) for row in pings):
        msg = "daily rows of events, of which a list in their query tells those that count"
        raise OutOfScope(msg)
    acted = [(_id_of(row), "seen", _instant(_time(row))) for row in pings if _id_of(row) is not None]
    frame = pl.DataFrame(
        acted,
        schema={"person_id": pl.String, "event_name": pl.String, "occurred_at": pl.Datetime("us", "UTC")},
        orient="row",
    )
    days = collected(active_days(frame, UTC_ZONE)).rows()
    found = {(who, day) for who, day in days if case.is_init or day == case.day}
    expected = {(_id_of(row), _day(row["submission_date"])) for row in case.expected}
    assert found == expected, f"who was active when: {found ^ expected}"
    first = {_id_of(row): _day(row["first_seen_date"]) for rows in known.values() for row in rows}
    for row in case.expected:
        who = _id_of(row)
        if who not in first:
            continue
        if "first_seen_date" in row:
            _assert_same(first[who], row["first_seen_date"], f"first_seen_date of {who}")
        if "is_new_profile" in row:
            _assert_same(first[who] == _day(row["submission_date"]), row["is_new_profile"], f"is_new_profile of {who}")


# Versions.


def _logs_refused(_: Case) -> None:
    msg = "logs of changes that are mended by a provider's rules of billing"
    raise OutOfScope(msg)


def _sessions_refused(_: Case) -> None:
    msg = "sessions that a vendor cut, by its own id of a visit: ours are cut from events"
    raise OutOfScope(msg)


def _versions(case: Case) -> None:
    logs = {name: rows for name, rows in case.inputs.items() if "timestamp" in _columns(rows)}
    histories = {name: rows for name, rows in case.inputs.items() if "valid_from" in _columns(rows)}
    changes = [row for rows in logs.values() for row in rows]
    if not changes:
        msg = "versions cut anew from another history by states of billing"
        raise OutOfScope(msg)
    if len(logs) > 1 or any(
        "linked_purchase_token" in _thing(row)[1] or "synthetic" in str(row.get("type")) for row in changes
    ):
        msg = "versions of subscriptions whose log has entries that a provider's rules of billing drop or join"
        raise OutOfScope(msg)
    schema = {"lsn": pl.Int64, "sequence": pl.Int64, "op": pl.String, "changed_at": pl.Datetime("us", "UTC")}
    tracked = ["change", *histories]
    known = {name: _history(rows) for name, rows in histories.items()}
    by_thing: dict[str, list[Row]] = {}
    for row in changes:
        by_thing.setdefault(_thing_key(row), []).append(row)
    edges = []
    for thing, rows in by_thing.items():
        ordered = sorted(rows, key=lambda row: _instant(row["timestamp"]))
        instants = {_instant(row["timestamp"]) for row in ordered}
        begin, end = (
            min(instants),
            next((_instant(_thing(r)[1]["ended_at"]) for r in ordered if _thing(r)[1].get("ended_at")), END_OF_TIME),
        )
        others = {_thing(row)[1].get("customer_id") for row in ordered}
        for rows_of in histories.values():
            joined = {_instant(row["valid_from"]) for row in rows_of if _thing_key(row) in others}
            instants |= {at for at in joined if begin <= at < end}
        log = pl.LazyFrame(
            [(n, 0, "u", _instant(row["timestamp"]), thing, str(row["id"])) for n, row in enumerate(ordered)],
            schema={**schema, "thing": pl.String, "change": pl.String},
            orient="row",
        )
        facts = pl.LazyFrame(
            {"thing": [thing] * len(instants), "changed_at": sorted(instants)},
            schema_overrides={"changed_at": pl.Datetime("us", "UTC")},
        )
        told = as_it_was(facts, versions(log, ["thing"], ["change"]), ["thing"], ["change"], "changed_at")
        for name in histories:
            customer = next((str(other) for other in others if other is not None), thing)
            keyed = told.with_columns(other=pl.lit(customer))
            told = as_it_was(keyed, known[name].rename({"made_by": name}), ["other"], [name], "changed_at").drop(
                "other"
            )
        edges.append(told)
    every = pl.concat(edges).with_row_index("number")
    log = every.with_columns(lsn=pl.col("number").cast(pl.Int64), sequence=pl.lit(0, pl.Int64), op=pl.lit("u"))
    found = versions(log, ["thing"], tracked).select("thing", "valid_from", "valid_to", *tracked).collect().rows()
    ids = sorted(name for name in _columns(case.expected) if name.endswith("changelog_id"))
    wanted = []
    for row in case.expected:
        until = _instant(row["valid_to"])
        named = {str(row[name]) for name in ids}
        wanted.append(
            (_thing_key(row), _instant(row["valid_from"]), END_OF_TIME if until.year == 9999 else until, named)
        )
    told_rows = [(thing, since, until, set(map(str, which))) for thing, since, until, *which in found]
    left, right = (sorted(map(_told, rows)) for rows in (told_rows, wanted))
    assert left == right, f"versions: {left}, expected {right}"


def _told(row: tuple[str, datetime, datetime, set[str]]) -> tuple[str, str, str, list[str]]:
    return row[0], row[1].isoformat(), row[2].isoformat(), sorted(row[3])


def _history(rows: Sequence[Row]) -> pl.LazyFrame:
    """A history of theirs as rows of `versions`: ``other`` its key, and which change made each version."""
    (name,) = {name for row in rows for name in row if name.endswith("changelog_id")}
    made = [(_thing_key(row), str(row[name]), _instant(row["valid_from"]), _instant(row["valid_to"])) for row in rows]
    instants = {"valid_from": pl.Datetime("us", "UTC"), "valid_to": pl.Datetime("us", "UTC")}
    return pl.LazyFrame(made, schema={"other": pl.String, "made_by": pl.String, **instants}, orient="row")


def _thing(row: Row) -> tuple[str, Row]:
    """What a log or a history is of: the only record among its columns."""
    (found,) = [(name, value) for name, value in row.items() if isinstance(value, Mapping)]
    return found


def _thing_key(row: Row) -> str:
    thing = _thing(row)[1]
    for name in ("id", "original_transaction_id"):
        if name in thing:
            return str(thing[name])
    return str((thing.get("metadata") or {}).get("purchase_token"))


def _months(case: Case) -> None:
    """Subscriptions that were active in a month, by their versions as of its beginning and its end."""
    (history,) = (rows for rows in case.inputs.values() if "valid_from" in _columns(rows))
    rows = [
        (
            _thing_key(row),
            bool(row["subscription"]["is_active"]),
            str(row["id"]),
            _instant(row["valid_from"]),
            _instant(row["valid_to"]),
        )
        for row in history
    ]
    instants = {"valid_from": pl.Datetime("us", "UTC"), "valid_to": pl.Datetime("us", "UTC")}
    dimension = pl.LazyFrame(
        rows, schema={"thing": pl.String, "active": pl.Boolean, "version": pl.String, **instants}, orient="row"
    )
    last = max(_day(row["month_start_date"]) or date.min for row in case.expected)
    facts = []
    for thing in {row[0] for row in rows}:
        spans = [(since, until) for key, active, _, since, until in rows if key == thing and active]
        month = min(since for since, _ in spans).date().replace(day=1) if spans else last + timedelta(days=1)
        while month <= last:
            start = datetime.combine(month, time(), tzinfo=UTC)
            following = (month + timedelta(days=31)).replace(day=1)
            end = datetime.combine(following, time(), tzinfo=UTC) - timedelta(microseconds=1)
            if any(since <= end and until > start for since, until in spans):
                facts.append((thing, month, start, end))
            month = following
    frame = pl.LazyFrame(
        facts,
        schema={
            "thing": pl.String,
            "month": pl.Date,
            "start": pl.Datetime("us", "UTC"),
            "end": pl.Datetime("us", "UTC"),
        },
        orient="row",
    )
    at_start = as_it_was(frame, dimension, ["thing"], ["active"], "start", "start_")
    told = as_it_was(at_start, dimension, ["thing"], ["active", "version"], "end", "end_")
    columns = ["thing", "month", "end", "start_active", "end_active", "end_version"]
    found = (
        told.with_columns(pl.col("start_active", "end_active").fill_null(value=False))
        .with_columns(pl.col("end").dt.date())
        .select(columns)
        .collect()
        .rows()
    )
    version = next(name for name in _columns(case.expected) if name.endswith("history_id"))
    names = ["month_start_date", "month_end_date", "was_active_at_month_start", "was_active_at_month_end", version]
    wanted = [[_thing_key(row), *(row[name] for name in names)] for row in case.expected]
    _assert_rows(found, wanted, columns)


# Rows.


def _rows(path: Path) -> list[Row]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ndjson":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return yaml.safe_load(text) or []


def _columns(rows: Iterable[Row]) -> set[str]:
    return {name for row in rows for name in row}


def _own(case: Case) -> str:
    """The name of the table itself among the tables that it is computed from: what it was before."""
    return f"{case.dataset}.{case.table}"


def _key(case: Case, names: Sequence[str]) -> list[str]:
    """The columns that a client is known by: those that every table with histories or days has."""
    return [
        name
        for number, name in enumerate(names)
        if number == 0 or (name == "service" and all(name in _columns(rows) for rows in case.inputs.values() if rows))
    ]


def _of(row: Row, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(_found(row, name) for name in names)


def _found(row: Row, name: str) -> Any:
    value = row.get(name)
    return value if value is not None else (row.get("client_info") or {}).get(name)


def _id_of(row: Row) -> Any:
    return next((value for name in IDS if (value := _found(row, name)) is not None), None)


def _time(row: Row) -> Any:
    return next((row[name] for name in TIMES if row.get(name) is not None), None)


def _day(value: Any) -> date | None:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    if isinstance(value, str) and re.match(r"^\d{4}-\d\d-\d\d", value):
        return date.fromisoformat(value[:10])
    return None


def _instant(value: Any) -> datetime:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def _text(value: Any) -> str | None:
    """A value as a text that says the same, whatever type it was written down as."""
    if value is None or value in ("", "??") or value in ([], {}):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime | date) or (isinstance(value, str) and _day(value) is not None):
        try:
            return _instant(value).isoformat()
        except ValueError:
            return str(value)
    if isinstance(value, Mapping):
        return repr(sorted((key, _text(held)) for key, held in value.items() if _text(held) is not None))
    if isinstance(value, list):
        return repr([_text(held) for held in value])
    try:
        return repr(float(value))
    except ValueError:
        return str(value)


def _assert_same(found: Any, wanted: Any, what: str) -> None:
    assert _text(found) == _text(wanted), f"{what}: {found!r}, expected {wanted!r}"


def _assert_rows(found: Iterable[Sequence[Any]], wanted: Iterable[Sequence[Any]], names: Sequence[str]) -> None:
    left, right = (Counter(tuple(map(_text, row)) for row in rows) for rows in (found, wanted))
    assert left == right, f"{', '.join(names)}: ours {dict(left - right)}, expected {dict(right - left)}"
