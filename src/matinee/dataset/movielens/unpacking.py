"""Taking chosen files out of a zip."""

import shutil
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from matinee.core.errors import InvalidInput


def unpack(archive: Path, members: Iterable[str], folder: Path) -> None:
    """Write members of a zip into `folder`, under their last name alone, checked against the zip's CRCs.

    Raises:
        InvalidInput: it is no zip, is damaged, or does not hold a member.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            for member in members:
                with opened.open(member) as source, (folder / Path(member).name).open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise InvalidInput(f"{archive} is not the zip that was published: {error}") from error


def members(archive: Path) -> list[str]:
    """The names in a zip.

    Raises:
        InvalidInput: it is no zip.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            return opened.namelist()
    except zipfile.BadZipFile as error:
        raise InvalidInput(f"{archive} is not a zip: {error}") from error
