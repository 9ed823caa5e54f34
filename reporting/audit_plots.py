"""Histograms and curves of findings as PNG, for a light and for a dark page. Needs no display."""

import dataclasses
import io
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from diagnostics.finding import Curves, Finding, Histogram
from reporting.bins import binned
from reporting.formatting import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INCHES, _DPI = (5.6, 3.1), 160
# Shares that lie so far apart are drawn on a logarithmic scale, or nobody would see the small ones.
_FAR_APART = 200
# Characters of a name in a legend, and names that it holds.
_NAME, _NAMES = 32, 10
# Points of a line up to which each is marked.
_POINTS = 20
# Colours that people tell apart who see few (Okabe & Ito 2008), but for their black and yellow.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_DARK_COLOURS = ("#56B4E9", "#E69F00", "#2FBF91", "#E39BC4", "#7FA8FF", "#F0E442")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """A plot.

    Attributes:
      light: PNG for a light page.
      dark: PNG for a dark one.
      words: what it shows, for those who cannot see it.
    """

    light: bytes
    dark: bytes
    words: str


def draw_all(findings: Sequence[Finding]) -> dict[tuple[str, int], Picture]:
    """The plots of all findings, by the name of the finding and the number of the evidence there, from 0."""
    return {
        (finding.name, number): draw(evidence)
        for finding in findings
        for number, evidence in enumerate(finding.evidence)
        if isinstance(evidence, Histogram | Curves) and has_points(evidence)
    }


def has_points(evidence: Histogram | Curves) -> bool:
    """Whether there is anything to draw."""
    if isinstance(evidence, Histogram):
        return any(np.isfinite(values).any() for values in evidence.values.values())
    return any(len(_points(line, evidence)) for line in evidence.lines.values())


def draw(evidence: Histogram | Curves) -> Picture:
    """The plot of a piece of evidence, in which there is something to draw."""
    light, dark = (_draw(evidence, dark=dark) for dark in (False, True))
    return Picture(light=light, dark=dark, words=_words(evidence))


def _draw(evidence: Histogram | Curves, *, dark: bool) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    colours = _DARK_COLOURS if dark else _COLOURS
    if isinstance(evidence, Histogram):
        _draw_histogram(axes, evidence, colours)
    else:
        _draw_curves(axes, evidence, colours)
    _paint(axes, "#e4e6ea" if dark else "#22262b", "#454b54" if dark else "#d4d8dd")
    return _png(figure)


def _draw_histogram(axes: "Axes", evidence: Histogram, colours: Sequence[str]) -> None:
    edges, counts = binned(evidence.values)
    axes.set_xlabel(_text(evidence.label))
    axes.set_ylabel("share of examples")
    shares = {name: each / each.sum() for name, each in counts.items() if each.any()}
    for number, (name, each) in enumerate(shares.items()):
        colour = colours[number % len(colours)]
        axes.stairs(each, edges, color=colour, linewidth=1.6, label=_label(name))
        axes.stairs(each, edges, color=colour, fill=True, alpha=0.18)
    heights = np.concatenate([each[each > 0] for each in shares.values()])
    if heights.max() > _FAR_APART * heights.min():
        axes.set_yscale("log")
        axes.set_ylim(bottom=heights.min() / 2)
    _draw_marks(axes, evidence, colours[len(shares) :] or colours)
    _legend(axes, len(shares) + len(evidence.marks))


def _draw_marks(axes: "Axes", evidence: Histogram, colours: Sequence[str]) -> None:
    for number, (name, value) in enumerate(evidence.marks.items()):
        if math.isfinite(value):
            axes.axvline(value, color=colours[number % len(colours)], linestyle="--", linewidth=1.4, label=_label(name))


def _draw_curves(axes: "Axes", evidence: Curves, colours: Sequence[str]) -> None:
    lines = {name: _points(line, evidence) for name, line in evidence.lines.items()}
    lines = {name: line for name, line in lines.items() if len(line)}
    for number, (name, line) in enumerate(lines.items()):
        colour, marker = colours[number % len(colours)], "o" if len(line) <= _POINTS else ""
        axes.plot(line[:, 0], line[:, 1], color=colour, marker=marker, markersize=3, linewidth=1.6, label=_label(name))
        if line.shape[1] == 4:
            axes.fill_between(line[:, 0], line[:, 2], line[:, 3], color=colour, alpha=0.18, linewidth=0)
    axes.set_xlabel(_text(evidence.x_label))
    axes.set_ylabel(_text(evidence.y_label))
    if evidence.log_x:
        axes.set_xscale("log")
    _legend(axes, len(lines))


def _points(line: np.ndarray, evidence: Curves) -> np.ndarray:
    """Those of a line that can be drawn."""
    line = np.asarray(line, np.float64)
    return line[np.isfinite(line[:, :2]).all(axis=1) & ((line[:, 0] > 0) | (not evidence.log_x))]


def _legend(axes: "Axes", count: int) -> None:
    if count > 1:
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[:_NAMES], labels[:_NAMES], fontsize=8, frameon=False)


def _paint(axes: "Axes", ink: str, lines: str) -> None:
    axes.grid(visible=True, color=lines, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=ink, labelsize=8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(lines)
    legend = axes.get_legend()
    for text in (axes.xaxis.label, axes.yaxis.label, *axes.texts, *(legend.get_texts() if legend else ())):
        text.set_color(ink)
        text.set_fontsize(9)


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Names may be in scripts that the font lacks; they stand in the page as text as well.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="png", transparent=True)
    return buffer.getvalue()


def _text(text: str) -> str:
    # Between dollars Matplotlib would look for a formula.
    return plain(text).replace("$", r"\$")


def _label(name: str) -> str:
    # It leaves out names that begin with an underscore.
    name = f" {name}" if name.startswith("_") else name
    return _text(name if len(name) <= _NAME else f"{name[: _NAME - 3]}...")


def _words(evidence: Histogram | Curves) -> str:
    if isinstance(evidence, Histogram):
        marks = "".join(f", {name} at {value:.4g}" for name, value in evidence.marks.items())
        return f"Histogram of {evidence.label}: {', '.join(evidence.values)}{marks}"
    return f"{evidence.y_label} over {evidence.x_label}: {', '.join(evidence.lines)}"
