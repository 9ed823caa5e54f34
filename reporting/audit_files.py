"""Writes an audit for programs and papers: findings.json, findings.npz and the plots."""

import json
import math
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data import row_lists
from data.row_lists import RowLists
from diagnostics.examples import Examples
from diagnostics.finding import Curves, Evidence, Finding, Histogram, Measure, Rows, Table
from plumbline.files import replace_atomically, write_text
from reporting.audit_plots import Picture, has_points
from reporting.audit_report import Report
from reporting.bins import bin_values
from reporting.formatting import format_flags

FINDINGS, LISTS, PLOTS = "findings.json", row_lists.FILE, "plots"
_VERSION = 1


def write_findings(path: pathlib.Path, report: Report) -> None:
    """Writes findings.json, with null for numbers that are not finite; docs/audit.md explains its fields.

    Args:
      path: of the file.
      report: the audit.
    """
    examples = report.examples
    figures = {
        "version": _VERSION,
        "data": {
            "source": report.source,
            "fingerprint": examples.fingerprint,
            "kind": examples.features.kind,
            "task": examples.features.task,
            "class_names": examples.features.class_names,
            "splits": {name: len(split) for name, split in examples.splits.items()},
            "reference": {"source": report.reference, "fingerprint": report.reference_fingerprint}
            if report.reference
            else None,
        },
        "trainings": report.trainings,
        "seconds": report.seconds,
        "counts": report.counts(),
        "findings": [_finding(finding, report) for finding in report.findings],
    }
    write_text(path, json.dumps(_plain(figures), indent=1, allow_nan=False) + "\n")


def write_lists(path: pathlib.Path, report: Report) -> None:
    """Writes findings.npz, the rows to drop and the weights of rows for `data.drop` and `data.weights`.

    Args:
      path: of the file.
      report: the audit.
    """
    examples = report.examples
    lists = {
        finding.name: RowLists(
            drop={} if finding.drop is None else _drop_by_part(finding.drop, examples),
            weights={} if finding.weights is None else _weights_by_part(finding.weights, examples),
        )
        for finding in report.findings
        if finding.drop is not None or finding.weights is not None
    }
    if examples.row_lists.digest():
        # Keeps the lists that the data were loaded with, for use together with those of this audit.
        lists[row_lists.EARLIER] = examples.row_lists
    row_lists.write(path, lists, set(examples.parts.values()))


def write_plots(folder: pathlib.Path, pictures: Mapping[tuple[str, int], Picture]) -> None:
    """Writes each plot in all formats, and deletes the plots of an earlier audit.

    Args:
      folder: for the files.
      pictures: as returned by `audit_plots.draw_all`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for (name, number), picture in pictures.items():
        for kind, content in picture.files.items():
            with replace_atomically(folder / f"{_plot_name(name, number)}.{kind}") as temporary:
                temporary.write_bytes(content)


def _plot_name(name: str, number: int) -> str:
    return f"{name}-{number + 1}"


def _splits_by_part(examples: Examples) -> dict[str, list[str]]:
    """Returns the splits from each part of the source."""
    return {
        part: [split for split in examples.splits if examples.parts[split] == part]
        for part in dict.fromkeys(examples.parts.values())
    }


def _drop_by_part(drop: np.ndarray, examples: Examples) -> dict[str, np.ndarray]:
    return {
        part: np.sort(np.concatenate([examples.rows[_within(drop, examples, split)] for split in splits]))
        for part, splits in _splits_by_part(examples).items()
    }


def _weights_by_part(weights: np.ndarray, examples: Examples) -> dict[str, np.ndarray]:
    """Returns weights up to the last row of a part that is in a split; rows in no split have weight 1."""
    found = {}
    for part, splits in _splits_by_part(examples).items():
        positions = np.concatenate([examples.positions(split) for split in splits])
        rows = examples.rows[positions]
        found[part] = np.ones(rows.max() + 1, np.float32)
        found[part][rows] = np.asarray(weights, np.float32)[positions]
    return found


def _within(positions: np.ndarray, examples: Examples, split: str) -> np.ndarray:
    """Returns the positions that are in a split."""
    positions = np.asarray(positions, np.int64)
    return positions[examples.split[positions] == split]


def _finding(finding: Finding, report: Report) -> dict[str, Any]:
    examples = report.examples
    return {
        "name": finding.name,
        "challenge": finding.challenge,
        "severity": finding.severity,
        "message": finding.message,
        "measures": [_measure(measure) for measure in finding.measures],
        "evidence": [
            _evidence(evidence, examples, f"{PLOTS}/{_plot_name(finding.name, number)}.png")
            for number, evidence in enumerate(finding.evidence)
        ],
        "remedies": [
            {
                "text": remedy.text,
                "overrides": report.overrides(remedy),
                "flags": format_flags(report.overrides(remedy)),
            }
            for remedy in finding.remedies
        ],
        "drop": None if finding.drop is None else _drop(finding.drop, examples),
        "weights": None if finding.weights is None else _weights(finding.weights, examples),
    }


def _measure(measure: Measure) -> dict[str, Any]:
    return {
        "name": measure.name,
        "value": measure.value,
        "low": measure.low,
        "high": measure.high,
        "kind": measure.kind,
    }


def _evidence(evidence: Evidence, examples: Examples, plot: str) -> dict[str, Any]:
    if isinstance(evidence, Rows):
        return {
            "kind": "rows",
            "title": evidence.title,
            "total": evidence.total,
            "clusters": [
                {
                    "note": evidence.notes[number] if evidence.notes else "",
                    "rows": [_row(int(position), examples) for position in cluster],
                }
                for number, cluster in enumerate(evidence.clusters)
            ],
        }
    if isinstance(evidence, Table):
        return {"kind": "table", "title": evidence.title, "header": evidence.header, "rows": evidence.rows}
    if isinstance(evidence, Histogram):
        edges, counts = bin_values(evidence.values)
        return {
            "kind": "histogram",
            "title": evidence.title,
            "label": evidence.label,
            "edges": edges,
            "counts": counts,
            "left_out": {name: int(np.size(each) - counts[name].sum()) for name, each in evidence.values.items()},
            "marks": evidence.marks,
            "plot": plot if has_points(evidence) else None,
        }
    return _curves(evidence, plot)


def _curves(evidence: Curves, plot: str) -> dict[str, Any]:
    return {
        "kind": "curves",
        "title": evidence.title,
        "x_label": evidence.x_label,
        "y_label": evidence.y_label,
        "lines": evidence.lines,
        "log_x": evidence.log_x,
        "plot": plot if has_points(evidence) else None,
    }


def _row(position: int, examples: Examples) -> dict[str, Any]:
    return {
        "position": position,
        "split": str(examples.split[position]),
        "row": int(examples.rows[position]),
        "name": examples.name(position),
    }


def _drop(drop: np.ndarray, examples: Examples) -> dict[str, Any]:
    found = {split: _within(drop, examples, split) for split in examples.splits}
    return {
        split: {"positions": positions, "rows": examples.rows[positions]}
        for split, positions in found.items()
        if len(positions)
    }


def _weights(weights: np.ndarray, examples: Examples) -> dict[str, Any]:
    """Summarizes weights; the weights themselves are in findings.npz."""
    found = {split: np.asarray(weights)[examples.positions(split)] for split in examples.splits}
    return {
        split: {"examples": len(each), "below_1": int((each < 1).sum()), "mean": float(each.mean())}
        for split, each in found.items()
        if len(each)
    }


def _plain(value: Any) -> Any:
    """Returns a value of JSON types: lists for arrays, Python numbers, None for numbers that are not finite."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
