"""Labels that are likely wrong, by the predictions of models that were not trained on them.

Confident learning (Northcutt, Jiang & Chuang 2021) of cleanlab, for each seed of a cross-validation; over the seeds,
each row gets a probability of being wrong.
"""

import dataclasses

import numpy as np
from scipy import optimize, special

from diagnostics.cross_validation import OutOfFold
from diagnostics.examples import Examples
from diagnostics.finding import Evidence, Finding, Histogram, Measure, Remedy, Rows, Table, cannot_judge
from diagnostics.statistics import Interval, mean_interval, wilson_interval, within
from plumbline import counted

THRESHOLD = 0.5
"""Probability above which a label is more likely wrong than right, and its row is named to be dropped."""

_NAME, _CHALLENGE = "label_errors", "data quality"
# A class of whose rows fewer are left is one that the models do not know: they cannot judge its labels.
_LEAST_LEFT = 0.1
_MOST_ROWS, _MOST_PAIRS = 50, 20
# What no probability is taken to be smaller than, so that a single model cannot outvote all others.
_LEAST_PROBABILITY = 1e-12
_SEVERITIES = ((0.05, "high"), (0.01, "medium"), (0.0, "low"))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """What the models of several seeds make of labels.

    Attributes:
      wrong: (n,) probability that each label is wrong.
      flags: (S, n) bool, the rows that cleanlab finds by the predictions of each seed.
      numbers: (S,) int, how many labels are wrong by the estimate of each seed.
      likely: (n,) int, the class that the models hold for the most likely.
    """

    wrong: np.ndarray
    flags: np.ndarray
    numbers: np.ndarray
    likely: np.ndarray


def find(examples: Examples, out_of_fold: OutOfFold) -> list[Finding]:
    """Looks for wrong labels among the rows that were dealt into folds; the others, the test's, are not judged.

    Args:
      examples: of the set.
      out_of_fold: predictions, whose `rows` are positions in `examples`.

    Returns:
      The finding "label_errors". Its `drop` are the rows more likely wrong than right, its `weights` 1 less the
      probability of being wrong.
    """
    if examples.features.task != "classification":
        return [_cannot("the labels are quantities, of which none is right or wrong by itself")]
    seeds = np.isfinite(out_of_fold.predictions).all(axis=(1, 2))
    if not seeds.any():
        return [_cannot("in each seed of the cross-validation a training diverged, so no seed predicts all rows")]
    # Of a corrupt image the models saw nothing.
    chosen = examples.sound(out_of_fold.rows)
    rows, predictions = out_of_fold.rows[chosen], out_of_fold.predictions[seeds][:, chosen]
    labels = examples.labels[rows]
    if len(np.unique(labels)) < 2:
        return [_cannot("all rows are of one class")]
    commonest = np.bincount(labels).max() / len(labels)
    right = (predictions.argmax(axis=-1) == labels).mean()
    if wilson_interval(right * len(labels), len(labels))[1] <= commonest:
        return [
            _cannot(
                f"the models that were not trained on a row are right in {right:.1%} of cases, no more than the "
                f"commonest class is ({commonest:.1%}); either the inputs do not tell the labels, or the training fails"
            )
        ]
    used = tuple(seed for seed, finite in zip(out_of_fold.deal.seeds, seeds, strict=True) if finite)
    return [_found(examples, rows, judge(labels, predictions), predictions.mean(axis=0), used)]


