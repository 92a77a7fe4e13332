"""A server like any other, but for what a file says of its clock, history and scoring, and for what it overlooks.

    python faulty_server.py HOME

`HOME/run/clock-seconds` holds how far the wall clock is off, `HOME/run/history-seconds` how long each reading of a
user takes more than usual, `HOME/run/scoring-seconds` how long each fold-in does. Where there is `HOME/run/blind`,
it looks at a mapped file's length at the start alone: as if whatever cuts one short did it in the microsecond
between the look and the reading.
"""

import sys
import time
from pathlib import Path

from matinee.core.clock import SystemClock
from matinee.core.home import Home
from matinee.core.logging import configure_logging
from matinee.core.mapped import MappedFile
from matinee.core.settings import load_settings
from matinee.serving import service
from matinee.serving.server import serve
from matinee.serving.view import View

settings = load_settings(home=Path(sys.argv[1]))
home = Home(settings.home)


def told(name):
    try:
        return float((home.run / name).read_text() or 0)
    except FileNotFoundError:
        return 0.0


class SetClock(SystemClock):
    def now_us(self):
        return super().now_us() + round(told("clock-seconds") * 1_000_000)


class SlowHistory:
    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def glance(self, user):
        time.sleep(told("history-seconds"))
        return self.inner.glance(user)


def slowly(best_unmet):
    def scored(view, most):
        time.sleep(told("scoring-seconds"))
        return best_unmet(view, most)

    return scored


open_history = service.open_history
service.open_history = lambda *words, **options: SlowHistory(open_history(*words, **options))
View.best_unmet = slowly(View.best_unmet)
if (home.run / "blind").exists():
    MappedFile.is_whole = lambda self: True
configure_logging("serve", home.logs, settings.logging, settings.budget)
serve(settings, home, clock=SetClock())
