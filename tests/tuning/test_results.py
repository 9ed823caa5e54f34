import csv
import importlib.util
import math
import pathlib

import numpy as np
import optuna
import pytest
from scipy import stats

from configs import digits_mlp, table
from tuning import best_config, plots, report
from tuning.results import Metric, Results
from tuning.study import Record

ACCURACY = Metric(name="accuracy", higher_is_better=True)
PARAMETERS = Metric(name="parameters", higher_is_better=False, measured=False)


def record(number, scores, overrides=None, values=None, name="accuracy"):
    return Record(
        number=number,
        status="done",
        overrides=overrides or {"model.dropout": number / 10},
        values=values or (float(np.mean(scores)),),
        attributes={"scores": {name: list(scores)}, "parameters": 10 * number, "step": 5},
    )


def test_the_interval_of_seeds_is_students():
    scores = [0.9, 0.92, 0.95, 0.91]
    results = Results([record(0, scores)], [ACCURACY], folds=0, seeds=4)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(scores), scale=stats.sem(scores))
    assert results.interval(results.done[0], ACCURACY) == pytest.approx((np.mean(scores), low, high))


def test_the_margin_is_paired_and_says_whether_it_is_noise():
    # What makes a fold hard for both cancels out.
    hard = np.array([0.0, 0.2, 0.1, 0.3, 0.05])
    ahead = [record(0, 0.9 - hard), record(1, 0.89 - hard + [0, 1e-4, 0, -1e-4, 0])]
    margin = Results(ahead, [ACCURACY], folds=5, seeds=1).margin()
    assert (margin.winner, margin.second, margin.within_noise) == (0, 1, False)
    assert margin.difference[0] == pytest.approx(0.01)
    level = [record(0, [0.9, 0.8, 0.9]), record(1, [0.8, 0.9, 0.88])]
    assert Results(level, [ACCURACY], folds=3, seeds=1).margin().within_noise
    assert Results([record(0, [0.9]), record(1, [0.1])], [ACCURACY], folds=0, seeds=1).margin().within_noise


def test_the_margin_of_a_loss_counts_the_other_way():
    loss = Metric(name="loss", higher_is_better=False)
    records = [record(number, [0.1 + number, 0.11 + number, 0.1 + number], name="loss") for number in (1, 0)]
    margin = Results(records, [loss], folds=3, seeds=1).margin()
    assert (margin.winner, margin.second) == (0, 1)
    assert margin.difference[0] == pytest.approx(1.0)


def test_the_best_of_many_equal_trials_looks_better_than_it_is_but_not_on_folds_without_a_say():
    random = np.random.default_rng(0)
    best, held_out = [], []
    for _ in range(200):
        # No trial is better than another: all differences are chance, and all are worth 0.8.
        scores = 0.8 + 0.05 * random.standard_normal((64, 2 * 5))
        results = Results([record(n, row) for n, row in enumerate(scores)], [ACCURACY], folds=5, seeds=2)
        best.append(results.done[0].values[0])
        held_out.append(results.nested())
    assert np.mean(best) > 0.83
    error = stats.sem(held_out)
    assert abs(np.mean(held_out) - 0.8) < 4 * error < 0.01


def test_a_trial_that_is_truly_better_is_chosen_on_every_fold():
    scores = np.full((3, 4), 0.5)
    scores[1] = [0.9, 0.8, 0.7, 0.6]
    results = Results([record(n, row) for n, row in enumerate(scores)], [ACCURACY], folds=2, seeds=2)
    assert results.nested() == pytest.approx(0.75)
    assert Results([record(0, [0.5])], [ACCURACY], folds=0, seeds=1).nested() is None


def test_the_front_holds_what_no_other_trial_beats():
    values = [(0.9, 100.0), (0.8, 10.0), (0.85, 200.0), (0.9, 90.0), (0.7, 10.0)]
    records = [record(n, [value[0]], values=value) for n, value in enumerate(values)]
    results = Results(records, [ACCURACY, PARAMETERS], folds=0, seeds=1)
    assert {r.number for r in results.front()} == {1, 3}


def test_the_remarks_warn_of_noise_and_give_its_size():
    records = [record(0, [0.9, 0.8, 0.9]), record(1, [0.8, 0.9, 0.88])]
    warning, held_out = report.remarks(Results(records, [ACCURACY], folds=3, seeds=1))
    assert warning.startswith("warning: trial 0 leads trial 1 by 0.006667 accuracy, which is within noise (95 % of")
    assert held_out.startswith("the best of 2 looks better than it is: accuracy 0.8667 as chosen, ")


def test_equal_figures_and_equal_points_are_no_win():
    scores = [0.9, 0.8, 0.7]
    drawn = [record(0, scores), record(1, scores, {"model.dropout": 0.0}), record(2, [0.5, 0.4, 0.3])]
    again, margin, held_out = report.remarks(Results(drawn, [ACCURACY], folds=3, seeds=1))
    assert again == "1 trial drew the same point as another"
    assert margin.startswith("trial 0 leads trial 2 by 0.4 accuracy (95 % of the difference: ")
    assert held_out == "the best of 3: accuracy 0.8000 as chosen, and as much on folds that had no say in the choice"
    level, _ = report.remarks(Results([record(4, scores), record(3, scores)], [ACCURACY], folds=3, seeds=1))
    assert level == (
        "warning: trials 3 and 4 come to the same accuracy; trial 3 is named best only as the first of them"
    )


