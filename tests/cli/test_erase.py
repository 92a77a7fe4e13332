"""`matinee erase`: what it says, and what is left of the user when it is done."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.log.open import open_log
from small_disks import filled

WHO, OTHER = "740193862517", "308415527096"


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    with open_log(home.resolve("sqlite:///{data}/log.sqlite"), SystemClock()) as log:
        log.append([
            f"2022-01-01T00:00:00,{user},GET /data/m/up+2009/{minute}.mpg".encode()
            for user in (WHO, OTHER) for minute in range(5)
        ])  # fmt: skip
    matinee(home, "ingest", "--until-idle")
    return home


def matinee(home, *words, status=0):
    command = [sys.executable, "-m", "matinee", *words, "--home", str(home.path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout)


def told(home):
    return [str(path) for path in home.path.rglob("*") if path.is_file() and WHO.encode() in path.read_bytes()]


def test_a_user_is_erased_at_once_where_nobody_else_works_in_the_home(home):
    assert told(home)
    assert matinee(home, "erase", WHO) == {"added": True, "stores": "pending", "bundles": "pending"}
    assert matinee(home, "erase", "--list")["erased"][0]["done_us"] == {}
    assert matinee(home, "erase", WHO, "--now") == {"added": False, "stores": "done", "bundles": "done"}
    assert set(matinee(home, "erase", "--list")["erased"][0]["done_us"]) == {"stores", "bundles"}
    assert told(home) == []
    assert matinee(home, "lake", "status")["tables"]["events"]["rows"] == 5
    assert matinee(home, "erase", WHO, "--lift") == {"lifted": True}
    assert matinee(home, "erase", "--list") == {"erased": []}


def test_a_backup_holds_the_tombstone_of_an_erasure_that_was_asked_for_and_not_of_a_later_one(home, tmp_path):
    matinee(home, "backup", str(tmp_path / "before"))
    matinee(home, "erase", WHO)
    matinee(home, "backup", str(tmp_path / "pending"))
    for backup, known in (("before", False), ("pending", True)):
        restored = Home(tmp_path / f"from-{backup}")
        matinee(restored, "restore", str(tmp_path / backup))
        assert told(restored)
        assert len(matinee(restored, "erase", "--list")["erased"]) == known
        words = ("erase", "--now") if known else ("erase", WHO, "--now")  # the later one has to be asked for again
        assert matinee(restored, *words)["stores"] == "done"
        assert told(restored) == []
        assert matinee(restored, "lake", "status")["tables"]["events"]["rows"] == 5


def test_what_cannot_be_done_is_said(home):
    said = matinee(home, "erase", WHO, "--lift", status=1)
    assert "not erased" in said["error"]
    assert "matinee erase USER" in matinee(home, "erase", status=1)["remedy"]
    assert matinee(home, "erase", "no id, this", status=1)["kind"] == "InvalidId"
    with home.lock("ingest"), home.lock("train"):
        said = matinee(home, "erase", WHO, "--now")
    assert "matinee ingest is running" in said["stores"]
    assert "matinee train is running" in said["bundles"]
    assert "not done" in matinee(home, "erase", WHO, "--lift", status=1)["error"]
    with home.lock("upkeep"):  # of an ingest that erases: what another rewrites meanwhile could bring users back
        assert matinee(home, "lake", "maintain", status=75)["kind"] == "Locked"
    assert matinee(home, "erase", "--now") == {"stores": "done", "bundles": "done"}


def test_a_disk_without_a_byte_is_told_of_and_the_erasure_can_be_asked_for_again(small_disk):
    home = Home(small_disk / "home")
    assert matinee(home, "erase", "--list") == {"erased": []}
    with filled(small_disk):
        refused = matinee(home, "erase", WHO, status=75)
    assert (refused["kind"], refused["remedy"]) == (
        "OutOfRoom", "Make room on that disk (docs/runbooks/disk-full.md); then give the same command again.",
    )  # fmt: skip
    assert matinee(home, "erase", "--list") == {"erased": []}
    assert matinee(home, "erase", WHO)["added"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no file that is always full")
def test_a_full_standard_output_is_told_of_beside_it(tmp_path):
    command = [sys.executable, "-m", "matinee", "erase", "--list", "--home", str(tmp_path / "home"), "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, "No space left" in done.stderr, "Traceback" in done.stderr) == (75, True, False)
