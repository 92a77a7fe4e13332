"""A world on disk, to go on with later: what has happened to it, and the options that the rest follows from."""

import json
from dataclasses import asdict
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from matinee.core.errors import ConfigurationError, Corrupt
from matinee.core.files import check_format, replacing
from matinee.simulation.options import WorldOptions
from matinee.simulation.world import World

WORLD_FORMAT = 2
"""1 holds nobody of later periods than the first; they come when it is taken up."""


def keep(world: World, path: Path) -> None:
    """Write a world's state in place of what was kept there."""
    about = json.dumps({"format_version": WORLD_FORMAT, "options": asdict(world.options)})
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, about=np.array(about), **world.state())


def kept_options(path: Path) -> WorldOptions:
    """The options of the world that is kept there.

    Raises:
        FileNotFoundError: none is.
        Corrupt: it is no world.
        FormatTooNew: a newer matinee kept it.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            about = json.loads(str(kept["about"]))
    except (BadZipFile, KeyError, ValueError, EOFError) as error:
        raise Corrupt(f"{path} holds no world: {error}", remedy="Move it away; the world begins anew.") from error
    check_format(str(path), about["format_version"], WORLD_FORMAT)
    return WorldOptions(**about["options"])


def go_on(world: World, path: Path) -> None:
    """Let a world go on from where the one that is kept there was.

    Raises:
        ConfigurationError: that one has other options.
        Corrupt, FileNotFoundError, FormatTooNew: see `kept_options`.
    """
    other = kept_options(path)
    if other != world.options:
        mine, its = asdict(world.options), asdict(other)
        told = ", ".join(f"{name} {its[name]}, not {mine[name]}" for name in mine if mine[name] != its[name])
        raise ConfigurationError(
            f"the world kept in {path} is another one: {told}",
            remedy="Give it the same options, or keep the new world elsewhere.",
        )
    with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
        world.take_up(kept)
