from collections.abc import Callable
from pathlib import Path

import pytest

from matinee.bundle.write import write_bundle
from matinee.core.clock import ManualClock


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    return tmp_path / "bundles"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def write(bundles: Path) -> Callable[..., Path]:
    """Writes a bundle, each a second after the last, and gives its folder."""
    import bundle_samples

    clock = ManualClock()

    def _write(*arguments: object, **changes: object) -> Path:
        clock.step(1)
        return bundles / write_bundle(bundles, contents=bundle_samples.contents(*arguments, **changes), clock=clock)

    return _write
