"""API keys at rest: `data/api_keys.json`, and the four things that are done with it.

A key is `matinee_<id>_<secret>`: an id of 48 bits that logs and lists may name, and a secret of 256 random bits,
shown once. Stored is its SHA-256. A slow hash (argon2, bcrypt) protects secrets that people choose, because those
can be guessed; 256 random bits cannot be, at any speed, and a slow hash would only make every request wait.

The id outlives its secrets: rotation gives a key another secret, and for a stated time both are good. So lists,
scopes and what is known of the events that a client repeats stay with the client through a rotation.
"""

import hashlib
import re
import secrets
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import msgspec

from matinee.core.clock import Clock
from matinee.core.errors import Corrupt, InvalidInput
from matinee.core.files import read_json, write_json
from matinee.core.home import Home

KEYS = "api_keys.json"
KEYS_FORMAT = 1
KEY_MODE = 0o600
TOKEN = re.compile(r"matinee_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
"""What a key looks like; the group is its id."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}")
_ID = re.compile(r"[0-9a-f]{12}")


class Scope(StrEnum):
    """What a key may do. Each may do what those before it may."""

    READ = "read"
    """Ask for recommendations and all that goes with them."""
    WRITE = "write"
    """Post events."""
    ADMIN = "admin"
    """Change how the service works."""

    def allows(self, needed: "Scope") -> bool:
        """Whether a key of this scope may do what needs `needed`."""
        order = list(Scope)
        return order.index(self) >= order.index(needed)


class Secret(msgspec.Struct, frozen=True):
    """The hash of one secret of a key.

    Attributes:
        sha256: of the whole key, 64 hexadecimal digits.
        until_us: when a rotation ends it; never where none.
    """

    sha256: str
    until_us: int | None = None


class ApiKey(msgspec.Struct, frozen=True):
    """One key, without anything that could be used in its place.

    Attributes:
        id: 12 hexadecimal digits.
        name: whose it is, for people.
        scope: what it may do.
        created_us: when it was made.
        expires_us: when it ends; never where none.
        revoked_us: when it was ended before that; a revoked key has no secrets.
        secrets: one; two while a rotation lasts.
    """

    id: str
    name: str
    scope: Scope
    created_us: int
    expires_us: int | None = None
    revoked_us: int | None = None
    secrets: tuple[Secret, ...] = ()

    def is_valid(self, now_us: int) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_us is None and (self.expires_us is None or now_us < self.expires_us)


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys in the file; none where there is no file.

    Raises:
        Corrupt: it is not what was written.
        FormatTooNew: a newer matinee wrote it.
    """
    try:
        document = read_json(path, format_version=KEYS_FORMAT)
        return msgspec.convert(document.get("keys"), tuple[ApiKey, ...])
    except FileNotFoundError:
        return ()
    except msgspec.ValidationError as error:
        raise Corrupt(
            f"{path} is not a file of API keys: {error}",
            remedy="Put a copy back, or move it away and make new keys with `matinee keys create`.",
        ) from error


def create_key(
    home: Home, name: str, scope: Scope, *, clock: Clock, lifetime_us: int | None = None
) -> tuple[ApiKey, str]:
    """Make a key.

    Args:
        home: whose key it is.
        name: 1 to 64 letters, digits, blanks and `._@-`, not of an id's form; no other valid key may have it.
        scope: what it may do.
        clock: dates it.
        lifetime_us: after which it ends; never where none.

    Returns:
        The key, and the text that the client sends. It is nowhere else: who loses it needs another.

    Raises:
        InvalidInput: the name cannot be one, or is taken.
        Locked: another process changes the keys.
    """
    if not _NAME.fullmatch(name) or _ID.fullmatch(name):
        raise InvalidInput(
            f"{name[:60]!r} cannot be the name of a key",
            remedy="Use letters, digits, blanks and ._@-, such as shop.",
        )
    now_us = clock.now_us()
    token, secret = _new_secret(key_id := secrets.token_hex(6))
    expires_us = None if lifetime_us is None else now_us + lifetime_us
    key = ApiKey(key_id, name, scope, now_us, expires_us, None, (secret,))

    def add(keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        if any(other.name == name and other.is_valid(now_us) for other in keys):
            raise InvalidInput(
                f"there is a key {name!r} already",
                remedy="Give another name, or give that key another secret: `matinee keys rotate`.",
            )
        return (*keys, key)

    _change(home, add)
    return key, token


def rotate_key(home: Home, named: str, *, clock: Clock, overlap_us: int) -> tuple[ApiKey, str]:
    """Give a key another secret; the one it has stays good for `overlap_us`.

    Args:
        home: whose key it is.
        named: the key's id or name.
        clock: dates it.
        overlap_us: microseconds for which the old secret goes on working; 0 ends it at once.

    Returns:
        The key, and the text that the client sends from now on.

    Raises:
        InvalidInput: no valid key is called so.
        Locked: another process changes the keys.
    """
    now_us = clock.now_us()
    changed: list[tuple[ApiKey, str]] = []

    def rotate(key: ApiKey) -> ApiKey:
        token, secret = _new_secret(key.id)
        until_us = now_us + overlap_us
        ending = (
            Secret(old.sha256, until_us if old.until_us is None else min(old.until_us, until_us))
            for old in key.secrets
        )
        kept = tuple(old for old in ending if old.until_us is not None and old.until_us > now_us)
        rotated = msgspec.structs.replace(key, secrets=(secret, *kept))
        changed.append((rotated, token))
        return rotated

    _change_one(home, named, now_us, rotate)
    return changed[0]


def revoke_key(home: Home, named: str, *, clock: Clock) -> ApiKey:
    """End a key. Running servers refuse it within a second.

    Args:
        home: whose key it is.
        named: the key's id or name.
        clock: dates it.

    Raises:
        InvalidInput: no valid key is called so.
        Locked: another process changes the keys.
    """
    now_us = clock.now_us()
    changed: list[ApiKey] = []

    def revoke(key: ApiKey) -> ApiKey:
        changed.append(msgspec.structs.replace(key, revoked_us=now_us, secrets=()))
        return changed[0]

    _change_one(home, named, now_us, revoke)
    return changed[0]


def hash_token(token: str) -> str:
    """What is stored of a key: SHA-256, in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def _new_secret(key_id: str) -> tuple[str, Secret]:
    token = f"matinee_{key_id}_{secrets.token_urlsafe(32)}"
    return token, Secret(hash_token(token))


def _change_one(home: Home, named: str, now_us: int, change: Callable[[ApiKey], ApiKey]) -> None:
    def change_named(keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        found = [key for key in keys if named in {key.id, key.name} and key.is_valid(now_us)]
        if not found:
            raise InvalidInput(
                f"there is no valid key {named[:60]!r}", remedy="`matinee keys list` names those there are."
            )
        return tuple(change(key) if key is found[0] else key for key in keys)

    _change(home, change_named)


def _change(home: Home, change: Callable[[tuple[ApiKey, ...]], tuple[ApiKey, ...]]) -> None:
    path = home.data / KEYS
    with home.lock("keys"):
        keys = change(read_keys(path))
        write_json(path, {"format_version": KEYS_FORMAT, "keys": msgspec.to_builtins(keys)}, mode=KEY_MODE)
