"""Sessions: runs of one person's events on one device without a long gap, and at most a day long (semantics 8).

What cuts, and what is told of a session, are choices of a specification. All is a function of the events: the same from
any order of them, on any engine.
"""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

import narwhals as nw

from platform_assets.semantics.engines import Frame, collected, lazy, with_local_time, with_microseconds
from platform_assets.semantics.matching import with_matches
from platform_assets.semantics.specification import Duration, EventPredicate, Specification

_UTC = ZoneInfo("UTC")
_MICROSECOND = timedelta(microseconds=1)


class Sessions(Specification):
    """What a session is, and what counts in it.

    Attributes:
        gap: The longest time between two events of a session; exactly so long does not cut.
        longest: The longest time between the first and the last event of a session. Where a run of events without a
            gap is longer, the first event beyond that begins the next session, and so on from there. None: no limit.
        cut_on_new_day: Whether the first event of another day of the reporting timezone begins a session **(choice:
            no)**.
        cut_on_new_campaign: Whether an event with another campaign than the last one of the run begins a session
            **(choice: no)**. The first campaign of a run is not another one.
        page_view: The events that are views of a page.
        conversion: The events that are conversions.
        device: The column of the device. Events without one are on a device of their own.
        page: The column of the page's address.
        referrer: The column of where a page was come to from.
        campaign: The columns that name a campaign; an event has one where any of them is neither null nor empty.
        attention: How long somebody is taken to be there after an event **(choice: 30 seconds)**: the engaged time
            is the sum of the times to the next event of the session, each counted up to this.
        bounce_under: A session of one page view is a bounce if its events span less than this.
    """

    gap: Duration = timedelta(minutes=30)
    longest: Duration | None = timedelta(hours=24)
    cut_on_new_day: bool = False
    cut_on_new_campaign: bool = False
    page_view: EventPredicate = EventPredicate(event="page_viewed")
    conversion: EventPredicate = EventPredicate(event="order_completed")
    device: str = "anonymous_id"
    page: str = "page_url"
    referrer: str = "referrer"
    campaign: tuple[str, ...] = ("utm_source", "utm_medium", "utm_campaign")
    attention: Duration = timedelta(seconds=30)
    bounce_under: Duration = timedelta(seconds=10)


OURS = Sessions()
"""What a session is by default; `dialects` has other tools'."""


def with_sessions(
    events: object,
    spec: Sessions = OURS,
    zone: ZoneInfo = _UTC,
    *,
    actor: str = "person_id",
    ties: tuple[str, ...] = ("event_id",),
    most_cuts: int | None = None,
) -> Frame:
    """Say of every event which session it is in.

    Args:
        events: ``occurred_at``, the actor, and the columns that the specification and ``ties`` name. All of each
            person's events since a session of theirs began, in any order; each event once.
        spec: What a session is.
        zone: The reporting timezone, of days.
        actor: Whose events a session has.
        ties: Columns, none null, that put events of one instant in order; the first one names the event in
            ``session_id``.
        most_cuts: How often ``spec.longest`` may cut one run; None asks the events, by a query of its own. A run that
            is longer than that many times ``spec.longest`` is cut wrongly.

    Returns:
        The events (a column ``session_id`` that they have is replaced) with ``session_id`` (the same for the same
        person, device and first event), ``session_started_at``, ``run_started_at`` (of the events in a row without a
        gap), ``session_event`` (Int64, from 1), ``is_new_day`` (the event before in the session was on another day),
        ``is_new_campaign`` (it has another campaign than the last one before in the session).
    """
    return _cut(lazy(events), spec, zone, actor, ties, most_cuts).drop(
        ["at_us", "pause_us", "campaign_key", "day_number"]
    )


