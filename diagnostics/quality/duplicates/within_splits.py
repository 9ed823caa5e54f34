"""Equal and nearly equal examples of one split."""

import numpy as np

from diagnostics.examples import Examples
from diagnostics.finding import Finding, Measure, Question, Table, drop_remedy
from diagnostics.phrases import choose
from diagnostics.quality import graphs
from diagnostics.quality.duplicates.copies import Copies, list_clusters
from diagnostics.statistics import wilson_interval
from diagnostics.thresholds import THRESHOLDS
from plumbline import pluralize

EXACT = Question("exact_duplicates", "data quality")
NEAR = Question("near_duplicates", "data quality")

NOTHING = (Measure(name="examples found", value=0, kind="count"),)
"""The measure of a finding on duplicates that found none."""

_WHAT = {
    "image": "a shift of a pixel, brightness, contrast or compression apart",
    "table": "equal categories, and numbers that hardly differ",
    "text": "at least half of their runs of three words in common",
}


def judge_exact(copies: Copies) -> Finding:
    """Reports examples that are equal to an earlier one of their split."""
    examples = copies.examples
    clusters = [own for each in copies.exact for own in copies.by_split(each).values() if len(own) > 1]
    if not clusters:
        sizes = ", ".join(f"{name}: {len(split):,}" for name, split in examples.splits.items())
        return EXACT.none(f"No two examples of a split are equal ({sizes}).", measures=NOTHING)
    clusters.sort(key=len, reverse=True)
    redundant = np.sort(np.concatenate([own[1:] for own in clusters]))
    agreeing = [
        each
        for own in clusters
        for index, each in enumerate(own)
        if any(copies.has_same_label(earlier, each) for earlier in own[:index])
    ]
    agreeing = np.sort(np.array(agreeing, np.int64))
    drop = copies.droppable(agreeing)
    where, table = _by_split(examples, redundant)
    share = _share(examples, redundant, where, "equal to an earlier one")
    are = choose(len(redundant), "is", "are")
    return EXACT.found(
        THRESHOLDS.affected.grade(share.value),
        f"{_describe(examples, redundant, where)} equal to an earlier one. In all splits together "
        f"{pluralize(len(redundant), 'example')} {are} equal to an earlier one of the same split, {len(agreeing):,} "
        "with the same label. Such copies count twice and add no information.",
        measures=(
            share,
            Measure(name="examples equal to an earlier one of their split", value=len(redundant), kind="count"),
            Measure(name="of these with the label of the earlier one", value=len(agreeing), kind="count"),
        ),
        evidence=(list_clusters("Equal examples of one split", clusters), table),
        remedies=drop_remedy(EXACT.name, drop, "Train on one of each set of equal examples with the same label."),
        drop=drop,
    )


def judge_near(copies: Copies) -> Finding:
    """Reports examples that are nearly equal to an earlier one of their split."""
    examples = copies.examples
    inside: list[tuple[int, int]] = []
    distances: dict[tuple[int, int], float] = {}
    equal: dict[int, np.ndarray] = {}
    for (one, other), distance in zip(copies.pairs, copies.near.distances, strict=True):
        first, second = copies.by_split(one), copies.by_split(other)
        for split in first.keys() & second.keys():
            pair = int(first[split][0]), int(second[split][0])
            inside.append(pair)
            distances[pair] = float(distance)
            equal |= {pair[0]: first[split], pair[1]: second[split]}
    left_out = copies.describe_left_out()
    if not inside:
        return NEAR.none(f"No two different examples of a split are nearly equal.{left_out}", measures=NOTHING)
    clusters = graphs.find_clusters(np.array(inside))
    closest = _closest(clusters, distances)
    order = np.argsort(closest, kind="stable").tolist()
    redundant = np.sort(np.concatenate([own[1:] for own in clusters]))
    drop = copies.droppable(np.concatenate([equal[each] for each in redundant.tolist()]))
    where, table = _by_split(examples, redundant)
    share = _share(examples, redundant, where, "nearly equal to an earlier one")
    return NEAR.found(
        THRESHOLDS.affected.grade(share.value),
        f"{_describe(examples, redundant, where)} nearly equal to an earlier one: {_WHAT[examples.features.kind]}. "
        f"They add little information.{left_out}",
        measures=(
            share,
            Measure(name="examples nearly equal to an earlier one of their split", value=len(redundant), kind="count"),
            Measure(name="clusters", value=len(clusters), kind="count"),
        ),
        evidence=(
            list_clusters(
                "Nearly equal examples of one split",
                [clusters[each] for each in order],
                [f"distance {closest[each]:.3f}" for each in order],
            ),
            table,
            copies.histogram({"inside a split": np.array(list(distances.values()))}),
        ),
        remedies=drop_remedy(NEAR.name, drop, "Train on one of each set of nearly equal examples."),
        drop=drop,
    )


def _closest(clusters: list[np.ndarray], distances: dict[tuple[int, int], float]) -> np.ndarray:
    """The smallest distance (c,) of a pair of each cluster."""
    number = {position: index for index, own in enumerate(clusters) for position in own.tolist()}
    closest = np.full(len(clusters), np.inf)
    for (one, _), distance in distances.items():
        closest[number[one]] = min(closest[number[one]], distance)
    return closest


def _by_split(examples: Examples, redundant: np.ndarray) -> tuple[str, Table]:
    """The split with the greatest share of redundant examples, and a table of all splits."""
    counts = {name: int((examples.split[redundant] == name).sum()) for name in examples.splits}
    shares = {name: count / max(len(examples.splits[name]), 1) for name, count in counts.items()}
    table = Table(
        title="Redundant examples by split",
        header=("split", "examples", "redundant", "share"),
        rows=tuple((name, len(examples.splits[name]), counts[name], f"{shares[name]:.2%}") for name in counts),
    )
    return max(shares, key=shares.__getitem__), table


def _describe(examples: Examples, redundant: np.ndarray, split: str) -> str:
    count, total = int((examples.split[redundant] == split).sum()), len(examples.splits[split])
    of = pluralize(total, f"{split} example")
    return f"{count:,} of {of} ({count / total:.2%}) {choose(count, 'is', 'are')}"


def _share(examples: Examples, redundant: np.ndarray, split: str, what: str) -> Measure:
    interval = wilson_interval(int((examples.split[redundant] == split).sum()), len(examples.splits[split]))
    return Measure.of(f"share of {split} examples {what}", interval, "share")
