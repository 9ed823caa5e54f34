"""What a population saves to go on after a kill: outcomes, and the states of members that paused or were on their way.

One file, written whole or not at all; its members' states belong to no lane, so it may go on with others.
"""

import dataclasses
import json
import pathlib
import zipfile
from typing import Any

import jax
import numpy as np

from plumbline import UserError
from plumbline.files import replaced
from trainers.populations.members import Outcome

Tree = Any


@dataclasses.dataclass
class MemberCheckpoint:
    """A member that stopped on its way.

    Attributes:
      digest: of the member.
      step: steps taken.
      history: of its evaluations.
      best: step and value of its best evaluation.
      leaves: the arrays of its state and of its best state, keys as their data.
    """

    digest: str
    step: int
    history: list[dict[str, float]]
    best: tuple[int, float] | None
    leaves: list[np.ndarray]

    @classmethod
    def of(cls, state: Tree, **where: Any) -> "MemberCheckpoint":
        """A member that stops in this state, which is copied to the host; `where` is all else that it is."""
        plain = [jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in jax.tree.leaves(state)]
        return cls(leaves=jax.device_get(plain), **where)

    def restored(self, like: Tree) -> Tree:
        """The state again, in the form of `like`: a tree of shapes."""
        forms, structure = jax.tree.flatten(like)
        pairs = zip(self.leaves, forms, strict=True)
        return jax.tree.unflatten(
            structure, [jax.random.wrap_key_data(leaf) if _is_key(form) else leaf for leaf, form in pairs]
        )


@dataclasses.dataclass
class Saved:
    """All that is saved.

    Attributes:
      fingerprint: of the population's config and rows.
      outcomes: by member and where it was to pause.
      paused: by the member's name.
      modes: how the lanes of each group are run.
    """

    fingerprint: str
    outcomes: dict[str, Outcome] = dataclasses.field(default_factory=dict)
    paused: dict[str, MemberCheckpoint] = dataclasses.field(default_factory=dict)
    modes: dict[str, str] = dataclasses.field(default_factory=dict)


def write(path: pathlib.Path, saved: Saved) -> None:
    """Writes the file.

    Raises:
      UserError: there is no room for it.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, paused in saved.paused.items():
        arrays |= {f"paused/{name}/{number}": leaf for number, leaf in enumerate(paused.leaves)}
    outcomes = {}
    for key, outcome in saved.outcomes.items():
        outcomes[key] = {n: v for n, v in vars(outcome).items() if n != "predictions"}
        if outcome.predictions is not None:
            arrays[f"predictions/{key}"] = outcome.predictions
    about = {
        "fingerprint": saved.fingerprint,
        "outcomes": outcomes,
        "paused": {
            name: {"digest": p.digest, "step": p.step, "history": p.history, "best": p.best, "leaves": len(p.leaves)}
            for name, p in saved.paused.items()
        },
        "modes": saved.modes,
    }
    try:
        with replaced(path) as temporary:
            np.savez(temporary, about=np.array(json.dumps(about)), **arrays)
    except OSError as error:
        raise UserError(f"--workdir: cannot write '{path}': {error.strerror}; make room there") from None


def read(path: pathlib.Path) -> Saved:
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
            paused = {
                name: MemberCheckpoint(
                    digest=fields["digest"],
                    step=fields["step"],
                    history=fields["history"],
                    best=fields["best"] and (fields["best"][0], fields["best"][1]),
                    leaves=[arrays[f"paused/{name}/{number}"] for number in range(fields["leaves"])],
                )
                for name, fields in about["paused"].items()
            }
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"--workdir: '{path}' is damaged ({error}); remove it, and its trainings begin anew") from None
    return Saved(about["fingerprint"], outcomes, paused, about["modes"])


def _has(arrays: Any, key: str) -> bool:
    return f"predictions/{key}" in arrays.files


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
