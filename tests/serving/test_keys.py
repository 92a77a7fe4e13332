"""API keys: what is stored, what is let in, and that nobody learns of a key who does not have it."""

import json
import logging
import stat
import threading
import time
from pathlib import Path

import httpx
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from serving_samples import server, wait_for
from typer.testing import CliRunner

from matinee.cli.main import app as command_line
from matinee.core.clock import DAY, HOUR, ManualClock, SystemClock
from matinee.core.errors import Corrupt, FormatTooNew, InvalidInput, Locked
from matinee.core.home import Home
from matinee.core.logging import configure_logging, get_logger
from matinee.core.settings import LoggingSettings
from matinee.serving import keys
from matinee.serving.key_file import (
    KEYS,
    TOKEN,
    ApiKey,
    Scope,
    create_key,
    hash_token,
    read_keys,
    revoke_key,
    rotate_key,
)
from matinee.serving.keys import Guard, Refusal


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def guard(home: Home, clock: ManualClock) -> Guard:
    return Guard(home.data / KEYS, clock)


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", b"Bearer " + token.encode())]


def header(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-api-key", token.encode())]


def status(found: ApiKey | Refusal) -> int:
    return found.status if isinstance(found, Refusal) else 200


def test_a_key_is_let_in_by_either_header_and_is_nowhere_on_the_disk(home, clock, guard):
    key, token = create_key(home, "shop", Scope.WRITE, clock=clock)
    guard.look()
    assert TOKEN.fullmatch(token)[1] == key.id
    assert guard.check(bearer(token), Scope.WRITE) == guard.check(header(token), Scope.WRITE) == key
    assert guard.check([(b"authorization", b"bearer " + token.encode())], Scope.READ) == key
    secret = token.rpartition(f"{key.id}_")[2].encode()
    assert not any(secret in path.read_bytes() for path in home.path.rglob("*") if path.is_file())
    assert stat.S_IMODE((home.data / KEYS).stat().st_mode) == 0o600


def test_two_keys_share_nothing(home, clock):
    tokens = {create_key(home, f"client{n}", Scope.READ, clock=clock)[1] for n in range(20)}
    assert len({TOKEN.fullmatch(token)[1] for token in tokens}) == len({token[-43:] for token in tokens}) == 20


@pytest.mark.parametrize("has", list(Scope))
@pytest.mark.parametrize("needed", list(Scope))
def test_a_scope_holds_those_before_it(home, clock, guard, has, needed):
    _, token = create_key(home, "k", has, clock=clock)
    guard.look()
    order = ["read", "write", "admin"]
    expected = 200 if order.index(has) >= order.index(needed) else 403
    assert status(guard.check(bearer(token), needed)) == expected


def test_a_request_s_key_is_looked_at_once_and_each_scope_by_itself(home, clock, guard, monkeypatch):
    _, token = create_key(home, "shop", Scope.READ, clock=clock)
    guard.look()
    hashed = []
    monkeypatch.setattr(keys, "hash_token", lambda token: hashed.append(token) or hash_token(token))
    scope = {"headers": bearer(token)}
    found = [guard.admit(scope, needed) for needed in (Scope.READ, Scope.READ, Scope.WRITE)]
    assert [status(one) for one in found] == [200, 200, 403]
    assert hashed == [token]
    assert guard.refused == {"scope": 1}
    assert status(guard.admit({"headers": bearer(token[:-1])}, Scope.READ)) == 401


def test_without_a_key_the_remedy_is_told(guard):
    for headers in ([], [(b"authorization", b"Basic abc")], bearer("")):
        found = guard.check(headers, Scope.READ)
        assert isinstance(found, Refusal)
        assert found.status == 401
        assert "matinee keys create" in found.detail
        assert found.headers == {"WWW-Authenticate": 'Bearer realm="matinee"'}
    assert guard.refused == {"missing": 2, "unknown": 1}


@given(st.binary(max_size=120))
def test_whatever_stands_in_the_header_is_refused_and_not_repeated(tmp_path_factory, value):
    guard = Guard(tmp_path_factory.getbasetemp() / "none" / KEYS, ManualClock())
    found = guard.check([(b"x-api-key", value)], Scope.READ)
    assert isinstance(found, Refusal)
    assert found.status == 401
    assert len(value) < 8 or value.decode("latin-1") not in found.detail


def test_one_wrong_character_anywhere_is_another_key(home, clock, guard):
    _, token = create_key(home, "k", Scope.READ, clock=clock)
    guard.look()
    for place in range(len(token)):
        wrong = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert status(guard.check(bearer(wrong), Scope.READ)) == 401
    assert status(guard.check(bearer(token), Scope.READ)) == 200


def test_a_key_ends_to_the_microsecond(home, clock, guard):
    key, token = create_key(home, "k", Scope.READ, clock=clock, lifetime_us=DAY)
    guard.look()
    clock.step(24 * 3_600 - 1e-6)
    assert guard.check(bearer(token), Scope.READ) == key
    clock.step(1e-6)
    found = guard.check(bearer(token), Scope.READ)
    assert (found.status, guard.refused["expired"]) == (401, 1)
    assert "expired" in found.detail
    create_key(home, "k", Scope.READ, clock=clock)  # the name is free again


def test_both_secrets_are_good_while_a_rotation_lasts(home, clock, guard):
    key, old = create_key(home, "k", Scope.WRITE, clock=clock, lifetime_us=30 * DAY)
    rotated, new = rotate_key(home, "k", clock=clock, overlap_us=HOUR)
    guard.look()
    assert (rotated.id, rotated.scope, rotated.expires_us) == (key.id, key.scope, key.expires_us)
    clock.step(3_600 - 1e-6)
    assert status(guard.check(bearer(old), Scope.WRITE)) == status(guard.check(bearer(new), Scope.WRITE)) == 200
    clock.step(1e-6)
    assert status(guard.check(bearer(old), Scope.WRITE)) == 401
    assert status(guard.check(bearer(new), Scope.WRITE)) == 200
    again, newest = rotate_key(home, key.id, clock=clock, overlap_us=0)
    guard.look()
    assert [secret.sha256 for secret in again.secrets] == [hash_token(newest)]
    assert status(guard.check(bearer(new), Scope.WRITE)) == 401


def test_a_later_rotation_does_not_lengthen_the_overlap_of_an_earlier_one(home, clock, guard):
    _, first = create_key(home, "k", Scope.READ, clock=clock)
    rotate_key(home, "k", clock=clock, overlap_us=HOUR)
    rotate_key(home, "k", clock=clock, overlap_us=DAY)
    guard.look()
    clock.step(3_600)
    assert status(guard.check(bearer(first), Scope.READ)) == 401


def test_a_revoked_key_is_refused_and_listed(home, clock, guard):
    key, token = create_key(home, "k", Scope.READ, clock=clock)
    _, other = create_key(home, "other", Scope.READ, clock=clock)
    revoke_key(home, "k", clock=clock)
    guard.look()
    assert status(guard.check(bearer(token), Scope.READ)) == 401
    assert status(guard.check(bearer(other), Scope.READ)) == 200
    (found,) = [k for k in read_keys(home.data / KEYS) if k.id == key.id]
    assert (found.revoked_us, found.secrets) == (clock.now_us(), ())
    for change in (revoke_key, lambda *a, **k: rotate_key(*a, **k, overlap_us=0)):
        with pytest.raises(InvalidInput, match="no valid key"):
            change(home, "k", clock=clock)


@pytest.mark.parametrize("name", ["", " a", "a" * 65, "a/b", "a\nb", "é", "0123456789ab", "[red]"])
def test_a_name_that_cannot_be_one(home, clock, name):
    with pytest.raises(InvalidInput):
        create_key(home, name, Scope.READ, clock=clock)
    assert read_keys(home.data / KEYS) == ()


def test_a_name_is_taken_once(home, clock):
    create_key(home, "k", Scope.READ, clock=clock)
    with pytest.raises(InvalidInput, match="already"):
        create_key(home, "k", Scope.ADMIN, clock=clock)


def test_keys_made_at_the_same_time_are_all_there_or_told_to_wait(home, clock):
    made, waited = [], []

    def make(number: int) -> None:
        while True:
            try:
                made.append(create_key(home, f"k{number}", Scope.READ, clock=clock)[0])
            except Locked:
                waited.append(number)
            else:
                return

    threads = [threading.Thread(target=make, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.id for key in made} == {key.id for key in read_keys(home.data / KEYS)}
    assert len(made) == 8


BROKEN = [
    b"", b"{", b"[]", b"\xff", b'{"format_version": 1}', b'{"format_version": 1, "keys": [{"id": 3}]}',
    b'{"format_version": 2, "keys": []}', b'{"format_version": 1, "keys": [{"scope": "owner"}]}',
]  # fmt: skip


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_file_leaves_the_keys_before_and_is_counted(home, clock, guard, content):
    path = home.data / KEYS
    _, token = create_key(home, "k", Scope.READ, clock=clock)
    guard.look()
    good = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises((Corrupt, FormatTooNew)):
        read_keys(path)
    guard.look()
    guard.look()
    assert guard.reloads_failed == 1
    assert status(guard.check(bearer(token), Scope.READ)) == 200
    path.write_bytes(good)
    revoke_key(home, "k", clock=clock)
    guard.look()
    assert status(guard.check(bearer(token), Scope.READ)) == 401
    path.unlink()
    guard.look()
    assert guard.reloads_failed == 1


def test_a_file_that_is_broken_from_the_start_lets_nobody_in_and_says_try_again(home, clock):
    (home.data / KEYS).write_bytes(b"{")
    guard = Guard(home.data / KEYS, clock)
    found = guard.check(bearer("matinee_0123456789ab_" + "x" * 43), Scope.READ)
    assert (found.status, found.headers) == (503, {"Retry-After": "1"})
    assert guard.refusal(scope_of("/recommend/u1")) is None  # what needs no key goes on


def test_it_follows_the_file_by_itself(home):
    clock = SystemClock()
    guard = Guard(home.data / KEYS, clock)
    guard.start()
    try:
        _, token = create_key(home, "k", Scope.READ, clock=clock)
        until(lambda: status(guard.check(bearer(token), Scope.READ)) == 200)
        revoke_key(home, "k", clock=clock)
        until(lambda: status(guard.check(bearer(token), Scope.READ)) == 401)
    finally:
        guard.stop()


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


HERE, ELSEWHERE = ("127.0.0.1", 5), ("192.0.2.7", 5)
FORWARDED = [(b"x-forwarded-for", b"192.0.2.7")]


def scope_of(path: str, client=ELSEWHERE, headers=()) -> dict:
    return {"type": "http", "path": path, "client": client, "headers": list(headers)}


@pytest.mark.parametrize(
    ("path", "client", "headers", "plain", "everywhere"),
    [
        ("/recommend/u1", ELSEWHERE, [], 200, 401),
        ("/recommend/u1", HERE, [], 200, 401),
        ("/healthz", ELSEWHERE, [], 200, 401),
        ("/readyz", ELSEWHERE, [], 200, 401),
        ("/readyz", HERE, [], 200, 200),
        ("/readyz", HERE, FORWARDED, 200, 401),
        ("/readyz", HERE, [(b"forwarded", b"for=192.0.2.7")], 200, 401),
        ("/readyz", None, [], 200, 200),
        ("/metrics", ELSEWHERE, [], 401, 401),
        ("/metrics", HERE, FORWARDED, 401, 401),
        ("/metrics", HERE, [], 200, 200),
        ("/metrics", ("::1", 5), [], 200, 200),
        ("/metrics", ("::ffff:127.0.0.1", 5), [], 200, 200),
        ("/metrics", ("somewhere", 5), [], 401, 401),
    ],
)
def test_what_the_plain_endpoints_want(home, clock, path, client, headers, plain, everywhere):
    _, token = create_key(home, "k", Scope.READ, clock=clock)
    for switch, expected in ((False, plain), (True, everywhere)):
        guard = Guard(home.data / KEYS, clock, everywhere=switch)
        refused = guard.refusal(scope_of(path, client, headers))
        assert (200 if refused is None else refused.status) == expected
        assert guard.refusal(scope_of(path, client, [*headers, *header(token)])) is None


def test_the_metrics_say_what_was_refused(home, clock, guard):
    from matinee.serving.metrics import Exposition

    create_key(home, "k", Scope.READ, clock=clock)
    guard.look()
    guard.check([], Scope.READ)
    page = Exposition(guard.families()).render().decode()
    assert 'matinee_keys_refused_total{reason="missing"} 1.0' in page
    assert "matinee_keys_reload_failed_total 0.0" in page
    assert "\nmatinee_keys 1.0" in page


def test_no_secret_reaches_a_log(home, clock, capsys):
    root = logging.getLogger()
    handlers, level, configured = root.handlers[:], root.level, structlog.get_config()
    key, token = create_key(home, "k", Scope.READ, clock=clock)
    other = "aVerySecretThing-0123456789"
    configure_logging("test", home.logs, LoggingSettings(level="debug"))
    try:
        log = get_logger("t")
        log.warning("asked", headers=bearer(token), path=f"/v1?key={token}", x=f"Bearer {other}")
        log.warning(f"token {token}", authorization=f"Basic {other}", **{"X-Api-Key": other})
        logging.getLogger("library").warning("headers %s", {"x-api-key": other, "Authorization": f"bearer {token}"})
        try:
            raise ValueError(f"{token} is bad; x-api-key: {other}")
        except ValueError:
            log.exception("failed")
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(**configured)
    written = b"".join(path.read_bytes() for path in home.logs.iterdir()) + capsys.readouterr().err.encode()
    assert written.count(f"matinee_{key.id}_***".encode()) >= 8  # who it was can be told
    assert token[-43:].encode() not in written
    assert other.encode() not in written
    assert all(json.loads(line) for path in home.logs.iterdir() for line in path.read_text().splitlines())


def test_a_running_server_follows_and_says_what_to_do(home):
    clock = SystemClock()
    with server(home, MATINEE_SERVING__REQUIRE_KEY_EVERYWHERE="true") as (url, _):
        wait_for(url, "/healthz")
        for path in ("/v1/trending", "/recommend/u001"):
            refused = httpx.get(url + path)
            assert (refused.status_code, "matinee keys create" in refused.text) == (401, True)
        _, token = create_key(home, "k", Scope.READ, clock=clock)
        headers = {"Authorization": f"Bearer {token}"}

        def asked():
            return {
                httpx.get(url + path, headers=headers).status_code for path in ("/v1/trending", "/recommend/u1")
            }

        until(lambda: asked() == {503})  # let in; there is no release
        (home.data / KEYS).write_bytes(b"broken")
        until(lambda: "matinee_keys_reload_failed_total 1.0" in httpx.get(f"{url}/metrics").text)
        assert asked() == {503}
        (home.data / KEYS).unlink()
        until(lambda: asked() == {401})
        _, token = create_key(home, "k", Scope.READ, clock=clock)
        headers = {"X-Api-Key": token}
        until(lambda: asked() == {503})
        revoke_key(home, "k", clock=clock)
        until(lambda: asked() == {401})
    logs = b"".join(path.read_bytes() for path in home.logs.iterdir())
    assert b"keys_not_read" in logs
    assert token[-43:].encode() not in logs


def run(home: Path, *arguments: str):
    return CliRunner().invoke(command_line, ["keys", *arguments, "--home", str(home)], catch_exceptions=False)


@pytest.fixture
def logging_kept():
    """A verb configures the process's logging; a test's process has others to come."""
    root = logging.getLogger()
    handlers, level, configured = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**configured)


@pytest.mark.usefixtures("logging_kept")
def test_the_command_line_from_making_a_key_to_its_end(tmp_path):
    home = tmp_path / "home"
    made = json.loads(run(home, "create", "shop", "--scope", "write", "--days", "30", "--json").stdout)
    assert (made["name"], made["scope"], made["state"]) == ("shop", "write", "valid")
    assert TOKEN.fullmatch(made["key"])[1] == made["id"]
    guard = Guard(home / "data" / KEYS, SystemClock())
    assert status(guard.check(bearer(made["key"]), Scope.WRITE)) == 200
    rotated = json.loads(run(home, "rotate", "shop", "--overlap-hours", "1", "--json").stdout)
    assert rotated["id"] == made["id"]
    assert rotated["old_secret_until"]
    guard.look()
    assert status(guard.check(bearer(rotated["key"]), Scope.WRITE)) == 200
    listed = json.loads(run(home, "list", "--json").stdout)
    assert [key["id"] for key in listed["keys"]] == [made["id"]]
    assert made["id"] in run(home, "list").stdout
    assert json.loads(run(home, "revoke", "shop", "--json").stdout)["state"] == "revoked"
    guard.look()
    assert status(guard.check(bearer(rotated["key"]), Scope.READ)) == 401
    shown = run(home, "list", "--json").stdout + run(home, "list").stdout
    assert made["key"] not in shown
    assert rotated["key"] not in shown
    assert not [p for p in home.rglob("*") if p.is_file() and made["key"][-43:].encode() in p.read_bytes()]


@pytest.mark.usefixtures("logging_kept")
def test_people_get_the_key_alone_on_standard_output(tmp_path):
    shown = run(tmp_path / "home", "create", "web")
    assert TOKEN.fullmatch(shown.stdout.strip())
    assert "not shown again" in shown.stderr
    with pytest.raises(InvalidInput, match="already"):
        run(tmp_path / "home", "create", "web")
    with pytest.raises(InvalidInput, match="--days"):
        run(tmp_path / "home", "create", "old", "--days", "1e300")


def test_a_file_that_could_not_be_read_once_is_read_the_next_time(home, clock, guard, monkeypatch):
    key, token = create_key(home, "shop", Scope.READ, clock=clock)
    guard.look()
    revoke_key(home, key.id, clock=clock)
    with monkeypatch.context() as patch:
        patch.setattr("matinee.serving.keys.read_keys", lambda _: (_ for _ in ()).throw(OSError("too many files")))
        guard.look()
    assert status(guard.check(bearer(token), Scope.READ)) == 200
    guard.look()
    assert status(guard.check(bearer(token), Scope.READ)) == 401
