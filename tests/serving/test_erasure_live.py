"""A user is erased under a running server: from then on a stranger, on every way that leads to an answer."""

import fcntl
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from serving_samples import CLOCK, SNAPSHOT_END, act, make_bundle, server, settings, users, wait_for

from matinee.bundle.manifest import list_versions
from matinee.core.clock import SystemClock
from matinee.core.erasures import ERASED, Erasures, add_erasure, mark_done, read_erasures
from matinee.core.errors import Locked
from matinee.core.home import Home
from matinee.history.lmdb import LmdbHistory
from matinee.log.sqlite import SqliteLog
from matinee.release.erasure import erase_from_bundles
from matinee.release.plan import publish, read_plan, rollback
from matinee.serving.erased import LiveErasures
from matinee.serving.fold_cache import FOLDER, FoldCache, throw_away
from matinee.serving.key_file import Scope, create_key
from matinee.serving.local import answer_locally

WHO = "who-is-it-004"
OTHER = "who-is-it-005"
STRANGER = "nobody-knows"
UNHURRIED = {"MATINEE_SERVING__DEADLINE_MS": "60000"}


def poll(holds, what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"never came true: {what}"
        time.sleep(0.02)


def step(url: str, user: str) -> str:
    response = httpx.get(f"{url}/recommend/{user}", timeout=30)
    assert response.status_code == 200
    return response.headers["X-Matinee-Step"]


def bundle_of(home: Home, name: str = "a") -> str:
    return make_bundle(home, name, users=[users("who-is-it-")])


def files_with(folder: Path, text: str) -> list[str]:
    """The files under a folder that hold the text anywhere in their bytes."""
    found = []
    for path in sorted(folder.rglob("*")):
        with suppress(FileNotFoundError, IsADirectoryError):  # a server may be throwing it away
            if text.encode() in path.read_bytes():
                found.append(str(path.relative_to(folder)))
    return found


def records(home: Home, user: str) -> int:
    """Records of the log that name a user."""
    with SqliteLog(home.data / "log.sqlite", SystemClock()) as log:
        batches = log.reader(lambda partition: 0).poll(max_records=100_000, timeout=0)
        return sum(user.encode() in value for batch in batches for value in batch.values)


@contextmanager
def asking(url: str, *asked: str):
    """Ask for these users all the time while the block lasts; yields the statuses that were answered."""
    statuses: list[int] = []
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=30) as client:
            while not done.is_set():
                statuses.extend(client.get(f"{url}/recommend/{user}").status_code for user in asked)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield statuses
    finally:
        done.set()
        thread.join()


@pytest.fixture
def acted(home: Home, history: LmdbHistory) -> Home:
    """Both users did something since the bundle was made."""
    publish(home.data, bundle_of(home), clock=SystemClock())
    act(history, WHO, ["a+30"], position=SNAPSHOT_END)
    act(history, OTHER, ["a+31"], position=SNAPSHOT_END + 1)
    return home


def said(response: httpx.Response, user: str) -> Any:
    """An answer without what differs from request to request, and with another name for the user."""
    assert response.is_success, response.text

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items() if key != "request_id"}
        if isinstance(value, list):
            return [plain(one) for one in value]
        return "the user" if value == user else value

    return plain(response.json())


def explained(answer: dict[str, Any]) -> tuple[str | None, set[str]]:
    """Why an answer (the first of several) explains nothing, and the liked items that it names."""
    found = answer["results"][0]["recommendations"] if "results" in answer else answer
    return found["unexplained"], {liked["item"] for item in found["items"] for liked in item["because"]}


def test_a_user_erased_under_load_is_a_stranger_to_every_way_of_asking(acted: Home):
    _, key = create_key(acted, "tests", Scope.WRITE, clock=SystemClock())
    cache = acted.run / FOLDER
    with server(acted, **UNHURRIED) as (url, _), server(acted, **UNHURRIED) as (other_url, _):
        for one in (url, other_url):
            wait_for(one)
        api = httpx.Client(base_url=url, headers={"X-Api-Key": key}, timeout=30)
        poll(lambda: step(url, WHO) == step(url, OTHER) == "folded_in", "folded in")
        poll(lambda: files_with(cache, WHO) and files_with(cache, OTHER), "kept fold-ins")
        ways = {
            "one": lambda user: api.get(f"/v1/users/{user}/recommendations?explain=true"),
            "several": lambda user: api.post("/v1/recommendations", json={"users": [user], "explain": True}),
            "predictions": lambda user: api.post(
                "/v1/predictions", json={"users": [user], "items": ["a+0", "a+7"]}
            ),
            "history": lambda user: api.get(f"/v1/users/{user}/history"),
            "short": lambda user: api.get(f"/recommend/{user}"),
        }
        short = ways.pop("short")
        before = {name: said(way(WHO), WHO) for name, way in ways.items()}
        with asking(url, WHO, OTHER) as statuses, asking(other_url, WHO, OTHER) as others:
            assert add_erasure(acted, WHO, SystemClock().now_us())
            poll(lambda: step(url, WHO) == step(other_url, WHO) == "popular", "a stranger")
            poll(lambda: not files_with(cache, WHO), "the fold-in's bytes are gone")
            assert step(url, OTHER) == step(other_url, OTHER) == "folded_in"
            known = len(statuses)
            poll(lambda: len(statuses) > known + 40, "asked on")
        assert set(statuses) == set(others) == {200}
        after = {name: said(way(WHO), WHO) for name, way in ways.items()}
        for name, way in ways.items():
            assert after[name] == said(way(STRANGER), STRANGER), name
            assert after[name] != before[name], name
        assert explained(before["one"]) == explained(before["several"]) == (None, {"a+30"})
        assert explained(after["one"]) == explained(after["several"]) == (None, set())
        met = [(of["history"]["live"], of["history"]["total"]) for of in (before, after)]
        assert met == [(True, 5), (True, 0)]  # four were in the bundle, and one came since
        assert short(WHO).text == short(STRANGER).text
        assert not files_with(acted.run / FOLDER, WHO)
        api.close()


