"""The distribution of labels: small or absent classes, and numbers that are skewed or far out."""

import numpy as np
from scipy import stats

from diagnostics.diagnostic import Diagnostic
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Histogram, Measure, Question, Remedy, Rows, Table
from diagnostics.material import Material
from diagnostics.phrases import choose, quote
from diagnostics.severity import Severity, worst
from diagnostics.statistics import Interval, wilson_interval
from diagnostics.thresholds import THRESHOLDS
from plumbline import pluralize

QUESTION = Question("class_imbalance", "data quality")

# Classes that are listed, half of them the smallest and half the largest; and rows that are.
_SHOWN_CLASSES, _SHOWN_ROWS = 40, 20
# Draws of a bootstrap, and rows of each.
_DRAWS, _DRAWN_ROWS = 200, 5000


def find(material: Material) -> list[Finding]:
    """Compares the sizes of classes, or looks for regression labels that are skewed or far out."""
    examples = material.examples
    return [_judge_classes(examples) if examples.features.task == "classification" else _judge_values(examples)]


def _judge_classes(examples: Examples) -> Finding:
    names = examples.features.class_names
    counts = {
        name: np.bincount(split.labels, minlength=len(names)).astype(np.int64)
        for name, split in examples.splits.items()
    }
    train = counts["train"]
    # For each other split, the classes that are trained on but have no row there.
    unmeasured = {
        name: np.flatnonzero((counts[name] == 0) & (train > 0))
        for name in counts
        if name != "train" and ((counts[name] == 0) & (train > 0)).any()
    }
    there = np.flatnonzero(train)
    smallest, largest = (int(there[pick(train[there])]) for pick in (np.argmin, np.argmax))
    total, ratio = int(train.sum()), float(train[largest] / train[smallest])
    severity = _grade(train, ratio, unmeasured)
    return QUESTION.found(
        severity,
        " ".join(_describe_classes(names, train, smallest, largest, unmeasured, severity)),
        measures=(
            Measure(name="rows of the largest class for one of the smallest", value=ratio),
            Measure.of(f"training share of '{names[smallest]}'", wilson_interval(train[smallest], total), "share"),
            Measure.of(f"training share of '{names[largest]}'", wilson_interval(train[largest], total), "share"),
        ),
        evidence=(_table(examples, counts),),
        remedies=_class_remedies(names, train, severity, ratio),
    )


def _grade(train: np.ndarray, ratio: float, unmeasured: dict[str, np.ndarray]) -> Severity:
    graded = THRESHOLDS.class_ratio.grade(ratio)
    few = ((train > 0) & (train < THRESHOLDS.few_class_rows)).any()
    if (train == 0).any():
        return "high"
    if few or "test" in unmeasured:
        return worst(graded, "medium")
    return worst(graded, "low") if unmeasured else graded


def _describe_classes(
    names: tuple[str, ...],
    train: np.ndarray,
    smallest: int,
    largest: int,
    unmeasured: dict[str, np.ndarray],
    severity: Severity,
) -> list[str]:
    """Says how large the classes are, which of them are absent, and what follows; a list of sentences."""
    total, ratio = int(train.sum()), float(train[largest] / train[smallest])
    share, majority = float(train[smallest] / total), float(train[largest] / total)
    absent = np.flatnonzero(train == 0)
    few = np.flatnonzero((train > 0) & (train < THRESHOLDS.few_class_rows))
    sentences = [f"Each of {len(names)} classes has {pluralize(int(train[smallest]), 'training row')}."]
    if ratio > 1:
        sentences = [
            f"The smallest of {len(names)} classes, '{names[smallest]}', has "
            f"{pluralize(int(train[smallest]), 'training row')} ({share:.1%}), the largest, '{names[largest]}', "
            f"{int(train[largest])} ({majority:.1%}): a ratio of {ratio:.1f}."
        ]
    if len(absent):
        sentences.append(f"{_list(names, absent)}: no training row, so the model cannot learn the class.")
    for name, missing in unmeasured.items():
        sentences.append(f"{_list(names, missing)}: no {name} row, so nothing is measured there.")
    if len(few) and severity != "high":
        sentences.append(
            f"{_list(names, few)}: fewer than {THRESHOLDS.few_class_rows} training rows, too few for folds."
        )
    if ratio >= THRESHOLDS.class_ratio.low:
        little = ", so accuracy says little" if majority >= THRESHOLDS.majority_share else ""
        sentences.append(f"Always predicting '{names[largest]}' has accuracy {majority:.1%}{little}.")
    return sentences


def _list(names: tuple[str, ...], labels: np.ndarray) -> str:
    return quote(names[label] for label in labels.tolist())


