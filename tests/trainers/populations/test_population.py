import csv
import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest

from configs import defaults
from data import preprocessing
from data.pool import load_pool
from plumbline import UserError
from trainers.populations import population_file
from trainers.populations.population import _ADDED_SINCE, _COULD_NOT_CHANGE, Member, Population, train_population
from trainers.run import progress
from trainers.run.directory import RunDirectory
from trainers.run.identity import defining_fields
from trainers.run.inference import FinishedRun
from trainers.run.loop import train
from trainers.settings import fields, override

MODES = ("loop", "map", "vmap")
# Steps of the slower models.
FEW_STEPS = {"train.duration": "60 steps", "train.evaluate_every": "20 steps", "train.log_every": "20 steps"}
FAMILIES = {
    "mlp": {"model.name": "mlp", "model.mlp.hidden_sizes": (32, 32), "model.dropout": 0.1, "train.ema_decay": 0.9},
    # Small steps: large ones make much of rounding.
    "resnet": {
        "model.name": "resnet",
        "model.resnet.depth": 10,
        "model.resnet.width": 4,
        "augment.shift": 1,
        "optimizer.name": "sgd",
        **FEW_STEPS,
    },
    "vit": {
        **FEW_STEPS,
        "model.name": "vit",
        "model.vit.patch_size": 2,
        "model.vit.width": 16,
        "model.vit.depth": 2,
        "model.vit.heads": 2,
        "model.vit.mlp_size": 32,
        "augment.mixup": 0.2,
    },
}


def make_config(family="mlp", **changes):
    config = defaults.get_config()
    fields = {
        "data.source": "digits",
        "train.duration": "200 steps",
        "train.batch_size": 32,
        "train.evaluate_every": "50 steps",
        "train.log_every": "50 steps",
        "train.best_metric": "loss",
        "train.tensorboard": False,
        "execution.mode": "loop",
        "population.mode": "map",
        "population.lanes": 4,
    }
    return override(config, fields | FAMILIES[family] | {k.replace("__", "."): v for k, v in changes.items()})


@pytest.fixture(scope="module")
def pool():
    return load_pool(make_config().data, seed=0)


def member(pool, name, *, seed=0, **overrides):
    overrides = {path.replace("__", "."): value for path, value in overrides.items()}
    parts = pool.splits
    return Member(
        name=name,
        overrides=overrides,
        seed=seed,
        train=parts["train"],
        validation=parts["validation"],
        held_out=parts["test"],
    )


def folds(pool, count=3):
    """Members that train on all but a part of the training rows and are judged on that part."""
    parts = np.array_split(pool.splits["train"], count)
    return [
        Member(
            name=f"fold {number}",
            overrides={},
            seed=number,
            train=np.concatenate(parts[:number] + parts[number + 1 :]),
            held_out=parts[number],
        )
        for number in range(count)
    ]


def population(config, pool, devices=2, **options):
    return Population(config, pool, devices=jax.devices()[:devices], progress=False, **options)


