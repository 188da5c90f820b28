"""What the pages ask: the answers of SQL, against the same rows counted by hand."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import narwhals as nw
import polars as pl
import pytest

from partitions import Window
from platform_assets.gold import active_users, fact_events, live_metrics, published_numbers, revenue, revenue_by_slice
from platform_assets.gold.published_numbers import shown
from platform_assets.ops import computations
from platform_assets.quality import check_results, service_levels
from platform_assets.semantics.calendar import bucket_of
from platform_assets.semantics.events import CANARY
from platform_assets.semantics.funnels import Breakdown, Funnel, Step, attempts, furthest, summary
from platform_assets.semantics.identity import joined
from platform_assets.serving import metrics, questions
from platform_assets.serving.catalog import Catalog
from platform_assets.silver import events as silver
from platform_assets.silver import outcomes, persons
from platform_assets.table import Table
from platform_assets.tables import tables
from resources.lake import Lake
from support.published import Restated

FIRST, LAST = date(2026, 3, 1), date(2026, 3, 4)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ZONE = ZoneInfo("UTC")
STEPS = ("product_viewed", "order_completed")
BOUGHT = Funnel.model_validate({"steps": [{"event": name} for name in STEPS]})
CHECKOUT = next(table for table in tables() if table.name == "gold/funnels/checkout")


def filled(table: Table, rows: list[dict[str, object]]) -> pl.DataFrame:
    """Rows with something in every column that is asked of nobody here."""
    some = {
        pl.String: "",
        pl.Int64: 0,
        pl.Int32: 0,
        pl.Boolean: False,
        pl.Date: FIRST,
        pl.Datetime: NOON,
        pl.Float64: 0.0,
    }
    base = {c.name: None if c.nullable else some.get(type(c.dtype), Decimal(0)) for c in table.columns}
    return pl.DataFrame([{**base, **row} for row in rows], schema=table.schema, orient="row")


@pytest.fixture
def catalog(lake: Lake) -> Iterator[Catalog]:
    for table in tables():
        lake.create(table)
    with Catalog(lake, tables()) as opened:
        yield opened


def test_a_table_that_was_only_sorted_was_not_computed(lake: Lake, catalog: Catalog) -> None:
    made = {"table": "silver/activity_hours", "upstream": "silver/events", "computed_at": NOON}
    sorted_in_place = {"table": "silver/events", "upstream": "silver/events", "computed_at": NOON + timedelta(hours=1)}
    lake.append(computations.TABLE, filled(computations.TABLE, [made, sorted_in_place]))
    assert questions.computed(catalog).select("table", "computed_at").rows() == [("silver/activity_hours", NOON)]


def test_events_by_minute_are_summed_and_those_taken_back_are_gone(lake: Lake, catalog: Catalog) -> None:
    told = [(0, "web", 3), (0, "web", -1), (0, None, 2), (1, "ios", 1), (1, "ios", -1), (9, "web", 9)]
    rows = [
        {
            "minute": NOON + timedelta(minutes=m),
            "platform": p,
            "events": n,
            "event_name": "a",
            "event_date": NOON.date(),
        }
        for m, p, n in told
    ]
    lake.append(live_metrics.TABLE, filled(live_metrics.TABLE, rows))
    window = Window(NOON, NOON + timedelta(minutes=5))
    assert questions.events_per_minute(catalog, window).rows() == [(NOON, "not known", 2), (NOON, "web", 2)]
    assert questions.events_by_name(catalog, window, "web").rows() == [("a", 2)]
    assert questions.platforms(catalog, window) == ["not known", "web"]


def test_days_say_how_final_they_are(lake: Lake, catalog: Catalog) -> None:
    flags = [(True, True), (True, False), (False, False)]
    rows = [
        {"day": FIRST + timedelta(days=n), "dau": n, "is_closed": closed, "is_final": final}
        for n, (closed, final) in enumerate(flags)
    ]
    lake.append(active_users.TABLE, filled(active_users.TABLE, rows[::-1]))
    found = questions.active_users(catalog, FIRST, LAST)
    assert found["state"].to_list() == ["final", "closed", "open"]
    assert found["dau"].to_list() == [0, 1, 2]
    assert questions.newest_day(catalog, active_users.TABLE) == FIRST + timedelta(days=2)


def test_revenue_is_never_summed_over_currencies(lake: Lake, catalog: Catalog) -> None:
    told = [("EUR", FIRST, "1.10"), ("EUR", None, "2.20"), ("USD", FIRST, "5"), (None, FIRST, "7")]
    rows = [{"currency": c, "cohort_month": m, "net": Decimal(n), "orders": 1} for c, m, n in told]
    lake.append(revenue.TABLE, filled(revenue.TABLE, rows))
    found = questions.revenue(catalog, FIRST, LAST)
    assert dict(found.select("currency", "net").iter_rows()) == {
        "EUR": Decimal("3.3"),
        "USD": Decimal(5),
        "not known": Decimal(7),
    }
    assert questions.currencies(catalog, FIRST, LAST)[0] == "EUR"
    cohorts = questions.revenue_by_cohort(catalog, "EUR", FIRST, LAST)
    assert cohorts.rows() == [(FIRST, FIRST, Decimal("1.1"), 1), (FIRST, None, Decimal("2.2"), 1)]


def test_revenue_of_people_is_that_of_their_slice(lake: Lake, catalog: Catalog) -> None:
    told = [("country", "DE", FIRST, "1"), ("country", "DE", None, "2"), ("country", None, FIRST, "4")]
    told += [("plan", "pro", FIRST, "7")]
    rows = [
        {"currency": "EUR", "dimension": d, "value": v, "cohort_month": m, "net": Decimal(n), "orders": 1}
        for d, v, m, n in told
    ]
    lake.append(revenue_by_slice.TABLE, filled(revenue_by_slice.TABLE, rows))

    def net(**people: str) -> list[Decimal]:
        return questions.revenue(catalog, FIRST, LAST, people)["net"].to_list()

    assert [net(country="DE"), net(country="not known"), net(plan="pro"), net(plan="DE")] == [[3], [4], [7], []]
    assert net() == [], "of everybody it is another table's"
    cohorts = questions.revenue_by_cohort(catalog, "EUR", FIRST, LAST, {"country": "DE"})
    assert cohorts.select("cohort_month", "net").rows() == [(FIRST, 1), (None, 2)]
    by_country = questions.revenue_by(catalog, "country", "EUR", FIRST, LAST)
    assert by_country.select("value", "net").rows() == [("not known", 4), ("DE", 3)]
    assert questions.buyers_values(catalog, "country", FIRST, LAST) == ["DE", "not known"]
    with pytest.raises(ValueError, match="one dimension at a time, not by country and plan"):
        net(country="DE", plan="pro")


def test_a_funnel_of_days_adds_up_and_its_mean_is_of_all(lake: Lake, catalog: Catalog) -> None:
    told = [(0, 1, 10, None), (0, 2, 4, 60.0), (1, 1, 30, None), (1, 2, 6, 10.0)]
    rows = [
        {"day": FIRST + timedelta(days=d), "breakdown": "web", "step": k, "name": STEPS[k - 1]}
        | {"persons": n, "mean_seconds": mean, "p50_seconds": mean, "is_closed": d == 0}
        for d, k, n, mean in told
    ]
    lake.append(CHECKOUT, filled(CHECKOUT, rows))
    assert questions.metric_tables(catalog, "funnels")["checkout"] == CHECKOUT
    first, last = questions.funnel(catalog, CHECKOUT, BOUGHT, FIRST, LAST).iter_rows(named=True)
    assert (first["persons"], first["from_first"], first["mean_seconds"]) == (40, 1.0, None)
    assert (last["persons"], last["from_first"], last["mean_seconds"]) == (10, 0.25, (4 * 60 + 6 * 10) / 10)
    by_day = questions.funnel_by_day(catalog, CHECKOUT, FIRST, LAST)
    assert by_day["share"].to_list() == [0.4, 0.2]
    assert by_day["state"].to_list() == ["closed", "open"]


def test_a_funnel_has_the_shares_that_gold_has_of_optional_steps_too(lake: Lake, catalog: Catalog) -> None:
    acts = [(p, n, "abc"[n]) for n, persons in enumerate((10, 2, 6)) for p in range(persons)]
    events = pl.DataFrame(
        {
            "person_id": [f"u:{p}" for p, _, _ in acts],
            "occurred_at": [NOON + timedelta(minutes=n) for _, n, _ in acts],
            "event_name": [name for _, _, name in acts],
        }
    )
    steps = [{"event": "a"}, {"event": "b", "optional": True}, {"event": "c"}]
    asked = Funnel.model_validate({"steps": steps})
    told = summary(furthest(attempts(events, asked), ["person_id"]), asked)
    lake.append(CHECKOUT, filled(CHECKOUT, [{"day": FIRST, **row} for row in told.to_dicts()]))
    found = questions.funnel(catalog, CHECKOUT, asked, FIRST, LAST)
    assert found["from_previous"].to_list() == told["from_previous"].to_list() == [1.0, 0.2, 0.6]
    assert found["from_first"].to_list() == told["from_first"].to_list()
    nobody = questions.with_shares(found.select("breakdown", "step", persons=pl.lit(0)), asked)
    assert nobody.select("from_first", "from_previous").unique().rows() == [(None, None)]


def test_numbers_are_offered_of_the_days_of_the_reporting_timezone(lake: Lake, catalog: Catalog) -> None:
    """In Kolkata a day begins on the UTC date before."""
    before, window, after = (
        Window.of_days(day, day, ZoneInfo("Asia/Kolkata"))
        for day in (LAST - timedelta(days=1), LAST, LAST + timedelta(days=1))
    )
    row = {
        "metric": "m",
        "slice": "s",
        "revision": 1,
        "grain": "day",
        "window_start": window.start,
        "window_end": window.end,
    }
    rows = [{**row, "window_date": window.first_date, "source_versions": "{}", "causes": ["finality"]}]
    lake.append(published_numbers.TABLE, filled(published_numbers.TABLE, rows))
    assert questions.published_metrics(catalog, window) == ["m"]
    assert questions.published_slices(catalog, "m", window) == ["s"]
    assert questions.published_metrics(catalog, after) == questions.published_metrics(catalog, before) == []


def test_revenue_is_closed_when_its_last_day_was_computed_after_its_end(lake: Lake, catalog: Catalog) -> None:
    window = Window.of_days(FIRST, LAST, ZONE)
    last = Window.of_days(LAST, LAST, ZONE)
    assert questions.revenue_state(catalog, window) == "open"
    for watermark, state in ((last.start, "open"), (None, "open"), (last.end, "closed")):
        row = {"table": revenue.TABLE.name, "window_start": last.start, "window_end": last.end, "watermark": watermark}
        lake.append(computations.TABLE, filled(computations.TABLE, [row]))
        assert questions.revenue_state(catalog, window) == state
    assert questions.revenue_state(catalog, Window.of_days(FIRST, LAST + timedelta(days=1), ZONE)) == "open"


def test_a_stream_that_stopped_long_ago_has_a_newest_event(lake: Lake, catalog: Catalog) -> None:
    """What the platform sends itself does not count, and may be newer."""
    told = [("page_viewed", 9, False), ("page_viewed", 5, False), (CANARY, 4, True)]
    rows = [
        {"event_name": name, "event_id": str(days), "is_test": is_test, "occurred_at": at, "ingested_at": at}
        | {"event_date": at.date()}
        for name, days, is_test in told
        for at in (NOON - timedelta(days=days),)
    ]
    lake.append(silver.TABLE, filled(silver.TABLE, rows))
    fresh = questions.freshness(catalog, NOON)
    assert fresh.newest_event == fresh.newest_arrival == NOON - timedelta(days=5)


@pytest.fixture
def acted(lake: Lake, catalog: Catalog) -> Catalog:
    """Anna views anonymously and orders by name; Ben views twice; Carl orders only, on the last day."""
    told = [
        ("a:1", 0, 0, "web"),
        ("u:anna", 0, 1, "web"),
        ("u:ben", 0, 0, "ios"),
        ("u:ben", 2, 0, "ios"),
        ("u:carl", 3, 1, "ios"),
    ]
    rows = [
        {"raw_id": who, "occurred_at": NOON + timedelta(days=d, minutes=n), "event_name": STEPS[k], "platform": p}
        | {"event_id": str(n), "event_date": NOON.date() + timedelta(days=d)}
        for n, (who, d, k, p) in enumerate(told)
    ]
    lake.append(fact_events.TABLE, filled(fact_events.TABLE, rows))
    span = {
        "raw_id": "a:1",
        "person_id": "u:anna",
        "valid_from": NOON - timedelta(days=9),
        "valid_to": NOON + timedelta(days=9),
    }
    lake.append(persons.TABLE, filled(persons.TABLE, [span]))
    return catalog


def test_a_funnel_asked_on_the_fly_is_of_persons(acted: Catalog) -> None:
    funnel = Funnel(steps=tuple(Step(event=name) for name in STEPS), window=timedelta(days=1))
    found = questions.explored(acted, funnel, NOON.date(), NOON.date() + timedelta(days=3), ZONE)
    assert found["persons"].to_list() == [2, 1], "anna's anonymous view is hers"
    broken = funnel.model_copy(update={"breakdown": Breakdown(properties=("platform",))})
    by_platform = questions.explored(acted, broken, NOON.date(), NOON.date() + timedelta(days=3), ZONE)
    assert by_platform.select("breakdown", "persons").rows() == [("ios", 1), ("ios", 0), ("web", 1), ("web", 1)]
    ios = questions.explored(acted, funnel, NOON.date(), NOON.date(), ZONE, {"platform": "ios"})
    assert ios["persons"].to_list() == [1, 0]


@pytest.fixture
def crowded(lake: Lake, catalog: Catalog) -> Catalog:
    """Forty ids of twenty-five persons over eight days: some changed hands, some did only what no funnel asks for."""
    chance = random.Random(7)
    rows = [
        {
            "raw_id": f"{'ua'[n % 2]}:{chance.randrange(20)}",
            "event_id": str(n),
            "event_name": chance.choice([*STEPS, "page_viewed"]),
            "occurred_at": (at := NOON + timedelta(minutes=30 * chance.randrange(8 * 48))),
            "event_date": at.date(),
            "platform": chance.choice(["ios", "web"]),
            "country": chance.choice(["DE", None]),
        }
        for n in range(600)
    ]
    lake.append(fact_events.TABLE, filled(fact_events.TABLE, rows))
    changes = NOON + timedelta(days=3)
    ages = ((datetime(1970, 1, 1, tzinfo=UTC), changes, 0), (changes, datetime(9999, 12, 31, tzinfo=UTC), 5))
    spans = [
        {"raw_id": f"a:{k}", "person_id": f"u:{(k + moved) % 20}", "valid_from": since, "valid_to": until}
        for k in range(15)
        for since, until, moved in ages
    ]
    lake.append(persons.TABLE, filled(persons.TABLE, spans))
    return catalog


@pytest.mark.parametrize("only", [{}, {"platform": "ios"}, {"country": questions.UNKNOWN}])
@pytest.mark.parametrize("order", ["ordered", "strict", "unordered"])
def test_a_funnel_asked_on_the_fly_is_what_the_library_makes_of_all_events(
    crowded: Catalog, order: str, only: dict[str, str]
) -> None:
    said = {"steps": [{"event": name} for name in STEPS], "window": "36h", "order": order}
    funnel = Funnel.model_validate({**said, "breakdown": {"properties": ["platform"]}})
    first, last = NOON.date() + timedelta(days=1), NOON.date() + timedelta(days=4)
    read = Window.of_days(first, last, ZONE)
    facts = crowded.sql("SELECT * FROM gold.fact_events").with_columns(pl.col("country").fill_null(questions.UNKNOWN))
    facts = facts.filter(
        pl.col("occurred_at").is_between(read.start, read.end + funnel.window, closed="left"),
        *(pl.col(column) == value for column, value in only.items()),
    )
    whose = crowded.sql("SELECT raw_id, person_id, valid_from, valid_to FROM silver.persons")
    tried = attempts(joined(facts.lazy(), whose.lazy()), funnel, interval="day")
    begun = tried.filter(nw.col("bucket").is_between(bucket_of(first, "day"), bucket_of(last, "day"))).drop("bucket")
    wanted = summary(furthest(begun, ["person_id", *funnel.breakdown_columns]), funnel)
    found = questions.explored(crowded, funnel, first, last, ZONE, only)
    assert found["persons"].sum() > 10
    assert found.rows() == wanted.rows()


def test_a_funnel_that_would_read_too_much_is_refused(acted: Catalog) -> None:
    funnel = Funnel(steps=tuple(Step(event=name) for name in STEPS))
    with pytest.raises(questions.TooMuch, match=r"read 5 events, and at most 4.*fewer days"):
        questions.explored(acted, funnel, NOON.date(), NOON.date(), ZONE, most_rows=4)
    with pytest.raises(questions.TooMuch, match="32 days are asked for"):
        questions.explored(acted, funnel, FIRST, FIRST + timedelta(days=31), ZONE)


def test_late_events_and_refusals_are_told_by_the_day_that_they_came(lake: Lake, catalog: Catalog) -> None:
    told = [("silver", 0, 5), ("silver", 1, 3), ("silver", 2, 2), ("duplicate", 0, 4), ("quarantined", 0, 1)]
    rows = [
        {"outcome": outcome, "event_hour": NOON - timedelta(hours=h), "ingestion_hour": NOON, "records": n}
        | {"ingestion_date": NOON.date()}
        for outcome, h, n in told
    ]
    lake.append(outcomes.TABLE, filled(outcomes.TABLE, rows))
    assert questions.outcomes(catalog, FIRST, LAST).row(0, named=True) == {
        "day": NOON.date(),
        "records": 15,
        "duplicate": 4,
        "quarantined": 1,
        "dead_lettered": 0,
        "silver": 10,
        "late": 2,
    }


def test_a_restated_number_is_told_with_what_it_was(tmp_path: object) -> None:
    world = Restated.begin(tmp_path)  # type: ignore[arg-type]
    day = date(2026, 1, 12)
    closed = datetime(2026, 1, 13, 6, tzinfo=UTC)
    world.compute(day, 5, 5, 5, closed)
    world.publish()
    between = world.platform.clock()
    world.late_event(day)
    world.compute(day, 6, 6, 6, closed)
    world.publish()
    with Catalog(world.platform.lake, tables()) as catalog:
        window = Window.of_days(day, day, ZONE)
        entries = metrics.published(catalog, "active_users.dau", "", window)
        (told,) = questions.explanations(entries, ZONE)
        assert "then +1 for late events" in told.sentence
        known = told.known_at(between)
        assert known is not None
        assert shown(known["value"]) == "5"
        assert "active_users.dau" in questions.published_metrics(catalog, window)
        assert questions.published_slices(catalog, "active_users.dau", window) == [""]
        restated = questions.restatements(catalog, Window.of_days(date(2026, 1, 1), date(2026, 12, 31), ZONE))
        assert set(restated["cause"]) == {"late events"}
        earlier = metrics.published(catalog, "active_users.dau", "", window, between)
        (of_then,) = questions.explanations(earlier, ZONE, between)
        assert of_then.entries.rows() == entries.head(earlier.height).rows()
        assert of_then.sentence.startswith("active_users.dau of 2026-01-12 was first published as 5")
        assert f"has not changed until {between:%Y-%m-%d %H:%M} UTC" in of_then.sentence


def test_an_empty_lake_has_empty_answers(catalog: Catalog) -> None:
    fresh = questions.freshness(catalog, NOON)
    assert (fresh.watermark, fresh.newest_event, fresh.behind) == (None, None, 0)
    window = Window(NOON, NOON + timedelta(minutes=5))
    assert questions.active_persons(catalog, [window], frozenset()) == [0]
    assert questions.newest_day(catalog, active_users.TABLE) is None
    assert questions.computed(catalog).is_empty()
    assert questions.refusals(catalog, FIRST, LAST).is_empty()
    assert questions.newest_rows(catalog, "ops.computations").is_empty()


def test_a_check_fails_until_the_newest_look_at_each_partition_passed(lake: Lake, catalog: Catalog) -> None:
    looks = [("a", "h1", False), ("a", "h2", False), ("a", "h1", True), ("b", None, True), ("b", None, False)]
    looks += [("c", "h1", False), ("c", "h1", True)]
    rows = [
        {
            "event": number,
            "asset": asset,
            "check_name": "volume",
            "partition_key": partition,
            "passed": passed,
            "severity": "warning" if asset == "a" else "error",
            "description": f"look {number}",
            "evaluated_at": NOON + timedelta(minutes=number),
            "evaluated_date": NOON.date(),
        }
        for number, (asset, partition, passed) in enumerate(looks, 1)
    ]
    lake.append(check_results.TABLE, filled(check_results.TABLE, rows))
    found = questions.failing_checks(catalog, NOON)
    told = found.select("asset", "severity", "partition_key", "partitions", "description").rows()
    assert told == [("b", "error", None, 1, "look 5"), ("a", "warning", "h2", 1, "look 2")]
    assert questions.failing_checks(catalog, NOON + timedelta(minutes=6)).is_empty()


def test_service_levels_come_newest_week_first_and_the_worst_of_it(lake: Lake, catalog: Catalog) -> None:
    weeks = [(2, "x", 1, 0.5), (9, "x", 1, 1.0), (9, "y", 1, -2.0), (9, "z", 0, 1.0)]
    rows = [
        {"week": date(2026, 3, day), "week_name": f"W{day}", "asset": asset, "due": due, "budget_left": left}
        for day, asset, due, left in weeks
    ]
    lake.append(service_levels.TABLE, filled(service_levels.TABLE, rows))
    found = questions.service_levels(catalog, date(2026, 3, 2)).select("week_name", "asset").rows()
    assert found == [("W9", "y"), ("W9", "x"), ("W2", "x")]
    assert questions.service_levels(catalog, date(2026, 3, 9)).height == 2
