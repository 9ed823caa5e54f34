"""How the tensors of a source become those of a model: rows of name, target and transform.

A row's name may have numbered fields, "encoder.layer.{block}.norm1.weight". Where the target has the field as well it
is filled in, "stages/{stage}/norm/scale"; where it has not, the tensors are stacked by it along a new leading axis, as
the blocks of our vision transformers are. A row of several names stacks those, in their order. A row of several targets
splits what it reads into equal parts along the first axis (after the stacked one) or another, as for a fused query, key
and value.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Shape = tuple[int, ...]
# From what was read, with the stacked axis first, and the shape of the target. Views wherever they can be.
Transform = Callable[[np.ndarray, Shape], np.ndarray]


def unchanged(values: np.ndarray, shape: Shape) -> np.ndarray:
    """As it is."""
    return values


def transpose(values: np.ndarray, shape: Shape) -> np.ndarray:
    """The last two axes swapped: a dense layer (out, in) of PyTorch."""
    return values.swapaxes(-1, -2) if values.ndim >= 2 else values


def reshape(values: np.ndarray, shape: Shape) -> np.ndarray:
    """The same numbers in the target's shape, such as (heads, units) as one axis."""
    return values.reshape(shape) if values.size == np.prod(shape, dtype=np.int64) else values


def convolution(values: np.ndarray, shape: Shape) -> np.ndarray:
    """A kernel (out, in, height, width) as (height, width, in, out)."""
    return values.transpose(2, 3, 1, 0) if values.ndim == 4 else values


def patches(values: np.ndarray, shape: Shape) -> np.ndarray:
    """A kernel (out, in, height, width) as a dense layer on flattened patches (height * width * in, out)."""
    return convolution(values, shape).reshape(-1, values.shape[0]) if values.ndim == 4 else values


def average_heads(values: np.ndarray, shape: Shape) -> np.ndarray:
    """The heads (heads, out, in) of several tokens, whose logits are average_heads, as one on the tokens side by side.

    Biases (heads, out) likewise.
    """
    if values.ndim == 2:
        return values.mean(axis=0)
    joined = values.transpose(0, 2, 1).reshape(-1, values.shape[1])
    return joined / np.float32(len(values))


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a mapping; see the top of this module.

    Attributes:
      name: of the tensor in the source, or several; "{field}" stands for a number.
      target: path of the parameter in the model, or several.
      transform: one of the functions above, or another.
      axis: that several targets are parts along, counted after the stacked one.
    """

    name: str | tuple[str, ...]
    target: str | tuple[str, ...]
    transform: Transform = unchanged
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
      source: what the weights are, for messages and the report.
      rows: the rows; no tensor may match two.
      prefix: what the names of the source may begin with, which is left out.
      unused: regular expressions over whole names (without prefix) of what no model here needs.
      tied: likewise, of copies of other tensors.
      resize: how position embeddings are brought to another grid of patches, a key of `positions.METHODS`; "": they are
        not of patches.
      square: whether the source's grid is known to be square, even where it has as many patches as the model's.
      facts: attributes of the model, dotted, that no shape tells, with the config field and the value they must have.
      head_facts: likewise, of what matters to the head alone.
      new_head_facts: likewise, of what a head would read that the source has none of.
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
    """The fields of a row's name."""
    return re.findall(r"\{(\w+)\}", name)


@functools.cache
def pattern(name: str) -> re.Pattern[str]:
    """What finds the tensors that a row's name stands for; its groups are the fields."""
    parts = re.split(r"\{(\w+)\}", name)
    return re.compile("".join(rf"(?P<{part}>\d+)" if i % 2 else re.escape(part) for i, part in enumerate(parts)))
