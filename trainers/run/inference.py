"""Evaluation and prediction with the parameters of a run."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

import data
from data.batches import PADDING, evaluation_batches
from data.prediction import Chunk, Notes, read_inputs
from plumbline import UserError, unknown_name
from trainers.building import build_training
from trainers.devices import compilation
from trainers.devices.mesh import data_mesh, make_mesh, num_batch_shards
from trainers.run.cached_features import make_compute
from trainers.run.checkpoints import Checkpoints
from trainers.run.directory import RunDirectory
from trainers.run.evaluation import evaluation_batch_size, make_evaluate
from trainers.step.state import InferenceState, Program
from trainers.step.train_step import make_evaluation_step, make_outputs

CHECKPOINTS = ("best", "last")
"""Which parameters of a run may be asked for: the best on the validation split, or the last."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferenceCheckpoint:
    """The part of a checkpoint that inference needs.

    Attributes:
      program: model, preprocessing and objective.
      step: of the parameters.
      state: parameters, model statistics and fitted preprocessing.
      shardings: of the state.
      fingerprint: of the run's data.
    """

    program: Program
    step: int
    state: InferenceState
    shardings: InferenceState
    fingerprint: str


def restore(directory: RunDirectory, mesh: Mesh, checkpoint: str) -> InferenceCheckpoint:
    """Reads a run's parameters; none of its data is needed.

    Args:
      directory: of the run.
      mesh: devices for the parameters.
      checkpoint: "best" on the validation split, or "last".

    Raises:
      UserError: there is no run, or no valid checkpoint, or `checkpoint` is another name.
    """
    if checkpoint not in CHECKPOINTS:
        raise unknown_name("--checkpoint", checkpoint, CHECKPOINTS)
    config = directory.config()
    # The checkpoint holds the length of the training; only the form of the state matters here.
    training = build_training(config, directory.features(), directory.fitted_arrays(), mesh=mesh)
    restored = None
    if directory.checkpoints.exists():
        opened = Checkpoints(directory.checkpoints, read_only=True)
        restored = opened.restore_inference(training.abstract_state, checkpoint)
        opened.close()
    if restored is None:
        status = directory.status().get("status", "not begun")
        raise UserError(f"--workdir: '{directory.path}' has no checkpoint; the run is {status}, and none was saved yet")
    step, state, fingerprint = restored
    return InferenceCheckpoint(
        program=training.program,
        step=step,
        state=state,
        shardings=training.shardings.inference(),
        fingerprint=fingerprint,
    )