def sessions(
    events: object,
    spec: Sessions = OURS,
    zone: ZoneInfo = _UTC,
    *,
    actor: str = "person_id",
    ties: tuple[str, ...] = ("event_id",),
    most_cuts: int | None = None,
) -> Frame:
    """The sessions, a row each.

    Args:
        events: As for `with_sessions`, and ``event_name`` and what the specification's predicates look at.
        spec: See `with_sessions`.
        zone: See `with_sessions`.
        actor: See `with_sessions`.
        ties: See `with_sessions`.
        most_cuts: See `with_sessions`.

    Returns:
        ``session_id``; the actor and the device by their names; ``started_at``, ``ended_at`` (of the first and the last
        event), ``run_started_at``; ``day_number`` (Int64, the day that it started on in the reporting timezone, since
        1970-01-01); ``events``, ``page_views``, ``conversions`` (Int64); ``engaged_seconds`` (Float64);
        ``entry_page``, ``exit_page`` (of the first and the last page view that has an address), ``landing_referrer``
        (of the entry page); the columns of ``spec.campaign`` as the first event with a campaign has them, and
        ``campaign_at``, its time; ``is_bounce``, ``has_new_day``, ``has_new_campaign``.
    """
    frame = _cut(lazy(events), spec, zone, actor, ties, most_cuts)
    frame = with_matches(frame, [("is_page_view", spec.page_view), ("is_conversion", spec.conversion)], actor)
    position = nw.col("session_event")
    has_page = nw.col("is_page_view") & ~nw.col(spec.page).is_null()
    attention = spec.attention // _MICROSECOND
    frame = (
        frame.with_columns(
            page_event=nw.when(has_page).then(position),
            campaign_event=nw.when(~nw.col("campaign_key").is_null()).then(position),
            engaged_us=nw.when(nw.col("pause_us") > attention).then(attention).otherwise(nw.col("pause_us")),
        )
        .with_columns(
            entry_event=nw.col("page_event").min().over("session_id"),
            exit_event=nw.col("page_event").max().over("session_id"),
            first_campaign_event=nw.col("campaign_event").min().over("session_id"),
        )
        .with_columns(
            entry_page=_where(position == nw.col("entry_event"), spec.page),
            exit_page=_where(position == nw.col("exit_event"), spec.page),
            landing_referrer=_where(position == nw.col("entry_event"), spec.referrer),
            campaign_at=_where(position == nw.col("first_campaign_event"), "occurred_at"),
            started_on=_where(position == 1, "day_number"),
            **{f"first_{name}": _where(position == nw.col("first_campaign_event"), name) for name in spec.campaign},
            **{
                f"{name}_1": nw.when(nw.col(name)).then(nw.lit(1, nw.Int64)).otherwise(nw.lit(0, nw.Int64))
                for name in ("is_page_view", "is_conversion", "is_new_day", "is_new_campaign")
            },
        )
    )
    told = frame.group_by("session_id").agg(
        **{name: nw.col(name).max() for name in (actor, spec.device)},
        started_at=nw.col("occurred_at").min(),
        ended_at=nw.col("occurred_at").max(),
        run_started_at=nw.col("run_started_at").min(),
        day_number=nw.col("started_on").max().cast(nw.Int64),
        events=nw.len().cast(nw.Int64),
        page_views=nw.col("is_page_view_1").sum().cast(nw.Int64),
        conversions=nw.col("is_conversion_1").sum().cast(nw.Int64),
        engaged_us=nw.col("engaged_us").sum().cast(nw.Float64),
        **{name: nw.col(name).max() for name in ("entry_page", "exit_page", "landing_referrer")},
        **{name: nw.col(f"first_{name}").max() for name in spec.campaign},
        campaign_at=nw.col("campaign_at").max(),
        first_us=nw.col("at_us").min(),
        last_us=nw.col("at_us").max(),
        new_days=nw.col("is_new_day_1").max(),
        new_campaigns=nw.col("is_new_campaign_1").max(),
    )
    is_short = nw.col("last_us") - nw.col("first_us") < spec.bounce_under // _MICROSECOND
    return told.with_columns(
        engaged_seconds=nw.col("engaged_us").fill_null(0.0) * 1e-6,
        is_bounce=(nw.col("page_views") == 1) & is_short,
        has_new_day=nw.col("new_days") > 0,
        has_new_campaign=nw.col("new_campaigns") > 0,
    ).select(
        "session_id",
        actor,
        spec.device,
        "started_at",
        "ended_at",
        "run_started_at",
        "day_number",
        "events",
        "page_views",
        "conversions",
        "engaged_seconds",
        "entry_page",
        "exit_page",
        "landing_referrer",
        *spec.campaign,
        "campaign_at",
        "is_bounce",
        "has_new_day",
        "has_new_campaign",
    )


