"""Downloading a published archive: checked, taken up again where it was cut, and never left half done."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import httpx

from matinee.core.errors import DataUnavailable, OutOfRoom, is_no_room
from matinee.core.files import fsync_file, fsync_folder

Progress = Callable[[int, int | None], None]
"""Called with (bytes so far, bytes in all where the server says so)."""

_ATTEMPTS = 3
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)  # a host that is out of reach fails in seconds


def download(url: str, target: Path, progress: Progress | None = None) -> None:
    """Download `url` to `target`, and check it against the published `url`.md5 where there is one.

    It is written beside `target` and renamed when it is whole and checked. A connection that breaks is taken up
    where it broke, if the server can do that and the file is still the same, else from the start; after three
    attempts it is given up. What an earlier process left half done is begun anew.

    Raises:
        DataUnavailable: it cannot be reached, is not there, ends early, or is not what was published.
        OutOfRoom: the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    try:
        with httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as client:
            part.write_bytes(b"")
            _fetch_all(client, url, part, progress)
            _check_md5(part, _published_md5(client, url), url)
        fsync_file(part)
        part.replace(target)
        fsync_folder(target.parent)
    except httpx.HTTPStatusError as error:
        raise DataUnavailable(f"{url} answered {error.response.status_code}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DataUnavailable(f"{url}: {error or type(error).__name__}") from error
    except OSError as error:
        if is_no_room(error):
            raise OutOfRoom(f"no room to download {url} to {target.parent}", remedy="Make room there.") from error
        raise
    finally:
        part.unlink(missing_ok=True)


def _fetch_all(client: httpx.Client, url: str, part: Path, progress: Progress | None) -> None:
    same: str | None = None  # the server's mark of the file's content, by which a second half fits the first
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            same = _fetch_rest(client, url, part, same, progress)
        except (_CutOff, httpx.TransportError) as error:
            if isinstance(error, _CutOff):
                same = error.same
            elif isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and part.stat().st_size == 0:
                raise  # nobody there: asking again at once is no use
            if attempt == _ATTEMPTS:
                raise
        else:
            return


class _CutOff(httpx.TransportError):
    """The connection broke or the body ended before its end."""

    def __init__(self, message: str, same: str | None) -> None:
        super().__init__(message)
        self.same = same


def _fetch_rest(
    client: httpx.Client, url: str, part: Path, same: str | None, progress: Progress | None
) -> str | None:
    have = part.stat().st_size
    headers = {"Accept-Encoding": "identity"}
    if have and same is not None:
        headers |= {"Range": f"bytes={have}-", "If-Range": same}
    with client.stream("GET", url, headers=headers) as response:
        response.raise_for_status()
        same = _mark(response)
        start = have if response.status_code == httpx.codes.PARTIAL_CONTENT else 0
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.write_bytes(b"")
            raise _CutOff("the server sent another range than it was asked for", None)
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        with part.open("r+b") as file:
            file.truncate(start)
            file.seek(start)
            try:
                for chunk in response.iter_raw():
                    file.write(chunk)
                    if progress is not None:
                        progress(file.tell(), total)
            except httpx.TransportError as error:
                raise _CutOff(f"it broke off after {file.tell()} of {total} bytes", same) from error
            if total is not None and file.tell() != total:
                raise _CutOff(f"it ended after {file.tell()} of {total} bytes", same)
    return same


def _mark(response: httpx.Response) -> str | None:
    tag = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return str(tag)
    modified = response.headers.get("Last-Modified")
    return None if modified is None else str(modified)


def _published_md5(client: httpx.Client, url: str) -> str | None:
    response = client.get(f"{url}.md5")
    if response.status_code == httpx.codes.NOT_FOUND:
        return None
    response.raise_for_status()
    found = re.search(r"\b[0-9a-f]{32}\b", response.text.lower())
    return found[0] if found else None


def _check_md5(part: Path, expected: str | None, url: str) -> None:
    if expected is None:
        return
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if digest != expected:
        raise DataUnavailable(
            f"what {url} sent has MD5 {digest}; published is {expected}", remedy="Try again later."
        )
