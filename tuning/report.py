"""What a search prints and writes at its end: the best trials, `trials.csv`, `summary.json` and plots."""

import csv
import io
import math
import pathlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import rich.console
import rich.table
from optuna.importance import PedAnovaImportanceEvaluator

from diagnostics.statistics import Interval
from plumbline import counted
from plumbline.files import write_json, write_text
from tuning import plots
from tuning.results import Metric, Results
from tuning.study import Record

_SHOWN = 10
# Numbers of trials in a sentence, and reasons of failures.
_NAMED = 5
# A difference that is rounding.
_LEVEL = 1e-12
# Importances compare the best trials with all: at least `_BEST` of them, as Optuna advises, and at most a quarter.
# Measured on 60 searches at random with four hyperparameters, of which one mattered: of 20 trials it came first in 93 %
# (77 % with noise), of 8 in 82 % (58 %); with the best tenth alone, in 53 % (33 %) and 28 % (27 %).
_BEST, _ENOUGH = 5, 20
# The best tenth, as Optuna has it.
_USUAL_QUANTILE = 0.1
# Of a table that no terminal shows.
_WIDTH = 160


def print_best(results: Results) -> None:
    """Prints a table of the best trials on standard output; of several metrics, those that no trial beats."""
    several = len(results.metrics) > 1
    shown = results.front() if several else results.done
    kind = "Trials that no other beats" if several else f"Best of {counted(results.tried, 'trial')}"
    names = sorted({name for record in shown[:_SHOWN] for name in record.overrides})
    table = rich.table.Table(title=f"{kind} ({_over(results)})", title_justify="left")
    table.add_column("trial", justify="right")
    for metric in results.metrics:
        table.add_column(metric.label, justify="right")
    for name in names:
        last = name.rpartition(".")[2]
        unique = sum(other.rpartition(".")[2] == last for other in names) == 1
        table.add_column(last if unique else name, justify="right")
    for record in shown[:_SHOWN]:
        cells = [_interval(results.interval(record, metric)) for metric in results.metrics]
        table.add_row(str(record.number), *cells, *(_cell(record.overrides.get(name, "")) for name in names))
    rich.console.Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)


def remarks(results: Results) -> list[str]:
    """What has to be known about the winner: whether its margin is noise, and what it is worth on held-out folds."""
    lines = []
    metric, points = results.metrics[0], results.points
    if results.failed:
        lines.append(f"{counted(len(results.failed), 'trial')} failed: {reasons(results.failed)}")
    if again := len(results.done) - len(points):
        lines.append(f"{counted(again, 'trial')} drew the same point as another")
    if (margin := results.margin()) is not None:
        size, low, high = margin.difference
        who = f"trial {margin.winner} leads trial {margin.second} by {size:.4g} {metric.name}"
        if abs(size) < _LEVEL:
            level = [each for each in points if abs(each.values[0] - points[0].values[0]) < _LEVEL]
            best = f"trial {margin.winner} is named best only as the first of them"
            lines.append(f"warning: {_trials(level)} come to the same {metric.name}; {best}")
        elif margin.count < 2:
            lines.append(f"warning: {who}; one fold and one seed cannot tell whether that is noise")
        elif margin.within_noise:
            lines.append(f"warning: {who}, which is within noise (95 % of the difference: {low:.4g} to {high:.4g})")
        else:
            lines.append(f"{who} (95 % of the difference: {low:.4g} to {high:.4g})")
    if results.folds and results.pruned and len(points) == 1:
        better = f"the best of {results.tried} looks better than it is"
        lines.append(f"warning: {better}; as no other came to its end, nothing says by how much")
    elif results.tried > 1 and (held_out := results.nested()) is not None:
        chosen, held_out = f"{results.done[0].values[0]:.4f}", f"{held_out:.4f}"
        folds = "on folds that had no say in the choice"
        if results.pruned:
            folds += f" (but had one when {results.pruned} {'was' if results.pruned == 1 else 'were'} pruned)"
        if chosen == held_out:
            lines.append(f"the best of {results.tried}: {metric.name} {chosen} as chosen, and as much {folds}")
        else:
            better = f"the best of {results.tried} looks better than it is"
            lines.append(f"{better}: {metric.name} {chosen} as chosen, {held_out} {folds}")
    elif results.tried > 1 and metric.measured:
        lines.append(
            f"warning: the best of {results.tried} looks better than it is, and only --folds can say by how much"
        )
    if len(results.metrics) > 1:
        front, best = results.front(), results.done[0]
        lines.append(f"best_config.py is trial {best.number}, {_place(results)} of {counted(len(front), 'trial')}")
    return lines


