"""Representations of examples by pretrained models, layer by layer, without training."""

import json
import time
from collections.abc import Callable

import jax
import ml_collections
import numpy as np

from data import preprocessing
from data.pool import Pool
from plumbline import UserError
from trainers.building import build_training
from trainers.run import transfer
from trainers.run.evaluation import evaluation_batch_size
from trainers.settings import override
from trainers.step.state import Program, Tree

Layers = dict[str, np.ndarray]
"""From the name of a layer, from the inputs on, to its representations (n, d) float32."""

# Images are averaged down to at most this many pixels a side before they are compared pixel by pixel.
_RAW_SIDE = 32


class Encoder:
    """A model with its parameters, from a source or fresh, ready to represent the examples of a pool.

    Attributes:
      architecture: name and fields of the model and the form of its inputs, as JSON: alike where two can be compared.
      model_name: such as "vit".
    """

    def __init__(self, config: ml_collections.ConfigDict, pool: Pool, *, fresh: bool = False):
        """Makes the model and reads its parameters.

        Args:
          config: of `source_config`.
          pool: loaded for that config.
          fresh: initial parameters, drawn by `config.seed`, in place of those of the source.

        Raises:
          UserError: the source does not fit the model, or the model not the data.
        """
        self._fitted = preprocessing_of(pool, config)
        training = build_training(config, pool.features, self._fitted)
        self._program = training.program
        self._pool, self._batch_size = pool, evaluation_batch_size(config)
        start = {} if fresh else transfer.load_start(config.transfer, self._program)[0]
        seed, values, _ = training.init_arguments

        # Jitted as a whole, so that the optimizer's state is never made.
        @jax.jit
        def variables(seed: jax.Array, fitted: Tree, start: Tree) -> tuple[Tree, Tree]:
            state = training.init(seed, values, fitted, start)
            return state.params, state.model_state

        self._variables = variables(seed, self._fitted, start)
        model = config.model
        self.model_name = model.name
        inputs = [pool.features.kind, pool.features.input_shape, pool.features.categories]
        inputs += [getattr(pool.features, "tokenizer", ""), config.data.normalize]
        self.architecture = json.dumps([model.name, model[model.name].to_dict(), model.dtype, inputs], default=list)

    def layers(self, positions: np.ndarray, show: Callable[[int], None] = lambda done: None) -> Layers:
        """Computes the representations of the examples at `positions` (n,) of the pool.

        Args:
          positions: of the examples.
          show: is called with the number of examples done.

        Raises:
          UserError: a representation is not finite.
        """
        extract, names = _make_extract(self._program)
        parts, size = [], min(self._batch_size, len(positions))
        for start in range(0, len(positions), size):
            inputs = self._pool.inputs[positions[start : start + size]]
            # The last batch is padded, so that one program serves all.
            filled = np.concatenate([inputs, np.repeat(inputs[-1:], size - len(inputs), axis=0)])
            found = extract(*self._variables, self._fitted, filled)
            parts.append([np.asarray(values)[: len(inputs)] for values in found])
            show(start + len(inputs))
        layers = {name: np.concatenate(values) for name, values in zip(names, zip(*parts, strict=True), strict=True)}
        for name, values in layers.items():
            if not np.isfinite(values).all():
                raise UserError(f"its layer '{name}' gives values that are not finite; it has diverged or is damaged")
        return layers


def source_config(config: ml_collections.ConfigDict, source: str) -> ml_collections.ConfigDict:
    """The config with a source, the source's own model, and nothing of how it would be fine-tuned.

    Args:
      config: the whole config.
      source: as in `transfer.source`.

    Raises:
      UserError: there is no such source, or none that is understood.
    """
    fields = {"model.name": transfer.PRETRAINED, "transfer.source": source, "objective.name": "auto"}
    fields |= {"transfer.freeze": (), "transfer.lora.patterns": (), "transfer.unfreeze": ()}
    found = transfer.resolve(override(config, fields | {"data.tokenizer": ""}))
    # Texts become the tokens that the source knows; a source that does not say leaves it to the config.
    return found if found.data.tokenizer else override(found, {"data.tokenizer": config.data.tokenizer})


def preprocessing_of(pool: Pool, config: ml_collections.ConfigDict) -> dict[str, np.ndarray]:
    """Fits the preprocessing that a training by this config would fit on its training rows."""
    return pool.fit(pool.splits["train"], config.data)


def raw_inputs(pool: Pool, positions: np.ndarray, fitted: dict[str, np.ndarray]) -> np.ndarray:
    """Returns examples (n, d) float32 as a linear model reads them.

    Images as their pixels, averaged down to 32 a side where there are more; tables as numbers and one-hot codes.

    Args:
      pool: of images or of a table.
      positions: (n,) in it.
      fitted: of `preprocessing_of`.
    """
    features, parts = pool.features, []
    for rows in np.array_split(positions, max(1, len(positions) // 1024)):
        inputs = preprocessing.apply(fitted, features, pool.inputs[rows])
        if features.kind == "image":
            height, width, channels = features.shape
            shape = (len(rows), min(height, _RAW_SIDE), min(width, _RAW_SIDE), channels)
            parts.append(np.asarray(jax.image.resize(inputs, shape, "linear")).reshape(len(rows), -1))
            continue
        inputs = np.asarray(inputs)
        numeric = inputs.shape[1] - len(features.categories)
        codes = inputs[:, numeric:].astype(np.int64)
        one_hot = [np.eye(size, dtype=np.float32)[codes[:, n]] for n, size in enumerate(features.categories)]
        parts.append(np.concatenate([inputs[:, :numeric], *one_hot], axis=1))
    return np.concatenate(parts)


def timed(total: int, show: Callable[[str], None], text: str) -> Callable[[int], None]:
    """Returns a function of the number done, which shows progress and the time left."""
    began = time.monotonic()

    def update(done: int) -> None:
        left = (total - done) * (time.monotonic() - began) / max(1, done)
        show(f"{text} {done:,}/{total:,}  {left:.0f} s left")

    return update


def _make_extract(program: Program) -> tuple[Callable[..., list[jax.Array]], list[str]]:
    """Makes the jitted function of parameters, statistics, preprocessing and raw inputs, and the list of layer names.

    The list is filled at the first call: a dict that jit returns would be sorted by name.
    """
    names: list[str] = []

    @jax.jit
    def extract(params: Tree, model_state: Tree, fitted: Tree, inputs: jax.Array) -> list[jax.Array]:
        found = program.model(params, model_state).representations(
            preprocessing.apply(fitted, program.features, inputs)
        )
        names[:] = found
        return list(found.values())

    return extract, names