class FinishedRun:
    """The best or last parameters of a run, ready for inference. The run may still be training.

    Attributes:
      config: of the run.
      features: what an example is.
      program: model, preprocessing and objective.
      step: of the parameters.
      state: parameters, model statistics and fitted preprocessing.
    """

    def __init__(self, workdir: str | os.PathLike, *, checkpoint: str = "best"):
        """Reads the run; none of its data is needed.

        Args:
          workdir: the run directory.
          checkpoint: "best" on the validation split, or "last".

        Raises:
          UserError: there is no run, or no valid checkpoint.
        """
        directory = RunDirectory(workdir)
        self.config, self.features = directory.config(), directory.features()
        compilation.keep_programs(self.config.execution.compilation_cache, self.config.data.cache_dir)
        self._mesh = _mesh_for(self.config)
        restored = restore(directory, self._mesh, checkpoint)
        self.program, self.step, self.state = restored.program, restored.step, restored.state
        self._shardings, self._fingerprint, self._assets = restored.shardings, restored.fingerprint, directory.assets()
        # The last batch is padded anyway, so any number of devices is possible.
        parts = num_batch_shards(self._mesh)
        self._batch_size = -(-evaluation_batch_size(self.config) // parts) * parts
        self._outputs = jax.jit(make_outputs(self.program))

    def evaluate(self, split: str = "test") -> dict[str, float]:
        """Metrics of a split of the run's own data, as `Objective.metrics` names them.

        Raises:
          UserError: there is no such split, or the data have changed since the training.
        """
        return make_evaluate(self.program, self._mesh, self._shardings, batch_size=self._batch_size)(
            self.state, self._split(split)
        )

    def evaluate_each(self, split: str = "test") -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The best metric of the objective for each example. The weighted mean is the metric of the split.

        Returns:
          Values (n,) and weights (n,), float64, and groups (n,) or None, in the order of the split.

        Raises:
          UserError: as `evaluate`.
        """
        objective, examples, state = self.program.objective, self._split(split), self.state
        step = jax.jit(jax.vmap(make_evaluation_step(self.program), in_axes=(None, 0)))
        values, weights = [], []
        for batch in evaluation_batches(examples, batch_size=self._batch_size, workers=self.config.data.workers):
            there = np.flatnonzero(batch["index"] != PADDING)
            totals = jax.device_get(step(state, {name: leaf[:, None] for name, leaf in batch.items()}))
            for row in there.tolist():
                own = jax.tree.map(lambda leaf, row=row: np.asarray(leaf[row], np.float64), totals)
                values.append(objective.metrics(own, state.preprocessing)[objective.best_metric])
                counted = own.get(objective.best_metric)
                weights.append(batch["weight"][row] if counted is None else counted[1])
        return np.array(values, np.float64), np.array(weights, np.float64), examples.groups

    def embed(self, split: data.Split) -> np.ndarray:
        """The input of the head for each example: (n, d) float32, or (n, L, d) if the head answers each token."""
        compute = make_compute(self.program, self._mesh, self._shardings, batch_size=self._batch_size)
        return compute(self.state, split)

    def predict(self, paths: Sequence[str], notes: Notes | None = None) -> Iterator[dict[str, Any]]:
        """Predicts files: images or texts, folders of them, or tables with or without the target column.

        Args:
          paths: paths of the files.
          notes: gets the errors of files that cannot be read, which are passed over; None raises the first.

        Yields:
          For each example `input` (its file, or file and line) and `label` with the `probabilities` of all classes,
          or `prediction` for a regression; and `target` where the table has it.

        Raises:
          UserError: an input is missing, or is of another kind than the training data.
        """
        self._refuse_language()
        for chunk in read_inputs(self.features, self.config.data, paths, notes):
            yield from self._predict_chunk(chunk)

    def predict_split(self, split: str = "test") -> Iterator[dict[str, Any]]:
        """Predicts a split of the run's own data, as `predict` does; `input` is the split and the row in its source."""
        self._refuse_language()
        examples, size = self._split(split), self._batch_size
        names = self.features.class_names
        for start in range(0, len(examples), size):
            positions = np.arange(start, min(start + size, len(examples)))
            if self.features.kind == "image":
                positions = positions[examples.weights[positions] > 0]  # Corrupt images are zeros.
            labels = examples.labels[positions].tolist()
            if self.features.target_offset:
                labels = [label + self.features.target_offset for label in labels]
            yield from self._predict_chunk(
                Chunk(
                    names=[f"{split}:{row}" for row in examples.rows[positions]],
                    inputs=examples.read(positions),
                    labels=[names[label] for label in labels] if names else labels,
                )
            )

    def _refuse_language(self) -> None:
        if self.features.task == "language":
            raise UserError(
                "--workdir: holds a language model, which predicts no labels; `plumbline generate` generates text, "
                "`plumbline evaluate` measures it"
            )

    def _predict_chunk(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        for start in range(0, len(chunk.names), self._batch_size):
            rows = slice(start, start + self._batch_size)
            targets = chunk.labels[rows] if chunk.labels else [None] * self._batch_size
            values = self._predict(chunk.inputs[rows])
            for name, value, target in zip(chunk.names[rows], values, targets, strict=False):
                yield {"input": name, **self._answer(value), **({} if target is None else {"target": target})}

    def _predict(self, inputs: np.ndarray) -> np.ndarray:
        """Predictions (N, num_outputs); inputs are padded to a whole batch, so that one program serves all."""
        missing = self._batch_size - len(inputs)
        padded = np.concatenate([inputs, np.zeros((missing, *inputs.shape[1:]), inputs.dtype)])
        outputs = self._outputs(self.state, padded)
        return np.asarray(self.program.objective.predictions(outputs, self.state.preprocessing))[: len(inputs)]

    def _answer(self, value: np.ndarray) -> dict[str, Any]:
        names = self.features.class_names
        if not names:
            return {"prediction": float(value[0]) + self.features.target_offset}
        return {
            "label": names[int(value.argmax())],
            "probabilities": {name: float(p) for name, p in zip(names, value, strict=True)},
        }

    def _split(self, name: str) -> data.Split:
        dataset = data.load(self.config.data, seed=self.config.seed, assets=self._assets)
        dataset.check_same(self._fingerprint, self.features, source=self.config.data.source)
        if name not in dataset.splits:
            raise unknown_name("--split", name, dataset.splits)
        return dataset.splits[name]


def _mesh_for(config: ml_collections.ConfigDict) -> Mesh:
    """The mesh of the run if it fits the devices here, else all devices along the data axis."""
    try:
        return make_mesh(config.mesh)
    except UserError:
        return data_mesh(jax.devices())
