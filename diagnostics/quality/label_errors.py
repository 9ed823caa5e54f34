"""Labels that are likely wrong, by the predictions of models that were not trained on them.

Overlapping classes explain a part of the labels that the models contradict. What they do not explain is the number of
wrong labels (`diagnostics.quality.label_noise`), and only where there are such rows have a probability to be wrong.
"""

import dataclasses

import numpy as np
from scipy import special, stats

from diagnostics.cross_validation import OutOfFold
from diagnostics.diagnostic import Diagnostic
from diagnostics.examples import Examples
from diagnostics.finding import Evidence, Finding, Histogram, Measure, Question, Remedy, Rows, Table, drop_remedy
from diagnostics.material import Material
from diagnostics.phrases import choose
from diagnostics.quality import label_noise
from diagnostics.statistics import Interval, wilson_interval
from diagnostics.thresholds import THRESHOLDS
from plumbline import pluralize

QUESTION = Question("label_errors", "data quality")

# If fewer rows of a class remain, the models do not know the class and cannot judge its labels.
_LEAST_LEFT = 0.1
# If a larger share of the rows of a table has the inputs of another row, labels differ among equal inputs, and wrong
# labels look like inputs that leave the label open.
_MOST_EQUAL = 0.5
# Rows and pairs of classes that are listed.
_MOST_ROWS, _MOST_PAIRS = 50, 20
# Smallest probability, so that a single model cannot outvote all others.
_LEAST_PROBABILITY = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """Labels as judged by the models of several seeds.

    Attributes:
      wrong: (n,) probability that each label is wrong, if wrong labels are as frequent as estimated.
      flags: (S, n) bool, the rows that cleanlab flags by the predictions of each seed.
      share: of wrong labels, beyond what overlapping classes explain.
      p_value: of no wrong labels.
      likely: (n,) int, the most likely class.
      contradicted: (n,) log odds of the most likely other class against the label, for the order of rows.
    """

    wrong: np.ndarray
    flags: np.ndarray
    share: Interval
    p_value: float
    likely: np.ndarray
    contradicted: np.ndarray

    @property
    def certain(self) -> bool:
        """Whether there are wrong labels, so that the probabilities are calibrated."""
        return self.p_value <= THRESHOLDS.wrong_labels_level and self.share[1] > 0


def find(material: Material) -> list[Finding]:
    """Judges the labels of all rows that were in folds; test labels are not judged.

    The finding's `drop` are the rows more likely wrong than right, its `weights` 1 minus the probability to be wrong;
    none where the errors can be due to overlapping classes.
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
    if (equal := _equal_inputs(examples, rows)) > _MOST_EQUAL:
        return QUESTION.cannot_tell(
            f"{equal:.0%} of the rows have the inputs of another row, and among equal inputs wrong labels look like "
            "labels that the inputs leave open"
        )
    used = tuple(seed for seed, finite in zip(out_of_fold.splits.seeds, seeds, strict=True) if finite)
    return _report(examples, rows, estimate(labels, predictions), predictions.mean(axis=0), used)


def _equal_inputs(examples: Examples, rows: np.ndarray) -> float:
    """Returns the share of the rows (n,) of a table whose inputs another one has as well; 0 for images and texts."""
    if examples.features.kind != "table":
        return 0.0
    inputs = np.ascontiguousarray(examples.read(rows))
    keys = inputs.reshape(len(rows), -1).view(np.dtype((np.void, inputs.dtype.itemsize * inputs[0].size))).ravel()
    _, counts = np.unique(keys, return_counts=True)
    return float(counts[counts > 1].sum() / len(rows))


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

    Log probabilities are averaged over the seeds. How sure the models are is compared among rows of one predicted
    class, as models are less sure of a class with more wrong labels. Given the rate of wrong labels and the overlap of
    the classes at a row, the probability follows by Bayes' rule, with wrong labels spread evenly over the classes.

    Args:
      labels: (n,) int, of at least two classes.
      predictions: (S, n, C) probabilities, for each seed by models that were not trained on the row.
    """
    predictions = predictions.astype(np.float64)
    count, num_classes = predictions.shape[1:]
    logs = np.log(np.maximum(predictions, _LEAST_PROBABILITY)).mean(axis=0)
    likely, own = logs.argmax(axis=-1), np.arange(count)
    is_likely = np.arange(num_classes) == likely[:, None]
    others = np.where(is_likely, -np.inf, logs)
    surest = _rank_by_class(logs[own, likely] - special.logsumexp(others, axis=-1), likely)
    noise = label_noise.estimate(likely != labels, surest, num_classes)
    # The overlap is shared out among the other classes as the models say.
    shared = special.softmax(others, axis=-1)[own, labels]
    wrong = np.zeros(count)
    for weight, rate, overlap in noise.possible:
        true = np.where(likely == labels, 1 - overlap, overlap * shared)
        mistaken = rate / (num_classes - 1) * (1 - true)
        wrong += weight * mistaken / np.maximum(mistaken + (1 - rate) * true, np.finfo(np.float64).tiny)
    is_label = np.arange(num_classes) == labels[:, None]
    contradicted = np.where(is_label, -np.inf, logs).max(axis=-1) - logs[own, labels]
    return Judgement(
        # The same probabilities in the order of the log odds, which rank better than ranks within a class.
        wrong=np.sort(wrong)[np.argsort(np.argsort(contradicted, kind="stable"), kind="stable")],
        flags=np.stack([find_issues(labels, each) for each in predictions]),
        share=noise.rate,
        p_value=noise.p_value,
        likely=likely,
        contradicted=contradicted,
    )


