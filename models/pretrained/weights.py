"""Named tensors in files, read as float32 on demand."""

import abc
import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from plumbline import UserError
from plumbline.files import expand_home

# Types that can be read, as float32.
FLOATS = ("float32", "float16", "bfloat16", "float64")

# Formats that can run code when read.
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Shape and type of a tensor in a file. Types have NumPy names, or "bfloat16"."""

    shape: tuple[int, ...]
    dtype: str


class Weights(abc.ABC):
    """Abstract base class of named tensors in files, which are read one at a time.

    Attributes:
      where: the source, for messages.
      tensors: shapes and types by name.
      config: content of `config.json` next to the weights; empty without one.
      preprocessor: content of `preprocessor_config.json` next to the weights; empty without one.
      sentence_pooling: content of `1_Pooling/config.json` of a sentence encoder; empty without one.
      tokenizer: path of `tokenizer.json` next to the weights; "" without one.
    """

    where: str
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any]
    sentence_pooling: Mapping[str, Any] = {}
    tokenizer: str = ""

    @abc.abstractmethod
    def read_into(self, name: str, out: np.ndarray) -> None:
        """Reads a tensor of a type in `FLOATS` into a float32 array of its shape. Thread-safe."""

    def read(self, name: str) -> np.ndarray:
        """Reads a tensor of a type in `FLOATS` as a new float32 array."""
        out = np.empty(self.tensors[name].shape, np.float32)
        self.read_into(name, out)
        return out


class ArrayWeights(Weights):
    """Tensors in memory."""

    def __init__(self, where: str, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], tokenizer: str = ""):
        """Takes float arrays by name."""
        self.tokenizer = tokenizer
        self.where, self.config, self.preprocessor, self._arrays = where, config, {}, arrays
        self.tensors = {name: Tensor(array.shape, array.dtype.name) for name, array in arrays.items()}

    def read_into(self, name: str, out: np.ndarray) -> None:
        """As in `Weights`."""
        out[...] = self._arrays[name]


def open_weights(source: str) -> Weights:
    """Opens `config.transfer.source` without reading tensors.

    Raises:
      UserError: it is missing, damaged, pickled, or has no weights.
    """
    # Imported here because Orbax is slow to import.
    from models.pretrained import hub, npz_files, orbax_checkpoints, packages, safetensors_files

    if source.startswith(hub.PREFIX):
        path = hub.download(source)
    elif source.startswith(packages.PREFIX):
        path = packages.find_path(source)
    else:
        path = pathlib.Path(expand_home(source))
    if not path.exists():
        raise UserError(
            f"transfer.source: no such file or directory '{source}'; give a run directory, an Orbax checkpoint, a "
            "directory with config.json and model.safetensors, a .safetensors or .npz file, hf:ORG/NAME, or "
            "package:NAME/PATH"
        )
    if path.suffix in PICKLED and path.is_file():
        raise UserError(describe_pickle(path))
    if path.is_dir():
        if orbax_checkpoints.is_checkpoint(path):
            return orbax_checkpoints.OrbaxWeights(path)
        files = sorted(each for each in path.iterdir() if each.suffix in (".safetensors", ".npz"))
        index = path / safetensors_files.INDEX
        if index.exists():
            return safetensors_files.SafetensorsWeights(index)
        plain = path / safetensors_files.NAME
        if plain in files:
            return safetensors_files.SafetensorsWeights(plain)
        if len(files) != 1:
            raise UserError(_no_weights(path, files))
        path = files[0]
    if path.suffix == ".safetensors" or path.name.endswith(".safetensors.index.json"):
        return safetensors_files.SafetensorsWeights(path)
    if path.suffix == ".npz":
        return npz_files.NpzWeights(path)
    raise UserError(
        f"transfer.source: '{path}' is of an unknown type; give a .safetensors or .npz file, or its directory"
    )


def find_tokenizer(directory: pathlib.Path) -> str:
    """Returns the path of the tokenizer.json in a directory; "" without one."""
    path = directory / "tokenizer.json"
    return str(path) if path.is_file() else ""


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Reads a JSON object; empty if there is no such file.

    Raises:
      UserError: the file has other content.
    """
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"transfer.source: cannot read '{path}': {error}; get it again") from None
    if not isinstance(value, dict):
        raise UserError(f"transfer.source: '{path}' has no JSON object; get it again")
    return value


def describe_pickle(path: pathlib.Path) -> str:
    """Returns the message about a pickled file."""
    return (
        f"transfer.source: '{path}' is a pickle, which can run code when it is read; convert it where PyTorch is "
        "installed, `safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'model.safetensors')`, and give "
        "that file"
    )


def _no_weights(path: pathlib.Path, files: list[pathlib.Path]) -> str:
    if files:
        names = ", ".join(each.name for each in files[:5])
        return f"transfer.source: '{path}' holds several files of weights ({names}); name one of them"
    for each in sorted(path.iterdir()):
        if each.suffix in PICKLED:
            return describe_pickle(each)
    return (
        f"transfer.source: no weights in '{path}'; expected model.safetensors (or model.safetensors.index.json and its "
        "shards), one .npz file, a run directory with checkpoints, or an Orbax checkpoint"
    )