def _cut(
    events: Frame, spec: Sessions, zone: ZoneInfo, actor: str, ties: tuple[str, ...], most_cuts: int | None
) -> Frame:
    """`with_sessions`, and besides ``at_us``, ``pause_us`` (null of the first), ``campaign_key``, ``day_number``."""
    given = [name for name in events.collect_schema().names() if name != "session_id"]
    if "day_number" in given or "local_at" in given:
        msg = "the events have a column day_number or local_at, which sessions would overwrite: leave it out"
        raise ValueError(msg)
    frame = with_local_time(with_microseconds(events.select(given), name="at_us"), zone).drop("local_at")
    frame = frame.with_columns(campaign_key=_campaign_key(spec))
    key, order = [actor, spec.device], ["at_us", *ties]
    at = nw.col("at_us")
    frame = frame.with_columns(
        before_us=at.shift(1).over(*key, order_by=order),
        before_day=nw.col("day_number").shift(1).over(*key, order_by=order),
    )
    is_gap = nw.col("before_us").is_null() | (at - nw.col("before_us") > spec.gap // _MICROSECOND)
    frame = _numbered(frame, "run", is_gap, key, order)
    frame = frame.with_columns(run_started_at=nw.col("occurred_at").min().over(*key, "run"))
    frame = _with_parts(frame, spec, key, order)
    frame = frame.with_columns(start_us=at.min().over(*key, "part"))
    frame = _within_longest(frame, spec, key, most_cuts)
    session = [*key, "part", "start_us"]
    frame = frame.with_columns(one=nw.lit(1, nw.Int64)).with_columns(
        session_event=nw.col("one").cum_sum().over(*session, order_by=order).cast(nw.Int64),
        session_started_at=nw.col("occurred_at").min().over(*session),
        last_campaign=_last_campaign(session, order),
    )
    is_first = nw.col("session_event") == 1
    frame = frame.with_columns(
        first_event=nw.when(is_first).then(nw.col(ties[0]).cast(nw.String)),
        campaign_before=nw.col("last_campaign").shift(1).over(*session, order_by=order),
        pause_us=nw.when(~is_first).then(at - nw.col("before_us")),
        is_new_day=~is_first & (nw.col("day_number") != nw.col("before_day")).fill_null(value=False),
    ).with_columns(
        first_event=nw.col("first_event").max().over(*session),
        is_new_campaign=(nw.col("campaign_key") != nw.col("campaign_before")).fill_null(value=False),
    )
    # A bar within an id is written otherwise, so that no two sessions' ids read the same.
    ids = [nw.col(name).fill_null("").str.replace_all("%", "%25", literal=True) for name in key]
    has_device = nw.when(nw.col(spec.device).is_null()).then(nw.lit("")).otherwise(nw.lit("a:"))
    person, device = (text.str.replace_all("|", "%7C", literal=True) for text in ids)
    bar = nw.lit("|")
    session_id = nw.concat_str(
        person, bar, has_device, device, bar, nw.col("start_us").cast(nw.String), bar, nw.col("first_event")
    )
    return frame.with_columns(session_id=session_id).select(
        *given,
        "session_id",
        "session_started_at",
        "run_started_at",
        "session_event",
        "is_new_day",
        "is_new_campaign",
        "at_us",
        "pause_us",
        "campaign_key",
        "day_number",
    )


def _with_parts(frame: Frame, spec: Sessions, key: list[str], order: list[str]) -> Frame:
    """Add ``part``: runs, cut where a day or a campaign cuts."""
    if not (spec.cut_on_new_day or spec.cut_on_new_campaign):
        return frame.with_columns(part=nw.col("run"))
    run = [*key, "run"]
    frame = frame.with_columns(last_campaign=_last_campaign(run, order)).with_columns(
        campaign_before=nw.col("last_campaign").shift(1).over(*run, order_by=order),
        run_before=nw.col("run").shift(1).over(*key, order_by=order),
    )
    is_cut = (nw.col("run") != nw.col("run_before")).fill_null(value=True)
    if spec.cut_on_new_day:
        is_cut |= (nw.col("day_number") != nw.col("before_day")).fill_null(value=False)
    if spec.cut_on_new_campaign:
        is_cut |= (nw.col("campaign_key") != nw.col("campaign_before")).fill_null(value=False)
    return _numbered(frame, "part", is_cut, key, order)


def _within_longest(frame: Frame, spec: Sessions, key: list[str], most_cuts: int | None) -> Frame:
    """Move ``start_us`` to the session's start in those parts that are longer than a session may be.

    A session's start rests on the one before, so each pass cuts the last piece of each part once more. Only the long
    parts go through it.
    """
    if spec.longest is None:
        return frame
    longest = spec.longest // _MICROSECOND
    at, start = nw.col("at_us"), nw.col("start_us")
    if most_cuts is None:
        spans = collected(frame.select((at - start).max().alias("span")))["span"]
        # Every cut comes after more than `longest`.
        most_cuts = (spans.item() or 0) // longest
    if most_cuts == 0:
        return frame
    frame = frame.with_columns(end_us=at.max().over(*key, "part"))
    is_long = nw.col("end_us") - start > longest
    short, long = frame.filter(~is_long), frame.filter(is_long)
    for _ in range(most_cuts):
        is_beyond = at - start > longest
        long = (
            long.with_columns(beyond_us=nw.when(is_beyond).then(at))
            .with_columns(next_us=nw.col("beyond_us").min().over(*key, "part", "start_us"))
            .with_columns(start_us=nw.when(is_beyond).then(nw.col("next_us")).otherwise(start))
        )
    names = frame.collect_schema().names()
    return nw.concat([short, long.select(names)], how="vertical")


def _numbered(frame: Frame, name: str, is_cut: nw.Expr, key: list[str], order: list[str]) -> Frame:
    """Add a number that goes up by one at each cut."""
    step = nw.when(is_cut).then(nw.lit(1, nw.Int64)).otherwise(nw.lit(0, nw.Int64))
    return frame.with_columns(step=step).with_columns(
        nw.col("step").cum_sum().over(*key, order_by=order).cast(nw.Int64).alias(name)
    )


def _campaign_key(spec: Sessions) -> nw.Expr:
    """The campaign as one text; null where the event has none."""
    if not spec.campaign:
        return nw.lit(None, nw.String)
    texts = [nw.col(name).fill_null("") for name in spec.campaign]
    is_named = nw.any_horizontal(*(text != "" for text in texts), ignore_nulls=True)
    return nw.when(is_named).then(nw.concat_str(*texts, separator="\x1f"))


def _last_campaign(within: list[str], order: list[str]) -> nw.Expr:
    return nw.col("campaign_key").fill_null(strategy="forward").over(*within, order_by=order)


def _where(condition: nw.Expr, column: str) -> nw.Expr:
    return nw.when(condition).then(nw.col(column))
