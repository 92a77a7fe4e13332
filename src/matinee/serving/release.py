"""The release that answers now: a plan with its bundles open, exchanged for the next without a pause."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from matinee.bundle.open import Bundle, open_bundle
from matinee.bundle.verify import verify_bundle
from matinee.core.clock import Clock
from matinee.core.errors import MatineeError
from matinee.core.followed import Followed, Stamp, stamp
from matinee.core.home import Home
from matinee.core.logging import get_logger
from matinee.release.plan import RELEASE, Plan, assign, read_plan, read_plans

GRACE_SECONDS = 5.0
"""How long a bundle stays open after the last answer began that could use it."""
MOST_BUNDLES = 2
"""Bundles open at once, unless a plan's own arms are more: the one that answers and one that comes or goes."""

_log = get_logger(__name__)
_Stamps = tuple[tuple[str, Stamp], ...]
"""Of the files of a plan's bundles, by path."""


@dataclass(frozen=True, slots=True)
class Release:
    """A plan, and the bundle of each of its arms. Never changes: a new plan is a new object."""

    plan: Plan
    bundles: dict[str, Bundle]
    """By version."""

    def choose(self, user: str | None) -> tuple[str, Bundle]:
        """The name of the user's arm, and its bundle. Nobody in particular is in the first arm."""
        arm = self.plan.arms[0] if user is None else assign(self.plan, user)
        return arm.name, self.bundles[arm.bundle]

    @property
    def main_version(self) -> str:
        """The version of the first arm's bundle: what answers that concern no user name as their model."""
        return self.plan.arms[0].bundle


