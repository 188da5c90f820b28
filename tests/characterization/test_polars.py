"""Characterization of Polars 2.1: reading and writing Delta, parsing instants, decoding bytes.

These test the library, not this project. Each docstring says the behaviour in one sentence, then what rests
on it here, so that a failure after an upgrade reads as "Polars changed, look there".
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError

DAY_1, DAY_2 = date(2026, 1, 1), date(2026, 1, 2)


def at(hour: int, minute: int = 0, second: int = 0, micro: int = 0) -> datetime:
    return datetime(2026, 1, 1, hour, minute, second, micro, tzinfo=UTC)


def xs(frame: pl.LazyFrame) -> list[int]:
    """The column ``x``, sorted: rows of a Delta table come back in no order."""
    return frame.collect()["x"].sort().to_list()


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A table of two versions: x = 1, then x = 2 beside it."""
    location = str(tmp_path / "table")
    write_deltalake(location, pl.DataFrame({"x": [1]}))
    write_deltalake(location, pl.DataFrame({"x": [2]}), mode="append")
    return location


# --- reading Delta --------------------------------------------------------------------------------------


def test_scan_delta_reads_the_version_of_the_handle(path: str) -> None:
    """Given a handle, ``scan_delta`` reads that handle's version, not the table's newest; ``version=`` does so too.

    A rebuild reads on the handle that it will write on.
    """
    handle = DeltaTable(path)
    write_deltalake(path, pl.DataFrame({"x": [3]}), mode="append")

    assert xs(pl.scan_delta(handle)) == [1, 2]
    assert xs(pl.scan_delta(path)) == [1, 2, 3]
    assert xs(pl.scan_delta(path, version=0)) == [1]
    assert handle.version() == 1


def test_a_lazy_frame_follows_its_handle_until_it_is_collected(path: str) -> None:
    """A LazyFrame made from a handle reads the version that the handle has at ``collect``, not at ``scan_delta``.

    A lazy frame is no snapshot: nobody refreshes, or writes on, a handle between planning and collecting.
    """
    handle = DeltaTable(path)
    planned = pl.scan_delta(handle)
    write_deltalake(path, pl.DataFrame({"x": [3]}), mode="append")
    assert xs(planned) == [1, 2]

    handle.update_incremental()
    assert xs(planned) == [1, 2, 3]


@pytest.mark.parametrize("partition_by", [None, ["d"]], ids=["flat", "by date"])
@pytest.mark.parametrize(
    "wanted",
    [
        pl.col("d") == DAY_1,
        pl.col("d").is_in([DAY_1]),
        pl.col("at") < at(1),
        pl.col("at").is_between(at(0), at(1), closed="left"),
        pl.col("x").is_in([1, 2]),
        pl.col("s") == "a",
    ],
    ids=["date", "dates", "before", "window", "ids", "string"],
)
def test_scan_delta_opens_only_files_that_may_match(
    tmp_path: Path, partition_by: list[str] | None, wanted: pl.Expr
) -> None:
    """Filters with literals on partition or plain columns skip files by the log's statistics, without opening them.

    Proven by a file that is gone. A window of a day-partitioned table costs what its hours weigh.
    """
    location = str(tmp_path / "table")
    near = {"d": [DAY_1], "at": [at(0)], "x": [1], "s": ["a"]}
    far = {"d": [DAY_2], "at": [at(5)], "x": [100], "s": ["z"]}
    write_deltalake(location, pl.DataFrame(near), partition_by=partition_by)
    write_deltalake(location, pl.DataFrame(far), mode="append")
    (unneeded,) = DeltaTable(location).file_uris(file_pruning_predicate="x = 100")
    Path(unneeded).unlink()

    assert xs(pl.scan_delta(location).filter(wanted)) == [1]
    with pytest.raises(FileNotFoundError):
        pl.scan_delta(location).collect()


def test_a_join_opens_every_file(path: str) -> None:
    """A semi-join against a frame of ids skips no file: only literals prune.

    Duplicate lookup states its hours and ids as literals.
    """
    (unneeded,) = DeltaTable(path).file_uris(file_pruning_predicate="x = 2")
    Path(unneeded).unlink()

    assert xs(pl.scan_delta(path).filter(pl.col("x").is_in([1]))) == [1]
    with pytest.raises(FileNotFoundError):
        pl.scan_delta(path).join(pl.LazyFrame({"x": [1]}), on="x", how="semi").collect()


def test_statistics_cut_to_milliseconds_hide_no_row_from_a_filter(tmp_path: Path) -> None:
    """A filter finer than a millisecond still finds the row above a file's cut maximum.

    delta-rs logs timestamps' bounds in whole milliseconds, rounded down; Polars allows for it.
    """
    location = str(tmp_path / "table")
    last = at(0, 59, 59, 999_900)
    write_deltalake(location, pl.DataFrame({"at": [at(0), last], "x": [1, 2]}))
    write_deltalake(location, pl.DataFrame({"at": [at(5)], "x": [3]}), mode="append")

    fine = pl.col("at").is_between(at(0, 59, 59, 999_500), at(1), closed="left")
    assert xs(pl.scan_delta(location).filter(fine)) == [2]


