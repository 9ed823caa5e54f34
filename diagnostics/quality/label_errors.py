"""Labels that are likely wrong, by the predictions of models that were not trained on them.

Uses confident learning (Northcutt, Jiang & Chuang 2021) from cleanlab for each seed of a cross-validation, and combines
the seeds into a probability for each label to be wrong.
"""

import dataclasses

import numpy as np
from scipy import optimize, special

from diagnostics.cross_validation import OutOfFold
from diagnostics.diagnostic import Diagnostic
from diagnostics.examples import Examples
from diagnostics.finding import Evidence, Finding, Histogram, Measure, Question, Remedy, Rows, Table, drop_remedy
from diagnostics.material import Material
from diagnostics.phrases import choose
from diagnostics.statistics import Interval, mean_interval, wilson_interval, within
from diagnostics.thresholds import THRESHOLDS
from plumbline import pluralize

QUESTION = Question("label_errors", "data quality")

# If fewer rows of a class remain, the models do not know the class and cannot judge its labels.
_LEAST_LEFT = 0.1
# Rows and pairs of classes that are listed.
_MOST_ROWS, _MOST_PAIRS = 50, 20
# Smallest probability, so that a single model cannot outvote all others.
_LEAST_PROBABILITY = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """Labels as judged by the models of several seeds.

    Attributes:
      wrong: (n,) probability that each label is wrong.
      flags: (S, n) bool, the rows that cleanlab flags by the predictions of each seed.
      numbers: (S,) int, the estimated number of wrong labels for each seed.
      likely: (n,) int, the most likely class.
    """

    wrong: np.ndarray
    flags: np.ndarray
    numbers: np.ndarray
    likely: np.ndarray


def find(material: Material) -> list[Finding]:
    """Judges the labels of all rows that were in folds; test labels are not judged.

    The finding's `drop` are the rows more likely wrong than right, its `weights` 1 minus the probability to be wrong.
    """
    return [judge(material.examples, material.trainings.out_of_fold)]


def judge(examples: Examples, out_of_fold: OutOfFold) -> Finding:
    """Judges labels by out-of-fold predictions.

    Args:
      examples: of the set.
      out_of_fold: predictions, whose `rows` are positions in `examples`; not read for a regression.
    """
    if examples.features.task != "classification":
        return QUESTION.cannot_tell("the labels are quantities, which are not right or wrong by themselves")
    seeds = np.isfinite(out_of_fold.predictions).all(axis=(1, 2))
    if not seeds.any():
        return QUESTION.cannot_tell("a training of each seed diverged, so no seed predicts all rows")
    # Corrupt images were not read by the models.
    chosen = examples.sound(out_of_fold.rows)
    rows, predictions = out_of_fold.rows[chosen], out_of_fold.predictions[seeds][:, chosen]
    labels = examples.labels[rows]
    if len(np.unique(labels)) < 2:
        return QUESTION.cannot_tell("all rows are of one class")
    majority = np.bincount(labels).max() / len(labels)
    right = (predictions.argmax(axis=-1) == labels).mean()
    if wilson_interval(right * len(labels), len(labels))[1] <= majority:
        return QUESTION.cannot_tell(
            f"models that were not trained on a row are right in {right:.1%} of cases, no better than the majority "
            f"class ({majority:.1%}); either the inputs do not predict the labels, or the training fails"
        )
    used = tuple(seed for seed, finite in zip(out_of_fold.splits.seeds, seeds, strict=True) if finite)
    return _report(examples, rows, estimate(labels, predictions), predictions.mean(axis=0), used)


