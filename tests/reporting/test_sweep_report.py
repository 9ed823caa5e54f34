"""What a search prints and writes, from records made by hand."""

import csv
import importlib.util
import pathlib
import xml.etree.ElementTree

import numpy as np
import pytest

from configs import digits_mlp, table
from reporting import plot_style, sweep_files, sweep_plots, sweep_text
from reporting.best_config import BaseConfig, write_best_config
from tuning.importances import Importances
from tuning.metrics import Metric
from tuning.results import Results
from tuning.trials import TrialRecord

ACCURACY = Metric(name="accuracy", higher_is_better=True)
PARAMETERS = Metric(name="parameters", higher_is_better=False, measured=False)


def record(number, scores, overrides=None, values=None):
    return TrialRecord(
        number=number,
        status="done",
        overrides=overrides or {"model.dropout": number / 10},
        values=values or (float(np.mean(scores)),),
        attributes={"scores": {"accuracy": list(scores)}, "parameters": 10 * number, "step": 5},
    )


def test_importances_name_the_trials_that_they_are_computed_from():
    pruned = TrialRecord(number=2, status="pruned", overrides={})
    results = Results([record(0, [0.9]), record(1, [0.8]), pruned], [ACCURACY], folds=0, seeds=1)
    shares = {"model.dropout": 0.75, "optimizer.b1": 0.25}
    found = Importances(shares=shares, chance={"model.dropout": 0.01, "optimizer.b1": 0.4})
    line = sweep_text.format_importances(found, results)
    assert "2 finished trials, without 1 pruned: model.dropout 75% (p = 0.01); not above chance: optimizer.b1" in line
    nothing = Importances(shares=shares, chance={"model.dropout": 0.2, "optimizer.b1": 0.4})
    assert "none above chance (the largest, model.dropout, p = 0.2)" in sweep_text.format_importances(nothing, results)


def test_a_front_is_described_with_the_place_of_the_best_trial():
    records = [record(0, [0.9], values=(0.9, 1210.0)), record(1, [0.8], values=(0.8, 330.0))]
    text = sweep_text.describe_best(Results(records, [ACCURACY, PARAMETERS], folds=0, seeds=1), "configs/x.py")
    assert text.startswith("Trial 0, one point of the front of 2 trials of configs/x.py:")
    assert "accuracy 0.9, parameters 1,210" in text
    assert "the highest accuracy on the front, beside trial 1" in text


def test_the_remarks_warn_of_noise_and_give_its_size():
    records = [record(0, [0.9, 0.8, 0.9]), record(1, [0.8, 0.9, 0.88])]
    warning, held_out = sweep_text.make_remarks(Results(records, [ACCURACY], folds=3, seeds=1))
    assert warning.startswith("warning: trial 0 leads trial 1 by 0.006667 accuracy, which is within noise (95 % of")
    assert held_out.startswith("the best of 2 looks better than it is: accuracy 0.8667 as selected, ")


def test_equal_figures_and_equal_points_are_no_win():
    scores = [0.9, 0.8, 0.7]
    drawn = [record(0, scores), record(1, scores, {"model.dropout": 0.0}), record(2, [0.5, 0.4, 0.3])]
    again, margin, held_out = sweep_text.make_remarks(Results(drawn, [ACCURACY], folds=3, seeds=1))
    assert again == "1 trial drew the same point as another"
    assert margin.startswith("trial 0 leads trial 2 by 0.4 accuracy (95 % of the difference: ")
    assert held_out.startswith("the best of 3: accuracy 0.8000 as selected, and the same (95 %: 0.")
    assert held_out.endswith(" to 1.0000) on folds that did not select it")
    level, _ = sweep_text.make_remarks(Results([record(4, scores), record(3, scores)], [ACCURACY], folds=3, seeds=1))
    assert level.startswith("warning: trials 3 and 4 have the same accuracy; ")
    assert "trial 3" in level.partition(";")[2]


