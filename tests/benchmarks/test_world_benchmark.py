"""The benchmark of the simulated world in small form."""

import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests_root import ROOT

SMALL = ("--viewers", "2000", "--movies", "100", "--warm-up", "30", "--minutes", "5")


def run(*words):
    command = [sys.executable, str(ROOT / "benchmarks" / "world.py"), *SMALL, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def nobody():
    """A server that has nothing to recommend, and counts who asked."""
    asked = []

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_it_tells_the_rows_of_the_guide():
    told = run()
    assert told["viewers"] == 2_000
    assert told["evening"]["lines_a_minute"] > told["night"]["lines_a_minute"] > 0
    for part in ("evening", "night", "small"):
        assert told[part]["lines_a_second"] > 0
    assert told["small"]["day_seconds"] > 0
    assert told["kept"]["megabytes"] > 0.1  # 2,000 viewers remember 64 movies each
    assert told["peak_megabytes"] > 10
    assert "asking" not in told


def test_it_asks_a_server_that_is_there(nobody):
    url, asked = nobody
    told = run("--url", url, "--asking-viewers", "500", "--asking-minutes", "60")["asking"]
    assert told["asks"] == len(asked) > 10
    assert all(path.startswith("/recommend/") for path in asked)
    assert told["asks_a_second"] > 0
