"""Linear probes trained on what the head reads, computed once."""

import json

import jax
import numpy as np
import pytest

from configs import defaults
from plumbline import UserError
from trainers.devices import flops
from trainers.run.directory import RunDirectory
from trainers.run.inference import FinishedRun
from trainers.run.loop import train
from trainers.settings import override

PROBE = {
    "data.source": "digits",
    "data.examples_per_class": 20,
    "model.name": "mlp",
    "model.mlp.hidden_sizes": (24, 16),
    "transfer.freeze": ("^(?!head/)",),
    "transfer.cache_features": True,
    "train.duration": "20 steps",
    "train.batch_size": 32,
    "train.ema_decay": 0.9,
    "train.accumulation_steps": 2,
    "train.log_every": "5 steps",
    "train.evaluate_every": "10 steps",
    "train.checkpoint_every": "10 steps",
    "train.tensorboard": False,
    "execution.mode": "loop",
    "objective.label_smoothing": 0.1,
}
RESNET = {"model.name": "resnet", "model.resnet.width": 4}
VIT = {"model.name": "vit", "model.vit.patch_size": 4, "model.vit.width": 8, "model.vit.depth": 2, "model.vit.heads": 2}


def config_of(**changes):
    return override(defaults.get_config(), PROBE | {name.replace("__", "."): v for name, v in changes.items()})


def trained(workdir, devices=1, **changes):
    return train(config_of(**changes), workdir, devices=jax.devices()[:devices])


def metrics_of(workdir):
    return [{k: v for k, v in line.items() if k != "time"} for line in RunDirectory(workdir).metrics()]


def assert_alike(one, other, assert_trees_equal):
    """Two runs came to the same, up to rounding."""
    lines = [[tuple(line) for line in metrics_of(path)] for path in (one, other)]
    assert lines[0] == lines[1]
    for line, expected in zip(metrics_of(one), metrics_of(other), strict=True):
        for name, value in expected.items():
            assert line[name] == (pytest.approx(value, rel=1e-4, abs=1e-5) if isinstance(value, float) else value)
    states = [FinishedRun(path).state for path in (one, other)]
    assert_trees_equal(*states, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("devices", "changes"),
    [(1, {}), (8, {}), (8, {"parallel.mode": "pmap"}), (1, RESNET), (1, VIT)],
    ids=["mlp", "eight devices", "pmap", "resnet", "vit"],
)
def test_a_probe_on_cached_features_comes_to_the_same(tmp_path, assert_trees_equal, devices, changes):
    trained(tmp_path / "cached", devices, **changes)
    trained(tmp_path / "plain", devices, **changes, transfer__cache_features=False)
    assert_alike(tmp_path / "cached", tmp_path / "plain", assert_trees_equal)
    assert FinishedRun(tmp_path / "cached").state.params["head"]["kernel"].any()


def test_what_is_saved_is_the_whole_model_that_answers_for_raw_inputs(tmp_path):
    summary = trained(tmp_path / "run")
    run = FinishedRun(tmp_path / "run")
    assert run.evaluate("test")["loss"] == pytest.approx(summary["metrics"]["test"]["loss"], rel=1e-5)
    right = [each["label"] == each["target"] for each in run.predict_split("test")]
    assert np.mean(right) == pytest.approx(summary["metrics"]["test"]["accuracy"])


def test_a_run_goes_on_with_cached_features_or_without(tmp_path, assert_trees_equal):
    trained(tmp_path / "whole")
    for name, cache in (("same", True), ("other", False)):
        workdir = tmp_path / name
        trained(workdir)
        for file in (workdir / "checkpoints" / "20").rglob("*"):
            if file.is_file():
                file.write_bytes(b"")
        (workdir / "status.json").write_text(json.dumps({"status": "preempted", "step": 10, "reason": ""}))
        trained(workdir, transfer__cache_features=cache)
        assert_alike(workdir, tmp_path / "whole", assert_trees_equal)


def test_only_the_head_is_computed_in_a_step(tmp_path):
    trained(tmp_path / "run")
    line = json.loads((tmp_path / "run" / "goodput.jsonl").read_text().splitlines()[-1])
    # Forward and the gradient of the kernel: 2 m n k each, of 32 examples, 16 features and 10 classes.
    assert line["flops_per_step"] == 2 * 2 * 32 * 16 * 10
    assert line["rule"] == flops.RULE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transfer__freeze": ()}, r"[a-z0-9/]+ is trained as well; freeze all but the head, transfer\.freeze=\('\^"),
        ({"augment__shift": 1}, r"augment\.shift gives other features at every step; set it to 0, or leave one of"),
        ({"augment__mixup": 0.2}, r"augment\.mixup gives other features"),
        ({"model__dropout": 0.1}, r"model\.dropout gives other features"),
    ],
)
def test_what_does_not_allow_it_is_told_and_nothing_is_written(tmp_path, changes, message):
    with pytest.raises(UserError, match=rf"^transfer\.cache_features: {message}"):
        trained(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()
