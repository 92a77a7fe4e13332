"""Each order against its definition, worked out candidate by candidate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from matinee.serving.rerank import SMOOTHING, calibrated, continued, diversified, genre_share, mixed

N_ITEMS, N_GENRES = 12, 4
GRID = st.integers(-8, 8).map(lambda value: np.float32(value / 8))  # exact in binary: ties are ties


@st.composite
def candidate_lists(draw):
    m = draw(st.integers(0, N_ITEMS))
    index = np.array(draw(st.permutations(range(N_ITEMS)))[:m], dtype=np.int32)
    return index, draw(arrays(np.float32, m, elements=GRID))


VECTORS = arrays(np.float32, (N_ITEMS, 3), elements=GRID)
MASKS = arrays(np.bool_, (N_ITEMS, N_GENRES))
SHARES = arrays(np.float32, N_GENRES, elements=st.integers(0, 8).map(np.float32))
LENGTHS = st.integers(0, N_ITEMS + 3)
STRENGTHS = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


def relevance(scores: np.ndarray) -> np.ndarray:
    span = scores.max() - scores.min()
    return (scores - scores.min()) / span if span else np.ones(len(scores))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = np.linalg.norm(a.astype(float)) * np.linalg.norm(b.astype(float))
    return float(a.astype(float) @ b / lengths) if lengths else 0.0


@given(candidate_lists(), VECTORS, LENGTHS, STRENGTHS)
def test_mmr_chooses_the_candidate_of_the_highest_marginal_relevance(candidates, vectors, n, strength):
    index, scores = candidates
    chosen = diversified(index, scores, vectors, n, strength).tolist()
    assert len(set(chosen)) == len(chosen) == min(n, len(index))
    r = relevance(scores) if len(scores) else scores
    for place, position in enumerate(chosen):

        def value(p, before=tuple(chosen[:place])):
            nearest = max((cosine(vectors[index[p]], vectors[index[q]]) for q in before), default=0.0)
            return (1 - strength) * r[p] - strength * nearest

        others = [p for p in range(len(index)) if p not in chosen[:place]]
        assert value(position) == pytest.approx(max(map(value, others)), abs=1e-5)


@given(candidate_lists(), MASKS, SHARES, LENGTHS, STRENGTHS)
def test_calibration_adds_the_candidate_that_makes_the_most_of_the_list(candidates, mask, wanted, n, strength):
    index, scores = candidates
    chosen = calibrated(index, scores, mask, wanted, n, strength).tolist()
    assert len(set(chosen)) == len(chosen) == min(n, len(index))
    if strength == 0 or not wanted.any():
        assert chosen == np.argsort(-scores, kind="stable")[:n].tolist()
        return
    p = wanted.astype(float) / wanted.sum()
    r = relevance(scores) if len(scores) else scores

    def objective(positions):
        with_genre = [mask[index[q]] / mask[index[q]].sum() for q in positions if mask[index[q]].any()]
        q = np.mean(with_genre, axis=0) if with_genre else np.zeros(N_GENRES)
        smoothed = (1 - SMOOTHING) * q + SMOOTHING * p
        kl = sum(p[g] * np.log(p[g] / smoothed[g]) for g in range(N_GENRES) if p[g])
        return (1 - strength) * sum(r[q] for q in positions) - strength * kl

    for place, position in enumerate(chosen):
        before = chosen[:place]
        best = max(objective([*before, other]) for other in range(len(index)) if other not in before)
        assert objective([*before, position]) == pytest.approx(best, abs=1e-4)


@given(candidate_lists(), VECTORS, MASKS, SHARES, LENGTHS)
def test_strength_0_is_the_order_of_the_scores(candidates, vectors, mask, wanted, n):
    index, scores = candidates
    by_score = np.argsort(-scores, kind="stable")[:n].tolist()
    assert diversified(index, scores, vectors, n, 0.0).tolist() == by_score
    assert calibrated(index, scores, mask, wanted, n, 0.0).tolist() == by_score


def test_mmr_takes_one_of_each_pair_of_twins_before_the_other():
    vectors = np.repeat(np.eye(3, dtype=np.float32), 2, axis=0)  # items 0 and 1 are alike, 2 and 3, 4 and 5
    scores = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5], dtype=np.float32)
    assert diversified(np.arange(6), scores, vectors, 6, 0.9).tolist() == [0, 2, 4, 1, 3, 5]


def test_a_calibrated_list_has_the_users_mix():
    mask = np.zeros((20, 2), dtype=np.bool_)
    mask[:10, 0] = mask[10:, 1] = True  # ten dramas of high scores, ten comedies of low ones
    scores = np.linspace(1, 0, 20, dtype=np.float32)
    chosen = calibrated(np.arange(20), scores, mask, np.array([0.7, 0.3]), 10, 0.999)
    assert (chosen >= 10).sum() == 3
    assert calibrated(np.arange(20), scores, mask, np.array([0.7, 0.3]), 10, 0.0).tolist() == list(range(10))


@pytest.mark.parametrize("scores", [[np.nan, 1, 2], [-np.inf, 1, np.nan], [np.inf, np.nan, -np.inf], [3, 3, 3]])
@pytest.mark.parametrize("vectors", [np.zeros((3, 2)), np.full((3, 2), np.nan), np.full((3, 2), 1e30)])
def test_numbers_that_are_none_give_a_list_all_the_same(scores, vectors):
    scores = np.array(scores, dtype=np.float32)
    for strength in (-1.0, 0.5, 7.0):
        found = [
            diversified(np.arange(3), scores, vectors.astype(np.float32), 9, strength),
            calibrated(np.arange(3), scores, np.eye(3, dtype=np.bool_), np.ones(3), 9, strength),
        ]
        assert [sorted(positions.tolist()) for positions in found] == [[0, 1, 2]] * 2


def test_a_score_that_is_no_number_comes_last():
    scores = np.array([np.nan, 1, 2], dtype=np.float32)
    assert diversified(np.arange(3), scores, np.eye(3, dtype=np.float32), 3, 0.5).tolist() == [2, 1, 0]


def test_a_users_genres_are_weighted_by_how_much_an_item_was_liked():
    mask = np.array([[True, False, False], [True, True, False], [False, False, False]])
    found = genre_share(mask, np.array([0, 1, 2, -1]), np.array([1.0, 2.0, 5.0, 9.0], dtype=np.float32))
    # Item 0 is all of the first genre, item 1 half of each of two, item 2 of none, and -1 is not known.
    assert found == pytest.approx([2 / 3, 1 / 3, 0])
    assert genre_share(mask, np.array([2]), np.array([1.0], dtype=np.float32)).tolist() == [0, 0, 0]


@given(st.data(), MASKS, LENGTHS, st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0]))
def test_no_genre_has_more_than_its_share_while_others_are_left(data, mask, n, most):
    index, _ = data.draw(candidate_lists())
    chosen = mixed(index, mask, n, most).tolist()
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(n, len(index))
    cap = max(1, int(most * len(chosen)))
    counts = mask[index[chosen]].sum(axis=0)
    passed_over = [p for p in range(len(index)) if p not in chosen]
    if (counts > cap).any():  # then no candidate that kept within the shares was left
        assert not any((within(mask[index], chosen, p, cap)) for p in passed_over)


def within(mask, chosen, position, cap) -> bool:
    """Whether a candidate's genres all have room beside those of the chosen."""
    counts = mask[chosen].sum(axis=0)
    return bool((counts[mask[position]] + 1 <= cap).all())


