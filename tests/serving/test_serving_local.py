import pytest
from serving_samples import SNAPSHOT_END, act, make_bundle, settings

from matinee.core.clock import SystemClock
from matinee.core.errors import DataUnavailable
from matinee.core.home import Home
from matinee.history.lmdb import LmdbHistory
from matinee.release.plan import publish
from matinee.serving.answer import Step
from matinee.serving.local import answer_locally


def test_it_answers_as_the_service_would(home: Home, history: LmdbHistory):
    publish(home.data, make_bundle(home), clock=SystemClock())
    act(history, "u000", ["a+1"], position=SNAPSHOT_END)
    history.close()
    found = answer_locally(settings(home), home, "u000", 3)
    assert (found.items, found.step) == (("a+3", "a+5", "a+7"), Step.FOLDED_IN)


def test_it_answers_without_a_history(home: Home):
    publish(home.data, make_bundle(home), clock=SystemClock())
    assert answer_locally(settings(home), home, "u001", 2).items == ("a+1", "a+2")


def test_without_a_release_it_says_what_to_do(home: Home):
    with pytest.raises(DataUnavailable, match="no release was published yet"):
        answer_locally(settings(home), home, "u001", 2)
