"""A process that reads a topic to its end: what tests kill, starve and set against one another.

``python child.py <lake> <records.parquet> <topic partitions> <records per micro-batch>``; it prints ``started`` when
it is about to begin. It ends with 0 when drained, with 3 when another writer took over.
"""

from __future__ import annotations

import sys

import polars as pl

from resources.lake import Fenced, Lake
from resources.records import FrameSource
from support.lakes import drain, stream_settings
from support.records import TOPIC

FENCED = 3


def main(url: str, records: str, partitions: str, size: str) -> int:
    source = FrameSource(pl.read_parquet(records), {TOPIC: int(partitions)})
    sys.stdout.write("started\n")
    sys.stdout.flush()
    try:
        drain(Lake(url), source, stream_settings(int(size)))
    except Fenced as error:
        sys.stderr.write(f"{error}\n")
        return FENCED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
