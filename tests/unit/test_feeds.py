"""Third-party files: how they are read, and what becomes of each row."""

from __future__ import annotations

import contextlib
import io
import os
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from platform_assets.bronze.landed_files import TABLE as LANDED
from platform_assets.bronze.landed_files import standing
from platform_assets.feeds.feed import Parsed, parse, why_useless
from platform_assets.feeds.formats import BadFile, read
from platform_assets.feeds.taking import touched
from platform_assets.silver.ad_spend import FEED
from resources.landing import FileChanged, Landing

LANDED_ON = date(2026, 11, 21)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HEADER = "day,network,campaign,country,spend,currency,impressions,clicks\n"
GOOD = "2026-11-20,google,brand,DE,12.50,EUR,1000,30\n"


def parsed(text: str, name: str = "a.csv") -> Parsed:
    return parse(FEED, read(name, text.encode()), LANDED_ON)


def reasons(text: str, name: str = "a.csv") -> dict[int, list[str]]:
    return dict(parsed(text, name).bad.select("line", "reasons").iter_rows())


def test_a_row_becomes_typed_values_and_money_stays_exact() -> None:
    row = parsed(HEADER + "2026-11-20, google ,brand,DE,0.1,EUR,1000,\n").valid.row(0, named=True)
    assert row == {
        "line": 2,
        "day": date(2026, 11, 20),
        "network": "google",
        "campaign": "brand",
        "country": "DE",
        "spend": Decimal("0.100000"),
        "currency": "EUR",
        "impressions": 1000,
        "clicks": None,
    }


def test_the_formats_say_the_same() -> None:
    wanted = parsed(HEADER + GOOD).valid.drop("line")
    line = '{"day":"2026-11-20","network":"google","campaign":"brand","country":"DE","spend":12.50,"currency":"EUR"'
    assert parsed(line + ',"impressions":1000,"clicks":30}\n', "a.jsonl").valid.drop("line").equals(wanted)
    buffer = io.BytesIO()
    frame = pl.DataFrame(
        {
            "date": [date(2026, 11, 20)],
            "network": ["google"],
            "campaign": ["brand"],
            "country": ["DE"],
            "spend": [12.5],
            "currency": ["EUR"],
            "impressions": [1000.0],
            "clicks": [30],
        }
    )
    frame.write_parquet(buffer)
    assert parse(FEED, read("a.parquet", buffer.getvalue()), LANDED_ON).valid.drop("line").equals(wanted)


def test_partners_may_use_other_names_and_more_columns() -> None:
    text = "Campaign Name,Platform,Date,Cost,Country Code,Currency,Ad Set\nbrand,meta,2026-11-20,3,DE,EUR,x\n"
    row = parsed(text).valid.row(0, named=True)
    assert (row["campaign"], row["network"], row["spend"]) == ("brand", "meta", Decimal(3))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("2026-11-2x,google,brand,DE,1,EUR,,", ["not_a_date:day"]),
        ("0026-11-20,google,brand,DE,1,EUR,,", ["too_old:day"]),
        ("2026-11-23,google,brand,DE,1,EUR,,", ["from_the_future:day"]),
        ("2026-11-20,,brand,DE,,EUR,,", ["missing:network", "missing:spend"]),
        ('2026-11-20,google,brand,DE,"1,250.00",EUR,,', ["not_a_number:spend"]),
        ("2026-11-20,google,brand,DE,NaN,EUR,,", ["not_a_number:spend"]),
        ("2026-11-20,google,brand,DE,1_000,EUR,,", ["not_a_number:spend"]),
        ("2026-11-20,google,brand,DE,1.1234567,EUR,,", ["too_precise:spend"]),
        ("2026-11-20,google,brand,DE,1e13,EUR,,", ["too_large:spend"]),
        ("2026-11-20,google,brand,DE,1,€,,", ["not_a_currency:currency"]),
        ("2026-11-20,google,brand,DE,1,EUR,1.5,-1", ["not_a_whole_number:impressions", "negative:clicks"]),
        ("2026-11-20,google,brand,DE,1", ["wrong_number_of_fields:5"]),
        ("2026-11-20,google,brand,DE,13,EUR,,", ["repeated_key:line 2"]),
    ],
)
def test_a_bad_row_has_its_line_and_every_reason_and_spoils_no_other(row: str, told: list[str]) -> None:
    text = HEADER + GOOD + row + "\n" + GOOD.replace("brand", "other")
    assert reasons(text) == {3: told}
    assert parsed(text).valid["line"].to_list() == [2, 4]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", ["not_json"]),
        ("[1,2]", ["wrong_number_of_fields:2"]),
        ("7", ["not_an_object"]),
        ("[" * 100_000, ["not_json"]),
    ],
)
def test_a_broken_line_of_json_is_refused_alone(line: str, told: list[str]) -> None:
    good = '{"day":"2026-11-20","network":"n","campaign":"c","country":"DE","spend":1,"currency":"EUR"}'
    assert reasons(f"{good}\n\n{line}\n", "a.jsonl") == {3: told}


