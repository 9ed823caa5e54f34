"""The results of a search as text: the best trials, and remarks on how far to trust them."""

import math
import sys
from collections.abc import Sequence
from typing import Any

import rich.console
import rich.table

from diagnostics.statistics import Interval
from plumbline import pluralize
from tuning.importances import Importances
from tuning.results import Margin, Results
from tuning.trials import TrialRecord

_SHOWN = 10
# Numbers of trials in a sentence, and reasons of failures.
_NAMED = 5
# Smaller differences are rounding errors.
_ROUNDING = 1e-12
# Width of a table that is not printed on a terminal.
_WIDTH = 160


def print_best(results: Results) -> None:
    """Prints a table of the best trials on standard output; for several metrics, the Pareto front."""
    several = len(results.metrics) > 1
    shown = results.front() if several else results.done
    kind = "Pareto front" if several else f"Best of {pluralize(results.tried, 'trial')}"
    names = sorted({name for record in shown[:_SHOWN] for name in record.overrides})
    table = rich.table.Table(title=f"{kind} ({_describe_rows(results)})", title_justify="left")
    table.add_column("trial", justify="right")
    for metric in results.metrics:
        table.add_column(metric.label, justify="right")
    for name in names:
        last = name.rpartition(".")[2]
        unique = sum(other.rpartition(".")[2] == last for other in names) == 1
        table.add_column(last if unique else name, justify="right")
    for record in shown[:_SHOWN]:
        cells = [_format_interval(results.interval(record, metric)) for metric in results.metrics]
        table.add_row(str(record.number), *cells, *(_format_cell(record.overrides.get(name, "")) for name in names))
    rich.console.Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)


def make_remarks(results: Results) -> list[str]:
    """Returns what a reader must know about the best trial, one line each.

    The lines say whether its lead is noise, and how much better it looks than it is because it was selected.
    """
    lines = []
    if results.failed:
        lines.append(f"{pluralize(len(results.failed), 'trial')} failed: {list_reasons(results.failed)}")
    if repeated := len(results.done) - len(results.points):
        lines.append(f"{pluralize(repeated, 'trial')} drew the same point as another")
    if (margin := results.margin()) is not None:
        lines.append(_remark_on_margin(results, margin))
    lines += _remark_on_selection(results)
    if len(results.metrics) > 1:
        front, best = results.front(), results.done[0]
        lines.append(f"best_config.py is trial {best.number}, {_place(results)} of {pluralize(len(front), 'trial')}")
    return lines


def list_reasons(failed: Sequence[TrialRecord]) -> str:
    """Returns why trials failed: each reason once, with the trials that failed for it."""
    by_reason: dict[str, list[TrialRecord]] = {}
    for record in failed:
        by_reason.setdefault(record.reason, []).append(record)
    texts = [f"{reason} ({_list_trials(records)})" for reason, records in by_reason.items()]
    more = [f"{pluralize(len(texts) - _NAMED, 'other reason')}, see trials.csv"] if len(texts) > _NAMED else []
    return "; ".join([*texts[:_NAMED], *more])


def format_importances(importances: Importances, results: Results) -> str:
    """Returns the importances above chance in one line, with the trials that they are computed from."""
    counts = {"pruned": results.pruned, "failed": len(results.failed)}
    others = [f"{count} {status}" for status, count in counts.items() if count]
    aside = f", without {' and '.join(others)}" if others else ""
    shares, above = importances.shares, importances.above_chance
    figures = ", ".join(f"{name} {shares[name]:.0%} (p = {importances.chance[name]:.2g})" for name in above)
    rest = [name for name in shares if name not in above]
    if above and rest:
        figures += f"; not above chance: {', '.join(rest)}"
    if not above:
        figures = (
            f"none above chance (the largest, {next(iter(shares))}, p = {importances.chance[next(iter(shares))]:.2g})"
        )
    return f"importance over the {len(results.done)} finished trials{aside}: {figures}"


