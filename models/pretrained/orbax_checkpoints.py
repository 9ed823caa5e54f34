"""Plain Orbax checkpoints of a tree of parameters; those of our own runs are read by `trainers`."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from models.pretrained.weights import Tensor, Weights, find_tokenizer, read_json
from plumbline import UserError

# The file that tells a tree that Orbax has saved.
_TREE = "_METADATA"
# Below these, in a tree or a train state, lie what gradients change and what they do not.
PARAMS, MODEL_STATE = "params", "model_state"
# What a tree may be called in a checkpoint of several.
_ITEMS = ("state", "default", PARAMS)


class OrbaxWeights(Weights):
    """Parameters and statistics of one checkpoint, by their paths; of a train state nothing else."""

    def __init__(self, path: pathlib.Path):
        """Reads the names.

        Args:
          path: for which `is_checkpoint` holds.

        Raises:
          UserError: the checkpoint cannot be read.
        """
        self.where, self.config, self.preprocessor = str(path), read_json(path / "config.json"), {}
        self.tokenizer = find_tokenizer(path)
        self._directory = _tree_directory(path)
        try:
            # Not through a checkpointer, which logs what is wrong and goes on.
            tree = ocp.PyTreeCheckpointHandler().metadata(self._directory.absolute()).tree
        except Exception as error:  # Orbax and the file system each raise their own.
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
        """As in `Weights`; the first call reads all, each may be read once."""
        if self._read is None:
            self._read = self._read_all()
        return np.asarray(self._read.pop(name), np.float32)

    def read_into(self, name: str, out: np.ndarray) -> None:
        """As in `Weights`; likewise."""
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
        except Exception as error:  # TensorStore raises its own as well.
            raise UserError(_unreadable(self._directory, error)) from None
        found = {}
        for name, keys in self._keys.items():
            value = restored
            for key in keys:
                value = value[key]
            found[name] = value
        return found


def is_checkpoint(path: pathlib.Path) -> bool:
    """Whether the directory is a tree that Orbax has saved, holds one, or numbered ones."""
    return (path / _TREE).exists() or any((path / item / _TREE).exists() for item in _ITEMS) or bool(_steps(path))


def _tree_directory(path: pathlib.Path) -> pathlib.Path:
    if (path / _TREE).exists():
        return path
    for item in _ITEMS:
        if (path / item / _TREE).exists():
            return path / item
    newest = path / str(_steps(path)[-1])
    if (newest / "best" / _TREE).exists():
        raise UserError(f"transfer.source: '{path}' lies in a run; give the run directory")
    if any(newest.glob(f"*/{_TREE}")) or (newest / _TREE).exists():
        return _tree_directory(newest)
    raise UserError(f"transfer.source: '{newest}' holds no tree that Orbax has saved; give another source")


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
