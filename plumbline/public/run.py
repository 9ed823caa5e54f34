"""A run opened from Python: its config, its figures, and its model as a pure function."""

import functools
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pandas

from data import Features, Split
from data.prediction import read_frame, read_inputs
from data.split import ArrayReader
from plumbline import UserError, unknown_name
from plumbline.public.wording import names_arguments
from trainers.run.directory import RunDirectory
from trainers.run.evaluation import evaluation_batch_size
from trainers.run.inference import CHECKPOINTS, FinishedRun
from trainers.step.state import InferenceState
from trainers.step.train_step import make_outputs

Examples = np.ndarray | jax.Array | pandas.DataFrame | str | os.PathLike | Sequence[str | os.PathLike]
"""Raw inputs as an array (n, ...), rows of a table, or one or several paths."""


def open_run(workdir: str | os.PathLike, *, checkpoint: str = "best") -> "Run":
    """Opens a run directory; the run may still be training.

    Args:
      workdir: the run directory.
      checkpoint: which parameters: "best" on the validation split, or "last".

    Raises:
      UserError: there is no run, or `checkpoint` is another name.
    """
    return Run(workdir, checkpoint=checkpoint)


class Run:
    """A run directory. Figures are read at every access; parameters are read once, when first needed.

    Attributes:
      path: the run directory.
      config: the whole config, locked.
      features: what an example is: its kind, shape, classes and columns.
    """

    @names_arguments
    def __init__(self, workdir: str | os.PathLike, *, checkpoint: str = "best"):
        """Reads the config; see `open_run`."""
        if checkpoint not in CHECKPOINTS:
            raise unknown_name("checkpoint", checkpoint, CHECKPOINTS)
        self._directory = RunDirectory(workdir, writes=False)
        self._checkpoint = checkpoint
        self.path: pathlib.Path = self._directory.path
        self.config: ml_collections.ConfigDict = self._directory.config()
        self.features: Features = self._directory.features()

    def __repr__(self) -> str:
        """Path, model, data and status."""
        status = self.status
        state = f"{status.get('status', 'not begun')} at step {status.get('step', 0)}"
        return f"<plumbline.Run '{self.path}': {self.config.model.name} on {self.config.data.source}, {state}>"

    # ---- Figures.

    @property
    @names_arguments
    def status(self) -> dict[str, Any]:
        """`{"status", "step", "reason"}`: running, done, preempted, diverged or failed; empty before the first step."""
        return self._directory.status()

    @property
    @names_arguments
    def summary(self) -> dict[str, Any]:
        """The content of `summary.json`: metrics, speed, parameters, devices, versions.

        Raises:
          UserError: the run is not done.
        """
        return self._directory.summary()

    @property
    @names_arguments
    def transfer_check(self) -> dict[str, Any] | None:
        """The content of `transfer_check.json`: the run with `transfer.check`, compared with a training from scratch.

        `{"metric", "transfer", "scratch", "seeds", "by_seed": {"transfer", "scratch"}, "difference": {"mean", "low",
        "high", "confidence", "over"}, "verdict"}`, where `verdict` is "better", "worse" or "unclear", and of one seed
        "differs" or "unclear". None if nothing was compared, or not yet.
        """
        return self._directory.transfer_check()

    @property
    @names_arguments
    def metrics(self) -> dict[str, dict[str, float]]:
        """The metrics of each split: the final ones of a finished run, else the latest ones."""
        if self.status.get("status") == "done":
            return self.summary["metrics"]
        splits = {line["split"]: None for line in self._directory.metrics()}
        return {split: self._directory.last_metrics(split) for split in splits}

    @property
    @names_arguments
    def history(self) -> pandas.DataFrame:
        """A row for each line of `metrics.jsonl`: `step`, `time` (UTC), `split`, and the metrics."""
        frame = pandas.DataFrame(self._directory.metrics(), columns=None)
        if frame.empty:
            return pandas.DataFrame({"step": [], "time": [], "split": []})
        return frame.assign(time=pandas.to_datetime(frame["time"], unit="s", utc=True))

    @property
    @names_arguments
    def provenance(self) -> dict[str, Any]:
        """Command, folder, git commit and time of each start; empty if there is no record, or if it is damaged."""
        return self._directory.provenance()

    # ---- The model.

    @property
    def params(self) -> dict[str, Any]:
        """The parameters as a nested dict of arrays; their moving average where the run keeps one."""
        return self._finished.state.params

    @property
    def step(self) -> int:
        """The step after which the parameters were saved."""
        return self._finished.step

    @functools.cached_property
    def model(self) -> "Model":
        """The model as a pure function `model(params, inputs)`, for use under `jax.jit`, `jax.grad` and `jax.vmap`."""
        return Model(self._finished)

    def inputs(self, examples: Examples) -> np.ndarray:
        """Reads raw inputs (n, *features.shape): uint8 pixels, table columns as float32, or int32 tokens.

        Args:
          examples: an array, which is checked: integers that fit are converted, and pixels go from 0 to 255; rows of a
            table as a DataFrame; or paths of images, texts, folders or tables. Of the columns of a table, float64 and
            integers are values as in the table; float32 is what this method returns, relative to the `offset` of each
            column in `features`.

        Raises:
          UserError: the examples are not of the kind the model was trained on.
        """
        return np.concatenate([inputs for _, inputs, _ in self._read(examples)])

    def logits(self, examples: Examples) -> np.ndarray:
        """Computes the outputs of the model, in batches of a fixed size.

        Args:
          examples: as in `inputs`.

        Returns:
          Logits (n, classes) of a classification, standardised predictions (n, 1) of a regression, or logits
          (n, L, tokens) of a language model; float32.

        Raises:
          UserError: as `inputs`.
        """
        return np.concatenate([self._outputs(inputs) for _, inputs, _ in self._read(examples)])

    def predict(self, examples: Examples) -> pandas.DataFrame:
        """Predicts examples.

        Args:
          examples: as in `inputs`.

        Returns:
          A row for each example. `input` is its file, or file and line; a DataFrame's index is kept instead, and rows
          of an array are numbered. A classification has `label` and `probability NAME` for each class, a regression
          `prediction` in the units of the target. `target` is there where a table has it.

        Raises:
          UserError: as `inputs`, or the run is a language model.
        """
        if self.features.task == "language":
            raise UserError("predict: the run is a language model; use logits, or the command plumbline generate")
        names, outputs, targets = [], [], []
        for chunk_names, inputs, labels in self._read(examples):
            names += chunk_names
            targets += labels or [None] * len(inputs)
            outputs.append(self._outputs(inputs))
        state, objective = self._finished.state, self._finished.program.objective
        values = np.asarray(objective.predictions(np.concatenate(outputs), state.preprocessing))
        columns: dict[str, Any] = {}
        if isinstance(examples, pandas.DataFrame):
            index = examples.index
        else:
            index = pandas.RangeIndex(len(names))
            if not isinstance(examples, np.ndarray | jax.Array):
                columns["input"] = names
        if classes := self.features.class_names:
            columns["label"] = [classes[choice] for choice in values.argmax(axis=1)]
            columns |= {f"probability {name}": values[:, place] for place, name in enumerate(classes)}
        else:
            offset = self.features.target_offset
            columns["prediction"] = values[:, 0].astype(np.float64) + offset if offset else values[:, 0]
        if any(target is not None for target in targets):
            columns["target"] = targets
        return pandas.DataFrame(columns, index=index)

    def embed(self, examples: Examples) -> np.ndarray:
        """Computes the features that the head of the model reads: (n, d) float32, or (n, L, d) of a language model.

        Args:
          examples: as in `inputs`.

        Raises:
          UserError: as `inputs`.
        """
        inputs = self.inputs(examples)
        rows = np.arange(len(inputs))
        labels = np.zeros((len(rows), *self.features.label_shape), self.features.label_dtype)
        weights = np.ones(len(rows), np.float32)
        reader = ArrayReader(inputs, rows)
        return self._finished.embed(Split(labels=labels, groups=None, weights=weights, rows=rows, reader=reader))

    @names_arguments
    def evaluate(self, split: str = "test") -> dict[str, float]:
        """Computes the metrics of a split of the run's own data.

        Raises:
          UserError: there is no such split, or the data have changed since the training.
        """
        return self._finished.evaluate(split)

    # ---- Inside.

    @functools.cached_property
    @names_arguments
    def _finished(self) -> FinishedRun:
        return FinishedRun(self.path, checkpoint=self._checkpoint)

    def _outputs(self, inputs: np.ndarray) -> np.ndarray:
        """Outputs (n, ...): inputs are padded to whole batches, so that one compiled program serves any number."""
        finished, size = self._finished, evaluation_batch_size(self.config)
        pieces = []
        for start in range(0, len(inputs), size):
            batch = inputs[start : start + size]
            padding = np.zeros((size - len(batch), *batch.shape[1:]), batch.dtype)
            outputs = self.model.compiled(finished.state, np.concatenate([batch, padding]))
            pieces.append(np.asarray(outputs)[: len(batch)])
        return np.concatenate(pieces)

    def _read(self, examples: Examples) -> Iterator[tuple[list[str], np.ndarray, list[Any] | None]]:
        """Names, raw inputs and labels of the examples, in chunks that are not empty."""
        if isinstance(examples, pandas.DataFrame):
            if not len(examples):
                raise UserError("inputs: the DataFrame has no rows")
            chunk = read_frame(self.features, self.config.data, examples)
            yield chunk.names, chunk.inputs, chunk.labels
        elif isinstance(examples, np.ndarray | jax.Array):
            inputs = self._checked(np.asarray(examples))
            yield [str(row) for row in range(len(inputs))], inputs, None
        else:
            several = list(examples) if isinstance(examples, Iterable) else []
            paths = [examples] if isinstance(examples, str | os.PathLike) else several
            if not paths or not all(isinstance(path, str | os.PathLike) for path in paths):
                kind = f"{type((paths or [examples])[0]).__name__} given; " if paths or not several else ""
                raise UserError(f"inputs: {kind}give an array, a pandas DataFrame, or one or several paths")
            for chunk in read_inputs(self.features, self.config.data, [os.fspath(path) for path in paths]):
                yield chunk.names, chunk.inputs, chunk.labels

    def _checked(self, inputs: np.ndarray) -> np.ndarray:
        """The array, if its shape and type are those of raw inputs; integers that fit and other floats are converted.

        Raises:
          UserError: they are not.
        """
        wanted = self.features.dtype
        shape = self.features.shape
        offsets = np.array([column.offset for column in self.features.columns])
        if inputs.shape[1:] != shape or not len(inputs):
            sides = ", ".join(map(str, shape))
            raise UserError(f"inputs: an array of shape {inputs.shape} given; the run reads (n, {sides}), n at least 1")
        if np.issubdtype(inputs.dtype, np.floating) and wanted != "int32":
            if wanted == "uint8" and inputs.any() and inputs.max() <= 1:
                raise UserError(
                    f"inputs: the largest value is {inputs.max():.3g}, but the run reads pixels from 0 to 255; "
                    "multiply values in 0 to 1 by 255"
                )
            if offsets.any() and inputs.dtype == np.float64:
                inputs = inputs - offsets
            return inputs.astype(np.float32)
        if np.issubdtype(inputs.dtype, np.integer):
            if offsets.any():
                return (inputs - offsets).astype(np.float32)
            return _convert_integers(inputs, wanted)
        if inputs.dtype != wanted:
            raise UserError(
                f"inputs: an array of {inputs.dtype} given, but the run reads {wanted}; convert it with "
                f"astype('{wanted}')"
            )
        return inputs


