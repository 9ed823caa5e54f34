"""Histograms and curves of findings, for light and dark pages."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from diagnostics.finding import Curves, Finding, Histogram
from reporting import plot_style
from reporting.bins import bin_values
from reporting.plot_style import Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The axis of shares is logarithmic if the largest share exceeds the smallest by more than this factor.
_LOG_RATIO = 200
# Lines with no more points than this have a marker at each.
_MARKED_POINTS = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure.

    Attributes:
      light: PNG for a light page.
      dark: PNG for a dark page.
      files: content by format, for files.
      alt: text that describes the figure.
    """

    light: bytes
    dark: bytes
    files: dict[str, bytes]
    alt: str


def draw_all(findings: Sequence[Finding]) -> dict[tuple[str, int], Picture]:
    """Draws the figures of all findings.

    Returns:
      Figures by name of the finding and index of the evidence in it.
    """
    return {
        (finding.name, index): draw(evidence)
        for finding in findings
        for index, evidence in enumerate(finding.evidence)
        if isinstance(evidence, Histogram | Curves) and has_points(evidence)
    }


def has_points(evidence: Histogram | Curves) -> bool:
    """Whether there is a finite point to draw."""
    if isinstance(evidence, Histogram):
        return any(np.isfinite(values).any() for values in evidence.values.values())
    return any(len(_finite_points(line, evidence)) for line in evidence.lines.values())


def draw(evidence: Histogram | Curves) -> Picture:
    """Draws evidence that has points."""
    light, dark = (_draw_figure(evidence, theme) for theme in (plot_style.LIGHT, plot_style.DARK))
    files = {kind: plot_style.encode(light, kind, transparent=True) for kind in {"png", *plot_style.FORMATS}}
    dark_png = plot_style.encode(dark, "png", transparent=True)
    return Picture(light=files["png"], dark=dark_png, files=files, alt=_alt_text(evidence))


def _draw_figure(evidence: Histogram | Curves, theme: Theme) -> "Figure":
    figure = plot_style.new_figure(plot_style.NARROW)
    axes = figure.add_subplot()
    if isinstance(evidence, Histogram):
        _draw_histogram(axes, evidence, theme)
    else:
        _draw_curves(axes, evidence, theme)
    plot_style.add_legend(axes)
    plot_style.style_axes(axes, theme)
    return figure


def _draw_histogram(axes: "Axes", evidence: Histogram, theme: Theme) -> None:
    edges, counts = bin_values(evidence.values)
    axes.set_xlabel(plot_style.literal(evidence.label))
    axes.set_ylabel("share of examples")
    shares = {name: each / each.sum() for name, each in counts.items() if each.any()}
    for index, (name, each) in enumerate(shares.items()):
        colour, label = theme.colour(index), plot_style.legend_label(name)
        axes.stairs(each, edges, color=colour, linewidth=plot_style.LINE_WIDTH, label=label)
        axes.stairs(each, edges, color=colour, fill=True, alpha=plot_style.BAND_ALPHA)
    heights = np.concatenate([each[each > 0] for each in shares.values()])
    if heights.max() > _LOG_RATIO * heights.min():
        axes.set_yscale("log")
        axes.set_ylim(bottom=heights.min() / 2)
    for index, (name, value) in enumerate(evidence.marks.items(), len(shares)):
        if math.isfinite(value):
            label = plot_style.legend_label(name)
            axes.axvline(value, color=theme.colour(index), linestyle="--", linewidth=1.4, label=label)


def _draw_curves(axes: "Axes", evidence: Curves, theme: Theme) -> None:
    lines = {name: _finite_points(line, evidence) for name, line in evidence.lines.items()}
    lines = {name: line for name, line in lines.items() if len(line)}
    for index, (name, line) in enumerate(lines.items()):
        colour, label = theme.colour(index), plot_style.legend_label(name)
        axes.plot(
            line[:, 0],
            line[:, 1],
            color=colour,
            marker="o" if len(line) <= _MARKED_POINTS else "",
            markersize=plot_style.MARKER_SIZE,
            linewidth=plot_style.LINE_WIDTH,
            label=label,
        )
        if line.shape[1] == 4:
            band = {"color": colour, "alpha": plot_style.BAND_ALPHA, "linewidth": 0}
            axes.fill_between(line[:, 0], line[:, 2], line[:, 3], **band)
    axes.set_xlabel(plot_style.literal(evidence.x_label))
    axes.set_ylabel(plot_style.literal(evidence.y_label))
    if evidence.log_x:
        axes.set_xscale("log")


def _finite_points(line: np.ndarray, evidence: Curves) -> np.ndarray:
    line = np.asarray(line, np.float64)
    return line[np.isfinite(line[:, :2]).all(axis=1) & ((line[:, 0] > 0) | (not evidence.log_x))]


def _alt_text(evidence: Histogram | Curves) -> str:
    if isinstance(evidence, Histogram):
        marks = "".join(f", {name} at {value:.4g}" for name, value in evidence.marks.items())
        return f"Histogram of {evidence.label}: {', '.join(evidence.values)}{marks}"
    return f"{evidence.y_label} over {evidence.x_label}: {', '.join(evidence.lines)}"
