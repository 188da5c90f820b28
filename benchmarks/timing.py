"""Stopwatches: contestants measured in turn, and where the time of a micro-batch goes."""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest import mock

from platform_assets.bronze import client_events
from platform_assets.silver import events, judgement
from platform_assets.streams.followers import Followers
from resources.kafka import KafkaSource
from resources.lake import Writer

Prepared = Callable[[], object]
"""What is timed; what prepares it is not."""


@dataclass(frozen=True)
class Spread:
    """Several measurements of one quantity."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def shown(self, digits: int = 0, scale: float = 1.0) -> str:
        """``median (min to max)``."""
        low, high = min(self.values) * scale, max(self.values) * scale
        return f"{self.median * scale:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"

    def as_json(self) -> dict[str, object]:
        """Every value, and what is read of them."""
        return {
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "values": list(self.values),
        }


def in_turn(contestants: Mapping[str, Callable[[], Prepared]], repetitions: int) -> dict[str, Spread]:
    """The seconds that each contestant takes, measured in turn, after one round that does not count.

    Args:
        contestants: By name, a function that prepares one repetition and returns what is timed.
        repetitions: Rounds; each begins with another contestant.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for round_number in range(-1, repetitions):
        shift = round_number % len(names)
        for name in names[shift:] + names[:shift]:
            timed = contestants[name]()
            gc.collect()
            began = time.perf_counter()
            outcome = timed()
            took = time.perf_counter() - began
            del outcome, timed
            if round_number >= 0:
                seconds[name].append(took)
    return {name: Spread(tuple(values)) for name, values in seconds.items()}


def rate(events: int, seconds: Spread) -> Spread:
    """Events per second."""
    return Spread(tuple(events / value for value in seconds.values))


def ratio(ours: Spread, peer: Spread) -> Spread:
    """How fast we are as a share of the peer, round by round: 1 is as fast."""
    return Spread(tuple(theirs / mine for mine, theirs in zip(ours.values, peer.values, strict=True)))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that a share of the values does not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, min(len(ranked) - 1, round(share * len(ranked) + 0.5) - 1))]


PARTS = ("read", "bronze", "decode", "judged tables", "dedupe lookup", "silver commit", "followers")
"""What a micro-batch does, in order."""

BESIDE = ("read", "decode")
"""The parts that a thread of their own does beside the commits."""


def other(whole: float, spent: Mapping[str, float]) -> float:
    """The rest of a micro-batch's time: above all, waiting for what is done beside."""
    return whole - sum(seconds for part, seconds in spent.items() if part not in BESIDE)


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Add up the seconds that each of `PARTS` takes, in whichever thread, until the block ends.

    What one part calls counts for that part alone. Threads that work at once add up to more than the time that
    passes.
    """
    spent: dict[str, float] = defaultdict(float)
    inside = threading.local()

    def timed(original: Callable[..., object], name: Callable[..., str]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            if getattr(inside, "part", None) is not None:
                return original(*args, **kwargs)
            inside.part = name(*args)
            began = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                spent[inside.part] += time.perf_counter() - began
                inside.part = None

        return call

    def of_table(writer: Writer, *_: object) -> str:
        of_name = {client_events.TABLE.name: "bronze", events.TABLE.name: "silver commit"}
        return of_name.get(writer.table.name, "judged tables")

    watching: list[tuple[object, str, Callable[..., str]]] = [
        (Writer, "append", of_table),
        (Writer, "commit", of_table),
        (Followers, "follow", lambda *_: "followers"),
        (Followers, "catch_up", lambda *_: "followers"),
        (judgement, "decode", lambda *_: "decode"),
        (KafkaSource, "read", lambda *_: "read"),
        (events, "arrivals", lambda *_: "dedupe lookup"),
    ]
    with ExitStack() as stack:
        for owner, attribute, name in watching:
            replacement = timed(getattr(owner, attribute), name)
            stack.enter_context(mock.patch.object(owner, attribute, replacement))
        yield spent
