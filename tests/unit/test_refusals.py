"""A record that breaks several rules is refused with every one of them, not only with the first."""

from __future__ import annotations

from platform_assets.silver.judgement import judge
from platform_assets.silver.quarantine import TABLE
from platform_assets.table import contract
from support.records import RULES, event, frame, record

DAY = 24 * 60


def test_every_rule_that_a_record_breaks_is_named() -> None:
    many = event("", 0, 20 * DAY, anonymous_id="", source="")  # received days after its record was
    ahead = event("e1", 30, 0, sent=0, client_sent_at="soon", anonymous_id=None)
    good = event("e2", 8 * DAY)
    told = judge(frame(record(0, n, 8 * DAY, value) for n, value in enumerate([many, ahead, good])), RULES)
    assert told.accepted["event_id"].to_list() == ["e2"]
    rows = contract(TABLE).validate(told.quarantined)
    assert [(offset, sorted(reasons)) for offset, reasons in rows.select("offset", "reasons").iter_rows()] == [
        (0, ["empty:event_id", "empty:source", "no_actor", "received_in_the_future", "too_late"]),
        (1, ["from_the_future", "no_actor", "not_a_timestamp:client_sent_at", "too_late"]),
    ]


def test_every_field_of_a_wrong_shape_is_named() -> None:
    value = event("e1", 0, without=("source", "schema_ref"), is_bot="yes", session_seq=1.7)
    told = judge(frame([record(0, 0, 1, value)]), RULES)
    assert told.accepted.is_empty()
    assert sorted(told.quarantined["reasons"][0]) == [
        "missing:schema_ref",
        "missing:source",
        "wrong_type:is_bot",
        "wrong_type:session_seq",
    ]
