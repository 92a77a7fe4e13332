"""Partitions that go over to another process while the lake takes nothing: nothing is lost, nothing comes twice."""

import subprocess

import pytest
from kafka_stream import Processes, Stream, check_exactly_once, shown, topic_records, waited_for

from kafka_brokers import new_topic, tansu


class Disk:
    """A small file system that can be filled to the last byte."""

    def __init__(self, folder):
        self.ballast = folder / "ballast"

    def fill(self):
        with self.ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 12))
            except OSError:
                pass

    def empty(self):
        self.ballast.unlink()


@pytest.fixture
def disk(tmp_path):
    """The file system of the lake of the home that `Processes` has in this folder."""
    folder = tmp_path / "home" / "data" / "lake"
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def partitions_of(port):
    return {key[1] for key in shown(port) if key[0] == "matinee_ingest_lag_records"}


@pytest.mark.parametrize("then", ["stays", "ends", "is killed"])
def test_what_was_read_and_not_committed_is_read_again_by_the_next_owner(disk, tmp_path, then):
    topic = new_topic()
    (tmp_path / "broker").mkdir()
    with tansu(tmp_path / "broker") as broker:
        url = broker.url(topic, session_timeout_ms=3_000, heartbeat_interval_ms=300)
        stream = Stream(url)
        with Processes(tmp_path, url) as processes:
            first_port = processes.with_metrics()
            first = processes.start()
            stream.produce(5)
            processes.wait(lambda: waited_for(first_port) is not None)
            processes.wait(lambda: processes.read() == stream.count())
            disk.fill()
            committed = processes.read()
            stream.produce(5)
            processes.wait(lambda: waited_for(first_port) == {"lake"})
            processes.wait(lambda: processes.applied() == stream.count())  # the first has it in memory
            all_of_them = partitions_of(first_port)

            second_port = processes.with_metrics()
            processes.start()
            processes.wait(lambda: waited_for(second_port) == {"lake"})  # it has read what was the first's
            given = partitions_of(second_port)
            processes.wait(lambda: partitions_of(first_port) == all_of_them - given)
            assert given < all_of_them
            stream.produce(5)
            processes.wait(lambda: processes.applied() == stream.count())
            if then == "ends":
                processes.end(first)
            elif then == "is killed":
                processes.kill(first)
            assert processes.read() == committed

            disk.empty()
            stream.produce()
            records = topic_records(broker, topic)
            processes.wait(lambda: processes.read() >= len(records))
            for process in list(processes.running):
                processes.end(process)
            check_exactly_once(processes, records, stream, tmp_path)
            assert {(alarm.name, alarm.evidence["waiting_for"]) for alarm in processes.alarms()} == {
                ("ingest_waiting", "lake")
            }
        stream.close()