class ReleaseHolder:
    """Follows `release.json`: opens what it names, lets it answer, and closes what came before.

    `look` does the work, which can take seconds, in a thread off the event loop; `current` is one reference,
    exchanged atomically. What is refused (a corrupt bundle, a plan that cannot be read) leaves the release that
    answers in place, and is tried again only when the plan or a bundle's folder has changed. A release that comes
    while bundles are still in their grace period waits for them to close, so that memory holds two bundles and not
    as many as releases come; one that goes back to such a bundle takes it up again at once. For the same reason
    one of several arms comes, or goes, by way of its widest arm alone.

    A bundle of which a file was cut short while it answers is left for the newest release that is whole.

    Args:
        home: its `data/` holds the plan and the bundles.
        clock: counts the grace period.
        warm_up: called with each bundle before it answers anybody; a bundle for which it raises is refused.
    """

    def __init__(self, home: Home, clock: Clock, warm_up: Callable[[Bundle], None] | None = None) -> None:
        self._home = home
        self._clock = clock
        self._warm_up = warm_up
        self._plan = Followed(home.data / RELEASE)
        self._tried: _Stamps | None = None
        self._damaged: Release | None = None
        self._leaving: list[tuple[float, Bundle]] = []
        self.current: Release | None = None
        self.why_not = "no release was looked for yet"
        """Why there is no release, or why the newest was refused; empty where all is well."""
        self.swaps = 0
        self.refused = 0

    def look(self) -> None:
        """Exchange the release if there is another. One thread at a time; nothing that a release causes raises."""
        self._close_left(self._clock.monotonic())
        is_same_plan = not self._plan.has_changed()
        damaged = None if self._is_whole else self.current
        if (
            is_same_plan
            and self._tried is not None
            and (damaged is None or damaged is self._damaged)
            and (not self.why_not or self._bundle_stamps() == self._tried)
        ):
            return
        self._damaged = damaged
        # Taken before anything is read, so that a change meanwhile shows the next time.
        self._tried = self._bundle_stamps()
        try:
            plans = read_plans(self._home.data)
        except (MatineeError, OSError) as error:
            self._refuse(error)
            return
        if not plans:
            self.why_not = "no release was published yet; run `matinee train`"
        elif self.current is not None and plans[0] == self.current.plan and damaged is None:
            self.why_not = ""
        elif not self._leaving or not self._is_whole or self._has_room_for(plans[0]):
            self._follow(plans)
        else:
            self._tried = None  # again with the next look

    @property
    def held(self) -> int:
        """How many bundles are open."""
        return len(self._leaving) + (0 if self.current is None else len(self.current.bundles))

    def close(self) -> None:
        """Close every bundle, when no more answers are given."""
        release, self.current = self.current, None
        for bundle in () if release is None else release.bundles.values():
            bundle.close()
        self._close_left(float("inf"))

    @property
    def _is_whole(self) -> bool:
        """Whether no bundle that answers was cut short."""
        return self.current is None or all(bundle.is_whole for bundle in self.current.bundles.values())

    def _follow(self, plans: list[Plan]) -> None:
        """Take the newest plan; where nothing whole answers and it cannot be had, the one before it."""
        for plan in plans:
            try:
                next_plan = self._next_towards(plan)
                self._exchange(next_plan)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a release, answers go on
                if plan is plans[0]:
                    self._refuse(error)
                if self.current is not None and self._is_whole:
                    return
            else:
                if next_plan is not plan:
                    self._tried = None  # on with the next look
                elif plan is plans[0]:
                    self.why_not = ""
                return

    def _next_towards(self, plan: Plan) -> Plan:
        """The plan if there is room for its bundles, else one with a single arm that makes some."""
        if self.current is None or not self._is_whole or self._has_room_for(plan):
            return plan
        for version in plan.bundles:  # what will be refused costs no arm its bundle
            verify_bundle(self._home.bundles / version, self._home.run)
        return _widest_arm(self.current.plan if len(self.current.bundles) > 1 else plan)

    def _has_room_for(self, plan: Plan) -> bool:
        """Whether following the plan opens no more bundles than may be open."""
        before = self._open_bundles()
        new = len(plan.bundles - set(before))
        return not new or len(before) + new <= max(MOST_BUNDLES, len(plan.bundles))

    def _open_bundles(self) -> dict[str, Bundle]:
        """Those that are whole, by version; those in their grace period too."""
        answering = () if self.current is None else self.current.bundles.values()
        bundles = (*(bundle for _, bundle in self._leaving), *answering)
        return {bundle.version: bundle for bundle in bundles if bundle.is_whole}

    def _exchange(self, plan: Plan) -> None:
        before = self._open_bundles()
        opened: dict[str, Bundle] = {}
        try:
            for version in sorted(plan.bundles):
                opened[version] = before.get(version) or self._open(version)
        except BaseException:
            for version, bundle in opened.items():
                if version not in before:
                    bundle.close()
            raise
        answered = {} if self.current is None else self.current.bundles
        self.current = Release(plan, opened)
        self.swaps += 1
        until = self._clock.monotonic() + GRACE_SECONDS
        stay = set(opened.values())
        self._leaving = [(end, bundle) for end, bundle in self._leaving if bundle not in stay]
        self._leaving += [(until, bundle) for bundle in answered.values() if bundle not in stay]
        _log.info("release_answers", bundles=sorted(opened), note=plan.note)

    def _open(self, version: str) -> Bundle:
        bundle = open_bundle(self._home.bundles / version, self._home.run)
        try:
            touched = bundle.touch()
            if self._warm_up is not None:
                self._warm_up(bundle)
        except BaseException:
            bundle.close()
            raise
        _log.info("bundle_opened", bundle=version, bytes=touched)
        return bundle

    def _refuse(self, error: Exception) -> None:
        self.refused += 1
        self.why_not = f"the newest release was refused: {error}"
        stays = None if self.current is None else self.current.main_version
        _log.error("release_refused", error=str(error), remedy=getattr(error, "remedy", ""), stays=stays)

    def _close_left(self, now: float) -> None:
        while self._leaving and self._leaving[0][0] <= now:
            self._leaving.pop(0)[1].close()

    def _bundle_stamps(self) -> _Stamps:
        """Changes when a file of a bundle in the plan does."""
        try:
            plan = read_plan(self._home.data)
        except (MatineeError, OSError):
            return ()
        folders = [self._home.bundles / version for version in sorted(plan.bundles if plan else ())]
        return tuple((str(path), stamp(path)) for folder in folders for path in sorted(folder.glob("**/*")))


def _widest_arm(plan: Plan) -> Plan:
    """The same plan without its other arms."""
    widest = max(plan.arms, key=lambda arm: arm.weight)
    return msgspec.structs.replace(plan, arms=(msgspec.structs.replace(widest, weight=1.0),))
