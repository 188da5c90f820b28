"""Contracts of tables: what they say, and which changes of them are refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import reduce
from importlib.resources import files
from operator import getitem
from pathlib import Path

import jsonschema
import polars as pl
import pytest
from open_data_contract_standard.model import OpenDataContractStandard

from local_stack.contracts import FOLDER, compared, written
from local_stack.stack import ROOT, StackRefused
from platform_assets.contracts import breaking, document, odcs, parsed
from platform_assets.gold import conversions, fact_events
from platform_assets.silver import events, orders
from platform_assets.table import TIMESTAMP, Column, Reference, Table, data_dictionary
from platform_assets.tables import tables

USERS = Table(
    name="silver/buyers",
    description="Who buys.",
    grain="buyer",
    key=("buyer_id",),
    columns=(Column("buyer_id", pl.String(), "The buyer."), Column("day", pl.Date(), "Day.")),
    partition_by=("day",),
    window_on="day",
    partitions="day",
    cluster_by=("buyer_id",),
    update="rebuild",
    service_level=timedelta(hours=6),
    stats=("day",),
)
SALES = replace(
    USERS,
    name="gold/sales",
    description="What was sold.",
    grain="sale",
    key=("day", "sale_id"),
    columns=(
        Column("sale_id", pl.Int64(), "The sale.", minimum=1),
        Column("buyer_id", pl.String(), "Who bought.", nullable=True, personal=True),
        Column("kind", pl.String(), "What it is.", accepted=("sale", "refund")),
        Column("paid", pl.Decimal(18, 6), "What was paid.", unit="EUR", nullable=True),
        Column("sold_at", TIMESTAMP, "When."),
        Column("day", pl.Date(), "Day."),
    ),
    cluster_by=("sale_id",),
    references=(Reference(("buyer_id",), USERS, share=0.1),),
)

COMMITTED = sorted((ROOT / FOLDER).rglob("*.yaml"))
STANDARD = jsonschema.Draft201909Validator(
    json.loads(files("open_data_contract_standard").joinpath("schema.json").read_text(encoding="utf-8"))
)
"""The standard's own schema, as its readers' package has it: it refuses fields that the standard has none of."""


def with_column(name: str, **changes: object) -> Table:
    columns = [replace(c, **changes) if c.name == name else c for c in SALES.columns]  # type: ignore[arg-type]
    return replace(SALES, columns=tuple(columns))


def adding(*columns: Column) -> Table:
    return replace(SALES, columns=(*SALES.columns, *columns))


def test_a_contract_says_what_the_declaration_says() -> None:
    contract = odcs(SALES)
    assert (contract["apiVersion"], contract["kind"], contract["version"]) == ("v3.1.0", "DataContract", "1")
    (table,) = contract["schema"]
    columns = {column["name"]: column for column in table["properties"]}
    assert [columns[name]["physicalType"] for name in ("sale_id", "paid", "sold_at", "day")] == [
        "long",
        "decimal(18,6)",
        "timestamp",
        "date",
    ]
    assert columns["sale_id"]["logicalTypeOptions"] == {"minimum": 1}
    assert columns["sold_at"]["logicalTypeOptions"]["defaultTimezone"] == "UTC"
    assert [(columns[n]["required"], columns[n].get("primaryKeyPosition")) for n in ("sale_id", "buyer_id", "day")] == [
        (True, 2),
        (False, None),
        (True, 1),
    ]
    assert columns["buyer_id"]["classification"] == "personal"
    assert columns["kind"]["quality"][0]["arguments"] == {"validValues": ["sale", "refund"]}
    assert columns["paid"]["customProperties"] == [{"property": "unit", "value": "EUR"}]
    assert table["quality"][0]["arguments"] == {"properties": ["day", "sale_id"]}
    assert table["relationships"][0]["to"] == "../silver/buyers.yaml#schema/silver_buyers/properties/buyer_id"
    assert contract["slaProperties"][0]["value"] == 6


def test_nested_types_are_told() -> None:
    table = adding(
        Column("headers", pl.List(pl.Struct({"key": pl.String, "value": pl.Binary})), "Headers.", nullable=True)
    )
    told = odcs(table)["schema"][0]["properties"][-1]
    assert told["physicalType"] == "array<struct<key:string,value:binary>>"
    assert [part["name"] for part in told["items"]["properties"]] == ["key", "value"]


def test_every_table_has_a_contract_that_reads_back_as_it_was_written() -> None:
    for table in tables():
        contract = odcs(table)
        assert parsed(document(contract)) == contract, table.name
    assert {q["id"] for q in odcs(fact_events.TABLE)["schema"][0]["quality"]} == {"unique_key", "conservation"}


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: str(file.relative_to(ROOT / FOLDER)))
def test_a_reader_of_the_standard_accepts_each_committed_contract_whole(file: Path) -> None:
    contract = parsed(file.read_bytes())
    STANDARD.validate(contract)
    read = OpenDataContractStandard.from_file(str(file))
    assert read.model_dump(exclude_unset=True, by_alias=True) == contract  # a field that it has none of, it drops


def test_there_are_contracts_to_read() -> None:
    assert len(COMMITTED) >= len(tables())
    STANDARD.validate(odcs(SALES))


@pytest.mark.parametrize(
    ("where", "value", "told"),
    [
        (("owner",), "we", "'owner' was unexpected"),
        (("schema", 0, "grain"), "day", "'grain' was unexpected"),
        (("schema", 0, "properties", 0, "unit"), "EUR", "'unit' was unexpected"),
        (("schema", 0, "properties", 0, "logicalType"), "text", "'text' is not one of"),
        (("schema", 0, "properties", 0, "required"), "yes", "'yes' is not of type 'boolean'"),
        (("schema", 0, "properties", 0, "primaryKeyPosition"), "first", "'first' is not of type 'integer'"),
        (("schema", 0, "quality", 0, "metric"), "duplicates", "'duplicates' is not one of"),
        (("schema", 0, "relationships", 0, "from"), "buyer id", "'buyer id' is not valid"),
        (("slaProperties", 0, "deadline"), 6, "'deadline' was unexpected"),
        (("apiVersion",), "v9.0.0", "'v9.0.0' is not one of"),
        (("version",), 1, "1 is not of type 'string'"),
        (("id",), None, "None is not of type 'string'"),
    ],
)
def test_a_damaged_contract_is_refused(where: tuple[str | int, ...], value: object, told: str) -> None:
    contract = odcs(SALES)
    *way, last = where
    reduce(getitem, way, contract)[last] = value  # type: ignore[index, arg-type]
    with pytest.raises(jsonschema.ValidationError, match=told):
        STANDARD.validate(contract)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            replace(SALES, columns=tuple(c for c in SALES.columns if c.name != "paid")),
            ["column paid: it was decimal(18,6), and is gone or has another name"],
        ),
        (with_column("paid", dtype=pl.Float64()), ["column paid: its type was decimal(18,6), and is double"]),
        (with_column("paid", nullable=False), ["column paid: whether it is required was False, and is True"]),
        (with_column("kind", nullable=True), ["column kind: whether it is required was True, and is False"]),
        (
            with_column("kind", accepted=("sale",)),
            ["column kind: its accepted values was ['refund', 'sale'], and is ['sale']"],
        ),
        (
            with_column("kind", accepted=None),
            ["column kind: its accepted values was ['refund', 'sale'], and is any"],
        ),
        (with_column("sale_id", minimum=2), ["column sale_id: its minimum was 1, and is 2"]),
        (with_column("paid", unit="cents"), ["column paid: its unit was EUR, and is cents"]),
        (replace(SALES, key=("sale_id",)), ["the key was (day, sale_id), and is (sale_id)"]),
        (replace(SALES, service_level=timedelta(hours=7)), ["the service level was 6 h, and is 7 h"]),
        (
            adding(Column("channel", pl.String(), "Channel.")),
            ["column channel: it is new and required, which rows that are there cannot satisfy"],
        ),
    ],
)
def test_a_change_that_breaks_somebody_is_told(changed: Table, told: list[str]) -> None:
    assert breaking(odcs(SALES), odcs(changed)) == told


@pytest.mark.parametrize(
    "changed",
    [
        adding(Column("channel", pl.String(), "Channel.", nullable=True)),
        with_column("paid", description="What the buyer paid."),
        replace(SALES, columns=tuple(reversed(SALES.columns))),
        replace(SALES, owner="team:sales", description="Sales.", service_level=timedelta(hours=5)),
        replace(SALES, references=()),
    ],
)
def test_a_change_that_breaks_nobody_is_none(changed: Table) -> None:
    assert breaking(odcs(SALES), odcs(changed)) == []


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository whose one commit has the contracts of two tables."""
    git(tmp_path, "init", "--quiet")
    assert written(tmp_path, (USERS, SALES)).refused == []
    commit(tmp_path)
    return tmp_path


