"""The service's own answer without the service: for people at a terminal."""

from functools import partial

from matinee.core.breaker import Breaker
from matinee.core.clock import SystemClock
from matinee.core.erasures import ERASED, read_erasures
from matinee.core.errors import DataUnavailable
from matinee.core.home import Home
from matinee.core.logging import get_logger
from matinee.core.settings import Settings
from matinee.history.open import open_history
from matinee.serving.answer import Answer, Budget, Part, Reason
from matinee.serving.arrange import Style
from matinee.serving.live_history import LiveHistory
from matinee.serving.recommender import Recommender
from matinee.serving.release import ReleaseHolder
from matinee.serving.request import Question
from matinee.serving.rules import RULES, LiveRules

_log = get_logger(__name__)


def answer_locally(settings: Settings, home: Home, user: str, n: int) -> Answer:
    """What a server would answer now. Without a deadline, and without a record of it.

    Raises:
        DataUnavailable: no release can be opened.
    """
    clock = SystemClock()
    releases = ReleaseHolder(home, clock)
    history = LiveHistory(partial(open_history, home.resolve(settings.history.url), read_only=True), clock)
    try:
        releases.look()
        if releases.current is None:
            raise DataUnavailable(
                f"{home.path} has nothing to recommend from: {releases.why_not}",
                remedy="Run `matinee train`, which publishes what passes the gate.",
            )
        history.tend()
        rules = LiveRules(home.data / RULES, clock)
        rules.look()
        recommender = Recommender(
            history.glance, users_breaker=Breaker("bundle", clock), cache_breaker=Breaker("fold_cache", clock),
            rules=rules, style=Style.of(settings.serving),
        )  # fmt: skip
        arm, bundle = releases.current.choose(user)
        known = None if user in read_erasures(home.data / ERASED) else user
        budget = Budget(clock, float("inf"))
        return recommender.answer(Question(known, n), arm=arm, bundle=bundle, budget=budget, without=_without)
    finally:
        history.close()
        releases.close()


def _without(part: Part, reason: Reason, error: Exception | None) -> None:
    _log.warning("answered_without", part=str(part), reason=str(reason), error=str(error))
