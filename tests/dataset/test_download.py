"""The real download against a server on loopback that fails on purpose."""

import hashlib
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from matinee.core.errors import DataUnavailable
from matinee.dataset.movielens.download import download

BODY = bytes(range(256)) * 4_096


@dataclass
class Faults:
    """How the server behaves."""

    body: bytes = BODY
    announced: int | None = None
    cut_after: list[int] = field(default_factory=list)
    """Bytes after which each of the next answers breaks off."""
    status: int = 200
    md5: str | None = None
    etag: str | None = '"one"'
    ranges: bool = True
    new_body: bytes | None = None
    """What the file becomes after the first answer."""
    asked: list[str | None] = field(default_factory=list)
    """The range of each request for the file."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults: Faults

    def do_GET(self):
        faults = self.faults
        if self.path.endswith(".md5"):
            text = None if faults.md5 is None else f"MD5 (file.zip) = {faults.md5}\n".encode()
            self._send(404 if text is None else 200, text or b"", {})
            return
        wanted = self.headers.get("Range")
        faults.asked.append(wanted)
        if faults.status != 200:
            self._send(faults.status, b"no", {})
            return
        headers = {} if faults.etag is None else {"ETag": faults.etag}
        status, part = 200, faults.body
        if wanted and faults.ranges and self.headers.get("If-Range") == faults.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            status, part = 206, faults.body[start:]
            headers["Content-Range"] = f"bytes {start}-{len(faults.body) - 1}/{len(faults.body)}"
        if faults.new_body is not None:
            faults.body, faults.etag, faults.new_body = faults.new_body, '"two"', None
        self._send(status, part, headers)

    def _send(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        announced = self.faults.announced if self.faults.announced is not None and status == 200 else len(body)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        if status in {200, 206} and not self.path.endswith(".md5") and self.faults.cut_after:
            self.wfile.write(body[: self.faults.cut_after.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    faults = Faults()
    handler = type("Handler", (Handler,), {"faults": faults})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield faults, f"http://127.0.0.1:{http.server_address[1]}/file.zip"
        http.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "file.zip"


def left(target):
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_comes_whole_and_with_progress(server, target):
    faults, url = server
    faults.md5 = hashlib.md5(BODY).hexdigest()
    steps = []
    download(url, target, lambda done, total: steps.append((done, total)))
    assert target.read_bytes() == BODY
    assert left(target) == ["file.zip"]
    assert steps == sorted(steps)
    assert steps[-1] == (len(BODY), len(BODY))


def test_a_cut_connection_is_taken_up_where_it_broke(server, target):
    faults, url = server
    faults.cut_after = [300_000, 200_000]
    download(url, target)
    assert target.read_bytes() == BODY
    assert faults.asked == [None, "bytes=300000-", "bytes=500000-"]


@pytest.mark.parametrize("setting", [{"ranges": False}, {"etag": None}, {"etag": 'W/"weak"'}])
def test_it_begins_again_where_the_server_cannot_go_on(server, target, setting):
    faults, url = server
    faults.cut_after = [300_000]
    for name, value in setting.items():
        setattr(faults, name, value)
    download(url, target)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("new", [BODY[::-1], b"much shorter"], ids=["as long", "shorter"])
def test_halves_of_two_different_files_are_never_joined(server, target, new):
    faults, url = server
    faults.cut_after = [300_000]
    faults.new_body = new
    download(url, target)
    assert target.read_bytes() == new


def test_a_connection_that_always_breaks_is_given_up_and_leaves_nothing(server, target):
    faults, url = server
    faults.cut_after = [10, 10, 10, 10]
    with pytest.raises(DataUnavailable, match="broke off after 30 of"):
        download(url, target)
    assert left(target) == []
    assert len(faults.asked) == 3


def test_fewer_bytes_than_announced_are_refused(server, target):
    faults, url = server
    faults.announced = len(BODY) + 5
    faults.cut_after = [len(BODY)] * 3
    faults.etag = None
    with pytest.raises(DataUnavailable, match=f"file.zip: it broke off after {len(BODY)} of {len(BODY) + 5} bytes"):
        download(url, target)
    assert left(target) == []


def test_another_content_than_published_is_refused(server, target):
    faults, url = server
    faults.md5 = "0" * 32
    with pytest.raises(DataUnavailable, match=f"MD5 {hashlib.md5(BODY).hexdigest()}; published is 0000"):
        download(url, target)
    assert left(target) == []


@pytest.mark.parametrize("status", [404, 403, 500])
def test_an_error_of_the_server_is_told(server, target, status):
    faults, url = server
    faults.status = status
    with pytest.raises(DataUnavailable, match=f"file.zip answered {status}"):
        download(url, target)
    assert left(target) == []


def test_an_old_file_stays_until_the_new_one_is_whole(server, target):
    faults, url = server
    target.parent.mkdir()
    target.write_bytes(b"old")
    target.with_name("file.zip.part").write_bytes(b"half of something")
    faults.md5 = "0" * 32
    with pytest.raises(DataUnavailable):
        download(url, target)
    assert target.read_bytes() == b"old"
    faults.md5 = None
    download(url, target)
    assert target.read_bytes() == BODY


def test_nobody_there(target):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.zip"
        with pytest.raises(DataUnavailable, match=r"file\.zip: .*[Cc]onnection refused"):
            download(url, target)
