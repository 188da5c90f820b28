"""What every test may use; being here also puts `tests/` on the path, so that `support` can be imported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from resources.lake import Lake
from support.engines import ENGINES, Native, native_frames
from support.lakes import new_lake

settings.register_profile("headwater", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("headwater"), max_examples=500)
settings.load_profile("headwater")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with all tables of the stream, empty."""
    return new_lake(tmp_path / "lake")


@pytest.fixture(params=ENGINES)
def native(request: pytest.FixtureRequest) -> Iterator[Native]:
    """Brings a Polars frame into each of the engines in turn."""
    with native_frames(request.param) as bring:
        yield bring