def reasons(failed: Sequence[Record]) -> str:
    """Why trials failed, each reason once with the trials it befell."""
    by_reason: dict[str, list[Record]] = {}
    for record in failed:
        by_reason.setdefault(record.reason, []).append(record)
    texts = [f"{reason} ({_trials(records)})" for reason, records in by_reason.items()]
    more = [f"{counted(len(texts) - _NAMED, 'other reason')}, see trials.csv"] if len(texts) > _NAMED else []
    return "; ".join([*texts[:_NAMED], *more])


def write_csv(results: Results, path: pathlib.Path) -> None:
    """Writes a row for each trial: number, status, metrics with intervals, its config fields, and why it failed."""
    names = sorted({name for record in results.records for name in record.overrides})
    scores = sorted({name for record in results.records for name in record.attributes.get("scores", {})})
    known = {metric.name for metric in results.metrics}
    rows = []
    for record in results.records:
        row: dict[str, Any] = {"trial": record.number, "status": record.status}
        for metric in results.metrics if record.status == "done" else ():
            mean, low, high = results.interval(record, metric)
            row |= {metric.label: mean, f"{metric.label} low": _known(low), f"{metric.label} high": _known(high)}
        for name in scores if record.status == "done" else ():
            if name not in known and name in record.attributes["scores"]:
                row[name] = results.interval(record, Metric(name=name, higher_is_better=True))[0]
        row |= {"parameters": record.attributes.get("parameters", ""), "step": record.attributes.get("step", "")}
        row |= {name: record.overrides.get(name, "") for name in names}
        rows.append({**row, "reason": record.reason})
    metrics = [f"{metric.label}{end}" for metric in results.metrics for end in ("", " low", " high")]
    others = [name for name in scores if name not in known]
    columns = dict.fromkeys(["trial", "status", *metrics, *others, "parameters", "step", *names, "reason"])
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_summary(results: Results, path: pathlib.Path, *, population: Mapping[str, Any]) -> None:
    """Writes the figures that are printed as JSON, and what the trainings took."""
    margin = results.margin()
    summary = {
        "trials": {
            status: sum(record.status == status for record in results.records)
            for status in ("done", "pruned", "failed", "running", "waiting")
        },
        "metrics": [metric.label for metric in results.metrics],
        "folds": results.folds,
        "seeds": results.seeds,
        "best": [
            {
                "trial": record.number,
                "overrides": dict(record.overrides),
                "metrics": {metric.label: results.interval(record, metric) for metric in results.metrics},
            }
            for record in (results.front() if len(results.metrics) > 1 else results.done[:_SHOWN])
        ],
        "margin": margin
        and {
            "winner": margin.winner,
            "second": margin.second,
            "difference": margin.difference,
            "within_noise": margin.within_noise,
        },
        "held_out": results.nested(),
        "population": dict(population),
    }
    write_json(path, summary)