def assert_same(one, other, **tolerance):
    compare = np.testing.assert_allclose if tolerance else np.testing.assert_array_equal
    assert (one.status, one.step, one.best_step) == (other.status, other.step, other.best_step)
    assert one.metrics.keys() == other.metrics.keys()
    ones, others = ([each.metrics, *each.history, *each.training] for each in (one, other))
    for a, b in zip(ones, others, strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            compare(value, b[name], **tolerance, err_msg=name)
    if one.predictions is not None:
        compare(one.predictions, other.predictions, **tolerance)


def assert_equals_run(outcome, summary, lines, rtol):
    """The member's evaluations, training metrics and final figures are those of a run by itself."""
    for of_member, of_run in zip(outcome.training, [line for line in lines if line["split"] == "train"], strict=True):
        assert of_member.keys() == of_run.keys() - {"time", "split", "accuracy"}
        for name, value in of_member.items():
            np.testing.assert_allclose(value, of_run[name], rtol=rtol, err_msg=name)
    assert outcome.best_step == summary["best_step"]
    validation = [line for line in lines if line["split"] == "validation"]
    for of_member, of_run in zip(outcome.history, validation, strict=True):
        np.testing.assert_allclose(of_member["loss"], of_run["loss"], rtol=rtol)
        assert (of_member["step"], of_member["accuracy"]) == (of_run["step"], of_run["accuracy"])
    for name, value in summary["metrics"]["test"].items():
        np.testing.assert_allclose(outcome.metrics[name], value, rtol=max(rtol, 1e-6), err_msg=name)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "family", ["mlp", pytest.param("resnet", marks=pytest.mark.slow), pytest.param("vit", marks=pytest.mark.slow)]
)
def test_a_member_equals_its_run_alone(tmp_path, family, mode):
    # A run splits the data by its own seed.
    pool, config = load_pool(make_config().data, seed=3), make_config(family, population__mode=mode)
    rates = [3e-3, 1e-3, 1e-4, 3e-4]
    # More members than lanes, so that the one compared gets a lane that another has left.
    members = [member(pool, f"{n}", seed=n, optimizer__learning_rate=rate) for n, rate in enumerate(rates)]
    lanes = 1 if mode == "loop" else 2
    outcomes = population(override(config, {"population.lanes": lanes}), pool, devices=1).train(members)
    summary = train(override(config, members[3].overrides | {"seed": 3}), tmp_path, devices=jax.devices()[:1])
    assert_equals_run(outcomes["3"], summary, RunDirectory(tmp_path).metrics(), rtol=0 if mode == "loop" else 1e-4)


