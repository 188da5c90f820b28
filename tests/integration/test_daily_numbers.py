"""Numbers of metric files over a real lake: worked by hand, and rebuilt in any order."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from partitions import Window
from platform_assets.gold import fact_events, published_numbers
from platform_assets.gold.daily_numbers import DailyNumber
from platform_assets.gold.metric_columns import NO_VALUE
from platform_assets.gold.metric_files import MetricFileError, load
from platform_assets.gold.metric_numbers import numbers
from platform_assets.silver import activity_hours, identity_links, persons
from support.platforms import Run
from support.records import START, at, encoded, event

DAY = 24 * 60
FIRST = START.date()
NOW = datetime(2026, 12, 1, tzinfo=UTC)
ALL = Window(START, START + timedelta(days=9))

RETENTION = """
metric: retention
description: Who comes back.
interval: day
intervals: 3
"""
FIRST_TIME = RETENTION + "kind: first_time\nstart: {event: order_completed}\n"
LIFECYCLE = "metric: lifecycle\ndescription: Where they stand.\ninterval: day\n"
EXPERIMENT = """
metric: experiment
description: A new button.
name: button
variants: [old, new]
control: old
first_day: 2026-11-20
last_day: 2026-11-23
covariate_days: 0
exposure:
  events: {event: experiment_exposed}
metrics:
  - name: orders
    measure: {events: {event: order_completed}}
"""
COHORT = """
metric: cohort
description: Who viewed two pages in two days, and is on the web.
of:
  all:
    - {did: {event: page_viewed}, at_least: 2, days: 2}
    - {property: source, value: web}
    - none: [{sequence: [{event: page_viewed}, {event: order_completed}], days: 4}]
"""
TREND = """
metric: trend
description: Views, and who viewed within two days.
series:
  - events: {event: page_viewed}
  - events: {event: page_viewed}
    measure: {kind: actors, within_days: 2}
"""
STICKINESS = "metric: stickiness\ndescription: On how many days.\nactivity: {event: page_viewed}\nintervals: 3\n"
EVER = """
metric: cohort
description: Who viewed a page, long ago, and never ordered; or logged in for the first time.
of:
  any:
    - all:
        - {did: {event: page_viewed}}
        - {did: {event: order_completed}, exactly: 0}
        - {none: [{first_did: {event: page_viewed}, days: 2}]}
    - {first_did: {event: logged_in}, days: 3}
"""
WHO = {"anna": [0, 1, 3], "carl": [0, 2], "dora": [1]}
"""On which days somebody views a page."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Three people over four days, in the lake up to where numbers begin."""
    made = Run.over(tmp_path, [], NOW)
    told = [
        event(f"{name}-{day}", day * DAY, anonymous_id=f"of-{name}", user_id=name)
        for name, days in WHO.items()
        for day in days
    ]
    told += [
        # A device that changes hands within an hour.
        event("before", 20, anonymous_id="of-carl", user_id=None, event_name="searched"),
        event("login", 30, anonymous_id="of-carl", user_id="erna", event_name="logged_in"),
        event("o1", DAY + 5, anonymous_id="of-anna", user_id="anna", event_name="order_completed"),
        event("o2", 3 * DAY + 5, anonymous_id="of-anna", user_id="anna", event_name="order_completed"),
        *(exposed(f"x{i}", i, user_id=f"user-{i}", anonymous_id=f"of-user-{i}", variant=i % 2) for i in range(40)),
        *(
            event(f"y{i}", DAY + i, user_id=f"user-{i}", anonymous_id=f"of-user-{i}", event_name="order_completed")
            for i in range(40)
            if i % 2 or i < 8
        ),
        exposed("both", 50, user_id="user-0", anonymous_id="of-user-0", variant=1),
    ]
    made.send([(encoded(fields), at(4 * DAY)) for fields in told])
    last = event("last", 8 * DAY, anonymous_id="of-z", user_id="z", platform="tv")
    made.send([(encoded(last), at(8 * DAY))])
    made.drain()
    for table in (activity_hours, identity_links, fact_events):
        table.rebuild(made.platform, ALL)
    persons.resolve(made.platform)
    made.execute("take_in_firsts")
    return made


def exposed(event_id: str, minute: int, *, variant: int, **who: str) -> dict[str, object]:
    seen = {"experiment": "button", "variant": ("old", "new")[variant]}
    return event(event_id, minute, event_name="experiment_exposed", properties=seen, **who)


def number(run: Run, folder: Path, text: str) -> DailyNumber:
    """The number of a file, of page views alone where it says nothing else."""
    files = folder / "metrics"
    files.mkdir(exist_ok=True)
    (files / "it.yaml").write_text(text)
    (made,) = numbers(load(files))
    run.measure([made])
    return made


