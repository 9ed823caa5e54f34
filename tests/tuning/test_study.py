import collections
import importlib.util
import pathlib
import random
import signal
import time

import numpy as np
import optuna
import pytest

from plumbline import UserError
from tuning.directory import check_same

_SPEC = importlib.util.spec_from_file_location("study_worker", pathlib.Path(__file__).with_name("study_worker.py"))
worker = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(worker)

TRIALS = 24


def results(workdir, **given):
    with worker.opened(workdir, **given) as study:
        return study.records()


def points_and_values(records):
    return [(tuple(sorted(record.overrides.items())), record.values) for record in records]


def search(workdir, *, trials=TRIALS, batch=4, **given):
    """Runs a search to its end in this process."""
    with worker.opened(workdir, **given) as study:
        study.fill([{}] * trials)
        while taken := study.take(batch):
            for trial in taken:
                study.tell(trial.number, [worker.value(trial.overrides)], attributes={})
        return study.records()


def output(process):
    out, error = process.communicate(timeout=120)
    return out, error


def wait_for(process, word, count):
    """Until a line of the process's output has begun with `word` so often."""
    while count and (line := process.stdout.readline()):
        count -= line.startswith(word)
    assert not count


@pytest.mark.parametrize("sampler", ["random", "tpe", "cmaes", "nsga2"])
def test_a_search_is_a_pure_function_of_its_seed(sampler, tmp_path):
    first, second = (search(tmp_path / name, sampler=sampler) for name in "ab")
    assert points_and_values(first) == points_and_values(second)
    assert len(first) == TRIALS
    assert all(record.status == "done" for record in first)


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_what_samplers_learn_beats_drawing_at_random(sampler, tmp_path):
    means = {
        name: np.mean([record.values[0] for record in search(tmp_path / name, sampler=name, trials=48)[24:]])
        for name in ("random", sampler)
    }
    assert means[sampler] > means["random"]


@pytest.mark.parametrize("share", np.linspace(0, 1, 12))
def test_a_batch_that_was_cut_off_while_it_was_drawn_goes_on_with_the_same_trials(share, tmp_path):
    whole = search(tmp_path / "whole", batch=8)
    journal = tmp_path / "cut" / "journal.log"
    with worker.opened(tmp_path / "cut") as study:
        study.fill([{}] * TRIALS)
        for trial in study.take(8):
            study.tell(trial.number, [worker.value(trial.overrides)], attributes={})
        before = len(journal.read_text().splitlines())
        study.take(8)
    # What a kill leaves: the lines up to a claim, a win, a signature or a draw, and half of the next.
    lines = journal.read_text().splitlines(keepends=True)
    last = before + round(share * (len(lines) - before))
    journal.write_text("".join(lines[:last]) + '{"op_code":5,"wor')
    assert points_and_values(search(tmp_path / "cut", batch=8)) == points_and_values(whole)


def test_what_two_workers_queued_at_the_same_moment_is_run_once(tmp_path):
    with worker.opened(tmp_path, sampler="grid") as study:
        study.fill(list(worker.space().grid()))
        for slot, point in enumerate(worker.space().grid()):
            study.as_optuna().enqueue_trial(worker.space().drawn(point), user_attrs={"slot": slot})
        ran = []
        while taken := study.take(16):
            for trial in taken:
                ran.append(trial.overrides)
                study.tell(trial.number, [worker.value(trial.overrides)], attributes={})
        assert ran == list(worker.space().grid()) == [record.overrides for record in study.records()]


