"""Co-clustering against the textbook's loop."""

import numpy as np
import pytest

from matinee.models.co_clustering import CoClustering, CoClusteringParams


def plain_averages(rows, cu, ci, shape):
    mean = np.mean([r for _, _, r in rows])

    def average(chosen):
        return np.mean(chosen) if chosen else mean

    return (
        [average([r for u, _, r in rows if cu[u] == c]) for c in range(shape[0])],
        [average([r for _, i, r in rows if ci[i] == d]) for d in range(shape[1])],
        [[average([r for u, i, r in rows if (cu[u], ci[i]) == (c, d)]) for d in range(shape[1])]
         for c in range(shape[0])],
    )  # fmt: skip


def plain_scores(data, shape, n_epochs, seed):
    rows = list(zip(data.user_index.tolist(), data.item_index.tolist(), data.rating.tolist(), strict=True))
    rng = np.random.default_rng(seed)
    cu = rng.integers(shape[0], size=data.n_users, dtype=np.int32)
    ci = rng.integers(shape[1], size=data.n_items, dtype=np.int32)
    mu = {u: np.mean([r for user, _, r in rows if user == u]) for u, _, _ in rows}
    mi = {i: np.mean([r for _, item, r in rows if item == i]) for _, i, _ in rows}

    def estimate(u, i, c, d, averages):
        au, ai, both = averages
        return both[c][d] + mu[u] - au[c] + mi[i] - ai[d]

    for _ in range(n_epochs):
        now = plain_averages(rows, cu, ci, shape)
        for u in mu:
            own = [(i, r) for user, i, r in rows if user == u]
            cu[u] = np.argmin(
                [sum((r - estimate(u, i, c, ci[i], now)) ** 2 for i, r in own) for c in range(shape[0])]
            )
        for i in mi:
            own = [(u, r) for u, item, r in rows if item == i]
            ci[i] = np.argmin(
                [sum((r - estimate(u, i, cu[u], d, now)) ** 2 for u, r in own) for d in range(shape[1])]
            )
    scores = np.full((data.n_users, data.n_items), np.mean([r for _, _, r in rows]))
    last = plain_averages(rows, cu, ci, shape)
    for u in mu:
        for i in mi:
            scores[u, i] = estimate(u, i, cu[u], ci[i], last)
    return scores


@pytest.mark.parametrize(("shape", "n_epochs"), [((3, 3), 0), ((3, 3), 1), ((3, 2), 4), ((1, 4), 2), ((5, 7), 2)])
def test_scores_are_those_of_the_formula(shape, n_epochs, mixed):
    model = CoClustering(n_cltr_u=shape[0], n_cltr_i=shape[1], n_epochs=n_epochs).fit(mixed, seed=6)
    scores = model.scores(np.arange(mixed.n_users, dtype=np.int32))
    np.testing.assert_allclose(scores, plain_scores(mixed.rated(), shape, n_epochs, 6), rtol=1e-5)


def test_one_cluster_is_what_users_and_items_average(build):
    """C̄_ui = C̄_u = C̄_i = μ = 3, so r̂ = μ_u + μ_i − 3."""
    model = CoClustering(n_cltr_u=1, n_cltr_i=1).fit(
        build([(0, 0, 1.0), (0, 1, 4.0), (1, 0, 2.0), (1, 1, 5.0)], 2, 2)
    )
    scores = model.scores(np.arange(2, dtype=np.int32))
    np.testing.assert_allclose(scores, [[2.5 + 1.5 - 3, 2.5 + 4.5 - 3], [3.5 + 1.5 - 3, 3.5 + 4.5 - 3]], rtol=1e-6)


def test_users_of_one_group_share_a_cluster(planted):
    cluster = CoClustering(n_cltr_u=2, n_cltr_i=2).fit(planted).state()["user_cluster"]
    assert (cluster == cluster[np.arange(planted.n_users) % 2]).all()
    assert cluster[0] != cluster[1]


def test_what_is_unknown_gets_the_mean_of_all(mixed):
    u, i = np.array([-1, 0, 9, 9, -1], dtype=np.int32), np.array([9, 9, -1, 0, -1], dtype=np.int32)
    predicted = CoClustering().fit(mixed).predict(u, i)
    np.testing.assert_array_equal(predicted, mixed.rated().rating.mean(dtype=np.float64).astype(np.float32))


def test_defaults_are_surprises():
    assert CoClusteringParams().model_dump() == {"n_cltr_u": 3, "n_cltr_i": 3, "n_epochs": 20}
