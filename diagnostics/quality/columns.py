"""Columns that say nothing, that say the same as another, or that say too much of the label."""

import hashlib

import numpy as np
from sklearn.model_selection import GroupKFold, KFold
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from data.features import FIRST_CATEGORY
from data.random_streams import Stream, generator
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Measure, Remedy, Table, cannot_judge
from diagnostics.quality.missing import is_missing
from diagnostics.statistics import Interval, mean_interval, wilson_interval, within
from plumbline import counted

_CHALLENGE = "data quality"
_BLOCK = 8192
# Share of the other rows that have a value which training never showed, from which on it matters.
_MET = 0.01
# Correlation that leaves less than half a percent of a deviation between two columns, as rounding to three figures.
_SAME = 1 - 1e-5
# Distinct values up to which a column is compared as one of categories, whatever it holds.
_CATEGORIES = 256
# Rows for each distinct value, and rows beside the most frequent one, without which two columns may agree by chance.
_ROWS_A_VALUE, _ROWS_BESIDE = 10, 5
# Columns whose correlations with one another are kept at once: 128 MiB.
_MOST_COLUMNS = 4096
# Share of constant pixels from which on an image is mostly border.
_BORDER = 0.5
# Rows, and trees times rows, that columns are tried on.
_ROWS, _WORK, _FEWEST_ROWS = 5000, 2_000_000, 20
_FOLDS, _LEAVES, _LEAF_ROWS = 5, 64, 5
# Share of the error of the majority or mean that a column alone takes away: nearly perfect by itself; or suspicious
# where it is far ahead of all others.
_PERFECT, _SUSPICIOUS, _AHEAD = 0.98, 0.9, 0.3
_SHOWN = 20


def find(examples: Examples) -> list[Finding]:
    """Findings `constant_columns`, `duplicated_columns` and `leaking_columns`.

    Args:
      examples: of a table; of images only constant pixels are looked for, of texts nothing.
    """
    if examples.features.kind == "table":
        constant, varies = _constant(examples)
        return [constant, _duplicated(examples, np.flatnonzero(varies)), _leaking(examples, np.flatnonzero(varies))]
    what = {"image": "An image has no columns", "text": "A text has no columns"}[examples.features.kind]
    first = _constant_pixels(examples) if examples.features.kind == "image" else _nothing("constant_columns", what)
    return [first, _nothing("duplicated_columns", what), _nothing("leaking_columns", what)]


def _nothing(name: str, what: str) -> Finding:
    return Finding(name=name, challenge=_CHALLENGE, severity="none", message=f"{what}, so there is nothing to look at.")


def _constant(examples: Examples) -> tuple[Finding, np.ndarray]:
    """The finding, and which columns (F,) vary in training."""
    columns = examples.features.columns
    low, high = _range(examples, examples.positions("train"))
    # A gap is a value like any other: a column of one value and gaps has something to say.
    varies = low < high
    found = np.flatnonzero(~varies)
    outside = int((examples.split != "train").sum())
    measure = Measure(name="constant columns", value=float(len(found)), kind="count")
    if not len(found):
        message = f"None of {counted(len(columns), 'column')} is constant in training."
        finding = Finding(
            name="constant_columns", challenge=_CHALLENGE, severity="none", message=message, measures=(measure,)
        )
        return finding, varies
    elsewhere = _differing(examples, found, low[found])
    later = found[elsewhere > 0]
    names = [columns[index].name for index in found.tolist()]
    message = (
        f"{counted(len(found), 'column')} of {len(columns)} {'has' if len(found) == 1 else 'have'} one value in all "
        f"training rows: {_listed(names)}. Nothing can be learned from {'it' if len(found) == 1 else 'them'}."
    )
    if len(later):
        message += (
            f" Of {_listed([columns[index].name for index in later.tolist()])} other values come in validation or "
            f"test, in up to {counted(int(elsewhere.max()), 'row')} of {outside}, which the model meets unprepared."
        )
    finding = Finding(
        name="constant_columns",
        challenge=_CHALLENGE,
        severity="medium" if elsewhere.max() >= _MET * outside and len(later) else "low",
        message=message,
        measures=(measure, Measure(name="of them varying in other splits", value=float(len(later)), kind="count")),
        evidence=(
            Table(
                title="Columns that are constant in training",
                header=("column", "value", "validation and test rows with another"),
                rows=tuple(
                    (columns[index].name, _shown(examples, index, float(low[index])), int(others))
                    for index, others in zip(found.tolist(), elsewhere.tolist(), strict=True)
                ),
            ),
        ),
        remedies=(Remedy(text="Leave them out.", overrides={"data.ignore": tuple(names)}),),
    )
    return finding, varies


