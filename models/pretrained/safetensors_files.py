"""Safetensors files: one file, or shards with an index."""

import json
import math
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors

from models.pretrained.weights import Tensor, Weights, find_tokenizer, read_json
from plumbline import UserError

NAME = "model.safetensors"
INDEX = "model.safetensors.index.json"

# Types by their names in a header. Other types (quantised ones) keep their name and are not read.
_TYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(jnp.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


class SafetensorsWeights(Weights):
    """Tensors of one file, or of several files that an index names.

    `safetensors` checks headers and sizes. Tensors are then read from the file directly into their arrays, because the
    library would copy memory-mapped pages, which count as used memory as well.
    """

    def __init__(self, path: pathlib.Path):
        """Reads the headers.

        Args:
          path: path of a `.safetensors` file, or of an index.

        Raises:
          UserError: a file is damaged or truncated, or index and shards do not match.
        """
        self.where = str(path)
        self.config = read_json(path.parent / "config.json")
        self.preprocessor = read_json(path.parent / "preprocessor_config.json")
        self.sentence_pooling = read_json(path.parent / "1_Pooling" / "config.json")
        self.tokenizer = find_tokenizer(path.parent)
        self._places: dict[str, tuple[pathlib.Path, int, str]] = {}
        tensors: dict[str, Tensor] = {}
        files = [path] if path.suffix == ".safetensors" else _shards(path)
        for file in files:
            header, start = _header(file)
            for name, about in header.items():
                if name in tensors:
                    raise UserError(f"transfer.source: '{name}' is in two shards of '{path}'; get them again")
                code = about["dtype"]
                tensors[name] = Tensor(tuple(about["shape"]), str(_TYPES.get(code, code)))
                self._places[name] = (file, start + about["data_offsets"][0], code)
        self.tensors = tensors
        if path.suffix != ".safetensors":
            _check_index(path, {name: place[0].name for name, place in self._places.items()})

    def read_into(self, name: str, out: np.ndarray) -> None:
        """As in `Weights`."""
        file, start, code = self._places[name]
        kept = _TYPES[code]
        same = kept == out.dtype and out.flags.c_contiguous
        values = out if same else np.empty(out.shape, kept)
        # A view as bytes, because buffers do not support bfloat16. Reshaped, because scalars cannot be viewed.
        target = memoryview(values.reshape(-1).view(np.uint8))
        with file.open("rb", buffering=0) as opened:
            opened.seek(start)
            read = 0
            while read < len(target):
                count = opened.readinto(target[read:])
                if not count:
                    raise UserError(f"transfer.source: '{file}' ends inside '{name}'; get it again")
                read += count
        if not same:
            out[...] = values.astype(np.float32)


def _header(file: pathlib.Path) -> tuple[dict[str, Any], int]:
    """Returns the header, and the offset of the first tensor."""
    try:
        with safetensors.safe_open(file, framework="numpy"):
            pass
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"transfer.source: '{file}' is not a whole safetensors file ({reason}); get it again") from None
    header.pop("__metadata__", None)
    for name, about in header.items():
        size, code = about["data_offsets"][1] - about["data_offsets"][0], about["dtype"]
        if code in _TYPES and size != math.prod(about["shape"]) * _TYPES[code].itemsize:
            raise UserError(f"transfer.source: '{file}' is damaged: '{name}' has the wrong size; get it again")
    return header, 8 + length


def _shards(index: pathlib.Path) -> list[pathlib.Path]:
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(each, str) for each in named.values()):
        raise UserError(f"transfer.source: '{index}' names no shards (\"weight_map\"); get it again")
    files = sorted(set(named.values()))
    for file in files:
        if pathlib.PurePath(file).name != file:
            raise UserError(f"transfer.source: '{index}' names '{file}', which is outside its directory; get it again")
        if not (index.parent / file).is_file():
            raise UserError(f"transfer.source: '{index}' names the shard '{file}', which is not there; get it too")
    prefix = index.name.removesuffix(".safetensors.index.json")
    for file in sorted(index.parent.glob(f"{prefix}-*-of-*.safetensors")):
        if file.name not in files:
            raise UserError(f"transfer.source: the shard '{file.name}' is missing from '{index}'; get the index again")
    return [index.parent / file for file in files]


def _check_index(index: pathlib.Path, found: dict[str, str]) -> None:
    named = read_json(index)["weight_map"]
    for name in sorted(named.keys() | found.keys()):
        if named.get(name) != found.get(name):
            place = f"is in '{found[name]}'" if name in found else f"is not in '{named[name]}'"
            said = f"names '{named[name]}' for it" if name in found and name in named else "says otherwise"
            raise UserError(f"transfer.source: '{name}' {place}, but '{index}' {said}; get index and shards again")
