"""Whether all that was to come is there, as far as the past tells."""

from __future__ import annotations

from datetime import timedelta

from partitions import Window, floor_hour
from platform_assets.platform import Platform
from platform_assets.quality.verdict import Verdict
from platform_assets.semantics.lateness import share_still_expected
from platform_assets.semantics.watermark import is_final
from platform_assets.silver import outcomes
from platform_assets.table import Table

_PAST_HOURS = 168
"""How many hours before one tell how late its events come: a week of them."""


def is_complete(platform: Platform, table: Table, window: Window) -> Verdict:
    """Whether about all events of an hour are in, by the watermark and by how late those of past hours came.

    How many an hour will have is not known; what share of them is in is told by the hours before it that are final:
    that which they had in when the watermark was as far past their end (`semantics.lateness`). Where none of a week of
    them is final, nothing can be told, and nothing is warned of.
    """
    watermark, lateness = platform.watermark(), platform.settings.allowed_lateness
    if watermark is None:
        return Verdict(passed=True, description="no event was ever taken in: there is nothing to tell it by")
    share: float | None = 1.0
    if not is_final(window.end, watermark, lateness):
        latest = floor_hour(min(window.start, watermark - lateness))
        starts = [latest - timedelta(hours=back) for back in range(1, _PAST_HOURS + 1)]
        arrivals = outcomes.arrivals_since(platform.lake, starts[-1])
        past = [(start, start + timedelta(hours=1)) for start in starts]
        late = share_still_expected(arrivals, past, watermark - window.end)
        share = None if late is None else 1 - late
    if share is None:
        return Verdict(passed=True, description=f"no hour of the {_PAST_HOURS} before {latest} has an event")
    least = platform.settings.completeness_share
    told = f"about {share:.1%} of its events are in; the watermark is at {watermark}"
    return Verdict(passed=share >= least, description=told, observed=share, least=least, unit="share of events")
