"""Runs all diagnostics on a set, and on trainings on it. None of them stops the others."""

import contextlib
import dataclasses
import importlib
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

from data.pool import Pool
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Rows, Table, cannot_judge, worst_first
from plumbline import Preempted, UserError
from plumbline.files import write_text
from trainers.run.inference import FinishedRun

_QUALITY, _QUANTITY, _FIT = "data quality", "data quantity", "fit"
# Characters of an error that a message quotes.
_QUOTED = 300
# Of these a remedy names what is to be added: a diagnostic of the data does not know what the config has there.
_ADDED = ("data.ignore", "data.missing_values")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What diagnostics look at.

    Attributes:
      config: the whole config.
      examples: of the set.
      reference: a `quality.reference.Reference` that it is compared with; None for none.
      pool: of the set; None where nothing was trained.
      trained: what became of the trainings that `diagnostics.trainings` planned; None where nothing was trained.
      wanted: accuracy, or mean squared error, of which is asked how much data it takes; None for none.
      run: directory of a finished run whose fit is judged; "" for none.
    """

    config: ml_collections.ConfigDict
    examples: Examples
    reference: Any = None
    pool: Pool | None = None
    trained: Any = None
    wanted: float | None = None
    run: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Diagnostic:
    """A diagnostic, and what it answers.

    Attributes:
      title: a name for messages and files, such as "duplicates".
      challenge: one of `finding.CHALLENGES`.
      names: of the findings that it gives, each of them once.
      with_reference: names of further ones that it gives where there is a reference.
      find: takes the material, and gives them.
      needs_trainings: whether it is left out where nothing was trained.
      of_run: whether a finished run will do instead.
    """

    title: str
    challenge: str
    names: tuple[str, ...]
    find: Callable[[Material], list[Finding]]
    with_reference: tuple[str, ...] = ()
    needs_trainings: bool = False
    of_run: bool = False

    def applies(self, material: Material) -> bool:
        """Whether there is what it looks at."""
        return not self.needs_trainings or material.trained is not None or (self.of_run and bool(material.run))

    def asked(self, material: Material) -> tuple[str, ...]:
        """The names of all findings that it gives on this material."""
        return self.names if material.reference is None else (*self.names, *self.with_reference)


def run(
    material: Material,
    directory: str | os.PathLike,
    *,
    diagnostics: Sequence[Diagnostic] | None = None,
    show: Callable[[str, float], None] = lambda title, seconds: None,
) -> list[Finding]:
    """Asks each diagnostic. One that fails says so as a finding of each of its names.

    Args:
      material: what they look at.
      directory: where tracebacks of those that fail are written, in `tracebacks`.
      diagnostics: that are asked, in this order; `DIAGNOSTICS` by default.
      show: is told the title of each one that is done, and the seconds it took.

    Returns:
      One finding of each name, the worst first.

    Raises:
      Preempted: a diagnostic was told to stop.
    """
    findings: list[Finding] = []
    for diagnostic in DIAGNOSTICS if diagnostics is None else diagnostics:
        if not diagnostic.applies(material):
            continue
        began = time.monotonic()
        findings += _ask(diagnostic, material, pathlib.Path(directory) / "tracebacks")
        show(diagnostic.title, time.monotonic() - began)
    return worst_first(findings)


def check(findings: Sequence[Finding], names: Sequence[str], examples: Examples) -> None:
    """Checks what a diagnostic gave before anything is made of it.

    Args:
      findings: that it gave.
      names: that it was to give.
      examples: that they are of.

    Raises:
      ValueError: a name is missing, given twice or another one; a position is none of the set's; a row of a table has
        more or fewer cells than its header; rows of the test split are to be dropped; weights are not from 0 to 1.
    """
    given = Counter(finding.name for finding in findings)
    if given != Counter(names):
        raise ValueError(f"findings of {sorted(given.elements())} were given; those of {sorted(names)} were asked for")
    for finding in findings:
        for evidence in finding.evidence:
            _check_evidence(finding.name, evidence, len(examples))
        if finding.drop is not None:
            drop = np.asarray(finding.drop)
            _check_positions(finding.name, drop, len(examples))
            if (np.diff(drop) <= 0).any():
                raise ValueError(f"{finding.name}: the rows to drop are not sorted, or given twice")
            if (examples.split[drop] == "test").any():
                raise ValueError(f"{finding.name}: test rows are to be dropped, which would only make it look better")
        if finding.weights is not None:
            weights = np.asarray(finding.weights)
            # Written so that nan fails.
            if weights.shape != (len(examples),) or not ((weights >= 0) & (weights <= 1)).all():
                raise ValueError(f"{finding.name}: the weights are not {len(examples)} numbers from 0 to 1")


def _ask(diagnostic: Diagnostic, material: Material, folder: pathlib.Path) -> list[Finding]:
    names = diagnostic.asked(material)
    try:
        found = list(diagnostic.find(material))
        check(found, names, material.examples)
        return [_with_whole_overrides(finding, material.config) for finding in found]
    except Preempted:
        raise
    except UserError as error:
        return _unable(diagnostic, names, str(error))
    except Exception as error:
        if _is_memory(error):
            return _unable(diagnostic, names, f"memory is short ({_quoted(error)})")
        where = _write_traceback(folder / f"{diagnostic.title}.txt", error)
        reason = f"the diagnostic failed with {type(error).__name__}{f' ({_quoted(error)})' if str(error) else ''}"
        return _unable(diagnostic, names, f"{reason}; {where}")


def _with_whole_overrides(finding: Finding, config: ml_collections.ConfigDict) -> Finding:
    """The finding, whose remedies name the whole value of each field, and not what is added to it alone."""

    def whole(field: str, value: Any) -> Any:
        if field not in _ADDED:
            return value
        had = config.data[field.removeprefix("data.")]
        return (*had, *(each for each in value if each not in had))

    remedies = tuple(
        dataclasses.replace(remedy, overrides={field: whole(field, value) for field, value in remedy.overrides.items()})
        for remedy in finding.remedies
    )
    return finding if remedies == finding.remedies else dataclasses.replace(finding, remedies=remedies)


def _unable(diagnostic: Diagnostic, names: Sequence[str], reason: str) -> list[Finding]:
    return [cannot_judge(name, diagnostic.challenge, reason.rstrip(".")) for name in names]


def _is_memory(error: Exception) -> bool:
    exhausted = isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    return exhausted or isinstance(error, MemoryError)


def _quoted(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words if len(words) <= _QUOTED else f"{words[:_QUOTED]}..."


def _write_traceback(path: pathlib.Path, error: Exception) -> str:
    """Where it is, as a clause; a full disk is no reason to stop here either."""
    with contextlib.suppress(OSError):
        write_text(path, "".join(traceback.format_exception(error)))
        return f"its traceback is in '{path}'"
    return "its traceback could not be written"


def _check_evidence(name: str, evidence: Any, count: int) -> None:
    if isinstance(evidence, Rows):
        _check_positions(name, np.array([each for cluster in evidence.clusters for each in cluster], np.int64), count)
        if evidence.notes and len(evidence.notes) != len(evidence.clusters):
            raise ValueError(f"{name}: {len(evidence.notes)} notes on {len(evidence.clusters)} clusters of rows")
    if isinstance(evidence, Table) and any(len(row) != len(evidence.header) for row in evidence.rows):
        raise ValueError(f"{name}: rows of the table '{evidence.title}' do not fit its header")


def _check_positions(name: str, positions: np.ndarray, count: int) -> None:
    if len(positions) and (positions.min() < 0 or positions.max() >= count):
        raise ValueError(f"{name}: positions from {positions.min()} to {positions.max()} of {count} examples")


def _call(module: str, **arguments: Any) -> list[Finding]:
    """Imports a diagnostic when it is asked, as some come with libraries that are slow to load."""
    return importlib.import_module(module).find(**arguments)


def _of_examples(module: str) -> Callable[[Material], list[Finding]]:
    return lambda material: _call(module, examples=material.examples)


def _duplicates(material: Material) -> list[Finding]:
    from diagnostics.quality import duplicates

    if not material.run or material.examples.features.kind == "table":
        return duplicates.find(material.examples)
    run = FinishedRun(material.run)
    vectors = np.concatenate([run.embed(split) for split in material.examples.splits.values()])
    return duplicates.find(material.examples, embed=lambda positions: vectors[positions])


def _fit(material: Material) -> list[Finding]:
    from diagnostics.fit import findings

    if material.run:
        return findings.of_run(material.run)
    return findings.find(material.config, material.pool, material.trained)


DIAGNOSTICS: tuple[Diagnostic, ...] = (
    Diagnostic(
        title="duplicates",
        challenge=_QUALITY,
        names=("exact_duplicates", "near_duplicates", "leaked_duplicates", "conflicting_labels"),
        find=_duplicates,
    ),
    Diagnostic(
        title="missing",
        challenge=_QUALITY,
        names=("missing_values", "informative_missingness"),
        find=_of_examples("diagnostics.quality.missing"),
    ),
    Diagnostic(
        title="columns",
        challenge=_QUALITY,
        names=("constant_columns", "duplicated_columns", "leaking_columns"),
        find=_of_examples("diagnostics.quality.columns"),
    ),
    Diagnostic(
        title="balance",
        challenge=_QUALITY,
        names=("class_imbalance",),
        find=_of_examples("diagnostics.quality.balance"),
    ),
    Diagnostic(
        title="oddities",
        challenge=_QUALITY,
        names=("corrupt_examples", "odd_examples", "outliers", "impossible_values"),
        find=_of_examples("diagnostics.quality.anomalies"),
    ),
    Diagnostic(
        title="shift",
        challenge=_QUALITY,
        names=("train_test_shift",),
        with_reference=("reference_shift",),
        find=lambda material: _call(
            "diagnostics.quality.shift",
            examples=material.examples,
            reference=material.reference,
            seed=material.config.seed,
        ),
    ),
    Diagnostic(
        title="grouping",
        challenge=_QUALITY,
        names=("shared_groups", "grouped_optimism"),
        find=lambda material: _call(
            "diagnostics.quality.grouping",
            examples=material.examples,
            out_of_fold=material.trained and material.trained.out_of_fold,
            grouped=material.trained and material.trained.grouped,
        ),
    ),
    Diagnostic(
        title="label_errors",
        challenge=_QUALITY,
        names=("label_errors",),
        find=lambda material: _call(
            "diagnostics.quality.label_errors",
            examples=material.examples,
            out_of_fold=material.trained.out_of_fold,
        ),
        needs_trainings=True,
    ),
    Diagnostic(
        title="quantity",
        challenge=_QUANTITY,
        names=("more_data", "short_classes", "enough_data"),
        find=lambda material: _call(
            "diagnostics.quantity",
            pool=material.pool,
            trained=material.trained,
            wanted=material.wanted,
        ),
        needs_trainings=True,
    ),
    Diagnostic(
        title="fit",
        challenge=_FIT,
        names=("fit", "control", "baselines", "calibration", "optimisation"),
        find=_fit,
        needs_trainings=True,
        of_run=True,
    ),
)
"""All that an audit asks, in this order."""
