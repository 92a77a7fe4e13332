"""The plan: which bundle answers whom. Kept in `data/release.json`, replaced atomically."""

import fcntl
import hashlib
import math
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from matinee.bundle.manifest import VERSION_PATTERN, Manifest, read_manifest
from matinee.core.clock import Clock
from matinee.core.errors import Corrupt, GateRefused, InvalidInput
from matinee.core.files import read_json, write_json

RELEASE_FORMAT = 1
RELEASE = "release.json"
MAIN_ARM = "main"
_KEPT_PLANS = 20


class Arm(msgspec.Struct, frozen=True):
    """A bundle, and the share of the users it answers."""

    name: str
    bundle: str
    """The bundle's version."""
    weight: float = 1.0
    """0 to 1."""


class Plan(msgspec.Struct, frozen=True):
    """Which bundle answers whom.

    Raises:
        InvalidInput: the arms have no distinct names, or weights that do not add up to 1.
    """

    arms: tuple[Arm, ...]
    salt: str
    """Decides, with a user's id, which arm the user is in. Another salt deals everybody out anew."""
    published_us: int = 0
    """UTC microseconds."""
    note: str = ""

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if not names or len(set(names)) != len(names) or not all(names):
            raise InvalidInput(f"a plan needs arms with distinct names; these are {names}")
        weights = [arm.weight for arm in self.arms]
        if not all(0 <= weight <= 1 for weight in weights) or abs(math.fsum(weights) - 1) > 1e-9:
            raise InvalidInput(f"the weights of a plan's arms add up to 1, each 0 to 1; these are {weights}")

    @property
    def bundles(self) -> set[str]:
        """The versions of all bundles in the plan."""
        return {arm.bundle for arm in self.arms}


def assign(plan: Plan, user: str) -> Arm:
    """The arm that answers a user: the same every time, and for every server.

    Each arm draws −ln(h) / weight, with h in (0, 1) from a hash of salt, arm and user; the lowest draw wins.
    That is a race of exponential clocks, so an arm wins with a probability of exactly its weight; and since a
    draw depends on its own arm alone, a user changes only to an arm whose weight rose relative to the one it
    leaves. (Weighted rendezvous hashing: Thaler and Ravishankar 1998; Schindelhauer and Schomaker 2005. Cutting
    the unit interval at cumulative weights also moves users between arms whose weights did not change.)
    """
    if len(plan.arms) == 1:
        return plan.arms[0]
    running = [arm for arm in plan.arms if arm.weight > 0]
    return min(running, key=lambda arm: -math.log(_uniform(plan.salt, arm.name, user)) / arm.weight)


def _uniform(salt: str, arm: str, user: str) -> float:
    text = f"{salt}\0{arm}\0{user}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=8).digest()
    # 52 bits and a half: every value is exact in a float, and none is 0 or 1.
    return ((int.from_bytes(digest, "little") >> 12) + 0.5) / (1 << 52)


def read_plan(data: Path) -> Plan | None:
    """The plan that holds now, or nothing where none was ever published.

    Raises:
        Corrupt: the file is not what was written.
        FormatTooNew: a newer matinee wrote it.
    """
    plans = read_plans(data)
    return plans[0] if plans else None


def read_plans(data: Path) -> list[Plan]:
    """This plan and those before it that a rollback may go back to, newest first; otherwise as `read_plan`."""
    return _read(data)


def publish(data: Path, version: str, *, clock: Clock, note: str = "") -> Plan:
    """Let one bundle answer everybody, and return the plan.

    Args:
        data: the home's `data/`, with `bundles/` in it.
        version: the bundle.
        clock: gives the plan its time.
        note: why, for people.

    Raises:
        InvalidInput: `version` cannot be a bundle's.
        Corrupt: the bundle's manifest is missing or broken.
        GateRefused: the bundle did not pass the gate.
    """
    return publish_arms(data, [Arm(name=MAIN_ARM, bundle=version)], clock=clock, note=note)


