"""Trials of a study, and the attributes by which workers share them through Optuna's storage.

A trial has a slot, its place in the search. Several trials may have the same slot: the trial of a dead worker is void,
and its slot is queued again; two workers that fill the queue at the same moment queue each slot twice. The oldest trial
of a slot that is not void is the current one, and only current trials are run and counted.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

STATUSES = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
# Attributes of a trial: its slot, the worker and batch that run it, and why it failed. A claim is named by its worker.
SLOT, OWNER, FAILURE, CLAIM = "slot", "owner", "failure", "claim:"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial that a worker is given to run.

    Attributes:
      number: in the study.
      overrides: config path -> value.
      finished: the study has its result already; it belongs to a batch that was interrupted.
      steps: value of the first objective by step, as reported so far.
    """

    number: int
    overrides: Mapping[str, Any]
    finished: bool = False
    steps: Mapping[int, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """What a study holds about a trial.

    Attributes:
      number: in the study.
      status: "done", "pruned", "failed", "running" or "waiting".
      overrides: config path -> value.
      values: of the objectives, in their order; () unless done.
      attributes: JSON values that were stored with the result.
      steps: value of the first objective by step, where it was reported.
      reason: why it failed.
    """

    number: int
    status: str
    overrides: Mapping[str, Any]
    values: tuple[float, ...] = ()
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    steps: Mapping[int, float] = dataclasses.field(default_factory=dict)
    reason: str = ""


def make_record(trial: FrozenTrial, overrides: Mapping[str, Any]) -> TrialRecord:
    """Returns the record of a trial of the storage.

    Args:
      trial: of the storage.
      overrides: the config fields that it sets.
    """
    return TrialRecord(
        number=trial.number,
        status=STATUSES[trial.state],
        overrides=overrides,
        values=tuple(trial.values or ()) if trial.state == TrialState.COMPLETE else (),
        attributes={name: value for name, value in trial.user_attrs.items() if not _is_internal(name)},
        steps=dict(sorted(trial.intermediate_values.items())),
        reason=trial.user_attrs.get(FAILURE, ""),
    )


def owner_of(trial: FrozenTrial) -> str | None:
    """Returns the worker that runs or ran a trial; None if none has signed it."""
    return trial.user_attrs.get(OWNER, {}).get("worker")


def claim_name(worker: str) -> str:
    """Returns the attribute by which a worker claims a trial."""
    return f"{CLAIM}{worker}"


def claimants(trial: FrozenTrial) -> list[str]:
    """Returns the workers that have claimed a trial."""
    return [name.removeprefix(CLAIM) for name in trial.user_attrs if name.startswith(CLAIM)]


def is_void(trial: FrozenTrial) -> bool:
    """Whether a trial ended without a result: its worker died, or it was queued twice."""
    return trial.state == TrialState.FAIL and FAILURE not in trial.user_attrs


def current_numbers(trials: Sequence[FrozenTrial]) -> dict[int, int]:
    """Returns the number of the current trial of each slot that has one.

    Args:
      trials: of the storage, by number.
    """
    return {t.user_attrs[SLOT]: t.number for t in reversed(trials) if SLOT in t.user_attrs and not is_void(t)}


def _is_internal(name: str) -> bool:
    return name in (SLOT, OWNER, FAILURE) or name.startswith(CLAIM)
