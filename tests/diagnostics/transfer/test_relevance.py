"""What is made of scores: the layer that counts, where to cut, and what the verdict says, on scores set by hand."""

import numpy as np
import pytest
from scipy import stats

from diagnostics.transfer import relevance
from diagnostics.transfer.relevance import Candidate, Layer

WOBBLE = np.array([0.01, -0.01, 0.0, 0.005, -0.005])


def candidate(name, kind, *levels, random="", wobble=WOBBLE):
    layers = tuple(
        Layer(name=f"blocks/{number}", size=8, probe=level + wobble * (1 + number))
        for number, level in enumerate(levels)
    )
    return Candidate(name=name, kind=kind, layers=layers, overlap=0.25, random=random)


def candidates(source, random=0.6, simple=0.7, other=None, wobble=WOBBLE):
    found = [candidate("A", "source", *source, random="random vit", wobble=wobble)]
    if other is not None:
        found.append(candidate("B", "source", other, random="random vit", wobble=-wobble))
    found.append(candidate("random vit", "random", random, wobble=-wobble))
    return [*found, candidate("raw", "simple", simple, wobble=wobble[::-1])]


def test_a_candidate_is_judged_on_each_fold_by_the_layer_the_others_chose():
    # On the first fold the second layer shines, on the others the first one.
    first, second = np.array([0.5, 0.8, 0.8, 0.8, 0.8]), np.array([0.99, 0.7, 0.7, 0.7, 0.7])
    layers = tuple(Layer(name=name, size=1, probe=probe) for name, probe in (("one", first), ("two", second)))
    found = Candidate(name="A", kind="source", layers=layers, overlap=0.25)
    assert found.best.name == "two"
    # Each fold has no part in the choice: the first is judged by "one"; without another, "two" is ahead in the mean.
    others = [np.delete(np.stack([first, second]), fold, axis=1).mean(axis=1).argmax() for fold in range(5)]
    assert others == [0, 1, 1, 1, 1]
    np.testing.assert_array_equal(found.values(), [0.5, 0.7, 0.7, 0.7, 0.7])


def test_the_best_of_many_layers_of_noise_does_not_look_better_than_noise():
    generator = np.random.default_rng(0)
    gaps = []
    for _ in range(300):
        layers = tuple(Layer(name=str(n), size=1, probe=generator.normal(0.5, 0.02, 5)) for n in range(12))
        found = Candidate(name="A", kind="source", layers=layers, overlap=0.25)
        gaps.append([found.best.probe.mean() - 0.5, found.values().mean() - 0.5])
    chosen, nested = np.mean(gaps, axis=0)
    assert chosen > 0.01
    assert abs(nested) < 0.002


def test_the_cut_is_the_earliest_layer_within_one_standard_error():
    flat = np.full(5, 0.9)
    behind = np.array([0.02, 0.0, 0.02, 0.0, 0.01])
    error = behind.std(ddof=1) * np.sqrt(1 / 5 + 0.25)
    for shift, cut in ((error - behind.mean() - 1e-6, "middle"), (error - behind.mean() + 1e-6, "last")):
        layers = tuple(
            Layer(name=name, size=1, probe=probe)
            for name, probe in (("first", flat - 0.2), ("middle", flat - behind - shift), ("last", flat))
        )
        found = Candidate(name="A", kind="source", layers=layers, overlap=0.25)
        assert (found.best.name, found.cut.name) == ("last", cut)


def test_the_source_ahead_is_taken_with_the_interval_of_folds():
    verdict = relevance.judge(candidates([0.7, 0.9], other=0.8), "classification")
    assert (verdict.take, verdict.layer, verdict.cut) == ("A", "blocks/1", "blocks/1")
    assert verdict.lines[0].startswith(
        "Use A: it is ahead of B, the next best source, by 10 points of accuracy (95 %: "
    )
    differences = 0.9 + 2 * WOBBLE - (0.8 - WOBBLE)
    error = differences.std(ddof=1) * np.sqrt(1 / 5 + 1 / 4)
    expected = differences.mean() - stats.t.ppf(0.975, 4) * error
    assert verdict.differences["B"] == pytest.approx((differences.mean(), expected, 2 * differences.mean() - expected))
    assert set(verdict.differences) == {"B", "random vit", "raw"}
    assert verdict.warnings == ()


