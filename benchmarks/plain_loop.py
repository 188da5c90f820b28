"""The micro-batches without Dagster, paced as `advance` paces them: the peer that Dagster's overhead is told by."""

from __future__ import annotations

import time

from platform_assets.platform import Platform
from platform_assets.streams.micro_batches import MicroBatches
from resources.settings import Settings


def main() -> None:
    """Take in what comes until killed; the environment says where from and where to."""
    settings = Settings()
    platform = Platform.from_settings(settings)
    with platform.source() as source, MicroBatches(platform.lake, source, settings) as batches:
        batches.catch_up()
        while True:
            began = time.monotonic()
            step = batches.step()
            if step is None or not step.has_more:
                time.sleep(max(0.0, began + settings.trigger_interval.total_seconds() - time.monotonic()))


if __name__ == "__main__":
    main()
