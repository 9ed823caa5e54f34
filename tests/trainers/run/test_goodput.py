import json
import math

import pytest

from trainers.run import goodput as module
from trainers.run.directory import RunDirectory
from trainers.run.goodput import Goodput


@pytest.fixture
def at(monkeypatch):
    """Sets the wall clock, in seconds."""

    def set_clock(seconds):
        monkeypatch.setattr(module.time, "time", lambda: seconds)

    return set_clock


def test_every_second_goes_into_one_thing(at):
    at(100.0)
    clock = Goodput(100.0)
    at(110.0)
    clock.add("compile", 4.0)
    clock.begin_stepping(1)
    at(130.0)
    clock.add("evaluation", 5.0)
    clock.add("data", 1.0)
    went = {"steps": 14.0, "start": 6.0, "compile": 4.0, "data": 1.0, "checkpoint": 0.0, "evaluation": 5.0}
    assert clock.seconds() == {**went, "restart": 0.0}
    assert clock.figures(1, flops_per_step=1, peak_flops=None)["goodput"] == pytest.approx(14 / 30)


def test_a_restart_counts_the_time_since_the_checkpoint(at):
    at(110.0)
    before = Goodput(100.0)
    before.begin_stepping(1)
    at(150.0)
    saved = before.to_save()
    # Killed some time later, and started again at 200; what was done after 150 is lost.
    at(200.0)
    after = Goodput(200.0)
    after.resume_from(saved)
    at(203.0)
    after.begin_stepping(11)
    at(213.0)
    seconds = after.seconds()
    assert seconds["steps"] == 40.0 + 10.0
    assert (seconds["start"], seconds["restart"]) == (10.0, 50.0 + 3.0)
    assert sum(seconds.values()) == 113.0


def test_mfu_is_of_the_steps_since_the_last_figures_or_of_the_whole_call(at):
    at(0.0)
    clock = Goodput(0.0)
    clock.begin_stepping(0)
    at(10.0)
    assert clock.figures(100, flops_per_step=6, peak_flops=120.0)["mfu"] == pytest.approx(0.5)
    at(20.0)
    clock.add("checkpoint", 5.0)
    assert clock.figures(200, flops_per_step=6, peak_flops=120.0)["mfu"] == pytest.approx(1.0)
    at(25.0)
    whole = clock.figures(300, flops_per_step=6, peak_flops=120.0, whole_call=True)
    assert whole["model_flops_per_second"] == pytest.approx(300 * 6 / 20)
    assert clock.figures(300, flops_per_step=6, peak_flops=None)["mfu"] is None


def test_rates_leave_out_compiling_and_evaluating_but_not_saving(at):
    at(0.0)
    clock = Goodput(0.0)
    rates = clock.rates(0, 64)
    assert rates.keys() == {"steps_per_second", "examples_per_second"}
    assert all(math.isnan(rate) for rate in rates.values())
    at(5.0)
    clock.begin_stepping(1)
    at(25.0)
    for name in ("compile", "data", "checkpoint", "evaluation"):
        clock.add(name, 2.0)
    assert clock.rates(161, 64) == {"steps_per_second": 10.0, "examples_per_second": 640.0}


def test_a_start_that_takes_no_step_is_counted_as_well(at):
    at(0.0)
    clock = Goodput(0.0)
    at(7.0)
    clock.add("evaluation", 3.0)
    assert clock.seconds()["start"] == 4.0
    assert sum(clock.seconds().values()) == 7.0


def test_a_run_that_goes_back_counts_its_steps_from_there(at):
    at(0.0)
    clock = Goodput(0.0)
    clock.begin_stepping(0)
    at(10.0)
    clock.go_back(50)
    at(20.0)
    assert clock.figures(150, flops_per_step=1, peak_flops=None)["model_flops_per_second"] == pytest.approx(10.0)


@pytest.mark.parametrize("name", ["goodput", "metrics"])
def test_a_half_line_does_not_break_the_next_one(tmp_path, name):
    directory, path = RunDirectory(tmp_path), tmp_path / f"{name}.jsonl"
    append = {
        "goodput": lambda step: directory.append_goodput(step, {"goodput": 0.5}),
        "metrics": lambda step: directory.append_metrics(step, "train", {"loss": 0.5}),
    }[name]
    append(1)
    with path.open("a") as file:
        file.write('{"step": 2, "ti')
    append(3)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 3]