def test_failures_are_counted_by_their_reasons():
    reasons = ["too wide"] * 3 + ["too deep"]
    failed = [Record(number=n, status="failed", overrides={}, reason=reason) for n, reason in enumerate(reasons)]
    first, *_ = report.remarks(Results([record(4, [0.9]), *failed], [ACCURACY], folds=0, seeds=1))
    assert first == "4 trials failed: too wide (trials 0, 1 and 2); too deep (trial 3)"


def importances_of(count):
    """Of a study in which only the dropout matters."""
    study, random = optuna.create_study(direction="maximize"), np.random.default_rng(0)
    unit, records = optuna.distributions.FloatDistribution(0, 1), []
    for number in range(count):
        drawn = {"model.dropout": random.random(), "optimizer.b1": random.random()}
        value = -abs(drawn["model.dropout"] - 0.3)
        study.add_trial(optuna.create_trial(params=drawn, distributions=dict.fromkeys(drawn, unit), value=value))
        records.append(record(number, [value], drawn))
    results = Results(records, [ACCURACY], folds=0, seeds=1)
    return report.importances(study, results), results


def test_importances_are_of_the_finished_trials_and_of_few_there_are_none():
    assert importances_of(19)[0] == "no importances: too few trials (19 finished; below 20 they would be chance)"
    shares, results = importances_of(20)
    assert shares["model.dropout"] > 0.8
    pruned = Record(number=20, status="pruned", overrides={})
    line = report.importance_line(shares, Results([*results.records, pruned], [ACCURACY], folds=0, seeds=1))
    assert line.startswith("importance over the 20 finished trials, without 1 pruned: model.dropout ")


def test_slices_have_a_scale_for_the_shade_of_trials(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    plots.slices(Results([record(n, [0.5 + n / 10]) for n in range(4)], [ACCURACY], folds=0, seeds=1), tmp_path)
    slice_, scale = figures[0].axes
    assert (slice_.get_xlabel(), scale.get_ylabel(), scale.get_ylim()) == ("model.dropout", "trial", (0, 3))


def test_the_csv_has_a_row_for_every_trial(tmp_path):
    failed = Record(number=1, status="failed", overrides={"optimizer.name": "sgd"}, reason="1 of 1 trainings diverged")
    results = Results([record(0, [0.9, 0.8]), failed], [ACCURACY], folds=2, seeds=1)
    report.write_csv(results, tmp_path / "trials.csv")
    with (tmp_path / "trials.csv").open() as file:
        done, lost = csv.DictReader(file)
    assert (done["trial"], done["status"], float(done["accuracy"])) == ("0", "done", pytest.approx(0.85))
    assert float(done["accuracy low"]) < 0.85 < float(done["accuracy high"])
    assert (lost["status"], lost["optimizer.name"], lost["accuracy"]) == ("failed", "sgd", "")
    assert lost["reason"] == "1 of 1 trainings diverged"


@pytest.mark.parametrize("choices", [[0.0, 0.1, 0.2], [(64,), (32, 32), (8,)]])
def test_plots_are_pictures(choices, tmp_path):
    records = [
        record(n, [0.5 + n / 10], {"a.b": choice, "c": 10.0 ** (n - 2)}, values=(0.5 + n / 10, 10.0 * n))
        for n, choice in enumerate(choices)
    ]
    results = Results(records, [ACCURACY, PARAMETERS], folds=0, seeds=1)
    files = report.write_plots(results, {"a.b": 0.7, "c": 0.3}, tmp_path)
    assert [file.name for file in files] == ["history.png", "slices.png", "importances.png", "pareto.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size > 5000 for file in files)


def load(path):
    spec = importlib.util.spec_from_file_location("best_config", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


@pytest.mark.parametrize(
    ("module", "argument"), [(digits_mlp, None), (table, 'a "table".csv,target=y')], ids=["plain", "argument"]
)
def test_the_best_config_is_the_searchs_config_with_the_trials_overrides(module, argument, tmp_path):
    base = module.get_config(*([] if argument is None else [argument]))
    config = base.copy_and_resolve_references()
    config.train.duration = "3 epochs"
    overrides = {"optimizer.learning_rate": 0.02, "model.mlp.hidden_sizes": (16, 8)}
    best_config.write(
        tmp_path / "best_config.py",
        base=pathlib.Path(module.__file__),
        argument=argument,
        base_config=base,
        config=config,
        overrides=overrides,
        found="The best.",
    )
    config.optimizer.learning_rate = 0.02
    config.model.mlp.hidden_sizes = (16, 8)
    assert load(tmp_path / "best_config.py").to_dict() == config.to_dict()


def test_the_best_config_finds_a_base_that_lies_elsewhere(tmp_path):
    base = tmp_path / "mine.py"
    base.write_text("from configs.digits_mlp import get_config\n")
    config = digits_mlp.get_config()
    written = {"base": base, "argument": None, "base_config": config, "config": config, "found": "The best."}
    best_config.write(tmp_path / "run" / "best_config.py", overrides={"model.dropout": 0.5}, **written)
    assert load(tmp_path / "run" / "best_config.py").model.dropout == 0.5


def test_one_value_has_no_interval():
    results = Results([record(0, [0.9])], [ACCURACY], folds=0, seeds=1)
    mean, low, high = results.interval(results.done[0], ACCURACY)
    assert mean == 0.9
    assert math.isnan(low)
    assert math.isnan(high)
