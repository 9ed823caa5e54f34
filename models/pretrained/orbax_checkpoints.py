"""Orbax checkpoints of a tree of parameters. Checkpoints of runs are read by `trainers`."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from models.pretrained.weights import Tensor, Weights, find_tokenizer, read_json
from plumbline import UserError

# File that marks a tree saved by Orbax.
_TREE = "_METADATA"
# Keys of parameters and of other model state, in a tree or a train state.
PARAMS, MODEL_STATE = "params", "model_state"
# Possible names of the tree in a checkpoint of several items.
_ITEMS = ("state", "default", PARAMS)


class OrbaxWeights(Weights):
    """Parameters and batch statistics of one checkpoint, by path. Other parts of a train state are ignored."""

    def __init__(self, path: pathlib.Path):
        """Reads the names.

        Args:
          path: directory for which `is_checkpoint` is true.

        Raises:
          UserError: the checkpoint cannot be read.
        """
        self.where, self.config, self.preprocessor = str(path), read_json(path / "config.json"), {}
        self.tokenizer = find_tokenizer(path)
        self._directory = _tree_directory(path)
        try:
            # A checkpointer would log errors and continue.
            tree = ocp.PyTreeCheckpointHandler().metadata(self._directory.absolute()).tree
        except Exception as error:  # Orbax and the file system raise various types.
            raise UserError(_unreadable(self._directory, error)) from None
        kept = {"": tree}
        if PARAMS in tree:
            kept = {name: tree[name] for name in (PARAMS, MODEL_STATE) if name in tree}
        self.tensors, self._keys = {}, {}
        for root, part in kept.items():
            for keys, leaf in _leaves(part):
                name = "/".join(keys)
                self.tensors[name] = Tensor(tuple(leaf.shape), np.dtype(leaf.dtype).name)
                self._keys[name] = (root, *keys) if root else keys
        self._read: dict[str, np.ndarray] | None = None

    def read(self, name: str) -> np.ndarray:
        """As in `Weights`. The first call reads all tensors; each may be read once."""
        if self._read is None:
            self._read = self._read_all()
        return np.asarray(self._read.pop(name), np.float32)

    def read_into(self, name: str, out: np.ndarray) -> None:
        """As in `Weights`. Each tensor may be read once."""
        out[...] = self.read(name)

    def _read_all(self) -> dict[str, np.ndarray]:
        wanted: dict[str, Any] = {}
        for keys in self._keys.values():
            inner = wanted
            for key in keys[:-1]:
                inner = inner.setdefault(key, {})
            inner[keys[-1]] = ocp.RestoreArgs(restore_type=np.ndarray)
        try:
            with ocp.PyTreeCheckpointer() as reader:
                restored = reader.restore(
                    self._directory.absolute(),
                    args=ocp.args.PyTreeRestore(item=wanted, restore_args=wanted, partial_restore=True),
                )
        except Exception as error:  # TensorStore raises further types.
            raise UserError(_unreadable(self._directory, error)) from None
        found = {}
        for name, keys in self._keys.items():
            value = restored
            for key in keys:
                value = value[key]
            found[name] = value
        return found


def is_checkpoint(path: pathlib.Path) -> bool:
    """Returns whether the directory is a tree saved by Orbax, or has one, or numbered ones."""
    return (path / _TREE).exists() or any((path / item / _TREE).exists() for item in _ITEMS) or bool(_steps(path))


def _tree_directory(path: pathlib.Path) -> pathlib.Path:
    if (path / _TREE).exists():
        return path
    for item in _ITEMS:
        if (path / item / _TREE).exists():
            return path / item
    newest = path / str(_steps(path)[-1])
    if (newest / "best" / _TREE).exists():
        raise UserError(f"transfer.source: '{path}' is inside a run directory; give the run directory")
    if any(newest.glob(f"*/{_TREE}")) or (newest / _TREE).exists():
        return _tree_directory(newest)
    raise UserError(f"transfer.source: '{newest}' has no tree saved by Orbax; give another source")


def _steps(folder: pathlib.Path) -> list[int]:
    return sorted(int(each.name) for each in folder.iterdir() if each.name.isdigit() and each.is_dir())


def _leaves(tree: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, (*keys, str(key)))
    elif isinstance(tree, (list, tuple)):
        for index, value in enumerate(tree):
            yield from _leaves(value, (*keys, str(index)))
    elif tree is not None and hasattr(tree, "shape"):
        yield keys, tree


def _unreadable(path: pathlib.Path, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return f"transfer.source: cannot read the checkpoint '{path}' ({reason}); give another one"
