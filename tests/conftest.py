"""What all tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("matinee", deadline=None)  # the machines are noisy: time limits would tell of them
settings.load_profile("matinee")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets."""
    folder = os.environ.get("MATINEE_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MATINEE_TEST_DATA does not name a folder of real data sets")
    return Path(folder)
