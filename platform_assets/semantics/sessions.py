"""Sessions: runs of one person's events on one device without a long gap, and at most a day long (semantics 8).

What cuts, and what is told of a session, are choices of a specification. All is a function of the events: the same from
any order of them, on any engine.
"""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

import narwhals as nw

from platform_assets.semantics.engines import Frame, collected, lazy, with_local_time, with_microseconds
from platform_assets.semantics.in_order import InOrder
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
    frame = lazy(events)
    given = [name for name in frame.collect_schema().names() if name != "session_id"]
    told = _cut(frame.select(given), spec, zone, actor, ties, most_cuts).carried(first_event="own_event").told
    told = told.with_columns(session_id=_session_id(actor, spec.device))
    return told.select(
        *given,
        "session_id",
        "session_started_at",
        "run_started_at",
        "session_event",
        "is_new_day",
        "is_new_campaign",
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
    acts = with_matches(lazy(events), [("is_page_view", spec.page_view), ("is_conversion", spec.conversion)], actor)
    # Only what is needed: what is sorted is carried along.
    needed = (actor, spec.device, "occurred_at", *ties, "is_page_view", "is_conversion")
    needed = (*needed, spec.page, spec.referrer, *spec.campaign)
    rows = _cut(acts.select(*dict.fromkeys(needed)), spec, zone, actor, ties, most_cuts)
    session = nw.col("first_place")
    has_page = nw.col("is_page_view") & ~nw.col(spec.page).is_null()
    rows = rows.with_columns(page_in=nw.when(has_page).then(session))
    rows = rows.carried(page_so_far="page_in").coming(page_to_come="page_in")
    rows = rows.before(page_before="page_so_far").behind(page_behind="page_to_come")
    is_entry = has_page & (nw.col("page_before") != session).fill_null(value=True)
    is_exit = has_page & (nw.col("page_behind") != session).fill_null(value=True)
    is_first = nw.col("session_event") == 1
    is_first_campaign = ~nw.col("campaign_key").is_null() & nw.col("campaign_before").is_null()
    attention = spec.attention // _MICROSECOND
    frame = rows.rows.with_columns(
        engaged_us=nw.when(nw.col("pause_us") > attention).then(attention).otherwise(nw.col("pause_us")),
        entry_page=_where(is_entry, spec.page),
        exit_page=_where(is_exit, spec.page),
        landing_referrer=_where(is_entry, spec.referrer),
        campaign_at=_where(is_first_campaign, "occurred_at"),
        started_on=_where(is_first, "day_number"),
        **{f"first_{name}": _where(is_first_campaign, name) for name in spec.campaign},
        **{
            f"{name}_1": nw.when(nw.col(name)).then(nw.lit(1, nw.Int64)).otherwise(nw.lit(0, nw.Int64))
            for name in ("is_page_view", "is_conversion", "is_new_day", "is_new_campaign")
        },
    )
    whose = rows.whose
    told = frame.group_by(*whose, "first_place").agg(
        **{name: nw.col(name).max() for name in (actor, spec.device) if name not in whose},
        first_event=nw.col("own_event").max(),
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
        start_us=nw.col("at_us").min(),
        last_us=nw.col("at_us").max(),
        new_days=nw.col("is_new_day_1").max(),
        new_campaigns=nw.col("is_new_campaign_1").max(),
    )
    is_short = nw.col("last_us") - nw.col("start_us") < spec.bounce_under // _MICROSECOND
    return told.with_columns(
        session_id=_session_id(actor, spec.device),
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
) -> InOrder:
    """The events in order, and what `with_sessions` says of them but for the id.

    Besides: ``at_us``; ``start_us`` of the session, ``first_place`` (of its first event), ``own_event`` (the first
    event's id, null of the others), ``pause_us`` (null of the first), ``campaign_key``, ``campaign_before`` (the last
    one before in the session), ``day_number``.
    """
    taken = {"day_number", "local_at"} & set(events.collect_schema().names())
    if taken:
        msg = "the events have a column day_number or local_at, which sessions would overwrite: leave it out"
        raise ValueError(msg)
    frame = with_microseconds(events, name="at_us")
    if most_cuts is None:
        most_cuts = _most_cuts(frame, spec, (actor, spec.device))
    frame = with_local_time(frame, zone).drop("local_at")
    rows = InOrder.of(frame.with_columns(campaign_key=_campaign_key(spec)), (actor, spec.device), ("at_us", *ties))
    at, place = nw.col("at_us"), rows.place
    rows = rows.before(before_us="at_us", before_day="day_number")
    is_run = _is_run(spec)
    rows = rows.with_columns(
        is_first=is_run,
        run_at=nw.when(is_run).then(nw.col("occurred_at")),
        run_from=nw.when(is_run).then(place),
        campaign_from=nw.when(~nw.col("campaign_key").is_null()).then(place),
    )
    rows = rows.carried(run_started_at="run_at", run_place="run_from")
    rows = rows.carried(last_campaign="campaign_key", last_campaign_place="campaign_from")
    rows = rows.before(campaign_before="last_campaign", campaign_before_place="last_campaign_place")
    is_new_day = (nw.col("day_number") != nw.col("before_day")).fill_null(value=False)
    is_first = nw.col("is_first")
    if spec.cut_on_new_day:
        is_first |= is_new_day
    if spec.cut_on_new_campaign:
        is_in_run = nw.col("campaign_before_place") >= nw.col("run_place")
        is_first |= (is_in_run & (nw.col("campaign_key") != nw.col("campaign_before"))).fill_null(value=False)
    rows = rows.with_columns(is_first=is_first).with_columns(own_start=_where(nw.col("is_first"), "at_us"))
    rows = _within_longest(rows.carried(start_us="own_start"), spec, most_cuts)
    is_first = nw.col("is_first")
    rows = rows.with_columns(
        own_at=_where(is_first, "occurred_at"),
        own_place=nw.when(is_first).then(place),
        own_event=nw.when(is_first).then(nw.col(ties[0]).cast(nw.String)),
    ).carried(session_started_at="own_at", first_place="own_place")
    is_in_session = (nw.col("campaign_before_place") >= nw.col("first_place")).fill_null(value=False)
    return rows.with_columns(
        session_event=(place - nw.col("first_place") + 1).cast(nw.Int64),
        campaign_before=nw.when(is_in_session).then(nw.col("campaign_before")),
        pause_us=nw.when(~is_first).then(at - nw.col("before_us")),
        is_new_day=~is_first & is_new_day,
        is_new_campaign=(is_in_session & (nw.col("campaign_key") != nw.col("campaign_before"))).fill_null(value=False),
    )


def _within_longest(rows: InOrder, spec: Sessions, most_cuts: int) -> InOrder:
    """Move ``is_first`` and ``start_us`` to where the sessions start that are cut since they would be too long.

    A session's start rests on the one before, so each pass cuts the last piece of each run once more.
    """
    if spec.longest is None:
        return rows
    longest = spec.longest // _MICROSECOND
    span = nw.col("at_us") - nw.col("start_us")
    for _ in range(most_cuts):
        rows = rows.with_columns(is_beyond=span > longest).before(was_beyond="is_beyond")
        is_cut = nw.col("is_beyond") & ~nw.col("was_beyond").fill_null(value=False)
        rows = rows.with_columns(is_first=nw.col("is_first") | is_cut)
        rows = rows.with_columns(own_start=_where(nw.col("is_first"), "at_us")).carried(start_us="own_start")
    return rows


def _most_cuts(frame: Frame, spec: Sessions, key: tuple[str, str]) -> int:
    """How often the longest run can be cut: every cut comes after more than ``spec.longest``."""
    if spec.longest is None:
        return 0
    rows = InOrder.of(frame.select(*key, "at_us"), key, ("at_us",)).before(before_us="at_us")
    rows = rows.with_columns(own_start=_where(_is_run(spec), "at_us")).carried(start_us="own_start")
    span = collected(rows.rows.select((nw.col("at_us") - nw.col("start_us")).max().alias("span")))["span"]
    return int(span.item() or 0) // (spec.longest // _MICROSECOND)


def _is_run(spec: Sessions) -> nw.Expr:
    """Whether an event begins a run: the first of its key, or the first after a gap."""
    before = nw.col("before_us")
    return before.is_null() | (nw.col("at_us") - before > spec.gap // _MICROSECOND)


def _session_id(actor: str, device: str) -> nw.Expr:
    """The id of a session, from ``start_us`` and ``first_event``."""
    # A bar within an id is written otherwise, so that no two sessions' ids read the same.
    ids = [nw.col(name).fill_null("").str.replace_all("%", "%25", literal=True) for name in (actor, device)]
    has_device = nw.when(nw.col(device).is_null()).then(nw.lit("")).otherwise(nw.lit("a:"))
    told, used = (text.str.replace_all("|", "%7C", literal=True) for text in ids)
    bar = nw.lit("|")
    return nw.concat_str(
        told, bar, has_device, used, bar, nw.col("start_us").cast(nw.String), bar, nw.col("first_event")
    )


def _campaign_key(spec: Sessions) -> nw.Expr:
    """The campaign as one text; null where the event has none."""
    if not spec.campaign:
        return nw.lit(None, nw.String)
    texts = [nw.col(name).fill_null("") for name in spec.campaign]
    is_named = nw.any_horizontal(*(text != "" for text in texts), ignore_nulls=True)
    return nw.when(is_named).then(nw.concat_str(*texts, separator="\x1f"))


def _where(condition: nw.Expr, column: str) -> nw.Expr:
    return nw.when(condition).then(nw.col(column))