def test_a_value_of_another_type_is_refused() -> None:
    rows = [
        '{"day":"2026-11-20","network":"n","campaign":"c","country":"DE","spend":1,"currency":"EUR"}',
        '{"day":"2026-11-20","network":true,"campaign":["c"],"country":"DE","spend":1,"currency":"EUR"}',
    ]
    assert reasons("\n".join(rows), "a.ndjson") == {2: ["wrong_type:network", "wrong_type:campaign"]}


def test_a_field_under_two_names_is_refused() -> None:
    row = '{"day":"2026-11-20","date":"2026-11-19","network":"n","campaign":"c","country":"DE","spend":1'
    assert reasons(row + ',"currency":"EUR"}', "a.jsonl") == {1: ["repeated:day"]}


def test_lines_are_counted_as_an_editor_does() -> None:
    text = HEADER + '2026-11-20,google,"two\nlines",DE,1,EUR,,\n\n2026-11-20,google,brand,DE,x,EUR,,\n'
    assert parsed(text).valid["line"].to_list() == [2]
    assert list(reasons(text)) == [5]


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.xlsx", b"PK", "ends with '.xlsx'; deliver .csv, .jsonl, .ndjson, .parquet"),
        ("a.csv", b"", "is empty"),
        ("a.csv", HEADER.encode(), "holds no rows"),
        ("a.csv", b"day,spend\n2026-11-20,\xe9\n", "is not UTF-8: line 2 has the byte 0xe9"),
        ("a.csv", b"day,day\n1,2\n", "names day more than once"),
        ("a.csv", b"day,\n1,2\n", "a column without a name"),
        ("a.csv", b'day\n"2026', "is no CSV from line 2 on"),
        ("a.parquet", b"PAR1", "is no Parquet"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(name: str, data: bytes, told: str) -> None:
    with pytest.raises(BadFile) as error:
        read(name, data)
    assert told in str(error.value)


def test_a_file_without_one_valid_row_says_what_is_expected() -> None:
    bad = parsed("when,what\nx,y\nx,z\n").bad
    told = why_useless(FEED, bad)
    assert told.startswith("none of its 2 rows can be used: missing:day (2), missing:network (2)")
    assert "spend (or cost, amount_spent)" in told


@pytest.mark.parametrize(
    "spend", ["1e25", "1e999", "9" * 40, "1." + "0" * 45, "0e999", "-1e13", "1e-999", "999999999999.9999999"]
)
def test_no_number_ends_the_reading_of_a_file(spend: str) -> None:
    found = parsed(HEADER + GOOD + f"2026-11-20,google,other,DE,{spend},EUR,{spend},\n")
    assert found.valid.height + found.bad.height == 2
    assert found.valid["line"][0] == 2


def test_half_a_character_is_refused() -> None:
    row = '{"day":"2026-11-20","network":"n","campaign":"\\ud800","country":"DE","spend":1,"currency":"EUR"}'
    assert reasons(row, "a.jsonl") == {1: ["not_unicode:campaign"]}


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1], pa.duration("us")),
        pa.array([10**8], pa.date32()),
        pa.array([9 * 10**18], pa.timestamp("ms")),
        pa.array([0], pa.timestamp("us", "+05:30")),
        pa.array([0], pa.timestamp("us", "Nowhere/Land")),
        pa.array([[1]], pa.list_(pa.int8())),
        pa.array([b"x"], pa.binary()),
    ],
)
def test_no_type_of_parquet_ends_more_than_its_file(column: pa.Array) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"odd": column}), buffer)
    with contextlib.suppress(BadFile):
        assert read("a.parquet", buffer.getvalue()).height == 1


