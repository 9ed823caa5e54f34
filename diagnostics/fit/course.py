"""How a training went: losses, gradient norms and dead units, from a run's metrics or a population's histories."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from data.pool import Pool
from trainers.building import make_clock
from trainers.step import schedules
from trainers.step.dead_units import dead_shares, make_activity
from trainers.step.state import InferenceState, Program

LEAST_POINTS = 5
"""Points of a curve that a judgement takes."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """How a training went. Curves are (n, 2): step and value.

    Attributes:
      train: loss on training rows.
      validation: loss on the validation split.
      gradient_norm: mean over the steps since the last point.
      rates: (n,) sum of the learning rates up to each point of `train`, in any unit.
      total_steps: planned steps of the training.
      chance: loss of a model that ignores the inputs; nan if unknown.
      skipped: updates that were skipped because loss or gradient was not finite.
      diverged: whether the training was stopped for that reason.
      dead: share of dead units of each layer.
    """

    train: np.ndarray
    validation: np.ndarray
    gradient_norm: np.ndarray
    rates: np.ndarray
    total_steps: int
    chance: float
    skipped: int = 0
    diverged: bool = False
    dead: Mapping[str, float] = dataclasses.field(default_factory=dict)


def from_metrics(
    lines: Sequence[Mapping[str, Any]], *, total_steps: int, chance: float, diverged: bool, dead: Mapping[str, float]
) -> Course:
    """Reads the course of a run.

    Args:
      lines: of its `metrics.jsonl`.
      total_steps: of the whole training.
      chance: loss of a model that ignores the inputs.
      diverged: whether the run was stopped.
      dead: result of `count_dead_units`.
    """
    train = [line for line in lines if line["split"] == "train"]
    steps = np.array([0, *(line["step"] for line in train if line.get("loss") is not None)], float)
    rates = np.array([line.get("learning_rate") or 0.0 for line in train if line.get("loss") is not None])
    return Course(
        train=_curve(train, "loss"),
        validation=_curve([line for line in lines if line["split"] == "validation"], "loss"),
        gradient_norm=_curve(train, "gradient_norm"),
        rates=np.cumsum(np.diff(steps) * rates),
        total_steps=total_steps,
        chance=chance,
        skipped=int(sum(line.get("skipped") or 0 for line in train)),
        diverged=diverged,
        dead=dead,
    )


def from_histories(
    history: Sequence[Mapping[str, float]],
    validation: Sequence[Sequence[Mapping[str, float]]],
    config: ml_collections.ConfigDict,
    *,
    num_rows: int,
    chance: float,
    skipped: int,
    diverged: bool,
) -> Course:
    """Reads the course of trainings of a population.

    It has neither gradient norms nor dead units: the rates of false alarms of an audit do not cover what they show.

    Args:
      history: of a training that was evaluated on its training rows.
      validation: histories of trainings like it, evaluated on the validation split; their mean counts.
      config: of all of them.
      num_rows: training rows.
      chance: loss of a model that ignores the inputs.
      skipped: updates that the first training skipped.
      diverged: whether one of them was stopped.
    """
    train = _curve(history, "loss")
    clock = make_clock(config, num_rows)
    lengths = schedules.lengths(config.schedule, clock)
    share = schedules.build(config.schedule)
    rates = np.asarray(jax.vmap(lambda step: share(step, lengths))(np.arange(clock.total_steps, dtype=np.float32)))
    curves = [_curve(each, "loss") for each in validation]
    shortest = min(map(len, curves), default=0)
    return Course(
        train=train,
        validation=np.mean([curve[:shortest] for curve in curves], axis=0) if shortest else np.zeros((0, 2)),
        gradient_norm=np.zeros((0, 2)),
        rates=np.cumsum(rates)[np.minimum(train[:, 0].astype(int), clock.total_steps) - 1],
        total_steps=clock.total_steps,
        chance=chance,
        skipped=skipped,
        diverged=diverged,
    )


def count_dead_units(program: Program, state: InferenceState, inputs: np.ndarray) -> dict[str, float]:
    """Computes for each layer of rectified units the share that is zero for all examples.

    Args:
      program: of a run.
      state: of the run.
      inputs: (n, ...) raw.
    """
    activity = jax.jit(make_activity(program))(state, inputs, np.ones(len(inputs), np.float32))
    return dead_shares(program, jax.device_get(activity))


def measure_rise(validation: np.ndarray) -> float | None:
    """Measures by which share of its minimum a loss (n, 2) has risen at the end; None for fewer than 5 points.

    The end is the median of the last tenth of the points, at least three of them.
    """
    if len(validation) < LEAST_POINTS:
        return None
    values = validation[:, 1]
    end = np.median(values[-max(3, len(values) // 10) :])
    return float(max(0.0, end / max(values.min(), 1e-12) - 1))


def chance_loss(config: ml_collections.ConfigDict, pool: Pool) -> float:
    """Returns the training loss of a model that ignores the inputs."""
    if pool.features.task != "classification":
        return 1.0  # Labels are scaled to unit variance.
    _, counts = np.unique(pool.labels[pool.splits["train"]], return_counts=True)
    shares = counts / counts.sum()
    mixed = config.objective.label_smoothing or config.augment.mixup or config.augment.cutmix
    if mixed or config.data.class_weights != "none":
        return float(np.log(max(2, pool.features.num_outputs)))
    return float(-(shares * np.log(shares)).sum())


def _curve(lines: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    return np.array([point for point in points if np.isfinite(point).all()], float).reshape(-1, 2)