def git(project: Path, *arguments: str) -> None:
    named = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    subprocess.run(["git", "-C", str(project), *named, *arguments], check=True, capture_output=True)


def commit(project: Path) -> None:
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "contracts")


NARROWED = with_column("kind", accepted=("sale",))


def test_a_breaking_change_is_refused_until_the_version_is_raised(project: Path) -> None:
    file = project / FOLDER / "gold/sales.yaml"
    before = file.read_text()
    (told,) = written(project, (USERS, NARROWED)).refused
    assert told == (
        "gold/sales: column kind: its accepted values was ['refund', 'sale'], and is ['sale']: a breaking change; "
        "take it back, or raise the table's version above 1"
    )
    assert file.read_text() == before
    assert written(project, (USERS, NARROWED), check=True).refused == [told]
    assert compared(project, "HEAD", (USERS, NARROWED)).refused == [told]

    raised = replace(NARROWED, version=2)
    assert compared(project, "HEAD", (USERS, raised)).refused == []
    (outdated,) = written(project, (USERS, raised), check=True).refused
    assert outdated == "docs/contracts/gold/sales.yaml is out of date: `headwater contracts` writes it"
    assert written(project, (USERS, raised)).refused == []
    assert parsed(file.read_text())["version"] == "2"
    commit(project)
    assert len(written(project, (USERS, SALES)).refused) == 1, "a lower version says nothing"
    assert compared(project, "HEAD~1", (USERS, raised)).refused == []