def test_the_progress_shows_the_metric_that_is_asked_for(pool, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    asked = Population(make_config(), pool, devices=jax.devices()[:1], shown_metric="accuracy")
    outcome = asked.train([member(pool, "one")], until=0.1)["one"]
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"1/1 paused at 10 %, 0 running, 0 waiting  best accuracy {outcome.metrics['accuracy']:.4g}  " in last


def test_members_that_are_all_there_get_more_lanes_than_are_asked_for_at_once(pool):
    config = make_config(model__mlp__hidden_sizes=(8,), train__duration="2 steps", population__lanes=0)
    asked = population(config, pool, devices=1)
    members = [member(pool, f"{seed}", seed=seed) for seed in range(20)]
    asked.train(members)
    assert (asked.lanes, asked.summary["lanes"]) == (8, 20)
    few = population(override(config, {"population.lanes": 4}), pool, devices=1)
    few.train(members)
    assert few.summary["lanes"] == 4


def test_a_member_that_cannot_be_built_is_told_before_it_is_trained(pool):
    asked = population(make_config("vit"), pool)
    asked.check(member(pool, "fits"))
    with pytest.raises(UserError, match="3 heads do not divide the width 16"):
        asked.check(member(pool, "unfit", model__vit__heads=3))


@pytest.mark.slow
def test_a_member_comes_to_the_same_in_any_lane_order_and_company(pool):
    config = make_config()
    members = [member(pool, f"{n}", seed=n, optimizer__learning_rate=1e-3 * (n + 1)) for n in range(5)]
    one = population(config, pool).train(members, predict=True)
    other = population(override(config, {"population.lanes": 2}), pool).train(members[::-1], predict=True)
    for name, outcome in one.items():
        assert_same(outcome, other[name])


@pytest.mark.slow
def test_a_member_that_diverges_leaves_its_neighbours_to_the_bit(pool):
    config = make_config(train__max_skipped=3)
    sound = [member(pool, f"{n}", seed=n) for n in range(3)]
    for mode in MODES:
        wild = member(pool, "wild", seed=9, optimizer__learning_rate=1e30)
        changed = override(config, {"population.mode": mode})
        expected = population(changed, pool).train(sound, predict=True)
        outcomes = population(changed, pool).train([sound[0], wild, *sound[1:]], predict=True)
        assert outcomes["wild"].status == "diverged"
        assert outcomes["wild"].metrics == {}
        assert {outcome.status for outcome in expected.values()} == {"done"}
        for name, outcome in expected.items():
            assert_same(outcomes[name], outcome)


def test_a_pause_changes_nothing(pool):
    config = make_config(train__evaluate_every="30 steps")
    members = folds(pool)
    whole = population(config, pool).train(members, predict=True)
    paused = population(config, pool)
    parts = [paused.train(members, until=share) for share in (0.15, 0.5)]
    assert {outcome.status for part in parts for outcome in part.values()} == {"paused"}
    assert [parts[1][name].step for name in parts[1]] == [100] * 3
    for name, outcome in paused.train(members, predict=True).items():
        assert_same(outcome, whole[name])


@pytest.mark.slow
def test_members_that_need_other_programs_are_trained_as_well(pool):
    config = make_config()
    members = [
        member(pool, "narrow", model__mlp__hidden_sizes=(8,)),
        member(pool, "wide", model__mlp__hidden_sizes=[16, 16]),
        member(pool, "large batch", train__batch_size=64),
        member(pool, "rate", optimizer__learning_rate=1e-2),
        member(pool, "short", train__duration="120 steps", schedule__warmup="30 steps"),
    ]
    trained = population(config, pool)
    outcomes = trained.train(members)
    assert [outcome.parameters for outcome in outcomes.values()] == [610, 1482, 3466, 3466, 3466]
    assert [outcome.step for outcome in outcomes.values()] == [200] * 4 + [120]
    assert trained.summary["programs"] == 4
    alone = train_population(config, pool, [members[3]], devices=jax.devices()[:2], progress=False)
    assert_same(outcomes["rate"], alone["rate"])


def test_preprocessing_is_fitted_on_a_members_own_rows(pool):
    config = make_config(train__duration="20 steps", train__evaluate_every="20 steps")
    bright = dataclasses.replace(pool, inputs=pool.inputs.copy())
    members = folds(pool)
    bright.inputs[members[0].held_out] = 255
    expected, outcome = (population(config, p).train(members[:1])["fold 0"] for p in (pool, bright))
    # What is held out has changed, what was trained has not: it predicts the rows of another fold as before.
    other = dataclasses.replace(members[0], held_out=members[1].held_out)
    one, two = (population(config, p).train([other], predict=True)["fold 0"] for p in (pool, bright))
    assert_same(one, two)
    assert outcome.metrics["loss"] != expected.metrics["loss"]


SHORT = {"train__duration": "40 steps", "train__evaluate_every": "10 steps"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"optimizer__clip_norm": 0.1}),
        ({"augment__mixup": 0.3}, {"augment__cutmix": 1.0}),
        ({"model__dropout": 0.0}, {"model__dropout": 0.4, "objective__label_smoothing": 0.1}),
        ({"train__best_metric": "loss"}, {"train__best_metric": "accuracy"}),
    ],
)
def test_what_a_neighbour_uses_does_not_reach_a_member(pool, one, other):
    config = make_config(**SHORT)
    members = [member(pool, "one", **one), member(pool, "other", **other)]
    together = population(config, pool).train(members)
    for each in members:
        alone = population(config, pool).train([each])[each.name]
        assert together[each.name].best_step == alone.best_step
        np.testing.assert_allclose(together[each.name].metrics["loss"], alone.metrics["loss"], rtol=1e-4)


def test_a_member_that_is_out_of_patience_at_a_pause_is_done(pool):
    config = make_config(train__patience="10 steps", train__evaluate_every="5 steps", optimizer__learning_rate=0.1)
    stops = population(config, pool).train([member(pool, "m")])["m"]
    assert stops.step < 200
    paused = population(config, pool)
    first = paused.train([member(pool, "m")], until=stops.step / 200)["m"]
    assert first.status == "done"
    assert_same(paused.train([member(pool, "m")])["m"], stops)


