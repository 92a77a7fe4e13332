"""A service that is asked over HTTP, as the streaming service asks it."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import httpx

from matinee.core.ids import is_id
from matinee.simulation.behaviour import Indices
from matinee.simulation.lines import FAILED
from matinee.simulation.recommenders import FAILED_STATUS, OK, Answer, Answers, Situation

PATIENCE_SECONDS = 0.6
"""An answer that takes longer has failed."""
_AT_ONCE = 8


class HttpRecommender:
    """`GET <url>/recommend/<user>` for each viewer, several at once.

    Args:
        url: of the service or its balancer.
        patience: seconds after which a request has failed.
        monotonic: what time is taken by; seconds.
    """

    def __init__(
        self, url: str, patience: float = PATIENCE_SECONDS, monotonic: Callable[[], float] = time.perf_counter
    ) -> None:
        self.name = url
        target = httpx.URL(url)
        self._host = f"{target.host}:{target.port or (443 if target.scheme == 'https' else 80)}"
        limits = httpx.Limits(max_connections=_AT_ONCE, max_keepalive_connections=_AT_ONCE)
        self._client = httpx.Client(base_url=url, timeout=patience, limits=limits, trust_env=False)
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="viewer")
        self._patience = patience
        self._monotonic = monotonic

    def recommend(self, who: Indices, situation: Situation) -> Answers:  # noqa: ARG002 - the interface's
        """See `Recommender.recommend`. Never raises: what fails is an answer with status 0."""
        viewers = who.tolist()
        answers = map(self._ask, viewers) if len(viewers) == 1 else self._pool.map(self._ask, viewers)
        return Answers(self._host, list(answers))

    def _ask(self, viewer: int) -> Answer:
        began = self._monotonic()
        try:
            with self._client.stream("GET", f"/recommend/{viewer + 1}") as response:
                text = b"".join(self._in_time(response.iter_bytes(), began)).decode("utf-8", "replace").strip()
        except (httpx.HTTPError, httpx.InvalidURL):
            return self._failed(began)
        milliseconds = round((self._monotonic() - began) * 1e3)
        if response.status_code != OK:
            return Answer((), milliseconds, response.status_code, response.reason_phrase)
        items = tuple(text.split(",")) if text else ()
        if not all(map(is_id, items)):
            return Answer((), milliseconds, FAILED_STATUS, "java.io.IOException: not a list of movies")
        return Answer(items, milliseconds)

    def _in_time(self, chunks: Iterable[bytes], began: float) -> Iterator[bytes]:
        """What comes, as long as it is not too late: the client's own time-outs are for each piece."""
        for chunk in chunks:
            if self._monotonic() - began > self._patience:
                raise httpx.ReadTimeout("the answer came too slowly")
            yield chunk
        if self._monotonic() - began > self._patience:
            raise httpx.ReadTimeout("the answer came too late")

    def _failed(self, began: float) -> Answer:
        took = round((self._monotonic() - began) * 1e3)
        return Answer((), took, FAILED_STATUS, FAILED.format(host=self._host))

    def close(self) -> None:
        """Let go of connections and threads."""
        self._pool.shutdown()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