def test_sources_that_the_rows_cannot_separate_are_reported_so():
    verdict = relevance.judge(candidates([0.9], other=0.895), "classification")
    assert "an interval that contains 0: these rows cannot separate them" in verdict.lines[0]


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"source": [0.5], "simple": 0.4}, ["A is worse than random initialisation"]),
        ({"source": [0.602], "simple": 0.4}, ["A is not shown to be better than random initialisation"]),
        ({"source": [0.65]}, ["raw beats A by 5 points of accuracy (95 %: "]),
        (
            {"source": [0.702]},
            ["A is not shown to be better than raw: the difference is 0.2 points of accuracy (95 %:"],
        ),
        ({"source": [0.5]}, ["A is worse than random", "raw beats A by 20 points of accuracy"]),
        ({"source": [0.9]}, []),
    ],
)
def test_pretraining_that_does_not_help_is_warned_of(figures, said):
    warnings = relevance.judge(candidates(**figures), "classification").warnings
    assert len(warnings) == len(said)
    for warning, beginning in zip(warnings, said, strict=True):
        assert warning.startswith(beginning)
        if "beats" in beginning:
            assert "the simple baseline is better than the frozen encoder" in warning


def test_of_a_single_source_the_lead_over_its_untrained_model_is_told():
    (line, cut) = relevance.judge(candidates([0.7, 0.9, 0.85]), "classification").lines
    assert line.startswith("A is the only source; its lead over the same model untrained is 30 points of ")
    assert cut == "Its best layer is blocks/1, and no earlier one comes within one standard error of it."


def test_two_folds_give_no_interval_and_prove_nothing():
    verdict = relevance.judge(candidates([0.9], other=0.5, wobble=WOBBLE[:2]), "regression")
    assert "without an interval, which needs 3 folds" in verdict.lines[0]
    assert "of R2" in verdict.lines[0]
    assert len(verdict.warnings) == 4
    assert all("is not shown to be better" in warning for warning in verdict.warnings)


@pytest.mark.parametrize("limit", [0, 20, 33, 1000])
def test_a_sample_has_the_classes_in_their_shares(limit):
    labels = np.repeat([0, 1, 2], [100, 60, 40]).astype(np.int32)
    rows = relevance.sample(labels, limit, "classification", seed=3)
    count = limit if 0 < limit < 200 else 200
    assert len(np.unique(rows)) == len(rows) == count
    assert (np.diff(rows) > 0).all()
    np.testing.assert_allclose(np.bincount(labels[rows]), np.array([100, 60, 40]) * count / 200, atol=1)
    again, other = (relevance.sample(labels, limit, "classification", seed=seed) for seed in (3, 4))
    np.testing.assert_array_equal(rows, again)
    assert np.array_equal(rows, other) == (count == 200)
    assert len(relevance.sample(labels.astype(np.float32), limit, "regression", seed=3)) == count


def test_a_source_that_is_one_more_random_draw_is_not_said_to_be_worse():
    """Its weights differ from the mean of the others on every fold, but no more than they do from each other."""
    draws = np.array([0.60, 0.64, 0.58, 0.62, 0.66])[:, None] + WOBBLE
    layer = Layer(name="features", size=1, probe=draws.mean(axis=0))
    random = Candidate(name="random vit", kind="random", layers=(layer,), overlap=0.25, draws=draws)
    for level, worse in ((0.57, False), (0.4, True)):
        source = candidate("A", "source", level, random="random vit", wobble=WOBBLE[::-1])
        _, low, high = relevance.difference(source, random, "classification")
        assert (high < 0) == worse
        assert low < high
    # With the mean of the draws taken as known, either is.
    source = candidate("A", "source", 0.57, wobble=WOBBLE[::-1])
    assert stats.ttest_rel(source.values(), draws.mean(axis=0)).pvalue < 0.01
    assert relevance.score(random, "classification")[0] == pytest.approx(0.62)
