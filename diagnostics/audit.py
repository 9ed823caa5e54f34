"""Runs all diagnostics on some material. One that fails does not stop the others."""

import contextlib
import dataclasses
import os
import pathlib
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from diagnostics.diagnostic import Diagnostic
from diagnostics.examples import Examples
from diagnostics.finding import Evidence, Finding, Rows, Table, worst_first
from diagnostics.material import Material
from diagnostics.registry import DIAGNOSTICS
from plumbline import Preempted, UserError
from plumbline.files import write_text

# Characters of an error that a message quotes.
_QUOTED = 300
# Remedies name what to add to these fields: a diagnostic of the data does not know what the config has there.
_ADDED = ("data.ignore", "data.missing_values")


def run(
    material: Material,
    directory: str | os.PathLike,
    *,
    diagnostics: Sequence[Diagnostic] = DIAGNOSTICS,
    show: Callable[[str, float], None] = lambda title, seconds: None,
) -> list[Finding]:
    """Runs the diagnostics that apply. If one fails, each of its findings says so.

    Args:
      material: that they read.
      directory: where tracebacks of failures are written, in `tracebacks`.
      diagnostics: to run, in this order.
      show: is called with the title of each diagnostic that is done, and the seconds it took.

    Returns:
      One finding of each name, the worst first.

    Raises:
      Preempted: a signal to stop has come.
    """
    findings: list[Finding] = []
    for diagnostic in diagnostics:
        if not diagnostic.applies(material):
            continue
        began = time.monotonic()
        findings += _run_one(diagnostic, material, pathlib.Path(directory) / "tracebacks")
        show(diagnostic.title, time.monotonic() - began)
    return worst_first(findings)


def check(findings: Sequence[Finding], names: Sequence[str], examples: Examples) -> None:
    """Checks the findings of a diagnostic before they are used.

    Args:
      findings: of the diagnostic.
      names: of the findings that it has to return.
      examples: that they are about.

    Raises:
      ValueError: a name is missing, repeated or unknown; a position is out of range; a row of a table does not match
        its header; rows of the test split are to be dropped; weights are not between 0 and 1.
    """
    returned = Counter(finding.name for finding in findings)
    if returned != Counter(names):
        raise ValueError(f"returned findings {sorted(returned.elements())}; expected {sorted(names)}")
    for finding in findings:
        for evidence in finding.evidence:
            _check_evidence(finding.name, evidence, len(examples))
        if finding.drop is not None:
            drop = np.asarray(finding.drop)
            _check_positions(finding.name, drop, len(examples))
            if (np.diff(drop) <= 0).any():
                raise ValueError(f"{finding.name}: the rows to drop are not sorted, or repeated")
            if (examples.split[drop] == "test").any():
                raise ValueError(f"{finding.name}: test rows are to be dropped, which would only make it look better")
        if finding.weights is not None:
            weights = np.asarray(finding.weights)
            # Written so that nan fails.
            if weights.shape != (len(examples),) or not ((weights >= 0) & (weights <= 1)).all():
                raise ValueError(f"{finding.name}: the weights are not {len(examples)} numbers from 0 to 1")


def _run_one(diagnostic: Diagnostic, material: Material, folder: pathlib.Path) -> list[Finding]:
    try:
        found = list(diagnostic.find(material))
        check(found, diagnostic.names, material.examples)
        return [_complete_overrides(finding, material.config) for finding in found]
    except Preempted:
        raise
    except UserError as error:
        reason = str(error)
    except Exception as error:
        if _is_out_of_memory(error):
            reason = f"out of memory ({_quote(error)})"
        else:
            where = _write_traceback(folder / f"{diagnostic.title}.txt", error)
            quoted = f" ({_quote(error)})" if str(error) else ""
            reason = f"the diagnostic failed with {type(error).__name__}{quoted}; {where}"
    return [question.cannot_tell(reason) for question in diagnostic.questions]


def _complete_overrides(finding: Finding, config: ml_collections.ConfigDict) -> Finding:
    """Returns the finding with remedies that give whole values, where they named only what to add."""

    def complete(field: str, value: Any) -> Any:
        if field not in _ADDED:
            return value
        present = config.data[field.removeprefix("data.")]
        return (*present, *(each for each in value if each not in present))

    remedies = tuple(
        dataclasses.replace(
            remedy, overrides={field: complete(field, value) for field, value in remedy.overrides.items()}
        )
        for remedy in finding.remedies
    )
    return finding if remedies == finding.remedies else dataclasses.replace(finding, remedies=remedies)


def _is_out_of_memory(error: Exception) -> bool:
    exhausted = isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    return exhausted or isinstance(error, MemoryError)


def _quote(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."


def _write_traceback(path: pathlib.Path, error: Exception) -> str:
    """Writes a traceback and says where it is; a full disk does not stop the audit either."""
    with contextlib.suppress(OSError):
        write_text(path, "".join(traceback.format_exception(error)))
        return f"its traceback is in '{path}'"
    return "its traceback could not be written"


def _check_evidence(name: str, evidence: Evidence, count: int) -> None:
    if isinstance(evidence, Rows):
        _check_positions(name, np.array([each for cluster in evidence.clusters for each in cluster], np.int64), count)
        if evidence.notes and len(evidence.notes) != len(evidence.clusters):
            raise ValueError(f"{name}: {len(evidence.notes)} notes on {len(evidence.clusters)} clusters of rows")
    if isinstance(evidence, Table) and any(len(row) != len(evidence.header) for row in evidence.rows):
        raise ValueError(f"{name}: rows of the table '{evidence.title}' do not match its header")


def _check_positions(name: str, positions: np.ndarray, count: int) -> None:
    if len(positions) and (positions.min() < 0 or positions.max() >= count):
        raise ValueError(f"{name}: positions from {positions.min()} to {positions.max()} of {count} examples")
