"""What made a bundle: the program's version and commit, and the versions of the libraries it stands on."""

import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from matinee import __version__
from matinee.bundle.manifest import CodeVersion

_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def code_version() -> CodeVersion:
    """The version of this program; with its git commit where it runs from a checkout of its own."""
    return CodeVersion(package=__version__, commit=_commit(Path(__file__).parents[3]))


def library_versions() -> dict[str, str]:
    """The installed version of everything that matinee requires (not of what its extras do)."""
    try:
        requirements = metadata.requires("matinee") or []
    except metadata.PackageNotFoundError:
        return {}
    names = [match[0] for text in requirements if "extra ==" not in text and (match := _REQUIREMENT.match(text))]
    return {name: metadata.version(name) for name in sorted(names)}


def _commit(root: Path) -> str | None:
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    commit = _run([git, "-C", str(root), "rev-parse", "HEAD"])
    if not commit:
        return None
    changed = _run([git, "-C", str(root), "status", "--porcelain", "--untracked-files=no"])
    return commit + ("+changed" if changed else "")


def _run(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - ours
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
