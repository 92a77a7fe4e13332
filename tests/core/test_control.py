import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import pytest
import sqlalchemy as sa

from matinee.core import control
from matinee.core.alarms import Alarms
from matinee.core.clock import ManualClock
from matinee.core.control import METADATA, REVISION, open_control
from matinee.core.errors import FormatTooNew


def test_migrations_make_the_schema_that_the_tables_declare(tmp_path):
    engine = open_control(f"sqlite:///{tmp_path}/control.sqlite")
    found = sa.inspect(engine)
    for table in METADATA.sorted_tables:
        columns = {column["name"]: str(column["type"]) for column in found.get_columns(table.name)}
        assert columns == {column.name: str(column.type) for column in table.columns}
    engine.dispose()


def test_one_that_is_up_to_date_is_opened_without_alembic(tmp_path):
    url = f"sqlite:///{tmp_path}/control.sqlite"
    open_control(url).dispose()
    with closing(sqlite3.connect(tmp_path / "control.sqlite")) as made:
        assert made.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISION,)]
    code = (
        "import sys; from matinee.core.control import open_control; open_control(sys.argv[1]).dispose();"
        "print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_opening_twice_keeps_what_is_there(tmp_path):
    url = f"sqlite:///{tmp_path}/control.sqlite"
    engine = open_control(url)
    Alarms(engine, ManualClock(5)).raise_alarm("log_recreated", "critical", {"was": "a", "is": "b"}, "Do this.")
    engine.dispose()
    again = open_control(url)
    (alarm,) = Alarms(again, ManualClock()).latest()
    again.dispose()
    assert (alarm.raised_at_us, alarm.name, alarm.evidence) == (5, "log_recreated", {"was": "a", "is": "b"})


def test_a_newer_schema_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path}/control.sqlite"
    engine = open_control(url)
    with engine.begin() as connection:
        connection.execute(sa.text("update alembic_version set version_num = '9999'"))
    engine.dispose()
    with pytest.raises(FormatTooNew, match="9999"):
        open_control(url)


def test_an_alarm_that_cannot_be_stored_does_not_raise(tmp_path):
    engine = open_control(f"sqlite:///{tmp_path}/control.sqlite")
    with engine.begin() as connection:
        connection.execute(sa.text("drop table alarms"))
    Alarms(engine, ManualClock()).raise_alarm("any", "warning", {}, "None.")
    engine.dispose()


def test_processes_that_open_it_first_at_the_same_moment_all_find_it_made(tmp_path):
    url = f"sqlite:///{tmp_path}/control.sqlite"
    code = "import sys; from matinee.core.control import open_control; open_control(sys.argv[1]).dispose()"
    started = [
        subprocess.Popen([sys.executable, "-c", code, url], stderr=subprocess.PIPE, text=True) for _ in range(6)
    ]
    said = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0] * 6, said


def test_all_who_give_it_its_log_at_the_same_moment_succeed(tmp_path):
    for turn in range(20):
        url, together = f"sqlite:///{tmp_path}/control{turn}.sqlite", Barrier(6)

        def give(url=url, together=together):
            engine = sa.create_engine(url)
            with engine.begin() as connection:
                together.wait(10)
                control._write_ahead(connection)
                mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
            engine.dispose()
            return mode

        with ThreadPoolExecutor(6) as threads:
            modes = [threads.submit(give) for _ in range(6)]
        assert [mode.result() for mode in modes] == ["wal"] * 6