def _table(examples: Examples, counts: dict[str, np.ndarray]) -> Table:
    names = examples.features.class_names
    order = np.argsort(counts["train"], kind="stable")
    title = "Rows by class and split, the smallest class first"
    if len(order) > _SHOWN_CLASSES:
        order = np.concatenate([order[: _SHOWN_CLASSES // 2], order[-_SHOWN_CLASSES // 2 :]])
        title = f"Rows by class and split: the {_SHOWN_CLASSES // 2} smallest and largest of {len(names)} classes"
    header = ["class"]
    for name in counts:
        header += [f"{name}: rows", f"{name}: share"]
    rows = []
    for label in order.tolist():
        cells: list[str | float] = [names[label]]
        for count in counts.values():
            cells += [int(count[label]), float(count[label] / max(count.sum(), 1))]
        rows.append(tuple(cells))
    return Table(title=title, header=tuple(header), rows=tuple(rows))


def _class_remedies(names: tuple[str, ...], train: np.ndarray, severity: Severity, ratio: float) -> tuple[Remedy, ...]:
    if severity == "none":
        return ()
    remedies, imbalanced = [], THRESHOLDS.class_ratio.low
    small = np.flatnonzero(train < max(train.max() / imbalanced, THRESHOLDS.few_class_rows))
    if ratio >= imbalanced:
        text = "Weight classes in the loss by the inverse of their share, and judge by the metrics of each class."
        remedies.append(Remedy(text=text, overrides={"data.class_weights": "balanced"}))
    if len(small):
        remedies.append(Remedy(text=f"Collect more rows of {_list(names, small)}."))
    if (train == 0).any() and (train > 0).sum() > 1:
        present = tuple(name for name, count in zip(names, train, strict=True) if count)
        remedies.append(Remedy(text="Leave out classes without training rows.", overrides={"data.classes": present}))
    if not remedies:
        remedies.append(Remedy(text="Hold out more rows, so that each split has rows of each class."))
    return tuple(remedies)


def _judge_values(examples: Examples) -> Finding:
    positions = np.flatnonzero(examples.split != "test")
    labels = examples.labels.astype(np.float64)
    train = labels[examples.positions("train")]
    histogram = Histogram(
        title="Labels by split",
        label=examples.features.target,
        values={name: split.labels for name, split in examples.splits.items()},
    )
    if train.std() <= 1e-7 * abs(train.mean()):
        return QUESTION.found(
            "high",
            f"All {len(train)} training rows have the label {train[0]:.6g}: there is nothing to learn.",
            measures=(Measure(name="standard deviation of the training labels", value=0.0),),
            evidence=(histogram,),
        )
    skewness, centre = _skewness(train), np.median(train)
    skewed = abs(skewness[0]) >= THRESHOLDS.skewness
    scale = stats.median_abs_deviation(train, scale="normal") or train.std()
    distance = np.abs(labels - centre) / scale
    far = positions[distance[positions] > THRESHOLDS.far_label]
    squares = np.square(train - train.mean())
    share = float(squares[np.abs(train - centre) / scale > THRESHOLDS.far_label].sum() / squares.sum())
    severity: Severity = "low" if len(far) or skewed else "none"
    if share >= THRESHOLDS.far_labels_share:
        severity = "medium"
    message = f"Training labels have the median {centre:.4g} and the skewness {skewness[0]:.2f}"
    message += ", so a few large errors outweigh many small ones." if skewed else "."
    if len(far):
        message += (
            f" {pluralize(len(far), 'label')} outside the test split {choose(len(far), 'lies', 'lie')} more than "
            f"{THRESHOLDS.far_label:.0f} robust deviations from the median, and {choose(len(far), 'makes', 'make')} up "
            f"{share:.0%} of the squared deviations in training."
        )
    remedies = (
        Remedy(text="Check the labels far out against their source, for wrong units and codes for missing values."),
        Remedy(text="Predict the logarithm of the label, if it is positive and spans orders of magnitude."),
    )
    return QUESTION.found(
        severity,
        message,
        measures=(
            Measure.of("skewness of the training labels", skewness),
            Measure(name="labels far out", value=float(len(far)), kind="count"),
            Measure(name="share of the squared deviations that they make up", value=share, kind="share"),
        ),
        evidence=(histogram, *(_list_far(labels, far, distance) if len(far) else ())),
        remedies=() if severity == "none" else remedies,
    )


def _list_far(labels: np.ndarray, far: np.ndarray, distance: np.ndarray) -> tuple[Rows]:
    order = far[np.argsort(-distance[far], kind="stable")][:_SHOWN_ROWS].tolist()
    rows = Rows(
        title="Labels far out",
        clusters=tuple((position,) for position in order),
        notes=tuple(f"{labels[position]:.6g}" for position in order),
        total=len(far),
    )
    return (rows,)


def _skewness(values: np.ndarray) -> Interval:
    """Computes the skewness with a bootstrap interval of percentiles; large sets are drawn in part."""
    drawn = min(len(values), _DRAWN_ROWS)
    rows = np.random.default_rng(0).integers(len(values), size=(_DRAWS, drawn))
    (estimate,), others = _third_moment(values[None, :]), _third_moment(values[rows])
    # Fewer rows vary more, by the square root of their number.
    low, high = np.quantile(others - estimate, [0.025, 0.975]) * np.sqrt(drawn / len(values))
    return (float(estimate), float(estimate + low), float(estimate + high))


def _third_moment(values: np.ndarray) -> np.ndarray:
    """Computes the skewness (k,) of each of k rows of values; 0 for constant ones."""
    centred = values - values.mean(axis=1, keepdims=True)
    variance = np.square(centred).mean(axis=1)
    there = variance > 0
    return np.where(there, (centred**3).mean(axis=1) / np.where(there, variance, 1) ** 1.5, 0)


DIAGNOSTIC = Diagnostic(title="class_imbalance", questions=(QUESTION,), find=find)