def test_a_pause_at_the_same_step_can_be_asked_for_again(pool):
    paused = population(make_config(**SHORT), pool)
    first = paused.train(folds(pool), until=0.5)
    again = paused.train(folds(pool), until=0.5, predict=True)
    for name, outcome in first.items():
        assert again[name].metrics == outcome.metrics
        assert again[name].history == outcome.history
        assert again[name].predictions.shape == (len(pool.splits["train"]) // 3 + (name == "fold 0"), 10)


def test_states_of_members_that_are_done_are_forgotten(pool, tmp_path):
    config = make_config(train__checkpoint_every="0.001 seconds", **SHORT)
    population(config, pool, directory=tmp_path).train(folds(pool, 6))
    assert population_file.read(tmp_path / "population.npz").paused == {}


def test_early_stopping_frees_the_lane(pool):
    config = make_config(train__patience="10 steps", train__evaluate_every="10 steps", train__duration="400 steps")
    members = [member(pool, f"{n}", seed=n, optimizer__learning_rate=3e-2) for n in range(6)]
    trained = population(config, pool)
    outcomes = trained.train(members)
    assert any(outcome.step < 400 for outcome in outcomes.values())
    for outcome in outcomes.values():
        assert outcome.status == "done"
        assert outcome.step in (outcome.best_step + 10, 400)


def test_lanes_are_busy_when_members_are_of_all_lengths(pool):
    config = make_config(train__evaluate_every="", population__lanes=8)
    lengths = itertools.cycle([40, 80, 160, 320])
    members = [member(pool, f"{n}", train__duration=f"{next(lengths)} steps") for n in range(32)]
    trained = population(config, pool)
    trained.train(members)
    assert trained.summary["busy"] >= 0.9


def test_a_population_killed_at_any_save_ends_as_if_it_was_not(pool, tmp_path):
    config, members = make_config(train__checkpoint_every="0.001 seconds"), folds(pool, 5)
    expected = population(config, pool).train(members, predict=True)
    stopped = population(config, pool, directory=tmp_path)
    saves = itertools.count()
    write = stopped._save

    def killed():
        write()
        if next(saves) % 2 == 1:
            raise KeyboardInterrupt

    stopped._save = killed
    attempts = 0
    while True:
        try:
            outcomes = stopped.train(members, predict=True)
            break
        except KeyboardInterrupt:
            attempts += 1
            stopped = population(config, pool, directory=tmp_path)
            if attempts < 4:
                stopped._save = killed
    assert attempts >= 2
    for name, outcome in expected.items():
        assert_same(outcomes[name], outcome)


def test_what_a_kill_left_of_a_save_is_removed(pool, tmp_path):
    (tmp_path / ".population.npz.k1ll_4d0").mkdir()
    population(make_config(), pool, directory=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"optimizer.learning_rat": 1e-3}, "did you mean 'optimizer.learning_rate'"),
        ({"optimizer.learning_rate": "high"}, "optimizer.learning_rate: 'high' is not a number; give one, such as"),
        ({"train.batch_size": 1.5}, "train.batch_size: 1.5 is not a whole number"),
        ({"data.source": "sklearn:iris"}, "data.source: cannot differ between the trainings of a population"),
        ({"seed": 3}, "seed: cannot differ between the trainings of a population; give --seeds instead"),
        ({"optimizer.learning_rate": -1.0}, "optimizer.learning_rate: -1.0 given; it must be more than 0"),
        ({"train.accumulation_steps": 3}, "train.batch_size: 32 is not divisible over 3 accumulation steps"),
        ({"train.best_metric": "acuracy"}, "train.best_metric: unknown name 'acuracy'; did you mean 'accuracy'"),
    ],
)
def test_what_no_member_can_override_is_told(pool, overrides, message):
    # Behind a sound one, by which programs are built.
    wrong = dataclasses.replace(member(pool, "wrong"), overrides=overrides)
    with pytest.raises(UserError, match=message):
        population(make_config(), pool).train([member(pool, "sound"), wrong])


def test_an_error_about_an_override_names_the_member(pool):
    # Otherwise the place of the field in the config file would be taken for that of the error.
    wrong = member(pool, "wrong", train__duration="long")
    with pytest.raises(UserError, match=r"^'wrong': train\.duration: 'long' is not a duration"):
        population(make_config(), pool).train([member(pool, "sound"), wrong])


