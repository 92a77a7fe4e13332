"""Which generation each log had when it was last read, so that a log made again is noticed before it is read.

Kept in `data/ingest.json`. Where that file is lost, the lake's own offsets speak: offsets of a log's generation
that no longer is.
"""

from collections.abc import Iterable
from pathlib import Path

from matinee.core.errors import GenerationChanged
from matinee.core.files import read_json, write_json
from matinee.events.offsets import Source

GENERATIONS_FORMAT = 1
FILE_GENERATION = "file-"
"""Generations of imported files begin so; those of logs never do."""
REMEDY = (
    "If the log was lost or made again on purpose, run `matinee ingest --accept-new-generation`: it reads the new "
    "log from its beginning and keeps all that the lake holds. Otherwise stop the producers, put the old log "
    "back, and run `matinee ingest` again."
)


class KnownGenerations:
    """The generation that each log had when ingest last read it.

    Args:
        data: the home's data root.
    """

    def __init__(self, data: Path) -> None:
        self._path = data / "ingest.json"

    def check(self, url: str, generation: str, lake_sources: Iterable[Source]) -> None:
        """Refuse a log whose generation is another than it was.

        Args:
            url: of the log.
            generation: that it has now.
            lake_sources: sources that the lake holds offsets of.

        Raises:
            GenerationChanged: it is another than when ingest last read this log.
        """
        known = self._read()
        if url in known:
            expected = {known[url]}
        else:
            of_logs = {s.generation for s in lake_sources if not s.generation.startswith(FILE_GENERATION)}
            expected = set() if generation in of_logs else of_logs - set(known.values())
        if expected and expected != {generation}:
            raise GenerationChanged(
                f"event log {url} has generation {generation}, but the lake holds positions of "
                f"{', '.join(sorted(expected))}",
                remedy=REMEDY,
            )

    def remember(self, url: str, generation: str) -> None:
        """Note the generation of a log."""
        known = self._read()
        if known.get(url) != generation:
            write_json(self._path, {"format_version": GENERATIONS_FORMAT, "logs": {**known, url: generation}})

    def _read(self) -> dict[str, str]:
        try:
            logs = read_json(self._path, format_version=GENERATIONS_FORMAT)["logs"]
        except FileNotFoundError:
            return {}
        return dict(logs)