def issues(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """The rows (n,) bool that cleanlab finds to be mislabelled, by pruning at the estimated rates of noise.

    Args:
      labels: (n,) int.
      predictions: (n, C) probabilities of models that were not trained on the row.
    """
    from cleanlab.filter import find_label_issues

    # In this process: one that has JAX's threads must not be forked.
    return find_label_issues(labels, predictions, n_jobs=1)


def judge(labels: np.ndarray, predictions: np.ndarray) -> Judgement:
    """How likely each label is wrong.

    For each row, the odds of the likeliest other class against the given one, averaged over the seeds as logarithms, so
    that each seed has the same say. A model that is trained on wrong labels is unsure of right ones as well, and its
    odds are off by about the same factor for all rows; so one factor for all is chosen, by which the probabilities add
    up to the number of wrong labels that confident learning estimates (mean over seeds). As in correcting a classifier
    for another prior (Saerens, Latinne & Decaestecker 2002, section 2.2), the ranking stays.

    Args:
      labels: (n,) int, of at least two classes.
      predictions: (S, n, C) probabilities, for each seed by models that were not trained on the row.
    """
    from cleanlab.count import num_label_issues

    predictions = predictions.astype(np.float64)
    flags = np.stack([issues(labels, each) for each in predictions])
    numbers = np.array(
        [num_label_issues(labels, each, estimation_method="off_diagonal_calibrated") for each in predictions]
    )
    given = np.arange(predictions.shape[-1]) == labels[:, None]
    logs = np.log(np.maximum(predictions, _LEAST_PROBABILITY))
    odds = (np.where(given, -np.inf, logs).max(axis=-1) - logs[:, given]).mean(axis=0)
    likely = predictions.mean(axis=0).argmax(axis=-1)
    return Judgement(wrong=_scaled(odds, numbers.mean()), flags=flags, numbers=numbers, likely=likely)


def _scaled(odds: np.ndarray, number: float) -> np.ndarray:
    """Probabilities (n,) of log odds (n,), all moved by the same so that they add up to a number."""
    # With an error estimated in every row, or in none, there is nothing to share out.
    if not 0 < number < len(odds):
        return np.full(len(odds), float(number > 0))
    # Moved so far, all are 1, or 0.
    far = np.abs(odds).max() + 50.0
    return special.expit(odds + optimize.brentq(lambda moved: special.expit(odds + moved).sum() - number, -far, far))


def _found(
    examples: Examples, rows: np.ndarray, found: Judgement, predictions: np.ndarray, seeds: tuple[int, ...]
) -> Finding:
    names, labels = examples.features.class_names, examples.labels[rows]
    suspect = found.wrong > THRESHOLD
    unknown = [label for label in np.unique(labels) if 1 - suspect[labels == label].mean() < _LEAST_LEFT]
    judged = ~np.isin(labels, unknown)
    suspect &= judged
    weights = np.ones(len(examples), np.float32)
    weights[rows[judged]] = 1 - found.wrong[judged]
    number: Interval = within(mean_interval(found.numbers), 0, len(rows))
    share = wilson_interval(int(suspect.sum()), len(rows))
    severity = next((name for least, name in _SEVERITIES if share[0] > least), "none")
    message = f"No label of {len(rows)} is more likely wrong than right."
    if suspect.any():
        verb = "is" if suspect.sum() == 1 else "are"
        message = (
            f"{counted(int(suspect.sum()), 'label')} of {len(rows)} ({share[0]:.1%}) {verb} more likely wrong than "
            f"right, by models of {counted(len(seeds), 'seed')} that were not trained on the row. A wrong label "
            "teaches what is false; some of these may be right and hard to tell, so look at the worst."
        )
    if unknown:
        listed = ", ".join(f"'{names[label]}'" for label in unknown)
        message += f" Of the labels of {listed} nothing can be said, as the models hardly know the class."
    remedies = (
        Remedy(text="Leave these rows out of the training.", overrides={"data.drop": f"findings:{_NAME}"}),
        Remedy(
            text="Weigh each row by the probability that its label is right.",
            overrides={"data.weights": f"findings:{_NAME}"},
        ),
        Remedy(text="Have the worst rows labelled again by someone who does not see the label they have."),
    )
    return Finding(
        name=_NAME,
        challenge=_CHALLENGE,
        severity=severity,
        message=message,
        measures=(
            Measure.of("rows whose label is more likely wrong than right", share, "share"),
            Measure.of("wrong labels, estimated", number, "count"),
            Measure(name="rows judged", value=len(rows), kind="count"),
        ),
        evidence=_evidence(examples, rows, found, predictions, seeds, suspect),
        remedies=remedies if suspect.any() else (),
        drop=np.sort(rows[suspect]),
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
        f"labelled '{names[labels[row]]}', the models say '{names[found.likely[row]]}' "
        f"({predictions[row, found.likely[row]]:.2f}); wrong with probability {found.wrong[row]:.2f}, "
        f"flagged in {flagged[row]} of {counted(len(found.flags), 'seed')}"
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
            title="Classes that are taken for others",
            header=("labelled", "the models say", "rows", "of those labelled so"),
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
            title="How likely labels are wrong",
            label="probability of being wrong",
            values={"rows": found.wrong},
            marks={"more likely wrong than right": THRESHOLD},
        ),
    )


def _cannot(reason: str) -> Finding:
    return cannot_judge(_NAME, _CHALLENGE, reason)