def importances(study: optuna.Study, results: Results) -> dict[str, float] | str:
    """The share of each hyperparameter in what the first metric depends on (PED-ANOVA, Watanabe et al. 2023).

    Only finished trials count: what was pruned or failed has no value to compare.

    Returns:
      Shares by config path, the greatest first; or why there are none.
    """
    count = len(results.done)
    if count < _ENOUGH:
        return f"no importances: too few trials ({count} finished; below {_ENOUGH} they would be chance)"
    names = {name for record in results.done for name in record.overrides}
    varied = [n for n in names if len({repr(record.overrides.get(n)) for record in results.done}) > 1]
    values = {record.values[0] for record in results.done}
    if len(values) < 2 or not varied:
        return f"no importances: all {count} finished trials came to the same value"
    sign = -1 if results.metrics[0].higher_is_better else 1
    try:
        with warnings.catch_warnings():
            # It takes low values for good ones, and says so at each call.
            warnings.simplefilter("ignore", UserWarning)
            evaluator = PedAnovaImportanceEvaluator(target_quantile=max(_USUAL_QUANTILE, _BEST / count))
            shares = optuna.importance.get_param_importances(
                study, evaluator=evaluator, target=lambda trial: sign * trial.values[0]
            )
    except (ValueError, RuntimeError) as error:
        return f"no importances: {error}"
    # Equal ones come in no order.
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


def importance_line(shares: Mapping[str, float], results: Results) -> str:
    """The importances in one line, with the trials that they are of."""
    counts = {"pruned": results.pruned, "failed": len(results.failed)}
    others = [f"{count} {status}" for status, count in counts.items() if count]
    aside = f", without {' and '.join(others)}" if others else ""
    figures = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return f"importance over the {len(results.done)} finished trials{aside}: {figures}"


def write_plots(results: Results, shares: Mapping[str, float] | None, folder: pathlib.Path) -> list[pathlib.Path]:
    """Draws `history.png`, `slices.png`, `importances.png` and, of several metrics, `pareto.png`.

    Returns:
      The files.
    """
    files = [folder / "history.png", folder / "slices.png"]
    plots.history(results, files[0])
    plots.slices(results, files[1])
    if shares:
        files.append(folder / "importances.png")
        plots.importances(shares, files[-1])
    if len(results.metrics) > 1:
        files.append(folder / "pareto.png")
        plots.pareto(results, files[-1])
    return files


def found(results: Results, config: str) -> str:
    """What the best trial is: a line, or of several metrics more, which say where on the front it lies."""
    record = results.done[0]
    values = ", ".join(f"{metric.label} {_interval(results.interval(record, metric))}" for metric in results.metrics)
    if len(results.metrics) == 1:
        return f"Trial {record.number}, the best of {results.tried} of {config}: {values}, {_over(results)}."
    others = [each for each in results.front() if each.number != record.number]
    return "\n".join(
        [
            f"Trial {record.number}, one point of the front of {counted(results.tried, 'trial')} of {config}:",
            f"{values}, {_over(results)}.",
            "",
            f"It is {_place(results)}, {f'beside {_trials(others)} in trials.csv' if others else 'and alone there'}.",
        ]
    )


def _place(results: Results) -> str:
    """Where on the front the best trial lies."""
    metric = results.metrics[0]
    return f"the point with the {'highest' if metric.higher_is_better else 'lowest'} {metric.name} on the front"


def _trials(records: Sequence[Record]) -> str:
    """Such as "trial 3" or "trials 1, 4 and 6"; "" of none."""
    numbers = [str(record.number) for record in records[:_NAMED]]
    if more := len(records) - len(numbers):
        numbers.append(f"{more} more")
    joined = " and ".join([*filter(None, [", ".join(numbers[:-1])]), *numbers[-1:]])
    return joined and f"trial{'s' if len(records) > 1 else ''} {joined}"


def _over(results: Results) -> str:
    parts = [f"{results.folds} folds"] if results.folds else ["validation split"]
    if results.seeds > 1:
        parts.append(f"{results.seeds} seeds")
    return "mean and 95 % interval over " + " and ".join(parts) if _many(results) else f"on the {parts[0]}"


def _many(results: Results) -> bool:
    return results.folds > 0 or results.seeds > 1


def _interval(interval: Interval) -> str:
    mean, low, high = interval
    return _number(mean) if math.isnan(low) else f"{_number(mean)} ({_number(low)} to {_number(high)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 100 else f"{value:.4g}"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
