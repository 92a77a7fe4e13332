"""Users whose erasure was asked for: a tombstone each in `data/erased.json`, without the id.

Stored is BLAKE2b of the id, keyed with random bytes that stand in the same file. So who reads the file learns no id
from it, but can find out whether an id that they guess is in it: ids that can be enumerated can be found by trying.
The file has mode 0600; keep copies of it as you keep the data itself.
"""

import hashlib
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import msgspec

from matinee.core.errors import Corrupt, InvalidInput
from matinee.core.files import read_json, write_json
from matinee.core.home import Home
from matinee.core.ids import user_id

ERASED = "erased.json"
ERASURES_FORMAT = 1
PARTS = ("stores", "bundles")
"""What has to be freed of a user: log, lake, history and all beside them; and bundles with what is made of them."""
_MODE = 0o600
_DIGEST_BYTES = 16


class Erasure(msgspec.Struct, frozen=True):
    """One user's erasure."""

    digest: str
    """Keyed BLAKE2b of the id, hexadecimal."""
    asked_us: int
    """When it was asked for, UTC microseconds."""
    done_us: dict[str, int] = {}
    """When each part was done, UTC microseconds; those that are not there are not done."""


class Erasures:
    """Who is erased, at one moment. Immutable.

    Args:
        key: of the digests.
        erasures: one a user.
    """

    def __init__(self, key: bytes, erasures: Iterable[Erasure] = ()) -> None:
        self.key = key
        self.by_digest = {bytes.fromhex(erasure.digest): erasure for erasure in erasures}

    @classmethod
    def nobody(cls) -> Self:
        """Where nobody is erased."""
        return cls(b"")

    def __len__(self) -> int:
        return len(self.by_digest)

    def __contains__(self, user: object) -> bool:
        """Whether a user is erased: O(1), about a microsecond."""
        return isinstance(user, str) and self.digest(user) in self.by_digest

    def digest(self, user: str) -> bytes:
        """What stands for the user."""
        text = user.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=_DIGEST_BYTES, key=self.key).digest()

    def pending(self, part: str) -> tuple[Erasure, ...]:
        """Those for whom a part is not done, oldest first."""
        waiting = (erasure for erasure in self.by_digest.values() if part not in erasure.done_us)
        return tuple(sorted(waiting, key=lambda erasure: erasure.asked_us))


def read_erasures(path: Path) -> Erasures:
    """What the file says; nobody where there is none.

    Raises:
        Corrupt: it is not what was written.
        FormatTooNew: a newer matinee wrote it.
    """
    try:
        document = read_json(path, format_version=ERASURES_FORMAT)
        key = bytes.fromhex(document["key"])
        return Erasures(key, msgspec.convert(document.get("erased"), list[Erasure]))
    except FileNotFoundError:
        return Erasures.nobody()
    except (msgspec.ValidationError, KeyError, TypeError, ValueError) as error:
        raise Corrupt(
            f"{path} is not a file of erasures: {error}",
            remedy="Put a copy back; without it nobody knows who is to be erased.",
        ) from error


def add_erasure(home: Home, user: str, now_us: int) -> bool:
    """Ask for a user's erasure; whether it was not asked for before."""
    user_id(user)
    with home.lock("erasures"):
        before = read_erasures(home.data / ERASED)
        if user in before:
            return False
        erasures = Erasures(before.key or secrets.token_bytes(32), before.by_digest.values())
        added = Erasure(erasures.digest(user).hex(), now_us)
        _write(home, erasures.key, [*erasures.by_digest.values(), added])
    return True


def mark_done(home: Home, part: str, erasures: Iterable[Erasure], now_us: int) -> None:
    """Note that a part is done for these."""
    if part not in PARTS:
        raise InvalidInput(f"{part!r} is no part of an erasure", remedy=f"It is one of {', '.join(PARTS)}.")
    done = {erasure.digest for erasure in erasures}
    with home.lock("erasures"):
        before = read_erasures(home.data / ERASED)

        def marked(erasure: Erasure) -> Erasure:
            if erasure.digest not in done:
                return erasure
            return msgspec.structs.replace(erasure, done_us={part: now_us, **erasure.done_us})

        _write(home, before.key, [marked(erasure) for erasure in before.by_digest.values()])


def lift_erasure(home: Home, user: str) -> bool:
    """Let a user whose erasure is done be known again from now on; whether there was an erasure.

    Raises:
        InvalidInput: something of the user is still to be deleted.
    """
    with home.lock("erasures"):
        before = read_erasures(home.data / ERASED)
        erasure = before.by_digest.get(before.digest(user)) if before else None
        if erasure is None:
            return False
        if missing := [part for part in PARTS if part not in erasure.done_us]:
            raise InvalidInput(
                f"the user's erasure is not done: {' and '.join(missing)} are still to be freed of them",
                remedy="`matinee erase --list` says how far it is; `matinee erase USER --now` does it at once.",
            )
        _write(home, before.key, [one for one in before.by_digest.values() if one is not erasure])
    return True


def _write(home: Home, key: bytes, erasures: list[Erasure]) -> None:
    document: dict[str, Any] = {
        "format_version": ERASURES_FORMAT,
        "key": key.hex(),
        "erased": msgspec.to_builtins(erasures),
    }
    write_json(home.data / ERASED, document, mode=_MODE)
