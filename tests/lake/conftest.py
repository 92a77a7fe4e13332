"""What the lake's tests share."""

from pathlib import Path

import pytest

from matinee.core.clock import SystemClock
from matinee.lake.lake import Lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake(str(tmp_path / "lake"), SystemClock())
