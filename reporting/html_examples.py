"""Examples as a page shows them: images, rows of a table with the cells that differ marked, or excerpts of texts."""

import base64
import io
import math

import numpy as np

from data.features import FIRST_CATEGORY, MISSING, UNSEEN, Column
from diagnostics.examples import Examples
from diagnostics.finding import Rows
from plumbline import counted
from reporting.formatting import number
from reporting.markup import escaped, scrolling

# Clusters that are shown of each kind, and examples of a cluster; findings.json has them all.
_CLUSTERS = {"image": 24, "table": 12, "text": 8}
_MEMBERS = 6
# Pixels of an image's longer side: small ones are scaled up by a whole number, large ones down.
_SIDE, _LARGEST = 112, 224
_COLUMNS = 16
# Characters of a cell, and of a text.
_CELL = 80
_CHARACTERS = 400
# Characters that are shown before texts begin to differ.
_BEFORE = 100


def shown(rows: Rows, examples: Examples) -> str:
    """Examples that show something, with a heading.

    Args:
      rows: that are shown.
      examples: they are of.
    """
    kind = examples.features.kind
    clusters = [cluster[:_MEMBERS] for cluster in rows.clusters[: _CLUSTERS[kind]] if cluster]
    notes = [_note(rows, number) for number in range(len(clusters))]
    show = {"image": _images, "table": _table, "text": _texts}[kind]
    heading = f"<h4>{escaped(rows.title)}</h4>"
    if rows.total > len(clusters):
        several = any(len(cluster) > 1 for cluster in rows.clusters)
        what = "group" if several else "example"
        heading += f'<p class="aside">{len(clusters):,} of {counted(rows.total, what)} shown.</p>'
    return heading + (show(clusters, notes, examples, rows.title) if clusters else "")


def label(examples: Examples, position: int) -> str:
    """The label of an example, and its group where it has one, as words."""
    features, value = examples.features, examples.labels[position]
    known = features.class_names[int(value)] if features.task == "classification" else number(value)
    words = f"{features.target} {known}"
    if examples.groups is not None and features.group_names:
        words += f", {features.group_names[int(examples.groups[position])]}"
    return words


def _note(rows: Rows, index: int) -> str:
    note = rows.notes[index] if rows.notes else ""
    more = len(rows.clusters[index]) - _MEMBERS
    return f"{note}{'; ' if note else ''}{more:,} more of them" if more > 0 else note


def _images(clusters: list[tuple[int, ...]], notes: list[str], examples: Examples, title: str) -> str:
    parts = []
    for cluster, note in zip(clusters, notes, strict=True):
        positions = np.array(cluster, np.int64)
        inputs, sound = examples.read(positions), examples.sound(positions)
        figures = "".join(
            _image(image, is_sound, examples.name(int(position)), label(examples, int(position)))
            for position, image, is_sound in zip(positions, inputs, sound, strict=True)
        )
        caption = f'<p class="note">{escaped(note)}</p>' if note else ""
        parts.append(f'<li class="cluster"><div class="images">{figures}</div>{caption}</li>')
    return f'<ul class="clusters">{"".join(parts)}</ul>'


def _image(image: np.ndarray, is_sound: bool, name: str, words: str) -> str:
    caption = f"<figcaption>{escaped(name)}<br><b>{escaped(words)}</b></figcaption>"
    if not is_sound:
        return f'<figure><div class="broken">cannot be decoded</div>{caption}</figure>'
    png, width, height = _png(image)
    uri = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img class="example" width="{width}" height="{height}" alt="{escaped(f"{name}, {words}")}" '
        f'src="data:image/png;base64,{uri}">{caption}</figure>'
    )