def test_what_an_erased_user_is_shown_or_does_is_not_written_to_the_log(acted: Home):
    _, key = create_key(acted, "tests", Scope.WRITE, clock=SystemClock())

    def rating(user: str) -> dict[str, object]:
        return {"kind": "rating", "user": user, "item": "a+1", "rating": 4.0, "id": f"by-{user[-3:]}"}

    add_erasure(acted, WHO, SystemClock().now_us())
    with server(acted, **UNHURRIED) as (url, process):
        wait_for(url)
        assert step(url, WHO) == "popular"  # with the first answer
        assert step(url, OTHER) in {"personal", "folded_in"}
        headers = {"X-Api-Key": key}
        for events, ids in (
            ([rating(WHO)], ["by-004"]),
            ([rating(WHO), rating(OTHER)], ["by-004", "by-005"]),
        ):
            answer = httpx.post(f"{url}/v1/events", json=events, headers=headers, timeout=30)
            assert (answer.status_code, answer.json()) == (202, {"accepted": len(ids), "ids": ids})
        process.terminate()
        assert process.wait(30) == 0
    assert records(acted, OTHER) == 2  # what it was shown, and its rating
    assert records(acted, WHO) == 0
    assert not files_with(acted.logs, WHO)


def test_where_the_file_cannot_be_read_at_the_start_everybody_is_a_stranger(acted: Home):
    add_erasure(acted, WHO, SystemClock().now_us())
    file = acted.data / ERASED
    whole = file.read_bytes()
    _, key = create_key(acted, "tests", Scope.WRITE, clock=SystemClock())
    file.write_bytes(b"{")
    with server(acted, **UNHURRIED) as (url, _):
        wait_for(url)
        assert {step(url, user) for user in (WHO, OTHER)} == {"popular"}
        assert "erased.json" in httpx.get(f"{url}/readyz", timeout=30).text
        figures = httpx.get(f"{url}/metrics", timeout=30).text
        assert "matinee_erasures_known 0.0" in figures
        assert "matinee_erasures_refused_total 1.0" in figures
        event = {"kind": "watch", "user": OTHER, "item": "a+1", "minute": 1}
        answer = httpx.post(f"{url}/v1/events", json=event, headers={"X-Api-Key": key}, timeout=30)
        assert (answer.status_code, records(acted, OTHER)) == (202, 1)  # what may be kept is: ingest decides
        api = httpx.Client(base_url=url, headers={"X-Api-Key": key}, timeout=30)

        def told(user: str) -> tuple[object, ...]:
            answer = api.get(f"/v1/users/{user}/recommendations?explain=true").json()
            history = api.get(f"/v1/users/{user}/history").json()
            return (*explained(answer), history["live"], history["total"])

        # That nothing is known of them must not be taken for that they did nothing.
        assert told(OTHER) == told(WHO) == told(STRANGER) == ("history", set(), False, 0)
        file.write_bytes(whole)
        poll(lambda: step(url, OTHER) == "folded_in", "read again")
        assert step(url, WHO) == "popular"
        assert told(OTHER) == (None, {"a+31"}, True, 6)
        assert told(WHO) == told(STRANGER) == (None, set(), True, 0)
        api.close()


def test_followed_erasures_are_nothing_where_there_are_none_and_stay_where_the_file_breaks(home: Home):
    asked: list[int] = []
    live = LiveErasures(home.data / ERASED, lambda erased: asked.append(len(erased)))
    assert WHO in live
    assert not live.names(WHO)
    live.look()
    assert live.strangers is None
    assert asked == [0]
    assert WHO not in live
    add_erasure(home, WHO, 1)
    live.look()
    assert WHO in live
    assert live.names(WHO)
    assert OTHER not in live
    live.look()
    assert asked == [0, 1]
    (home.data / ERASED).write_bytes(b"{")
    live.look()
    assert (WHO in live, OTHER in live, asked) == (True, False, [0, 1])
    assert "erased.json" in live.why_not


