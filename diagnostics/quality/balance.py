"""How the labels are spread: classes that are short or absent, and numbers that are skewed or far out."""

import numpy as np
from scipy import stats

from diagnostics.examples import Examples
from diagnostics.finding import Finding, Histogram, Measure, Remedy, Rows, Table
from diagnostics.statistics import Interval, wilson_interval
from plumbline import counted

_NAME, _CHALLENGE = "class_imbalance", "data quality"
# Rows of the largest class for one of the smallest. Of two classes that is a share of 25 %, 9 % and 1 % of the rows.
_MILD, _STRONG, _EXTREME = 3, 10, 100
# Training rows of a class below which folds, and figures by class, hang on single rows.
_FEW_ROWS = 10
# Classes that are shown, half of them the smallest ones and half the largest.
_SHOWN_CLASSES = 40
# Skewness as of an exponential distribution, from which on the mean says little of a usual label.
_SKEWED = 2.0
# Deviations from the median, by the median absolute one, from which a label is far out: one in 10^15 normal ones.
_FAR = 8.0
# Share of the squared deviations in training that is due to labels far out, from which on they rule the loss.
_RULING = 0.5
_SHOWN_ROWS = 20
# Draws of a bootstrap, and rows of each.
_DRAWS, _DRAWN_ROWS = 200, 5000


def find(examples: Examples) -> list[Finding]:
    """The finding `class_imbalance`; for regression it is about labels that are skewed or far out."""
    return [_classes(examples) if examples.features.task == "classification" else _values(examples)]


def _classes(examples: Examples) -> Finding:
    names = examples.features.class_names
    counts = {
        name: np.bincount(split.labels, minlength=len(names)).astype(np.int64)
        for name, split in examples.splits.items()
    }
    train = counts["train"]
    absent = np.flatnonzero(train == 0)
    unmeasured = [name for name in counts if name != "train" and ((counts[name] == 0) & (train > 0)).any()]
    there = np.flatnonzero(train)
    smallest, largest = (int(there[choose(train[there])]) for choose in (np.argmin, np.argmax))
    total, ratio = int(train.sum()), float(train[largest] / train[smallest])
    few = there[train[there] < _FEW_ROWS]
    if len(absent) or ratio >= _EXTREME:
        severity = "high"
    elif ratio >= _STRONG or len(few) or "test" in unmeasured:
        severity = "medium"
    else:
        severity = "low" if ratio >= _MILD or unmeasured else "none"
    share, majority = float(train[smallest] / total), float(train[largest] / total)
    message = [f"Each of {len(names)} classes has {counted(int(train[smallest]), 'training row')}."]
    if ratio > 1:
        message = [
            f"The smallest of {len(names)} classes, '{names[smallest]}', has "
            f"{counted(int(train[smallest]), 'training row')} ({share:.1%}), the largest, '{names[largest]}', "
            f"{int(train[largest])} ({majority:.1%}): {ratio:.1f} for one."
        ]
    if len(absent):
        message.append(f"No training row is of {_listed(names, absent)}: the model cannot learn it.")
    for name in unmeasured:
        message.append(
            f"No {name} row is of {_listed(names, np.flatnonzero((counts[name] == 0) & (train > 0)))}: "
            "nothing is measured there."
        )
    if len(few) and severity != "high":
        message.append(f"{_listed(names, few)}: fewer than {_FEW_ROWS} training rows, too few for folds.")
    if ratio >= _MILD:
        message.append(f"To answer '{names[largest]}' always is right in {majority:.1%}, so accuracy says little.")
    return Finding(
        name=_NAME,
        challenge=_CHALLENGE,
        severity=severity,
        message=" ".join(message),
        measures=(
            Measure(name="rows of the largest class for one of the smallest", value=ratio),
            Measure.of(f"training share of '{names[smallest]}'", wilson_interval(train[smallest], total), "share"),
            Measure.of(f"training share of '{names[largest]}'", wilson_interval(train[largest], total), "share"),
        ),
        evidence=(_table(examples, counts),),
        remedies=_class_remedies(names, train, severity, ratio),
    )


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