def test_a_batch_cut_off_while_its_results_were_stored_is_finished(tmp_path):
    with worker.opened(tmp_path) as study:
        study.fill([{}] * 8)
        first = study.take(4)
        for trial in first[:2]:
            study.tell(trial.number, [worker.value(trial.overrides)], attributes={})
    with worker.opened(tmp_path) as study:
        again = study.take(4)
        assert [(trial.number, trial.finished) for trial in again] == [(0, True), (1, True), (2, False), (3, False)]
        assert [trial.overrides for trial in again] == [trial.overrides for trial in first]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_a_search_killed_twice_at_random_moments_ends_with_the_trials_of_an_uninterrupted_one(
    seed, tmp_path, start_worker
):
    expected = points_and_values(search(tmp_path / "whole", sampler="tpe"))
    moments = random.Random(seed)
    for _ in range(2):
        process = start_worker(workdir=tmp_path / "killed")
        wait_for(process, "begin", moments.randrange(1, 10))
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        assert output(process)
    out, error = output(start_worker(workdir=tmp_path / "killed"))
    assert "stored 23" in out, error
    assert points_and_values(results(tmp_path / "killed", sampler="tpe")) == expected


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["grid", "tpe"])
def test_two_workers_share_a_study_and_run_each_trial_once(sampler, tmp_path, start_worker):
    shared = {"storage": f"journal:{tmp_path / 'study.log'}", "sampler": sampler, "trials": 40}
    both = [start_worker(workdir=tmp_path / name, worker=name, seconds=0.1, **shared) for name in "ab"]
    outputs = [output(process)[0] for process in both]
    begun = collections.Counter(line for out in outputs for line in out.splitlines())
    records = results(tmp_path, storage=shared["storage"], sampler=sampler)
    assert {record.attributes["worker"] for record in records} == {"a", "b"}
    assert len(records) == (60 if sampler == "grid" else 40)
    assert all(begun[f"begin {record.number}"] == begun[f"stored {record.number}"] == 1 for record in records)
    if sampler == "grid":
        points = sorted(sorted(record.overrides.items()) for record in records)
        assert points == sorted(sorted(point.items()) for point in worker.space().grid())


def test_the_trials_of_a_dead_worker_come_back_and_are_run_once(tmp_path, start_worker):
    shared = {"storage": f"journal:{tmp_path / 'study.log'}", "trials": 12, "sampler": "random"}
    doomed = start_worker(workdir=tmp_path / "a", worker="a", seconds=60, **shared)
    wait_for(doomed, "begin", 4)
    other = start_worker(workdir=tmp_path / "b", worker="b", **shared)
    wait_for(other, "stored", 8)
    # All that is left is in the hands of a worker that lives; so the other one waits.
    assert other.poll() is None
    doomed.kill()
    out, error = output(other)
    assert out.count("stored") == 4, error
    records = results(tmp_path, storage=shared["storage"], sampler="random")
    assert len(records) == 12
    assert all(record.status == "done" for record in records)
    # The points are those that the dead one had drawn.
    assert sorted(points_and_values(records)) == sorted(
        points_and_values(search(tmp_path / "alone", trials=12, sampler="random"))
    )


