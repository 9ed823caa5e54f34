"""Equal and nearly equal inputs with different labels."""

import numpy as np

from diagnostics.finding import Finding, Measure, Question, Remedy, drop_remedy
from diagnostics.phrases import choose
from diagnostics.quality.duplicates.copies import Copies, list_clusters
from diagnostics.quality.duplicates.within_splits import NOTHING
from diagnostics.statistics import wilson_interval
from diagnostics.thresholds import THRESHOLDS
from plumbline import pluralize

QUESTION = Question("conflicting_labels", "data quality")


def judge_conflicts(copies: Copies) -> Finding:
    """Reports equal inputs with different labels, and pairs of nearly equal ones."""
    examples = copies.examples
    exact = [own for own in copies.exact if any(not copies.has_same_label(own[0], each) for each in own[1:])]
    exact.sort(key=len, reverse=True)
    near, notes = _near_conflicts(copies)
    if not exact and not near:
        return QUESTION.none("Examples that are equal or nearly equal have the same label.", measures=NOTHING)
    involved = np.sort(np.concatenate([np.zeros(0, np.int64), *exact]))
    drop = np.sort(np.concatenate([np.zeros(0, np.int64), *(_outvoted(copies, own) for own in exact)]))
    share = wilson_interval(len(involved), len(examples))
    parts, evidence = [], []
    if exact:
        have = choose(len(exact), "has", "have")
        parts.append(f"{pluralize(len(exact), 'input')} {have} several labels ({pluralize(len(involved), 'example')})")
        labels = [", ".join(dict.fromkeys(_label(copies, each) for each in own.tolist())) for own in exact]
        evidence.append(list_clusters("Equal inputs with different labels", exact, labels))
    if near:
        parts.append(
            f"{pluralize(len(near), 'pair')} of nearly equal inputs {choose(len(near), 'has', 'have')} two labels"
        )
        evidence.append(list_clusters("Nearly equal inputs with different labels", near, notes))
    return QUESTION.found(
        THRESHOLDS.affected.grade(share[0]) if exact else "low",
        f"{', and '.join(parts)}. Some of these labels are wrong, or the inputs do not separate the classes.",
        measures=(
            Measure.of("share of examples whose input has another label elsewhere", share, "share"),
            Measure(name="inputs with different labels", value=len(exact), kind="count"),
            Measure(name="pairs of nearly equal inputs with different labels", value=len(near), kind="count"),
        ),
        evidence=tuple(evidence),
        remedies=(
            *drop_remedy(
                QUESTION.name, drop, "Train without the labels that are outvoted; without a majority, drop all of them."
            ),
            Remedy(text="Look at them: the data do not show which label is right."),
        ),
        drop=drop,
    )


def _near_conflicts(copies: Copies) -> tuple[list[np.ndarray], list[str]]:
    """Nearly equal pairs with different labels, the closest first, and a note on each."""
    found, notes = [], []
    for index in np.argsort(copies.near.distances, kind="stable").tolist():
        one, other = (int(own[0]) for own in copies.pairs[index])
        if not copies.has_same_label(one, other):
            found.append(np.array([one, other]))
            labels = f"{_label(copies, one)} and {_label(copies, other)}"
            notes.append(f"distance {copies.near.distances[index]:.3f}, {labels}")
    return found, notes


def _label(copies: Copies, position: int) -> str:
    label, features = copies.examples.labels[position], copies.examples.features
    return features.class_names[int(label)] if features.task == "classification" else f"{float(label):g}"


def _outvoted(copies: Copies, cluster: np.ndarray) -> np.ndarray:
    """Training and validation examples of one input whose label the majority contradicts; all if there is no majority.

    Test labels have no vote, as training must not depend on them. In a regression all values count.
    """
    examples, own = copies.examples, copies.droppable(cluster)
    if examples.features.task != "classification" or len(own) < 2:
        return np.zeros(0, np.int64)
    values, counts = np.unique(examples.labels[own], return_counts=True)
    if len(values) < 2:
        return np.zeros(0, np.int64)
    if 2 * counts.max() <= len(own):
        return own
    return own[examples.labels[own] != values[np.argmax(counts)]]