def describe_best(results: Results, config: str) -> str:
    """Returns a sentence on the best trial; for several metrics a paragraph that says where on the front it lies.

    Args:
      results: of the search, with a finished trial.
      config: the config file.
    """
    record = results.done[0]
    values = ", ".join(
        f"{metric.label} {_format_interval(results.interval(record, metric))}" for metric in results.metrics
    )
    rows = _describe_rows(results)
    if len(results.metrics) == 1:
        return f"Trial {record.number}, the best of {results.tried} of {config}: {values}, {rows}."
    others = [each for each in results.front() if each.number != record.number]
    return "\n".join(
        [
            f"Trial {record.number}, one point of the front of {pluralize(results.tried, 'trial')} of {config}:",
            f"{values}, {rows}.",
            "",
            f"It is {_place(results)}, "
            f"{f'beside {_list_trials(others)} in trials.csv' if others else 'and the only one'}.",
        ]
    )


def _remark_on_margin(results: Results, margin: Margin) -> str:
    metric, points = results.metrics[0], results.points
    size, low, high = margin.difference
    lead = f"trial {margin.winner} leads trial {margin.second} by {size:.4g} {metric.name}"
    if abs(size) < _ROUNDING:
        equal = [each for each in points if abs(each.values[0] - points[0].values[0]) < _ROUNDING]
        first = f"trial {margin.winner} counts as the best only because it is the first of them"
        return f"warning: {_list_trials(equal)} have the same {metric.name}; {first}"
    if margin.count < 2:
        return f"warning: {lead}; one fold and one seed cannot tell whether that is noise"
    interval = f"95 % of the difference: {low:.4g} to {high:.4g}"
    return f"warning: {lead}, which is within noise ({interval})" if margin.within_noise else f"{lead} ({interval})"


def _remark_on_selection(results: Results) -> list[str]:
    metric, tried = results.metrics[0], results.tried
    optimistic = f"the best of {tried} looks better than it is"
    if results.folds and results.pruned and len(results.points) == 1:
        return [f"warning: {optimistic}; no other trial finished, so the amount is unknown"]
    if tried < 2:
        return []
    if (held_out := results.held_out()) is None:
        return [f"warning: {optimistic}, and only --folds can measure by how much"] if metric.measured else []
    chosen, judged = f"{results.done[0].values[0]:.4f}", f"{held_out[0]:.4f}"
    sign = 1 if metric.higher_is_better else -1
    bounds = "" if math.isnan(held_out[1]) else f" (95 %: {held_out[1]:.4f} to {held_out[2]:.4f})"
    folds = "on folds that did not select it"
    if results.pruned:
        folds += f" (but that took part in pruning {results.pruned})"
    if chosen == judged:
        return [f"the best of {tried}: {metric.name} {chosen} as selected, and the same{bounds} {folds}"]
    first = optimistic if sign * (results.done[0].values[0] - held_out[0]) > 0 else f"the best of {tried}"
    return [f"{first}: {metric.name} {chosen} as selected, {judged}{bounds} {folds}"]


def _place(results: Results) -> str:
    """Where on the front the best trial lies."""
    metric = results.metrics[0]
    return f"the point with the {'highest' if metric.higher_is_better else 'lowest'} {metric.name} on the front"


def _list_trials(records: Sequence[TrialRecord]) -> str:
    """Such as "trial 3" or "trials 1, 4 and 6"; "" for none."""
    numbers = [str(record.number) for record in records[:_NAMED]]
    if more := len(records) - len(numbers):
        numbers.append(f"{more} more")
    joined = " and ".join([*filter(None, [", ".join(numbers[:-1])]), *numbers[-1:]])
    return joined and f"trial{'s' if len(records) > 1 else ''} {joined}"


def _describe_rows(results: Results) -> str:
    """The rows and seeds that trials are judged by."""
    parts = [f"{results.folds} folds"] if results.folds else ["validation split"]
    if results.seeds > 1:
        parts.append(f"{results.seeds} seeds")
    several = results.folds > 0 or results.seeds > 1
    return f"mean and 95 % interval over {' and '.join(parts)}" if several else f"on the {parts[0]}"


def _format_interval(interval: Interval) -> str:
    mean, low, high = interval
    if math.isnan(low):
        return _format_number(mean)
    return f"{_format_number(mean)} ({_format_number(low)} to {_format_number(high)})"


def _format_number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 100 else f"{value:.4g}"


def _format_cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
