"""Views over the tables, for whoever asks by SQL: what Python joins late is joined late there, too."""

from __future__ import annotations

from platform_assets.gold import fact_events
from platform_assets.serving.catalog import View, sql_name
from platform_assets.silver import devices, persons
from platform_assets.table import meanings

# The intervals of an id do not overlap, so a fact meets one at most.
WHOSE = (
    f"LEFT JOIN {sql_name(persons.TABLE)} AS whose ON whose.raw_id = facts.raw_id "
    "AND whose.valid_from <= facts.occurred_at AND facts.occurred_at < whose.valid_to"
)
"""Joins to ``facts`` whose they are: `semantics.identity.joined` in SQL."""

PERSON = "coalesce(whose.person_id, facts.raw_id)"
"""The person of a fact that `WHOSE` is joined to."""


def _joined_facts() -> View:
    """`fact_events.joined_facts` in SQL: whose the facts are, and what is known of users, products, devices today."""
    facts, device = sql_name(fact_events.TABLE), devices.DIMENSION
    joins = [WHOSE]
    selected = ["facts.*", f"{PERSON} AS person_id"]
    said = meanings(fact_events.TABLE)
    said["person_id"] = "The person whom `raw_id` belonged to at `occurred_at`; the id itself where it is nobody's."
    for join in fact_events.JOINS:
        name = sql_name(join.dimension.table)
        alias = f"current_{name.partition('.')[2]}"
        on = " AND ".join(f"{alias}.{column} = facts.{column}" for column in join.dimension.key)
        joins.append(f"LEFT JOIN {name} AS {alias} ON {on} AND {alias}.is_current")
        for attribute in join.attributes:
            new = f"current_{join.prefix}{attribute}"
            selected.append(f"{alias}.{attribute} AS {new}")
            said[new] = f"{meanings(join.dimension.table)[attribute]} As it is now; null where the row is gone."
    on = " AND ".join(f"device.{column} = facts.{column}" for column in device.key)
    joins.append(f"LEFT JOIN {sql_name(device.table)} AS device ON {on}")
    for attribute in fact_events.DEVICE:
        selected.append(f"device.{attribute} AS device_{attribute}")
        said[f"device_{attribute}"] = f"{meanings(device.table)[attribute]} As the database last knew it."
    over = (
        fact_events.TABLE,
        persons.TABLE,
        *(join.dimension.table for join in fact_events.JOINS),
        device.table,
    )
    return View(
        name="gold.joined_facts",
        description="The facts with whose they are, by the evidence of today, and what is known today of user, product "
        "and device. The rest is as of the event.",
        columns=said,
        over=over,
        select=f"SELECT {', '.join(selected)} FROM {facts} AS facts {' '.join(joins)}",
    )


VIEWS: tuple[View, ...] = (_joined_facts(),)
"""Every view."""
