"""What a run does at its steps, in this process."""

import json
import os
import shutil
import signal
import weakref

import jax
import numpy as np
import pytest

from configs import breast_cancer_mlp, diabetes_mlp, digits_linear
from plumbline import UserError
from trainers.run import events, loop, steps
from trainers.run.directory import RunDirectory
from trainers.run.loop import train as train_on
from trainers.settings import override


def train(*arguments, **options):
    return train_on(*arguments, devices=jax.devices()[:1], **options)


def quick(module=digits_linear, **fields):
    config = module.get_config()
    config.update_from_flattened_dict(
        {
            "train.batch_size": 64,
            "train.duration": "30 steps",
            "train.log_every": "10 steps",
            "train.evaluate_every": "10 steps",
            "train.checkpoint_every": "15 steps",
            "train.tensorboard": False,
            "execution.mode": "loop",
            **{name.replace("__", "."): value for name, value in fields.items()},
        }
    )
    return config


def test_a_run_writes_what_its_directory_promises(tmp_path):
    summary = train(quick(train__tensorboard=True), tmp_path)
    directory = RunDirectory(tmp_path)
    assert directory.status() == {"status": "done", "step": 30, "reason": ""}
    assert json.loads((tmp_path / "summary.json").read_text()) == json.loads(json.dumps(summary))
    assert {(line["step"], line["split"]) for line in directory.metrics()} == {
        (step, split) for step in (10, 20, 30) for split in ("train", "validation")
    }
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"15", "30"}
    assert list((tmp_path / "tensorboard").iterdir())
    assert directory.config().to_dict() == quick(train__tensorboard=True).to_dict()
    assert summary["parameters"] == 650
    assert summary["steps_per_second"] > 0
    assert set(summary["metrics"]["test"]) >= {"accuracy", "loss", "calibration_error", "accuracy/group/writer 13"}


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = train(quick(), tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    again = train(quick(), tmp_path)
    assert again["metrics"] == json.loads(json.dumps(first["metrics"]))
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_equal_configs_give_equal_runs_and_other_seeds_others(tmp_path):
    results = [train(quick(seed=seed), tmp_path / str(n))["metrics"]["test"] for n, seed in enumerate((0, 0, 1))]
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_training_stops_when_validation_has_not_improved_for_the_patience(tmp_path):
    # Nothing can improve at a learning rate of (almost) zero: the first evaluation stays the best.
    config = quick(optimizer__learning_rate=1e-12, train__patience="20 steps", train__duration="100 steps")
    config.train.best_metric = "loss"
    config.optimizer.weight_decay = 0.0
    summary = train(config, tmp_path)
    assert (summary["status"], summary["step"], summary["best_step"]) == ("done", 30, 10)
    assert summary["reason"] == f"no better loss than {np.log(10):.4g} since step 10"


def test_the_best_parameters_are_those_of_the_best_evaluation(tmp_path):
    config = quick(optimizer__name="sgd", optimizer__learning_rate=30.0, train__evaluate_every="1 steps")
    config.train.update(duration="12 steps", best_metric="accuracy")
    summary = train(config, tmp_path)
    by_step = {
        line["step"]: line["accuracy"] for line in RunDirectory(tmp_path).metrics() if line["split"] == "validation"
    }
    best = max(by_step.values())
    assert summary["best_step"] == next(step for step, value in by_step.items() if value == best)
    assert summary["metrics"]["validation"]["accuracy"] == best


def test_a_rollback_frees_the_state_that_has_diverged(tmp_path, monkeypatch):
    config = quick(optimizer__learning_rate=1e30, train__max_skipped=2, train__on_divergence="rollback")
    diverged, alive = [], []
    roll_back, advance = steps.roll_back, steps.Dispatcher.advance

    def roll_back_and_note(run, checkpoints, at, reason):
        diverged.extend(weakref.ref(leaf) for leaf in jax.tree.leaves(at.state.params))
        return roll_back(run, checkpoints, at, reason)

    def note_and_advance(self, *arguments):
        alive.extend(leaf for leaf in diverged if leaf() is not None)
        return advance(self, *arguments)

    monkeypatch.setattr(steps, "roll_back", roll_back_and_note)
    monkeypatch.setattr(steps.Dispatcher, "advance", note_and_advance)
    assert train(config, tmp_path)["status"] == "diverged"
    assert diverged
    assert not alive


def test_without_validation_the_last_parameters_count(tmp_path):
    summary = train(quick(data__validation="none"), tmp_path)
    assert summary["best_step"] == 30
    assert set(summary["metrics"]) == {"train", "test"}


def test_updates_that_are_never_finite_end_the_run_as_diverged(tmp_path):
    config = quick(optimizer__name="sgd", optimizer__learning_rate=1e38, train__max_skipped=5)
    summary = train(config, tmp_path)
    assert summary["status"] == "diverged"
    assert summary["step"] < 30
    assert RunDirectory(tmp_path).status()["status"] == "diverged"
    assert "not finite in" in summary["reason"]


@pytest.mark.slow
def test_regression_reports_in_the_units_of_the_label(tmp_path):
    summary = train(quick(diabetes_mlp, train__duration="300 steps", train__batch_size=32), tmp_path)
    test = summary["metrics"]["test"]
    # The labels' deviation is 77: their mean would have an error of about 5900, and R2 of 0.
    assert 0.3 < test["r2"] < 0.7
    assert 2000 < test["mse"] < 4500
    assert test["mae"] ** 2 < test["mse"]


@pytest.mark.slow
def test_balanced_class_weights_are_part_of_the_run(tmp_path):
    train(quick(breast_cancer_mlp, data__class_weights="balanced"), tmp_path)
    weights = RunDirectory(tmp_path).fitted_arrays()["class_weights"]
    # 212 malignant and 357 benign rows: the rarer class weighs more.
    assert weights[0] > 1 > weights[1]


def test_another_config_in_the_directory_is_an_error_that_shows_what_differs(tmp_path):
    train(quick(), tmp_path)
    with pytest.raises(
        UserError, match=r"optimizer.learning_rate is 0.003 there, 0.1 here\); give another --workdir, or"
    ):
        train(quick(optimizer__learning_rate=0.1), tmp_path)
    summary = train(quick(optimizer__learning_rate=0.1), tmp_path, overwrite=True)
    assert summary["step"] == 30
    assert len(RunDirectory(tmp_path).metrics()) == 6


def test_fields_that_do_not_change_the_result_may_differ(tmp_path):
    train(quick(), tmp_path)
    assert train(quick(data__workers=1, train__tensorboard=True), tmp_path)["step"] == 30


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="holds files but no run"):
        train(quick(), tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_an_error_in_the_config_leaves_the_directory_free_for_the_next_try(tmp_path):
    with pytest.raises(UserError, match=r"optimizer.weight_decay_rules: 'nothing' is found in no parameter"):
        train(quick(optimizer__weight_decay_rules=(("nothing", 0.0), (".", 1.0))), tmp_path)
    assert train(quick(), tmp_path)["status"] == "done"


def test_a_damaged_checkpoint_is_named_and_passed_over(tmp_path, caplog):
    expected = train(quick(), tmp_path / "whole")
    train(quick(), tmp_path / "damaged")
    (tmp_path / "damaged" / "status.json").unlink()
    newest = tmp_path / "damaged" / "checkpoints" / "30"
    for file in (newest / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    summary = train(quick(), tmp_path / "damaged")
    assert "The checkpoint of step 30 is damaged and skipped" in caplog.text
    assert summary["metrics"] == expected["metrics"]


def test_if_all_checkpoints_are_damaged_nothing_starts_afresh(tmp_path):
    train(quick(), tmp_path)
    (tmp_path / "status.json").unlink()
    for file in (tmp_path / "checkpoints").rglob("*"):
        if file.is_file() and "state" in file.parts:
            file.write_bytes(b"")
    with pytest.raises(UserError, match=r"all checkpoints in .* are damaged \(steps \[30, 15\]\)"):
        train(quick(), tmp_path)


def test_other_data_than_the_checkpoint_saw_are_an_error(tmp_path):
    table = tmp_path / "table.csv"
    generator = np.random.default_rng(0)

    def write(scale):
        rows = generator.normal(0, scale, (200, 3))
        lines = [f"{a:.3f},{b:.3f},{c:.3f},{'yes' if a > 0 else 'no'}" for a, b, c in rows]
        table.write_text("a,b,c,label\n" + "\n".join(lines) + "\n")

    write(1.0)
    config = quick(breast_cancer_mlp, data__source=f"csv:{table}", data__target="label")
    train(config, tmp_path / "run")
    (tmp_path / "run" / "status.json").unlink()
    write(2.0)
    with pytest.raises(UserError, match="holds other data than when this run began"):
        train(config, tmp_path / "run")


def test_a_step_is_taken_in_the_mode_the_plan_has_for_it_after_a_resume_too(tmp_path):
    config = quick(execution__mode="auto", train__checkpoint_every="10 steps", train__duration="40 steps")
    config.train.keep_checkpoints = 4
    train(config, tmp_path)
    # As if the run had been killed after step 10, in a scan's trial that began at step 20.
    for step in (20, 30, 40):
        shutil.rmtree(tmp_path / "checkpoints" / str(step), ignore_errors=True)
    (tmp_path / "status.json").unlink()
    directory = RunDirectory(tmp_path)
    directory.write_execution({"segments": [[0, "loop"], [20, "scan"]], "scan_steps": 10, "decided": False})
    assert train(config, tmp_path)["step"] == 40
    assert directory.execution()["segments"][:2] == [[0, "loop"], [20, "scan"]]


def test_the_generator_of_random_keys_does_not_depend_on_the_environment(tmp_path):
    config = quick(model__name="mlp", model__dropout=0.2, train__duration="10 steps")
    train(config, tmp_path / "default")
    # As JAX_DEFAULT_PRNG_IMPL does.
    with jax.default_prng_impl("rbg"):
        train(config, tmp_path / "other")
    written = [RunDirectory(tmp_path / name).last_metrics("train") for name in ("default", "other")]
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("stop", "at"),
    [
        ("killed", "evaluate"),
        ("killed", "save"),
        ("killed", "after saving"),
        ("preempted", "evaluate"),
        pytest.param("preempted", "save", marks=pytest.mark.slow),
        pytest.param("preempted", "after saving", marks=pytest.mark.slow),
    ],
)
def test_what_is_due_at_the_step_of_a_stop_is_done_exactly_once(tmp_path, monkeypatch, stop, at):
    name = "save" if at == "after saving" else at
    whole = getattr(events, name)

    def act_and_stop(run, outputs, state, *arguments, **options):
        is_there, result = state.step == 20, state
        if at == "after saving":
            result = whole(run, outputs, state, *arguments, **options)
        if is_there and stop == "killed":
            raise Kill
        if is_there:
            os.kill(os.getpid(), signal.SIGTERM)
        return result if at == "after saving" else whole(run, outputs, state, *arguments, **options)

    config = quick(train__checkpoint_every="10 steps", train__best_metric="loss")
    with monkeypatch.context() as patch:
        patch.setattr(events, name, act_and_stop)
        if stop == "killed":
            with pytest.raises(Kill):
                train(config, tmp_path)
        else:
            assert train(config, tmp_path)["status"] == "preempted"
    assert train(config, tmp_path)["best_step"] == 30
    lines = [(line["split"], line["step"]) for line in RunDirectory(tmp_path).metrics()]
    assert lines == [(split, step) for step in (10, 20, 30) for split in ("train", "validation")]


class Kill(BaseException):
    """What stops a run at once."""


def test_what_is_saved_after_a_damaged_checkpoint_is_saved_and_frees_the_best_parameters_before_it(
    tmp_path, monkeypatch, capsys
):
    restored, alive = [], []
    restore_or_begin, save = loop.restore_or_begin, steps.save

    def restore_and_note(*arguments):
        at = restore_or_begin(*arguments)
        restored.extend(weakref.ref(leaf) for leaf in jax.tree.leaves(at.best.state.params))
        return at

    def note_and_save(run, checkpoints, at, **options):
        assert at.best.step == 30
        alive.extend(leaf for leaf in restored if leaf() is not None)
        return save(run, checkpoints, at, **options)

    config = quick(train__checkpoint_every="10 steps", train__best_metric="loss")
    train(config, tmp_path)
    (tmp_path / "status.json").unlink()
    for file in (tmp_path / "checkpoints" / "30" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "restore_or_begin", restore_and_note)
        patch.setattr(steps, "save", note_and_save)
        train(config, tmp_path)
    assert restored
    assert not alive
    kept = {path.name.partition("-")[0] for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {"20", "30", "damaged"}
    (tmp_path / "status.json").unlink()
    # What changes no result may change; the change is recorded.
    config = override(config, {"train.max_skipped": 7, "evaluation.batch_size": 32})
    assert train(config, tmp_path)["step"] == 30
    changed = "evaluation.batch_size is 32, and was 0; train.max_skipped is 7, and was 20"
    assert f"resuming with other settings: {changed}\n" in capsys.readouterr().err
    starts = RunDirectory(tmp_path).provenance()["starts"]
    assert [start.get("changed") for start in starts] == [
        None,
        None,
        {"evaluation.batch_size": [0, 32], "train.max_skipped": [20, 7]},
    ]


def test_a_refused_resume_leaves_every_file_as_it_was(tmp_path):
    table = tmp_path / "table.csv"

    def write(names):
        rows = [f"{n / 10},{names[n % 3]}" for n in range(90)]
        table.write_text("\n".join(["a,fruit", *rows]) + "\n")

    write(["apple", "banana", "cherry"])
    config = quick(breast_cancer_mlp, data__source=f"csv:{table}", data__target="fruit")
    train(config, tmp_path / "run")
    (tmp_path / "run" / "status.json").unlink()
    write(["banana", "cherry", "damson"])
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="holds other data"):
        train(config, tmp_path / "run")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("field", "value"), [("optimizer.name", "adm"), ("execution.mode", "fast"), ("model.name", "x"), ("data.test", "x")]
)
def test_overwriting_with_a_wrong_config_deletes_nothing(tmp_path, field, value):
    train(quick(), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=field):
        train(quick(**{field.replace(".", "__"): value}), tmp_path, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_overwriting_takes_nothing_over_through_a_link(tmp_path):
    workdir = tmp_path / "run"
    train(quick(), workdir)
    (workdir / "checkpoints").rename(tmp_path / "elsewhere")
    (workdir / "checkpoints").symlink_to(tmp_path / "elsewhere")
    summary = train(quick(optimizer__learning_rate=0.1), workdir, overwrite=True)
    assert len(RunDirectory(workdir).metrics()) == 6
    assert summary["step"] == 30
    assert (tmp_path / "elsewhere" / "30").exists()


def test_two_trainings_in_one_directory_are_kept_apart(tmp_path):
    with RunDirectory(tmp_path).hold(), pytest.raises(UserError, match="another process is training in"):
        train(quick(), tmp_path)


def test_patience_waits_for_the_next_evaluation(tmp_path):
    # Evaluated every 10 steps with a patience of 2: the run may not stop at step 12 without looking again.
    summary = train(quick(train__patience="2 steps", train__log_every="1 steps"), tmp_path)
    assert summary["step"] % 10 == 0


def test_patience_without_a_validation_split_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"train.patience: .* validation split"):
        train(quick(train__patience="5 steps", data__validation="none"), tmp_path)


@pytest.mark.parametrize("mode", ["loop", "scan"])
def test_so_many_skipped_updates_in_a_row_end_a_run_in_every_mode(tmp_path, mode):
    config = quick(optimizer__name="sgd", optimizer__learning_rate=1e38, train__max_skipped=5, execution__mode=mode)
    assert train(config, tmp_path)["status"] == "diverged"


def test_a_model_added_to_the_defaults_does_not_lock_runs_of_other_models(tmp_path):
    train(quick(), tmp_path)
    config = quick()
    with config.unlocked():
        config.model.two_towers = {"width": 32}
    assert train(config, tmp_path)["status"] == "done"
