import json
import os
import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from matinee.cli.main import app
from matinee.cli.settings import as_markdown
from tests_root import ROOT


def verbs(command, *words):
    """Every command there is below one, in words; a group that does something itself is one as well."""
    below = getattr(command, "commands", {})
    if words and (not below or command.invoke_without_command):
        yield " ".join(words)
    for name, sub in below.items():
        yield from verbs(sub, *words, name)


VERBS = list(verbs(get_command(app)))


def test_verbs_are_found_at_every_depth():
    assert {"simulate", "up", "up config", "lake status", "metadata status", "quarantine list"} <= set(VERBS)
    assert "lake" not in VERBS  # it does nothing by itself


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_teaches(verb):
    shown = CliRunner().invoke(app, [*verb.split(), "--help"], catch_exceptions=False).stdout
    assert "Usage:" in shown
    assert len(shown.splitlines()) > 4


def test_a_line_is_explained(matinee):
    read = matinee.json("read", "2022-11-14T12:23,5747,GZET /data/m/inception+2010/9.mpg")
    assert (read["outcome"], read["repairs"]) == ("repaired", ["seconds", "stray"])
    assert (read["user"], read["item"], read["minute"]) == ("5747", "inception+2010", 9)


def test_a_table_is_imported_and_its_wrong_row_is_quarantined(matinee, rating_table):
    first = matinee.json("import", rating_table)
    assert {key: first[key] for key in ("read", "accepted", "repaired", "duplicate", "quarantined")} == {
        "read": 3, "accepted": 2, "repaired": 0, "duplicate": 0, "quarantined": 1,
    }  # fmt: skip
    assert first["reasons"] == {"bad_rating": 1}
    before = matinee.json("lake", "status")
    again = matinee.json("import", rating_table)
    assert (again["read"], again["duplicate"], again["already_imported"]) == (3, 3, True)
    assert matinee.json("lake", "status") == before
    ann = matinee.json("history", "show", "ann")
    assert [(entry["item"], entry["rating"]) for entry in ann["entries"]] == [("m2", 4.5), ("m1", 5.0)]
    assert matinee.json("history", "rebuild")["actions"] == 2
    assert matinee.json("history", "show", "ann") == ann


@pytest.mark.parametrize(
    ("words", "status", "kind", "told"),
    [
        (("import", "no-such-thing"), 1, "InvalidInput", "movielens-1m"),
        (("import", "movielens-1m", "--path", "nowhere"), 1, "InvalidInput", "nowhere"),
        (("train", "-m", "magic"), 1, "ConfigurationError", "there is no model 'magic'"),
        (("train",), 1, "QualityRefused", "not one interaction"),
        (("recommend", "ann"), 1, "DataUnavailable", "nothing to recommend from"),
        (("recommend", "a b"), 1, "InvalidId", "cannot be a user id"),
        (("trace", "0" * 32), 1, "InvalidInput", "no answer"),
        (("release", "publish", "nothing"), 1, "InvalidInput", "nothing"),
    ],
)
def test_an_error_says_what_and_what_to_do(matinee, words, status, kind, told):
    document = matinee.json(*words, status=status)
    assert document["kind"] == kind
    assert told in document["error"] + document["remedy"]
    shown = matinee(*words, status=status)
    assert "Traceback" not in shown.stderr
    assert shown.stdout == ""


def test_a_wrong_setting_is_named(matinee):
    matinee.environment["MATINEE_SERVING__PORT"] = "many"
    assert "serving.port" in matinee("lake", "status", status=1).stderr


def test_a_taken_port_is_told(matinee, free_port, rating_table):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        assert str(free_port) in matinee("serve", "--port", free_port, status=1).stderr


def test_the_page_of_settings_is_what_the_command_prints():
    assert (ROOT / "docs" / "settings.md").read_text() == as_markdown()


def test_a_server_needs_no_compiler_and_no_lake():
    code = (
        "import sys, matinee.serving.server, matinee.cli.main\n"
        "heavy = ('numba', 'scipy', 'polars', 'deltalake', 'sqlalchemy', 'mlflow')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert json.loads(done.stdout.replace("'", '"')) == []


@pytest.mark.parametrize("path", ["file", "file/below", "with space", "per%cent"])
def test_an_unusable_home_is_told(matinee, path):
    (matinee.home.parent / "file").touch()
    refused = matinee.json("lake", "status", "--home", matinee.home.parent / path, status=1)
    assert refused["kind"] == "ConfigurationError"
    assert "home" in refused["remedy"]


def test_bytes_that_are_no_text_are_quarantined(matinee):
    assert matinee.json("read", b"\xff")["reason"] == "not_text"


def test_a_damaged_bundle_is_not_released(matinee, tmp_path):
    table = tmp_path / "some.csv"
    rows = [f"u{user},m{item},{5 if (user + item) % 2 else 1}" for user in range(20) for item in range(10)]
    table.write_text("user,item,rating\n" + "\n".join(rows))
    matinee.json("import", table)
    bundle = matinee.json("train", "-m", "popularity")["bundle"]
    file = matinee.home / "data" / "bundles" / bundle / "popular.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    refused = matinee.json("release", "publish", bundle, status=1)
    assert refused["kind"] == "Corrupt"
    assert "popular.npy" in refused["error"]
    assert matinee.json("train", "--repeat", bundle, "-m", "svd", status=1)["kind"] == "ConfigurationError"
