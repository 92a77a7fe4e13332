"""The command line, run as people run it: in a process of its own."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest


class Matinee:
    """`matinee <verb>` in a home."""

    def __init__(self, home, environment):
        self.home = home
        self.environment = environment

    def __call__(self, *words, status=0):
        done = subprocess.run(
            [sys.executable, "-m", "matinee", *(word if isinstance(word, bytes) else str(word) for word in words)],
            capture_output=True,
            text=True,
            cwd=self.home.parent,
            env=self.environment,
            timeout=280,
            check=False,
        )
        assert done.returncode == status, f"{words}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *words, status=0):
        """Standard output holds one object and nothing else."""
        return json.loads(self(*words, "--json", status=status).stdout)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Kernels are compiled once for all homes of a test run."""
    return tmp_path_factory.getbasetemp().parent / "matinee-kernels"


@pytest.fixture
def matinee(tmp_path, compiled):
    home = tmp_path / "home"
    environment = {**os.environ, "MATINEE_HOME": str(home), "NUMBA_CACHE_DIR": str(compiled), "COLUMNS": "100"}
    return Matinee(home, environment)


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def rating_table(tmp_path):
    path = Path(tmp_path / "ratings.csv")
    path.write_text(
        "user_id,movieId,rating,timestamp\nann,m1,5,1600000000\nbob,m1,9,1600000001\nann,m2,4.5,1600000002\n"
    )
    return path
