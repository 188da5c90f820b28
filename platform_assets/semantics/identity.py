"""Identity: which person a raw id belongs to, and when (semantics 4).

Evidence is a log of *links* between raw ids, which carry their kind (`u:` a user id, `a:` an anonymous id). A
*login* links an anonymous id with the user who was seen on it; an *alias* says that two user ids are one person; an
*unlink* takes back what a link of the same two ids did, up to its own time. Nothing rewrites evidence; what it means is
computed here, the same from any order and slicing of it.

A person's id is the least user id of its users. An anonymous id that belongs to nobody is a person of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import narwhals as nw
import numpy as np
import polars as pl

from platform_assets.semantics.engines import Frame, engine_of, lazy
from platform_assets.semantics.events import is_id

CLAIM = timedelta(days=30)
"""How long before a login the anonymous events of its device are claimed by the user who logs in."""

MOST_LINKS = 500
"""An id with more partners than this links no more (the super-node guard)."""

ALIAS, UNLINK = "alias", "unlink"
"""Names of the events that say so. Both name the other id in `previous_id`; see `links`."""

ALWAYS = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
"""`valid_from` and `valid_to` of what was never otherwise, and never ends."""

_INSTANT = pl.Datetime("us", "UTC")

LINKS = pl.Schema({"left": pl.String(), "right": pl.String(), "kind": pl.String(), "seen_at": _INSTANT})
"""A link: ``left`` the anonymous id, or the previous user id; ``right`` the user id."""

PERSONS = pl.Schema({"raw_id": pl.String(), "valid_from": _INSTANT, "valid_to": _INSTANT, "person_id": pl.String()})
"""Whose a raw id is, half-open and without overlaps. Where an id has no row, it is a person of its own."""

_TICK = timedelta(microseconds=1)


def links(events: pl.LazyFrame) -> pl.LazyFrame:
    """The evidence that events hold: `LINKS`.

    An event with both ids is a login. An event named `alias` says, besides, that its ``user_id`` and its property
    ``previous_id`` are one person. An event named `unlink` is no login: it takes back the alias of its ``user_id`` and
    ``previous_id`` or, without a ``previous_id``, the logins of its ``user_id`` on its ``anonymous_id``.

    Args:
        events: ``event_name``, ``anonymous_id``, ``user_id``, ``properties`` (JSON), ``occurred_at``.
    """
    says_so = pl.col("event_name").is_in([ALIAS, UNLINK])
    named = events.filter(is_id("user_id")).with_columns(
        previous_id=pl.when(says_so).then(pl.col("properties").str.json_path_match("$.previous_id")),
        right="u:" + pl.col("user_id"),
    )
    is_unlink = pl.col("event_name") == UNLINK
    of_devices = named.filter(is_id("anonymous_id") & ~(is_unlink & pl.col("previous_id").is_not_null())).select(
        left="a:" + pl.col("anonymous_id"),
        right="right",
        kind=pl.when(is_unlink).then(pl.lit(UNLINK)).otherwise(pl.lit("login")),
        seen_at="occurred_at",
    )
    of_users = named.filter(is_id("previous_id")).select(
        left="u:" + pl.col("previous_id"), right="right", kind="event_name", seen_at="occurred_at"
    )
    return pl.concat([of_devices, of_users.filter(pl.col("left") != pl.col("right"))])


def thinned(evidence: pl.LazyFrame, span: pl.Expr) -> pl.LazyFrame:
    """Evidence without the logins that say nothing more, span by span.

    Of the logins of one user in a row on one anonymous id, only the first and the last of a span of time matter:
    whoever acts between them is claimed by either. Where an unlink falls into the same span, all stay.

    Args:
        evidence: `LINKS`; all of each span, in any order, repeated or not.
        span: Which span a link is in, by its ``seen_at``.
    """
    of_device = ["span", "left"]
    ordered = (
        evidence.with_columns(span=span)
        .unique()
        .sort("span", "left", "seen_at", "right", "kind")
        .with_columns(has_unlink=(pl.col("kind") == UNLINK).any().over(of_device))
    )
    is_alike = [
        (pl.col("right") == pl.col("right").shift(step).over(of_device))
        & (pl.col("kind") == pl.col("kind").shift(step).over(of_device))
        for step in (1, -1)
    ]
    is_between = pl.all_horizontal(is_alike).fill_null(value=False) & (pl.col("kind") == "login")
    return ordered.filter(~is_between | pl.col("has_unlink")).select(LINKS.names())


def in_force(evidence: pl.LazyFrame) -> pl.LazyFrame:
    """The logins and aliases that no unlink took back: none of the same two ids at their time or after.

    Args:
        evidence: `LINKS`.
    """
    pair = ["one", "other"]
    paired = evidence.with_columns(one=pl.min_horizontal("left", "right"), other=pl.max_horizontal("left", "right"))
    ended = paired.filter(kind=UNLINK).group_by(pair).agg(ended_at=pl.col("seen_at").max())
    standing = (
        paired.filter(pl.col("kind") != UNLINK)
        .join(ended, on=pair, how="left")
        .filter(pl.col("ended_at").is_null() | (pl.col("seen_at") > pl.col("ended_at")))
    )
    return standing.select(LINKS.names())


def super_nodes(evidence: pl.LazyFrame, most_links: int = MOST_LINKS) -> pl.LazyFrame:
    """The ids with too many partners to mean one person: ``raw_id``, ``links`` (distinct partners).

    Args:
        evidence: `LINKS`, those in force.
        most_links: The most partners that an id may have.
    """
    both = pl.concat(
        [
            evidence.select(raw_id="left", partner="right"),
            evidence.select(raw_id="right", partner="left"),
        ]
    )
    counted = both.unique().group_by("raw_id").agg(links=pl.len())
    return counted.filter(pl.col("links") > most_links)


def persons(evidence: pl.LazyFrame, most_links: int = MOST_LINKS) -> pl.DataFrame:
    """Whose every raw id is, and when: `PERSONS`, from all the evidence there is.

    - *User ids* are one person where aliases connect them; sharing a device never does.
    - *Anonymous ids* belong, at any time, to the user who is next to log in on them within `CLAIM`, else to the
      last one before, else to nobody. At one instant the least of several persons counts as the one who logged in.
    - An id with more than ``most_links`` partners links nobody.

    Args:
        evidence: `LINKS`, in any order, repeated or not.
        most_links: See `super_nodes`.

    Returns:
        A row for each user id that is not its own person, and the intervals of each anonymous id that ever belongs
        to a user; by ``raw_id`` and ``valid_from``. Neighbouring intervals are of different persons.
    """
    standing = in_force(evidence).select("left", "right", "kind", "seen_at").unique().collect()
    too_many = super_nodes(standing.lazy(), most_links).collect()["raw_id"]
    if not too_many.is_empty():
        standing = standing.filter(~pl.any_horizontal(pl.col("left", "right").is_in(too_many.implode())))
    users = _users(standing.filter(kind=ALIAS))
    start, end = (pl.lit(instant, _INSTANT) for instant in ALWAYS)
    of_users = users.filter(pl.col("raw_id") != pl.col("person_id")).sort("raw_id")
    of_devices = _intervals(standing.filter(kind="login"), users)
    # In order as they stand: `a:` comes before `u:`.
    return pl.concat([of_devices, of_users.with_columns(valid_from=start, valid_to=end).select(PERSONS.names())])


def joined(rows: pl.LazyFrame, whose: pl.LazyFrame, at: str = "occurred_at") -> pl.LazyFrame:
    """Add ``person_id``, the person that a raw id belonged to at a time.

    Args:
        rows: ``raw_id`` and an instant.
        whose: `PERSONS`.
        at: The column of the instant, not null.
    """
    found = rows.sort(at).join_asof(
        whose.sort("valid_from").rename({"person_id": "owner"}),
        left_on=at,
        right_on="valid_from",
        by="raw_id",
        strategy="backward",
        check_sortedness=False,  # sorted just now; with `by`, Polars could not check it
    )
    owned = pl.col("owner").is_not_null() & (pl.col(at) < pl.col("valid_to"))
    person = pl.when(owned).then("owner").otherwise("raw_id")
    return found.with_columns(person_id=person).drop("owner", "valid_from", "valid_to", strict=False)


def owned(rows: Frame, whose: Frame, at: str = "occurred_at") -> Frame:
    """`joined`, on any engine.

    Args:
        rows: ``raw_id`` and an instant.
        whose: `PERSONS`, of the same engine.
        at: The column of the instant, not null.
    """
    if engine_of(rows) == "polars":
        return lazy(joined(nw.to_native(rows), nw.to_native(whose), at))
    # Not every engine has a join as of a time. Made to cover all time, the intervals of an id are met once each.
    until = nw.col("valid_from").shift(-1).over("raw_id", order_by="valid_from")
    before = nw.col("valid_from").shift(1).over("raw_id", order_by="valid_from")
    spans = whose.with_columns(until=until, before=before).rename({"person_id": "owner"})
    instant, since = nw.col(at), nw.col("valid_from")
    has_begun = nw.col("before").is_null() | (since <= instant)
    goes_on = nw.col("until").is_null() | (instant < nw.col("until"))
    is_owned = (since <= instant) & (instant < nw.col("valid_to"))
    return (
        rows.join(spans, on="raw_id", how="left")
        .filter(since.is_null() | (has_begun & goes_on))
        .with_columns(person_id=nw.when(is_owned).then(nw.col("owner")).otherwise(nw.col("raw_id")))
        .drop("owner", "valid_from", "valid_to", "until", "before")
    )


@dataclass(frozen=True)
class Impact:
    """What other evidence would change, before it does.

    Attributes:
        days: ``day``, ``persons_before``, ``persons_after``: the days whose activity changes hands, and their daily
            active persons.
        merged: Persons that there would be no more.
        created: Persons that there would be anew.
    """

    days: pl.DataFrame
    merged: int
    created: int


def impact(activity: pl.LazyFrame, before: pl.LazyFrame, after: pl.LazyFrame) -> Impact:
    """What a change of `persons` does to the active users of each day.

    Args:
        activity: ``raw_id``, ``occurred_at``, ``day``: a row for each activity.
        before: `PERSONS` as they are.
        after: `PERSONS` as they would be.
    """
    one = joined(activity, before).select("raw_id", "occurred_at", "day", old="person_id")
    both = joined(one, after).select("day", "old", new="person_id").unique().collect()
    days = (
        both.group_by("day")
        .agg(
            persons_before=pl.col("old").n_unique(),
            persons_after=pl.col("new").n_unique(),
            changed=(pl.col("old") != pl.col("new")).any(),
        )
        .filter("changed")
        .drop("changed")
        .sort("day")
    )
    old, new = set(both["old"]), set(both["new"])
    return Impact(days, len(old - new), len(new - old))


def _users(aliases: pl.DataFrame) -> pl.DataFrame:
    """The person of each user id that an alias names: the least id of its connected component."""
    # The import costs a fifth of a second, which not every process has to spend.
    from scipy.sparse import coo_array  # noqa: PLC0415
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    ids = pl.concat([aliases["left"], aliases["right"]]).unique().sort()
    if ids.is_empty():
        return pl.DataFrame(schema={"raw_id": pl.String, "person_id": pl.String})
    left, right = (ids.search_sorted(aliases[side]).to_numpy() for side in ("left", "right"))
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(ids), len(ids)))
    _, component = connected_components(graph, directed=False)
    return pl.DataFrame({"raw_id": ids, "component": component}).select(
        "raw_id", person_id=pl.col("raw_id").min().over("component")
    )


def _intervals(logins: pl.DataFrame, users: pl.DataFrame) -> pl.DataFrame:
    """Whose each anonymous id is and when, by the logins on it.

    All rests on one order of the logins, and on neighbours in it: ten million need no grouping.
    """
    is_same_device = (pl.col("raw_id") == pl.col("raw_id").shift()).fill_null(value=False)
    seen = (
        logins.join(users, left_on="right", right_on="raw_id", how="left")
        .select("seen_at", raw_id="left", person_id=pl.coalesce("person_id", "right"))
        .sort("raw_id", "seen_at", "person_id")
        .filter(~(is_same_device & (pl.col("seen_at") == pl.col("seen_at").shift()).fill_null(value=False)))
        .with_row_index("login")
        .with_columns(
            after=pl.when(is_same_device).then(pl.col("seen_at").shift() + _TICK),
            last=pl.when(is_same_device).then(pl.col("person_id").shift()),
            is_last=(pl.col("raw_id") != pl.col("raw_id").shift(-1)).fill_null(value=True),
        )
        .with_columns(claims=pl.max_horizontal("after", pl.col("seen_at") - CLAIM))
    )
    since = pl.col("seen_at") + _TICK
    between = seen.filter(pl.col("after") < pl.col("claims")).select(
        "login", "raw_id", part=0, person_id="last", valid_from="after", valid_to="claims"
    )
    claimed = seen.select("login", "raw_id", "person_id", part=1, valid_from="claims", valid_to=since)
    at_last = seen.filter("is_last").select(
        "login", "raw_id", "person_id", part=2, valid_from=since, valid_to=pl.lit(ALWAYS[1], _INSTANT)
    )
    names = ["login", "part", *PERSONS.names()]
    pieces = pl.concat([part.select(names) for part in (between, claimed, at_last)]).sort("login", "part")
    continues = (
        is_same_device
        & (pl.col("person_id") == pl.col("person_id").shift())
        & (pl.col("valid_from") == pl.col("valid_to").shift())
    ).fill_null(value=False)
    marked = pieces.with_columns(begins=~continues).with_columns(ends=pl.col("begins").shift(-1).fill_null(value=True))
    ends = marked.filter("ends")["valid_to"]
    return marked.filter("begins").with_columns(valid_to=ends).select(PERSONS.names())
