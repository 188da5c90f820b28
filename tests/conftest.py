"""What every test may use; being here also puts `tests/` on the path, so that `support` can be imported."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from resources.lake import Lake
from support.lakes import new_lake

settings.register_profile("headwater", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("headwater")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with all tables of the stream, empty."""
    return new_lake(tmp_path / "lake")