def _differing(examples: Examples, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rows (n,) outside training that have another value of columns (n,) than the one given (n,)."""
    others = np.zeros(len(columns), np.int64)
    for _, inputs in examples.blocks(np.flatnonzero(examples.split != "train"), _BLOCK):
        inputs = np.where(is_missing(inputs, examples.features), -np.inf, inputs)[:, columns]
        others += (inputs != values[None, :]).sum(axis=0)
    return others


def _shown(examples: Examples, index: int, value: float) -> str:
    """A value of a column in words."""
    column = examples.features.columns[index]
    if column.kind != "categorical":
        return f"{value:.6g}"
    return column.categories[int(value) - FIRST_CATEGORY] if value >= FIRST_CATEGORY else "missing"


def _range(examples: Examples, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest value (F,) each; a gap counts as infinitely small."""
    shape = (int(np.prod(examples.features.shape)),)
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    for _, inputs in examples.blocks(positions, _BLOCK if examples.features.kind == "table" else 1024):
        flat = inputs.reshape(len(inputs), -1)
        if examples.features.kind == "table":
            flat = np.where(is_missing(flat, examples.features), -np.inf, flat)
        low, high = np.minimum(low, flat.min(axis=0)), np.maximum(high, flat.max(axis=0))
    return low, high


def _constant_pixels(examples: Examples) -> Finding:
    positions = examples.positions("train")
    low, high = _range(examples, positions[examples.sound(positions)])
    constant = int((low >= high).sum())
    share = constant / len(low)
    much = share >= _BORDER
    return Finding(
        name="constant_columns",
        challenge=_CHALLENGE,
        severity="low" if much else "none",
        message=f"{constant} of {len(low)} values of an image ({share:.1%}) are the same in all training images"
        + ("; most of an image is border, and smaller ones would do." if much else ", which does no harm."),
        measures=(Measure(name="values of an image that are constant", value=share, kind="share"),),
        remedies=(Remedy(text="Crop the images to what differs between them."),) if much else (),
    )


def _duplicated(examples: Examples, varying: np.ndarray) -> Finding:
    name, columns = "duplicated_columns", examples.features.columns
    if len(varying) > _MOST_COLUMNS:
        return cannot_judge(
            name, _CHALLENGE, f"more than {_MOST_COLUMNS} columns are too many to compare with each other"
        )
    positions = examples.positions("train")
    numeric = varying[varying < len(examples.features.numeric_columns)]
    alike: dict[tuple[int, int], str] = {}
    correlation = _correlation(examples, positions, numeric)
    for one, two in np.argwhere(np.triu(np.abs(correlation) >= _SAME, 1)).tolist():
        alike[int(numeric[one]), int(numeric[two])] = "the same but for scale and offset"
    for one, two in _one_to_one(examples, positions, varying):
        alike.setdefault((one, two), "each value of one stands with one value of the other")
    for (one, two), how in alike.items():
        if how.startswith("the same") and _equal(examples, positions, one, two):
            alike[one, two] = "equal"
    # Of columns that are all alike the first stays.
    redundant = sorted({two for _, two in alike})
    measure = Measure(name="columns that repeat another", value=float(len(redundant)), kind="count")
    if not alike:
        return Finding(
            name=name,
            challenge=_CHALLENGE,
            severity="none",
            message=f"No two of {counted(len(varying), 'column')} say the same.",
            measures=(measure,),
        )
    (one, two), how = next(iter(alike.items()))
    names = tuple(columns[index].name for index in redundant)
    return Finding(
        name=name,
        challenge=_CHALLENGE,
        severity="low",
        message=f"{counted(len(redundant), 'column')} of {len(columns)} {'says' if len(redundant) == 1 else 'say'} "
        f"what another says already, such as '{columns[two].name}' and '{columns[one].name}' ({how}). That costs a "
        "little training, and any account of what matters is shared out between them.",
        measures=(measure,),
        evidence=(
            Table(
                title="Columns that say the same in all training rows",
                header=("column", "says the same as", "how"),
                rows=tuple((columns[two].name, columns[one].name, how) for (one, two), how in alike.items()),
            ),
        ),
        remedies=(Remedy(text="Leave the repetitions out.", overrides={"data.ignore": names}),),
    )


def _correlation(examples: Examples, positions: np.ndarray, numeric: np.ndarray) -> np.ndarray:
    """Correlations (n, n) of numeric columns (n,); a gap stands at the mean, so that gaps that differ lower it."""
    total, count = np.zeros(len(numeric)), np.zeros(len(numeric))
    for _, inputs in examples.blocks(positions, _BLOCK):
        values = inputs[:, numeric].astype(np.float64)
        total += np.nansum(values, axis=0)
        count += (~np.isnan(values)).sum(axis=0)
    mean = total / np.maximum(count, 1)
    products = np.zeros((len(numeric), len(numeric)))
    for _, inputs in examples.blocks(positions, _BLOCK):
        centred = np.nan_to_num(inputs[:, numeric].astype(np.float64) - mean)
        products += centred.T @ centred
    scale = np.sqrt(np.diag(products))
    # What varies by no more than a rounding, or only by its gaps, has no correlation.
    there = scale > 1e-6 * np.abs(mean) * np.sqrt(np.maximum(count, 1))
    scale = np.where(there, scale, np.inf)
    return products / scale[:, None] / scale[None, :]


def _one_to_one(examples: Examples, positions: np.ndarray, varying: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of columns of few values, each of which stands with one value of the other in all rows; a gap is a value.

    The values of a column are numbered as they come; of two such columns the numbers are the same, row by row.
    """
    known: dict[int, dict[float, int]] = {int(column): {} for column in varying}
    counts = {column: np.zeros(_CATEGORIES + 1, np.int64) for column in known}
    digests = {column: hashlib.sha256() for column in known}
    most = min(_CATEGORIES, len(positions) // _ROWS_A_VALUE)
    for _, inputs in examples.blocks(positions, _BLOCK):
        for column in list(known):
            # NaN is equal to nothing, itself included.
            values = np.where(np.isnan(inputs[:, column]), np.inf, inputs[:, column])
            distinct, first, index = np.unique(values, return_index=True, return_inverse=True)
            for place in np.argsort(first).tolist():
                known[column].setdefault(float(distinct[place]), len(known[column]))
            if len(known[column]) > most:
                del known[column]
                continue
            numbers = np.array([known[column][value] for value in distinct.tolist()], np.uint16)[index]
            counts[column] += np.bincount(numbers, minlength=_CATEGORIES + 1)
            digests[column].update(numbers.tobytes())
    seen: dict[bytes, int] = {}
    pairs = []
    for column in known:
        if len(positions) - counts[column].max() < _ROWS_BESIDE:
            continue
        first_column = seen.setdefault(digests[column].digest(), column)
        if first_column != column:
            pairs.append((first_column, column))
    return pairs


def _equal(examples: Examples, positions: np.ndarray, one: int, two: int) -> bool:
    return all(
        np.array_equal(inputs[:, one], inputs[:, two], equal_nan=True)
        for _, inputs in examples.blocks(positions, _BLOCK)
    )


def _leaking(examples: Examples, varying: np.ndarray) -> Finding:
    name, features = "leaking_columns", examples.features
    positions = np.flatnonzero(examples.split != "test")
    limit = max(_FEWEST_ROWS, min(_ROWS, _WORK // max(len(varying) * _FOLDS, 1)))
    positions = np.sort(generator(0, Stream.COLUMN_TRIALS).permutation(positions)[:limit])
    labels = examples.labels[positions]
    groups = None if examples.groups is None else examples.groups[positions]
    if len(positions) < _FEWEST_ROWS:
        return cannot_judge(name, _CHALLENGE, f"{counted(len(positions), 'row')} outside the test split are too few")
    if len(np.unique(labels)) < 2:
        return cannot_judge(name, _CHALLENGE, "all labels are the same outside the test split")
    if not len(varying):
        return _nothing(name, "No column varies")
    inputs = examples.read(positions)
    folds = _folds(groups, len(positions))
    scores = [_score(inputs[:, column], labels, folds, features.task) for column in varying.tolist()]
    skills = np.array([skill[0] for _, skill in scores])
    order = np.argsort(-skills, kind="stable")
    unit = "accuracy" if features.task == "classification" else "R2"
    baseline = float(np.bincount(labels).max() / len(labels)) if features.task == "classification" else 0.0
    # The best of those that are not perfect themselves: two copies of the label do not clear each other.
    others = skills[skills < _PERFECT]
    next_best = float(others.max()) if len(others) else 0.0
    flagged = [index for index in order.tolist() if skills[index] >= _PERFECT]
    if not flagged and skills[order[0]] >= _SUSPICIOUS:
        next_best = float(skills[order[1]]) if len(order) > 1 else 0.0
        if len(order) > 1 and skills[order[0]] - next_best >= _AHEAD:
            flagged = [int(order[0])]
    table = Table(
        title=f"What each column alone predicts, on {len(positions)} held-out rows",
        header=("column", unit, "95 % interval", "share of the error taken away"),
        rows=tuple(
            (
                features.columns[varying[index]].name,
                scores[index][0][0],
                f"{scores[index][0][1]:.4f} to {scores[index][0][2]:.4f}",
                float(skills[index]),
            )
            for index in order[:_SHOWN].tolist()
        ),
    )
    best = int(order[0])
    best_name = features.columns[varying[best]].name
    measure = Measure.of(f"share of the error that '{best_name}' alone takes away", scores[best][1], "share")
    against = f"the majority {baseline:.1%}" if features.task == "classification" else "the mean 0"
    reached = f"{scores[best][0][0]:.1%}" if features.task == "classification" else f"R2 {scores[best][0][0]:.3f}"
    if not flagged:
        return Finding(
            name=name,
            challenge=_CHALLENGE,
            severity="none",
            message=f"No column alone gives the label away: the best, '{best_name}', reaches {reached} on held-out "
            f"rows ({against}).",
            measures=(measure,),
            evidence=(table,),
        )
    names = tuple(features.columns[varying[index]].name for index in flagged)
    beside = (
        f"; the next best column takes away {max(next_best, 0.0):.0%} of the error" if len(order) > len(names) else ""
    )
    first = "this column alone reaches" if len(flagged) == 1 else "each of these alone reaches up to"
    return Finding(
        name=name,
        challenge=_CHALLENGE,
        severity="high" if skills[best] >= _PERFECT else "medium",
        message=f"{_listed(list(names))}: {first} {reached} on held-out rows ({against}{beside}). That may be "
        "legitimate. Often such a column was written down after the label, or made from it: ask if it is known when "
        "predictions are to be made.",
        measures=(measure, Measure(name="the same of the next best column", value=next_best, kind="share")),
        evidence=(table,),
        remedies=(
            Remedy(text="Leave out what is not known when predictions are made.", overrides={"data.ignore": names}),
        ),
    )


def _folds(groups: np.ndarray | None, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and held-out places of each fold: whole groups, where there are some."""
    rows = np.zeros((count, 1))
    if groups is not None and (present := len(np.unique(groups))) > 1:
        return list(GroupKFold(min(_FOLDS, present)).split(rows, groups=groups))
    return list(KFold(_FOLDS, shuffle=True, random_state=0).split(rows))


def _score(
    values: np.ndarray, labels: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]], task: str
) -> tuple[Interval, Interval]:
    """Accuracy or R2 of a small tree on one column (n,), and the share of the error that it takes away.

    A tree tells any intervals and, one by one, categories apart, and takes gaps as they are.
    """
    model = DecisionTreeClassifier if task == "classification" else DecisionTreeRegressor
    predicted = np.zeros(len(labels), labels.dtype)
    r2 = []
    for train, held_out in folds:
        tree = model(max_leaf_nodes=_LEAVES, min_samples_leaf=_LEAF_ROWS, random_state=0).fit(
            values[train, None], labels[train]
        )
        predicted[held_out] = tree.predict(values[held_out, None])
        if task == "regression" and len(held_out) > 1:
            r2.append(tree.score(values[held_out, None], labels[held_out]))
    if task == "regression":
        interval = mean_interval(r2, overlap=1 / max(len(folds) - 1, 1))
        return interval, within(interval, -1, 1)
    accuracy = wilson_interval(int((predicted == labels).sum()), len(labels))
    majority = float(np.bincount(labels).max() / len(labels))
    return accuracy, tuple(float((value - majority) / (1 - majority)) for value in accuracy)


def _listed(names: list[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return ", ".join(quoted[:5]) + (f" and {len(quoted) - 5} more" if len(quoted) > 5 else "")