def _class_remedies(names: tuple[str, ...], train: np.ndarray, severity: str, ratio: float) -> tuple[Remedy, ...]:
    if severity == "none":
        return ()
    remedies = []
    short = np.flatnonzero(train < max(train.max() / _MILD, _FEW_ROWS))
    if ratio >= _MILD:
        text = "Weigh each class in the loss by the inverse of its share, and judge by the metrics of each class."
        remedies.append(Remedy(text=text, overrides={"data.class_weights": "balanced"}))
    if len(short):
        remedies.append(Remedy(text=f"Collect more rows of {_listed(names, short)}."))
    if (train == 0).any() and (train > 0).sum() > 1:
        kept = tuple(name for name, count in zip(names, train, strict=True) if count)
        remedies.append(Remedy(text="Leave out classes without training rows.", overrides={"data.classes": kept}))
    if not remedies:
        remedies.append(Remedy(text="Hold out more rows, so that each split has rows of each class."))
    return tuple(remedies)


def _values(examples: Examples) -> Finding:
    positions = np.flatnonzero(examples.split != "test")
    labels = examples.labels.astype(np.float64)
    train = labels[examples.positions("train")]
    histogram = Histogram(
        title="Labels by split",
        label=examples.features.target,
        values={name: split.labels for name, split in examples.splits.items()},
    )
    if train.std() <= 1e-7 * abs(train.mean()):
        return Finding(
            name=_NAME,
            challenge=_CHALLENGE,
            severity="high",
            message=f"All {len(train)} training rows have the label {train[0]:.6g}: there is nothing to learn.",
            measures=(Measure(name="standard deviation of the training labels", value=0.0),),
            evidence=(histogram,),
        )
    skewness = _skewness(train)
    centre = np.median(train)
    scale = stats.median_abs_deviation(train, scale="normal") or train.std()
    distance = np.abs(labels - centre) / scale
    far = positions[distance[positions] > _FAR]
    squares = np.square(train - train.mean())
    ruled = float(squares[np.abs(train - centre) / scale > _FAR].sum() / squares.sum())
    severity = "medium" if ruled >= _RULING else "low" if len(far) or abs(skewness[0]) >= _SKEWED else "none"
    message = [
        f"Training labels have the median {centre:.4g} and the skewness {skewness[0]:.2f}"
        + (", so few large errors outweigh many small ones." if abs(skewness[0]) >= _SKEWED else ".")
    ]
    if len(far):
        message.append(
            f"{counted(len(far), 'label')} outside the test split {'lies' if len(far) == 1 else 'lie'} more than "
            f"{_FAR:.0f} robust deviations from it, and {'makes' if len(far) == 1 else 'make'} up {ruled:.0%} of the "
            "squared deviations in training."
        )
    order = far[np.argsort(-distance[far], kind="stable")][:_SHOWN_ROWS].tolist()
    rows = Rows(
        title="Labels far out",
        clusters=tuple((position,) for position in order),
        notes=tuple(f"{labels[position]:.6g}" for position in order),
        total=len(far),
    )
    remedies = (
        Remedy(text="Check the labels far out against their source; units and sentinel values come like that."),
        Remedy(text="Predict the logarithm of the label, if it is a positive quantity that spans orders of magnitude."),
    )
    return Finding(
        name=_NAME,
        challenge=_CHALLENGE,
        severity=severity,
        message=" ".join(message),
        measures=(
            Measure.of("skewness of the training labels", skewness),
            Measure(name="labels far out", value=float(len(far)), kind="count"),
            Measure(name="share of the squared deviations that they make up", value=ruled, kind="share"),
        ),
        evidence=(histogram, rows) if len(far) else (histogram,),
        remedies=() if severity == "none" else remedies,
    )


def _skewness(values: np.ndarray) -> Interval:
    """Skewness with a bootstrap interval of percentiles, of no more than so many rows a draw."""
    drawn = min(len(values), _DRAWN_ROWS)
    rows = np.random.default_rng(0).integers(len(values), size=(_DRAWS, drawn))
    (estimate,), others = _third_moment(values[None, :]), _third_moment(values[rows])
    # Fewer rows vary more, by the root of their number.
    low, high = np.quantile(others - estimate, [0.025, 0.975]) * np.sqrt(drawn / len(values))
    return (float(estimate), float(estimate + low), float(estimate + high))


def _third_moment(values: np.ndarray) -> np.ndarray:
    """Skewness (k,) of each of k rows of values; 0 of those all the same."""
    centred = values - values.mean(axis=1, keepdims=True)
    spread = np.square(centred).mean(axis=1)
    there = spread > 0
    return np.where(there, (centred**3).mean(axis=1) / np.where(there, spread, 1) ** 1.5, 0)


def _listed(names: tuple[str, ...], labels: np.ndarray) -> str:
    listed = [f"'{names[label]}'" for label in labels.tolist()]
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
