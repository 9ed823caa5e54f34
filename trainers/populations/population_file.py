"""The file of a population: outcomes, and checkpoints of members that paused or were training.

The file is written whole or not at all. The state of a member belongs to no lane, so it can resume in any lane.
"""

import dataclasses
import json
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any, Optional

import jax
import numpy as np

from plumbline import UserError
from plumbline.files import replace_atomically
from trainers.populations.lanes import LaneState
from trainers.populations.members import Outcome
from trainers.run.directory import POPULATION

NAME = POPULATION
"""Of the file, in the directory of its population."""


@dataclasses.dataclass
class MemberCheckpoint:
    """A member at one step of its training.

    Attributes:
      digest: of the member.
      step: steps taken.
      history: of its evaluations.
      best: step and value of its best evaluation.
      leaves: the arrays of its train state and of its best inference state, random keys as their data.
      running: (s,) float32, its running sums; None in files of earlier versions, which did not have them.
      training: its training metrics at the evaluations.
      rollback: as in `MemberState`.
      fallback: the earlier checkpoint that it goes back to if it diverges.
    """

    digest: str
    step: int
    history: list[dict[str, float]]
    best: tuple[int, float] | None
    leaves: list[np.ndarray]
    running: np.ndarray | None = None
    training: list[dict[str, float]] = dataclasses.field(default_factory=list)
    rollback: dict[str, int] | None = None
    fallback: Optional["MemberCheckpoint"] = None

    @classmethod
    def from_state(cls, state: LaneState, **fields: Any) -> "MemberCheckpoint":
        """A checkpoint with the arrays of this state, which are copied to the host, and these other fields."""
        *states, running = state
        plain = [jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in jax.tree.leaves(states)]
        leaves, sums = jax.device_get((plain, running))
        return cls(leaves=leaves, running=sums, **fields)

    def to_state(self, like: LaneState) -> LaneState:
        """The state as a tree like `like`, which holds shapes."""
        forms, structure = jax.tree.flatten(like)
        running = np.zeros(forms[-1].shape, np.float32) if self.running is None else self.running
        pairs = zip([*self.leaves, running], forms, strict=True)
        return jax.tree.unflatten(
            structure, [jax.random.wrap_key_data(leaf) if _is_key(form) else leaf for leaf, form in pairs]
        )


@dataclasses.dataclass
class PopulationCheckpoint:
    """What the file holds.

    Attributes:
      fingerprint: of the population's config and rows.
      fields: paths of the config fields in the fingerprint; () in files of earlier versions.
      outcomes: by member and the step it was to stop at.
      paused: checkpoints by the member's name.
      modes: how the lanes of each group are run.
      examples: digest of the examples in the pool, its classes, groups and splits; "" in files of earlier versions.
    """

    fingerprint: str
    fields: tuple[str, ...] = ()
    outcomes: dict[str, Outcome] = dataclasses.field(default_factory=dict)
    paused: dict[str, MemberCheckpoint] = dataclasses.field(default_factory=dict)
    modes: dict[str, str] = dataclasses.field(default_factory=dict)
    examples: str = ""


def write(path: pathlib.Path, saved: PopulationCheckpoint) -> None:
    """Writes the file.

    Raises:
      UserError: the disk is full, or the file cannot be written for another reason.
    """
    arrays: dict[str, np.ndarray] = {}
    outcomes = {}
    for key, outcome in saved.outcomes.items():
        outcomes[key] = {n: v for n, v in vars(outcome).items() if n != "predictions"}
        if outcome.predictions is not None:
            arrays[f"predictions/{key}"] = outcome.predictions
    about = {
        "fingerprint": saved.fingerprint,
        "fields": saved.fields,
        "outcomes": outcomes,
        "paused": {name: _describe(member, f"paused/{name}", arrays) for name, member in saved.paused.items()},
        "modes": saved.modes,
        "examples": saved.examples,
    }
    try:
        with replace_atomically(path) as temporary:
            np.savez(temporary, about=np.array(json.dumps(about)), **arrays)
    except OSError as error:
        raise UserError(f"--workdir: cannot write '{path}': {error.strerror}; make room there") from None


def read(path: pathlib.Path) -> PopulationCheckpoint:
    """Reads the file.

    Raises:
      UserError: it is damaged.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            about = json.loads(str(arrays["about"]))
            outcomes = {
                key: Outcome(**fields, predictions=arrays[f"predictions/{key}"] if _has(arrays, key) else None)
                for key, fields in about["outcomes"].items()
            }
            paused = {name: _read_member(fields, f"paused/{name}", arrays) for name, fields in about["paused"].items()}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"--workdir: '{path}' is damaged ({error}); remove it, and its trainings start again") from None
    fields = tuple(about.get("fields", ()))
    examples = about.get("examples", "")
    return PopulationCheckpoint(about["fingerprint"], fields, outcomes, paused, about["modes"], examples)


def _describe(member: MemberCheckpoint, prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The fields of a checkpoint as JSON; its arrays go into `arrays`, under names with this prefix."""
    arrays |= {f"{prefix}/{number}": leaf for number, leaf in enumerate(member.leaves)}
    if member.running is not None:
        arrays[f"running/{prefix}"] = member.running
    fields = {
        "digest": member.digest,
        "step": member.step,
        "history": member.history,
        "best": member.best,
        "leaves": len(member.leaves),
        "training": member.training,
    }
    if member.rollback is not None:
        fields["rollback"] = member.rollback
    if member.fallback is not None:
        fields["fallback"] = _describe(member.fallback, f"fallback/{prefix}", arrays)
    return fields


def _read_member(fields: Mapping[str, Any], prefix: str, arrays: Any) -> MemberCheckpoint:
    fallback = fields.get("fallback")
    return MemberCheckpoint(
        digest=fields["digest"],
        step=fields["step"],
        history=fields["history"],
        best=fields["best"] and (fields["best"][0], fields["best"][1]),
        leaves=[arrays[f"{prefix}/{number}"] for number in range(fields["leaves"])],
        running=arrays[f"running/{prefix}"] if f"running/{prefix}" in arrays.files else None,
        training=fields.get("training", []),
        rollback=fields.get("rollback"),
        fallback=fallback and _read_member(fallback, f"fallback/{prefix}", arrays),
    )


def _has(arrays: Any, key: str) -> bool:
    return f"predictions/{key}" in arrays.files


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
