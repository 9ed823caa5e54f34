"""Applies a mapping strictly: every tensor needs a parameter, every parameter a tensor, and all shapes must fit."""

import dataclasses
import math
import mmap
import operator
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from flax import nnx

from models import lora
from models.interface import Model
from models.pretrained import positions
from models.pretrained.mapping import Row, Rows, fields, pattern
from models.pretrained.report import Fresh, Loaded, Report, Unused
from models.pretrained.weights import FLOATS, Weights
from plumbline import UserError

Start = dict[str, Any]
"""`{"params": nested dict, "model_state": nested dict}` of the loaded arrays."""

POSITIONS = "positions"
_HEAD = "head/"
_NAMED = 3
_THREADS = min(8, os.cpu_count() or 1)
_SIZES = "set the model's fields to those of the weights, as model.name='pretrained' does"


@dataclasses.dataclass(frozen=True)
class Target:
    """The location of a parameter in the model.

    Attributes:
      kind: "params" or "model_state".
      keys: path in that tree.
      shape: shape of the parameter.
    """

    kind: str
    keys: tuple[Any, ...]
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Group:
    """Tensors, in order, that become the parameters of one row.

    Attributes:
      row: row of the mapping.
      targets: paths of the parameters.
      names: full names of the tensors.
    """

    row: Row
    targets: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def label(self) -> str:
        """The name of the group in messages."""
        return self.names[0] if len(self.names) == 1 else " + ".join(self.row.names)


def fit(rows: Rows, weights: Weights, model: Model, allow: Sequence[str]) -> tuple[Start, Report]:
    """Reads the tensors of the rows; arguments and result as in `models.pretrained.load`."""
    targets = find_targets(model)
    _check_facts(rows.facts, model)
    groups, unused = resolve(rows, weights)
    unknown_targets = [path for group in groups for path in group.targets if path not in targets]
    if unknown_targets:
        raise UserError(
            f"transfer.source: '{weights.where}' ({rows.source}) has {_list_names(unknown_targets)}, which the model "
            f"does not have; {_SIZES}"
        )
    for group in groups:
        _check_types(group, weights)
    others = _find_misfit_head(groups, weights, targets)
    unused += [Unused(name, weights.tensors[name].shape, "of another head") for group in others for name in group.names]
    groups = [group for group in groups if group not in others]
    if any(is_head(group.targets[0]) for group in groups):
        _check_facts(rows.head_facts, model)
    fresh = _find_fresh(groups, targets, allow, weights, rows, "new: its head is of another shape" if others else "new")

    start: Start = {"params": {}, "model_state": {}}
    loaded = []
    for group in groups:
        for path, values, resized in _read(group, rows, weights, model, targets):
            target = targets[path]
            _put(start[target.kind], target.keys, values)
            loaded.append(Loaded(path, target.shape, group.label, weights.tensors[group.names[0]].dtype, resized))
    return start, Report(weights.where, rows.source, tuple(loaded), tuple(fresh), tuple(unused))


def is_head(path: str) -> bool:
    """Returns whether a parameter belongs to the head, whose shape depends on the number of outputs."""
    return path.startswith(_HEAD)


def find_targets(model: Model) -> dict[str, Target]:
    """Returns all parameters and batch statistics of a model, by path."""
    found = {}
    for kind, variables in (("params", nnx.Param), ("model_state", nnx.BatchStat)):
        for keys, variable in nnx.to_flat_state(nnx.state(model, variables)):
            found["/".join(map(str, keys))] = Target(kind, tuple(keys), tuple(variable.get_value().shape))
    return found


def find_contradictions(facts: Mapping[str, tuple[str, Any]], model: Model) -> list[tuple[str, Any, Any]]:
    """Returns the facts that do not hold for a model: config field, required value, and actual value."""
    found = []
    for attribute, (field, value) in facts.items():
        try:
            actual = operator.attrgetter(attribute)(model)
        except AttributeError:
            continue  # Another type of model. Its parameters will not fit, which gives a clearer error.
        if actual != value:
            found.append((field, value, actual))
    return found