def test_a_member_without_rows_is_told(pool):
    empty = dataclasses.replace(member(pool, "empty"), train=np.zeros(0, np.int64))
    with pytest.raises(UserError, match="'empty' has no rows to train on"):
        train_population(make_config(), pool, [empty], progress=False)


def test_an_unknown_mode_is_told(pool):
    with pytest.raises(UserError, match=r"population.mode: unknown name 'stack'; .*known: auto, loop, map, vmap"):
        population(make_config(population__mode="stack"), pool)


def test_another_config_in_the_directory_is_told(pool, tmp_path):
    config = make_config(train__duration="20 steps")
    population(config, pool, directory=tmp_path).train(folds(pool)[:1])
    with pytest.raises(UserError, match="holds trainings of another config or other data"):
        population(make_config(train__duration="30 steps"), pool, directory=tmp_path)


def test_other_classes_or_splits_of_the_same_files_are_an_error(pool, tmp_path):
    config = make_config(train__duration="20 steps")
    population(config, pool, directory=tmp_path).train(folds(pool)[:1])
    renamed = dataclasses.replace(pool.features, class_names=pool.features.class_names[::-1])
    moved = {**pool.splits, "test": pool.splits["test"][1:]}
    for other in ({"features": renamed}, {"labels": pool.labels[::-1]}, {"splits": moved}):
        with pytest.raises(UserError, match="holds trainings on the same files, but with other classes, groups"):
            population(config, dataclasses.replace(pool, **other), directory=tmp_path)
    assert population(config, pool, directory=tmp_path)


def test_a_field_that_was_added_since_then_counts_as_its_default(pool, tmp_path, monkeypatch):
    config, added = make_config(train__duration="20 steps"), "objective.label_smoothing"

    def earlier_fields(values):
        return {path: value for path, value in defining_fields(values).items() if path != added}

    with monkeypatch.context() as patch:
        patch.setattr("trainers.populations.population.defining_fields", earlier_fields)
        before = population(config, pool, directory=tmp_path).train(folds(pool)[:1])
    resumed = population(config, pool, directory=tmp_path)
    assert_same(before["fold 0"], resumed.train(folds(pool)[:1])["fold 0"])
    assert resumed.summary["programs"] == 0
    with pytest.raises(UserError, match="holds trainings of another config or other data"):
        population(override(config, {added: 0.1}), pool, directory=tmp_path)


@pytest.mark.parametrize("named", [True, False], ids=["with fields", "without fields"])
def test_a_field_that_may_change_by_now_counts_in_an_earlier_file(pool, tmp_path, monkeypatch, named):
    config = make_config(train__duration="20 steps")
    path = tmp_path / "population.npz"

    def earlier_fields(values):
        every = defining_fields(values) | {path: fields(values)[path] for path in _COULD_NOT_CHANGE}
        return {path: value for path, value in every.items() if path not in _ADDED_SINCE}

    with monkeypatch.context() as patch:
        patch.setattr("trainers.populations.population.defining_fields", earlier_fields)
        earlier = population(config, pool, directory=tmp_path)
    saved = earlier._saved if named else dataclasses.replace(earlier._saved, fields=())
    population_file.write(path, saved)
    assert population(config, pool, directory=tmp_path)._saved.fingerprint == saved.fingerprint
    with pytest.raises(UserError, match="holds trainings of another config or other data"):
        population(make_config(train__duration="30 steps"), pool, directory=tmp_path)
    path.unlink()
    population(config, pool, directory=tmp_path)._save()
    population(override(config, {"evaluation.batch_size": 4}), pool, directory=tmp_path)


def test_a_damaged_file_is_told(pool, tmp_path):
    config = make_config(train__duration="20 steps")
    population(config, pool, directory=tmp_path).train(folds(pool)[:1])
    path = tmp_path / "population.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"population.npz' is damaged .*; remove it"):
        population(config, pool, directory=tmp_path)


