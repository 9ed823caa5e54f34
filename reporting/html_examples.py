"""Examples as a page shows them: images, rows of a table with differing cells marked, or excerpts of texts."""

import dataclasses
import io
import math
from typing import Any

import numpy as np

from data.features import FIRST_CATEGORY, MISSING, UNSEEN, Column
from diagnostics.examples import Examples
from diagnostics.finding import Rows
from plumbline import pluralize
from reporting.formatting import format_number

# Clusters shown for each kind of data, and examples shown of a cluster; findings.json has all of them.
_CLUSTERS = {"image": 24, "table": 12, "text": 8}
_MEMBERS = 6
# Pixels of the longer side of an image: small images are enlarged by a whole number, large ones reduced.
_SIDE, _LARGEST = 112, 224
_COLUMNS = 16
# Characters of a cell, of an excerpt, and of an excerpt before the first difference.
_CELL, _EXCERPT, _CONTEXT = 80, 400, 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """Examples that belong together.

    Attributes:
      note: about them; "" for none.
      members: `Image`s, `TableRow`s or `Excerpt`s.
    """

    note: str
    members: list[Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gallery:
    """The values that the template `examples.html` shows.

    Attributes:
      kind: "image", "table" or "text".
      title: above the examples.
      remark: how many examples are shown; "" if all are.
      clusters: in order.
      header: names of the columns of a table.
      columns_remark: how many columns of a table are shown; "" if all are.
      grouped: whether some cluster of a table has several rows.
      has_note_column: whether the notes on single rows of a table have a column.
    """

    kind: str
    title: str
    remark: str
    clusters: list[Cluster]
    header: list[str] = dataclasses.field(default_factory=list)
    columns_remark: str = ""
    grouped: bool = False
    has_note_column: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image:
    """An image; `png` is None if it cannot be decoded. Width and height are in pixels of the page."""

    name: str
    label: str
    png: bytes | None = None
    width: int = 0
    height: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of a table; it is marked if the rows of the cluster differ in it."""

    text: str
    marked: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableRow:
    """A row of a table; the first cell is the target."""

    name: str
    cells: list[Cell]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Excerpt:
    """An excerpt of a text, with the number of characters before it, and words on what comes after it."""

    name: str
    label: str
    text: str
    before: int
    after: str


def make_gallery(rows: Rows, examples: Examples) -> Gallery:
    """Returns the examples that support a finding.

    Args:
      rows: which examples.
      examples: of the data.
    """
    kind = examples.features.kind
    clusters = [cluster[:_MEMBERS] for cluster in rows.clusters[: _CLUSTERS[kind]] if cluster]
    notes = [_note(rows, index) for index in range(len(clusters))]
    remark = ""
    if rows.total > len(clusters):
        what = "group" if any(len(cluster) > 1 for cluster in rows.clusters) else "example"
        remark = f"{len(clusters):,} of {pluralize(rows.total, what)} shown."
    common = {"kind": kind, "title": rows.title, "remark": remark}
    if kind == "table" and clusters:
        return _table_gallery(clusters, notes, examples, common)
    make_members = {"image": _images, "text": _excerpts}.get(kind)
    return Gallery(
        clusters=[
            Cluster(note=note, members=make_members(cluster, examples))
            for cluster, note in zip(clusters, notes, strict=True)
        ],
        **common,
    )


def format_label(examples: Examples, position: int) -> str:
    """Returns the label of an example, and its group if it has one."""
    features, value = examples.features, examples.labels[position]
    known = (
        features.class_names[int(value)]
        if features.task == "classification"
        else format_number(value + features.target_offset)
    )
    label = f"{features.target} {known}"
    if examples.groups is not None and features.group_names:
        label += f", {features.group_names[int(examples.groups[position])]}"
    return label


def format_value(column: Column, raw: float) -> str:
    """Returns a raw input of a table as text.

    Args:
      column: of the input.
      raw: a number, or the code of a category.
    """
    if column.kind == "categorical":
        special = {UNSEEN: "(unseen in training)", MISSING: "(missing)"}
        return special.get(int(raw)) or column.categories[int(raw) - FIRST_CATEGORY]
    if math.isnan(raw):
        return "(missing)"
    if column.kind == "boolean":
        return "true" if raw else "false"
    return f"{raw + column.offset:.15g}" if column.offset else f"{raw:.7g}"


def _note(rows: Rows, index: int) -> str:
    note = rows.notes[index] if rows.notes else ""
    more = len(rows.clusters[index]) - _MEMBERS
    return f"{note}{'; ' if note else ''}{more:,} more of them" if more > 0 else note


def _images(cluster: tuple[int, ...], examples: Examples) -> list[Image]:
    positions = np.array(cluster, np.int64)
    inputs, sound = examples.read(positions), examples.sound(positions)
    images = []
    for position, pixels, is_sound in zip(cluster, inputs, sound, strict=True):
        words = {"name": examples.name(int(position)), "label": format_label(examples, int(position))}
        if is_sound:
            png, width, height = _encode_image(pixels)
            words |= {"png": png, "width": width, "height": height}
        images.append(Image(**words))
    return images


def _encode_image(image: np.ndarray) -> tuple[bytes, int, int]:
    """Returns an image (H, W, C) as PNG, and its width and height in pixels of the page."""
    import PIL.Image

    # Three channels are colours; otherwise the first channel is shown in grey.
    pixels = image if image.shape[-1] == 3 else image[..., 0]
    picture = PIL.Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((_LARGEST, _LARGEST))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    scale = max(1, _SIDE // max(picture.size))
    return buffer.getvalue(), picture.width * scale, picture.height * scale


def _table_gallery(
    clusters: list[tuple[int, ...]], notes: list[str], examples: Examples, common: dict[str, str]
) -> Gallery:
    inputs = [examples.read(np.array(cluster, np.int64)) for cluster in clusters]
    columns, chosen = examples.features.columns, _choose_columns(inputs)
    grouped = any(len(cluster) > 1 for cluster in clusters)
    # Notes on groups have a line of their own.
    has_note_column = any(notes) and not grouped
    notes_header = ["note"] if has_note_column else []
    order = ", those that differ first" if grouped else ""
    return Gallery(
        clusters=[
            Cluster(note=note, members=_table_rows(cluster, rows, chosen, examples))
            for cluster, note, rows in zip(clusters, notes, inputs, strict=True)
        ],
        header=["row", *notes_header, examples.features.target, *(columns[index].name for index in chosen)],
        columns_remark=f"{len(chosen)} of {len(columns)} columns{order}." if len(chosen) < len(columns) else "",
        grouped=grouped,
        has_note_column=has_note_column,
        **common,
    )


def _table_rows(cluster: tuple[int, ...], rows: np.ndarray, chosen: np.ndarray, examples: Examples) -> list[TableRow]:
    columns, differs = examples.features.columns, _find_differing(rows)
    labels = [_format_target(examples, position) for position in cluster]
    labels_differ = len(set(labels)) > 1
    return [
        TableRow(
            name=examples.name(position),
            cells=[
                Cell(text=_shorten(label), marked=labels_differ),
                *(
                    Cell(text=_shorten(format_value(columns[index], row[index])), marked=bool(differs[index]))
                    for index in chosen
                ),
            ],
        )
        for position, label, row in zip(cluster, labels, rows, strict=True)
    ]


def _choose_columns(inputs: list[np.ndarray]) -> np.ndarray:
    """Chooses the columns to show: all if there are few, otherwise those that differ in the most clusters."""
    width = inputs[0].shape[1]
    if width <= _COLUMNS:
        return np.arange(width)
    differing = np.sum([_find_differing(rows) for rows in inputs], axis=0)
    return np.argsort(-differing, kind="stable")[:_COLUMNS]


def _find_differing(rows: np.ndarray) -> np.ndarray:
    """Returns the columns (F,) bool in which the rows (n, F) differ; missing values are equal."""
    first = rows[:1]
    return ~((rows == first) | (np.isnan(rows) & np.isnan(first))).all(axis=0)


def _format_target(examples: Examples, position: int) -> str:
    features, value = examples.features, examples.labels[position]
    return features.class_names[int(value)] if features.task == "classification" else f"{value:.7g}"


def _shorten(text: str) -> str:
    return text if len(text) <= _CELL else f"{text[:_CELL]}..."


def _excerpts(cluster: tuple[int, ...], examples: Examples) -> list[Excerpt]:
    texts = [examples.text(position) for position in cluster]
    start = _find_start(texts)
    excerpts = []
    for position, text in zip(cluster, texts, strict=True):
        rest = len(text) - start - _EXCERPT
        excerpts.append(
            Excerpt(
                name=examples.name(position),
                label=format_label(examples, position),
                text=text[start : start + _EXCERPT],
                before=start,
                after=pluralize(rest, "more character") if rest > 0 else "",
            )
        )
    return excerpts


def _find_start(texts: list[str]) -> int:
    """Returns where excerpts start: at 0, or shortly before the first difference of texts with a long common start."""
    places = enumerate(zip(*texts, strict=False))
    common = next((place for place, characters in places if len(set(characters)) > 1), min(map(len, texts)))
    differ = any(len(text) > common for text in texts)
    return common - _CONTEXT if differ and common > _EXCERPT - _CONTEXT else 0