def find_issues(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Returns the rows (n,) bool that cleanlab flags as mislabelled, by pruning at the estimated noise rates.

    Args:
      labels: (n,) int.
      predictions: (n, C) probabilities of models that were not trained on the row.
    """
    from cleanlab.filter import find_label_issues

    # In this process: a process with JAX's threads must not be forked.
    return find_label_issues(labels, predictions, n_jobs=1)


def estimate(labels: np.ndarray, predictions: np.ndarray) -> Judgement:
    """Estimates how likely each label is wrong.

    The log odds of the most likely other class against the given one are averaged over the seeds. Models trained on
    wrong labels are unsure of right ones too, and their odds are off by about the same factor for all rows. So one
    factor is chosen for all rows, such that the probabilities add up to the number of wrong labels that confident
    learning estimates (mean over seeds). As in correcting a classifier for another prior (Saerens, Latinne &
    Decaestecker 2002, section 2.2), the ranking does not change.

    Args:
      labels: (n,) int, of at least two classes.
      predictions: (S, n, C) probabilities, for each seed by models that were not trained on the row.
    """
    from cleanlab.count import num_label_issues

    predictions = predictions.astype(np.float64)
    flags = np.stack([find_issues(labels, each) for each in predictions])
    numbers = np.array(
        [num_label_issues(labels, each, estimation_method="off_diagonal_calibrated") for each in predictions]
    )
    given = np.arange(predictions.shape[-1]) == labels[:, None]
    logs = np.log(np.maximum(predictions, _LEAST_PROBABILITY))
    odds = (np.where(given, -np.inf, logs).max(axis=-1) - logs[:, given]).mean(axis=0)
    likely = predictions.mean(axis=0).argmax(axis=-1)
    return Judgement(wrong=_scale(odds, numbers.mean()), flags=flags, numbers=numbers, likely=likely)


def _scale(odds: np.ndarray, number: float) -> np.ndarray:
    """Turns log odds (n,) into probabilities (n,), shifted by a constant so that they add up to a number."""
    # If all labels or none are estimated to be wrong, there is nothing to distribute.
    if not 0 < number < len(odds):
        return np.full(len(odds), float(number > 0))
    # Shifts at which all probabilities are 1 or 0.
    far = np.abs(odds).max() + 50.0
    return special.expit(odds + optimize.brentq(lambda shift: special.expit(odds + shift).sum() - number, -far, far))


def _report(
    examples: Examples, rows: np.ndarray, found: Judgement, predictions: np.ndarray, seeds: tuple[int, ...]
) -> Finding:
    names, labels = examples.features.class_names, examples.labels[rows]
    suspect = found.wrong > THRESHOLDS.wrong_label
    unknown = [label for label in np.unique(labels) if 1 - suspect[labels == label].mean() < _LEAST_LEFT]
    judged = ~np.isin(labels, unknown)
    suspect &= judged
    weights = np.ones(len(examples), np.float32)
    weights[rows[judged]] = 1 - found.wrong[judged]
    number: Interval = within(mean_interval(found.numbers), 0, len(rows))
    share = wilson_interval(int(suspect.sum()), len(rows))
    drop = np.sort(rows[suspect])
    message = f"None of {pluralize(len(rows), 'label')} is more likely wrong than right."
    if suspect.any():
        message = (
            f"{pluralize(len(drop), 'label')} of {len(rows)} ({share[0]:.1%}) {choose(len(drop), 'is', 'are')} more "
            f"likely wrong than right, by models of {pluralize(len(seeds), 'seed')} that were not trained on the row. "
            "Wrong labels mislead the training; some of these may be right but hard, so check the worst."
        )
    if unknown:
        listed = ", ".join(f"'{names[label]}'" for label in unknown)
        message += f" Labels of {listed} cannot be judged, as the models hardly know the class."
    remedies = (
        *drop_remedy(QUESTION.name, drop, "Leave these rows out of training."),
        Remedy(
            text="Weight each row by the probability that its label is right.",
            overrides={"data.weights": f"findings:{QUESTION.name}"},
        ),
        Remedy(text="Have the worst rows labelled again by someone who does not see their labels."),
    )
    return QUESTION.found(
        THRESHOLDS.wrong_labels.grade(share[0]),
        message,
        measures=(
            Measure.of("rows whose label is more likely wrong than right", share, "share"),
            Measure.of("wrong labels, estimated", number, "count"),
            Measure(name="rows judged", value=len(rows), kind="count"),
        ),
        evidence=_evidence(examples, rows, found, predictions, seeds, suspect),
        remedies=remedies if suspect.any() else (),
        drop=drop,
        weights=weights,
    )


def _evidence(
    examples: Examples,
    rows: np.ndarray,
    found: Judgement,
    predictions: np.ndarray,
    seeds: tuple[int, ...],
    suspect: np.ndarray,
) -> tuple[Evidence, ...]:
    names, labels = examples.features.class_names, examples.labels[rows]
    worst = np.flatnonzero(suspect)[np.argsort(-found.wrong[suspect], kind="stable")]
    flagged = found.flags.sum(axis=0)
    notes = tuple(
        f"labelled '{names[labels[row]]}', predicted '{names[found.likely[row]]}' "
        f"({predictions[row, found.likely[row]]:.2f}); wrong with probability {found.wrong[row]:.2f}, "
        f"flagged in {flagged[row]} of {pluralize(len(found.flags), 'seed')}"
        for row in worst[:_MOST_ROWS]
    )
    pairs, counts = np.unique(np.stack([labels[worst], found.likely[worst]], axis=1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MOST_PAIRS]
    return (
        Rows(
            title="Labels that are likely wrong",
            clusters=tuple((int(rows[row]),) for row in worst[:_MOST_ROWS]),
            notes=notes,
            total=len(worst),
        ),
        Table(
            title="Classes that are confused",
            header=("label", "predicted", "rows", "share of the label"),
            rows=tuple(
                (names[given], names[likely], int(count), f"{count / (labels == given).sum():.1%}")
                for (given, likely), count in zip(pairs[order], counts[order], strict=True)
            ),
        ),
        Table(
            title="Wrong labels by seed",
            header=("seed", "flagged by cleanlab", "estimated"),
            rows=tuple(
                (seed, int(flags.sum()), int(number))
                for seed, flags, number in zip(seeds, found.flags, found.numbers, strict=True)
            ),
        ),
        Histogram(
            title="Probability that a label is wrong",
            label="probability of being wrong",
            values={"rows": found.wrong},
            marks={"more likely wrong than right": THRESHOLDS.wrong_label},
        ),
    )


DIAGNOSTIC = Diagnostic(title="label_errors", questions=(QUESTION,), find=find, needs=("trainings",))
