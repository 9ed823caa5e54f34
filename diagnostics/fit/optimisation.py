"""Troubles of optimisation, seen in how loss and gradient went over a training."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from scipy import ndimage, stats

from data import preprocessing
from diagnostics.finding import Remedy
from diagnostics.fit import remedies
from plumbline import counted
from trainers.building import make_clock
from trainers.step import schedules
from trainers.step.state import InferenceState, Program

LEAST_POINTS = 5
"""Of fewer points of a curve nothing is said."""

# A gradient is a spike if it is so many times the median of those around it, and beyond what they vary by.
_SPIKE, _AROUND, _DEVIATIONS = 5.0, 11, 8.0
# The last part of a training, by the sum of its learning rates; and the share of the whole fall that, if it is still in
# it, the training ended too early.
_LAST_PART, _STILL_FALLING = 0.3, 0.10
# A share of a training in which the loss does not move, in hundredths of its whole fall, is a plateau.
_FLAT_SHARE, _FLAT_FALL = 0.25, 0.01
# A layer with this share of dead units has lost some of its width.
_DEAD_SHARE = 0.2
# And with this one, it was no accident of its initial parameters.
_MOST_DEAD = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """How a training went. Curves are (n, 2): step, and value.

    Attributes:
      train: loss on training rows.
      validation: loss on the validation split.
      gradient_norm: of the gradient, mean over the steps since the last point.
      rates: (n,) sum of the learning rates up to each point of `train`, in any unit; steps where nobody knows better.
      total_steps: of the training as it was meant.
      chance: loss of a model that does not look at the inputs; nan where nobody knows.
      skipped: updates that were not made, as the loss or the gradient was not finite.
      diverged: whether it was given up for that.
      dead: share of dead units, by layer.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trouble:
    """Something that went wrong.

    Attributes:
      name: "learning rate too high", "stopped too early", "plateau", "gradient spikes" or "dead units".
      text: what was seen, as a sentence.
      severity: as that of a finding.
      remedies: against it.
    """

    name: str
    text: str
    severity: str
    remedies: tuple[Remedy, ...]


def troubles(course: Course, config: ml_collections.ConfigDict) -> list[Trouble]:
    """The troubles of a training, the gravest first.

    - Learning rate too high: updates were skipped; or a layer has lost more than half of its units; or the loss was
      above that of a model which looks at no inputs in half of the last half; or it rose by half or more again and
      again; or it ended far above its least value.
    - Stopped too early: the last 30 % of the training, counted in sums of learning rates, still brought a tenth of the
      whole fall of the validation loss (without one, of the training loss), with a slope that is no chance.
    - Plateau: the loss never left that of a model which looks at no inputs; or it stood still for a quarter of the
      training or more, and fell again after it.
    - Gradient spikes: norms five times the median of those around them, and beyond what these vary by.
    - Dead units: in a layer, a fifth of the units or more are zero for all examples.

    Args:
      course: of the training.
      config: of the training, for the remedies.
    """
    high = _rate_too_high(course, config)
    found = [
        high,
        None if high else _plateau(course, config),
        None if high else _stopped_early(course, config),
        _spikes(course, config),
        _dead(course, config),
    ]
    order = ("high", "medium", "low")
    return sorted((each for each in found if each), key=lambda trouble: order.index(trouble.severity))


def of_lines(
    lines: Sequence[Mapping[str, Any]], *, total_steps: int, chance: float, diverged: bool, dead: Mapping[str, float]
) -> Course:
    """The course of a run.

    Args:
      lines: of its `metrics.jsonl`.
      total_steps: of the whole training.
      chance: loss of a model that looks at no inputs.
      diverged: whether the run was given up.
      dead: of `dead_units`.
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


def of_history(
    history: Sequence[Mapping[str, float]],
    validation: Sequence[Sequence[Mapping[str, float]]],
    config: ml_collections.ConfigDict,
    *,
    num_rows: int,
    chance: float,
    diverged: bool,
) -> Course:
    """The course of trainings of a population, which keep no gradients.

    Args:
      history: of a training that was judged on its training rows.
      validation: histories of others like it, judged on the validation split; they count in the mean.
      config: of all of them.
      num_rows: they were trained on.
      chance: loss of a model that looks at no inputs.
      diverged: whether one was given up.
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
        diverged=diverged,
    )