def test_failures_are_counted_by_their_reasons():
    reasons = ["too wide"] * 3 + ["too deep"]
    failed = [TrialRecord(number=n, status="failed", overrides={}, reason=reason) for n, reason in enumerate(reasons)]
    first, *_ = sweep_text.make_remarks(Results([record(4, [0.9]), *failed], [ACCURACY], folds=0, seeds=1))
    assert first == "4 trials failed: too wide (trials 0, 1 and 2); too deep (trial 3)"


def test_slices_have_a_scale_for_the_shade_of_trials():
    figure = sweep_plots.draw_slices(
        Results([record(n, [0.5 + n / 10]) for n in range(4)], [ACCURACY], folds=0, seeds=1)
    )
    slice_, scale = figure.axes
    assert (slice_.get_xlabel(), scale.get_ylabel(), scale.get_ylim()) == ("model.dropout", "trial", (0, 3))


def test_the_csv_has_a_row_for_every_trial(tmp_path):
    failed = TrialRecord(
        number=1, status="failed", overrides={"optimizer.name": "sgd"}, reason="1 of 1 trainings diverged"
    )
    results = Results([record(0, [0.9, 0.8]), failed], [ACCURACY], folds=2, seeds=1)
    sweep_files.write_trials(results, tmp_path / "trials.csv")
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
    files = sweep_plots.draw_all(
        results, Importances(shares={"a.b": 0.7, "c": 0.3}, chance={"a.b": 0.01, "c": 0.5}), tmp_path
    )
    names = ["history", "slices", "importances", "pareto"]
    assert list(files) == [f"{name}.{kind}" for name in names for kind in ("png", "svg")]
    for name in names:
        content = (tmp_path / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 5000
        assert xml.etree.ElementTree.parse(tmp_path / f"{name}.svg").getroot().tag.endswith("svg")


def test_formats_are_chosen_in_one_place_and_files_have_no_date(tmp_path, monkeypatch):
    monkeypatch.setattr(plot_style, "FORMATS", ("pdf", "svg"))
    results = Results([record(0, [0.5]), record(1, [0.6])], [ACCURACY], folds=0, seeds=1)
    for name in "ab":
        (tmp_path / name).mkdir()
        assert sweep_plots.draw_all(results, None, tmp_path / name)[:2] == ("history.pdf", "history.svg")
    for kind in ("pdf", "svg"):
        first, second = ((tmp_path / name / f"history.{kind}").read_bytes() for name in "ab")
        assert first == second
    assert (tmp_path / "a" / "history.pdf").read_bytes().startswith(b"%PDF")


def load(path):
    spec = importlib.util.spec_from_file_location("best_config", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


@pytest.mark.parametrize(
    ("module", "argument"), [(digits_mlp, None), (table, 'a "table".csv,target=y')], ids=["plain", "argument"]
)
def test_the_best_config_is_the_config_of_the_search_with_the_overrides_of_the_trial(module, argument, tmp_path):
    base = module.get_config(*([] if argument is None else [argument]))
    config = base.copy_and_resolve_references()
    config.train.duration = "3 epochs"
    overrides = {"optimizer.learning_rate": 0.02, "model.mlp.hidden_sizes": (16, 8)}
    write_best_config(
        tmp_path / "best_config.py",
        base=BaseConfig(file=pathlib.Path(module.__file__), argument=argument, config=base),
        config=config,
        overrides=overrides,
        description="The best.",
    )
    config.optimizer.learning_rate = 0.02
    config.model.mlp.hidden_sizes = (16, 8)
    assert load(tmp_path / "best_config.py").to_dict() == config.to_dict()


def test_the_best_config_finds_a_base_that_lies_elsewhere(tmp_path):
    base = tmp_path / "mine.py"
    base.write_text("from configs.digits_mlp import get_config\n")
    config = digits_mlp.get_config()
    write_best_config(
        tmp_path / "run" / "best_config.py",
        base=BaseConfig(file=base, argument=None, config=config),
        config=config,
        overrides={"model.dropout": 0.5},
        description="The best.",
    )
    assert load(tmp_path / "run" / "best_config.py").model.dropout == 0.5