def _png(image: np.ndarray) -> tuple[bytes, int, int]:
    """The image (H, W, C) as PNG, and the pixels of the page that it takes: wide, high."""
    from PIL import Image

    # One channel is grey, three are colours, of any other number the first is shown.
    pixels = image if image.shape[-1] == 3 else image[..., 0]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((_LARGEST, _LARGEST))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    scale = max(1, _SIDE // max(picture.size))
    return buffer.getvalue(), picture.width * scale, picture.height * scale


def _table(clusters: list[tuple[int, ...]], notes: list[str], examples: Examples, title: str) -> str:
    inputs = [examples.read(np.array(cluster, np.int64)) for cluster in clusters]
    columns, chosen = examples.features.columns, _chosen_columns(inputs)
    grouped = any(len(cluster) > 1 for cluster in clusters)
    # Notes on single rows have a column of their own, those on groups a line.
    noted = any(notes) and not grouped
    names = ["row", *(["note"] if noted else []), examples.features.target, *(columns[index].name for index in chosen)]
    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in names)
    bodies = []
    for cluster, note, rows in zip(clusters, notes, inputs, strict=True):
        differs, labels = _differs(rows)[chosen], [_label_cell(examples, position) for position in cluster]
        lines = [
            f'<tr><th scope="row">{escaped(examples.name(position))}</th>'
            + (f'<td class="words">{escaped(note)}</td>' if noted else "")
            + _cell(words, len(set(labels)) > 1)
            + "".join(
                _cell(value(columns[index], row[index]), marked) for index, marked in zip(chosen, differs, strict=True)
            )
            + "</tr>"
            for position, words, row in zip(cluster, labels, rows, strict=True)
        ]
        if note and grouped:
            about = f'<th colspan="{len(names)}" scope="rowgroup">{escaped(note)}</th>'
            lines.insert(0, f'<tr class="note">{about}</tr>')
        bodies.append(f"<tbody>{''.join(lines)}</tbody>")
    style = "examples groups" if grouped else "examples"
    left_out = len(columns) - len(chosen)
    order = ", those that differ first" if grouped else ""
    aside = f'<p class="aside">{len(chosen)} of {len(columns)} columns{order}.</p>' if left_out else ""
    content = f'<table class="{style}"><thead><tr>{head}</tr></thead>{"".join(bodies)}</table>'
    return aside + scrolling(content, title)


def value(column: Column, raw: float) -> str:
    """A cell of a table's raw inputs as words.

    Args:
      column: it is in.
      raw: number, or code of a category.
    """
    if column.kind == "categorical":
        special = {UNSEEN: "(unseen in training)", MISSING: "(missing)"}
        return special.get(int(raw)) or column.categories[int(raw) - FIRST_CATEGORY]
    if math.isnan(raw):
        return "(missing)"
    if column.kind == "boolean":
        return "true" if raw else "false"
    return f"{raw:.7g}"


def _chosen_columns(inputs: list[np.ndarray]) -> np.ndarray:
    """Columns that are shown: all of a few; of many first those that differ within the most clusters."""
    width = inputs[0].shape[1]
    if width <= _COLUMNS:
        return np.arange(width)
    differing = np.sum([_differs(rows) for rows in inputs], axis=0)
    return np.argsort(-differing, kind="stable")[:_COLUMNS]


def _differs(rows: np.ndarray) -> np.ndarray:
    """Columns (F,) bool in which not all of the rows (n, F) are the same; two gaps are."""
    first = rows[:1]
    return ~((rows == first) | (np.isnan(rows) & np.isnan(first))).all(axis=0)


def _label_cell(examples: Examples, position: int) -> str:
    features, found = examples.features, examples.labels[position]
    return features.class_names[int(found)] if features.task == "classification" else f"{found:.7g}"


def _cell(words: str, marked: bool) -> str:
    words = words if len(words) <= _CELL else f"{words[:_CELL]}..."
    return f"<td><mark>{escaped(words)}</mark></td>" if marked else f"<td>{escaped(words)}</td>"


def _texts(clusters: list[tuple[int, ...]], notes: list[str], examples: Examples, title: str) -> str:
    parts = []
    for cluster, note in zip(clusters, notes, strict=True):
        texts = [examples.text(position) for position in cluster]
        quotes = "".join(
            _quote(text, _start(texts), examples, position) for text, position in zip(texts, cluster, strict=True)
        )
        caption = f'<p class="note">{escaped(note)}</p>' if note else ""
        parts.append(f'<li class="cluster">{caption}{quotes}</li>')
    return f'<ul class="clusters texts">{"".join(parts)}</ul>'


def _start(texts: list[str]) -> int:
    """Where excerpts begin: at the begin, or a little before texts that begin alike begin to differ."""
    places = enumerate(zip(*texts, strict=False))
    common = next((place for place, found in places if len(set(found)) > 1), min(map(len, texts)))
    differ = any(len(text) > common for text in texts)
    return common - _BEFORE if differ and common > _CHARACTERS - _BEFORE else 0


def _quote(text: str, start: int, examples: Examples, position: int) -> str:
    rest = len(text) - start - _CHARACTERS
    excerpt = escaped(text[start : start + _CHARACTERS], lines=True) if text else "<i>(empty)</i>"
    before = f'<span class="aside">{start} characters</span> ... ' if start else ""
    after = f' ... <span class="aside">{counted(rest, "more character")}</span>' if rest > 0 else ""
    name = f"{escaped(examples.name(position))}, <b>{escaped(label(examples, position))}</b>"
    return f"<figure><blockquote>{before}{excerpt}{after}</blockquote><figcaption>{name}</figcaption></figure>"