def test_what_is_not_committed_may_still_change(project: Path) -> None:
    raised = replace(NARROWED, version=2)
    written(project, (USERS, raised))
    without = replace(raised, columns=tuple(c for c in raised.columns if c.name != "paid"))
    assert written(project, (USERS, without)).refused == []


def test_a_table_is_gone_when_its_contract_says_so(project: Path) -> None:
    (told,) = written(project, (USERS,)).refused
    assert told.startswith(
        "gold/sales: the table is gone: a breaking change; declare it again, or set `status: retired`"
    )
    file = project / FOLDER / "gold/sales.yaml"
    file.unlink()
    assert len(compared(project, "HEAD", (USERS,)).refused) == 1, "to remove the file is no way to say so"
    git(project, "checkout", "--", ".")
    file.write_text(file.read_text().replace("status: active", "status: retired"))
    for told_now in (compared(project, "HEAD", (USERS,)), written(project, (USERS,), check=True)):
        assert told_now.refused == []
    assert file.exists()
    commit(project)
    file.unlink()
    assert written(project, (USERS,)).refused == []


def test_a_metric_has_another_version_with_any_change(project: Path) -> None:
    metric = replace(SALES, name="gold/funnels/checkout", version=88_961_510_124_057)
    written(project, (USERS, SALES, metric))
    commit(project)
    other = replace(NARROWED, name=metric.name, version=77)
    lower = replace(other, version=66_961_510_124_057)
    assert compared(project, "HEAD", (USERS, SALES, lower)).refused == []
    same = replace(other, version=metric.version)
    assert compared(project, "HEAD", (USERS, SALES, same)).refused[0].endswith("and retire this one's contract")


def test_a_commit_without_contracts_breaks_nobody(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "README.md").write_text("nothing yet")
    commit(tmp_path)
    assert compared(tmp_path, "HEAD", (USERS,)).done == ["HEAD has no contracts yet"]
    with pytest.raises(StackRefused, match="there is no commit 'HEAD~1' here"):
        compared(tmp_path, "HEAD~1", (USERS,))


def test_without_a_repository_the_files_are_what_readers_have(tmp_path: Path) -> None:
    assert written(tmp_path, (SALES,)).refused == []
    assert len(written(tmp_path, (NARROWED,)).refused) == 1


@pytest.mark.parametrize(
    ("declare", "told"),
    [
        (lambda: Reference(("kind",), orders.DIMENSION.table, to=("status",)), "not of the key of silver/orders"),
        (lambda: Reference(("sale_id",), USERS, to=("buyer_id",)), "joins .* with columns of another type"),
    ],
)
def test_a_reference_that_cannot_hold_is_refused(declare: Callable[[], Reference], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(SALES, references=(declare(),))


def test_references_are_in_the_dictionary() -> None:
    assert "- **Refers**: buyer_id → silver/buyers" in data_dictionary([SALES])
    assert "Refers" not in data_dictionary([events.TABLE, conversions.TABLE])
