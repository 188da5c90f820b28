"""The pages without a browser: what they show of a filled lake, of one without rows, and where there is none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from deltalake.exceptions import DeltaError
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from benchmarks.gold_year import declared, fill
from partitions import Window
from platform_assets.gold import active_users, published_numbers, sessions
from platform_assets.gold.metric_files import FOLDER, as_they_are
from platform_assets.semantics.funnels import Funnel
from platform_assets.serving import questions
from platform_assets.serving.dashboard import app, charts, experiments, funnels, health, layout, retention, revenue
from platform_assets.serving.dashboard.source import opened
from platform_assets.tables import create_tables
from resources.lake import Lake
from resources.settings import environment_name

PAGES = ("now", "growth", "retention", "funnels", "experiments", "revenue", "why", "health")
DAYS, USERS = 40, 300
STEPS = ("page_viewed", "app_opened")


@pytest.fixture(scope="module")
def lake_of_forty_days(tmp_path_factory: pytest.TempPathFactory) -> str:
    lake = Lake(str(tmp_path_factory.mktemp("dashboard") / "lake"))
    now = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    fill(lake, now, DAYS, USERS, events_a_day=2_000)
    return lake.url


@pytest.fixture
def elsewhere() -> Iterator[None]:
    opened.clear()
    yield
    opened.clear()  # the filled lake is opened once for all who look at it


@pytest.fixture
def filled(lake_of_forty_days: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(environment_name("lake_url"), lake_of_forty_days)


def shown(page: str, **query: str | list[str]) -> AppTest:
    """A page, with what its address says."""

    def script(module: str) -> None:
        from importlib import import_module

        import_module(module).show()

    module = import_module(f"platform_assets.serving.dashboard.{page}").__name__
    test = AppTest.from_function(script, kwargs={"module": module}, default_timeout=60)
    for name, value in query.items():
        test.query_params[name] = value
    test.run()
    assert not test.exception, test.exception[0].message
    return test


def figures(test: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in test.metric}


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_figures_and_no_error(page: str) -> None:
    test = shown(page)
    assert test.title[0].value
    assert len(test.metric) >= 4
    assert not test.error
    assert "final: it stays as it is" in test.caption[-1].value


@pytest.mark.usefixtures("elsewhere")
def test_pages_over_tables_without_rows_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(str(tmp_path / "lake"))
    create_tables(lake)
    monkeypatch.setenv(environment_name("lake_url"), lake.url)
    for page in PAGES:
        test = shown(page)
        assert not test.error, page
        assert any("yet" in box.value or "No " in box.value for box in (*test.info, *test.warning)), page


@pytest.mark.usefixtures("elsewhere")
def test_pages_without_a_lake_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(environment_name("lake_url"), str(tmp_path / "none"))
    for page in PAGES:
        test = shown(page)
        assert any("make up" in box.value for box in test.info), page
        assert not test.metric, page


@pytest.mark.usefixtures("elsewhere")
def test_a_lake_that_cannot_be_read_is_an_error_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(environment_name("lake_url"), "s3://bucket/lake")
    [box] = shown("growth").error
    assert "object store" in box.value


@pytest.mark.usefixtures("elsewhere")
def test_a_damaged_table_hides_no_page_that_does_not_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(str(tmp_path / "lake"))
    create_tables(lake)
    (tmp_path / "lake" / sessions.TABLE.name / "_delta_log" / f"{0:020}.json").write_text("{")
    monkeypatch.setenv(environment_name("lake_url"), lake.url)
    assert not shown("health").error
    with pytest.raises(DeltaError):
        opened().catalog.sql("FROM gold.sessions")


@pytest.mark.usefixtures("elsewhere")
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(environment_name("reporting_timezone"), "Mars/Olympus")
    [box] = shown("growth").error
    assert r"reporting\_timezone" in box.value


@pytest.mark.usefixtures("filled")
def test_growth_compares_the_newest_day_that_has_ended_with_its_weekday_before() -> None:
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    told = figures(shown("growth"))
    assert f"DAU, {layout.day_name(yesterday)} ◐" in told
    assert told["Stickiness ◐"].endswith("%")


@pytest.mark.usefixtures("filled")
def test_filters_come_from_the_address() -> None:
    test = shown("growth", by="Country", count="MAU", period="7 days")
    assert any("Active people by country" in header.value for header in test.subheader)
    assert test.multiselect[0].value == ["US", "DE", "IN", "GB"]
    test.multiselect[0].set_value(["BR"]).run()
    assert not test.exception


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(("dimension", "value"), [("platform", "ios"), ("country", "DE"), ("plan", "not known")])
def test_growth_is_told_of_some_people(dimension: str, value: str) -> None:
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    found = questions.active_users_of(opened().catalog, dimension, [value], yesterday, yesterday)
    test = shown("growth", **{dimension: value})
    assert figures(test)[f"DAU, {layout.day_name(yesterday)} ◐"] == f"{found['dau'].item():,}"
    [lifecycle] = test.warning
    assert f"Not of {dimension} {value} alone" in lifecycle.value
    assert "docs/metrics.md" in lifecycle.value


@pytest.mark.usefixtures("filled")
def test_growth_has_no_numbers_of_two_dimensions_together() -> None:
    for query in ({"country": "DE", "platform": "ios"}, {"country": "DE", "by": "Platform"}):
        test = shown("growth", **query)
        assert "not by two of them together" in test.info[0].value
        assert not test.metric
    assert shown("growth", country="DE", by="Country").multiselect[0].value == ["DE"]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("page", ["now", "retention", "funnels", "experiments", "revenue", "why", "health"])
def test_numbers_that_are_not_told_by_what_was_chosen_say_so(page: str) -> None:
    untold = "platform" if page == "revenue" else "country"
    test = shown(page, **{untold: "some"})
    assert any(f"Not of {untold} some alone" in box.value for box in test.warning)
    assert test.metric
    assert test.query_params[untold] == "some", "and it goes on to the next page"
    assert not any("alone" in box.value for box in shown(page, **{untold: "All"}).warning)


@pytest.mark.usefixtures("filled")
def test_people_whom_there_are_none_of_are_not_forgotten() -> None:
    test = shown("growth", country="Atlantis")
    assert test.selectbox(key="country").value == "Atlantis"
    assert any("other people" in box.value for box in test.info)
    [lifecycle] = shown("retention", country="`<b>$x$").warning
    assert r"country \`\<b>\$x\$ alone" in lifecycle.value


@pytest.mark.usefixtures("filled")
def test_a_funnel_told_by_platform_is_narrowed_to_one() -> None:
    last = datetime.now(UTC).date()
    table = questions.metric_tables(opened().catalog, "funnels")["checkout"]
    asked = funnels.specification(table, opened().metrics)
    found = questions.funnel(opened().catalog, table, asked, last - timedelta(days=27), last)
    entered = found.filter(breakdown="ios", step=1)["persons"].item()
    test = shown("funnels", platform="ios")
    assert figures(test)["Entered ○"] == f"{entered:,}"
    assert not test.warning


@pytest.mark.usefixtures("filled")
def test_days_may_be_chosen_one_by_one() -> None:
    last = datetime.now(UTC).date() - timedelta(days=20)
    test = shown("revenue", period="From – to", days=[str(last - timedelta(days=1)), str(last)])
    assert test.date_input[0].value == (last - timedelta(days=1), last)
    two = int(figures(test)["Orders ◐"].replace(",", ""))
    one = int(figures(shown("revenue", period="From – to", days=[str(last), str(last)]))["Orders ◐"].replace(",", ""))
    assert 0 < one < two
    [box] = shown("revenue", period="From – to", days=[str(last), str(last - timedelta(days=1))]).info
    assert "choose the earlier day first" in box.value


@pytest.mark.usefixtures("filled")
def test_revenue_is_open_while_its_last_day_is() -> None:
    assert "Orders ○" in figures(shown("revenue"))


@pytest.mark.usefixtures("filled")
def test_revenue_of_a_country_is_a_part_of_all_and_of_two_things_at_once_is_refused() -> None:
    def orders(**chosen: str) -> int:
        return int(figures(shown("revenue", **chosen))["Orders ○"].replace(",", ""))

    assert 0 < orders(country="DE") < orders()
    assert 0 < orders(plan="pro") < orders()
    both = shown("revenue", country="DE", plan="pro")
    assert "set one of them to All" in both.info[0].value


@pytest.mark.usefixtures("filled")
def test_files_of_metrics_that_change_are_read_anew() -> None:
    shown("funnels")
    before = opened()
    assert opened() is before
    (path,) = FOLDER.glob("checkout.yaml")
    path.touch()
    shown("funnels")
    assert opened() is not before
    assert opened().files == as_they_are()


@pytest.mark.usefixtures("elsewhere")
def test_growth_is_told_of_days_in_whose_month_nobody_was_active(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, today = Lake(str(tmp_path / "lake")), datetime.now(UTC).date()
    create_tables(lake)
    rows = [
        {"day": today - timedelta(days=n), "mau": 0 if n < 5 else 7, "stickiness": None if n < 5 else 0.0}
        for n in range(20)
    ]
    lake.append(active_users.TABLE, declared(active_users.TABLE, rows))
    monkeypatch.setenv(environment_name("lake_url"), lake.url)
    told = figures(shown("growth"))
    assert told["Stickiness ○"] == "–"


@pytest.mark.usefixtures("elsewhere")
def test_an_experiment_that_nobody_saw_is_not_split_as_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, today = Lake(str(tmp_path / "lake")), datetime.now(UTC).date()
    create_tables(lake)
    lake.append(active_users.TABLE, declared(active_users.TABLE, [{"day": today}]))
    monkeypatch.setenv(environment_name("lake_url"), lake.url)
    [table] = questions.metric_tables(opened().catalog, "experiment_results").values()
    row = {"day": today, "metric": "ordered", "variant": "treatment", "sample_ratio_p_value": 1.0}
    for control, said in ((0, "Nobody was exposed"), (1, None)):
        lake.append(table, declared(table, [{**row, "control_units": control}]))
        test = shown("experiments")
        assert [box.value.partition(" by ")[0] for box in test.info] == ([] if said is None else [said])
        assert bool(test.metric) is (said is None)


@pytest.mark.usefixtures("elsewhere")
def test_values_from_producers_are_no_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, today = Lake(str(tmp_path / "lake")), datetime.now(UTC).date()
    create_tables(lake)
    lake.append(active_users.TABLE, declared(active_users.TABLE, [{"day": today}]))
    start = datetime(today.year, today.month, today.day, tzinfo=UTC)
    row = {
        "metric": "active_users_by_slice.dau",
        "slice": "dimension=country,value=![x](http://evil/p.png) $a$ **b**",
        "grain": "day",
        "window_start": start,
        "window_end": start + timedelta(days=1),
        "window_date": today,
        "revision": 1,
        "value": Decimal(1),
        "causes": ["first publication"],
        "source_versions": "{}",
        "published_at": start,
    }
    lake.append(published_numbers.TABLE, declared(published_numbers.TABLE, [row]))
    monkeypatch.setenv(environment_name("lake_url"), lake.url)
    [sentence, *_] = shown("why").info
    assert r"country=\!\[x\](http\://evil/p.png) \$a\$ \*\*b\*\*" in sentence.value


@pytest.mark.usefixtures("filled")
def test_a_funnel_is_built_on_the_fly_and_has_as_many_as_were_counted_by_hand() -> None:
    test = shown("funnels", view="Build one", steps=["page_viewed", "app_opened"], order="In any order")
    source = opened()
    newest = datetime.now(UTC).date()
    query = "SELECT count(DISTINCT raw_id) FROM gold.fact_events WHERE event_date >= ? AND event_name IN (?, ?)"
    counted = source.catalog.sql(query, [newest - timedelta(days=6), *STEPS]).item()
    assert figures(test)["Entered ○"] == f"{counted:,}"
    test = shown("funnels", view="Build one", steps=["page_viewed", "app_opened"], order="In any order", country="DE")
    of_germans = source.catalog.sql(f"{query} AND country = 'DE'", [newest - timedelta(days=6), *STEPS]).item()
    assert figures(test)["Entered ○"] == f"{of_germans:,}" != f"{counted:,}"
    test = shown("funnels", view="Build one", steps=["page_viewed"])
    assert any("at least two steps" in box.value for box in test.info)


@pytest.mark.usefixtures("filled")
def test_a_funnel_apart_has_a_column_of_times_for_each_platform() -> None:
    times = shown("funnels", of="Each apart").dataframe[0].value
    assert set(times.columns) == {"step", "web", "ios", "android"}


def test_a_breakdown_may_be_called_as_a_column_of_the_table_is() -> None:
    def script() -> None:
        import polars as pl

        from platform_assets.serving.dashboard.funnel_steps import times

        rows = [("step", 1, "a", None), ("step", 2, "b", 1.0), ("web", 1, "a", None), ("web", 2, "b", 2.0)]
        names = ["breakdown", "step", "name", "p50_seconds"]
        times(pl.DataFrame(rows, schema=names, orient="row"), "p50_seconds", "Median")

    test = AppTest.from_function(script).run()
    assert not test.exception
    assert test.dataframe[0].value.values.tolist() == [["2. b", "1 s", "2 s"]]


@pytest.mark.usefixtures("filled")
def test_why_tells_what_a_number_was_and_because_of_what_it_changed() -> None:
    test = shown("why")
    assert "first published as 300" in test.info[0].value
    assert "late events" in test.info[0].value
    assert test.dataframe[0].value["because of"].str.contains("late events").any()


@pytest.mark.usefixtures("filled")
def test_why_tells_what_was_known_at_an_instant() -> None:
    """Of each day it was said three times: 9, 18 and 27 hours after its end."""
    day = datetime.now(UTC).date() - timedelta(days=10)
    then = f"{day + timedelta(days=1)}T18:00"
    days = [str(day + timedelta(days=n)) for n in (-1, 1)]
    test = shown("why", period="From – to", days=days, window=str(day), known_at=then)
    assert layout.plain(f"390 as known at {then.replace('T', ' ')} UTC") in test.info[0].value
    table = test.dataframe[0].value
    assert table[["window", "known then", "now"]].values.tolist() == [
        [str(day), "390", "393"],
        [str(day - timedelta(days=1)), "393", "393"],
    ]
    test = shown("why", known_at="2020-01-01T00:00")
    assert any("a later instant" in box.value for box in test.info)


@pytest.mark.usefixtures("filled")
def test_the_app_opens_on_now(lake_of_forty_days: str) -> None:
    test = AppTest.from_file(app.__file__, default_timeout=60).run()
    assert lake_of_forty_days
    assert not test.exception
    assert test.title[0].value == "Now"


def test_a_funnel_of_all_is_the_sum_of_its_parts() -> None:
    rows = [
        ("web", 1, "a", 10, 1.0, 1.0, None),
        ("web", 2, "b", 5, 0.5, 0.5, 10.0),
        ("ios", 1, "a", 30, 1.0, 1.0, None),
        ("ios", 2, "b", 15, 0.5, 0.5, 30.0),
    ]
    names = ["breakdown", "step", "name", "persons", "from_first", "from_previous", "mean_seconds"]
    asked = Funnel.model_validate({"steps": [{"event": "a"}, {"event": "b"}]})
    first, last = funnels.together(pl.DataFrame(rows, schema=names, orient="row"), asked).iter_rows(named=True)
    assert (first["persons"], first["mean_seconds"]) == (40, None)
    assert (last["persons"], last["from_first"], last["mean_seconds"]) == (20, 0.5, 25.0)


def test_most_are_lost_before_a_step_that_is_required() -> None:
    asked = Funnel.model_validate({"steps": [{"event": "a"}, {"event": "b", "optional": True}, {"event": "c"}]})

    def lost(*persons: int) -> tuple[str, float] | None:
        rows = {"breakdown": ["web"] * 3, "step": [1, 2, 3], "name": ["a", "b", "c"], "persons": list(persons)}
        worst = funnels.most_lost(questions.with_shares(pl.DataFrame(rows), asked), asked)
        return None if worst is None else (worst["name"], worst["from_previous"])

    assert lost(10, 2, 6) == ("c", 0.6)
    assert lost(0, 0, 0) is None


def test_retention_of_all_leaves_out_what_has_not_ended() -> None:
    rows = [(0, 100, 100, True), (1, 40, 100, True), (0, 50, 50, True), (1, None, 50, False), (2, 0, 0, True)]
    found = pl.DataFrame(rows, schema=["interval", "persons", "cohort_size", "is_complete"], orient="row")
    assert retention.average(found).rows() == [(0, 150, 150, 1.0), (1, 40, 100, 0.4), (2, 0, 0, None)]


def test_revenue_names_the_newest_cohorts_and_gathers_the_others() -> None:
    months = [date(2026, m, 1) for m in range(1, 8)] + [None]
    rows = [{"month": date(2026, 7, 1), "cohort_month": m, "net": Decimal(1), "orders": 1} for m in months]
    told = revenue.cohorts_named(pl.DataFrame(rows))
    assert dict(told.select("cohort", "net").iter_rows())["earlier"] == 3
    assert told["cohort"].to_list() == ["earlier", "Apr 2026", "May 2026", "Jun 2026", "Jul 2026", "nobody named"]


def test_reasons_are_told_without_what_the_parser_said() -> None:
    rows = [("q", "not_json:a", 2), ("q", "not_json:b", 3), ("q", "no_actor", 4)]
    found = pl.DataFrame(rows, schema=["table", "reason", "records"], orient="row")
    assert health.reasons(found).rows() == [("not_json", 5), ("no_actor", 4)]


def test_instants_are_drawn_by_the_clock_of_the_reporting_timezone() -> None:
    frame = pl.DataFrame({"day": [date(2026, 3, 1)], "at": [datetime(2026, 3, 1, 23, 30, tzinfo=UTC)]})
    told = charts.clocked(frame, ZoneInfo("Asia/Kolkata"), "day", "at").row(0)
    assert told == (datetime(2026, 3, 1), datetime(2026, 3, 2, 5))  # noqa: DTZ001 - as Vega draws it


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, "–"),
        (9.4, "9 s"),
        (75, "1 min 15 s"),
        (3600, "1 h"),
        (599, "9 min 59 s"),
        (601, "10 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_have_two_units(seconds: float | None, told: str) -> None:
    assert layout.duration(seconds) == told


def test_incidents_that_nobody_was_told_of_are_left_out() -> None:
    changes = [("a", 1, "seen"), ("a", 2, "gone"), ("b", 1, "seen"), ("c", 1, "opened"), ("c", 2, "recovered")]
    rows = pl.DataFrame(changes, schema=["incident_id", "revision", "change"], orient="row")
    told = health.told_of(rows.with_columns(changed_at=pl.col("revision")))
    assert told.select("incident_id", "change").rows() == [("c", "recovered")]


@pytest.mark.parametrize(("p_value", "told"), [(None, "–"), (0.0, "< 0.0001"), (0.00012, "0.0001"), (0.694, "0.6940")])
def test_a_p_value_is_never_nought(p_value: float | None, told: str) -> None:
    assert experiments.probability(p_value) == told


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("sales", "refunds"), 2),
        (("android", "ios", "web", "not known"), 4),
        (("new", "returning", "resurrecting", "dormant"), 2),
        (("Apr 2026", "May 2026", "Jun 2026", "Jul 2026", "earlier"), 3),
        (("experiment_exposed, by everybody", "another one that is as long"), 1),
    ],
)
def test_a_legend_fits_a_phone_without_a_name_left_over(names: tuple[str, ...], columns: int) -> None:
    told = charts.legend(names)
    assert told is not None
    assert told["columns"] == columns


@pytest.mark.usefixtures("filled")
def test_a_platform_of_which_nothing_came_is_named() -> None:
    said = [info.value for info in shown("now", platform="fridge").info]
    assert said == ["No event happened on fridge in this time: look further back, or at all platforms."] * 2


def test_a_legend_names_what_is_drawn_and_nothing_else() -> None:
    told = charts.legend(("late events", "identity merge", "backfill"), ["identity merge"])
    assert told is not None
    assert told["values"] == ["identity merge"]


def test_the_platforms_of_a_minute_stand_on_each_other() -> None:
    minute = datetime(2026, 3, 1, 12, tzinfo=UTC)
    frame = pl.DataFrame({"minute": [minute] * 2, "platform": ["ios", "web"], "events": [2, 3]})
    drawn = charts.minutes(frame, Window(minute, minute + timedelta(hours=1)), ZoneInfo("UTC"), ["web", "ios"])
    assert drawn.data.select("platform", "bottom", "top").rows() == [("web", 0, 3), ("ios", 3, 5)]


@pytest.mark.parametrize("changed", [datetime(2026, 11, 1, 6, tzinfo=UTC), datetime(2026, 3, 8, 7, tzinfo=UTC)])
def test_time_goes_on_where_clocks_are_changed(changed: datetime) -> None:
    zone, hour = ZoneInfo("America/New_York"), timedelta(hours=1)
    at = [changed - hour / 2, changed + hour / 2]
    frame = pl.DataFrame({"minute": at, "platform": ["web"] * 2, "events": [2, 3]})
    drawn = charts.minutes(frame, Window(changed - hour, changed + hour), zone, ["web"])
    assert drawn.data["bottom"].to_list() == [0, 0], "they are of two minutes"
    assert drawn.data["minute"].diff()[1] == hour
    assert drawn.data["clock"].to_list() == [f"{moment.astimezone(zone):%H:%M}" for moment in at]
    x = drawn.to_dict()["encoding"]["x"]
    first, last = x["scale"]["domain"]
    assert last - first == 2 * 3_600_000
    before, after = (-4, -5) if changed.month == 11 else (-5, -4)
    told = f"< {int(changed.timestamp())}000 ? {before * 3_600_000} : {after * 3_600_000}"
    assert told in x["axis"]["labelExpr"]


@given(st.text())
def test_nothing_that_is_told_is_markup(told: str) -> None:
    markdown = layout.plain(told)
    assert re.sub(r"\\(.)", r"\1", markdown) == " ".join(told.split())
    assert not set(re.sub(r"\\.", "", markdown)) & set("\\`*_[]:$<!#~\n")


@pytest.mark.parametrize(
    ("breakdown", "expected"),
    [
        (None, True),
        ({}, True),
        ({"attribution": "last"}, True),
        ({"attribution": "all"}, False),
        ({"attribution": "step", "step": 2}, False),
    ],
)
def test_people_in_several_breakdowns_do_not_add_up(breakdown: dict[str, object] | None, *, expected: bool) -> None:
    told = None if breakdown is None else {"properties": ["platform"], **breakdown}
    asked = Funnel.model_validate({"steps": [{"event": "a"}, {"event": "b"}], "breakdown": told})
    assert funnels.adds_up(asked) is expected