def test_only_whole_files_are_listed(tmp_path: Path) -> None:
    for name in ("ad_spend/a.csv", "ad_spend/deep/b.csv", "ad_spend/c.csv.part", "ad_spend/.d.csv", "_done/e.csv", "f"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    landing = Landing(str(tmp_path))
    later = datetime.now(UTC) + timedelta(minutes=1)
    listed = landing.files(later, timedelta(seconds=10))
    assert {(file.feed, file.name) for file in listed} == {("ad_spend", "a.csv"), ("ad_spend", "deep/b.csv"), ("", "f")}
    assert landing.files(listed[0].modified_at, timedelta(hours=1)) == []
    assert Landing(str(tmp_path / "nowhere")).files(later, timedelta(0)) == []


def test_what_cannot_be_listed_keeps_nothing_out(tmp_path: Path) -> None:
    folder = tmp_path / "ad_spend"
    folder.mkdir()
    (folder / "a.csv").write_text("x")
    (Path(os.fsdecode(os.fsencode(folder) + b"/M\xe4rz.csv"))).write_text("x")
    landing = Landing(str(tmp_path))
    listed = landing.files(datetime.now(UTC) + timedelta(minutes=1), timedelta(0))
    assert [file.name for file in listed] == ["a.csv"]
    assert len(landing.problems) == 1
    assert "M\\xe4rz.csv" in landing.problems[0]


def test_a_file_that_changes_while_it_is_read_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "ad_spend" / "a.csv"
    path.parent.mkdir()
    path.write_text("one")
    landing = Landing(str(tmp_path))
    (file,) = landing.files(datetime.now(UTC) + timedelta(minutes=1), timedelta(0))
    assert landing.read(file) == b"one"
    path.write_text("one and two")
    with pytest.raises(FileChanged, match=r"ad_spend/a\.csv"):
        landing.read(file)


def landings(*rows: tuple[str, str, str, int, int]) -> pl.DataFrame:
    """(name, content, outcome, first and last day of November) in order."""
    made = [
        {
            "landing": number,
            "feed": "ad_spend",
            "name": name,
            "file_id": content,
            "size_bytes": 1,
            "modified_at": NOW,
            "landed_at": NOW,
            "outcome": outcome,
            "rows": 1,
            "bad_rows": 0,
            "first_day": date(2026, 11, first),
            "last_day": date(2026, 11, last),
            "report": None,
            "landing_date": NOW.date(),
        }
        for number, (name, content, outcome, first, last) in enumerate(rows, 1)
    ]
    return pl.DataFrame(made, schema=LANDED.schema)


def test_the_last_delivery_of_a_name_that_could_be_used_stands() -> None:
    delivered = landings(
        ("a", "1", "taken", 1, 1),
        ("b", "2", "taken", 2, 2),
        ("a", "3", "taken", 1, 1),
        ("b", "4", "set_aside", 2, 2),
        ("c", "3", "taken", 1, 1),  # the same content under another name counts once
    )
    assert standing(delivered)["landing"].to_list() == [2, 5]


def test_a_delivery_touches_its_days_and_those_of_what_it_replaces() -> None:
    delivered = landings(
        ("a", "1", "taken", 1, 3),
        ("b", "2", "taken", 9, 9),
        ("a", "3", "taken", 4, 6),
        ("b", "4", "set_aside", 9, 9),
        ("c", "5", "taken", 20, 20),
    )
    span = lambda first, last: (date(2026, 11, first), date(2026, 11, last))  # noqa: E731
    assert touched(delivered, 4) == [span(20, 20)]
    assert touched(delivered, 2) == [span(1, 6), span(20, 20)]
    assert touched(delivered, 0) == [span(1, 6), span(9, 9), span(20, 20)]
    assert touched(delivered, 5) == []