def test_results_of_a_frozen_worker_that_comes_back_too_late_do_not_count(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    frozen = worker.opened(tmp_path, storage=storage, name="s", worker="frozen", dead_after=1)
    frozen.fill([{}] * 2)
    (mine, _) = frozen.take(2)
    frozen._heartbeats.close()
    time.sleep(2.5)
    with worker.opened(tmp_path, storage=storage, name="s", worker="other", dead_after=1) as other:
        taken = other.take(2)
        assert sorted(points_of(taken)) == sorted(points_of([mine, _]))
        assert not frozen.tell(mine.number, [1.0], attributes={})
        for trial in taken:
            assert other.tell(trial.number, [worker.value(trial.overrides)], attributes={})
        assert [record.status for record in other.records()] == ["done", "done"]
    frozen.close()


def points_of(batch):
    return [tuple(sorted(trial.overrides.items())) for trial in batch]


def test_a_failed_trial_is_not_run_again(tmp_path):
    with worker.opened(tmp_path) as study:
        study.fill([{}] * 3)
        first, second, third = study.take(3)
        study.tell(first.number, None, attributes={}, failure="1 of 3 trainings diverged")
        study.report(second.number, 5, 0.25)
        study.tell(second.number, None, attributes={}, pruned=True)
        study.tell(third.number, [0.5], attributes={"scores": {"accuracy": [0.4, 0.6]}})
        assert study.take(3) == []
        failed, pruned, done = study.records()
        states = [trial.state for trial in study.as_optuna().trials]
    assert states == [optuna.trial.TrialState[name] for name in ("FAIL", "PRUNED", "COMPLETE")]
    assert (failed.status, failed.reason) == ("failed", "1 of 3 trainings diverged")
    assert (pruned.status, pruned.steps) == ("pruned", {5: 0.25})
    assert (done.status, done.values, done.attributes) == ("done", (0.5,), {"scores": {"accuracy": [0.4, 0.6]}})


def test_more_trials_may_be_asked_for_later(tmp_path):
    few = search(tmp_path, trials=8)
    more = search(tmp_path, trials=16)
    assert points_and_values(more[:8]) == points_and_values(few)
    assert points_and_values(more) == points_and_values(search(tmp_path / "at once", trials=16))


def test_a_study_of_another_space_or_search_is_an_error(tmp_path):
    search(tmp_path, trials=2)
    given = {"storage": None, "name": None, "workdir": tmp_path, "worker": "two", "sampler": "tpe", "seed": 0}
    other = worker.parse({"model.dropout": [0.1]}, worker.digits_mlp.get_config())
    with pytest.raises(
        UserError, match=r"holds a search over another space \('model.dropout' has other values there\)"
    ):
        worker.Study(space=other, directions=["maximize"], settings={"folds": 3}, **given)
    with pytest.raises(UserError, match=r"holds another search \(folds is 3 there, 5 here\); give another --study"):
        worker.Study(space=worker.space(), directions=["maximize"], settings={"folds": 5}, **given)


def test_a_config_field_that_was_added_since_then_counts_as_its_default():
    there, here = {"folds": 3}, {"folds": 3, "config.optimizer.momentum": 0.9, "config.data.classes": []}
    check_same(there, here, "--workdir", "another")
    with pytest.raises(UserError, match=r"\(config.optimizer.momentum is 0.9 there, 0.5 here\)"):
        check_same(there, {**here, "config.optimizer.momentum": 0.5}, "--workdir", "another")


def test_a_worker_that_is_stopped_by_sigterm_goes_on_where_it_was(tmp_path, start_worker):
    process = start_worker(workdir=tmp_path / "stopped")
    wait_for(process, "begin", 6)
    process.send_signal(signal.SIGTERM)
    assert output(process)
    assert output(start_worker(workdir=tmp_path / "stopped"))
    assert points_and_values(results(tmp_path / "stopped", sampler="tpe")) == points_and_values(
        search(tmp_path / "whole", sampler="tpe")
    )


class TestPostgreSQL:
    """The same over a real server."""

    @pytest.mark.slow
    @pytest.mark.parametrize("sampler", ["grid", "tpe"])
    def test_two_workers_share_a_study_and_run_each_trial_once(self, sampler, postgres, tmp_path, start_worker):
        shared = {"storage": postgres, "name": f"shared {sampler}", "sampler": sampler, "trials": 40}
        both = [start_worker(workdir=tmp_path / name, worker=name, seconds=0.2, **shared) for name in "ab"]
        outputs = [output(process) for process in both]
        begun = collections.Counter(line for out, _ in outputs for line in out.splitlines())
        records = results(tmp_path, storage=postgres, sampler=sampler, name=shared["name"])
        assert {record.attributes["worker"] for record in records} == {"a", "b"}, outputs
        assert len(records) == (60 if sampler == "grid" else 40)
        assert all(begun[f"begin {record.number}"] == begun[f"stored {record.number}"] == 1 for record in records)
        assert all(record.status == "done" for record in records)

    @pytest.mark.slow
    def test_the_trials_of_a_dead_worker_come_back_and_are_run_once(self, postgres, tmp_path, start_worker):
        shared = {"storage": postgres, "name": "dead", "trials": 12, "sampler": "random", "dead_after": 3}
        doomed = start_worker(workdir=tmp_path / "a", worker="a", seconds=60, **shared)
        wait_for(doomed, "begin", 4)
        other = start_worker(workdir=tmp_path / "b", worker="b", **shared)
        wait_for(other, "stored", 8)
        # For longer than a dead one is given, its heart beats.
        time.sleep(6)
        assert other.poll() is None
        doomed.kill()
        out, error = output(other)
        assert out.count("stored") == 4, error
        records = results(tmp_path, storage=postgres, name="dead", sampler="random")
        assert [record.status for record in records] == ["done"] * 12
        assert sorted(points_and_values(records)) == sorted(
            points_and_values(search(tmp_path / "alone", trials=12, sampler="random"))
        )

    @pytest.mark.slow
    def test_a_search_killed_twice_ends_with_the_trials_of_an_uninterrupted_one(self, postgres, tmp_path, start_worker):
        shared = {"storage": postgres, "name": "killed"}
        for count in (3, 7):
            process = start_worker(workdir=tmp_path, **shared)
            wait_for(process, "begin", count)
            time.sleep(random.Random(count).uniform(0, 0.5))
            process.kill()
            assert output(process)
        out, error = output(start_worker(workdir=tmp_path, **shared))
        assert "stored 23" in out, error
        expected = points_and_values(search(tmp_path / "whole", sampler="tpe"))
        assert points_and_values(results(tmp_path, storage=postgres, name="killed", sampler="tpe")) == expected
