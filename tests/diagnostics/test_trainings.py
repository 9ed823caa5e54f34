import dataclasses
import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from configs import defaults
from data.pool import load_pool
from diagnostics import cross_validation, trainings
from diagnostics.scores import by_row
from plumbline import UserError
from trainers.building import make_clock
from trainers.populations.population import Population
from trainers.settings import override

QUICK = {
    "optimizer.learning_rate": 1e-2,
    "train.duration": "40 steps",
    "train.evaluate_every": "10 steps",
    "train.batch_size": 32,
    "model.name": "mlp",
    "model.mlp.hidden_sizes": (16,),
    "population.mode": "map",
}


def make(source, **changes):
    """Config and pool."""
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    config = override(defaults.get_config(), {"data.source": source, **QUICK, **changes})
    return config, load_pool(config.data, seed=0)


def trained(config, pool, **asked):
    plan = trainings.plan(config, pool, **asked)
    population = Population(config, plan.pool, devices=jax.devices()[:2], progress=False)
    outcomes = population.train(plan.members, predict=True)
    return plan, outcomes, plan.gather(outcomes), population


@pytest.fixture(scope="module")
def digits():
    config, pool = make("digits")
    return config, pool, *trained(config, pool, folds=3, seeds=2, sizes=4)


def test_one_program_serves_all_trainings_of_an_audit(digits):
    _, _, plan, _, found, population = digits
    # 3 shuffled and 3 grouped folds, 4 sizes for each of 2 seeds, ten controls, and the one that is watched.
    assert len(plan.members) == len({member.name for member in plan.members}) == 2 * (3 + 3 + 4) + 10 + 1
    assert population.summary["programs"] == 1
    assert found.diverged == []


def test_pruning_and_unfreezing_take_as_many_steps_on_each_part_of_the_rows():
    config, pool = make(
        "digits",
        prune__sparsity=0.5,
        prune__begin="1 epochs",
        prune__end="60 percent",
        prune__every="256 examples",
        train__batch_size=128,
        transfer__unfreeze=(("^head/", "1 epochs"),),
    )
    plan = trainings.plan(config, pool, folds=3, seeds=1, sizes=4)
    sizes = [len(member.train) for member in plan.growing.values()]
    assert len(set(sizes)) == 4
    epoch = make_clock(config, max(sizes)).steps("1 epochs", "prune.begin")
    for member in plan.growing.values():
        own = override(config, member.overrides)
        clock = make_clock(own, len(member.train))
        steps = [clock.steps(own.prune[name], name) for name in ("begin", "end", "every")]
        assert steps == [epoch, 24, 2]
        assert clock.steps(own.transfer.unfreeze[0][1], "unfreeze") == epoch


def test_folds_are_those_of_cross_validation_and_trained_as_long_as_all_rows(digits):
    config, pool, plan, outcomes, found, _ = digits
    for splits, got in zip(plan.folds, (found.out_of_fold, found.grouped), strict=True):
        steps = trainings.in_steps(config, len(pool.splits["train"]))
        members = [
            dataclasses.replace(member, overrides=steps)
            for member in cross_validation.make_members(pool, config, splits)
        ]
        assert [member.digest() for member in members] == [member.digest() for member in plan.folds[splits]]
        expected = cross_validation.gather(pool, splits, members, outcomes)
        np.testing.assert_array_equal(got.predictions, expected.predictions)
    assert [splits.kind for splits in plan.folds] == ["stratified", "group"]
    # Rows with labels at random are in no fold.
    assert found.out_of_fold.rows.max() < len(pool.rows)


def test_points_of_the_curve_are_the_errors_on_the_test_split(digits):
    _, pool, plan, outcomes, found, _ = digits
    test, train = pool.splits["test"], pool.splits["train"]
    assert sorted(set(found.points[:, 0])) == [160, 319, 638, len(train)]
    for (size, seed), error in zip(plan.growing, found.points[:, 1], strict=True):
        outcome = outcomes[f"{size} examples, seed {seed}"]
        if size < len(train):
            assert error == pytest.approx(1 - outcome.metrics["accuracy"], abs=1e-6)
    right = by_row(found.predictions[0][test], pool.labels[test], "classification")
    largest = found.points[found.points[:, 0] == len(train)]
    assert largest[0, 1] == pytest.approx(1 - right.mean())


