"""What a learning curve says of the number of examples: what more would add, and whether fewer would do."""

import numpy as np

from data.pool import Pool
from diagnostics.finding import Curves, Evidence, Finding, Measure, Question, Remedy, Table
from diagnostics.learning_curve import LearningCurve
from diagnostics.scores import Score
from diagnostics.severity import Severity
from diagnostics.statistics import Interval, mean_interval
from diagnostics.thresholds import THRESHOLDS
from diagnostics.trainings import Trainings

MORE = Question("more_data", "data quantity")
ENOUGH = Question("enough_data", "data quantity")

# Sizes at which a curve is drawn and checked.
_DRAWN = 60


def judge_more_data(pool: Pool, trainings: Trainings, *, wanted: float | None = None) -> Finding:
    """Reports what twice the data would add, and how many examples a wanted score takes.

    Args:
      pool: of the trainings.
      trainings: of an audit.
      wanted: accuracy, or for a regression mean squared error; None if none is asked for.
    """
    curve, score = trainings.curve, Score(pool.features.task)
    if curve is None:
        return MORE.cannot_tell(trainings.why_no_curve)
    size = int(curve.sizes.max())
    gain, twice = curve.gain(size, 2 * size), score.interval(curve.prediction(2 * size))
    measures = [
        Measure.of(f"{score.error_name} that twice the data would remove", gain),
        Measure.of(f"{score.name} of a training on {2 * size:,} examples", twice),
    ]
    answer = ""
    if wanted is not None:
        answer, needed = _answer_wanted(curve, score, wanted)
        measures += needed
    evidence = (_draw(curve, score),)
    if doubts := curve.doubts():
        finding = MORE.cannot_tell("; ".join(doubts))
        return MORE.found("unknown", finding.message + answer, measures=tuple(measures), evidence=evidence)
    point = THRESHOLDS.point * _unit(pool)
    severity: Severity = "medium" if gain[1] > point else "low" if gain[0] > point else "none"
    message = (
        f"With twice the data, {2 * size:,} examples, {score.name} {score.range(twice)} is expected, a gain of "
        f"{_format_gain(score, gain)} on average."
    )
    if gain[1] <= 0 and severity != "none":
        message += " The interval includes no gain."
    if severity == "none":
        message += " More of the same data is not expected to help much."
    collect = Remedy(text=f"Collect more examples like these: with {2 * size:,} expect {score.range(twice)}.")
    return MORE.found(
        severity,
        message + answer,
        measures=tuple(measures),
        evidence=evidence,
        remedies=() if severity == "none" else (collect,),
    )


def judge_enough_data(pool: Pool, trainings: Trainings) -> Finding:
    """Reports the smallest number of examples whose score is within a point of that with all of them."""
    curve, score = trainings.curve, Score(pool.features.task)
    if curve is None:
        return ENOUGH.cannot_tell(trainings.why_no_curve)
    if curve.misfit < THRESHOLDS.misfit:
        return ENOUGH.cannot_tell("; ".join(curve.doubts()))
    least, full = int(curve.sizes.min()), int(curve.sizes.max())
    found = full
    for size in np.unique(np.geomspace(least, full, _DRAWN).astype(int))[::-1]:
        if curve.gain(float(size), full)[2] > THRESHOLDS.point * _unit(pool):
            break
        found = int(size)
    point = "a point of accuracy" if score.is_accuracy else "a hundredth of the label's variance"
    measures = (
        Measure(name="examples that come within a point of all of them", value=found, kind="count"),
        Measure(name="of all training examples", value=found / full, kind="share"),
    )
    evidence = (_draw(curve, score), _tabulate(curve, score))
    if found > full / 2:
        message = f"With half of the {full:,} training examples the {score.name} may be worse by more than {point}."
        return ENOUGH.none(message, measures=measures, evidence=evidence)
    remedies = []
    if score.is_accuracy:
        each = -(-found // len(pool.features.class_names))
        text = f"Try changes on {each} training examples of each class first: that is faster and as informative."
        remedies.append(Remedy(text=text, overrides={"data.examples_per_class": each}))
    tried = " (the smallest size that was tried)" if found == least else ""
    return ENOUGH.found(
        "low",
        f"Fewer examples would do: with {found:,} of the {full:,} training examples{tried} the {score.name} is within "
        f"{point} of that with all.",
        measures=measures,
        evidence=evidence,
        remedies=tuple(remedies),
    )


def _answer_wanted(curve: LearningCurve, score: Score, wanted: float) -> tuple[str, list[Measure]]:
    """Says how many examples a wanted score takes."""
    needed = curve.needed(score.error(wanted))
    if needed.examples is None:
        return f" {score.name} {wanted:g}: cannot tell: {needed.reason}.", []
    high = f"{needed.high:,.0f}" if np.isfinite(needed.high) else "no upper bound, as it may never be reached"
    text = f" {score.name} {wanted:g}: about {needed.examples:,.0f} examples (95 %: {needed.low:,.0f} to {high})."
    measure = Measure(
        name=f"examples for {score.name} {wanted:g}",
        value=needed.examples,
        low=needed.low,
        high=needed.high,
        kind="count",
    )
    return text, [measure]


def _unit(pool: Pool) -> float:
    """The unit of which a point is a hundredth."""
    return 1.0 if pool.features.task == "classification" else float(pool.labels[pool.splits["train"]].var())


def _format_gain(score: Score, gain: Interval) -> str:
    mean, low, high = ((100 * value if score.is_accuracy else value) for value in gain)
    unit = "points of accuracy" if score.is_accuracy else "in mean squared error"
    return f"{mean:.3g} {unit} (95 %: {low:.3g} to {high:.3g})"


def _draw(curve: LearningCurve, score: Score) -> Evidence:
    """Draws what was measured, and the power law up to twice the data."""
    measured = []
    for size in np.unique(curve.sizes):
        mean, low, high = score.interval(mean_interval(curve.errors[curve.sizes == size]))
        measured.append((size, mean, low, high))
    law = [
        (size, *score.interval(curve.error(float(size))))
        for size in np.geomspace(curve.sizes.min(), 2 * curve.sizes.max(), _DRAWN)
    ]
    return Curves(
        title="Learning curve, judged on the test split",
        x_label="training examples",
        y_label=score.name,
        lines={"measured, mean over seeds": np.array(measured), "power law": np.array(law)},
        log_x=True,
    )


def _tabulate(curve: LearningCurve, score: Score) -> Table:
    rows = []
    for size in np.unique(curve.sizes):
        errors = curve.errors[curve.sizes == size]
        rows.append((int(size), len(errors), *map(float, score.interval(mean_interval(errors)))))
    return Table(
        title="Trainings on growing subsets of the training rows",
        header=("examples", "trainings", score.name, "from", "to"),
        rows=tuple(rows),
    )