def _check_facts(facts: Mapping[str, tuple[str, Any]], model: Model) -> None:
    for field, value, actual in find_contradictions(facts, model):
        raise UserError(f"{field}: the weights were trained with {value!r}, not {actual!r}; {_SIZES}")


def resolve(rows: Rows, weights: Weights) -> tuple[list[Group], list[Unused]]:
    """Finds the row of each tensor. Groups are in the order of the rows.

    Raises:
      UserError: a tensor has no row, or a required tensor is missing.
    """
    members: dict[tuple[int, tuple[str, ...]], dict[int, str]] = {}
    unused, unknown = [], []
    for full_name, tensor in weights.tensors.items():
        name = full_name.removeprefix(rows.prefix)
        matches = [
            (number, place, match)
            for number, row in enumerate(rows.rows)
            for place, each in enumerate(row.names)
            if (match := pattern(each).fullmatch(name))
        ]
        if matches:
            number, place, match = matches[0]
            row, found = rows.rows[number], match.groupdict()
            paths = tuple(path.format(**found) for path in row.targets)
            inner = [field for field in fields(row.names[0]) if f"{{{field}}}" not in row.targets[0]]
            order = int(found[inner[0]]) if inner else place
            same = members.setdefault((number, paths), {})
            if order in same:
                raise UserError(_describe_duplicate(weights, rows, paths[0], same[order], full_name))
            same[order] = full_name
        elif any(re.fullmatch(each, name) for each in (*rows.unused, *rows.tied)):
            unused.append(Unused(full_name, tensor.shape, "not needed"))
        else:
            unknown.append(full_name)
    if unknown:
        raise UserError(
            f"transfer.source: '{weights.where}' ({rows.source}) holds {_list_names(unknown)}, which belong to no "
            "parameter here; the architecture is not the stated one, or not supported"
        )
    groups = []
    for (number, paths), numbered in sorted(members.items(), key=lambda member: member[0][0]):
        row = rows.rows[number]
        expected = len(row.names) if len(row.names) > 1 else max(numbered) + 1
        gaps = sorted(set(range(expected)) - numbered.keys())
        if row.stacked and gaps:
            raise UserError(
                f"transfer.source: '{weights.where}' ({rows.source}) lacks number {gaps[0]} of "
                f"'{' + '.join(row.names)}'; get it again"
            )
        group = Group(row, paths, tuple(numbered[order] for order in sorted(numbered)))
        for other in groups:
            if set(other.targets) & set(paths):
                raise UserError(_describe_duplicate(weights, rows, paths[0], other.label, group.label))
        groups.append(group)
    return groups, unused


def _describe_duplicate(weights: Weights, rows: Rows, path: str, first: str, second: str) -> str:
    return (
        f"transfer.source: '{weights.where}' ({rows.source}) holds {path} twice, as '{first}' and '{second}'; "
        "leave one of them out"
    )


def _check_types(group: Group, weights: Weights) -> None:
    shapes = {weights.tensors[name].shape for name in group.names}
    if len(shapes) > 1:
        raise UserError(f"transfer.source: '{weights.where}' holds '{group.label}' in several shapes; get it again")
    for name in group.names:
        dtype = weights.tensors[name].dtype
        if dtype not in FLOATS:
            raise UserError(
                f"transfer.source: '{name}' in '{weights.where}' is of type {dtype}; only {', '.join(FLOATS)} are "
                "read, so save it again in one of them"
            )


def _find_misfit_head(groups: list[Group], weights: Weights, targets: dict[str, Target]) -> list[Group]:
    """Returns the groups of the head if one of its parameters does not fit: a head is loaded as a whole."""
    head = [group for group in groups if is_head(group.targets[0])]

    def fits(group: Group) -> bool:
        shape = weights.tensors[group.names[0]].shape
        empty = np.empty((len(group.names), *shape) if group.row.stacked else shape, np.float32)
        wanted = targets[group.targets[0]].shape
        return group.row.transform(empty, wanted).shape == wanted

    return [] if all(map(fits, head)) else head


