"""Transfer: the model and the first parameters of a training, taken from a source that was trained before."""

import dataclasses
import functools
import io
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np
import rich.console
from flax import nnx

import models
from configs.fields import Pretrained
from data import Features
from data.tokenizer import Tokenizer
from models import lora, pretrained
from models.interface import Model
from models.pretrained.weights import ArrayWeights, find_tokenizer
from plumbline import UserError
from plumbline.files import expand_home
from trainers import settings
from trainers.devices.mesh import data_mesh
from trainers.processes import coordination
from trainers.run import inference
from trainers.run.directory import RunDirectory
from trainers.step.keys import make_key
from trainers.step.optimizers import paths_and_leaves
from trainers.step.state import Program, Start

PRETRAINED = "pretrained"
"""The `model.name` that stands for the model of `transfer.source`."""

_FIELD = "transfer.source"
_SET_BY_SOURCE = {path: field.pretrained for path, field in settings.FIELDS.items() if field.pretrained}


def resolve(config: ml_collections.ConfigDict, directory: RunDirectory | None = None) -> ml_collections.ConfigDict:
    """Returns the config with the model of its source, if `model.name` is "pretrained".

    Args:
      config: the whole config.
      directory: of the run. A run that is resumed takes the model from there and does not need the source.

    Raises:
      UserError: there is no source, or its format is unknown.
    """
    if config.model.name != PRETRAINED:
        return config
    if not config.transfer.source:
        raise UserError(f"model.name: '{PRETRAINED}' is the model of {_FIELD}, which is not given; give it, or a model")
    begun = directory.config() if directory is not None and directory.has_checkpoint() else None
    if begun is not None and begun.transfer.source == config.transfer.source:
        own = begun.model[begun.model.name].to_dict()
        fields = {"model.name": begun.model.name} | {f"model.{begun.model.name}.{n}": v for n, v in own.items()}
        fields |= {field: begun.data[field.partition(".")[2]] for field in _SET_BY_SOURCE if field.startswith("data.")}
    else:
        fields = _architecture(config.transfer.source)
        values = settings.fields(config)
        fields = {path: value for path, value in fields.items() if not _is_kept(path, values)}
    return settings.override(config, fields)


def load_start(config: ml_collections.ConfigDict, program: Program) -> tuple[Start, str]:
    """Loads the arrays that a new training begins with in place of fresh values; prints a line to standard error.

    Args:
      config: the `transfer` section.
      program: of the training.

    Returns:
      The arrays in the form of the model, empty without a source; and a table of their origins.

    Raises:
      UserError: there is no such source, or it does not fit the model.
    """
    if not config.source:
        return {}, ""
    if is_run(config.source):
        _check_tokens(config.source, program.features)
    source = _run_weights(config.source, program.features) if is_run(config.source) else config.source
    model = program.model(program.params, program.model_state)
    # Adapters start fresh: those of a source are merged into its kernels.
    adapters = (rf"/({'|'.join(lora.NAMES)})$",) if config.lora.patterns else ()
    start, report = pretrained.load(source, model, allow=(*config.allow, *adapters))
    if coordination.process_index() == 0:
        print(f"{_FIELD}: {report.summary()}", file=sys.stderr, flush=True)
    table = io.StringIO()
    rich.console.Console(file=table, width=160).print(report.table())
    return start, table.getvalue()


def _architecture(source: str) -> dict[str, object]:
    if not is_run(source):
        return pretrained.architecture(source)
    tokenizer = find_tokenizer(pathlib.Path(expand_home(source)))
    return pretrained.architecture(ArrayWeights(source, RunDirectory(source).config().to_dict(), {}, tokenizer))


def is_run(source: str) -> bool:
    """Whether a source is a run directory."""
    path = pathlib.Path(expand_home(source))
    return (path / "config.json").exists() and (path / "checkpoints").is_dir()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MergedRun:
    """The result of a run, as parameters of a model without adapters.

    Attributes:
      config: of the run.
      features: what an example is.
      model: with shapes in place of arrays.
      arrays: by path, on the host: the parameters that were best on the validation split, with adapters merged, and
        the statistics of norms.
      preprocessing: arrays fitted on the training rows.
      step: of the parameters.
    """

    config: ml_collections.ConfigDict
    features: Features
    model: Model
    arrays: dict[str, np.ndarray]
    preprocessing: dict[str, np.ndarray]
    step: int


def read_run(workdir: str | os.PathLike) -> MergedRun:
    """Reads the result of a run.

    Raises:
      UserError: there is no run, or no valid checkpoint.
    """
    directory = RunDirectory(workdir)
    restored = inference.restore(directory, data_mesh(jax.local_devices()[:1]), "best")
    config, features = directory.config(), directory.features()
    adapters = config.transfer.lora
    trees = lora.merge(restored.state.params, adapters.alpha / adapters.rank), restored.state.model_state
    build = functools.partial(
        models.build,
        config.model,
        input_shape=features.input_shape,
        categories=features.categories,
        num_outputs=features.num_outputs,
    )
    return MergedRun(
        config=config,
        features=features,
        model=nnx.eval_shape(lambda: build(key=make_key(0))),
        arrays={path: np.asarray(leaf) for tree in trees for path, leaf in paths_and_leaves(tree)},
        preprocessing=jax.tree.map(np.asarray, restored.state.preprocessing),
        step=restored.step,
    )


def _run_weights(source: str, features: Features) -> ArrayWeights:
    try:
        run = read_run(source)
    except UserError as error:
        raise UserError(f"{_FIELD}: {str(error).removeprefix('--workdir: ')}") from None
    arrays = run.arrays
    # A head for another task starts fresh, like a head of another shape.
    if _answers(run.features) != _answers(features):
        arrays = {path: array for path, array in arrays.items() if not pretrained.is_head(path)}
    return ArrayWeights(f"{source}, step {run.step}", run.config.to_dict(), arrays)


def _answers(features: Features) -> tuple[str, object]:
    """The meaning of the outputs of a model."""
    return features.task, features.class_names or features.target


def _check_tokens(source: str, features: Features) -> None:
    """Checks that the token embedding of a run belongs to the tokenizer of the data."""
    there = RunDirectory(source).features().tokenizer
    if "" in (there, features.tokenizer) or there == features.tokenizer:
        return
    if Tokenizer(features.tokenizer).contradicts(Tokenizer(there)):
        raise UserError(
            f"data.tokenizer: has other tokens than '{source}' was trained on; leave it empty for those, or name "
            f"'{source}'"
        )


def _is_kept(path: str, values: Mapping[str, Any]) -> bool:
    """Whether the value of a field in the config takes precedence over that of the source."""
    return _SET_BY_SOURCE.get(path) is Pretrained.IF_UNSET and bool(values[path])
