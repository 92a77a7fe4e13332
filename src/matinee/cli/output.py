"""What people see, and what programs read. With `--json`, standard output carries one object and nothing else."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from matinee.core.errors import MatineeError

people = Console(highlight=False)
"""Standard output."""
aside = Console(stderr=True, highlight=False)
"""Standard error: progress, warnings, errors."""


def emit(document: dict[str, Any]) -> None:
    """Write the one JSON object of a command."""
    sys.stdout.write(json.dumps(jsonable(document), ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def jsonable(value: Any) -> Any:
    """The same value in JSON's types; NaN and infinities become null."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item) for item in value]
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


def complain(error: MatineeError, *, as_json: bool) -> None:
    """Tell of an error: what, and what to do."""
    if as_json:
        emit({"error": str(error), "kind": type(error).__name__, "remedy": error.remedy})
        return
    aside.print("[bold red]Error:[/]", str(error), markup=True, soft_wrap=True)
    if error.remedy:
        aside.print("[bold]What to do:[/]", error.remedy, soft_wrap=True)


class Bars:
    """One bar for each step of long work; a step that is named for the first time gets a bar of its own."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        """Called with (what is going on, steps done, steps in all)."""
        task = self._tasks.get(what)
        if task is None:
            for earlier in self._tasks.values():  # a step that gave no figures of its end has ended by now
                self._finish(earlier)
            task = self._tasks[what] = self._progress.add_task(what, total=total or None)
        self._progress.update(task, completed=done, total=total or None)

    def finish(self) -> None:
        """Everything is done."""
        for task in self._tasks.values():
            self._finish(task)

    def _finish(self, task: Any) -> None:
        total = self._progress.tasks[task].total or 1
        self._progress.update(task, completed=total, total=total)


@contextmanager
def bars(*, quiet: bool = False) -> Iterator[Bars]:
    """Progress bars on standard error, gone when done; nothing where nobody watches."""
    columns = (
        SpinnerColumn(finished_text="[green]✓[/]"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=aside, disable=quiet or not aside.is_terminal, transient=True) as progress:
        shown = Bars(progress)
        yield shown
        shown.finish()
