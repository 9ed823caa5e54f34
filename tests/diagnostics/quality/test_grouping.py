import jax
import numpy as np
import pytest

from configs import defaults, digits_mlp
from data.pool import load_pool
from diagnostics import cross_validation
from diagnostics.cross_validation import OutOfFold, Splits
from diagnostics.examples import open_examples
from diagnostics.material import Material
from diagnostics.quality import grouped_optimism, shared_groups
from trainers.populations.population import Population
from trainers.settings import override


def table(path, sites):
    """A table whose rows are of these sites, three of each."""
    rows = [f"{number},{'ab'[number % 2]},{site}" for number, site in enumerate([*sites] * 4)]
    path.write_text("\n".join(["x,label,site", *rows]) + "\n")
    return path


def examples_of(folder, train, test, **changes):
    config = defaults.get_config().data
    config.source, config.test = f"csv:{table(folder / 'train.csv', train)}", str(table(folder / "test.csv", test))
    config.target, config.group = "label", "site"
    config.update({"validation": "none", **changes})
    return open_examples(config, seed=0)


def made_up(examples, right, kind="stratified"):
    """Out-of-fold predictions that are right for these rows (n,) of all but the test."""
    rows = np.flatnonzero(examples.split != "test")
    labels, classes = examples.labels[rows], examples.features.num_outputs
    answers = np.where(right, labels, (labels + 1) % classes)
    return OutOfFold(
        splits=Splits(kind=kind, count=2, seeds=(0,)),
        rows=rows,
        fold=np.zeros((1, len(rows)), np.int32),
        predictions=np.eye(classes, dtype=np.float32)[answers][None],
        metrics=[],
        diverged=[],
    )


def find(examples):
    """What is found without trainings: shared groups, and optimism."""
    material = Material(config=defaults.get_config(), examples=examples)
    return [*shared_groups.find(material), *grouped_optimism.find(material)]


@pytest.fixture(scope="module")
def digits():
    return open_examples(digits_mlp.get_config().data, seed=0)


def test_a_set_without_groups_cannot_be_judged():
    config = defaults.get_config().data
    config.source = "sklearn:wine"
    found = find(open_examples(config, seed=0))
    assert [finding.name for finding in found] == ["shared_groups", "grouped_optimism"]
    assert {finding.severity for finding in found} == {"unknown"}
    assert all("the set has no groups" in finding.message and "data.group" in finding.message for finding in found)


def test_groups_of_the_test_that_are_trained_on_are_severe(tmp_path):
    examples = examples_of(tmp_path, train="abcdefgh", test="ghijk")
    shared, optimism = find(examples)
    assert (shared.name, shared.severity) == ("shared_groups", "high")
    assert "2 groups of the 5 in the test have rows in training or validation too: 40.0% of the test" in shared.message
    # The copies in training go, those in the test stay.
    assert {examples.features.group_names[group] for group in examples.groups[shared.drop]} == {"g", "h"}
    assert set(examples.split[shared.drop]) == {"train"}
    assert len(shared.drop) == 8
    assert shared.remedies[0].overrides == {"data.drop": "findings:shared_groups"}
    assert shared.remedies[1].overrides == {"data.test": "20 percent"}
    counts, rows = shared.evidence
    assert counts.rows == (("g", 4, 4), ("h", 4, 4))
    assert [tuple(examples.split[list(cluster)]) for cluster in rows.clusters] == [("train", "test")] * 2
    assert "no models were trained with shuffled rows held out" in optimism.message


def test_rows_are_not_dropped_where_too_few_would_be_left(tmp_path):
    (shared, _) = find(examples_of(tmp_path, train="abcd", test="abc"))
    assert shared.severity == "high"
    assert shared.drop is None
    assert [remedy.overrides for remedy in shared.remedies] == [{"data.test": "20 percent"}]


def test_whole_groups_in_each_split_are_sound(tmp_path, digits):
    (shared, _) = find(examples_of(tmp_path, train="abcd", test="ef"))
    assert (shared.severity, shared.remedies, shared.evidence) == ("none", (), ())
    assert "No group has rows in more than one split: none of the 2" in shared.message
    assert find(digits)[0].severity == "none"


def test_a_validation_that_shares_groups_is_told_apart_from_a_test_that_does(tmp_path):
    examples = examples_of(tmp_path, train="abcdefgh", test="ij")
    train = examples.splits["train"]
    kept = np.arange(len(train)) > 1
    for name, rows in (("validation", np.flatnonzero(~kept)), ("train", np.flatnonzero(kept))):
        examples.splits[name] = type(train)(
            labels=train.labels[rows],
            groups=train.groups[rows],
            weights=train.weights[rows],
            rows=train.rows[rows],
            reader=type(train.reader)(train.read(np.arange(len(train))), rows),
        )
    (shared, _) = find(examples)
    assert shared.severity == "medium"
    assert "2 groups have rows in training and in validation" in shared.message
    assert shared.remedies[0].overrides == {"data.validation": "10 percent"}
    assert shared.drop is None


def test_optimism_is_that_of_cross_validation(digits):
    number = np.arange(1415)
    shuffled = made_up(digits, right=number % 10 > 0)
    grouped = made_up(digits, right=number % 10 > 1, kind="group")
    finding = grouped_optimism.judge(digits, shuffled, grouped)
    pool = load_pool(digits_mlp.get_config().data, seed=0)
    expected = cross_validation.optimism(pool, shuffled, grouped)
    measure = finding.measures[0]
    assert (measure.value, measure.low, measure.high) == pytest.approx(expected)
    assert finding.severity == "high"
    assert "LEAKAGE: shuffled folds look better by" in finding.message
    assert [measure.value for measure in finding.measures[1:3]] == pytest.approx([0.9, 0.8], abs=0.001)
    assert len(finding.evidence[0].rows) == 11
    none = grouped_optimism.judge(digits, shuffled, shuffled)
    assert (none.severity, none.remedies) == ("none", ())
    unknown = grouped_optimism.judge(digits, shuffled, None)
    assert unknown.severity == "unknown"
    assert "whole groups" in unknown.message


def test_rows_that_were_not_predicted_both_ways_cannot_be_judged(digits):
    shuffled, grouped = made_up(digits, right=np.ones(1415, bool)), made_up(digits, right=np.ones(1415, bool))
    grouped.predictions[:] = np.nan
    finding = grouped_optimism.judge(digits, shuffled, grouped)
    assert finding.severity == "unknown"
    assert "no row was predicted by both" in finding.message


@pytest.mark.slow
def test_shuffled_folds_of_the_digits_are_three_to_four_points_too_good(digits):
    config = override(digits_mlp.get_config(), {"population.mode": "map"})
    pool = load_pool(config.data, seed=0)
    population = Population(config, pool, devices=jax.devices()[:2], progress=False)
    found = []
    for kind in ("stratified", "leave_one_group_out"):
        splits = Splits(kind=kind, count=10, seeds=(0, 1))
        members = cross_validation.make_members(pool, config, splits)
        found.append(cross_validation.gather(pool, splits, members, population.train(members, predict=True)))
    finding = grouped_optimism.judge(digits, *found)
    assert finding.severity == "high"
    assert 0.025 < finding.measures[0].value < 0.05
    assert finding.measures[0].low > 0
