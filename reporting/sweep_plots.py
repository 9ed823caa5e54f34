"""Figures of a search.

Optuna's own `optuna.visualization.matplotlib` is not used. It draws with pyplot and changes its global style, it is
marked experimental, its slices overlap from four hyperparameters on, and its Pareto front does not name the trials.
"""

import pathlib
from typing import TYPE_CHECKING

from reporting import plot_style
from reporting.plot_style import LIGHT
from tuning.importances import Importances
from tuning.results import Results
from tuning.trials import TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

# The figures that `draw_all` may save.
NAMES = ("history", "slices", "importances", "pareto")
_COLUMNS, _TICKS = 3, 5
# A hyperparameter has a logarithmic axis if its largest value exceeds its smallest by more than this factor.
_LOG_RATIO = 20


def draw_all(results: Results, importances: Importances | None, folder: pathlib.Path) -> tuple[str, ...]:
    """Draws a history, slices, importances and, for several metrics, a Pareto front.

    Args:
      results: of the search.
      importances: of hyperparameters; None if unknown. They are drawn if one is above chance.
      folder: for the files.

    Returns:
      The names of the files.
    """
    figures = {
        "history": draw_history(results),
        "slices": draw_slices(results),
        "importances": draw_importances(importances) if importances and importances.above_chance else None,
        "pareto": draw_pareto(results) if len(results.metrics) > 1 else None,
    }
    saved: list[str] = []
    for name, figure in figures.items():
        if figure is not None:
            saved += plot_style.save(figure, folder, name)
    return tuple(saved)


def draw_history(results: Results) -> "Figure":
    """Draws the value of each trial by its number, and the best value so far."""
    metric = results.metrics[0]
    done = sorted(results.done, key=lambda record: record.number)
    numbers, values = [record.number for record in done], [record.values[0] for record in done]
    pick, best = (max if metric.higher_is_better else min), []
    for value in values:
        best.append(pick(best[-1], value) if best else value)
    figure = plot_style.new_figure()
    axes = figure.subplots()
    axes.plot(numbers, values, "o", color=LIGHT.colour(0), alpha=0.6, label="trial")
    axes.step(numbers, best, where="post", color=LIGHT.colour(1), label="best so far")
    _finish(axes, "History", "trial", metric.label)
    return figure


def draw_importances(importances: Importances) -> "Figure":
    """Draws a bar for each hyperparameter; those that are not above chance are grey."""
    figure = plot_style.new_figure()
    axes = figure.subplots()
    shares, above = importances.shares, importances.above_chance
    names = sorted(shares, key=lambda name: shares[name])
    for kind, colour in (("above chance", LIGHT.colour(0)), ("not above chance", "silver")):
        own = [name if (name in above) == (kind == "above chance") else None for name in names]
        if any(own):
            axes.barh(names, [shares.get(name, 0.0) for name in own], color=colour, label=kind)
    _finish(axes, "Importance of hyperparameters", "share of importance", "")
    return figure


def draw_slices(results: Results) -> "Figure | None":
    """Draws the first metric against each hyperparameter; later trials are darker.

    Returns:
      None if no trial has a hyperparameter, because each depends on another that no trial has.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    names = sorted({name for record in results.done for name in record.overrides})
    if not names:
        return None
    columns, rows = min(len(names), _COLUMNS), -(-len(names) // _COLUMNS)
    figure = plot_style.new_figure((4.0 * columns + 0.8, 3.2 * rows))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    last = max(record.number for record in results.done)
    shades = ScalarMappable(Normalize(0, max(1, last)), "Blues")
    for name, axes in zip(names, grid.flat, strict=False):
        _draw_slice(results, name, axes, shades)
    figure.colorbar(shades, ax=grid, label="trial", ticks=MaxNLocator(integer=True))
    return figure


def draw_pareto(results: Results) -> "Figure":
    """Draws the first two metrics against each other, and the numbers of the trials on the Pareto front."""
    first, second = results.metrics[:2]
    figure = plot_style.new_figure()
    axes = figure.subplots()
    done, front = results.done, sorted(results.front(), key=lambda record: record.values[1])
    axes.plot(*_coordinates(done), "o", color=LIGHT.colour(0), alpha=0.4, label="trial")
    axes.plot(*_coordinates(front), "o-", color=LIGHT.colour(1), label="Pareto front")
    for record in front:
        axes.annotate(str(record.number), (record.values[1], record.values[0]))
    _finish(axes, "Pareto front", second.label, first.label)
    return figure


def _coordinates(records: list[TrialRecord]) -> tuple[list[float], list[float]]:
    return [record.values[1] for record in records], [record.values[0] for record in records]


def _draw_slice(results: Results, name: str, axes: "Axes", shades: "ScalarMappable") -> None:
    from matplotlib.ticker import MaxNLocator, NullFormatter

    points = [(r.overrides[name], r.values[0], r.number) for r in results.done if name in r.overrides]
    values = [value for value, _, _ in points]
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        values = [plot_style.literal(str(value)) for value in values]
    elif min(values) > 0 and max(values) / min(values) > _LOG_RATIO:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(_TICKS))
    colours = shades.to_rgba([number for _, _, number in points])
    axes.scatter(values, [y for _, y, _ in points], c=colours, edgecolors="grey")
    _finish(axes, "", name, results.metrics[0].label)


def _finish(axes: "Axes", title: str, x_label: str, y_label: str) -> None:
    axes.set(xlabel=plot_style.literal(x_label), ylabel=plot_style.literal(y_label))
    if title:
        plot_style.add_title(axes, title)
    plot_style.add_legend(axes)
    plot_style.style_axes(axes)
