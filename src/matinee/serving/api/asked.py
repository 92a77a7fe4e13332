"""One request to the API: when it came, what it asks of the service, and what its answer says of itself."""

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.types import Scope, Send

from matinee.bundle.contents import UNKNOWN_AGE
from matinee.bundle.open import Bundle
from matinee.serving.answer import Answer
from matinee.serving.api.problems import REQUEST_ID, Refused
from matinee.serving.filters import Filter, allowed
from matinee.serving.headers import Answering
from matinee.serving.release import Release
from matinee.serving.request import Question, new_request_id
from matinee.serving.service import Arrival, Service

_ASKED = "matinee.asked"


class Asked:
    """One request.

    Args:
        service: what answers; its clock says when the request came, which is now.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.arrival = new_arrival(service)
        self.model_version = service.model_version
        """What the header `X-Model-Version` says."""
        self.step = "none"
        """What the header `X-Matinee-Step` says."""

    @property
    def request_id(self) -> str:
        """The id of the request and its answer."""
        return self.arrival.request_id

    def attach(self, scope: Scope) -> None:
        """Let `asked_of` find this from the request, and problems their id."""
        scope[_ASKED] = self
        scope[REQUEST_ID] = self.request_id

    def release(self) -> Release:
        """The release that answers now.

        Raises:
            Refused: there is none; 503.
        """
        release = self.service.releases.current
        if release is None:
            raise self._nothing_to_answer_from()
        return release

    def bundle(self, user: str | None = None) -> Bundle:
        """The bundle that answers this user, or those who are nobody in particular; the headers then name it."""
        _, bundle = self.release().choose(user)
        self.model_version = bundle.version
        return bundle

    def showable(self, bundle: Bundle, where: Filter | None) -> NDArray[np.bool_]:
        """What may be shown to anybody and meets the conditions, bool, shape (n_items,); read-only."""
        mask = self.service.rules.mask(bundle, now_us=self.arrival.time_us, age=UNKNOWN_AGE)
        return mask if where is None else mask & allowed(where, bundle.attributes)

    def answer(self, question: Question, arrival: Arrival | None = None) -> tuple[Answer, Bundle]:
        """The service's answer, and the bundle that it comes from; the headers then name its step and version.

        Raises:
            Refused: no release answers; 503.
        """
        before = self.release()
        answer = self.service.recommend(question, arrival or self.arrival)
        if answer is None:
            raise self._nothing_to_answer_from()
        self.step, self.model_version = answer.step, answer.model_version
        # A release may have been exchanged in between, by another thread.
        bundles = {**before.bundles, **self.release().bundles}
        return answer, bundles[answer.model_version]

    def said(self) -> dict[str, str]:
        """What every answer says of itself in its body: the same as in its headers."""
        return {"request_id": self.request_id, "model_version": self.model_version, "step": self.step}

    def answering(self, send: Send) -> Answering:
        """`send` that counts the answer and puts the common headers on it."""
        responses = self.service.counters.responses
        return Answering(send, responses, lambda: (self.request_id, self.model_version, self.step))

    def _nothing_to_answer_from(self) -> Refused:
        return Refused(
            503,
            f"There is nothing to recommend from yet: {self.service.releases.why_not}.",
            kind="no-release",
            title="No release answers",
            remedy="Publish one with `matinee train`, or wait until it is open; /readyz says when it is.",
            headers={"retry-after": "1"},
        )


def new_arrival(service: Service) -> Arrival:
    """Something that is asked now."""
    time_us = service.clock.now_us()
    return Arrival(new_request_id(time_us), time_us, service.clock.monotonic())


def asked_of(request: Request) -> Asked:
    """What is known of the request."""
    asked: Asked = request.scope[_ASKED]
    return asked
