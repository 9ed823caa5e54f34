"""Mappings from the tensors of a source to a model: rows of name, target and transform.

A name may have numbered fields, "encoder.layer.{block}.norm1.weight". If the target has the same field, it is filled
in, "stages/{stage}/norm/scale"; otherwise the tensors are stacked along a new leading axis, like the blocks of
transformers. A row with several names stacks these tensors in order. A row with several targets splits the tensor into
equal parts along an axis, as for a fused query, key and value.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Shape = tuple[int, ...]
# From the values that were read, with the stacked axis first, and the shape of the target. Returns views if possible.
Transform = Callable[[np.ndarray, Shape], np.ndarray]


def identity(values: np.ndarray, shape: Shape) -> np.ndarray:
    """Returns the values unchanged."""
    return values


def transpose(values: np.ndarray, shape: Shape) -> np.ndarray:
    """Swaps the last two axes: for a dense layer (out, in) of PyTorch."""
    return values.swapaxes(-1, -2) if values.ndim >= 2 else values


def reshape(values: np.ndarray, shape: Shape) -> np.ndarray:
    """Reshapes to the target, for example (heads, units) to one axis."""
    return values.reshape(shape) if values.size == np.prod(shape, dtype=np.int64) else values


def transpose_kernel(values: np.ndarray, shape: Shape) -> np.ndarray:
    """Transposes a kernel (out, in, height, width) to (height, width, in, out)."""
    return values.transpose(2, 3, 1, 0) if values.ndim == 4 else values


def flatten_kernel(values: np.ndarray, shape: Shape) -> np.ndarray:
    """Converts a kernel (out, in, height, width) to a dense layer on patches (height * width * in, out)."""
    return transpose_kernel(values, shape).reshape(-1, values.shape[0]) if values.ndim == 4 else values


def average_heads(values: np.ndarray, shape: Shape) -> np.ndarray:
    """Merges heads (heads, out, in) of several tokens, whose logits are averaged, to one head on the joined tokens.

    Biases have the shape (heads, out).
    """
    if values.ndim == 2:
        return values.mean(axis=0)
    joined = values.transpose(0, 2, 1).reshape(-1, values.shape[1])
    return joined / np.float32(len(values))


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a mapping; see the top of this module.

    Attributes:
      name: name of the tensor in the source, or several names; "{field}" matches a number.
      target: path of the parameter in the model, or several paths.
      transform: converts the values, for example a function above.
      axis: axis along which several targets are split, without counting the stacked axis.
    """

    name: str | tuple[str, ...]
    target: str | tuple[str, ...]
    transform: Transform = identity
    axis: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names as a tuple."""
        return (self.name,) if isinstance(self.name, str) else self.name

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets as a tuple."""
        return (self.target,) if isinstance(self.target, str) else self.target

    @property
    def stacked(self) -> bool:
        """Whether several tensors are stacked."""
        return len(self.names) > 1 or any(f"{{{field}}}" not in self.targets[0] for field in fields(self.names[0]))


@dataclasses.dataclass(frozen=True)
class Rows:
    """All rows of an architecture.

    Attributes:
      source: type of the weights, for messages and the report.
      rows: the rows; no tensor may match two of them.
      prefix: optional prefix of the names of the source.
      unused: regular expressions over whole names (without prefix) of tensors that no model here needs.
      tied: regular expressions of copies of other tensors.
      resize: how position embeddings are resized to another grid of patches, a key of `positions.METHODS`; "" if
        positions are not those of patches.
      square: whether the grid of the source is square, even if it has as many patches as that of the model.
      facts: dotted attributes of the model that shapes do not show, with the config field and the required value.
      head_facts: facts that matter for the head only.
      new_head_facts: facts about the input of a head, for sources without a head.
    """

    source: str
    rows: tuple[Row, ...]
    prefix: str = ""
    unused: tuple[str, ...] = ()
    tied: tuple[str, ...] = ()
    resize: str = "bicubic"
    square: bool = True
    facts: Mapping[str, tuple[str, Any]] = dataclasses.field(default_factory=dict)
    head_facts: Mapping[str, tuple[str, Any]] = dataclasses.field(default_factory=dict)
    new_head_facts: Mapping[str, tuple[str, Any]] = dataclasses.field(default_factory=dict)


def fields(name: str) -> list[str]:
    """Returns the fields in a name."""
    return re.findall(r"\{(\w+)\}", name)


@functools.cache
def pattern(name: str) -> re.Pattern[str]:
    """Returns a regular expression for a name; its groups are the fields."""
    parts = re.split(r"\{(\w+)\}", name)
    return re.compile("".join(rf"(?P<{part}>\d+)" if i % 2 else re.escape(part) for i, part in enumerate(parts)))