def test_at_a_terminal_an_erased_user_is_a_stranger_too(home: Home):
    publish(home.data, bundle_of(home), clock=SystemClock())
    configured = settings(home)
    known = answer_locally(configured, home, WHO, 5)
    add_erasure(home, WHO, 1)
    found = answer_locally(configured, home, WHO, 5)
    assert (known.step, found.step) == ("personal", "popular")
    assert found.items == answer_locally(configured, home, STRANGER, 5).items


def test_bundles_lose_an_erased_user_under_load_and_a_rollback_leads_to_no_bundle_that_held_it(home: Home):
    first, second = bundle_of(home, "a"), bundle_of(home, "b")
    for version in (first, second):
        publish(home.data, version, clock=CLOCK)
    add_erasure(home, WHO, SystemClock().now_us())
    assert files_with(home.bundles, WHO) == [f"{version}/users.lmdb" for version in (first, second)]
    with server(home, **UNHURRIED) as (url, _):
        wait_for(url)
        with asking(url, WHO, OTHER) as statuses:
            replaced = erase_from_bundles(home, frozenset({WHO}))
            assert replaced.keys() == {first, second}
            poll(lambda: version_of(url) == replaced[second], "the copy answers")
            assert step(url, OTHER) == "personal"
            assert read_plan(home.data).bundles == {replaced[second]}
            assert rollback(home.data, clock=SystemClock()).bundles == {replaced[first]}
            poll(lambda: version_of(url) == replaced[first], "the copy of the one before answers")
            assert (step(url, WHO), step(url, OTHER)) == ("popular", "personal")
        assert set(statuses) == {200}
    assert list_versions(home.bundles) == sorted(filter(None, replaced.values()))
    assert not files_with(home.bundles, WHO)


def version_of(url: str) -> str:
    return httpx.get(f"{url}/recommend/{OTHER}", timeout=30).headers["X-Model-Version"]


def keep(cache: FoldCache, *names: str) -> None:
    for user in names:
        cache.put("v", user, b"01234567", np.arange(3, dtype=np.int32), np.ones(3, dtype=np.float32))


def kept(cache: FoldCache, user: str) -> bool:
    return cache.get("v", user, b"01234567") is not None


def erasures(home: Home, *names: str, done: bool = False) -> Erasures:
    for user in names:
        add_erasure(home, user, 1)
    found = read_erasures(home.data / ERASED)
    if done:
        mark_done(home, "bundles", found.pending("bundles"), 2)
    return read_erasures(home.data / ERASED)


def test_kept_fold_ins_of_an_erased_user_go_with_their_bytes_and_none_come_again(
    home: Home, tmp_path: Path, cache: FoldCache
):
    keep(cache, WHO, OTHER)
    cache.tend()
    assert files_with(tmp_path, WHO)
    keep(cache, WHO, "third")  # still wait to be written
    cache.leave_out(erasures(home, WHO))
    keep(cache, WHO)  # by an answer that was under way
    cache.tend()
    keep(cache, WHO, OTHER)
    cache.tend()
    assert not files_with(tmp_path / FOLDER, WHO)
    assert [kept(cache, user) for user in (WHO, "third", OTHER)] == [False, True, True]
    assert (cache.remade, cache.is_open) == (1, True)


def test_kept_fold_ins_stay_where_all_is_done_and_one_who_came_back_is_kept_again(
    home: Home, tmp_path: Path, cache: FoldCache
):
    keep(cache, OTHER)
    cache.tend()
    cache.leave_out(erasures(home, WHO, done=True))
    keep(cache, WHO)
    cache.tend()
    assert (kept(cache, WHO), kept(cache, OTHER), cache.remade) == (False, True, 0)
    cache.leave_out(Erasures(b""))
    keep(cache, WHO)
    cache.tend()
    assert (kept(cache, WHO), cache.remade) == (True, 0)


def test_fold_ins_that_nobody_uses_are_thrown_away_too_unless_somebody_is_just_opening_them(
    tmp_path: Path, cache: FoldCache
):
    keep(cache, WHO)
    cache.tend()
    left = tmp_path / f"{FOLDER}.gone-7"  # of a process that was killed meanwhile
    left.mkdir()
    with (tmp_path / f"{FOLDER.replace('-1', '-1.lock')}").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Locked):
            throw_away(tmp_path)
        assert files_with(tmp_path, WHO)
    throw_away(tmp_path)
    assert not files_with(tmp_path, WHO)
    assert not left.exists()
    cache.tend()
    keep(cache, OTHER)
    cache.tend()
    assert kept(cache, OTHER)
