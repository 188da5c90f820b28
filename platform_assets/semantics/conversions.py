"""Conversions, each once, and what led to them (semantics 9).

What is attributed adds up to exactly what was converted: shares are whole millionths of a unit of money, each rounded
towards nothing, and what is left goes to the last touch.
"""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from typing import Literal

import narwhals as nw
from pydantic import Field

from platform_assets.semantics.engines import Frame, lazy, with_microseconds
from platform_assets.semantics.specification import Duration, Specification

Model = Literal["first_touch", "last_touch", "linear", "time_decay"]
MODELS: tuple[Model, ...] = ("first_touch", "last_touch", "linear", "time_decay")

_MICROSECOND = timedelta(microseconds=1)
_WHOLE = 1_000_000
"""A weight of one. With weights as whole millionths, no share depends on how an engine rounds."""


class Attribution(Specification):
    """How a conversion is shared out among the touches before it.

    Attributes:
        models: The models to compute, side by side: all to the first touch, all to the last, to each the same, or to
            each by its age.
        default: The model that is meant where none is named **(choice: the last touch)**.
        look_back: How long before a conversion a touch counts; exactly so long before still does, and so does one at
            the instant of the conversion.
        half_life: Of `time_decay`: a touch so much older than another counts half as much.
    """

    models: tuple[Model, ...] = Field(default=MODELS, min_length=1)
    default: Model = "last_touch"
    look_back: Duration = Field(default=timedelta(days=30), ge=timedelta(0))
    half_life: Duration = Field(default=timedelta(days=7), gt=timedelta(0))


def deduplicated(
    conversions: object,
    key: str = "order_id",
    *,
    instant: str = "occurred_at",
    ties: tuple[str, ...] = ("event_id",),
) -> Frame:
    """The conversions, each once: of several with one key the first by event time, then by ``ties``.

    Args:
        conversions: The key, an instant, the columns of ``ties`` (not null), and any others.
        key: What a conversion is known by. Rows without it cannot be told apart and are left out: count them
            beforehand.
        instant: The column of the event time.
        ties: What puts those of one instant in order.

    Returns:
        The first rows, as they are.
    """
    frame = with_microseconds(lazy(conversions), instant, "converted_us")
    names = [name for name in frame.collect_schema().names() if name != "converted_us"]
    return (
        frame.filter(~nw.col(key).is_null())
        .with_columns(one=nw.lit(1, nw.Int64))
        .with_columns(arrival=nw.col("one").cum_sum().over(key, order_by=["converted_us", *ties]))
        .filter(nw.col("arrival") == 1)
        .select(names)
    )


