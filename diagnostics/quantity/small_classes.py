"""Classes and groups that do worse than the others, and whether they have few rows."""

import dataclasses

import ml_collections
import numpy as np
from scipy import stats

from data.pool import Pool
from diagnostics.finding import Finding, Measure, Question, Remedy, Table
from diagnostics.phrases import choose, quote
from diagnostics.scores import by_row, mean_of_rows
from diagnostics.severity import Severity
from diagnostics.statistics import Interval, bonferroni
from diagnostics.thresholds import THRESHOLDS
from diagnostics.trainings import Trainings
from plumbline import pluralize

QUESTION = Question("short_classes", "data quantity")

# Classes or groups that the message names.
_NAMED = 5


def judge(pool: Pool, trainings: Trainings) -> Finding:
    """Reports which classes or groups do worse out of fold than the others, and whether these have few rows.

    Args:
      pool: of the trainings.
      trainings: of an audit.
    """
    partitions = [*_classes(pool, trainings), *_groups(pool, trainings)]
    if not partitions:
        return QUESTION.cannot_tell("a regression has no classes, and this set has no groups")
    # All intervals hold together.
    confidence = bonferroni(sum(len(partition.names) for partition in partitions))
    severity: Severity = "none"
    sentences, measures, small_parts = [], [], []
    weigh_classes = False
    for partition in partitions:
        worse = [part for part in partition.scores(confidence) if part.is_worse]
        small = [part for part in worse if part.is_small]
        if partition.kind == "class":
            rare = _only_rare(pool, trainings, confidence, {part.name for part in small})
            small = [part for part in small if part.name not in rare]
        else:
            rare = set()
        for part in worse:
            name = f"{partition.score} of {partition.kind} '{part.name}'"
            measures.append(Measure.of(name, part.interval, "share"))
        if small:
            severity = "medium"
            weigh_classes |= partition.kind == "class"
            small_parts += [f"{partition.kind} '{part.name}' ({pluralize(part.rows, 'row')})" for part in small]
        elif worse and severity == "none":
            severity = "low"
        rest = [part for part in worse if part.name not in rare]
        if rest or not rare:
            sentences.append(partition.describe(rest, small))
        if rare:
            weigh_classes = True
            sentences.append(_describe_rare(sorted(rare)))
    return QUESTION.found(
        severity,
        " ".join(sentences),
        measures=tuple(measures),
        evidence=tuple(partition.table(confidence) for partition in partitions),
        remedies=_remedies(trainings.config, small_parts, weigh_classes),
    )


def _only_rare(pool: Pool, trainings: Trainings, confidence: float, names: set[str]) -> set[str]:
    """Returns which classes do as well as the others at balanced thresholds, so that only their prior is against them.

    Probabilities are divided by the shares of the classes (Saerens, Latinne & Decaestecker 2002, section 2.2).
    """
    found = trainings.out_of_fold
    rows = found.rows
    shares = np.bincount(pool.labels[rows], pool.weights[rows], minlength=len(pool.features.class_names))
    # A class without rows is never predicted.
    balanced = found.predictions / np.where(shares > 0, shares, np.inf)
    scores = by_row(balanced.astype(np.float32), pool.labels[rows], pool.features.task).mean(axis=0)
    partition = _Partition("class", pool.features.class_names, pool.labels[rows], scores, pool, rows)
    return {part.name for part in partition.scores(confidence) if part.name in names and not part.is_worse}


def _describe_rare(names: list[str]) -> str:
    does = choose(len(names), "does", "do")
    return (
        f"{quote(names, _NAMED)} {does} worse than the others, but not by more than chance at balanced thresholds: "
        "being rare explains it."
    )


def _remedies(config: ml_collections.ConfigDict, small: list[str], weigh_classes: bool) -> tuple[Remedy, ...]:
    remedies = [Remedy(text=f"Collect more examples of {', '.join(small)}.")] if small else []
    if weigh_classes and config.data.class_weights == "none":
        text = "Weight classes by how rare they are in the training loss."
        remedies.append(Remedy(text=text, overrides={"data.class_weights": "balanced"}))
    return tuple(remedies)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Part:
    """A class or group, compared with the others.

    Attributes:
      name: of the class or group.
      rows: its number of rows.
      interval: its score.
      is_worse: whether it does worse than the others by more than chance.
      is_small: whether it has few rows.
    """

    name: str
    rows: int
    interval: Interval
    is_worse: bool
    is_small: bool


