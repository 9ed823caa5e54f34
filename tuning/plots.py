"""Plots of a search, as PNG files."""

import pathlib
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from plumbline.files import replaced
from tuning.results import Results

_COLUMNS = 3


def history(results: Results, path: pathlib.Path) -> None:
    """Each trial's value by its number, and the best so far."""
    metric = results.metrics[0]
    done = sorted(results.done, key=lambda record: record.number)
    numbers, values = [r.number for r in done], [r.values[0] for r in done]
    pick, best = (max if metric.higher_is_better else min), []
    for value in values:
        best.append(pick(best[-1], value) if best else value)
    figure = _figure()
    axes = figure.subplots()
    axes.plot(numbers, values, "o", alpha=0.6, label="trial")
    axes.step(numbers, best, where="post", label="best so far")
    axes.set(xlabel="trial", ylabel=metric.label, title="History")
    axes.legend()
    _save(figure, path)


def importances(shares: Mapping[str, float], path: pathlib.Path) -> None:
    """A bar for each hyperparameter."""
    figure = _figure()
    axes = figure.subplots()
    names = sorted(shares, key=lambda name: shares[name])
    axes.barh(names, [shares[name] for name in names])
    axes.set(xlabel="share of importance", title="Importance of hyperparameters")
    _save(figure, path)


def slices(results: Results, path: pathlib.Path) -> None:
    """The first metric against each hyperparameter; a shade says which trial, later ones being darker."""
    names = sorted({name for record in results.done for name in record.overrides})
    if not names:  # Every field of the space depends on another that no trial had.
        return
    rows = -(-len(names) // _COLUMNS)
    figure = _figure(4.0 * min(len(names), _COLUMNS) + 0.8, 3.2 * rows)
    grid = figure.subplots(rows, min(len(names), _COLUMNS), squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    last = max(record.number for record in results.done)
    shades = ScalarMappable(Normalize(0, max(1, last)), "Blues")
    for name, axes in zip(names, grid.flat, strict=False):
        _slice(results, name, axes, shades)
    figure.colorbar(shades, ax=grid, label="trial", ticks=MaxNLocator(integer=True))
    _save(figure, path)


def pareto(results: Results, path: pathlib.Path) -> None:
    """The first two metrics against each other, with the trials that no other beats."""
    first, second = results.metrics[:2]
    figure = _figure()
    axes = figure.subplots()
    axes.plot([r.values[1] for r in results.done], [r.values[0] for r in results.done], "o", alpha=0.4, label="trial")
    front = sorted(results.front(), key=lambda record: record.values[1])
    axes.plot([r.values[1] for r in front], [r.values[0] for r in front], "o-", label="beaten by none")
    for record in front:
        axes.annotate(str(record.number), (record.values[1], record.values[0]), fontsize=8)
    axes.set(xlabel=second.label, ylabel=first.label, title="Pareto front")
    axes.legend()
    _save(figure, path)


def _figure(width: float = 7.0, height: float = 4.5) -> Figure:
    """An empty figure, in inches."""
    return Figure((width, height), layout="constrained")


def _slice(results: Results, name: str, axes: Axes, shades: ScalarMappable) -> None:
    points = [(r.overrides[name], r.values[0], r.number) for r in results.done if name in r.overrides]
    values = [value for value, _, _ in points]
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        values = [str(value) for value in values]
    elif min(values) > 0 and max(values) / min(values) > 20:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    colors = shades.to_rgba([number for _, _, number in points])
    axes.scatter(values, [y for _, y, _ in points], c=colors, edgecolors="grey")
    axes.set(xlabel=name, ylabel=results.metrics[0].label)


def _save(figure: Figure, path: pathlib.Path) -> None:
    with replaced(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
