"""A home with its stores, for tests of ingest: real ones, with faults where a test asks for them."""

import gzip
import threading
import time
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from matinee.core.clock import SystemClock
from matinee.core.errors import MatineeError, OutOfRoom, StoreUnavailable
from matinee.core.home import Home
from matinee.core.settings import HistorySettings, LakeSettings, Settings
from matinee.events.offsets import Source
from matinee.history.open import open_history
from matinee.ingest.importing import Importer
from matinee.ingest.service import Ingest
from matinee.ingest.stores import Stores, stores_of
from matinee.lake.lake import Lake


class MovedClock:
    """A clock, moved forward by `ahead` seconds."""

    def __init__(self, inner):
        self.inner, self.ahead = inner, 0.0

    def now_us(self):
        return self.inner.now_us() + round(self.ahead * 1e6)

    def monotonic(self):
        return self.inner.monotonic() + self.ahead

    def sleep(self, seconds):
        self.inner.sleep(seconds)


class FailingLake(Lake):
    """A lake whose commits fail for the first `failures` times, or for as long as `broken` is set."""

    def __init__(self, *arguments, failures=0, error=StoreUnavailable):
        super().__init__(*arguments)
        self.failures = failures
        self.error = error
        self.broken = threading.Event()
        self.asked = 0

    def commit(self, *arguments, **keywords):
        self.asked += 1
        if self.failures > 0 or self.broken.is_set():
            self.failures -= 1
            raise self.error("the lake was told to fail", remedy="Wait.")
        return super().commit(*arguments, **keywords)


@dataclass
class World:
    """One home, its settings, and the alarms that were raised."""

    folder: Path
    settings: Settings = field(
        default_factory=lambda: Settings(
            lake=LakeSettings(commit_seconds=0.05, retention_days=100_000),
            history=HistorySettings(poll_seconds=0.01),
        )
    )
    alarms: list = field(default_factory=list)

    def __post_init__(self):
        self.clock = SystemClock()
        self.live = None
        self.home = Home(self.folder / "home")
        self.stores: Stores = stores_of(self.settings, self.home, self.clock)

    @property
    def log_file(self):
        return Path(self.home.resolve(self.settings.log.url).removeprefix("sqlite:///"))

    def append(self, *lines):
        with self.stores.log() as log:
            return log.append([line.encode() for line in lines])

    def with_lake(self, **faults):
        lake = FailingLake(self.home.resolve(self.settings.lake.url), self.clock, **faults)
        self.stores = replace(self.stores, lake=lambda: lake)
        return lake

    def service(self, **options):
        return Ingest(
            settings=self.settings,
            home=self.home,
            clock=self.clock,
            raise_alarm=lambda *alarm: self.alarms.append(alarm),
            stores=self.stores,
            **options,
        )

    def ingest(self, **options):
        return self.service().run(until_idle=True, **options)

    def importer(self):
        return Importer(home=self.home, lake=self.stores.lake(), history=self.stores.history, clock=self.clock)

    def rows(self, table):
        return self.stores.lake().read(table).collect().sort("generation", "position")

    def items_of(self, user):
        """The user's items, newest first, as a server would see them; an environment is open once a process."""
        if self.live is not None:
            found = self.live.get(user)
        elif not Path(self.home.resolve(self.settings.history.url).removeprefix("lmdb:///")).exists():
            return None
        else:
            with open_history(self.home.resolve(self.settings.history.url), read_only=True) as history:
                found = history.get(user)
        return None if found is None else [entry.item for entry in found.entries]

    def _open_history(self):
        self.live = open_history(self.home.resolve(self.settings.history.url))
        return self.live

    @contextmanager
    def running(self, **options):
        """The service in a thread; leaving the block asks it to end."""
        self.stores = replace(self.stores, history=self._open_history)
        try:
            with Running(self.service(), **options) as running:
                until(lambda: self.live is not None or running.waiting)
                yield running
        finally:
            self.live = None


@contextmanager
def overtaken(world, user, end):
    """The service holds ten views of `up+2009` and five of `jaws+1975` while another owner commits up to `end`.

    In the block the lake is back.
    """
    lake = world.with_lake()
    lake.broken.set()
    world.append(*(watch(user, "up+2009", n, n) for n in range(10)))
    with world.stores.log() as log:
        source = Source(log.generation, 0)
    with world.running() as running:
        until(lambda: lake.asked)
        world.append(*(watch(user, "jaws+1975", n, 60 + n) for n in range(5)))
        until(lambda: "jaws+1975" in (world.items_of(user) or ()))
        other = Lake(world.home.resolve(world.settings.lake.url), world.clock)
        other.commit(source, {}, start=0, end=end)
        lake.broken.clear()
        yield running


class Running:
    """A service in a thread; leaving the block asks it to end and keeps its report."""

    def __init__(self, service, **options):
        self.service = service
        self.report = self.error = None

        def body():
            try:
                self.report = service.run(**options)
            except MatineeError as error:
                self.error = error

        self.thread = threading.Thread(target=body)

    @property
    def waiting(self):
        return self.service._patience.waiting

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.service.stop()
        self.thread.join(timeout=60)
        assert not self.thread.is_alive()


def until(condition, seconds=60, every=0.01):
    """Wait until something is the case; the bound is for tests that would otherwise hang."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(every)


@contextmanager
def again_and_again(work, pause):
    """Do something in a thread, with pauses of so many seconds, until the block is left."""
    ending = threading.Event()

    def run():
        while not ending.wait(pause):
            work()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def files_that_tell(folder, user):
    """The files under a folder that hold a user's id: in their bytes, or in what those are compressed from."""
    told = []
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content += str(pl.read_parquet(path).to_dicts()).encode()
        with suppress(OSError, EOFError, zlib.error):
            content += gzip.decompress(content)
        if user.encode() in content:
            told.append(str(path.relative_to(folder)))
    return told


def watch(user, item, minute, second=0):
    time_of_day = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    return f"2022-01-01T{time_of_day},{user},GET /data/m/{item}/{minute}.mpg"


__all__ = ["FailingLake", "MovedClock", "OutOfRoom", "World", "files_that_tell", "overtaken", "until", "watch"]
