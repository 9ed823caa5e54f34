"""The look of all figures: colours, text sizes and dimensions, for light and dark pages, and their file formats.

Figures are Matplotlib's `Figure` objects without pyplot, so no display is needed and no global state changes. To change
the formats, for example to ("png", "pdf") for LaTeX, edit `FORMATS`.
"""

import dataclasses
import io
import os
import pathlib
import warnings
from typing import TYPE_CHECKING

from plumbline.files import replace_atomically
from reporting.formatting import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Every figure is saved in each of these formats: any that Matplotlib writes, such as "png", "svg" and "pdf".
FORMATS = ("png", "svg")
# Width and height in inches: of a figure file, and of a figure inside a page.
WIDE, NARROW = (7.0, 4.5), (5.6, 3.1)
DPI = 150
# Points: titles, axis labels and legends, tick labels.
TITLE_SIZE, LABEL_SIZE, TICK_SIZE = 10, 9, 8
LINE_WIDTH, MARKER_SIZE, BAND_ALPHA = 1.6, 3, 0.18
# Longer names are shortened in a legend; further entries are left out.
_NAME_LENGTH, _LEGEND_ENTRIES = 32, 10
# Removes the date, so that equal figures are equal files.
_METADATA = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours for one kind of background.

    Attributes:
      ink: text and data points.
      faint: axes, grid and reference lines.
      heading: background of a table's header.
      colours: of data series, in order.
    """

    ink: str
    faint: str
    heading: str
    colours: tuple[str, ...]

    def colour(self, index: int) -> str:
        """Returns the colour of a data series; the colours repeat."""
        return self.colours[index % len(self.colours)]


# The palette of Okabe & Ito (2008), which is safe for colour-blind readers, without its black and yellow.
LIGHT = Theme(
    ink="#22262b",
    faint="#d4d8dd",
    heading="#eeeeee",
    colours=("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"),
)
DARK = Theme(
    ink="#e4e6ea",
    faint="#454b54",
    heading="#272c31",
    colours=("#56B4E9", "#E69F00", "#2FBF91", "#E39BC4", "#7FA8FF", "#F0E442"),
)


def new_figure(size: tuple[float, float] = WIDE) -> "Figure":
    """Returns an empty figure.

    Args:
      size: width and height in inches.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=DPI, layout="constrained")


def style_axes(axes: "Axes", theme: Theme = LIGHT) -> None:
    """Applies colours and text sizes to axes that are otherwise complete."""
    axes.grid(visible=True, color=theme.faint, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=theme.ink, labelsize=TICK_SIZE)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.faint)
    legend = axes.get_legend()
    for text in (axes.xaxis.label, axes.yaxis.label, *axes.texts, *(legend.get_texts() if legend else ())):
        text.set_color(theme.ink)
        text.set_fontsize(LABEL_SIZE)


def add_legend(axes: "Axes") -> None:
    """Adds a legend if more than one artist has a label."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) > 1:
        axes.legend(handles[:_LEGEND_ENTRIES], labels[:_LEGEND_ENTRIES], frameon=False)


def add_title(axes: "Axes", title: str) -> None:
    """Adds a title at the left."""
    axes.set_title(literal(title), loc="left", fontsize=TITLE_SIZE)


def literal(text: str) -> str:
    """Returns a text that Matplotlib draws as it is: without control characters, and with no formulas in it."""
    return plain(text).replace("$", r"\$")


def legend_label(name: str) -> str:
    """Returns a name for a legend, shortened if it is long."""
    # Matplotlib leaves names with a leading underscore out of legends.
    name = f" {name}" if name.startswith("_") else name
    return literal(name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 3]}...")


def file_names(name: str) -> tuple[str, ...]:
    """Returns the files in which the figure `name` is saved, one for each format."""
    return tuple(f"{name}.{kind}" for kind in FORMATS)


def save(figure: "Figure", folder: str | os.PathLike, name: str) -> tuple[str, ...]:
    """Saves a figure in all formats.

    Args:
      figure: complete.
      folder: existing directory.
      name: of the files, without a suffix.

    Returns:
      The names of the files.
    """
    for kind, file in zip(FORMATS, file_names(name), strict=True):
        with replace_atomically(pathlib.Path(folder) / file) as temporary:
            temporary.write_bytes(encode(figure, kind))
    return file_names(name)


def encode(figure: "Figure", kind: str, *, transparent: bool = False) -> bytes:
    """Returns the figure as the content of a file; the same figure always gives the same bytes.

    Args:
      figure: complete.
      kind: format, such as "png".
      transparent: leave the background out, for a page that has one of its own.
    """
    import matplotlib

    buffer = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "plumbline"}):
        # Names from the data may be in scripts that the font lacks; pages show them as text as well.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format=kind, dpi=DPI, transparent=transparent, metadata=_METADATA.get(kind))
    return buffer.getvalue()