def rows(run: Run, made: DailyNumber, *columns: str) -> list[tuple[object, ...]]:
    found = run.lake.scan(made.table).sort("day", *columns[1:2]).collect()
    return found.select(*columns).rows()


VIEWS = "start: {event: page_viewed}\nreturning: {event: page_viewed}\n"


def test_retention_reads_days_of_activity(run: Run, tmp_path: Path) -> None:
    made = number(run, tmp_path, RETENTION + VIEWS)
    made.rebuild(run.platform, ALL)
    told = rows(run, made, "day", "interval", "persons", "cohort_size")[:9]
    days = [FIRST + timedelta(days=k) for k in range(3)]
    assert told == [
        (days[0], 0, 2, 2), (days[0], 1, 1, 2), (days[0], 2, 1, 2),
        (days[1], 0, 2, 2), (days[1], 1, 0, 2), (days[1], 2, 1, 2),
        (days[2], 0, 1, 1), (days[2], 1, 0, 1), (days[2], 2, 0, 1),
    ]  # fmt: skip
    assert rows(run, made, "day", "interval", "persons", "is_complete")[-2:] == [
        (FIRST + timedelta(days=9), 1, None, False),
        (FIRST + timedelta(days=9), 2, None, False),
    ]


def test_first_time_retention_knows_all_history(run: Run, tmp_path: Path) -> None:
    made = number(run, tmp_path, FIRST_TIME + "returning: {event: page_viewed}\n")
    later = Window(START + timedelta(days=3), START + timedelta(days=4))  # of one day, though she ordered before it
    made.rebuild(run.platform, later)
    sizes = rows(run, made, "day", "interval", "cohort_size")
    assert {(day, size) for day, _, size in sizes} == {(FIRST + timedelta(days=k), 0) for k in (3, 4)}
    made.rebuild(run.platform, ALL)
    second = [row for row in rows(run, made, "day", "interval", "persons") if row[0] == FIRST + timedelta(days=1)]
    # Anna, and 24 of the experiment's; of them only Anna views a page two days later.
    assert second == [
        (FIRST + timedelta(days=1), 0, 25),
        (FIRST + timedelta(days=1), 1, 0),
        (FIRST + timedelta(days=1), 2, 1),
    ]


def test_lifecycle_by_day(run: Run, tmp_path: Path) -> None:
    made = number(run, tmp_path, LIFECYCLE + "activity: {event: page_viewed}\n")
    made.rebuild(run.platform, ALL)
    told: dict[date, dict[str, int]] = {}
    for day, status, count in rows(run, made, "day", "status", "persons"):
        told.setdefault(day, {})[status] = count
    assert told[FIRST] == {"new": 2, "returning": 0, "resurrecting": 0, "dormant": 0}
    assert told[FIRST + timedelta(days=1)] == {"new": 1, "returning": 1, "resurrecting": 0, "dormant": -1}
    assert told[FIRST + timedelta(days=3)] == {"new": 0, "returning": 0, "resurrecting": 1, "dormant": -1}


def test_an_experiment_as_it_stood_at_the_end_of_each_day(run: Run, tmp_path: Path) -> None:
    made = number(run, tmp_path, EXPERIMENT)
    made.rebuild(run.platform, ALL)
    told = {
        row[0]: row[1:]
        for row in rows(run, made, "day", "units", "control_units", "mean", "control_mean", "multiple_units")
    }
    assert set(told) == {FIRST + timedelta(days=k) for k in range(4)}
    # 20 saw each; user-0 saw both. All of the new and three of the old ordered the day after.
    assert told[FIRST] == (20, 19, 0.0, 0.0, 1)
    assert told[FIRST + timedelta(days=1)] == (20, 19, 1.0, pytest.approx(3 / 19), 1)
    assert told[FIRST + timedelta(days=3)] == told[FIRST + timedelta(days=1)]


def test_a_trend_looks_back_and_calculates(run: Run, tmp_path: Path) -> None:
    made = number(run, tmp_path, TREND)
    assert (made.back, made.ahead) == (1, 0)
    made.rebuild(run.platform, ALL)
    told = rows(run, made, "day", "series", "breakdown", "name", "value")
    days = [FIRST + timedelta(days=k) for k in range(4)]
    # The last view of the four days is Anna's; those of the days before were seen the day before, too.
    views, viewers = ([row[4] for row in told if row[1] == series][:4] for series in (0, 1))
    assert [row[0] for row in told if row[1] == 0][:4] == days
    assert (views, viewers) == ([2.0, 2.0, 1.0, 1.0], [2.0, 3.0, 3.0, 2.0])
    assert {row[2:4] for row in told} == {(None, "page_viewed")}
    formula = number(run, tmp_path, TREND + "formula: A / B\n")
    formula.rebuild(run.platform, ALL)
    ratio = [row for row in rows(run, formula, "day", "series", "name", "value") if row[0] in days]
    assert ratio == [(day, 0, "A / B", a / b) for day, a, b in zip(days, views, viewers, strict=True)]


