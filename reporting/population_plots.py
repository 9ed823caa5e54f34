"""Pictures of what populations found, as PNG. Matplotlib is imported only when one is drawn, and needs no display."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from plumbline.files import replaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from diagnostics.learning_curve import LearningCurve
    from diagnostics.transfer.compare_sources import Comparison

_DPI = 150


def draw_table(path: str | os.PathLike, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Writes a table as a picture; columns are as wide as what they hold.

    Args:
      path: of the PNG file.
      title: above it.
      head: names of the columns.
      rows: cells.
    """
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    figure = _figure(0.085 * (sum(widths) + 2 * len(widths)), 0.3 * len(lines) + 0.4)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.set_title(title, loc="left", fontsize=10, y=0.88, x=0.01)
    table = axes.table(
        [list(row) for row in rows],
        colLabels=list(head),
        colWidths=[(width + 2) / (sum(widths) + 2 * len(widths)) for width in widths],
        cellLoc="left",
        bbox=(0.005, 0.02, 0.99, 0.96 * (1 - 0.35 / (0.3 * len(lines) + 0.4))),
    )
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    for (row, _), cell in table.get_celld().items():
        cell.set_linewidth(0.4)
        if row == 0:
            cell.set_text_props(weight="bold")
            cell.set_facecolor("#eeeeee")
    _save(figure, path)


def draw_learning_curve(
    path: str | os.PathLike, curve: "LearningCurve", *, label: str, title: str, asked: float | None
) -> None:
    """Writes a learning curve: trainings, the law with its interval, and where twice the data would lead.

    Args:
      path: of the PNG file.
      curve: fitted.
      label: of the errors.
      title: above it.
      asked: the error that was asked for, if one was.
    """
    largest = curve.sizes.max()
    sizes = np.geomspace(curve.sizes.min(), 2 * largest, 100)
    law = np.array([curve.error(size) for size in sizes])
    single = np.array([curve.prediction(size)[1:] for size in sizes])
    figure = _figure(7, 4.5)
    axes = figure.add_subplot()
    axes.fill_between(sizes, single[:, 0], single[:, 1], alpha=0.15, color="C0", label="95 % of single trainings")
    axes.fill_between(sizes, law[:, 1], law[:, 2], alpha=0.3, color="C0", label="95 % interval of the mean")
    axes.plot(sizes, law[:, 0], color="C0", label="power law")
    axes.plot(curve.sizes, curve.errors, ".", color="black", label="trainings")
    axes.axvline(largest, color="grey", linewidth=0.8)
    axes.annotate("all there are", (largest, 0.98), xycoords=("data", "axes fraction"), ha="right", va="top",
                  rotation=90, fontsize=8, color="grey")  # fmt: skip
    if asked is not None:
        axes.axhline(asked, color="C3", linewidth=0.8, linestyle="--", label="asked for")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("training examples")
    axes.set_ylabel(label)
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(fontsize=8)
    figure.tight_layout()
    _save(figure, path)


def draw_relevance(path: str | os.PathLike, comparison: "Comparison") -> None:
    """Writes the probe's scores by layer: a line for each source and random model, a level for the simple baseline.

    Args:
      path: of the PNG file.
      comparison: of sources.
    """
    figure = _figure(8, 4.5)
    axes = figure.add_subplot()
    for number, candidate in enumerate(comparison.candidates):
        means = np.array([layer.probe.mean() for layer in candidate.layers])
        errors = np.array([layer.probe.std(ddof=1) for layer in candidate.layers])
        errors *= (1 / len(comparison.exam.folds) + candidate.overlap) ** 0.5
        color, style = f"C{number}", "-" if candidate.kind == "source" else "--"
        if candidate.kind == "simple":
            axes.axhline(means[0], color=color, linestyle=":", label=candidate.name)
            axes.axhspan(means[0] - errors[0], means[0] + errors[0], color=color, alpha=0.12)
            continue
        # Layers of models of different depth: from the inputs, 0, to the features, 1.
        depth = np.linspace(0, 1, len(means)) if len(means) > 1 else np.ones(1)
        axes.plot(depth, means, style, marker="o", markersize=3, color=color, label=candidate.name)
        axes.fill_between(depth, means - errors, means + errors, color=color, alpha=0.15)
    axes.set_xlabel("depth of the layer (1: what the head reads)")
    classification = comparison.exam.task == "classification"
    axes.set_ylabel("accuracy of the linear probe" if classification else "R2 of the linear probe")
    axes.set_title("Frozen layers; bands are one standard error over folds", loc="left", fontsize=10)
    axes.legend(fontsize=8)
    figure.tight_layout()
    _save(figure, path)


def _figure(width: float, height: float) -> "Figure":
    """A figure of its own, in inches; what draws on the screen is never touched."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI)


def _save(figure: "Figure", path: str | os.PathLike) -> None:
    with replaced(path) as temporary:
        figure.savefig(temporary, format="png", bbox_inches="tight")