def test_trainings_on_all_rows_answer_for_all_rows_and_are_followed_on_the_validation_split(digits):
    _, pool, _, _, found, _ = digits
    assert found.predictions.shape == (2, len(pool.rows), 10)
    assert np.isfinite(found.predictions).all()
    assert [line["step"] for line in found.histories[0]] == [10, 20, 30, 40]
    assert [line["step"] for line in found.training_history] == [10, 20, 30, 40]
    losses = [line["loss"] for line in found.training_history]
    assert losses[-1] < 0.8 * losses[0]


def test_parts_are_nested_and_trained_as_long_as_the_whole(digits):
    _, _, plan, outcomes, _, _ = digits
    sizes = [size for size, seed in plan.growing if seed == 1]
    for small, large in itertools.pairwise(sizes):
        assert set(plan.growing[small, 1].train) < set(plan.growing[large, 1].train)
    assert {outcomes[member.name].step for member in plan.growing.values()} == {40}


def test_the_control_learns_random_labels_and_is_judged_by_true_ones(digits):
    _, pool, plan, _, found, _ = digits
    train, control = pool.splits["train"], found.control
    for member, labels in zip(plan.controls, control.labels, strict=True):
        np.testing.assert_array_equal(plan.pool.inputs[member.train], pool.inputs[train])
        assert stats.chisquare(np.bincount(labels, minlength=10)).pvalue > 0.001
        assert (labels != pool.labels[train]).mean() > 0.8
        assert not len(member.validation)
    assert (control.labels[0] != control.labels[1]).any()
    held_out = np.concatenate([pool.splits["validation"], pool.splits["test"]])
    np.testing.assert_array_equal(control.rows, held_out)
    predicted = (control.predictions.argmax(axis=-1) == pool.labels[held_out]).mean()
    # Far below what the same trainings reach on true labels, and about a tenth.
    assert predicted < 0.25 < 0.5 < found.out_of_fold.share(pool)[0]


def test_few_rows_give_no_curve_and_say_so():
    config, pool = make("sklearn:wine", data__test="90 percent", train__duration="5 steps", data__validation="none")
    plan = trainings.plan(config, pool, folds=2, seeds=1, sizes=6)
    assert plan.why_no_curve == "18 training rows are too few for 4 subsets of sufficient size"
    assert [size for size, _ in plan.growing] == [18]


def test_groups_are_left_out_where_there_are_none_or_nobody_asks():
    config, pool = make("sklearn:wine")
    assert [splits.kind for splits in trainings.plan(config, pool).folds] == ["stratified"]
    config, pool = make("digits")
    assert [splits.kind for splits in trainings.plan(config, pool, groups=False).folds] == ["stratified"]


def test_a_class_with_fewer_rows_than_folds_is_refused(tmp_path):
    rows = "".join(f"{n},{'rare' if n < 4 else 'a' if n % 2 else 'b'}\n" for n in range(80))
    (tmp_path / "set.csv").write_text("x,label\n" + rows)
    config, pool = make(f"csv:{tmp_path}/set.csv", data__target="label", data__validation="none")
    with pytest.raises(UserError, match="--folds: 5 given, but class 'rare' has "):
        trainings.plan(config, pool)


def test_what_diverges_is_named_and_has_no_predictions():
    config, pool = make("sklearn:wine", optimizer__name="sgd", optimizer__learning_rate=1e30, train__max_skipped=2)
    _, _, found, _ = trained(config, pool, folds=2, seeds=1, sizes=4)
    assert "labels at random, seed 0" in found.diverged
    assert len(found.finished) == 0
    assert found.curve is None
    assert found.why_no_curve == "too many trainings diverged"


def test_labels_at_random_are_of_no_rare_class():
    random = np.random.default_rng(0)
    rare = np.repeat(np.arange(3, dtype=np.int32), [900, 90, 10])
    drawn = trainings.random_labels(rare, 3, random)
    assert drawn.dtype == rare.dtype
    assert stats.chisquare(np.bincount(drawn)).pvalue > 0.001
    values = random.normal(size=50).astype(np.float32)
    permuted = trainings.random_labels(values, 0, random)
    np.testing.assert_array_equal(np.sort(permuted), np.sort(values))
    assert (permuted != values).any()
