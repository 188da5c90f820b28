"""Micro-batches read and judged on a thread of their own, beside the commits.

While a batch is being committed to bronze, it is being decoded and judged; in a backlog the next one is read and
judged while this one is being committed. What was read ahead is in memory only: nothing rests on it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import polars as pl

from platform_assets.silver.judgement import Judgement
from resources.records import Batch, Position, RecordSource
from resources.settings import Settings


@dataclass(frozen=True)
class Taken:
    """A micro-batch that was read, and its judgement, which may still be under way.

    Attributes:
        batch: The records.
        judgement: What becomes of them; the future raises what judging raised.
    """

    batch: Batch
    judgement: Future[Judgement]


class Reading:
    """Reads a source's micro-batches in a row. `close` it before the source.

    Args:
        source: Where records come from. It is used by a thread of this object's own, between `take` or
            `read_ahead` and `forget` or `close`.
        settings: Sizes, and what judging needs.
        judge: What becomes of records.
    """

    def __init__(self, source: RecordSource, settings: Settings, judge: Callable[[pl.DataFrame], Judgement]) -> None:
        self._source = source
        self._settings = settings
        self._judge = judge
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reading")
        self._ahead: tuple[Position, Future[Taken | None]] | None = None

    def take(self, position: Position) -> Taken | None:
        """The next batch from a position; None where there is nothing new.

        Raises:
            ContinuityBroken: The records at the position are gone.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == position:
            return ahead[1].result()
        return self._thread.submit(self._read, position).result()

    def read_ahead(self, position: Position) -> None:
        """Begin to read what `take` will be asked for next, where that is not under way."""
        if self._ahead is not None and self._ahead[0] == position:
            return
        self.forget()
        self._ahead = position, self._thread.submit(self._read, position)

    def forget(self) -> None:
        """Wait for a read under way, and forget what it brought."""
        if self._ahead is not None:
            wait([self._ahead[1]])
            self._ahead = None

    def close(self) -> None:
        """Wait for what is under way, and end the thread."""
        self._thread.shutdown(cancel_futures=True)

    def _read(self, position: Position) -> Taken | None:
        settings = self._settings
        batch = self._source.read(position, settings.micro_batch_records, settings.micro_batch_bytes)
        if batch is None:
            return None
        return Taken(batch, self._thread.submit(self._judge, batch.records))