def _convert_integers(values: np.ndarray, dtype: str) -> np.ndarray:
    """Converts integers to the type of raw inputs.

    Raises:
      UserError: they do not fit.
    """
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        low, high = int(values.min()), int(values.max())
        if low < limits.min or high > limits.max:
            raise UserError(
                f"inputs: integers from {low} to {high} given, but the run reads {dtype}; give {limits.min} to "
                f"{limits.max}"
            )
    return values.astype(dtype)


class Model:
    """A pure function from parameters and raw inputs to outputs, of a run.

    `model(params, inputs)` includes the preprocessing, takes the statistics of batch normalisation from the checkpoint,
    and draws nothing at random, so JAX may transform it in both arguments. Raw images are uint8; floats in 0 to 255
    work as well and have gradients.

    Attributes:
      compiled: the compiled function `(inference state, inputs) -> outputs`.
    """

    def __init__(self, finished: FinishedRun):
        self._outputs = make_outputs(finished.program)
        self._state = finished.state
        self.compiled = jax.jit(self._outputs)

    def __call__(self, params: dict[str, Any], inputs: jax.Array | np.ndarray) -> jax.Array:
        """Computes outputs.

        Args:
          params: a tree like `Run.params`.
          inputs: (B, *features.shape) raw.

        Returns:
          (B, outputs) float32, or (B, L, tokens) of a language model.
        """
        state = InferenceState(params, self._state.model_state, self._state.preprocessing)
        return self._outputs(state, jnp.asarray(inputs))
