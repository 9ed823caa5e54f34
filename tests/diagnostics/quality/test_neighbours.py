import jax
import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.neighbors import NearestNeighbors

from diagnostics.quality import neighbours
from diagnostics.quality.blocks import METRICS
from diagnostics.quality.chance import estimate_chance_distance
from diagnostics.quality.graphs import find_clusters
from diagnostics.quality.near_search import find_pairs_within
from diagnostics.quality.neighbours import find_nearest


def drawn(rows, columns=12, seed=0):
    return np.random.default_rng(seed).normal(3, 1, (rows, columns)).astype(np.float32)


def brute(vectors, threshold, metric="euclidean"):
    """All pairs within a distance, by scipy."""
    one, other = np.triu_indices(len(vectors), 1)
    near = pdist(vectors.astype(np.float64), metric) <= threshold
    return set(zip(one[near].tolist(), other[near].tolist(), strict=True))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 7, 40])
def test_the_nearest_are_those_of_scikit_learns_brute_force(metric, k):
    queries, corpus = drawn(300), drawn(700, seed=1)
    expected, rows = NearestNeighbors(n_neighbors=k, algorithm="brute", metric=metric).fit(corpus).kneighbors(queries)
    distances, indices = find_nearest(queries, corpus, k, metric=metric, block=256)
    np.testing.assert_allclose(distances, expected, rtol=1e-4, atol=1e-6)
    assert (indices == rows).mean() > 0.999


def test_blocks_and_devices_do_not_change_what_is_nearest(monkeypatch):
    vectors = drawn(500)
    whole = find_nearest(vectors, vectors, 5, own=np.arange(500), devices=jax.devices()[:1])
    monkeypatch.setattr(neighbours, "_QUERIES", 64)
    parts = find_nearest(vectors, vectors, 5, own=np.arange(500), block=128)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_row_is_not_its_own_neighbour_but_its_copy_is():
    vectors = np.concatenate([drawn(50), drawn(50)])
    distances, indices = find_nearest(vectors, vectors, 1, own=np.arange(100))
    np.testing.assert_array_equal(indices[:, 0], (np.arange(100) + 50) % 100)
    np.testing.assert_array_equal(distances, 0)


def test_a_row_among_more_copies_than_are_sought_is_not_its_own_neighbour():
    _, indices = find_nearest(np.ones((9, 3)), np.ones((9, 3)), 2, own=np.arange(9))
    assert (indices != np.arange(9)[:, None]).all()


@pytest.mark.parametrize(("metric", "threshold"), [("euclidean", 3.0), ("cosine", 0.03)])
def test_pairs_are_those_of_scipy_in_leaves_as_in_one_block(metric, threshold):
    vectors = drawn(600)
    expected = brute(vectors, threshold, metric)
    assert len(expected) > 100
    for leaf in (1000, 50):
        pairs, distances = find_pairs_within(vectors, threshold, metric=metric, leaf=leaf)
        assert set(map(tuple, pairs.tolist())) == expected
        assert (np.diff(distances) >= 0).all()
        assert len(pairs) == len(expected)


def test_pairs_with_others_are_those_of_scikit_learn():
    vectors, others = drawn(300), drawn(400, seed=1)
    near = NearestNeighbors(algorithm="brute").fit(others).radius_neighbors(vectors, 3.0, return_distance=False)
    expected = {(row, int(other)) for row, found in enumerate(near) for other in found}
    pairs, _ = find_pairs_within(vectors, 3.0, others=others, leaf=60)
    assert set(map(tuple, pairs.tolist())) == expected


def test_of_more_pairs_than_are_kept_the_nearest_stay():
    vectors = drawn(400)
    whole, _ = find_pairs_within(vectors, 4.0)
    assert len(whole) > 1000
    kept, _ = find_pairs_within(vectors, 4.0, most=100, leaf=50)
    np.testing.assert_array_equal(kept, whole[:100])


def test_rows_of_zeros_have_no_direction():
    vectors = np.concatenate([np.zeros((3, 4)), np.ones((2, 4))])
    pairs, _ = find_pairs_within(vectors, 0.5, metric="cosine")
    np.testing.assert_array_equal(pairs, [[3, 4]])
    distances, _ = find_nearest(vectors[:1], vectors[3:], 1, metric="cosine")
    assert distances[0, 0] == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: find_nearest(drawn(3), drawn(3, 5), 1), "12 columns, the corpus 5"),
        (lambda: find_nearest(drawn(3), drawn(3), 3, own=np.arange(3)), "3 neighbours of 3 rows"),
        (lambda: find_nearest(drawn(3) * np.nan, drawn(3), 1), "finite"),
        (lambda: find_pairs_within(drawn(3), 1.0, metric="cosine"), "threshold 1"),
        (lambda: find_pairs_within(drawn(3), 1.0, metric="manhattan"), "metric 'manhattan'; known: euclidean, cosine"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("copies", [0, 150])
def test_chance_is_what_the_nearest_of_other_draws_is_like_with_and_without_copies(copies):
    truth = []
    for seed in range(20):
        vectors = drawn(1000, 5, seed)
        truth.append(find_nearest(vectors, vectors, 1, own=np.arange(1000))[0].min())
    vectors = drawn(1000, 5, 100)
    vectors = np.concatenate([vectors, vectors[:copies] + 1e-3])
    distances, _ = find_nearest(vectors, vectors, 2, own=np.arange(len(vectors)))
    # The median over draws is the distance at which ln 2 pairs, and so 2 ln 2 rows, are expected.
    chance = estimate_chance_distance(distances, len(vectors), expected=2 * np.log(2))
    assert 0.6 < chance / np.median(truth) < 1.6


def test_too_few_rows_tell_nothing_of_chance():
    assert estimate_chance_distance(np.ones((5, 2)), 5) == np.inf


def test_a_chain_of_pairs_is_a_cluster():
    found = find_clusters(np.array([[7, 9], [1, 4], [9, 12], [4, 30]]))
    assert [own.tolist() for own in found] == [[1, 4, 30], [7, 9, 12]]
    assert find_clusters(np.zeros((0, 2), np.int64)) == []
