import numpy as np
import pytest
from scipy import stats

from configs import digits_mlp, digits_resnet, digits_vit
from data.pool import load_pool
from diagnostics import ablation
from diagnostics.crossed import crossed_interval
from plumbline import UserError
from trainers.populations.members import Outcome

CONFIG = digits_mlp.get_config()
VARIANTS = {"baseline": {}, "plain": {"optimizer.weight_decay": 0.0}}
SEEDS = range(4)
ACCURACIES = {"baseline": [0.90, 0.92, 0.91, 0.93], "plain": [0.89, 0.90, 0.90, 0.91]}


def outcomes(accuracies=ACCURACIES, diverged=()):
    found = {}
    for variant, values in accuracies.items():
        for seed, value in enumerate(values):
            name = f"{variant}, seed {seed}"
            metrics = {} if name in diverged else {"accuracy": value, "accuracy/class/3": 0.5}
            found[name] = Outcome(
                name=name, status="done", step=1, total_steps=1, best_step=1, metrics=metrics, history=[], parameters=9
            )
    return found


def table(**options):
    return ablation.rows(VARIANTS, SEEDS, outcomes(**options), "accuracy", higher_is_better=True, judged=None)


def test_differences_are_paired_by_seed():
    baseline, plain = table()
    assert baseline.difference is None
    expected = stats.ttest_rel(ACCURACIES["plain"], ACCURACIES["baseline"]).confidence_interval()
    assert plain.difference == pytest.approx((-0.015, expected.low, expected.high))
    expected = stats.ttest_1samp(ACCURACIES["plain"], 0).confidence_interval()
    assert plain.mean == pytest.approx((0.9, expected.low, expected.high))
    assert plain.verdict == "worse"
    assert (baseline.verdict, plain.changes) == ("", "optimizer.weight_decay = 0.0")


def test_the_verdict_knows_the_metrics_direction_and_what_is_unclear():
    found = ablation.rows(VARIANTS, SEEDS, outcomes(), "accuracy", higher_is_better=False, judged=None)
    assert found[1].verdict == "better"
    assert table(accuracies=ACCURACIES | {"plain": [0.95, 0.90, 0.90, 0.92]})[1].verdict == "unclear"
    assert table(accuracies=ACCURACIES | {"plain": ACCURACIES["baseline"]})[1].verdict == "the same"
    level = table(accuracies={"baseline": [0.5] * 4, "plain": [0.25] * 4})[1]
    assert (level.verdict, level.difference) == ("unclear", (-0.25, -0.25, -0.25))


def trained(right, name, validation=0.9):
    """The outcome of a training that is right on some rows of class 1 of two."""
    predictions = np.stack([1 - right, right], axis=1).astype(np.float32)
    return Outcome(
        name=name, status="done", step=9, total_steps=9, best_step=6, metrics={"accuracy": float(right.mean())},
        history=[{"step": 3.0, "accuracy": 0.1}, {"step": 6.0, "accuracy": validation}], parameters=9,
        predictions=predictions,
    )  # fmt: skip


def test_a_difference_on_every_seed_that_other_rows_may_reverse_is_unclear():
    """On 30 rows, one that is always predicted better says nothing of other rows, however many seeds agree."""
    right = {"baseline": np.r_[np.zeros(5), np.ones(25)], "plain": np.r_[np.ones(1), np.zeros(4), np.ones(25)]}
    found = {f"{name}, seed {seed}": trained(right[name], name) for name in VARIANTS for seed in SEEDS}
    found["plain, seed 0"] = trained(np.r_[np.ones(2), np.zeros(3), np.ones(25)], "plain")
    rows = ablation.JudgedRows(labels=np.ones(30, int), weights=np.ones(30), groups=None, task="classification")
    alone, crossed = (
        ablation.rows(VARIANTS, SEEDS, found, "accuracy", higher_is_better=True, judged=judged)[1]
        for judged in (None, rows)
    )
    assert (alone.verdict, crossed.verdict) == ("better", "unclear")
    assert crossed.difference[0] == pytest.approx(alone.difference[0])
    assert crossed.difference == pytest.approx(
        crossed_interval(np.stack([right["plain"] - right["baseline"]] * 4) + np.eye(4, 30, 1) * [[1], [0], [0], [0]],
                         np.ones(30))
    )  # fmt: skip


