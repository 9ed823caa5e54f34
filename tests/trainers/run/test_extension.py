"""A finished run that goes on for longer."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import plumbline
from configs import digits_linear
from plumbline import UserError
from trainers.run import extension
from trainers.run.directory import RunDirectory
from trainers.run.inference import FinishedRun
from trainers.run.loop import train
from trainers.settings import override
from trainers.step import schedules

SHORT = override(
    digits_linear.get_config(),
    {
        "train.duration": "20 steps",
        "train.log_every": "10 steps",
        "train.evaluate_every": "10 steps",
        "train.checkpoint_every": "10 steps",
        "train.tensorboard": False,
        "schedule.name": "constant",
        "schedule.warmup": "5 steps",
        "execution.mode": "loop",
    },
)
LONG = override(SHORT, {"train.duration": "40 steps"})


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A run that is done. Not to be written to."""
    path = tmp_path_factory.mktemp("short") / "run"
    run(SHORT, path)
    return path


@pytest.fixture
def done(short, tmp_path):
    """A copy of it."""
    return shutil.copytree(short, tmp_path / "run")


def run(config, path, **options):
    return train(config, path, devices=jax.devices()[:1], **options)


def parameters(path):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(FinishedRun(path, checkpoint="last").state)]


def test_a_constant_schedule_goes_on_as_in_a_run_that_was_longer_from_the_start(done, tmp_path):
    run(LONG, tmp_path / "whole")
    summary = run(LONG, done, extend=True)
    assert (summary["status"], summary["step"]) == ("done", 40)
    for one, other in zip(parameters(done), parameters(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(one, other)
    # Both runs stay in the history.
    (before,) = RunDirectory(done).extensions()
    assert (before["step"], before["config"]["train"]["duration"]) == (20, "20 steps")
    assert before["summary"]["step"] == 20
    assert RunDirectory(done).config().train.duration == "40 steps"
    assert [line["step"] for line in RunDirectory(done).metrics() if line["split"] == "train"] == [10, 20, 30, 40]
    changed = [start.get("changed") for start in RunDirectory(done).provenance()["starts"]]
    assert changed == [None, {"train.duration": ["20 steps", "40 steps"]}]


@pytest.fixture(scope="module")
def restarted(short, tmp_path_factory):
    """An extension with another schedule and learning rate, and its config. Not to be written to."""
    config = override(LONG, {"schedule.name": "linear", "optimizer.learning_rate": 0.01})
    path = shutil.copytree(short, tmp_path_factory.mktemp("restarted") / "run")
    run(config, path, extend=True)
    return config, path


@pytest.mark.parametrize("left", ["record", "first checkpoint", "later checkpoint"])
def test_an_extension_that_was_killed_goes_on(short, restarted, done, left):
    config, whole = restarted
    if left == "record":
        RunDirectory(done).record_extension()
    else:
        shutil.copytree(whole, done, dirs_exist_ok=True)
        for step in (30, 40) if left == "first checkpoint" else (40,):
            shutil.rmtree(done / "checkpoints" / str(step))
        if left == "first checkpoint":
            shutil.copytree(short / "checkpoints" / "20", done / "checkpoints" / "20", dirs_exist_ok=True)
        RunDirectory(done).write_status("running", 20)
    run(config, done, extend=left == "record")
    assert RunDirectory(done).status() == {"status": "done", "step": 40, "reason": ""}
    for one, other in zip(parameters(done), parameters(whole), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(RunDirectory(done).extensions()) == 1


@pytest.mark.parametrize(("name", "peak"), [("cosine", 1.0), ("linear", 1.0), ("constant", None)])
def test_a_schedule_that_has_ended_starts_again_at_its_peak(name, peak):
    config = override(SHORT, {"schedule.name": name, "schedule.end": 0.1})
    values = extension.changed_hyperparameters(config, total_steps=100, step=20)
    if peak is None:
        assert set(values) == {"learning_rate"}
        return
    schedule = schedules.build(config.schedule)
    shares = [float(schedule(jnp.float32(step), values)) for step in (20, 60, 100)]
    np.testing.assert_allclose(shares, [peak, 0.55, 0.1], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"train.duration": "40 steps"}, {}, "--extend continues that run, .* --config.transfer.source="),
        ({"train.batch_size": 32}, {}, "give another --workdir, or --overwrite to delete that run"),
        ({"train.duration": "10 steps"}, {"extend": True}, "--extend: train.duration is 10 steps, .* has taken 20"),
        ({"train.duration": "40 steps", "seed": 1}, {"extend": True}, r"another config \(seed is 0 there, 1 here\)"),
        (
            {"train.duration": "40 steps", "schedule.name": "rsqrt"},
            {"extend": True},
            r"another config \(schedule.name is 'constant' there, 'rsqrt' here\)",
        ),
    ],
)
def test_what_an_extension_may_not_change_is_an_error_and_changes_nothing(short, changes, options, message):
    before = {path: path.read_bytes() for path in short.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=message):
        run(override(SHORT, changes), short, **options)
    assert {path: path.read_bytes() for path in short.rglob("*") if path.is_file()} == before


def test_only_a_run_that_is_done_is_extended(done, tmp_path):
    RunDirectory(done).write_status("preempted", 20)
    with pytest.raises(UserError, match=r"--extend: the run in .* is preempted; run it to its end first"):
        run(LONG, done, extend=True)
    with pytest.raises(UserError, match=r"--extend: no run in '.*new'; leave it out to start one"):
        run(LONG, tmp_path / "new", extend=True)
    assert not (tmp_path / "new").exists()
    (done / "status.json").write_text(json.dumps({"status": "done", "step": 20}))
    shutil.rmtree(done / "checkpoints")
    with pytest.raises(UserError, match="--extend: no checkpoint in"):
        run(LONG, done, extend=True)


def test_an_extension_is_refused_beside_what_cannot_be_extended(done):
    with pytest.raises(UserError, match="--extend: cannot be given with --overwrite"):
        run(LONG, done, extend=True, overwrite=True)
    checked = override(LONG, {"transfer.check": True, "transfer.source": str(done)})
    with pytest.raises(UserError, match=r"--extend: cannot be given with transfer\.check"):
        run(checked, done, extend=True)


def test_a_run_is_extended_from_python(done):
    extended = plumbline.train(LONG, done, extend=True)
    assert (extended.status["step"], extended.config.train.duration) == (40, "40 steps")
    with pytest.raises(UserError, match=r"extend=True: train\.duration is 20 steps, and the run has taken 40"):
        plumbline.train(SHORT, done, extend=True)
