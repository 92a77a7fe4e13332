"""File systems that are really small, and can be filled to a given byte."""

import os
import subprocess
from contextlib import contextmanager, suppress

import pytest


@contextmanager
def small_disk(folder, options="size=16m", kind="tmpfs"):
    """A file system in memory with these limits at a folder, while the block lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", kind, "-o", options, kind, str(folder)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(folder, leave=0):
    """All of a disk taken but `leave` bytes, by the file that it gives."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):  # somebody else may take the last of it
        while (free := os.statvfs(folder)).f_bavail * free.f_frsize > leave:
            file.write(bytes(min(free.f_bavail * free.f_frsize - leave, 1 << 20)))
    try:
        yield ballast
    finally:
        ballast.unlink(missing_ok=True)
