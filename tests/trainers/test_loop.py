"""What a run does at its steps, in this process."""

import json

import numpy as np
import pytest

from configs import breast_cancer_mlp, diabetes_mlp, digits_linear
from plumbline import UserError
from trainers.loop import train
from trainers.run_directory import RunDirectory


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
            "execution.devices": 1,
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


def test_regression_reports_in_the_units_of_the_label(tmp_path):
    summary = train(quick(diabetes_mlp, train__duration="300 steps", train__batch_size=32), tmp_path)
    test = summary["metrics"]["test"]
    # The labels' deviation is 77: their mean would have an error of about 5900, and R2 of 0.
    assert 0.3 < test["r2"] < 0.7
    assert 2000 < test["mse"] < 4500
    assert test["mae"] ** 2 < test["mse"]


def test_balanced_class_weights_are_part_of_the_run(tmp_path):
    train(quick(breast_cancer_mlp, data__class_weights="balanced"), tmp_path)
    weights = RunDirectory(tmp_path).fitted()["class_weights"]
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
    assert "The checkpoint of step 30 is damaged and passed over" in caplog.text
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