@pytest.mark.parametrize("family", ["mlp", pytest.param("resnet", marks=pytest.mark.slow)])
def test_the_mode_is_chosen_by_timing_and_kept(tmp_path, family):
    config = make_config(family, population__mode="auto", **SHORT)
    pool = load_pool(config.data, seed=0)
    chosen = population(config, pool, directory=tmp_path)
    chosen.train(folds(pool)[:2])
    assert chosen.summary["mode"] in MODES
    again = population(config, pool, directory=tmp_path)
    again.train(folds(pool))
    assert again.summary["mode"] == chosen.summary["mode"]


@pytest.fixture
def poisoned(tmp_path):
    """The config of a regression that rolls back, its pool, in which one target overflows, and a member."""
    generator = np.random.default_rng(0)
    with (tmp_path / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "y"])
        for row in range(400):
            a, b = generator.normal(size=2)
            writer.writerow([1e38 if row == 137 else a, b, a - b])
    changes = {
        "data.source": f"csv:{tmp_path / 'table.csv'}",
        "data.target": "y",
        "data.normalize": "none",
        "data.validation": "none",
        "data.test": "10 percent",
        # With this seed the row comes in the middle of the first epoch of 36 steps.
        "seed": 6,
        "train.batch_size": 10,
        # Less than an epoch, so the row does not come again.
        "train.duration": "30 steps",
        "train.evaluate_every": "10 steps",
        "train.log_every": "1 steps",
        "train.checkpoint_every": "4 steps",
        "train.max_skipped": 1,
        "train.on_divergence": "rollback",
        "population.mode": "loop",
        "population.lanes": 1,
    }
    config = override(make_config(), changes)
    pool = load_pool(config.data, seed=6)
    member = Member(name="poisoned", overrides={}, seed=6, train=pool.splits["train"], held_out=pool.splits["test"])
    return config, pool, member


def test_a_member_that_diverges_rolls_back_as_its_run_alone_does(poisoned, tmp_path):
    config, pool, member = poisoned
    outcome = population(config, pool, devices=1).train([member])["poisoned"]
    summary = train(config, tmp_path / "run", devices=jax.devices()[:1])
    rollback = RunDirectory(tmp_path / "run").rollback()
    assert (outcome.status, outcome.step) == (summary["status"], summary["step"]) == ("done", 30)
    assert outcome.rollback == {"step": rollback["step"], "batches": rollback["batches"]}
    assert 4 <= outcome.rollback["step"] < 24
    for name, value in summary["metrics"]["test"].items():
        np.testing.assert_allclose(outcome.metrics[name], value, rtol=1e-6, err_msg=name)
    # The run logs every step, and the member the means between evaluations.
    lines = [line for line in RunDirectory(tmp_path / "run").metrics() if line["split"] == "train"]
    assert [line["step"] for line in outcome.training] == [10, 20, 30]
    for line in outcome.training:
        own = [each for each in lines if line["step"] - 10 < each["step"] <= line["step"]]
        for name in ("loss", "gradient_norm", "learning_rate"):
            np.testing.assert_allclose(line[name], np.mean([each[name] for each in own]), rtol=1e-5, err_msg=name)
        assert line["skipped"] == sum(each["skipped"] for each in own)


def test_updates_that_were_skipped_are_counted_and_do_not_enter_the_means(poisoned):
    config, pool, member = poisoned
    tolerant = override(config, {"train.max_skipped": 5, "train.on_divergence": "stop"})
    for mode in MODES:
        outcome = population(override(tolerant, {"population.mode": mode}), pool, devices=1).train([member])["poisoned"]
        assert (outcome.status, sum(line["skipped"] for line in outcome.training)) == ("done", 1)
        assert np.isfinite([value for line in outcome.training for value in line.values()]).all()


