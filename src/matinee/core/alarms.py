"""Alarms as structured records: each names its evidence and what to do.

An alarm is written to the control database and to the program's log, so that it is found even where one of
them is out of reach.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from matinee.core.clock import Clock
from matinee.core.control import ALARMS
from matinee.core.logging import get_logger

_log = get_logger(__name__)

Severity = Literal["warning", "critical"]
RaiseAlarm = Callable[[str, Severity, dict[str, Any], str], None]
"""Called with name (snake_case), severity, evidence (JSON values) and remedy."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm, as it was raised."""

    raised_at_us: int
    name: str
    severity: Severity
    evidence: dict[str, Any]
    remedy: str


class Alarms:
    """Raises alarms and lists them.

    Args:
        engine: the control database.
        clock: gives each alarm its time.
    """

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def raise_alarm(self, name: str, severity: Severity, evidence: dict[str, Any], remedy: str) -> None:
        """Record an alarm. Never raises: who raises one already has trouble enough."""
        _log.error("alarm", alarm=name, severity=severity, evidence=evidence, remedy=remedy)
        try:
            with self._engine.begin() as connection:
                connection.execute(
                    ALARMS.insert().values(
                        raised_at_us=self._clock.now_us(),
                        name=name,
                        severity=severity,
                        evidence=evidence,
                        remedy=remedy,
                    )
                )
        except sa.exc.SQLAlchemyError as error:
            _log.error("alarm_not_stored", alarm=name, error=str(error))

    def latest(self, n: int = 20) -> list[Alarm]:
        """The last `n` alarms, newest first."""
        query = sa.select(ALARMS).order_by(ALARMS.c.id.desc()).limit(n)
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return [Alarm(**{key: value for key, value in row.items() if key != "id"}) for row in rows]
