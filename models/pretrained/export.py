"""Export of parameters in the names and layout of another library: the inverse of a mapping.

A row is inverted by applying it to an array of indices, which shows where each value comes from. Rows that do more than
move values (averaged heads) cannot be inverted. The written files are read again and must give the same parameters to
the bit.
"""

import dataclasses
import json
import math
import os
import pathlib
import re
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from models.interface import Model
from models.pretrained import engine, families, plumbline_runs, positions
from models.pretrained.engine import Group, Target
from models.pretrained.mapping import Row, Rows, fields
from models.pretrained.npz_files import NpzWeights
from models.pretrained.report import Unused
from models.pretrained.safetensors_files import NAME
from models.pretrained.weights import FLOATS, Weights, open_weights
from plumbline import UserError
from plumbline.files import replace_atomically

_ARCHIVE = "weights.npz"
_TOKENIZER = "tokenizer.json"
# Files that are copied unchanged, if the source has them.
_BESIDE = (
    _TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """The content of the files next to the weights.

    Attributes:
      class_names: names in output order; () for a regression; None if outputs are tokens, or without a head.
      tokenizer: content of tokenizer.json; "" unless inputs are texts.
      image_size: height and width in pixels; () unless inputs are images.
      mean: mean of each channel, for values in 0 to 1; () unless inputs are images.
      std: deviation of each channel, likewise.
    """

    class_names: tuple[str, ...] | None
    image_size: tuple[int, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    tokenizer: str = ""


def export(like: str, model: Model, arrays: Mapping[str, np.ndarray], about: About, output: str | os.PathLike) -> str:
    """Writes the parameters of a model in the format of `like`, in float32.

    Args:
      like: weights of the same architecture, as in `config.transfer.source`. Their config.json is adapted and their
        tokenizer copied.
      model: model with arrays or shapes.
      arrays: parameters and batch statistics, float32, by path.
      about: labels, images and tokenizer.
      output: the new folder.

    Returns:
      A description of the written weights, and of parts of the model that were left out.

    Raises:
      UserError: `like` is not supported, or its layout does not fit the model; then nothing is written.
    """
    weights = open_weights(like)
    family = families.recognise(weights)
    if family is plumbline_runs.FAMILY:
        raise UserError(
            f"transfer.source: '{weights.where}' has the layout of Plumbline; name weights of the library in "
            "whose layout to write"
        )
    rows = family.mapping(weights, model)
    targets = engine.find_targets(model)
    groups, unused = engine.resolve(rows, weights)
    new_head = _find_new_head(rows, groups, targets)
    # If the head of the library has another input, only the trunk is written.
    others = engine.find_contradictions(rows.new_head_facts, model) if new_head else []
    reads = " and ".join(f"{field}={value!r}, not {actual!r}" for field, value, actual in others)
    left_out = f", without the head: the head of this layout has {reads}" if others else ""
    if left_out:
        about = dataclasses.replace(about, class_names=None)
        new_head, arrays = {}, {path: array for path, array in arrays.items() if not engine.is_head(path)}
    tensors = _tensors(rows, weights, model, arrays, targets, groups, unused, new_head)
    with replace_atomically(output) as folder:
        folder.mkdir()
        _write(folder, tensors, weights, about)
        _check(folder, model, arrays)
    return rows.source + left_out


def _tensors(
    rows: Rows,
    weights: Weights,
    model: Model,
    arrays: Mapping[str, np.ndarray],
    targets: Mapping[str, Target],
    groups: list[Group],
    unused: list[Unused],
    new_head: Mapping[str, Row],
) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    for group in groups:
        unknown = [path for path in group.targets if path not in targets]
        if unknown:
            raise UserError(f"transfer.source: '{weights.where}' has {unknown[0]}, which the model does not have")
        tensors |= _invert_group(group, rows, weights, model, arrays, targets)
    given = {path for group in groups for path in group.targets}
    for path, array in arrays.items():
        # A zero bias of the head may be left out.
        if path not in given and path not in new_head and (not engine.is_head(path) or array.any()):
            raise UserError(
                f"transfer.source: '{weights.where}' has no tensor for {path} of the model; freeze it in training, "
                "for example '^head/bias', or name other weights"
            )
    # Tensors that no model here needs may be required by the library.
    tensors |= {each.name: _read(weights, each.name) for each in unused if _is_kept(rows, weights, each.name)}
    is_archive = isinstance(weights, NpzWeights)
    if new_head and not is_archive:
        # The names of a trunk have no prefix, unless there is a head.
        tensors = {name if name.startswith(rows.prefix) else rows.prefix + name: each for name, each in tensors.items()}
    for path, row in new_head.items():
        name = rows.prefix + row.names[0] if is_archive else row.names[0]
        tensors |= _invert_row(
            Group(row, (path,), (name,)), _source_shape(row, targets[path].shape), arrays, targets, weights
        )
    return tensors


def _find_new_head(rows: Rows, groups: list[Group], targets: Mapping[str, Target]) -> dict[str, Row]:
    """Returns the rows of the head by target, if the source has no head."""
    given = {path for group in groups for path in group.targets}
    plain = [row for row in rows.rows if len(row.names) == len(row.targets) == 1 and not fields(row.names[0])]
    found = {row.targets[0]: row for row in plain if engine.is_head(row.targets[0])}
    return {path: row for path, row in found.items() if path in targets and path not in given}


def _invert_group(
    group: Group,
    rows: Rows,
    weights: Weights,
    model: Model,
    arrays: Mapping[str, np.ndarray],
    targets: Mapping[str, Target],
) -> dict[str, np.ndarray]:
    """Returns the tensors that a group would be read from."""
    name, path = group.names[0], group.targets[0]
    shape = weights.tensors[name].shape
    if path == engine.POSITIONS and rows.resize and len(shape) >= 2:
        return {name: _invert_positions(arrays[path], shape, rows, weights, model)}
    if engine.is_head(path) and not group.row.stacked:
        shape = _source_shape(group.row, targets[path].shape)
    return _invert_row(group, shape, arrays, targets, weights)


def _invert_row(
    group: Group,
    shape: tuple[int, ...],
    arrays: Mapping[str, np.ndarray],
    targets: Mapping[str, Target],
    weights: Weights,
) -> dict[str, np.ndarray]:
    """Returns each tensor of a group in this shape, with every value at its place in the source."""
    stacked = group.row.stacked
    whole = (len(group.names), *shape) if stacked else shape
    places = np.arange(math.prod(whole), dtype=np.int64).reshape(whole)
    values = np.empty(places.size, np.float32)
    count = len(group.targets)
    axis = group.row.axis + int(stacked)
    parts = np.split(places, count, axis=axis) if count > 1 else [places]
    for path, part in zip(group.targets, parts, strict=True):
        wanted = targets[path].shape
        moved = group.row.transform(part, wanted)
        if moved.dtype != places.dtype:
            raise UserError(
                f"transfer.source: '{group.label}' of '{weights.where}' are averaged to {path}, which cannot be "
                "inverted; name weights with a single head"
            )
        if moved.shape != wanted:
            raise UserError(
                f"transfer.source: '{group.label}' of '{weights.where}' has the shape {shape}, but {path} has "
                f"the shape {wanted}; name weights of the same sizes"
            )
        values[moved.reshape(-1)] = arrays[path].reshape(-1)
    values = values.reshape(whole)
    return dict(zip(group.names, values, strict=True)) if stacked else {group.names[0]: values}


def _invert_positions(
    table: np.ndarray, shape: tuple[int, ...], rows: Rows, weights: Weights, model: Model
) -> np.ndarray:
    """Returns position embeddings (tokens, width) of the model's size, with the number of axes of the source."""
    prefix, old = model.num_prefix_tokens, math.prod(shape[:-1])
    height, width = model.grid
    if rows.square and height != width:
        raise UserError(
            f"transfer.source: in the layout of '{weights.where}' patches form a square, but the model has "
            f"{height}x{width}; train on square images"
        )
    _, grid = positions.fit(np.zeros((old, 1), np.float32), model.grid, prefix, rows.resize, square=rows.square)
    if old - math.prod(grid) < prefix:
        if table[:prefix].any():
            raise UserError(
                f"transfer.source: in the layout of '{weights.where}' the class token has no position, but that of "
                "the model is trained; name weights with one, or freeze '^positions'"
            )
        table = table[prefix:]
    return table.reshape(*[1] * (len(shape) - 2), *table.shape)


def _source_shape(row: Row, wanted: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape that a row transforms to that of its target; for dense layers that are not split."""
    for shape in (wanted, wanted[::-1]):
        if row.transform(np.empty(shape, np.float32), wanted).shape == wanted:
            return shape
    return wanted


def _is_kept(rows: Rows, weights: Weights, name: str) -> bool:
    if any(re.fullmatch(each, name.removeprefix(rows.prefix)) for each in rows.tied):
        return False
    # In archives these include the state of the optimizer.
    known = (*FLOATS, "int64", "int32", "bool")
    return weights.tensors[name].dtype in known and not isinstance(weights, NpzWeights)


def _read(weights: Weights, name: str) -> np.ndarray:
    tensor = weights.tensors[name]
    if tensor.dtype in FLOATS:
        return weights.read(name)
    values = np.empty(tensor.shape, tensor.dtype)
    weights.read_into(name, values)
    return values


def _write(folder: pathlib.Path, tensors: Mapping[str, np.ndarray], weights: Weights, about: About) -> None:
    if isinstance(weights, NpzWeights):
        np.savez(folder / _ARCHIVE, **tensors)
        return
    # Safetensors needs contiguous arrays; transformers needs the name of the format.
    ordered = {name: np.asarray(each, order="C") for name, each in tensors.items()}
    safetensors.numpy.save_file(ordered, folder / NAME, metadata={"format": "pt"})
    if weights.config:
        adapted = _transformers_config if "model_type" in weights.config else _timm_config
        _write_json(folder / "config.json", adapted(weights.config, about))
    if weights.preprocessor:
        _write_json(folder / "preprocessor_config.json", _preprocessor_config(weights.preprocessor, about))
    beside = pathlib.Path(weights.where).parent
    own = about.tokenizer
    # The tokenizer files of the source are copied only if the run uses the same tokenizer.
    if not own or _has_content(own, beside / _TOKENIZER):
        for name in _BESIDE:
            if (beside / name).is_file():
                shutil.copy(beside / name, folder / name)
    else:
        (folder / _TOKENIZER).write_text(own, encoding="utf-8")


def _has_content(content: str, file: pathlib.Path) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8") == content


def _check(folder: pathlib.Path, model: Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Reads the written files and compares all arrays, and facts that shapes do not show."""
    weights = open_weights(str(folder))
    try:
        start, report = engine.fit(families.recognise(weights).mapping(weights, model), weights, model, ())
    except UserError as error:
        raise UserError(str(error).replace(str(folder), folder.name)) from None
    targets, fresh = engine.find_targets(model), {each.path for each in report.fresh}
    for path, array in arrays.items():
        if path in fresh and not array.any():
            continue
        found = start[targets[path].kind]
        for key in targets[path].keys:
            found = found.get(key) if isinstance(found, dict) else None
        if found is None or not np.array_equal(found, array):
            raise UserError(f"transfer.source: {path} cannot be written in the layout of {report.kind}; name others")


def _transformers_config(config: Mapping[str, Any], about: About) -> dict[str, Any]:
    adapted = dict(config)
    if about.class_names is not None:
        names = about.class_names or ("LABEL_0",)
        adapted.pop("num_labels", None)
        # The class of a trunk, such as "ViTModel", does not apply to a model with a head.
        if any(each.endswith("Model") for each in adapted.get("architectures") or ()):
            del adapted["architectures"]
        adapted |= {"id2label": {str(number): name for number, name in enumerate(names)}}
        adapted |= {"label2id": {name: number for number, name in enumerate(names)}}
        if not about.class_names:
            adapted["problem_type"] = "regression"
    adapted |= {name: "float32" for name in ("dtype", "torch_dtype") if name in config}
    if "image_size" in config and about.image_size:
        height, width = about.image_size
        adapted["image_size"] = height if height == width else [height, width]
    return adapted


def _preprocessor_config(config: Mapping[str, Any], about: About) -> dict[str, Any]:
    if not about.image_size:
        return dict(config)
    height, width = about.image_size

    def resize(size: Any) -> Any:
        whole = {"height": height, "width": width}
        return {"shortest_edge": min(height, width)} if isinstance(size, dict) and "shortest_edge" in size else whole

    sizes = {name: resize(config[name]) for name in ("size", "crop_size") if name in config}
    scaled = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
    return {**config, **sizes, **scaled, "image_mean": list(about.mean), "image_std": list(about.std)}


def _timm_config(config: Mapping[str, Any], about: About) -> dict[str, Any]:
    number = len(about.class_names or ()) or 1
    adapted = {**config, "num_classes": number, "pretrained_cfg": dict(config.get("pretrained_cfg") or {})}
    if about.class_names:
        adapted["label_names"] = list(about.class_names)
    adapted["pretrained_cfg"] |= {"num_classes": number}
    if about.image_size:
        height, width = about.image_size
        size = {"input_size": [len(about.mean), height, width], "mean": list(about.mean), "std": list(about.std)}
        adapted["pretrained_cfg"] |= size
        if "img_size" in (config.get("model_args") or {}):
            adapted["model_args"] = {**config["model_args"], "img_size": height if height == width else [height, width]}
    return adapted


def _write_json(path: pathlib.Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