def test_a_file_without_training_metrics_opens_and_its_members_end_in_the_same_way(pool, tmp_path):
    config, members = make_config(train__evaluate_every="30 steps"), folds(pool)
    expected = population(config, pool).train(members)
    population(config, pool, directory=tmp_path).train(members[:1])
    population(config, pool, directory=tmp_path).train(members[1:], until=0.5)
    path = tmp_path / "population.npz"
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays.files if not name.startswith("running/")}
    about = json.loads(str(kept["about"]))
    for saved in (*about["outcomes"].values(), *about["paused"].values()):
        del saved["training"]
        saved.pop("dead_units", None)
    np.savez(path, **kept | {"about": np.array(json.dumps(about))})
    outcomes = population(config, pool, directory=tmp_path).train(members)
    assert outcomes["fold 0"].training == []
    for name, outcome in outcomes.items():
        late = [line for line in expected[name].training if line["step"] > 120] if name != "fold 0" else []
        assert outcome.training[1:] == late
        assert_same(outcome, dataclasses.replace(expected[name], training=outcome.training))


def test_dead_units_are_counted_as_in_a_run(tmp_path):
    changes = {"optimizer__learning_rate": 0.3, "train__duration": "40 steps", "data__validation": "none"}
    config = make_config(train__evaluate_every="", model__dropout=0.0, **changes)
    pool = load_pool(config.data, seed=0)
    rows, test = pool.splits["train"], pool.splits["test"]
    # The lanes of a dispatch read as many batches as the member with the most rows.
    members = [
        Member(name=name, overrides={}, seed=0, train=own, held_out=test)
        for name, own in (("whole", rows), ("few", rows[:50]))
    ]
    train(config, tmp_path, devices=jax.devices()[:1])
    last = FinishedRun(tmp_path, checkpoint="last")
    model = last.program.model(last.state.params, last.state.model_state)
    inputs = preprocessing.apply(last.state.preprocessing, last.features, pool.inputs[rows])
    expected = {name: np.mean((np.asarray(v) == 0).all(axis=0)) for name, v in model.representations(inputs).items()}
    assert max(expected.values()) > 0
    for mode in MODES:
        lanes = 1 if mode == "loop" else 2
        changed = override(config, {"population.mode": mode, "population.lanes": lanes})
        asked = population(changed, pool, devices=1)
        outcomes = asked.train(members, dead_units=True)
        found = outcomes["whole"].dead_units
        assert found == {"hidden/0": expected["hidden/0"], "the last hidden layer": expected["features"]}
        assert asked.train(members[:1])["whole"].dead_units is None
        if mode == "map":
            alone = population(changed, pool, devices=1).train(members[1:], dead_units=True)["few"]
            assert outcomes["few"].dead_units == alone.dead_units


def test_a_rollback_depends_neither_on_pauses_nor_on_other_members(poisoned, tmp_path):
    config, pool, member = poisoned
    alone = population(config, pool, devices=1).train([member])["poisoned"]
    failed = alone.rollback["step"] + alone.rollback["batches"]
    for step in (failed - 1, failed + 2):
        directory = tmp_path / f"{step}"
        population(config, pool, devices=1, directory=directory).train([member], until=step / 30)
        again = population(config, pool, devices=1, directory=directory).train([member])["poisoned"]
        assert again.rollback == alone.rollback
        assert_same(again, alone)
    others = [dataclasses.replace(member, name=f"{seed}", seed=seed) for seed in (1, 2)]
    changed = override(config, {"population.mode": "map", "population.lanes": 2})
    mapped = population(changed, pool, devices=1).train([*others, member])["poisoned"]
    assert mapped.rollback == alone.rollback
    assert_same(mapped, alone, rtol=1e-4)


def test_a_member_rolls_back_once_and_begins_again_if_it_has_no_checkpoint(poisoned):
    config, pool, member = poisoned
    # In three epochs the row comes again.
    thrice = population(override(config, {"train.duration": "108 steps"}), pool, devices=1).train([member])["poisoned"]
    assert (thrice.status, thrice.rollback is None) == ("diverged", False)
    changes = {"train.checkpoint_every": "", "train.evaluate_every": ""}
    outcome = population(override(config, changes), pool, devices=1).train([member])["poisoned"]
    assert (outcome.status, outcome.step, outcome.rollback["step"]) == ("done", 30, 0)
    stopped = population(override(config, {"train.on_divergence": "stop"}), pool, devices=1).train([member])["poisoned"]
    assert (stopped.status, stopped.rollback) == ("diverged", None)
    assert stopped.step == outcome.rollback["batches"]
