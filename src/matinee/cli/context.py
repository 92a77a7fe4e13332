"""What every verb opens: settings, the home, and the stores that the settings name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.core.logging import configure_logging
from matinee.core.settings import Settings, load_settings

if TYPE_CHECKING:
    from matinee.core.alarms import Alarms
    from matinee.history.base import History
    from matinee.lake.lake import Lake
    from matinee.log.base import EventLog

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home", help="Folder of data, logs and run files.", envvar="MATINEE_HOME", show_default=".matinee"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer with one JSON object on standard output.")]


@dataclass(frozen=True)
class Context:
    """One home with its settings; stores are opened when first asked for."""

    settings: Settings
    home: Home
    clock: SystemClock

    def log(self) -> "EventLog":
        """Open the event log."""
        from matinee.log.open import open_log  # noqa: PLC0415 - a verb imports what it uses

        return open_log(self.home.resolve(self.settings.log.url), self.clock)

    def history(self, *, read_only: bool = False) -> "History":
        """Open the history."""
        from matinee.history.open import open_history  # noqa: PLC0415

        return open_history(self.home.resolve(self.settings.history.url), read_only=read_only)

    @cached_property
    def lake(self) -> "Lake":
        """The lake."""
        from matinee.lake.lake import Lake  # noqa: PLC0415

        return Lake(self.home.resolve(self.settings.lake.url), self.clock)

    def kept_versions(self) -> list[dict[str, int]]:
        """The lake versions behind kept bundles: maintenance must leave them readable."""
        from matinee.bundle.manifest import list_bundles  # noqa: PLC0415

        return [manifest.lake_versions for manifest in list_bundles(self.home.bundles)]

    @contextmanager
    def alarms(self) -> Iterator["Alarms"]:
        """The alarms, while the block lasts."""
        from matinee.core.alarms import Alarms  # noqa: PLC0415
        from matinee.core.control import open_control  # noqa: PLC0415

        engine = open_control(self.home.resolve(self.settings.control_url))
        try:
            yield Alarms(engine, self.clock)
        finally:
            engine.dispose()

    def record(self, action: str, **detail: object) -> None:
        """Add to the audit."""
        from matinee.core.control import open_control, record_action  # noqa: PLC0415

        engine = open_control(self.home.resolve(self.settings.control_url))
        record_action(engine, self.clock.now_us(), action, detail)
        engine.dispose()


def open_context(role: str, home: Path | None) -> Context:
    """Read the settings, make the home and send this process's log there.

    Args:
        role: what this process does; names its log file.
        home: overrides the settings' home.
    """
    settings = load_settings(**({} if home is None else {"home": home}))
    opened = Home(settings.home)
    configure_logging(role, opened.logs, settings.logging, settings.budget)
    # Compiled kernels are kept in the home: the installed program may be read-only.
    os.environ.setdefault("NUMBA_CACHE_DIR", str(opened.run / "numba"))
    return Context(settings, opened, SystemClock())
