import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.core.clock import SystemClock
from matinee.core.errors import ConfigurationError, InvalidInput
from matinee.dataset.interactions import Interactions
from matinee.evaluation import comparison_work
from matinee.evaluation.comparison import FIGURES, Comparison, Options, Row, compare
from matinee.evaluation.comparison_work import Ended, FoldDone, PeakMemory, Step, Task
from matinee.evaluation.cross_validation import FoldResult, cross_validate
from matinee.evaluation.pictures import draw
from matinee.evaluation.subgroups import Groups
from matinee.models.registry import make

seconds = st.sampled_from([0.0, 1e-5, 0.3, 50.0, 5_000.0])
errors = st.sampled_from([0.0, 1e-3, 0.9, 0.9001, 40.0])
TWO = Options(folds=2, seed=3)


@pytest.fixture(scope="module")
def ratings():
    rng = np.random.default_rng(0)
    pairs = np.flatnonzero(rng.random(40 * 30) < 0.5)
    nothing = np.full(pairs.size, np.nan, dtype=np.float32)
    stars = rng.integers(1, 6, pairs.size).astype(np.float32)
    return Interactions(40, 30, (pairs // 30).astype(np.int32), (pairs % 30).astype(np.int32), stars, nothing)


@pytest.fixture(scope="module")
def watched(ratings):
    return replace(ratings, rating=ratings.watched, watched=np.ones_like(ratings.watched))


@pytest.fixture(scope="module")
def told():
    """Every row that was told of while `compared` ran."""
    return []


@pytest.fixture(scope="module")
def compared(ratings, told):
    return compare(ratings, ["popularity", "baseline_only"], dataset="d", options=TWO, on_row=told.append)


def fold(rmse, ndcg):
    return FoldResult(
        rmse=rmse,
        mae=rmse,
        ranking={"ndcg@10": ndcg, "recall@20": 0.5, "coverage@10": 0.25},
        fit_seconds=0.5,
        test_seconds=0.1,
        seconds_per_1000_answers=0.2,
        state_bytes=1_000,
        ndcg_per_user=np.array([ndcg, ndcg]),
        users=np.array([0, 1], dtype=np.int32),
        rmse_per_user=np.array([] if rmse is None else [rmse, rmse]),
        rated_users=np.array([] if rmse is None else [0, 1], dtype=np.int32),
    )


def row(name, *folds, peak=10_000_000, refused=""):
    return Row(name, {}, folds, peak, refused)


def test_figures_are_those_of_a_cross_validation_in_this_process(ratings, compared):
    for found in compared.rows:
        here = cross_validate(lambda: make(found.model), ratings, folds=2, seed=3, clock=SystemClock())  # noqa: B023
        assert [(f.rmse, dict(f.ranking), f.state_bytes) for f in found.folds] == [
            (f.rmse, dict(f.ranking), f.state_bytes) for f in here
        ]
        for there, mine in zip(found.folds, here, strict=True):
            np.testing.assert_array_equal(there.ndcg_per_user, mine.ndcg_per_user)


def test_a_row_grows_fold_by_fold(compared, told):
    assert [(r.model, len(r.folds)) for r in told] == [
        (name, folds) for name in ("popularity", "baseline_only") for folds in (0, 1, 2, 2)
    ]
    assert told[-1] == compared.rows[-1]


def test_a_ranker_has_no_rating_errors(compared):
    ranker, predictor = compared.rows
    assert list(predictor.figures) == list(FIGURES)
    assert set(FIGURES) - set(ranker.figures) == {"rmse", "mae"}


def test_a_model_that_does_not_suit_says_why_and_the_next_goes_on(watched):
    svd, popularity = compare(watched, ["svd", "popularity"], dataset="d", options=TWO).rows
    assert "learns from ratings" in svd.refused
    assert (svd.figures, svd.ndcg_interval(100, 0)) == ({}, None)
    assert popularity.figures


def test_hyperparameters_reach_the_model(ratings):
    options = replace(TWO, params={"svd": {"n_factors": 3}}, positive_rating=2.0)
    svd, popularity = compare(ratings, ["svd", "popularity"], dataset="d", options=options).rows
    assert svd.params["n_factors"] == 3
    assert popularity.params["positive_rating"] == 2.0
    assert svd.folds[0].state_bytes < 3_000


@pytest.mark.parametrize(("names", "error"), [(["magic"], ConfigurationError), ([], InvalidInput),
                                              (["svd", "svd"], InvalidInput)])  # fmt: skip
def test_wrong_names_are_told_before_the_work(ratings, names, error):
    with pytest.raises(error):
        compare(ratings, names, dataset="d", options=TWO)


@pytest.mark.parametrize("wrong", [Options(folds=1), Options(threads=0)])
def test_impossible_options_are_refused(ratings, wrong):
    with pytest.raises(InvalidInput):
        compare(ratings, ["svd"], dataset="d", options=wrong)


def children():
    """Ids of this process's children that run `work`."""
    import multiprocessing

    return [child.pid for child in multiprocessing.active_children()]


def test_a_child_that_is_killed_has_its_row(ratings):
    def kill(found):
        if len(found.folds) == 1 and not found.refused:
            os.kill(children()[0], signal.SIGKILL)

    many = Options(folds=200)
    (popularity,) = compare(ratings, ["popularity"], dataset="d", options=many, on_row=kill).rows
    assert "ended from outside" in popularity.refused
    assert 1 <= len(popularity.folds) < 200


def test_an_interrupt_ends_the_child(ratings):
    def interrupt(found):
        if found.folds:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(ratings, ["popularity"], dataset="d", options=Options(folds=200), on_row=interrupt)
    assert children() == []


def test_the_environment_is_left_as_it_was(ratings, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    compare(ratings, ["popularity"], dataset="d", options=TWO)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


class Pipe:
    def __init__(self):
        self.sent = []

    def send(self, message):
        self.sent.append(message)


@pytest.fixture
def calm(monkeypatch):
    """`work` in this process leaves the signals alone."""
    monkeypatch.setattr(comparison_work.signal, "signal", lambda *_: None)


def test_work_tells_of_steps_folds_and_the_end(ratings, calm):
    pipe = Pipe()
    comparison_work.work(pipe, Task("svd", {"n_epochs": 5}, 2, 0, 1, 4.0), ratings)
    kinds = [type(message) for message in pipe.sent]
    assert kinds.count(FoldDone) == 2
    assert [m for m in pipe.sent if isinstance(m, Step)][-1] == Step(1, 5, 5)
    assert pipe.sent[-1] == Ended()


def test_a_fault_of_a_model_is_told(ratings, calm, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(comparison_work, "evaluate_fold", broken)
    pipe = Pipe()
    comparison_work.work(pipe, Task("svd", {}, 2, 0, 1, 4.0), ratings)
    assert pipe.sent == [Ended("failed with ZeroDivisionError: oh")]


def test_memory_that_came_and_went_is_seen():
    memory = PeakMemory()
    for _ in range(2):
        block = np.ones(50_000_000 // 8)
        del block
    assert 45e6 < memory.risen() < 80e6


def test_figures_are_means_with_deviations_and_an_interval():
    two = row("svd", fold(0.9, 0.1), fold(1.1, 0.3))
    figures = two.figures
    assert figures["rmse"].mean == pytest.approx(1.0)
    assert figures["rmse"].deviation == pytest.approx(0.2 / 2**0.5)
    assert figures["peak_bytes"].mean == 10_000_000
    interval = two.ndcg_interval(100, 0)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.2, 0.2, 0.2))


def test_a_comparison_is_json(compared):
    document = json.loads(json.dumps(compared.as_dict(), allow_nan=False))
    assert document["models"]["popularity"]["ndcg@10"]["mean"] == compared.rows[0].figures["ndcg@10"].mean
    assert "rmse" not in document["models"]["popularity"]


def test_without_anything_liked_ratings_alone_are_compared(ratings):
    options = replace(TWO, positive_rating=6.0)
    popularity, bias = compare(ratings, ["popularity", "baseline_only"], dataset="d", options=options).rows
    assert "--positive-rating" in popularity.refused
    assert bias.figures["rmse"].mean > 0
    assert not {"ndcg@10", "seconds_per_1000_answers"} & bias.figures.keys()
    assert bias.ndcg_interval(100, 0) is None
    assert not bias.refused


def test_groups_of_users_are_reported_on(ratings):
    halves = {"half": Groups((np.arange(40) % 2).astype(np.int16), ("even", "odd"))}
    found = compare(ratings, ["baseline_only"], dataset="d", options=TWO, groups=halves)
    subgroups = found.as_dict()["models"]["baseline_only"]["subgroups"]
    assert subgroups["half"] == found.rows[0].by_group(halves["half"])
    assert sum(group["rated_users"] for group in subgroups["activity"].values()) == 40
    assert {"ndcg@10", "rmse"} < subgroups["half"]["odd"].keys()


def pictured(*rows):
    return Comparison("d", 2, 3, 6, Options(folds=2), rows)


def test_pictures_name_every_model(tmp_path):
    rows = [
        row("svd", fold(0.9, 0.1), fold(1.0, 0.3)),
        row("popularity", fold(None, 0.2)),
        row("als", refused="no"),
    ]
    png, svg = draw(pictured(*rows), tmp_path / "new")
    assert png.read_bytes().startswith(b"\x89PNG")
    texts = [text.text for text in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert (texts.count("svd"), texts.count("popularity"), texts.count("als")) == (2, 1, 0)


def test_the_same_figures_give_the_same_picture(tmp_path):
    once, again = (draw(pictured(row("svd", fold(0.9, 0.1))), tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in again]


def test_names_of_models_that_are_alike_stand_apart(tmp_path):
    names = ["svd", "svdpp", "als", "popularity", "baseline_only"]
    _, svg = draw(pictured(*(row(name, fold(0.9, 0.2)) for name in names)), tmp_path)
    texts = ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
    places = [text.attrib["transform"] for text in texts if text.text in names]
    assert len(set(places)) == len(places) == 10


def test_without_figures_there_is_no_picture(tmp_path):
    assert draw(pictured(row("als", refused="no")), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_who_answers_by_lot_is_told_of_and_not_drawn(tmp_path):
    rows = (row("svd", fold(0.9, 0.1)), row("normal_predictor", fold(1.52, 0.01)))
    _, svg = draw(pictured(*rows), tmp_path)
    texts = [text.text for text in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert "normal_predictor" not in texts
    assert texts.count("not drawn: normal_predictor (1.520)") == 1
    assert texts.count("not drawn: normal_predictor (0.010)") == 1


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(seconds, errors, errors, st.sampled_from([0, 1, 10**7, 10**10])), min_size=1, max_size=4))
def test_figures_however_far_apart_are_drawn_without_a_warning(figures):
    """Warnings are errors here."""
    rows = [
        row(name, replace(fold(rmse, 0.1), fit_seconds=time), fold(other, 0.1), peak=peak)
        for name, (time, rmse, other, peak) in zip(("svd", "svdpp", "nmf", "slope_one"), figures, strict=False)
    ]
    with TemporaryDirectory() as folder:
        assert len(draw(pictured(*rows), Path(folder))) == 2