def test_a_trend_by_a_property_tells_the_greatest_values_of_each_day_apart(run: Run, tmp_path: Path) -> None:
    text = (
        "metric: trend\ndescription: d\nseries: [{events: {event: experiment_exposed}, measure: {kind: actors}}]\n"
        "breakdowns: [{property: variant}, {property: country}]\nbreakdown_limit: 1\n"
    )
    made = number(run, tmp_path, text)
    made.rebuild(run.platform, ALL)
    countries = run.lake.scan(fact_events.TABLE).filter(event_name="experiment_exposed").collect()["country"].unique()
    ending = f" / {countries.fill_null(NO_VALUE).item()}"
    # 21 exposures to the new one, 20 to the old.
    told = rows(run, made, "day", "breakdown", "series", "value")
    assert sorted(told) == [(FIRST, "$other", 0, 20.0), (FIRST, f"new{ending}", 0, 21.0)]


def test_a_trend_of_weeks_stands_on_their_first_days(run: Run, tmp_path: Path) -> None:
    told = {}
    for week_start in ("monday", "sunday"):
        made = number(run, tmp_path, TREND + f"interval: week\nweek_start: {week_start}\n")
        made.rebuild(run.platform, ALL)
        told[week_start] = {
            day: value for day, series, value in rows(run, made, "day", "series", "value") if not series
        }
        assert made.publishes is not None
        published = made.publishes.numbers(run.lake.scan(made.table), run.platform.settings.zone)
        assert {row["window_end"] - row["window_start"] for row in published.to_dicts()} == {timedelta(days=7)}
    assert {first.strftime("%A") for first in told["monday"]} == {"Monday"}
    assert {first.strftime("%A") for first in told["sunday"]} == {"Sunday"}
    assert all(sum(values.values()) <= 7 for values in told.values())


def test_stickiness_of_the_last_days(run: Run, tmp_path: Path) -> None:
    made = number(run, tmp_path, STICKINESS)
    made.rebuild(run.platform, ALL)
    told: dict[date, list[int]] = {}
    for day, _, persons_of, is_complete in rows(run, made, "day", "active_intervals", "persons", "is_complete"):
        told.setdefault(day, []).append(persons_of)
        assert is_complete is (day < FIRST + timedelta(days=8))
    # Of three days: Anna 0 1 3, Carl 0 2, Dora 1; at the end of the ninth day somebody else.
    assert [told[FIRST + timedelta(days=k)] for k in range(6)] == [
        [2, 0, 0], [2, 1, 0], [1, 2, 0], [2, 1, 0], [2, 0, 0], [1, 0, 0],
    ]  # fmt: skip


def test_a_cohort_knows_all_history_by_firsts_alone(run: Run, tmp_path: Path) -> None:
    made = number(run, tmp_path, EVER)
    assert made.back == 0
    made.rebuild(run.platform, Window(START + timedelta(days=1), START + timedelta(days=4)))
    told: dict[date, set[object]] = {}
    for day, who in rows(run, made, "day", "person_id"):
        told.setdefault(day, set()).add(who)
    ids = dict(run.lake.scan(persons.TABLE).select("raw_id", "person_id").collect().rows())
    anna, carl, dora, erna = (ids.get(f"u:{name}", f"u:{name}") for name in ("anna", "carl", "dora", "erna"))
    day = {k: FIRST + timedelta(days=k) for k in range(5)}
    # Anna ordered on the second day; Dora viewed for the first time on it, Carl on the first.
    assert anna not in set.union(*told.values())
    assert told == {day[1]: {erna}, day[2]: {carl, erna}, day[3]: {carl, dora}, day[4]: {carl, dora}}


