import shutil
import tempfile
from pathlib import Path

import pytest
from fault_samples import publish_two

from matinee.core.home import Home


@pytest.fixture
def folder():
    """A folder whose path is short enough for Unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="mat"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def home(folder):
    return Home(folder / "home")


@pytest.fixture
def released(home):
    """A home in which bundle `a` was released and then `b`; their versions."""
    return publish_two(home)
