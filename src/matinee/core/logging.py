"""The program's own log: JSON lines in the log root, rotated and capped; warnings on the terminal too."""

import logging
import re
import sys
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, Any

import structlog

from matinee.core.settings import LoggingSettings

if TYPE_CHECKING:
    from pathlib import Path

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
    """A full disk costs log lines, never an answer and never a traceback on the terminal."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def configure_logging(role: str, folder: "Path", settings: LoggingSettings) -> None:
    """Send this process's log to `folder/role.jsonl`, and its warnings to standard error.

    Args:
        role: what this process does (`serve`, `ingest`, …); names the file.
        folder: the log root.
        settings: level, file size and number of files.
    """
    file = _Capped(
        folder / f"{role}.jsonl",
        maxBytes=settings.file_megabytes * 1_000_000,
        backupCount=settings.files,
        delay=True,
    )
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