def publish_arms(data: Path, arms: Sequence[Arm], *, clock: Clock, note: str = "", salt: str | None = None) -> Plan:
    """Let several bundles answer, each a share of the users; otherwise as `publish`.

    Args:
        data: the home's `data/`.
        arms: names, bundles, and weights that add up to 1.
        clock: gives the plan its time.
        note: why, for people.
        salt: deals the users out anew; the plan's before where none is given, so that everybody stays put.
    """
    with _locked(data):
        for arm in arms:
            _check_publishable(data, arm.bundle)
        plans = _read(data)
        kept = plans[0].salt if plans else secrets.token_hex(8)
        plan = Plan(
            arms=tuple(arms),
            salt=kept if salt is None else salt,
            published_us=clock.now_us(),
            note=note,
        )
        again = bool(plans) and plans[0].arms == plan.arms  # going back to the same would be going nowhere
        _write(data, [plan, *plans[again:]])
    return plan


def rollback(data: Path, *, clock: Clock, note: str = "") -> Plan:
    """Go back to the plan before this one, and return it. A second call goes back one further.

    Plans whose bundles are gone or broken are passed over.

    Raises:
        InvalidInput: there is no plan to go back to.
    """
    with _locked(data):
        earlier = _read(data)[1:]
        while earlier and not all(_is_readable(data, version) for version in earlier[0].bundles):
            del earlier[0]
        if not earlier:
            raise InvalidInput(
                f"{data / RELEASE} holds no earlier plan whose bundles are still there",
                remedy="Publish a bundle of your choice instead.",
            )
        plan = msgspec.structs.replace(earlier[0], published_us=clock.now_us(), note=note or "rollback")
        _write(data, [plan, *earlier[1:]])
    return plan


def replace_bundle(data: Path, before: str, after: str) -> None:
    """Let another bundle stand for one in every plan, those before this one too: who goes back, goes back to it.

    Everybody stays in their arm. For a bundle that must not be served again and its copy that may.

    Raises:
        Corrupt: the manifest of `after`, or the file of the plans, is missing or broken.
        InvalidInput: `after` cannot be a bundle's version.
    """
    _manifest(data, after)

    def replaced(plan: Plan) -> Plan:
        arms = [msgspec.structs.replace(arm, bundle=after) if arm.bundle == before else arm for arm in plan.arms]
        return msgspec.structs.replace(plan, arms=tuple(arms))

    with _locked(data):
        plans = _read(data)
        if any(before in plan.bundles for plan in plans):
            _write(data, [replaced(plan) for plan in plans])


def bundles_in_use(data: Path) -> set[str]:
    """The versions that must stay: those of the plan, and of the plan that a rollback would go back to."""
    return set().union(*(plan.bundles for plan in _read(data)[:2]))


def _check_publishable(data: Path, version: str) -> None:
    manifest = _manifest(data, version)
    if not manifest.gate.passed:
        raise GateRefused(
            f"bundle {version} did not pass the gate: {manifest.gate.evidence}",
            remedy="Publish a bundle that did; `manifest.json` has the figures.",
        )


def _is_readable(data: Path, version: str) -> bool:
    try:
        _manifest(data, version)
    except (Corrupt, InvalidInput):
        return False
    return True


def _manifest(data: Path, version: str) -> Manifest:
    if VERSION_PATTERN.fullmatch(version) is None:
        raise InvalidInput(f"{version!r} is not the version of a bundle")
    return read_manifest(data / "bundles" / version)


def _read(data: Path) -> list[Plan]:
    """This plan and those before it, newest first."""
    path = data / RELEASE
    try:
        document = read_json(path, format_version=RELEASE_FORMAT)
    except FileNotFoundError:
        return []
    try:
        return msgspec.convert([document.get("current"), *document.get("previous", [])], list[Plan])
    except (msgspec.ValidationError, InvalidInput, TypeError) as error:
        raise Corrupt(f"{path} is not a release plan: {error}") from error


def _write(data: Path, plans: list[Plan]) -> None:
    current, *previous = (msgspec.to_builtins(plan) for plan in plans[: 1 + _KEPT_PLANS])
    document: dict[str, Any] = {"format_version": RELEASE_FORMAT, "current": current, "previous": previous}
    write_json(data / RELEASE, document)


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """One change of the plan at a time, whichever process makes it; a change takes milliseconds."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / ".release.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
