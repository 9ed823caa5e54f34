"""Figures of ablations, learning curves and comparisons of pretrained sources."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reporting import plot_style
from reporting.plot_style import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from diagnostics.learning_curve import LearningCurve
    from diagnostics.transfer.compare_sources import Comparison
    from diagnostics.transfer.relevance import Candidate

# Inches for a character and for a row of a table.
_CHARACTER, _ROW = 0.085, 0.3
# Points of the fitted curve, and how far it is extrapolated.
_CURVE_POINTS, _EXTRAPOLATION = 100, 2


def draw_table(
    folder: str | os.PathLike, name: str, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[str, ...]:
    """Draws a table whose columns are as wide as their content.

    Args:
      folder: for the files.
      name: of the files, without a suffix.
      title: above the table.
      head: names of the columns.
      rows: cells.

    Returns:
      The names of the files.
    """
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) + 2 for column in range(len(head))]
    height = _ROW * len(lines) + 0.4
    figure = plot_style.new_figure((_CHARACTER * sum(widths), height))
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.set_title(plot_style.literal(title), loc="left", fontsize=plot_style.TITLE_SIZE, y=1 - 0.25 / height, x=0.01)
    table = axes.table(
        [[plot_style.literal(cell) for cell in row] for row in rows],
        colLabels=[plot_style.literal(cell) for cell in head],
        colWidths=[width / sum(widths) for width in widths],
        cellLoc="left",
        bbox=(0.005, 0.02, 0.99, 0.98 - 0.35 / height),
    )
    table.auto_set_font_size(False)
    table.set_fontsize(plot_style.LABEL_SIZE)
    for (row, _), cell in table.get_celld().items():
        cell.set_linewidth(0.4)
        cell.set_edgecolor(LIGHT.faint)
        cell.set_text_props(color=LIGHT.ink, weight="bold" if row == 0 else "normal")
        if row == 0:
            cell.set_facecolor(LIGHT.heading)
    return plot_style.save(figure, folder, name)


def draw_learning_curve(
    folder: str | os.PathLike, name: str, curve: "LearningCurve", *, label: str, title: str, target: float | None
) -> tuple[str, ...]:
    """Draws a learning curve: trainings, the power law with its interval, and the law at twice the data.

    Args:
      folder: for the files.
      name: of the files, without a suffix.
      curve: fitted.
      label: of the errors.
      title: above the plot.
      target: an error to mark; None for none.

    Returns:
      The names of the files.
    """
    largest = curve.sizes.max()
    sizes = np.geomspace(curve.sizes.min(), _EXTRAPOLATION * largest, _CURVE_POINTS)
    law = np.array([curve.error(size) for size in sizes])
    single = np.array([curve.prediction(size)[1:] for size in sizes])
    colour, second = LIGHT.colour(0), LIGHT.colour(1)
    figure = plot_style.new_figure()
    axes = figure.add_subplot()
    axes.fill_between(sizes, single[:, 0], single[:, 1], alpha=0.15, color=colour, label="95 % of single trainings")
    axes.fill_between(sizes, law[:, 1], law[:, 2], alpha=0.3, color=colour, label="95 % interval of the mean")
    axes.plot(sizes, law[:, 0], color=colour, label="power law")
    axes.plot(curve.sizes, curve.errors, ".", color=LIGHT.ink, label="trainings")
    axes.axvline(largest, color=LIGHT.ink, linewidth=0.8, alpha=0.6)
    place = {"xycoords": ("data", "axes fraction"), "ha": "right", "va": "top", "rotation": 90}
    axes.annotate("all data", (largest, 0.98), **place)
    if target is not None:
        axes.axhline(target, color=second, linewidth=plot_style.LINE_WIDTH, linestyle="--", label="target")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("training examples")
    axes.set_ylabel(plot_style.literal(label))
    plot_style.add_title(axes, title)
    plot_style.add_legend(axes)
    plot_style.style_axes(axes)
    return plot_style.save(figure, folder, name)


def draw_relevance(folder: str | os.PathLike, name: str, comparison: "Comparison") -> tuple[str, ...]:
    """Draws the scores of linear probes by layer: a line for each source and random model, a level for a baseline.

    Args:
      folder: for the files.
      name: of the files, without a suffix.
      comparison: of the sources.

    Returns:
      The names of the files.
    """
    figure = plot_style.new_figure()
    axes = figure.add_subplot()
    for index, candidate in enumerate(comparison.candidates):
        _draw_candidate(axes, candidate, LIGHT.colour(index), folds=len(comparison.splits.folds))
    axes.set_xlabel("relative depth of the layer (1: input of the head)")
    classification = comparison.splits.task == "classification"
    axes.set_ylabel("accuracy of the linear probe" if classification else "R2 of the linear probe")
    plot_style.add_title(axes, "Frozen layers; bands are one standard error over folds")
    plot_style.add_legend(axes)
    plot_style.style_axes(axes)
    return plot_style.save(figure, folder, name)


def _draw_candidate(axes: "Axes", candidate: "Candidate", colour: str, *, folds: int) -> None:
    means = np.array([layer.probe.mean() for layer in candidate.layers])
    errors = np.array([layer.probe.std(ddof=1) for layer in candidate.layers])
    errors *= (1 / folds + candidate.overlap) ** 0.5
    label = plot_style.legend_label(candidate.name)
    if candidate.kind == "simple":
        axes.axhline(means[0], color=colour, linestyle=":", label=label)
        axes.axhspan(means[0] - errors[0], means[0] + errors[0], color=colour, alpha=0.12)
        return
    # Models differ in depth; 0 is the input and 1 the features.
    depth = np.linspace(0, 1, len(means)) if len(means) > 1 else np.ones(1)
    style = "-" if candidate.kind == "source" else "--"
    axes.plot(depth, means, style, marker="o", markersize=plot_style.MARKER_SIZE, color=colour, label=label)
    axes.fill_between(depth, means - errors, means + errors, color=colour, alpha=0.15)