def test_a_mix_passes_over_what_is_full_and_keeps_the_order():
    mask = np.zeros((6, 2), dtype=np.bool_)
    mask[:4, 0] = mask[4:, 1] = True
    assert mixed(np.arange(6), mask, 4, 0.5).tolist() == [0, 1, 4, 5]
    assert mixed(np.arange(6), mask, 4, 1.0).tolist() == [0, 1, 2, 3]
    # Four of the first genre and two of the second for six slots: the share of a third yields where it must.
    assert mixed(np.arange(6), mask, 6, 1 / 3).tolist() == [0, 1, 2, 3, 4, 5]


def test_each_genre_may_have_a_share_of_its_own():
    mask = np.zeros((8, 2), dtype=np.bool_)
    mask[:4, 0] = mask[4:, 1] = True
    assert mixed(np.arange(8), mask, 4, np.array([0.25, 1.0])).tolist() == [0, 4, 5, 6]


def test_a_share_that_comes_out_whole_is_not_cut_by_rounding():
    mask = np.ones((100, 1), dtype=np.bool_)
    mask[29:] = False
    assert mixed(np.arange(100), mask, 100, 0.29).tolist() == list(range(100))
    mask[29] = True
    # 0.29 · 100 is below 29 in binary, and the cap is 29 all the same: only the thirtieth is passed over.
    assert mixed(np.arange(99), mask, 98, 29 / 98).tolist() == [*range(29), *range(30, 99)]


def test_what_was_not_chosen_follows_in_its_order():
    assert continued(np.array([3, 0]), 5).tolist() == [3, 0, 1, 2, 4]
    assert continued(np.array([], dtype=np.int64), 2).tolist() == [0, 1]
