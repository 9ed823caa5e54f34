"""What a search prints and writes at its end: the best trials, `trials.csv`, `summary.json` and plots."""

import csv
import io
import math
import pathlib
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
import rich.console
import rich.table

from diagnostics.statistics import Interval
from experiments.searching import plots
from experiments.searching.results import Metric, Results
from experiments.workplace import write_json
from plumbline.files import write_text

_SHOWN = 10
# A difference that is rounding.
_LEVEL = 1e-12
# Of a table that no terminal shows.
_WIDTH = 160


def print_best(results: Results) -> None:
    """Prints a table of the best trials on standard output; of several metrics, those that no trial beats."""
    several = len(results.metrics) > 1
    shown = results.front() if several else results.done
    kind = "Trials that no other beats" if several else f"Best trials of {results.tried}"
    names = sorted({name for record in shown[:_SHOWN] for name in record.overrides})
    table = rich.table.Table(title=f"{kind} ({_over(results)})", title_justify="left")
    table.add_column("trial", justify="right")
    for metric in results.metrics:
        table.add_column(metric.name, justify="right")
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
    metric = results.metrics[0]
    failed = [record for record in results.records if record.status == "failed"]
    if failed:
        lines.append(f"{len(failed)} trials failed, such as trial {failed[0].number}: {failed[0].reason}")
    if (margin := results.margin()) is not None:
        size, low, high = margin.difference
        who = f"trial {margin.winner} leads trial {margin.second} by {size:.4g} {metric.name}"
        if abs(size) < _LEVEL:
            who = f"trials {margin.winner} and {margin.second} come to the same {metric.name}"
        if margin.count < 2:
            lines.append(f"warning: {who}; one fold and one seed cannot tell whether that is noise")
        elif margin.within_noise:
            lines.append(f"warning: {who}, which is within noise (95 % of the difference: {low:.4g} to {high:.4g})")
        else:
            lines.append(f"{who} (95 % of the difference: {low:.4g} to {high:.4g})")
    if (held_out := results.nested()) is not None:
        best = results.done[0].values[0]
        lines.append(
            f"the best of {results.tried} looks better than it is: {metric.name} {best:.4f} as chosen, "
            f"{held_out:.4f} on folds that had no say in the choice"
            + (f" (but had one when {results.pruned} were pruned)" if results.pruned else "")
        )
    elif results.tried > 1 and metric.measured:
        lines.append(
            f"warning: the best of {results.tried} looks better than it is, and only --folds can say by how much"
        )
    return lines


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
            row |= {metric.name: mean, f"{metric.name} low": _known(low), f"{metric.name} high": _known(high)}
        for name in scores if record.status == "done" else ():
            if name not in known and name in record.attributes["scores"]:
                row[name] = results.interval(record, Metric(name=name, higher_is_better=True))[0]
        row |= {"parameters": record.attributes.get("parameters", ""), "step": record.attributes.get("step", "")}
        row |= {name: record.overrides.get(name, "") for name in names}
        rows.append({**row, "reason": record.reason})
    metrics = [f"{metric.name}{end}" for metric in results.metrics for end in ("", " low", " high")]
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
        "metrics": [metric.name for metric in results.metrics],
        "folds": results.folds,
        "seeds": results.seeds,
        "best": [
            {
                "trial": record.number,
                "overrides": dict(record.overrides),
                "metrics": {metric.name: results.interval(record, metric) for metric in results.metrics},
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

    Returns:
      Shares by config path, the greatest first; or why there are none.
    """
    names = {name for record in results.done for name in record.overrides}
    varied = [n for n in names if len({repr(record.overrides.get(n)) for record in results.done}) > 1]
    values = {record.values[0] for record in results.done}
    if len(values) < 2 or not varied:
        return "no importances: all finished trials came to the same value, or there are fewer than two"
    sign = -1 if results.metrics[0].higher_is_better else 1
    try:
        with warnings.catch_warnings():
            # It takes low values for good ones, and says so at each call.
            warnings.simplefilter("ignore", UserWarning)
            shares = optuna.importance.get_param_importances(study, target=lambda trial: sign * trial.values[0])
    except (ValueError, RuntimeError) as error:
        return f"no importances: {error}"
    # Equal ones come in no order.
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


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
    """A line that says what the best trial is."""
    record, metric = results.done[0], results.metrics[0]
    value = _interval(results.interval(record, metric))
    return f"Trial {record.number}, the best of {results.tried} of {config}: {metric.name} {value}, {_over(results)}."


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