def test_the_variant_is_chosen_by_its_validation_rows():
    right = np.ones(4)
    found = {
        f"{name}, seed {seed}": trained(right, name, value + 0.001 * seed)
        for name, value in (("baseline", 0.8), ("plain", 0.85))
        for seed in SEEDS
    }
    for higher, name in ((True, "plain"), (False, "baseline")):
        rows = ablation.rows(VARIANTS, SEEDS, found, "accuracy", higher_is_better=higher, judged=None)
        assert ablation.chosen(rows).name == name
    assert rows[1].validation == pytest.approx(0.8515)
    assert ablation.chosen(table()) is None


def test_a_seed_that_diverged_is_left_out_of_its_pair_and_shown():
    plain = table(diverged=("plain, seed 2",))[1]
    expected = stats.ttest_rel([0.89, 0.90, 0.91], [0.90, 0.92, 0.93]).confidence_interval()
    assert plain.difference[1:] == pytest.approx((expected.low, expected.high))
    assert plain.diverged == (2,)
    assert ablation.cells(plain)[-1] == "1 of 4 diverged"
    lone = table(diverged=tuple(f"plain, seed {seed}" for seed in SEEDS))[1]
    assert ablation.cells(lone)[2:6] == ["-", "-", "-", "-"]
    assert np.isnan(lone.mean[0])


def test_the_table_is_markdown():
    text = ablation.markdown(ablation.header("accuracy", VARIANTS), [ablation.cells(row) for row in table()])
    lines = text.splitlines()
    assert lines[0].startswith("| variant | changes | accuracy |")
    assert {line.count("|") for line in lines} == {8}
    assert "| plain | `optimizer.weight_decay = 0.0` | 0.9000 |" in lines[3]
    assert "| -0.0150 | -0.0242 to -0.0058 | worse |" in lines[3]


def test_all_variants_are_trained_on_the_same_rows_and_seeds():
    pool = load_pool(CONFIG.data, seed=0)
    members = ablation.make_members(pool, VARIANTS, SEEDS)
    assert [(member.name, member.seed) for member in members[3:5]] == [("baseline, seed 3", 3), ("plain, seed 0", 0)]
    for member in members:
        for rows, split in ((member.train, "train"), (member.validation, "validation"), (member.held_out, "test")):
            np.testing.assert_array_equal(rows, pool.splits[split])
    assert len({member.name for member in members}) == 8


@pytest.mark.parametrize("config", [digits_mlp, digits_resnet, digits_vit])
def test_shipped_ablations_fit_their_configs_and_change_something(config):
    base = config.get_config()
    variants = ablation.check(config.ablations(), base)
    flat = base.to_dict()
    for name, overrides in variants.items():
        for path, value in overrides.items():
            section = flat
            for key in path.split("."):
                section = section[key]
            assert section != value, f"{name} leaves {path} as it is"
        assert bool(overrides) == (name != "baseline")


@pytest.mark.parametrize(
    ("ablations", "message"),
    [
        ([{}], "it must return a dict from a variant's name to a dict"),
        ({"baseline": {}, "x": 3}, "it must return a dict from a variant's name to a dict"),
        ({"x": {}}, "no 'baseline' among its variants; add 'baseline': {}"),
        ({"basline": {}, "x": {}}, "no 'baseline' among its variants; rename 'basline', or add"),
        ({"baseline": {}, "x": {"ema_decay": 0.0}}, "'x': .*did you mean 'train.ema_decay'.* and [0-9]+ others$"),
        ({"baseline": {}}, "nothing but the baseline; add a variant"),
        ({"baseline": {}, "x": {"optimizer.lerning_rate": 1}}, "'x': .*did you mean 'optimizer.learning_rate'"),
        ({"baseline": {}, "x": {"train.batch_size": 2.5}}, "'x': train.batch_size: 2.5 is not a whole number"),
        ({"baseline": {}, "x": {"data.source": "digits"}}, "'x': data.source: cannot differ between the trainings"),
    ],
)
def test_ablations_that_make_no_sense_are_told(ablations, message):
    with pytest.raises(UserError, match=rf"^ablations\(\): {message}"):
        ablation.check(ablations, CONFIG)


def test_intervals_end_where_the_metric_does():
    baseline, plain = table(accuracies={"baseline": [0.99, 1.0, 0.97, 1.0], "plain": [0.0, 0.03, 0.0, 0.05]})
    assert baseline.mean[2] == 1
    assert plain.mean[1] == 0
    assert plain.difference[1] >= -1
    assert plain.verdict == "worse"


def test_the_baseline_comes_first():
    assert list(ablation.check({"x": {}, "baseline": {}}, CONFIG)) == ["baseline", "x"]