class _Partition:
    """Rows by class or by group, with their scores out of fold."""

    def __init__(
        self, kind: str, names: tuple[str, ...], index: np.ndarray, scores: np.ndarray, pool: Pool, rows: np.ndarray
    ):
        """Sorts rows.

        Args:
          kind: "class" or "group".
          names: of all classes or groups.
          index: (n,) the class or group of each row.
          scores: (n,) whether each row is predicted right, or its squared error.
          pool: of the rows.
          rows: (n,) positions in the pool.
        """
        sound = np.isfinite(scores) & (pool.weights[rows] > 0)
        self.kind, self._shares = kind, pool.features.task == "classification"
        self.score = "accuracy" if self._shares else "mse"
        self._index, self._scores, self._weights = index[sound], scores[sound], pool.weights[rows][sound]
        self._present = [number for number in range(len(names)) if (self._index == number).any()]
        self.names = tuple(names[number] for number in self._present)

    def scores(self, confidence: float) -> list[_Part]:
        """Scores all classes or groups, the worst first."""
        counts = np.array([(self._index == number).sum() for number in self._present])
        found, sign = [], 1 if self._shares else -1
        for name, number, count in zip(self.names, self._present, counts.tolist(), strict=True):
            own = self._index == number
            interval = mean_of_rows(
                self._scores[own], self._weights[own], None, are_shares=self._shares, confidence=confidence
            )
            rest = self._weights[~own].sum()
            others = np.average(self._scores[~own], weights=self._weights[~own]) if rest else np.nan
            typical = float(np.median(counts[np.array(self._present) != number])) if len(counts) > 1 else 0.0
            bound = interval[2] if self._shares else interval[1]
            found.append(
                _Part(
                    name=name,
                    rows=count,
                    interval=interval,
                    is_worse=bool(sign * (float(others) - bound) > 0),
                    is_small=count < THRESHOLDS.small_class * typical,
                )
            )
        return sorted(found, key=lambda part: sign * part.interval[0])

    def table(self, confidence: float) -> Table:
        """Lists rows and score of each."""
        return Table(
            title=f"Out of fold, by {self.kind}; the intervals hold together",
            header=(self.kind, "rows", self.score, "from", "to"),
            rows=tuple((part.name, part.rows, *map(float, part.interval)) for part in self.scores(confidence)),
        )

    def describe(self, worse: list[_Part], small: list[_Part]) -> str:
        """Says which of them do worse than the others, and whether they are small."""
        whole = f"the {len(self.names)} {'classes' if self.kind == 'class' else 'groups'}"
        if not worse:
            return f"None of {whole} does worse than the others by more than chance."
        listed = ", ".join(
            f"'{part.name}' ({self.score} {part.interval[0]:.3g} on {part.rows} rows)" for part in worse[:_NAMED]
        )
        more = f" and {len(worse) - _NAMED} more" if len(worse) > _NAMED else ""
        sentence = f"Of {whole}, {listed}{more} {choose(len(worse), 'does', 'do')} worse than the others."
        if small:
            which = choose(len(worse), "It also has", f"{len(small)} of these {len(worse)} also have")
            return f"{sentence} {which} few rows."
        have = choose(len(worse), "It has", "They have")
        are = choose(len(worse), "it is", "they are")
        return f"{sentence} {have} about as many rows as others or more: {are} hard, not small.{self._correlate()}"

    def _correlate(self) -> str:
        parts = self.scores(0.95)
        counts, values = [part.rows for part in parts], [part.interval[0] for part in parts]
        if len(set(counts)) < 4 or len(set(values)) < 2:
            return ""
        rank = stats.spearmanr(counts, values).statistic
        return f" The rank correlation of rows and score is {rank:.2f}."


def _classes(pool: Pool, trainings: Trainings) -> list[_Partition]:
    if pool.features.task != "classification":
        return []
    rows = trainings.out_of_fold.rows
    scores = trainings.out_of_fold.scores(pool)
    return [_Partition("class", pool.features.class_names, pool.labels[rows], scores, pool, rows)]


def _groups(pool: Pool, trainings: Trainings) -> list[_Partition]:
    """By groups, held out whole if possible: otherwise models have seen other rows of the group."""
    if pool.groups is None or len(np.unique(pool.groups[trainings.out_of_fold.rows])) < 2:
        return []
    found = trainings.grouped or trainings.out_of_fold
    rows, scores = found.rows, found.scores(pool)
    return [_Partition("group", pool.features.group_names, pool.groups[rows], scores, pool, rows)]