def attributed(
    conversions: object,
    touches: object,
    spec: Attribution = Attribution(),  # noqa: B008 (immutable)
    *,
    key: str = "order_id",
    actor: str = "person_id",
) -> Frame:
    """What each touch has of each conversion, by each model.

    Args:
        conversions: The key (each once, not null), the actor, ``converted_at``, ``amount`` (decimal, at most six
            places; null stays null).
        touches: The actor, ``touched_at``, ``touch_id`` (each once; it puts touches of one instant in order).
        spec: The models.
        key: What a conversion is known by.
        actor: Whose conversion it is; touches count for those of the same actor.

    Returns:
        The key, the actor, ``converted_at``, ``model``, ``touch_id``, ``touched_at``, ``touch`` (Int64, 1 the first),
        ``touches`` (Int64), ``credit`` (Float64, the part of the conversion, not rounded), ``amount`` (Decimal(18, 6)).
        Of a conversion without a touch a row for each model with no touch, ``touches`` 0 and all of it. By each model,
        the amounts of a conversion add up to its own.
    """
    # The text of a decimal with six places, without the point, is its millionths: no engine rounds there.
    text = nw.col("amount").cast(nw.Decimal(18, 6)).cast(nw.String)
    sales = (
        with_microseconds(lazy(conversions), "converted_at", "converted_us")
        .with_columns(millionths=text.str.replace_all(".", "", literal=True).cast(nw.Int64))
        .with_columns(is_negative=nw.col("millionths") < 0, millionths=nw.col("millionths").abs())
        .select(key, actor, "converted_at", "converted_us", "is_negative", "millionths")
    )
    seen = with_microseconds(lazy(touches), "touched_at", "touched_us").select(
        actor, "touch_id", "touched_at", "touched_us"
    )
    age = nw.col("converted_us") - nw.col("touched_us")
    pairs = sales.join(seen, on=actor, how="inner").filter(age >= 0, age <= spec.look_back // _MICROSECOND)
    pairs = (
        pairs.with_columns(one=nw.lit(1, nw.Int64))
        .with_columns(
            touch=nw.col("one").cum_sum().over(key, order_by=["touched_us", "touch_id"]).cast(nw.Int64),
            touches=nw.col("one").sum().over(key).cast(nw.Int64),
            last_us=nw.col("touched_us").max().over(key),
        )
        .select(key, "touch_id", "touched_at", "touched_us", "last_us", "touch", "touches")
    )
    found = sales.join(pairs, on=key, how="left").with_columns(
        touches=nw.col("touches").fill_null(0), place=nw.col("touch").fill_null(1)
    )
    models = [_shared(found, model, spec, key, actor) for model in dict.fromkeys(spec.models)]
    return nw.concat(models, how="vertical")


def _shared(found: Frame, model: Model, spec: Attribution, key: str, actor: str) -> Frame:
    """The shares of one model."""
    frame = found.with_columns(weight=_weight(model, spec)).with_columns(
        weights=nw.col("weight").sum().over(key).cast(nw.Int64)
    )
    weight, weights, amount = nw.col("weight"), nw.col("weights"), nw.col("millionths")
    # amount × weight ÷ weights would not fit: the whole part and the rest are shared one after the other.
    rest = amount % weights
    share = _quotient(amount, weights) * weight + _quotient(rest * weight, weights)
    frame = frame.with_columns(share=share)
    frame = frame.with_columns(shared=nw.col("share").sum().over(key).cast(nw.Int64))
    is_last = nw.col("touches") <= nw.col("place")
    whole = nw.col("share") + nw.when(is_last).then(amount - nw.col("shared")).otherwise(nw.lit(0, nw.Int64))
    return frame.with_columns(
        model=nw.lit(model),
        credit=weight.cast(nw.Float64) * (weights.cast(nw.Float64) ** -1.0),
        amount=_money(nw.when(nw.col("is_negative")).then(whole * -1).otherwise(whole)),
    ).select(key, actor, "converted_at", "model", "touch_id", "touched_at", "touch", "touches", "credit", "amount")


def _weight(model: Model, spec: Attribution) -> nw.Expr:
    """The weight of a touch, Int64; of a conversion without one all."""
    one, none = nw.lit(_WHOLE, nw.Int64), nw.lit(0, nw.Int64)
    if model == "linear":
        return one
    if model == "first_touch":
        return nw.when(nw.col("place") == 1).then(one).otherwise(none)
    if model == "last_touch":
        return nw.when(nw.col("touches") <= nw.col("place")).then(one).otherwise(none)
    # Only ages relative to each other count: the last touch has all the weight, however long ago it was.
    age = (nw.col("last_us") - nw.col("touched_us")).fill_null(0).cast(nw.Float64)
    decay = -math.log(2) / (spec.half_life / _MICROSECOND)
    return ((age * decay).exp() * float(_WHOLE)).round(0).cast(nw.Int64)


def _quotient(number: nw.Expr, by: nw.Expr) -> nw.Expr:
    """The whole part of a quotient of whole numbers, not negative, below 2**50.

    An engine may divide by floating point. Half a divisor above a multiple of it, that does not matter.
    """
    return (number - number % by + by // 2) // by


def _money(millionths: nw.Expr) -> nw.Expr:
    """Millionths as a decimal with six places."""
    return (millionths.cast(nw.Decimal(38, 6)) * nw.lit(Decimal("0.000001"))).cast(nw.Decimal(18, 6))
