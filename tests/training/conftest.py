"""A home, settings and a lake for a run."""

import pytest

from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.core.settings import load_settings
from matinee.lake.lake import Lake


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def settings(home):
    return load_settings(home=home.path, training={"threads": 1, "bootstrap_resamples": 500, "top_n": 20})


@pytest.fixture
def lake(home):
    return Lake(str(home.data / "lake"), SystemClock())