def test_the_streaming_engine_gives_the_same_rows(path: str) -> None:
    """``collect(engine="streaming")`` over Delta equals the in-memory engine, but for the order of rows.

    Large transforms run on the streaming engine.
    """
    query = pl.scan_delta(path).group_by("x").agg(n=pl.len()).sort("x")

    assert query.collect(engine="streaming").rows() == query.collect().rows() == [(1, 1), (2, 1)]


# --- writing Delta --------------------------------------------------------------------------------------


def test_sink_delta_replaces_a_window_with_its_progress_in_one_commit(path: str) -> None:
    """``sink_delta(mode="overwrite")`` takes predicate and commit properties in ``delta_write_options``.

    Rebuilds stream their result into the table without holding it in memory. Zero rows empty the window.
    """
    told = CommitProperties(app_transactions=[Transaction("a", 4)])
    options = {"predicate": "x = 2", "commit_properties": told}
    empty = pl.LazyFrame(schema={"x": pl.Int64})
    empty.sink_delta(DeltaTable(path), mode="overwrite", delta_write_options=options)

    assert xs(pl.scan_delta(path)) == [1]
    assert DeltaTable(path).version() == 2
    assert DeltaTable(path).transaction_version("a") == 4


def test_sink_delta_is_fenced_by_the_handle_that_it_is_given(path: str) -> None:
    """On a stale handle ``sink_delta`` raises where ``write_deltalake`` would; on a path it removes silently.

    The rule "a handle, never a path" holds for sinks as well.
    """
    stale = DeltaTable(path)
    write_deltalake(path, pl.DataFrame({"x": [2]}), mode="append")
    rebuilt = pl.LazyFrame({"x": [2]})
    options = {"predicate": "x = 2"}

    with pytest.raises(CommitFailedError, match="added new data"):
        rebuilt.sink_delta(stale, mode="overwrite", delta_write_options=options)
    assert xs(pl.scan_delta(path)) == [1, 2, 2]
    rebuilt.sink_delta(path, mode="overwrite", delta_write_options=options)
    assert xs(pl.scan_delta(path)) == [1, 2]


def test_sink_delta_casts_silently_too(path: str) -> None:
    """1.7 sunk into an int64 column is stored as 1, as through ``write_deltalake``.

    Dtypes are compared exactly before a sink as before a write.
    """
    pl.LazyFrame({"x": [1.7]}).sink_delta(path, mode="append")

    assert xs(pl.scan_delta(path)) == [1, 1, 2]


def test_a_column_of_type_null_cannot_be_written(path: str) -> None:
    """A frame with a Null-typed column (all None, no schema) is refused with TypeError.

    Frames are built with the declared schema, never inferred from rows.
    """
    with pytest.raises(TypeError, match="unsupported data types"):
        pl.LazyFrame({"x": [None]}).sink_delta(path, mode="append")


# --- instants in text -----------------------------------------------------------------------------------


def parsed(text: str | None) -> datetime | None:
    """The instant as the decoder parses it, alone and behind a value of another form, which must agree."""
    column = pl.Series(["rubbish", text], dtype=pl.String)
    first, second = column.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    assert first is None
    alone: datetime | None
    (alone,) = column[1:].str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    assert alone == second
    assert column.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False).dtype == pl.Datetime("us", "UTC")
    return alone


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-01-01T03:04:05Z", at(3, 4, 5)),
        ("2026-01-01T03:04:05+02:00", at(1, 4, 5)),
        ("2026-01-01T03:04:05+0200", at(1, 4, 5)),
        ("2026-01-01T03:04:05-00:00", at(3, 4, 5)),
        ("2026-01-01T03:04:05.1Z", at(3, 4, 5, 100_000)),
        ("2026-01-01T03:04:05.123Z", at(3, 4, 5, 123_000)),
        ("2026-01-01T03:04:05.123456Z", at(3, 4, 5, 123_456)),
        ("2026-01-01T03:04:05.123456789Z", at(3, 4, 5, 123_456)),
        ("2026-01-01T03:04:05.999999999Z", at(3, 4, 5, 999_999)),
        ("2026-01-01t03:04:05z", at(3, 4, 5)),
    ],
)
def test_rfc_3339_is_parsed_to_microseconds(text: str, instant: datetime) -> None:
    """``to_datetime("%+")`` reads Z and any offset, 0 to 9 fractional digits, the last three cut, not rounded.

    The envelope's timestamps are parsed in bulk this way, whatever client wrote them.
    """
    assert parsed(text) == instant


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T03:04:05",
        "2026-01-01",
        "2026-13-01T03:04:05Z",
        "2026-02-30T03:04:05Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T03:04Z",
        "2026-01-01T03:04:05,5Z",
        "99999-01-01T00:00:00Z",
        "1767229200",
        "",
        None,
    ],
)
def test_what_is_no_instant_becomes_null(text: str | None) -> None:
    """A naive time, a bare date, an impossible date, hour 24, no seconds, an epoch number: null with strict=False.

    The decoder finds them as "null after the cast, not null before" and quarantines the record.
    """
    assert parsed(text) is None


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-01-01 03:04:05Z", at(3, 4, 5)),
        (" 2026-01-01T03:04:05Z", at(3, 4, 5)),
        ("+2026-01-01T03:04:05Z", at(3, 4, 5)),
        ("2026-01-01T22:59:60Z", at(23)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ],
    ids=["space", "leading space", "plus", "leap second", "year 1"],
)
def test_what_is_let_through_beyond_rfc_3339(text: str, instant: datetime) -> None:
    """A space for the T, a leading space or plus, a leap second and absurd years are parsed, not null.

    "Parsed" does not mean plausible: range checks of the contract judge the value.
    """
    assert parsed(text) == instant


