"""No plain e-mail or IP address leaves bronze, however it is written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.semantics.privacy import hashed, holds_address, protected, protected_texts
from platform_assets.silver.judgement import judge
from platform_assets.tables import TABLES
from support.changes import change, user
from support.records import RULES, Record, at, encoded, event, frame

ANNA = hashlib.sha256(b"anna@shop.example").hexdigest()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("anna@shop.example", ANNA),
        ("Anna@Shop.Example", ANNA),
        ('{"mail": "anna@shop.example", "n": 1}', f'{{"mail": "{ANNA}", "n": 1}}'),
        ('{"mail": "anna\\u0040shop.example"}', f'{{"mail": "{ANNA}"}}'),
        ('{"mail": "anna\\\\u0040shop.example"}', '{"mail": "anna\\\\u0040shop.example"}'),  # a backslash, not an @
        ("https://shop/x?mail=anna%40shop.example&y=1", f"https://shop/x?mail={ANNA}&y=1"),
        ("203.0.113.7", "203.0.113.0"),
        ('{"ip":"203.0.113.7"}', '{"ip":"203.0.113.0"}'),
        ("from 203.0.113.7, and 198.51.100.250.", "from 203.0.113.0, and 198.51.100.0."),
        ("ring\\tanna@shop.example", f"ring\\t{ANNA}"),  # the letter of an escape belongs to no address
        ("caf\\u00e9anna@shop.example", f"caf\\u00e9{ANNA}"),
        ("ip\\n203.0.113.7", "ip\\n203.0.113.0"),
        ("?ip%3D203.0.113.7", "?ip%3D203.0.113.0"),
        ("192.168.001.005", "192.168.001.0"),
        ("::ffff:203.0.113.7", "::ffff:203.0.113.0"),
        ("999.0.113.7", "999.0.113.7"),
        ("1.2.3.4.5", "1.2.3.4.5"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ("2001:db8::7", "2001:db8::"),
        ("at 10:20:30", "at 10:20:30"),
        ("a@b", "a@b"),
        ("", ""),
    ],
)
def test_addresses_are_hashed_or_truncated_and_nothing_else(text: str, wanted: str) -> None:
    assert protected(text) == wanted
    assert protected_texts(pl.Series([text, None])).to_list() == [wanted, None]
    assert holds_address(pl.Series([text, None])).to_list() == [text != wanted and "u0040" not in wanted, False]


@pytest.mark.parametrize("part", ["1.1.1.1.", "1.1.1.1a", "a@a.a.", "a@aaaa", "a%40", "a", "0:", "\\\\", "f.", "%2E"])
def test_long_texts_take_no_longer_than_they_are_long(part: str) -> None:
    """Quadratic, these would take minutes; the suite's limit of time is the assertion."""
    text = part * (200_000 // len(part)) + " anna@shop.example"
    assert protected(text).endswith(ANNA)


@given(st.text(alphabet='ab@.%40:\\u"1290f ', max_size=40))
def test_protecting_twice_is_protecting_once(text: str) -> None:
    once = protected(text)
    assert protected(once) == once
    assert protected_texts(pl.Series([text])).to_list() == [once]


@given(st.dictionaries(st.text(max_size=5), st.one_of(st.text(max_size=20), st.integers(), st.floats(allow_nan=False))))
def test_json_stays_json(properties: dict[str, object]) -> None:
    told = {**properties, "mail": "anna@shop.example", "note": f"{properties}\n\tanna@shop.example\u00e9"}
    for text in (json.dumps(told), json.dumps(told, ensure_ascii=False)):
        found = json.loads(protected(text))
        assert found["mail"] == ANNA
        assert f"\n\t{ANNA}" in found["note"]


def test_events_and_changes_are_protected_as_their_tables_declare() -> None:
    mail = "anna@shop.example"
    value = event(
        "e1", user_id=mail, page_url=f"https://shop/?m={mail}", properties={"mail": mail, "ip": "203.0.113.7"}
    )
    judged = judge(frame([Record(0, 0, at(1), encoded(value))]), replace(RULES))
    row = judged.accepted.row(0, named=True)
    assert (row["user_id"], row["page_url"]) == (ANNA, f"https://shop/?m={ANNA}")
    assert json.loads(row["properties"]) == {"mail": ANNA, "ip": "203.0.113.0"}

    from platform_assets.changes.judgement import judge_changes

    told = json.dumps(change("users", "c", 1, 0, {**user(mail), "email": mail})).encode()
    accepted = judge_changes(frame([Record(0, 0, at(1), told)]), RULES).accepted
    assert json.loads(accepted["row"][0])["user_id"] == ANNA == json.loads(accepted["row"][0])["email_hash"]
    assert mail not in str(accepted.rows())
    assert hashed(f" {mail.upper()} ") == ANNA


def test_no_table_outside_bronze_keeps_what_was_received() -> None:
    """Bytes as received hold whatever somebody sent; only bronze may have them."""
    keeping = [table.name for table in TABLES if pl.Binary() in table.schema.values()]
    assert {name.split("/")[0] for name in keeping} == {"bronze"}
