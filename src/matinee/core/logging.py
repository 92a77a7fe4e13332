"""The program's own log: JSON lines in the log root, rotated and capped; warnings on the terminal too."""

import contextlib
import logging
import os
import re
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import structlog

from matinee.core.settings import BudgetSettings, LoggingSettings

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]


_SECRETS = re.compile(
    r"(?i)(matinee_[0-9a-f]{12}_|(?:\b(?:bearer|basic) +|x-api-key[^a-z0-9]{1,8})(?!matinee_[0-9a-f]{12}_))"
    r"[a-z0-9._~+/=-]{8,}"
)
"""An API key behind its id, and whatever else stands where a request carries a secret."""


class _Capped(RotatingFileHandler):
    """A full disk costs log lines, never an answer and never a traceback on the terminal.

    With every rotation the oldest rotated files of all roles go, as far as the folder is above `most_bytes`; while
    the disk has less than `reserve_bytes` free, nothing is written.
    """

    most_bytes = reserve_bytes = 0

    def doRollover(self) -> None:  # noqa: N802 - the name is logging's
        super().doRollover()
        prune_rotated(Path(self.baseFilename).parent, self.most_bytes)

    def emit(self, record: logging.LogRecord) -> None:
        if self._disk_has_room():
            super().emit(record)

    def _disk_has_room(self) -> bool:
        try:
            disk = os.statvfs(os.path.dirname(self.baseFilename))  # noqa: PTH120 - for every line
        except OSError:
            return True  # let writing find out
        return disk.f_bavail * disk.f_frsize >= self.reserve_bytes

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def prune_rotated(folder: Path, most_bytes: int) -> None:
    """Delete rotated files (`name.1`, `name.2`, …), oldest first, until the folder holds at most so many bytes."""
    files = {}
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process rotates it
            files[path] = path.stat()
    over = sum(file.st_size for file in files.values()) - most_bytes
    rotated = [path for path in files if path.suffix[1:].isdigit()]
    for path in sorted(rotated, key=lambda path: files[path].st_mtime_ns):
        if over <= 0:
            return
        path.unlink(missing_ok=True)
        over -= files[path].st_size


def configure_logging(
    role: str, folder: Path, settings: LoggingSettings, budget: BudgetSettings | None = None
) -> None:
    """Send this process's log to `folder/role.jsonl`, and its warnings to standard error.

    Args:
        role: what this process does (`serve`, `ingest`, …); names the file.
        folder: the log root.
        settings: level, file size and number of files.
        budget: what the folder may take, and what its disk must have free; the settings' own where not given.
    """
    budget = budget or BudgetSettings()
    file = _Capped(
        folder / f"{role}.jsonl",
        maxBytes=settings.file_megabytes * 1_000_000,
        backupCount=settings.files,
        delay=True,
    )
    file.most_bytes = round(budget.logs_megabytes * 1_000_000)
    file.reserve_bytes = round(budget.reserve_megabytes * 1_000_000)
    file.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
                _masked,
            ],
        )
    )
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(logging.WARNING)
    terminal.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
                _masked,
            ],
        )
    )
    logging.basicConfig(handlers=[file, terminal], level=settings.level.upper(), force=True)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _masked(_logger: Any, _method: str, line: Any) -> str:
    """The line without secrets. The last to see it, so that it sees tracebacks and other libraries' lines too."""
    return _SECRETS.sub(r"\1***", line)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger; its events are short names in snake_case, everything else a key."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
