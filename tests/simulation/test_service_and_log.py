"""A world against a real server, a dead one and one that hangs; and into a real log."""

import socket
import threading
import time
from contextlib import suppress
from itertools import chain

import numpy as np
import pytest

from kafka_brokers import new_topic, tansu, until
from matinee.core.clock import ManualClock, SystemClock
from matinee.core.home import Home
from matinee.log.open import open_log
from matinee.release.plan import publish
from matinee.simulation.options import WorldOptions
from matinee.simulation.recommenders import Nothing
from matinee.simulation.service import HttpRecommender
from matinee.simulation.world import World
from matinee.simulation.writing import LogWriter
from serving.serving_samples import CLOCK, free_port, make_bundle, server, wait_for

WHO = np.arange(12, dtype=np.int32)


@pytest.mark.parametrize("who", [WHO, WHO[:1]])
def test_it_asks_a_real_server_as_the_service_does(tmp_path, who):
    home = Home(tmp_path / "home")
    publish(home.data, make_bundle(home), clock=CLOCK)
    with server(home) as (url, _):
        wait_for(url)
        with HttpRecommender(url, patience=30) as recommender:
            answers = recommender.recommend(who, None)
    assert answers.host == url.removeprefix("http://")
    assert [answer.status for answer in answers.each] == [200] * who.size
    assert all(len(answer.items) == 20 and answer.items[0].startswith("a+") for answer in answers.each)


def test_a_server_that_is_not_there_or_hangs_has_failed_as_the_service_logs_it():
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen()  # connects, and never answers
        for port in (free_port(), hanging.getsockname()[1]):
            with HttpRecommender(f"http://127.0.0.1:{port}", patience=0.05) as recommender:
                answers = recommender.recommend(WHO[:3], None)
            assert {answer.status for answer in answers.each} == {0}
            assert {answer.items for answer in answers.each} == {()}
            assert answers.each[0].error.startswith("java.util.concurrent.TimeoutException: Request timeout to 127")


OPTIONS = WorldOptions(start_us=1_700_006_400_000_000, viewers=50, movies=20)


def test_its_lines_go_to_the_log_in_their_order(tmp_path):
    lines = []
    World(OPTIONS, Nothing(), lines.extend).run_day()
    with open_log(f"sqlite:///{tmp_path / 'log.sqlite'}", ManualClock()) as log:
        World(OPTIONS, Nothing(), LogWriter(log, seed=0)).run_day()
        reader = log.reader(lambda _: 0)
        logged = []
        while records := reader.poll(max_records=100_000, timeout=0.0):
            logged += [value for batch in records for value in batch.values]
        reader.close()
    assert logged == lines


def test_its_lines_go_to_kafka_and_none_is_lost_or_comes_twice(tmp_path):
    lines, logged = [], {}
    World(OPTIONS, Nothing(), lines.extend).run_day()
    with tansu(tmp_path) as broker, open_log(broker.url(new_topic()), SystemClock()) as log:
        World(OPTIONS, Nothing(), LogWriter(log, seed=0)).run_day()
        reader = log.reader(lambda _: 0)

        def all_came():
            for batch in reader.poll(max_records=100_000, timeout=0.5):
                logged.setdefault(batch.partition, []).extend(batch.values)
            return sum(map(len, logged.values())) >= len(lines)

        until(all_came)
        assert reader.poll(max_records=1, timeout=0.5) == []
        reader.close()
    assert sorted(chain.from_iterable(logged.values())) == sorted(lines)
    assert len(logged) == 3
    place = {line: number for number, line in enumerate(lines)}
    for values in logged.values():
        assert [place[value] for value in values] == sorted(map(place.get, values))  # within a partition in order


class Partitions:
    """Three partitions in memory, to see what goes where."""

    def __init__(self):
        self.got = {0: [], 1: [], 2: []}

    def ends(self):
        return {partition: len(values) for partition, values in self.got.items()}

    def append(self, values, *, partition=0):
        self.got[partition] += values
        return len(self.got[partition])


def test_lines_are_spread_over_partitions_and_none_is_lost():
    log = Partitions()
    lines = [b"%d" % number for number in range(3_000)]
    LogWriter(log, seed=0)(lines)
    assert sorted(chain.from_iterable(log.got.values())) == sorted(lines)
    for values in log.got.values():
        assert 800 < len(values) < 1_200
        assert values == sorted(values, key=int)


class Drip(threading.Thread):
    """Answers on a socket, a byte at a time, faster than any time-out for one of them."""

    def __init__(self, listening):
        super().__init__(daemon=True)
        self.listening = listening

    def run(self):
        connection, _ = self.listening.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n")
            for _ in range(4_000):
                connection.sendall(b"a")
                time.sleep(0.02)


def test_an_answer_that_drips_is_not_waited_for():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        drip = Drip(listening)
        drip.start()
        with HttpRecommender(f"http://127.0.0.1:{listening.getsockname()[1]}", patience=0.2) as recommender:
            (answer,) = recommender.recommend(WHO[:1], None).each
        drip.join(60)
    assert (answer.status, answer.items) == (0, ())
    assert 200 <= answer.milliseconds < 60_000  # all of it would have taken eighty seconds