def _rank_by_class(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Returns ranks (n,) from 0 to 1 of values (n,) among those of the same class (n,)."""
    ranks = np.empty(len(values))
    for each in np.unique(classes):
        chosen = classes == each
        ranks[chosen] = (stats.rankdata(values[chosen]) - 0.5) / chosen.sum()
    return ranks


def _report(
    examples: Examples, rows: np.ndarray, found: Judgement, predictions: np.ndarray, seeds: tuple[int, ...]
) -> Finding:
    names, labels = examples.features.class_names, examples.labels[rows]
    suspect = (found.wrong > THRESHOLDS.wrong_label) & found.certain
    unknown = [label for label in np.unique(labels) if 1 - suspect[labels == label].mean() < _LEAST_LEFT]
    judged = ~np.isin(labels, unknown)
    suspect &= judged
    drop = np.sort(rows[suspect])
    weights = np.ones(len(examples), np.float32)
    if found.certain:
        weights[rows[judged]] = 1 - found.wrong[judged]
    number: Interval = tuple(share * len(rows) for share in found.share)
    message = _describe(found, number, len(rows), len(drop), len(seeds))
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
        # The lower bound: what is certain, and no more.
        THRESHOLDS.wrong_labels.grade(found.share[1]) if found.certain else "none",
        message,
        measures=(
            Measure.of("wrong labels, beyond what overlapping classes explain", number, "count"),
            Measure(name="p-value of no wrong labels", value=found.p_value, kind="p-value"),
            Measure(name="rows whose label is more likely wrong than right", value=len(drop), kind="count"),
            Measure(name="rows judged", value=len(rows), kind="count"),
        ),
        evidence=_evidence(examples, rows, found, predictions, seeds, suspect),
        remedies=remedies if suspect.any() else (),
        drop=drop,
        weights=weights if found.certain else None,
    )


def _describe(found: Judgement, number: Interval, total: int, dropped: int, seeds: int) -> str:
    models = f"models of {pluralize(seeds, 'seed')} that were not trained on the row"
    if not found.certain:
        return (
            f"Of {pluralize(total, 'label')} none is shown to be wrong: where {models} contradict them, overlapping "
            f"classes explain it, though up to {np.ceil(number[2]):,.0f} may be wrong."
        )
    return (
        f"About {number[0]:,.0f} labels of {total} (95 %: {number[1]:,.0f} to {number[2]:,.0f}) are wrong, beyond what "
        f"overlapping classes explain, if the inputs decide the label where {models} are surest. "
        f"{pluralize(dropped, 'label')} {choose(dropped, 'is', 'are')} more likely wrong than right. Wrong labels "
        "mislead the training; some of these may be right but hard, so check the worst."
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
    by_seed = Table(
        title="Wrong labels by seed",
        header=("seed", "flagged by cleanlab"),
        rows=tuple((seed, int(flags.sum())) for seed, flags in zip(seeds, found.flags, strict=True)),
    )
    if not found.certain:
        # In the order in which they are worth a look; how likely they are wrong is not known.
        worst = np.argsort(-found.contradicted, kind="stable")
        worst = worst[found.likely[worst] != labels[worst]]
        return (_list_rows(examples, rows, found, predictions, worst, "Labels that the models contradict"), by_seed)
    worst = np.flatnonzero(suspect)[np.lexsort((-found.contradicted[suspect], -found.wrong[suspect]))]
    pairs, counts = np.unique(np.stack([labels[worst], found.likely[worst]], axis=1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MOST_PAIRS]
    return (
        _list_rows(examples, rows, found, predictions, worst, "Labels that are likely wrong"),
        Table(
            title="Classes that are confused",
            header=("label", "predicted", "rows", "share of the label"),
            rows=tuple(
                (names[given], names[likely], int(count), f"{count / (labels == given).sum():.1%}")
                for (given, likely), count in zip(pairs[order], counts[order], strict=True)
            ),
        ),
        by_seed,
        Histogram(
            title="Probability that a label is wrong",
            label="probability of being wrong",
            values={"rows": found.wrong},
            marks={"more likely wrong than right": THRESHOLDS.wrong_label},
        ),
    )


def _list_rows(
    examples: Examples, rows: np.ndarray, found: Judgement, predictions: np.ndarray, worst: np.ndarray, title: str
) -> Rows:
    """Lists the rows `worst` (w,) of those that were judged."""
    names, labels, flagged = examples.features.class_names, examples.labels[rows], found.flags.sum(axis=0)
    notes = []
    for row in worst[:_MOST_ROWS]:
        chance = f"wrong with probability {found.wrong[row]:.2f}, " if found.certain else ""
        notes.append(
            f"labelled '{names[labels[row]]}', predicted '{names[found.likely[row]]}' "
            f"({predictions[row, found.likely[row]]:.2f}); {chance}"
            f"flagged in {flagged[row]} of {pluralize(len(found.flags), 'seed')}"
        )
    clusters = tuple((int(rows[row]),) for row in worst[:_MOST_ROWS])
    return Rows(title=title, clusters=clusters, notes=tuple(notes), total=len(worst))


DIAGNOSTIC = Diagnostic(title="label_errors", questions=(QUESTION,), find=find, needs=("trainings",))