def dead_units(program: Program, state: InferenceState, inputs: np.ndarray) -> dict[str, float]:
    """For each layer of rectified units the share of them that are zero for all examples.

    A layer has such units if none of its values is below zero. What a layer has for each position of an image is
    averaged, which is zero only where all of them are.

    Args:
      program: of a run.
      state: of the same.
      inputs: (n, ...) raw.
    """

    @jax.jit
    def extract(state: InferenceState, inputs: jax.Array) -> dict[str, jax.Array]:
        model = program.model(state.params, state.model_state)
        return model.representations(preprocessing.apply(state.preprocessing, program.features, inputs))

    shares = {}
    for name, values in extract(state, inputs).items():
        values = np.asarray(values)
        # Inputs may be zero by themselves, and so may what a linear model reads.
        if name == "embeddings" or program.config.model.name == "linear" or values.min() < 0:
            continue
        shares["the last hidden layer" if name == "features" else name] = float((values == 0).all(axis=0).mean())
    return shares


def turned(validation: np.ndarray) -> float | None:
    """By which share of its least value a loss, (n, 2) by step, had risen at the end; None of fewer than 5 points.

    The end is the median of the last tenth of the points, at least three of them.
    """
    if len(validation) < LEAST_POINTS:
        return None
    values = validation[:, 1]
    end = np.median(values[-max(3, len(values) // 10) :])
    return float(max(0.0, end / max(values.min(), 1e-12) - 1))


def _rate_too_high(course: Course, config: ml_collections.ConfigDict) -> Trouble | None:
    name, remedy = "learning rate too high", remedies.lower_rate(config)
    if course.diverged or course.skipped:
        text = f"{counted(course.skipped, 'update')} had to be skipped, as loss or gradient were not finite."
        if course.diverged:
            text = "The training diverged: loss or gradient were not finite for many steps in a row."
        return Trouble(name=name, text=text, severity="high", remedies=remedy)
    lost, layer = max(((share, layer) for layer, share in course.dead.items()), default=(0.0, ""))
    if lost > _MOST_DEAD:
        text = f"{lost:.0%} of the units of {layer} are zero for all examples, as steps that are too large leave them."
        return Trouble(name=name, text=text, severity="high", remedies=remedy)
    if len(course.train) < LEAST_POINTS:
        return None
    values = course.train[:, 1]
    half = np.median(values[len(values) // 2 :])
    if half > 1.05 * course.chance:
        text = (
            f"In the second half of the training its loss was {half:.3g} in the median, above the {course.chance:.3g} "
            "of a model that looks at no inputs."
        )
        return Trouble(name=name, text=text, severity="high", remedies=remedy)
    scale = course.chance if np.isfinite(course.chance) else values[0]
    ratio, rise = values[1:] / np.maximum(values[:-1], 1e-12), np.diff(values)
    jumps = int(((ratio > 1.5) & (rise > 0.05 * scale)).sum())
    if jumps >= max(2, 0.05 * len(values)):
        text = f"The training loss jumped up by half or more {jumps} times in {len(values)} points."
        return Trouble(name=name, text=text, severity="medium", remedies=remedy)
    smooth = ndimage.median_filter(values, 3, mode="nearest")
    if smooth[-1] - smooth.min() > max(0.25 * (smooth[0] - smooth.min()), 0.1 * scale):
        text = f"The training loss ended at {smooth[-1]:.3g}, well above the {smooth.min():.3g} it had come down to."
        return Trouble(name=name, text=text, severity="medium", remedies=remedy)
    return None


def _stopped_early(course: Course, config: ml_collections.ConfigDict) -> Trouble | None:
    which = "validation" if len(course.validation) >= LEAST_POINTS else "training"
    curve = course.validation if which == "validation" else course.train
    if len(curve) < LEAST_POINTS or len(course.rates) < 2 or course.rates[-1] <= 0:
        return None
    # Steps with a low rate move little: a schedule that ends at nothing levels off any curve.
    at = np.interp(curve[:, 0], [0, *course.train[:, 0]], [0, *course.rates]) / course.rates[-1]
    values = curve[:, 1]
    last = at >= 1 - _LAST_PART
    if last.sum() < 3:
        last = np.arange(len(values)) >= len(values) - 3
    before = values[~last][-1]
    fall, whole = before - values[last][-1], max(values[0], course.chance if np.isfinite(course.chance) else 0.0)
    whole -= values[last][-1]
    slope = stats.linregress(at[last], values[last]) if len(np.unique(at[last])) > 1 else None
    sure = slope is not None and slope.slope < 0 and (last.sum() < 5 or slope.pvalue < 0.01)
    if not (sure and whole > 0 and fall > _STILL_FALLING * whole):
        return None
    text = (
        f"The {which} loss was still falling at the end, step {course.total_steps:,}: the last part of the training "
        f"took {fall / whole:.0%} of its whole fall."
    )
    return Trouble(name="stopped too early", text=text, severity="medium", remedies=remedies.longer(config))


def _plateau(course: Course, config: ml_collections.ConfigDict) -> Trouble | None:
    if len(course.train) < LEAST_POINTS:
        return None
    steps, values = course.train.T
    smooth = ndimage.median_filter(values, 3, mode="nearest")
    if smooth.min() > 0.98 * course.chance:
        text = (
            f"The training loss never left the {course.chance:.3g} of a model that looks at no inputs: the rate is far "
            "too low or too high, or the inputs tell nothing."
        )
        rates = [config.optimizer.learning_rate * factor for factor in (10, 0.1)]
        tried = tuple(
            Remedy(
                text=f"Try the learning rate {rate:.3g}.", overrides={"optimizer.learning_rate": float(f"{rate:.3g}")}
            )
            for rate in rates
        )
        return Trouble(name="plateau", text=text, severity="high", remedies=tried)
    whole = max(smooth[0], 0) - smooth.min()
    best = (0.0, 0, 0)
    for first in range(len(smooth)):
        # How far the loss stays within a hundredth of its whole fall.
        inside = np.abs(smooth[first:] - smooth[first]) <= _FLAT_FALL * whole
        last = first + (len(inside) if inside.all() else int(inside.argmin())) - 1
        share = (steps[last] - steps[first]) / course.total_steps
        if share > best[0] and smooth[last] - smooth[last:].min() > 0.2 * whole:
            best = (share, first, last)
    share, first, last = best
    if share < _FLAT_SHARE:
        return None
    text = (
        f"The training loss stood still at {smooth[first]:.3g} from step {steps[first]:,.0f} to {steps[last]:,.0f}, "
        f"{share:.0%} of the training, before it fell again."
    )
    rate = float(f"{3 * config.optimizer.learning_rate:.3g}")
    remedy = Remedy(text="Raise the learning rate.", overrides={"optimizer.learning_rate": rate})
    return Trouble(name="plateau", text=text, severity="low", remedies=(remedy, *remedies.longer(config)))


def _spikes(course: Course, config: ml_collections.ConfigDict) -> Trouble | None:
    if len(course.gradient_norm) < _AROUND:
        return None
    steps, values = course.gradient_norm.T
    logs = np.log(np.maximum(values, 1e-12))
    around = ndimage.median_filter(logs, _AROUND, mode="nearest")
    deviation = 1.4826 * np.median(np.abs(logs - around))
    spikes = logs - around > max(np.log(_SPIKE), _DEVIATIONS * deviation)
    # At the begin gradients are large by themselves.
    spikes &= steps > 0.05 * course.total_steps
    if not spikes.any():
        return None
    worst = int(np.where(spikes, logs - around, -np.inf).argmax())
    text = (
        f"The gradient had {counted(int(spikes.sum()), 'spike')}, the worst at step {steps[worst]:,.0f}: a norm of "
        f"{values[worst]:.3g} where those around it are {np.exp(around[worst]):.3g}."
    )
    limit = 2 * float(np.median(values))
    return Trouble(name="gradient spikes", text=text, severity="low", remedies=(remedies.clip(limit),))


def _dead(course: Course, config: ml_collections.ConfigDict) -> Trouble | None:
    worst = {name: share for name, share in course.dead.items() if share >= _DEAD_SHARE}
    if not worst:
        return None
    listed = ", ".join(f"{share:.0%} of {name}" for name, share in worst.items())
    severity = "medium" if max(worst.values()) > _MOST_DEAD else "low"
    text = f"Units are zero for all examples: {listed}. They learn nothing any more."
    found = list(remedies.lower_rate(config))
    if config.model.name == "mlp" and config.model.mlp.activation == "relu":
        found.append(Remedy(text="Take units that do not die.", overrides={"model.mlp.activation": "gelu"}))
    return Trouble(name="dead units", text=text, severity=severity, remedies=tuple(found))


def _curve(lines: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    return np.array([point for point in points if np.isfinite(point).all()], float).reshape(-1, 2)
