"""The remedies that an audit proposes: which of them can be tried, and on which rows they are judged."""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from data.pool import Pool
from diagnostics import ablation
from diagnostics.finding import Finding, Question, Remedy
from plumbline import UserError
from trainers.populations.members import check_shared
from trainers.settings import FIELDS, override

QUESTION = Question("tried_remedies", "remedies")
"""Which remedies help."""

# Severities of findings that need no remedy.
_NOT_FOUND = ("none", "unknown")
_ROWS = ("data.drop", "data.weights")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """A remedy to try.

    Attributes:
      name: its overrides as text; unique.
      findings: names of the findings that propose it.
      remedy: the remedy.
      overrides: of its trainings, without those that change the inputs.
      data: overrides that change the inputs, such as columns that are left out.
      drop: positions that are not trained on.
      weights: (N,) factors on the weights of rows; None for none.
    """

    name: str
    findings: tuple[str, ...]
    remedy: Remedy
    overrides: Mapping[str, Any]
    data: Mapping[str, Any]
    drop: np.ndarray
    weights: np.ndarray | None


def choose(
    findings: Sequence[Finding], config: ml_collections.ConfigDict, names: Collection[str] = ()
) -> tuple[list[Trial], dict[str, str]]:
    """Chooses the remedies that can be tried.

    Args:
      findings: of an audit.
      config: of the trainings without remedy.
      names: of the findings whose remedies are tried; () for all.

    Returns:
      The trials, each remedy once; and for each remedy that cannot be tried, by the text of its overrides, the reason.
    """
    found: dict[str, Trial] = {}
    refused: dict[str, str] = {}
    for finding in findings:
        if finding.severity in _NOT_FOUND or (names and finding.name not in names):
            continue
        for remedy in finding.remedies:
            if not remedy.overrides:
                continue
            name = ablation.changes(remedy.overrides)
            try:
                trial = _trial(name, finding, remedy, config)
            except UserError as error:
                refused[name] = str(error)
                continue
            if name in found:
                trial = dataclasses.replace(found[name], findings=(*found[name].findings, finding.name))
            found[name] = trial
    return list(found.values()), refused


def clean_rows(pool: Pool, findings: Sequence[Finding]) -> np.ndarray:
    """Returns positions (m,) of the test rows that are not spoiled, such as by a copy in the training rows.

    Raises:
      UserError: none is left.
    """
    spoiled = [finding.spoiled for finding in findings if finding.spoiled is not None]
    rows = np.setdiff1d(pool.splits["test"], np.concatenate([np.zeros(0, np.int64), *spoiled]))
    if not len(rows):
        raise UserError("all test rows have a copy in the training rows, so there is nothing to judge by")
    return rows


def pool_key(data: Mapping[str, Any]) -> str:
    """Returns the same key for trials that share their inputs."""
    return json.dumps(sorted(data.items()))


def with_verdicts(findings: Sequence[Finding], tried: Finding) -> list[Finding]:
    """Adds the verdicts to the remedies that were tried.

    Args:
      findings: that propose them.
      tried: result of `remedy_report.report`.
    """
    verdicts = {row[0]: row[-1] for evidence in tried.evidence[:1] for row in evidence.rows if len(row) > 2}

    def add_verdict(remedy: Remedy) -> Remedy:
        verdict = verdicts.get(ablation.changes(remedy.overrides))
        return dataclasses.replace(remedy, text=f"{remedy.text} Tried: {verdict}.") if verdict else remedy

    return [dataclasses.replace(each, remedies=tuple(map(add_verdict, each.remedies))) for each in findings]


def _trial(name: str, finding: Finding, remedy: Remedy, config: ml_collections.ConfigDict) -> Trial:
    """Raises `UserError` if it cannot be tried."""
    for path in remedy.overrides:
        if path in FIELDS and FIELDS[path].defines_test:
            raise UserError(f"{path} changes the test or the task; compare the two yourself")
        if path == "data.examples_per_class":
            raise UserError("it makes trials of changes faster, not the model better")
    if finding.spoiled is not None and "data.drop" in remedy.overrides:
        raise UserError("it makes the test valid, which no test score can show; apply it")
    data = {path: value for path, value in remedy.overrides.items() if path.startswith("data.") and path not in _ROWS}
    data.pop("data.class_weights", None)
    rest = {path: value for path, value in remedy.overrides.items() if path not in {*data, *_ROWS}}
    override(config, {**data, **rest})
    check_shared(rest)
    return Trial(
        name=name,
        findings=(finding.name,),
        remedy=remedy,
        overrides=rest,
        data=data,
        drop=finding.drop if "data.drop" in remedy.overrides else np.zeros(0, np.int64),
        weights=finding.weights if "data.weights" in remedy.overrides else None,
    )
