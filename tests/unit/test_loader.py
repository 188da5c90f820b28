"""The loader without Kafka: what a row becomes, what a bad one is called, and what is refused."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from local_stack.loader import LoadRefused, Mapping, MappingInvalid, State
from local_stack.loader.event_time import EventTime
from local_stack.loader.mapping import Layout
from local_stack.loader.records import Converter, Record
from local_stack.loader.retention import objection
from local_stack.loader.rows import rows
from local_stack.loader.state import taken_up
from local_stack.loader.survey import survey
from resources.events import decode
from resources.records import RECORD_SCHEMA, Held
from resources.schemas import NoRegistry

DAY_MS = 86_400_000
NOW_MS = 1_800_000_000_000
NO_RECORD_TIME = "a Kafka record cannot have such a time"


def mapping(**changes: Any) -> Mapping:
    plain: dict[str, Any] = {
        "time": {"column": "at"},
        "fields": {
            "source": {"constant": "shop"},
            "event_name": "what",
            "schema_ref": "{what}/1",
            "user_id": "who",
        },
    }
    fields = {**plain["fields"], **changes.pop("fields", {})}
    return Mapping.model_validate({**plain, **changes, "fields": fields})


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def records(path: Path, how: Mapping) -> tuple[list[Record], list[str]]:
    """The good rows of a file as records, and its bad ones as ``line: reason``."""
    converter = Converter(how, path, "0123456789abcdef" * 4)
    good, bad = [], []
    for line, row in rows(path, how.file):
        try:
            if isinstance(row, str):
                raise ValueError(row)
            good.append(converter.record(line, row))
        except ValueError as error:
            bad.append(f"{line}: {error}")
    return good, bad


def events(path: Path, how: Mapping) -> list[dict[str, Any]]:
    good, bad = records(path, how)
    assert bad == []
    return [json.loads(record.value, parse_float=Decimal) for record in good]


def test_a_row_becomes_an_event_that_the_platform_decodes(tmp_path: Path) -> None:
    file = written(tmp_path / "f.csv", "at,what,who,price\n2026-01-01T02:00:00+02:00,bought,7,1.50\n")
    good, bad = records(file, mapping(fields={"is_test": {"constant": True}, "session_seq": {"constant": "3"}}))
    assert bad == []
    [record] = good
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert record.key == b"7"
    assert record.timestamp_ms == at.timestamp() * 1000
    frame = pl.DataFrame([("t", 1, 0, 0, at, None, record.value, None)], schema=RECORD_SCHEMA, orient="row")
    event = decode(frame, NoRegistry()).events.row(0, named=True)
    assert event["event_id"] == "0123456789abcdef" * 2 + "-2"
    assert (event["source"], event["event_name"], event["schema_ref"]) == ("shop", "bought", "bought/1")
    assert event["client_occurred_at"] == event["received_at"] == at
    assert (event["is_test"], event["session_seq"], event["user_id"]) == (True, 3, "7")
    assert json.loads(event["properties"]) == {"price": "1.50"}
    assert event["bad_timestamps"] == []


def test_the_record_time_is_that_of_arrival_where_the_file_has_one(tmp_path: Path) -> None:
    file = written(tmp_path / "f.csv", "at,got,what,who\n2026-01-01,2026-01-03,bought,7\n")
    [record], _ = records(file, mapping(fields={"received_at": "got"}))
    assert record.timestamp_ms == datetime(2026, 1, 3, tzinfo=UTC).timestamp() * 1000
    assert json.loads(record.value)["client_occurred_at"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ({}, "\ufeffat,what,who,n\n2026-01-01,a,7,1.10\n\n2026-01-02,b,8,2\n"),
        ({"separator": ";"}, "at;what;who;n\r\n2026-01-01;a;7;1.10\r\n2026-01-02;b;8;2\r\n"),
        ({"separator": "whitespace"}, " at what  who n\n 2026-01-01 a 7\t1.10\r\n2026-01-02  b 8 2"),
        (
            {"separator": r"\s*\|\s*", "has_header": False, "columns": ["at", "what", "who", "n"]},
            "2026-01-01 | a | 7 | 1.10\n2026-01-02|b|8|2\n",
        ),
    ],
)
def test_texts_with_any_separator(tmp_path: Path, layout: dict[str, Any], text: str) -> None:
    how = mapping(file={**layout, "numbers": ["n"]})
    first, second = events(written(tmp_path / "f.txt", text), how)
    assert (first["event_name"], first["user_id"]) == ("a", "7")
    assert str(first["properties"]["n"]) == "1.10"
    assert second["properties"] == {"n": 2}


def test_json_keeps_its_values_as_they_were_written(tmp_path: Path) -> None:
    row = (
        '{"at": 1767225600.123456, "what": "a", "who": 7, '
        '"n": 1.10, "big": 123456789012345678901, "deep": {"x": [1e2]}}'
    )
    how = mapping(time={"column": "at", "format": "epoch_seconds"})
    for file in (
        written(tmp_path / "f.jsonl", row + "\n"),
        written(tmp_path / "f.jsonl.gz", gzip.compress(row.encode())),
    ):
        [event] = events(file, how)
        assert event["client_occurred_at"] == "2026-01-01T00:00:00.123456Z"
        assert event["user_id"] == "7"
        assert str(event["properties"]["n"]) == "1.10"
        assert event["properties"]["big"] == 123456789012345678901
        assert event["properties"]["deep"] == {"x": [100]}


def test_parquet_brings_types_of_its_own(tmp_path: Path) -> None:
    at = pl.Series(["2026-07-01 12:00", None]).str.to_datetime(time_unit="ns")
    frame = pl.DataFrame(
        {
            "at": at,
            "what": ["a", "b"],
            "who": [7, 8],
            "price": [Decimal("1.10"), None],
            "day": [date(2026, 1, 1), None],
            "tags": [["x"], None],
        }
    )
    frame.write_parquet(tmp_path / "f.parquet")
    good, bad = records(tmp_path / "f.parquet", mapping(time={"column": "at", "timezone": "Europe/Berlin"}))
    assert bad == ["2: client_occurred_at, received_at: no value"]
    event = json.loads(good[0].value, parse_float=str)
    assert event["received_at"] == "2026-07-01T10:00:00Z"
    assert event["properties"] == {"price": "1.10", "day": "2026-01-01", "tags": ["x"]}


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ("others", {"bag": '{"x": 1.0}', "other": "o"}),
        (["other", "who"], {"other": "o", "who": "7"}),
        ({"object": "bag"}, {"x": 1.0}),
    ],
)
def test_what_goes_into_the_properties(tmp_path: Path, properties: Any, expected: object) -> None:
    file = written(tmp_path / "f.csv", 'at,what,who,bag,other\n2026-01-01,a,7,"{""x"": 1.0}",o\n')
    assert events(file, mapping(properties=properties))[0]["properties"] == expected


def test_each_bad_row_is_named_by_its_line_and_the_rest_goes_through(tmp_path: Path) -> None:
    text = (
        b"at,what,who,seq\n"
        b'2026-01-01,"a\nb",7,1\n'  # lines 2 and 3
        b"yesterday,a,7,1\n"
        b"2026-01-01,a,7\n"
        b"2026-01-01,,7,1\n"
        b"2026-01-01,a,,1\n"
        b"2026-01-01,a,7,1.5\n"
        b"1969-12-31,a,7,1\n"
        b"2026-01-01,\xff,7,1\n"
        b'2026-01-01,"a"b,7,1\n'
        b"\n"
        b"2026-01-01,a,7,9\n"
    )
    good, bad = records(written(tmp_path / "f.csv", text), mapping(fields={"session_seq": "seq"}))
    assert [json.loads(record.value)["session_seq"] for record in good] == [1, 9]
    assert bad == [
        "4: client_occurred_at: 'yesterday' is no time of the format rfc3339",
        "5: has 3 columns, not 4",
        "6: event_name, schema_ref: no value",
        "7: anonymous_id, user_id: no value in either",
        "8: session_seq: '1.5' does not fit: Expected `int | null`, got `str`",
        "9: client_occurred_at: 1969-12-31T00:00:00+00:00 is not after 1970 began; " + NO_RECORD_TIME,
        "10: is not UTF-8",
        "11: is no CSV: ',' expected after '\"'",
    ]


def test_each_bad_line_of_json_is_named(tmp_path: Path) -> None:
    good = b'{"at": "2026-01-01", "what": "a", "who": "7"}'
    lines = [good, b"{", b"[1]", b"", b'{"at": "\xff"}', good.replace(b'"7"', b"1.5"), good + b"x", b"[" * 10**5]
    found, bad = records(written(tmp_path / "f.jsonl", b"\n".join(lines)), mapping())
    assert len(found) == 1
    assert [line.partition(" (")[0].partition(": Input")[0][:34] for line in bad] == [
        "2: is no JSON",
        "3: is no JSON object",
        "5: is not UTF-8",
        "6: user_id: Decimal('1.5') is neit",
        "7: is no JSON: JSON is malformed: ",
        "8: is no JSON: maximum recursion d"[:34],
    ]


@pytest.mark.parametrize(
    ("value", "form", "zone", "expected"),
    [
        ("19970101", "%Y%m%d", "UTC", "1997-01-01T00:00:00+00:00"),
        (19970101, "%Y%m%d", "UTC", "1997-01-01T00:00:00+00:00"),
        ("01.07.2026 12:00", "%d.%m.%Y %H:%M", "Europe/Berlin", "2026-07-01T10:00:00+00:00"),
        ("2026-10-25 02:30", "rfc3339", "Europe/Berlin", "2026-10-25T00:30:00+00:00"),
        ("2026-10-25T02:30+01:00", "rfc3339", "Europe/Berlin", "2026-10-25T01:30:00+00:00"),
        (1767225600123, "epoch_milliseconds", "UTC", "2026-01-01T00:00:00.123000+00:00"),
        (" 1767225600 ", "epoch_seconds", "UTC", "2026-01-01T00:00:00+00:00"),
        (date(2026, 7, 1), "rfc3339", "Europe/Berlin", "2026-06-30T22:00:00+00:00"),
    ],
)
def test_times(value: object, form: str, zone: str, expected: str) -> None:
    assert EventTime(column="at", format=form, timezone=zone).instant(value).isoformat() == expected


@pytest.mark.parametrize(
    ("value", "form", "why"),
    [
        ("2026-03-29 02:30", "rfc3339", "does not exist in Europe/Berlin"),
        ("", "rfc3339", "is no time of the format"),
        ("1e400", "epoch_seconds", "outside the years"),
        ("nan", "epoch_seconds", "is no time of the format"),
        (True, "epoch_seconds", "is no time"),
        ([1], "epoch_seconds", "is no time"),
        (0, "epoch_seconds", "is not after 1970 began"),
        ("0001-01-01", "rfc3339", "outside the years"),
    ],
)
def test_what_is_no_time(value: object, form: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        EventTime(column="at", format=form, timezone="Europe/Berlin").instant(value)


GOOD = """
time: {column: at}
fields: {source: {constant: s}, event_name: what, schema_ref: x, user_id: who}
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no YAML or JSON"),
        ("[]", "valid dictionary"),
        ("fields: {}", "time: Field required"),
        (
            GOOD.replace("column: at", "column: at, timezone: Mars/X"),
            "time.timezone: 'Mars/X': is no IANA time zone; write",
        ),
        (GOOD.replace("column: at", "column: at, format: iso"), "time.format: 'iso': is no format; write"),
        (GOOD.replace("user_id", "usr"), "fields: 'usr' is no field of the envelope; use one of event_id,"),
        (GOOD.replace("event_name: what, ", ""), "fields lacks event_name; map"),
        (GOOD.replace(", user_id: who", ""), "fields lacks anonymous_id and user_id; map"),
        (GOOD.replace("what", "'{what'"), "fields.event_name"),
        (GOOD.replace("what", "'{what!r}'"), "write {name}"),
        (GOOD.replace("what", "{constant: a, column: b}"), "fields.event_name: needs exactly one of"),
        (GOOD.replace("what", "5"), "fields.event_name: 5: is neither a column"),
        (GOOD.replace("user_id", "is_bot: {constant: perhaps}, user_id"), "fields.is_bot: 'perhaps' does not fit"),
        (GOOD + "file: {has_header: false}", "file: has_header is false: name the columns"),
        (GOOD + "file: {separator: '(|'}", "file.separator: '(|': is no regular expression"),
        (GOOD + "file: {separator: 'x*'}", "file.separator: 'x*': separates nothing"),
        (GOOD + "file: {columns: [a, a]}", "names 'a' twice"),
        (GOOD + "properties: all", "properties: 'all': is neither 'others'"),
        (GOOD + "more: 1", "more: 1: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_mapping_says_file_field_value_and_what_to_do(tmp_path: Path, text: str, told: str) -> None:
    path = written(tmp_path / "m.yaml", text)
    with pytest.raises(MappingInvalid) as raised:
        Mapping.read(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert told in str(raised.value)


def test_a_mapping_in_json_is_the_same_mapping(tmp_path: Path) -> None:
    plain = {
        "fields": {"user_id": "who", "schema_ref": "x", "event_name": {"column": "what"}, "source": {"constant": "s"}},
        "time": {"column": "at"},
    }
    from_json = Mapping.read(written(tmp_path / "m.json", json.dumps(plain, indent=1)))
    from_yaml = Mapping.read(written(tmp_path / "m.yaml", GOOD))
    assert from_json == from_yaml
    assert from_json.sha256 == from_yaml.sha256 != mapping().sha256


@pytest.mark.parametrize(
    ("name", "text", "how", "told"),
    [
        ("f.csv", "at,what\n2026-01-01,a\n", {}, "f.csv has no column 'who', which fields.user_id .* has at, what"),
        ("f.jsonl", '{"at": "2026-01-01", "what": "a"}\n', {}, "f.jsonl has no column 'who'"),
        ("f.csv", "at,what,who,who\n", {}, "column 'who' twice"),
        ("f.csv", "", {}, "its first line names no columns: is empty"),
        ("f.dat", "", {}, "set file.format"),
        ("f.parquet", "no parquet", {}, "cannot be read as Parquet"),
        ("f.jsonl.gz", gzip.compress(b"{}\n" * 1000, mtime=0)[:-12], {}, "cannot be unpacked"),
        ("f.csv", "at,what,who\n2026-01-01,a,7\n", {"file": {"numbers": ["n"]}}, "'n', which file.numbers"),
    ],
)
def test_a_file_that_is_not_as_the_mapping_says(
    tmp_path: Path, name: str, text: str | bytes, how: dict[str, Any], told: str
) -> None:
    with pytest.raises(MappingInvalid, match=told):
        survey(written(tmp_path / name, text), mapping(**how))


def test_a_survey_finds_the_span_of_the_record_times(tmp_path: Path) -> None:
    text = "at,what,who\n2026-01-02,a,7\nnever,a,7\n2026-01-01,a,7\n2026-01-03,a,\n"
    seen = survey(written(tmp_path / "f.csv", text), mapping())
    assert seen is not None
    assert seen.rows == 4
    first = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
    assert (seen.oldest_ms, seen.newest_ms) == (first, first + 2 * DAY_MS)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"retention.ms": str(9 * DAY_MS)}, "retention.ms=777600000 .* --add-config retention.ms=-1"),
        ({"retention.ms": str(11 * DAY_MS)}, None),
        ({"retention.ms": "-1"}, None),
        ({"retention.ms": "1", "cleanup.policy": "compact"}, None),
        ({}, None),
        ({"message.timestamp.type": "LogAppendTime"}, "message.timestamp.type=CreateTime"),
        ({"message.timestamp.type": "CreateTime"}, None),
        ({"message.timestamp.before.max.ms": str(9 * DAY_MS)}, "before.max.ms=.* oldest"),
        ({"message.timestamp.after.max.ms": str(DAY_MS)}, "after.max.ms=.* newest"),
        ({"message.timestamp.difference.max.ms": str(9 * DAY_MS)}, "difference.max.ms=.* oldest"),
        ({"message.timestamp.before.max.ms": str(2**63 - 1), "message.timestamp.after.max.ms": str(3 * DAY_MS)}, None),
    ],
)
def test_a_topic_that_would_lose_or_restamp_history_is_refused(settings: dict[str, str], told: str | None) -> None:
    span = (NOW_MS - 10 * DAY_MS, NOW_MS + 2 * DAY_MS, NOW_MS)
    against = objection(settings, "t", *span, ignore_retention=False)
    if told is None:
        assert against is None
    else:
        assert against is not None
        assert pl.Series([against]).str.contains(told).item(), against


