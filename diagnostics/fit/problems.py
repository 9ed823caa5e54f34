"""Problems of optimisation that show in the course of a training."""

import dataclasses

import ml_collections
import numpy as np
from scipy import ndimage, stats

from diagnostics.finding import Remedy
from diagnostics.fit import remedies
from diagnostics.fit.course import LEAST_POINTS, Course
from diagnostics.severity import SEVERITIES, Severity
from diagnostics.thresholds import THRESHOLDS
from plumbline import pluralize

# Points around one that its gradient norm is compared with.
_AROUND = 11
# The last part of a training, as a share of the sum of its learning rates.
_LAST_PART = 0.3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """A problem of optimisation.

    Attributes:
      name: "learning rate too high", "stopped too early", "plateau", "gradient spikes" or "dead units".
      text: what was observed, as a sentence.
      severity: as of a finding.
      remedies: against it.
    """

    name: str
    text: str
    severity: Severity
    remedies: tuple[Remedy, ...]


def find_problems(course: Course, config: ml_collections.ConfigDict) -> list[Problem]:
    """Finds the problems of a training, the most severe first.

    - Learning rate too high: updates were skipped; or more than half of the units of a layer are dead; or the median
      loss of the second half is above that of a model that ignores the inputs; or the loss rose by half or more again
      and again; or it ended far above its minimum.
    - Stopped too early: the last 30 % of the training, by the sum of learning rates, still made a tenth of the total
      fall of the validation loss (without one, of the training loss), with a significant slope.
    - Plateau: the loss never fell below that of a model that ignores the inputs; or it stood still for a quarter of the
      training or more, and fell afterwards.
    - Gradient spikes: norms five times the median of their neighbours, and beyond their variation.
    - Dead units: a fifth of the units of a layer or more are zero for all examples.

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
        _dead_units(course, config),
    ]
    return sorted((each for each in found if each), key=lambda problem: SEVERITIES.index(problem.severity))


def _rate_too_high(course: Course, config: ml_collections.ConfigDict) -> Problem | None:
    name, remedy = "learning rate too high", remedies.lower_rate(config)
    if course.diverged or course.skipped:
        text = f"{pluralize(course.skipped, 'update')} had to be skipped, as loss or gradient was not finite."
        if course.diverged:
            text = "The training diverged: loss or gradient was not finite for many steps in a row."
        return Problem(name=name, text=text, severity="high", remedies=remedy)
    lost, layer = max(((share, layer) for layer, share in course.dead.items()), default=(0.0, ""))
    if lost > THRESHOLDS.most_dead_units:
        text = f"{lost:.0%} of the units of {layer} are zero for all examples, as too large steps leave them."
        return Problem(name=name, text=text, severity="high", remedies=remedy)
    if len(course.train) < LEAST_POINTS:
        return None
    values = course.train[:, 1]
    half = np.median(values[len(values) // 2 :])
    if half > 1.05 * course.chance:
        text = (
            f"The median training loss of the second half was {half:.3g}, above the {course.chance:.3g} of a model "
            "that ignores the inputs."
        )
        return Problem(name=name, text=text, severity="high", remedies=remedy)
    scale = course.chance if np.isfinite(course.chance) else values[0]
    ratio, rise = values[1:] / np.maximum(values[:-1], 1e-12), np.diff(values)
    jumps = int(((ratio > 1.5) & (rise > 0.05 * scale)).sum())
    if jumps >= max(2, 0.05 * len(values)):
        text = f"The training loss jumped up by half or more {jumps} times in {len(values)} points."
        return Problem(name=name, text=text, severity="medium", remedies=remedy)
    smooth = ndimage.median_filter(values, 3, mode="nearest")
    if smooth[-1] - smooth.min() > max(0.25 * (smooth[0] - smooth.min()), 0.1 * scale):
        text = f"The training loss ended at {smooth[-1]:.3g}, well above its minimum of {smooth.min():.3g}."
        return Problem(name=name, text=text, severity="medium", remedies=remedy)
    return None


def _stopped_early(course: Course, config: ml_collections.ConfigDict) -> Problem | None:
    which = "validation" if len(course.validation) >= LEAST_POINTS else "training"
    curve = course.validation if which == "validation" else course.train
    if len(curve) < LEAST_POINTS or len(course.rates) < 2 or course.rates[-1] <= 0:
        return None
    # Steps with a low rate move little: a schedule that ends at zero levels off any curve.
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
    if not (sure and whole > 0 and fall > THRESHOLDS.still_falling * whole):
        return None
    text = (
        f"The {which} loss was still falling at the end, step {course.total_steps:,}: the last part of the training "
        f"made {fall / whole:.0%} of its total fall."
    )
    return Problem(name="stopped too early", text=text, severity="medium", remedies=remedies.longer(config))


def _plateau(course: Course, config: ml_collections.ConfigDict) -> Problem | None:
    if len(course.train) < LEAST_POINTS:
        return None
    steps, values = course.train.T
    smooth = ndimage.median_filter(values, 3, mode="nearest")
    if smooth.min() > 0.98 * course.chance:
        text = (
            f"The training loss never fell below the {course.chance:.3g} of a model that ignores the inputs: the "
            "learning rate is far too low or too high, or the inputs do not predict the label."
        )
        rates = [config.optimizer.learning_rate * factor for factor in (10, 0.1)]
        tried = tuple(
            Remedy(
                text=f"Try the learning rate {rate:.3g}.", overrides={"optimizer.learning_rate": float(f"{rate:.3g}")}
            )
            for rate in rates
        )
        return Problem(name="plateau", text=text, severity="high", remedies=tried)
    whole = max(smooth[0], 0) - smooth.min()
    best = (0.0, 0, 0)
    for first in range(len(smooth)):
        # How long the loss stays within a hundredth of its total fall.
        inside = np.abs(smooth[first:] - smooth[first]) <= THRESHOLDS.plateau_fall * whole
        last = first + (len(inside) if inside.all() else int(inside.argmin())) - 1
        share = (steps[last] - steps[first]) / course.total_steps
        if share > best[0] and smooth[last] - smooth[last:].min() > 0.2 * whole:
            best = (share, first, last)
    share, first, last = best
    if share < THRESHOLDS.plateau_share:
        return None
    text = (
        f"The training loss stood still at {smooth[first]:.3g} from step {steps[first]:,.0f} to {steps[last]:,.0f}, "
        f"{share:.0%} of the training, before it fell again."
    )
    rate = float(f"{3 * config.optimizer.learning_rate:.3g}")
    remedy = Remedy(text="Raise the learning rate.", overrides={"optimizer.learning_rate": rate})
    return Problem(name="plateau", text=text, severity="low", remedies=(remedy, *remedies.longer(config)))


def _spikes(course: Course, config: ml_collections.ConfigDict) -> Problem | None:
    if len(course.gradient_norm) < _AROUND:
        return None
    steps, values = course.gradient_norm.T
    logs = np.log(np.maximum(values, 1e-12))
    around = ndimage.median_filter(logs, _AROUND, mode="nearest")
    deviation = 1.4826 * np.median(np.abs(logs - around))
    spikes = logs - around > max(np.log(THRESHOLDS.spike_times), THRESHOLDS.spike_deviations * deviation)
    # At the beginning gradients are naturally large.
    spikes &= steps > 0.05 * course.total_steps
    if not spikes.any():
        return None
    worst = int(np.where(spikes, logs - around, -np.inf).argmax())
    text = (
        f"The gradient had {pluralize(int(spikes.sum()), 'spike')}, the worst at step {steps[worst]:,.0f}: a norm of "
        f"{values[worst]:.3g} where its neighbours are {np.exp(around[worst]):.3g}."
    )
    limit = 2 * float(np.median(values))
    return Problem(name="gradient spikes", text=text, severity="low", remedies=(remedies.clip(limit),))


def _dead_units(course: Course, config: ml_collections.ConfigDict) -> Problem | None:
    worst = {name: share for name, share in course.dead.items() if share >= THRESHOLDS.dead_units}
    if not worst:
        return None
    listed = ", ".join(f"{share:.0%} of {name}" for name, share in worst.items())
    severity = "medium" if max(worst.values()) > THRESHOLDS.most_dead_units else "low"
    seen = f"Units are zero for all examples: {listed}. They no longer learn."
    found = list(remedies.lower_rate(config))
    if config.model.name == "mlp" and config.model.mlp.activation == "relu":
        found.append(
            Remedy(text="Use an activation whose units do not die.", overrides={"model.mlp.activation": "gelu"})
        )
    return Problem(name="dead units", text=seen, severity=severity, remedies=tuple(found))