def test_strict_parsing_fails_the_whole_column() -> None:
    """With the default ``strict=True`` one bad value raises for all of them.

    One poison message must not stop a batch: always strict=False.
    """
    with pytest.raises(pl.exceptions.InvalidOperationError, match="1 out of 2 values"):
        pl.Series(["2026-01-01T03:04:05Z", "xx"]).str.to_datetime("%+", time_unit="us", time_zone="UTC")


# --- bytes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("bad", [b"\xff\xfe", b"\xed\xa0\x80"], ids=["byte", "surrogate"])
def test_one_value_of_bad_utf_8_fails_the_whole_cast(strict: bool, bad: bytes) -> None:
    """Binary → String raises ComputeError on bad UTF-8 even with ``strict=False``; it never gives null.

    So the decoder casts in bulk and, when that raises, finds the bad values one by one and dead-letters them.
    """
    column = pl.Series("value", [b"ok", bad, None])

    with pytest.raises(pl.exceptions.ComputeError, match="invalid utf8"):
        column.cast(pl.String, strict=strict)
    with pytest.raises(pl.exceptions.ComputeError, match="invalid utf8"):
        column.to_frame().lazy().select(pl.col("value").cast(pl.String, strict=strict)).collect(engine="streaming")


def test_good_utf_8_is_cast_as_it_is() -> None:
    """Binary → String keeps every character, NUL included, and null stays null.

    A payload's text is its bytes.
    """
    column = pl.Series([b"ok", "é💥".encode(), b"a\x00b", b"", None])

    assert column.cast(pl.String).to_list() == ["ok", "é💥", "a\x00b", "", None]


def test_the_confluent_frame_is_read_by_slices() -> None:
    """``bin.slice`` and big-endian ``bin.reinterpret`` give magic byte, schema id and payload; too short gives null.

    The wire decoder groups a batch by schema id without a Python loop.
    """
    value = pl.col("value").bin
    schema_id = value.slice(1, 4).bin.reinterpret(dtype=pl.UInt32, endianness="big")
    framed = pl.DataFrame({"value": [b"\x00\x00\x00\x01\x02rest", b"\x00\x00", b"", None]})

    assert framed.select(value.slice(0, 1), id=schema_id, payload=value.slice(5)).rows() == [
        (b"\x00", 258, b"rest"),
        (b"\x00", None, b""),
        (b"", None, b""),
        (None, None, None),
    ]


# --- values ---------------------------------------------------------------------------------------------


def test_a_cast_from_float_to_integer_cuts_without_a_word() -> None:
    """1.7 cast to Int64 is 1, strict or not; the text "1.7" is null (strict=False).

    A null-after-cast check does not find the loss: numbers are compared with their cast.
    """
    assert pl.Series([1.7]).cast(pl.Int64, strict=True).to_list() == [1]
    assert pl.Series(["1.7", "1", "x"]).cast(pl.Int64, strict=False).to_list() == [None, 1, None]


def test_a_null_key_is_always_new_to_an_anti_join() -> None:
    """An anti-join keeps rows whose key is null, even when the other side has a null key.

    Dedupe keys are complete before the join; a null in one would never be a duplicate.
    """
    new, known = pl.DataFrame({"key": [1, 2, None]}), pl.DataFrame({"key": [1, None]})

    assert new.join(known, on="key", how="anti")["key"].to_list() == [2, None]
    assert new.join(known, on="key", how="anti", nulls_equal=True)["key"].to_list() == [2]


def test_unique_keeps_the_first_of_the_given_order() -> None:
    """``sort(…).unique(keep="first", maintain_order=True)`` keeps the first row of each key in the sorted order.

    "First arrival wins" within a batch.
    """
    batch = pl.DataFrame({"key": ["a", "b", "a", "b"], "offset": [7, 5, 3, 9]})
    kept = batch.lazy().sort("offset").unique("key", keep="first", maintain_order=True)

    assert kept.collect().rows() == [("a", 3), ("b", 5)]
    assert kept.collect(engine="streaming").rows() == [("a", 3), ("b", 5)]


def test_hash_promises_nothing_across_versions() -> None:
    """Polars' own words: ``.hash()`` is stable within one version only.

    Persisted keys (buckets, dedupe hashes) are never made with it. If this fails, the promise changed: read it.
    """
    said = " ".join((pl.Expr.hash.__doc__ or "").split())

    assert "does not guarantee stable results across different Polars versions" in said