def test_only_retention_can_be_ignored() -> None:
    span = (NOW_MS - 10 * DAY_MS, NOW_MS, NOW_MS)
    assert objection({"retention.ms": "1"}, "t", *span, ignore_retention=True) is None
    assert objection({"message.timestamp.type": "LogAppendTime"}, "t", *span, ignore_retention=True) is not None


def test_a_state_survives_and_belongs_to_one_load(tmp_path: Path) -> None:
    path, held = tmp_path / "s.json", {0: Held(0, 5)}
    assert State.read(path) is None
    state = State("file", "mapping", "t", line=5, delivered=4, bad=1, offsets={0: 5})
    state.write(path)
    assert State.read(path) == state
    fresh = State("file", "mapping", "t")
    assert taken_up(None, fresh, held, path) == fresh
    assert taken_up(state, fresh, held, path) == state
    for other, told in (
        (State("other", "mapping", "t"), "the file has changed"),
        (State("file", "other", "t"), "the mapping has changed"),
        (State("file", "mapping", "other"), "the topic is another"),
    ):
        with pytest.raises(LoadRefused, match=f"{told} .*--restart"):
            taken_up(state, other, held, path)
    with pytest.raises(LoadRefused, match="the topic was made again"):
        taken_up(state, fresh, {0: Held(0, 4)}, path)


def test_what_is_no_state_and_where_none_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(LoadRefused, match="holds no state"):
        State.read(written(tmp_path / "s.json", "{}"))
    with pytest.raises(LoadRefused, match="--state"):
        State("file", "mapping", "t").write(tmp_path / "absent" / "s.json")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    import tracemalloc

    line = b"2026-01-01,a,7," + b"x" * 2_000 + b"\n"
    file = written(tmp_path / "f.csv", b"at,what,who,pad\n" + line * 10_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in rows(file, Layout())) == 10_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20
    assert file.stat().st_size > 16 * 2**20
