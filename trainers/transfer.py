"""What a training begins with that was trained elsewhere."""

import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from models import lora
from plumbline import UserError
from trainers import inference, processes
from trainers.mesh import data_mesh
from trainers.optimizers import compile_patterns, paths_and_leaves
from trainers.run_directory import RunDirectory
from trainers.state import Program, Start

_FIELD = "transfer.source"
# It may differ in shape, as with other classes, and then begins anew.
_HEAD = "head/"


def begin_from(config: ml_collections.ConfigDict, program: Program) -> Start:
    """What a new training begins with in place of fresh values; a line about it goes to standard error.

    Args:
      config: the `transfer` section.
      program: of the training.

    Returns:
      Arrays in the form of the model's; empty without a source.

    Raises:
      UserError: there is no such source, or it does not fit the model.
    """
    if not config.source:
        return {}
    step, saved = _read_run(config.source)
    # Adapters begin anew: what a source had of them is in its kernels.
    wanted = {"params": lora.without(program.params), "model_state": program.model_state}
    chosen, fresh = _fitting(saved, wanted, config)
    if processes.process_index() == 0:
        count = f"{len(chosen)} of {len(chosen) + len(fresh)} arrays"
        anew = f"; anew: {', '.join(fresh)}" if fresh else ""
        print(f"{_FIELD}: {count} from '{config.source}', step {step}{anew}", file=sys.stderr, flush=True)
    return {name: _only(tree, chosen, f"{name}/") for name, tree in saved.items()}


def _read_run(source: str) -> tuple[int, dict[str, Any]]:
    """The step and the best parameters of a run, and its model's statistics, on the host."""
    if not pathlib.Path(source).is_dir():
        raise UserError(f"{_FIELD}: no such directory '{source}'; give that of a run")
    try:
        restored = inference.restore(RunDirectory(source), data_mesh(jax.local_devices()[:1]), "best")
    except UserError as error:
        raise UserError(f"{_FIELD}: {str(error).removeprefix('--workdir: ')}") from None
    adapters = restored.program.config.transfer.lora
    params = lora.merge(restored.state.params, adapters.alpha / adapters.rank)
    state = {"params": params, "model_state": restored.state.model_state}
    return restored.step, jax.tree.map(np.asarray, state)


def _fitting(saved: Any, wanted: Any, config: ml_collections.ConfigDict) -> tuple[set[str], list[str]]:
    """Paths of the arrays that are taken, and names (paths less their first part) of those that begin anew."""
    there = {path: leaf.shape for path, leaf in paths_and_leaves(saved)}
    here = {path: tuple(leaf.shape) for path, leaf in paths_and_leaves(wanted)}
    names = {path: path.partition("/")[2] for path in there | here}
    patterns = compile_patterns(config.allow, [names[path] for path in here], "transfer.allow")
    fresh = []
    for path, shape in here.items():
        name = names[path]
        if there.get(path) == shape:
            continue
        if path not in there and not any(pattern.search(name) for pattern in patterns):
            raise UserError(f"{_FIELD}: '{config.source}' has no '{name}'; name it in transfer.allow to begin it anew")
        if path in there and not name.startswith(_HEAD):
            raise UserError(
                f"{_FIELD}: '{name}' is of shape {there[path]} in '{config.source}', of {shape} here; give the model "
                "and data.image_size the values they have there"
            )
        fresh.append(name)
    for path in there:
        if path not in here and not names[path].startswith(_HEAD):
            raise UserError(f"{_FIELD}: '{config.source}' has '{names[path]}', for which the model has no place")
    return {path for path in here if names[path] not in fresh}, fresh


def _only(tree: Any, chosen: set[str], prefix: str) -> Any:
    """The nested dict less what is not chosen."""
    kept = {}
    for name, part in tree.items():
        path = f"{prefix}{name}"
        if not isinstance(part, Mapping):
            kept |= {name: part} if path in chosen else {}
        elif inner := _only(part, chosen, f"{path}/"):
            kept[name] = inner
    return kept
