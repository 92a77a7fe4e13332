"""What all tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import small_disks

settings.register_profile("matinee", deadline=None)  # the machines are noisy: time limits would tell of them
settings.load_profile("matinee")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets."""
    folder = os.environ.get("MATINEE_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MATINEE_TEST_DATA does not name a folder of real data sets")
    return Path(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    with small_disks.small_disk(tmp_path / "disk", "size=4m") as folder:
        yield folder