def _find_fresh(
    groups: list[Group],
    targets: dict[str, Target],
    allow: Sequence[str],
    weights: Weights,
    rows: Rows,
    why_head: str,
) -> list[Fresh]:
    """Returns the parameters that are not loaded, after checking that this is allowed."""
    patterns = [_compile(each) for each in allow]
    for each in patterns:
        if not any(each.search(path) for path in targets):
            raise UserError(f"transfer.allow: '{each.pattern}' matches no parameter; remove or correct it")
    given = {path for group in groups for path in group.targets}
    fresh, missing = [], []
    for path, target in targets.items():
        if path in given:
            continue
        if is_head(path):
            fresh.append(Fresh(path, target.shape, why_head))
        elif any(each.search(path) for each in patterns):
            is_adapter = path.rpartition("/")[2] in lora.NAMES
            fresh.append(Fresh(path, target.shape, "new: an adapter" if is_adapter else "transfer.allow"))
        else:
            missing.append(path)
    if missing:
        raise UserError(
            f"transfer.source: '{weights.where}' ({rows.source}) lacks {_list_names(missing)}; {_SIZES}, or list in "
            "transfer.allow which parameters may start from new values"
        )
    return fresh


def _read(
    group: Group, rows: Rows, weights: Weights, model: Model, targets: dict[str, Target]
) -> Iterable[tuple[str, np.ndarray, str]]:
    """Yields path, values and a note on resizing for each target of a group.

    Tensors are read in their shape in the file, directly into a stack. Other layouts are views of it.
    """
    if group.row.stacked:
        shape = (len(group.names), *weights.tensors[group.names[0]].shape)
        _check_stack(group, shape, weights, targets)
        values = _allocate(shape)
        # Allocating memory pages takes longer than copying, and is faster with several threads.
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(weights.read_into, group.names, values))
    else:
        values = weights.read(group.names[0])
    axis = group.row.axis + (1 if group.row.stacked else 0)
    count = len(group.targets)
    if values.ndim <= axis or values.shape[axis] % count:
        raise UserError(_describe_misfit(group, values.shape, group.targets[0], targets, weights))
    for path, part in zip(group.targets, np.split(values, count, axis=axis) if count > 1 else [values], strict=True):
        wanted, resized = targets[path].shape, ""
        if path == POSITIONS and rows.resize and part.ndim >= 2:
            table, grid = part.reshape(-1, part.shape[-1]), model.grid
            part, source = positions.fit(table, grid, model.num_prefix_tokens, rows.resize, square=rows.square)
            if source != grid:
                resized = f"{source[0]}x{source[1]} to {grid[0]}x{grid[1]} patches ({rows.resize})"
        part = group.row.transform(part, wanted)
        if part.shape != wanted:
            raise UserError(_describe_misfit(group, values.shape, path, targets, weights))
        yield path, part, resized


def _allocate(shape: tuple[int, ...]) -> np.ndarray:
    """Allocates a float32 array in separate memory.

    NumPy requests huge pages for large arrays, which took up to a second with fragmented memory.
    """
    count = math.prod(shape)
    memory = mmap.mmap(-1, max(4 * count, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(memory, np.float32, count).reshape(shape)


def _check_stack(group: Group, shape: tuple[int, ...], weights: Weights, targets: dict[str, Target]) -> None:
    """Checks the shape before a large array is allocated."""
    wanted = targets[group.targets[0]].shape
    if len(group.row.names) == 1 and (not wanted or wanted[0] != shape[0]):
        raise UserError(_describe_misfit(group, shape, group.targets[0], targets, weights))


def _describe_misfit(
    group: Group, shape: tuple[int, ...], path: str, targets: dict[str, Target], weights: Weights
) -> str:
    return (
        f"transfer.source: '{group.label}' of '{weights.where}' has the shape {shape}, which cannot become {path} of "
        f"the shape {targets[path].shape}; {_SIZES}"
    )


def _compile(regular_expression: str) -> re.Pattern[str]:
    try:
        return re.compile(regular_expression)
    except re.error as error:
        raise UserError(f"transfer.allow: '{regular_expression}' is not a regular expression ({error})") from None


def _put(tree: dict[Any, Any], keys: tuple[Any, ...], value: np.ndarray) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    tree[keys[-1]] = value


def _list_names(names: Sequence[str]) -> str:
    more = f" (and {len(names) - _NAMED} more)" if len(names) > _NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:_NAMED]) + more