@pytest.mark.parametrize(
    "text",
    [RETENTION + VIEWS, FIRST_TIME, LIFECYCLE, EXPERIMENT, TREND, STICKINESS, EVER],
    ids=["on", "first", "life", "exp", "trend", "sticky", "ever"],
)
def test_any_order_of_rebuilds_ends_in_the_same(run: Run, tmp_path: Path, text: str) -> None:
    made = number(run, tmp_path, text)
    made.rebuild(run.platform, ALL)
    substance = list(made.table.substance)
    whole = run.lake.scan(made.table).select(substance).sort(*made.table.key).collect()
    for day in (5, 0, 3, 1, 2, 4, 6, 8, 7):
        made.rebuild(run.platform, Window(START + timedelta(days=day), START + timedelta(days=day, hours=2)))
    again = run.lake.scan(made.table).select(substance).sort(*made.table.key).collect()
    assert again.equals(whole)
    assert not whole.is_empty()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            RETENTION + "start: {where: [{property: plan, value: pro}]}",
            "it.yaml:6: property 'plan': activity is",
        ),
        (RETENTION + "returning: {first_ever: true}", "it.yaml:6: first_ever: a day does not read all history"),
        (RETENTION.replace("day", "hour"), r"it\.yaml:4: .*a table of retention has calendar days"),
        (
            FIRST_TIME.replace("order_completed", "order_completed, first_ever: true"),
            "it.yaml:7: start: firsts are known by the event's name",
        ),
        (
            COHORT.replace(", days: 2", ""),
            r"it\.yaml:6: of: did 'page_viewed': of all history .*; say days",
        ),
        (COHORT.replace(", days: 4", ""), "it.yaml:8: of: sequence 'page_viewed', 'order_completed': say days"),
        (
            COHORT.replace(
                "{did: {event: page_viewed}, at_least: 2,", "{first_did: {where: [{property: os, value: x}]},"
            ),
            "it.yaml:6: of: first_did 'any event': firsts are known by the event's name only",
        ),
        (
            COHORT.replace("page_viewed}, at", "page_viewed, first_ever: true}, at"),
            "it.yaml:6: .*first_ever: a day",
        ),
        (TREND + "interval: hour", "it.yaml:8: interval 'hour': a table of trends has days, weeks or months"),
        (
            TREND.replace("actors, within_days: 2", "actors") + "cumulative: true",
            "it.yaml:8: .*a day does not know where a sum begins",
        ),
        (
            TREND + "zone: Europe/Berlin",
            "it.yaml:8: zone 'Europe/Berlin': all tables have the platform's reporting timezone",
        ),
        (TREND + "breakdowns: [{property: properties.size, bins: 3}]", "it.yaml:8: breakdowns.0.bins 3"),
        (TREND + "breakdowns: [{property: shoe}]", "it.yaml:8: property 'shoe' is none of gold/fact_events"),
        (TREND.replace("page_viewed}", "page_viewed, first_ever: true}", 1), "it.yaml:5: series.0.events: first_ever"),
        (TREND.replace("within_days: 2", "actor: team"), "it.yaml:7: series.1.measure.actor 'team' is no column"),
        (STICKINESS + "interval: hour", "it.yaml:5: interval 'hour': a table of stickiness has days"),
        (
            STICKINESS.replace("activity: {", "activity: {where: [{property: os, value: x}], "),
            "it.yaml:3: property 'os': activity",
        ),
        (LIFECYCLE.replace("day", "hour"), "it.yaml:3: .*a table of lifecycle has days, weeks or months"),
        (
            EXPERIMENT.replace("{event: order", "{where: [{property: vip, value: 1}], event: order"),
            "it.yaml:14: property 'vip' is none",
        ),
    ],
)
def test_what_the_lake_cannot_tell_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "it.yaml").write_text(text)
    with pytest.raises(MetricFileError, match=message):
        numbers(load(tmp_path))


def test_a_file_put_beside_the_others_breaks_nothing_before_its_table_is_made(run: Run, tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "new.yaml").write_text(LIFECYCLE)
    run.numbers = numbers(load(tmp_path / "metrics"))  # as after a reload: nobody made its table
    (new,) = run.numbers
    assert new.publishes is not None
    assert not published_numbers.is_behind(run.platform, new.publishes)
    run.execute("publish_numbers")
    assert not run.lake.exists(new.table)
    new.rebuild(run.platform, ALL)
    assert published_numbers.is_behind(run.platform, new.publishes)
    run.execute("publish_numbers")
    said = run.lake.scan(published_numbers.TABLE).filter(source_table=new.table.name).collect()
    assert said.height == run.lake.scan(new.table).collect().height > 0


def test_the_faults_of_all_wrong_files_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("metric: funnel\ndescription: No steps.\nwindow: 2d\n")
    (tmp_path / "two.yaml").write_text("metric: funnle\ndescription: No such kind.\n")
    (tmp_path / "right.yaml").write_text(LIFECYCLE)
    with pytest.raises(MetricFileError) as told:
        load(tmp_path)
    assert [line.split(":")[0] for line in str(told.value).splitlines()] == ["one.yaml", "two.yaml"]
