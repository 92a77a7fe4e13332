"""A process that shares a history as a writer and stands still (SIGSTOP) in the midst of a write."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from kafka_brokers import until

SCRIPT = """
import os, signal, sys
from pathlib import Path
from matinee.history.lmdb import LmdbHistory
with LmdbHistory(Path(sys.argv[1]), shared=True) as history:
    def body(transaction):
        transaction.put(b"half", b"written", db=history._store.meta)
        os.kill(os.getpid(), signal.SIGSTOP)
    history._store.write(body)
    print("written", flush=True)
    sys.stdin.read()
"""


class StoppedWriter:
    """The process. It has put `half` into `meta`, and not committed that."""

    def __init__(self, process):
        self.process = process
        self.pid = process.pid

    def is_stopped(self):
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def send(self, number):
        self.process.send_signal(number)


@contextmanager
def stopped_writer(path):
    """One that has come to a stand in the history at `path`."""
    command = [sys.executable, "-c", SCRIPT, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            writer = StoppedWriter(process)
            until(lambda: writer.is_stopped() or process.poll() is not None)
            assert process.poll() is None
            yield writer
        finally:
            process.kill()
