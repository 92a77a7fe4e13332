"""The control database: alarms, and the audit of what was done. SQLite or Postgres, by URL.

Its schema is changed only by the migrations beside this module, which run when it is opened.
"""

import sqlite3
import time
from pathlib import Path

import sqlalchemy as sa

from matinee.core.errors import FormatTooNew, StoreUnavailable

METADATA = sa.MetaData()
REVISION = "0001"
"""The latest migration's. Where a database is at it, there is nothing to migrate, and Alembic is not loaded."""
_TRIES, _PAUSE_SECONDS = 250, 0.02
"""To give a database of SQLite its write-ahead log: for five seconds, as SQLite waits for its other locks."""

ALARMS = sa.Table(
    "alarms",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("raised_at_us", sa.BigInteger, nullable=False, index=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("severity", sa.String(20), nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("remedy", sa.Text, nullable=False),
)

AUDIT = sa.Table(
    "audit",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at_us", sa.BigInteger, nullable=False, index=True),
    sa.Column("action", sa.String(100), nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
)


def open_control(url: str) -> sa.Engine:
    """Open the control database and bring its schema up to date.

    Raises:
        FormatTooNew: a newer matinee has migrated it.
        StoreUnavailable: it does not answer.
    """
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            is_current = _revision(connection) == REVISION
        if not is_current:
            _migrate(engine)
    except sa.exc.OperationalError as error:
        raise StoreUnavailable(f"the control database {engine.url!r} does not answer: {error.orig}") from error
    return engine


def _migrate(engine: sa.Engine) -> None:
    from alembic import command  # noqa: PLC0415 - takes a third of a second, and is mostly not needed
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            _write_ahead(connection)
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # another process may be making it at this moment
        found = _revision(connection)
        if found is not None and found not in known:
            raise FormatTooNew(
                f"the control database {engine.url!r} is at revision {found}, which this matinee does not know",
                remedy="Upgrade matinee.",
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _write_ahead(connection: sa.Connection) -> None:
    """Give SQLite a write-ahead log. Of several processes that do so at once, it refuses some without waiting."""
    for left in reversed(range(_TRIES)):
        try:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        except sa.exc.OperationalError as error:
            if not left or getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("select version_num from alembic_version")).scalar_one_or_none()


def record_action(engine: sa.Engine, at_us: int, action: str, detail: dict[str, object]) -> None:
    """Add to the audit: what was done, when, with what."""
    with engine.begin() as connection:
        connection.execute(AUDIT.insert().values(at_us=at_us, action=action, detail=detail))
