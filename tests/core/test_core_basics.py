import multiprocessing
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.core import ids
from matinee.core.errors import ConfigurationError, FormatTooNew, InvalidId, Locked
from matinee.core.files import read_json, write_atomically, write_json
from matinee.core.home import Home
from matinee.core.settings import load_settings


@given(st.text())
def test_an_id_is_accepted_or_refused_with_a_reason(text):
    if ids.is_id(text):
        assert ids.item_id(text) == text
        assert text.isascii()
        assert not set(text) & set(' ,/"\\%?')
    else:
        with pytest.raises(InvalidId) as caught:
            ids.user_id(text)
        assert caught.value.remedy


@pytest.mark.parametrize("text", ["m*a*s*h+1970", "amlie+2001", "kill+baby_+kill+1966"])
def test_the_ids_of_the_scenario_are_ids(text):
    assert ids.item_id(text) == text


def test_an_error_keeps_its_remedy_across_processes():
    error = pickle.loads(pickle.dumps(Locked("busy", remedy="wait")))
    assert (type(error), str(error), error.remedy) == (Locked, "busy", "wait")


def test_the_environment_overrides_the_file_and_arguments_override_both(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "matinee.toml").write_text("[serving]\nport = 1\nhost = '::1'\n")
    assert load_settings().serving.port == 1
    monkeypatch.setenv("MATINEE_SERVING__PORT", "2")
    assert (load_settings().serving.port, load_settings().serving.host) == (2, "::1")
    assert load_settings(serving={"port": 3}).serving.port == 3


@pytest.mark.parametrize(
    ("text", "named"),
    [("[serving]\nprot = 1", "serving.prot"), ("[stream]\ntimezone = 'Mars'", "timezone"), ("[[", "matinee.toml")],
)
def test_a_wrong_setting_is_named(tmp_path, monkeypatch, text, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "matinee.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=named):
        load_settings()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_home_of_a_newer_format_is_refused(tmp_path):
    Home(tmp_path)
    write_json(tmp_path / "home.json", {"format_version": 99})
    with pytest.raises(FormatTooNew, match="99"):
        Home(tmp_path)
    assert read_json(tmp_path / "home.json", format_version=99) == {"format_version": 99}


def _hold(path, held, release):
    with Home(path).lock("train"):
        held.set()
        release.wait(30)


def test_a_lock_names_its_holder_and_goes_with_the_process(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, held, release))
    process.start()
    assert held.wait(30)
    with pytest.raises(Locked, match=str(process.pid)), Home(tmp_path).lock("train"):
        pass
    process.kill()
    process.join()
    with Home(tmp_path).lock("train"):
        pass
