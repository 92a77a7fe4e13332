"""`matinee simulate`: the world on the command line, for people and programs."""

import json
from itertools import chain

from kafka_brokers import new_topic, tansu, until
from matinee.core.clock import SystemClock
from matinee.log.open import open_log

SMALL = ("--viewers", 60, "--items", 40, "--past", 3, "--start", "2026-01-05")


def test_it_tells_each_day_to_people_and_to_programs(matinee):
    told = matinee.json("simulate", "popularity", "--days", 2, *SMALL)
    assert [day["day"] for day in told["days"]] == [0, 1]
    assert told["minutes"] == 2 * 1_440
    for day in told["days"]:
        assert 0 < day["alone"] < day["pleasure"] < 1
        assert day["failed"] == 0
    shown = matinee("simulate", "popularity", "--days", 2, *SMALL).stdout
    assert "60 viewers and 40 movies" in shown
    assert f"{told['days'][1]['sessions']:,}" in shown.splitlines()[-2]
    assert not matinee.home.exists()  # it needs none


def test_its_lines_go_to_a_file_or_to_an_event_log_and_are_the_same(matinee, tmp_path):
    file, url = tmp_path / "lines.log", f"sqlite:///{tmp_path / 'log.sqlite'}"
    told = [
        matinee.json("simulate", "random", "--days", 1, "--dirt", 0.2, "--lines", to, *SMALL) for to in (file, url)
    ]
    assert told[0] == told[1]
    with open_log(url, SystemClock()) as log:
        reader = log.reader(lambda _: 0)
        logged = [value for batch in reader.poll(max_records=1_000_000, timeout=0.0) for value in batch.values]
        reader.close()
    assert file.read_bytes().split(b"\n")[:-1] == logged
    assert len(logged) > told[0]["days"][0]["lines"] > 500  # the past comes before
    assert sum(told[0]["days"][0]["dirt"].values()) > 50


def test_its_lines_go_to_kafka(matinee, tmp_path):
    file, logged = tmp_path / "lines.log", []
    with tansu(tmp_path) as broker:
        url = broker.url(new_topic())
        told = [matinee.json("simulate", "random", "--days", 1, "--lines", to, *SMALL) for to in (file, url)]
        assert told[0] == told[1]
        lines = file.read_bytes().split(b"\n")[:-1]
        with open_log(url, SystemClock()) as log:
            reader = log.reader(lambda _: 0)

            def all_came():
                batches = reader.poll(max_records=1_000_000, timeout=0.5)
                logged.extend(chain.from_iterable(batch.values for batch in batches))
                return len(logged) >= len(lines)

            until(all_came)
            assert reader.poll(max_records=1, timeout=0.5) == []
            reader.close()
    assert sorted(logged) == sorted(lines)


def test_a_kept_world_goes_on_where_it_was(matinee, tmp_path):
    kept = tmp_path / "world.npz"
    whole = matinee.json("simulate", "popularity", "--days", 2, *SMALL)
    matinee.json("simulate", "popularity", "--days", 1, "--keep", kept, *SMALL)
    rest = matinee.json("simulate", "popularity", "--days", 2, "--keep", kept, *SMALL)
    assert rest["days"] == whole["days"][1:]
    refused = matinee.json("simulate", "--seed", 3, "--keep", kept, *SMALL, status=1)
    assert "seed 0, not 3" in refused["error"]


def test_who_does_not_answer_leaves_viewers_alone_and_is_counted(matinee, free_port):
    url = f"http://127.0.0.1:{free_port}"
    told = matinee.json("simulate", url, "--days", 1, *SMALL, status=1)
    (day,) = told["days"]
    assert told["error"] == f"none of {day['sessions']:,} asks of {url} was answered"
    assert url in told["remedy"]
    assert day["failed"] == day["sessions"] > 0
    assert day["failures"] == {"no list in time": day["failed"]}
    assert day["pleasure"] == day["alone"] > 0
    (day,) = matinee.json(
        "simulate", "popularity", "--days", 1, "--adversary", "outage@0+12", "--adversary", "push-average", *SMALL
    )["days"]
    assert 0 < day["failed"] < day["sessions"]
    asked_for = ("--days", 1, "--adversary", "outage", *SMALL)
    (day,) = matinee.json("simulate", url, *asked_for)["days"]  # nobody was asked, as was wanted
    assert day["failed"] == day["sessions"]


def test_people_are_told_that_nobody_answered(matinee, free_port):
    done = matinee("simulate", f"http://127.0.0.1:{free_port}", "--days", 1, *SMALL, status=1)
    assert "asks failed (" in done.stdout
    assert done.stdout.count(" × no list in time") == 2  # of the day, and of all
    assert "was answered" in done.stderr
    assert f"http://127.0.0.1:{free_port}/recommend/1" in done.stderr


def test_what_happens_to_a_world_is_told_with_its_target_and_hours(matinee):
    asked_for = ("--adversary", "push-average@0.5+3", "--adversary", "outage@0+1.5", *SMALL, "--days", 1)
    told = matinee.json("simulate", "popularity", *asked_for)
    push, outage = told["adversaries"]
    assert (push["kind"], push["begins"], push["hours"]) == ("push-average", "2026-01-05T12:00:00+00:00", 3.0)
    assert outage == {"kind": "outage", "begins": "2026-01-05T00:00:00+00:00", "hours": 1.5, "target": None}
    shown = matinee("simulate", "popularity", *asked_for).stdout
    assert f"push-average, 3 hours from 2026-01-05T12:00:00+00:00, movie {push['target']}." in shown
    assert matinee.json("simulate", "popularity", "--days", 1, *SMALL)["adversaries"] == []


def test_what_cannot_be_is_refused_with_what_to_do(matinee, tmp_path):
    for words in (
        ["ftp://x"],
        ["popularity", "--adversary", "flood"],
        ["popularity", "--start", "5.1.2026"],
        ["popularity", "--lines", tmp_path / "no" / "folder"],
        ["popularity", "--lines", "amqp://x/y"],
    ):
        refused = json.loads(matinee("simulate", *words, "--json", status=1).stdout)
        assert refused["kind"] == "ConfigurationError"
        assert refused["remedy"]
