"""Which pretrained source is relevant to a task, before any of them is fine-tuned.

The frozen layers of each candidate are scored in the same folds, and compared with baselines without pretraining: the
same architecture with random initial parameters, and a simple model of the raw inputs.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from diagnostics.cross_validation import LEAST_VALUES
from diagnostics.crossed import crossed_interval
from diagnostics.statistics import Interval, mean_interval, negate, paired_difference, within
from diagnostics.transfer import logme, probes
from plumbline import pluralize

KINDS = ("source", "random", "simple")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """The scores of one layer.

    Attributes:
      name: as the model's `representations` name it.
      size: numbers an example; 0 where that depends on the fold.
      probe: (K,) of a linear probe, by fold: accuracies, or R2 of a regression.
      neighbours: (K,) the same of the nearest neighbours; None for the simple baseline.
      logme: LogME with its interval; None for the simple baseline.
    """

    name: str
    size: int
    probe: np.ndarray
    neighbours: np.ndarray | None = None
    logme: Interval | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A source or a baseline, with its layers.

    Attributes:
      name: unique.
      kind: one of `KINDS`.
      layers: from the inputs on.
      overlap: of the folds; see `diagnostics.statistics.mean_interval`.
      random: name of the candidate with the same architecture and fresh parameters; "" unless it is a source.
      draws: (R, K) `values` of each draw of random parameters, whose mean the layers have; None if there is one
        candidate, such as a source.
    """

    name: str
    kind: str
    layers: tuple[Layer, ...]
    overlap: float
    random: str = ""
    draws: np.ndarray | None = None

    @property
    def best(self) -> Layer:
        """The layer whose probe has the best mean over folds; the earliest if there are several."""
        return max(self.layers, key=lambda layer: layer.probe.mean())

    @property
    def cut(self) -> Layer:
        """The earliest layer within one standard error of the best one, by their differences fold by fold.

        This is the rule of Breiman et al. 1984, "Classification and Regression Trees", section 3.4.3: the difference
        may be chance, and less of the model is needed.
        """
        best = self.best.probe
        for layer in self.layers:
            behind = best - layer.probe
            error = behind.std(ddof=1) * np.sqrt(1 / len(behind) + self.overlap)
            if behind.mean() <= error:
                return layer
        return self.best

    def values(self) -> np.ndarray:
        """Returns the probe's score (K,) on each fold, by the layer that is best on the other folds.

        The best of many layers looks better than it is on the folds that selected it.
        """
        if self.draws is not None:
            return self.draws.mean(axis=0)
        scores = np.array([layer.probe for layer in self.layers])
        count = scores.shape[1]
        chosen = [np.delete(scores, fold, axis=1).mean(axis=1).argmax() for fold in range(count)]
        return scores[chosen, np.arange(count)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """The conclusion from the scores.

    Attributes:
      take: name of the source whose probe is best.
      layer: its best layer.
      cut: its earliest layer within one standard error of that one.
      differences: between the best source's probe and each other candidate, by name, with 95 % intervals.
      lines: the same in words: which source to use, and where to cut it.
      warnings: sources whose pretraining did not help, in words.
    """

    take: str
    layer: str
    cut: str
    differences: Mapping[str, Interval]
    lines: tuple[str, ...]
    warnings: tuple[str, ...]


def score_layer(name: str, features: np.ndarray, splits: probes.ProbeSplits) -> Layer:
    """Scores one layer.

    Args:
      name: of the layer.
      features: (n, d) float32.
      splits: labels and folds.
    """
    if splits.task == "classification":
        targets = logme.indicators(splits.labels)
    else:
        labels = splits.labels.astype(np.float64)
        targets = (labels - labels.mean()) / (labels.std() or 1.0)
    return Layer(
        name=name,
        size=features.shape[1],
        probe=probes.score_linear_probe(features, splits),
        neighbours=probes.score_neighbours(features, splits),
        logme=logme.interval(features, targets, [held_out for _, held_out in splits.folds]),
    )


def sample(labels: np.ndarray, limit: int, task: str, *, seed: int) -> np.ndarray:
    """Draws rows at random, stratified by class, and sorts them.

    Args:
      labels: (n,).
      limit: number of rows; 0 for all.
      task: "classification" or "regression".
      seed: of the draw.
    """
    if not limit or limit >= len(labels):
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    place = np.empty(len(labels))
    classes = [order]
    if task == "classification":
        classes = [order[labels[order] == label] for label in np.unique(labels)]
    for members in classes:
        # The rank of each row in its class, from 0 to 1: taking the smallest ranks keeps the shares.
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(order[np.argsort(place[order], kind="stable")[:limit]])


def average(draws: Sequence[Candidate]) -> Candidate:
    """Averages draws of random parameters of one model into one candidate; its LogME is that of the first draw."""
    layers = [
        dataclasses.replace(
            own[0],
            probe=np.mean([layer.probe for layer in own], axis=0),
            neighbours=np.mean([layer.neighbours for layer in own], axis=0),
        )
        for own in zip(*(draw.layers for draw in draws), strict=True)
    ]
    return dataclasses.replace(draws[0], layers=tuple(layers), draws=np.stack([draw.values() for draw in draws]))


def interval(values: np.ndarray, task: str, overlap: float) -> Interval:
    """Computes the mean over folds, with a t-interval widened for shared training rows; see `statistics`."""
    return _clip(mean_interval(values, overlap=overlap), len(values), *_bounds(task))


def score(candidate: Candidate, task: str) -> Interval:
    """Computes the score of a candidate by its probe, with its interval; over draws too, if there are several."""
    if candidate.draws is None:
        return interval(candidate.values(), task, candidate.overlap)
    count = candidate.draws.shape[1]
    found = crossed_interval(candidate.draws, np.ones(count), overlap=candidate.overlap)
    return _clip(found, count, *_bounds(task))


def difference(candidate: Candidate, other: Candidate, task: str) -> Interval:
    """Computes how much better a source is than another candidate, fold by fold, with its interval.

    Draws of random parameters vary, and a source is taken to be one draw as well: it differs from them where it is
    further from their mean than one more of them would be.
    """
    low, high = _bounds(task)
    values, count, overlap = candidate.values(), len(candidate.values()), candidate.overlap
    if other.draws is None:
        found = paired_difference(values, other.values(), overlap=overlap)
    else:
        found = crossed_interval(values - other.draws, np.ones(count), overlap=overlap, against_one=True)
    return _clip(found, count, low - high, high - low)


def judge(candidates: Sequence[Candidate], task: str) -> Verdict:
    """Draws the conclusion from the scores.

    Args:
      candidates: at least one source, the random initialisation that each names, and the simple baseline.
      task: "classification" or "regression".
    """
    named = {candidate.name: candidate for candidate in candidates}
    sources = [candidate for candidate in candidates if candidate.kind == "source"]
    simple = next(candidate for candidate in candidates if candidate.kind == "simple")
    taken = max(sources, key=lambda candidate: candidate.values().mean())

    def compared(one: str, other: str) -> Interval:
        return difference(named[one], named[other], task)

    differences = {each.name: compared(taken.name, each.name) for each in candidates if each is not taken}
    lines = [_take(taken, sources, differences, task), _cut(taken)]
    warnings = []
    for source in sources:
        to_random, to_simple = compared(source.name, source.random), compared(source.name, simple.name)
        warnings += _warnings(source.name, simple.name, to_random, to_simple, task)
    return Verdict(
        take=taken.name,
        layer=taken.best.name,
        cut=taken.cut.name,
        differences=differences,
        lines=tuple(lines),
        warnings=tuple(warnings),
    )


def _take(taken: Candidate, sources: Sequence[Candidate], differences: Mapping[str, Interval], task: str) -> str:
    others = [source for source in sources if source is not taken]
    if not others:
        gap = _amount(differences[taken.random], task)
        return f"{taken.name} is the only source; its lead over the same model untrained is {gap}."
    nearest = min(others, key=lambda source: differences[source.name][0])
    gap = differences[nearest.name]
    if gap[1] > 0:
        return f"Use {taken.name}: it is ahead of {nearest.name}, the next best source, by {_amount(gap, task)}."
    return (
        f"{taken.name} is ahead of {nearest.name}, the next best source, by {_amount(gap, task)}, {_no_proof(gap)}: "
        "these rows cannot separate them; use either."
    )


def _cut(taken: Candidate) -> str:
    if taken.cut is taken.best:
        return f"Its best layer is {taken.best.name}, and no earlier one comes within one standard error of it."
    return (
        f"Its best layer is {taken.best.name}; {taken.cut.name} is within one standard error of it, so the model can "
        "be cut there."
    )


def _warnings(source: str, simple: str, to_random: Interval, to_simple: Interval, task: str) -> list[str]:
    found = []
    if to_random[2] < 0:
        found.append(
            f"{source} is worse than random initialisation of the same model by {_amount(negate(to_random), task)}: as "
            "a frozen encoder these weights do harm here. Fine-tuning may differ; transfer.check compares it."
        )
    elif not to_random[1] > 0:
        found.append(
            f"{source} is not shown to be better than random initialisation of the same model: the difference is "
            f"{_amount(to_random, task)}, {_no_proof(to_random)}. Its pretraining may bring nothing here."
        )
    if to_simple[2] < 0:
        found.append(
            f"{simple} beats {source} by {_amount(negate(to_simple), task)}: the simple baseline is better than the "
            "frozen encoder. Use it, or fine-tune and compare with it; these scores do not predict the result of "
            "fine-tuning."
        )
    elif not to_simple[1] > 0:
        found.append(
            f"{source} is not shown to be better than {simple}: the difference is {_amount(to_simple, task)}, "
            f"{_no_proof(to_simple)}. The simple baseline may do as well as the frozen encoder."
        )
    return found


def _amount(gap: Interval, task: str) -> str:
    unit, word = (100, "points of accuracy") if task == "classification" else (1, "of R2")
    mean, low, high = (unit * value for value in gap)
    if np.isnan(low):
        return f"{mean:.3g} {word}"
    return f"{mean:.3g} {word} (95 %: {low:.3g} to {high:.3g})"


def _no_proof(gap: Interval) -> str:
    if np.isnan(gap[1]):
        return f"without an interval, which needs {pluralize(LEAST_VALUES, 'fold')}"
    return "an interval that contains 0"


def _clip(found: Interval, count: int, low: float, high: float) -> Interval:
    return (found[0], np.nan, np.nan) if count < LEAST_VALUES else within(found, low, high)


def _bounds(task: str) -> tuple[float, float]:
    return (0.0, 1.0) if task == "classification" else (-np.inf, 1.0)
