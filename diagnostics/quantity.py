"""Whether there are enough examples: what more would bring, of which there are too few, and whether fewer would do."""

import ml_collections
import numpy as np
from scipy import stats

from data.pool import Pool
from diagnostics.finding import Curves, Evidence, Finding, Measure, Remedy, Table, cannot_judge
from diagnostics.learning_curve import LearningCurve
from diagnostics.scores import Score, mean_of_rows
from diagnostics.statistics import Interval, mean_interval
from diagnostics.trainings import Trained
from plumbline import counted

_CHALLENGE = "data quantity"
# A point of accuracy, or a hundredth of the label's variance: less is not worth collecting data for.
_POINT = 0.01
# Sizes at which a curve is drawn, and looked at for the smallest that does.
_DRAWN = 60
# A class has few rows if they are less than this share of those of the median other class.
_FEW = 2 / 3


def find(pool: Pool, trained: Trained, *, wanted: float | None = None) -> list[Finding]:
    """Findings `more_data`, `short_classes` and `enough_data`.

    Args:
      pool: of the set.
      trained: the audit's trainings on it.
      wanted: accuracy, or for a regression the mean squared error, of which is asked how many examples it takes.
    """
    score = Score(pool.features.task)
    return [_more(pool, trained, score, wanted), _short(pool, trained), _enough(pool, trained, score)]


def _more(pool: Pool, trained: Trained, score: Score, wanted: float | None) -> Finding:
    """What twice the data would bring, and what the wanted figure takes."""
    curve, name = trained.curve, "more_data"
    if curve is None:
        return cannot_judge(name, _CHALLENGE, trained.why_no_curve)
    size = int(curve.sizes.max())
    gain, twice = curve.gain(size, 2 * size), score.interval(curve.prediction(2 * size))
    unit = _unit(pool)
    measures = [
        Measure.of(f"{score.error_name} that twice the data would take away", gain),
        Measure.of(f"{score.name} of a training on {2 * size:,} examples", twice),
    ]
    asked = ""
    if wanted is not None:
        needed = curve.needed(score.error(wanted))
        asked = f" {score.name} {wanted:g}: "
        if needed.examples is None:
            asked += f"cannot say: {needed.reason}."
        else:
            high = f"{needed.high:,.0f}" if np.isfinite(needed.high) else "any number, as it may never be enough"
            asked += f"about {needed.examples:,.0f} examples (95 %: {needed.low:,.0f} to {high})."
            measures.append(
                Measure(
                    name=f"examples for {score.name} {wanted:g}",
                    value=needed.examples,
                    low=needed.low,
                    high=needed.high,
                    kind="count",
                )
            )
    if doubts := curve.doubts():
        finding = cannot_judge(name, _CHALLENGE, "; ".join(doubts))
        severity, message = finding.severity, finding.message + asked
    else:
        severity = "medium" if gain[1] > _POINT * unit else "low" if gain[0] > _POINT * unit else "none"
        brings = _amount(score, gain)
        message = (
            f"Twice the data, {2 * size:,} examples, would take the {score.name} to {score.range(twice)}: "
            f"{brings} better in the mean."
        )
        if severity == "none":
            message += " More of the same data is not what is missing."
        message += asked
    collect = Remedy(text=f"Collect more examples like these: with {2 * size:,} expect {score.range(twice)}.")
    return Finding(
        name=name,
        challenge=_CHALLENGE,
        severity=severity,
        message=message,
        measures=tuple(measures),
        evidence=(_drawn(curve, score),),
        remedies=(collect,) if severity in ("medium", "low") else (),
    )


def _enough(pool: Pool, trained: Trained, score: Score) -> Finding:
    """The smallest size that comes within a point of the full one."""
    curve, name = trained.curve, "enough_data"
    if curve is None:
        return cannot_judge(name, _CHALLENGE, trained.why_no_curve)
    if curve.misfit < 0.01:
        return cannot_judge(name, _CHALLENGE, "; ".join(curve.doubts()))
    least, full = int(curve.sizes.min()), int(curve.sizes.max())
    found = full
    for size in np.unique(np.geomspace(least, full, _DRAWN).astype(int))[::-1]:
        if curve.gain(float(size), full)[2] > _POINT * _unit(pool):
            break
        found = int(size)
    point = "a point of accuracy" if score.is_accuracy else "a hundredth of the label's variance"
    measures = (
        Measure(name="examples that come within a point of all of them", value=found, kind="count"),
        Measure(name="of all training examples", value=found / full, kind="share"),
    )
    evidence = (_drawn(curve, score), _by_size(curve, score))
    if found > full / 2:
        message = f"With half of the {full:,} training examples the {score.name} may be worse by more than {point}."
        return Finding(
            name=name, challenge=_CHALLENGE, severity="none", message=message, measures=measures, evidence=evidence
        )
    remedies = []
    if score.is_accuracy:
        each = -(-found // len(pool.features.class_names))
        remedies.append(
            Remedy(
                text=f"Try changes on {each} training examples of each class first: that is faster, and tells as much.",
                overrides={"data.examples_per_class": each},
            )
        )
    tried = " (the fewest that were tried)" if found == least else ""
    return Finding(
        name=name,
        challenge=_CHALLENGE,
        severity="low",
        message=(
            f"Fewer would do: with {found:,} of the {full:,} training examples{tried} the {score.name} is within "
            f"{point} of that with all."
        ),
        measures=measures,
        evidence=evidence,
        remedies=tuple(remedies),
    )


def _short(pool: Pool, trained: Trained) -> Finding:
    """Which classes or groups do worst out of fold, and whether they are those with few rows."""
    name = "short_classes"
    parts = [*_class_parts(pool, trained), *_group_parts(pool, trained)]
    if not parts:
        return cannot_judge(name, _CHALLENGE, "a regression has no classes, and this one no groups")
    # As many looks at once: each with its share of the error.
    confidence = 1 - 0.05 / max(1, sum(len(part.names) for part in parts))
    severity, sentences, evidence, measures, names = "none", [], [], [], []
    for part in parts:
        worse = [found for found in part.looked(confidence) if found.is_worse]
        few = [found for found in worse if found.is_few]
        evidence.append(part.table(confidence))
        for found in worse:
            measures.append(Measure.of(f"{part.score} of {part.kind} '{found.name}'", found.interval, "share"))
        if few:
            severity = "medium"
            names += [f"{part.kind} '{found.name}' ({counted(found.rows, 'row')})" for found in few]
        elif worse and severity == "none":
            severity = "low"
        sentences.append(part.sentence(worse, few))
    remedies = [Remedy(text=f"Collect more examples of {', '.join(names)}.")] if names else []
    if severity == "medium" and _class_weights_are_off(pool, trained.config, parts, confidence):
        remedies.append(
            Remedy(
                text="Weight classes by how rare they are in the training loss.",
                overrides={"data.class_weights": "balanced"},
            )
        )
    return Finding(
        name=name,
        challenge=_CHALLENGE,
        severity=severity,
        message=" ".join(sentences),
        measures=tuple(measures),
        evidence=tuple(evidence),
        remedies=tuple(remedies),
    )


class _Found:
    """A class or group among others."""

    def __init__(self, name: str, rows: int, interval: Interval, others: float, typical: float, better: int):
        self.name, self.rows, self.interval = name, rows, interval
        # Worse than the others by more than chance, whichever direction is the better one.
        bound = interval[2] if better > 0 else interval[1]
        self.is_worse = bool(better * (others - bound) > 0)
        self.is_few = rows < _FEW * typical


class _Part:
    """Rows by class, or by group, with their scores out of fold."""

    def __init__(self, kind: str, names: tuple[str, ...], index: np.ndarray, scores: np.ndarray, pool: Pool, rows):
        sound = np.isfinite(scores) & (pool.weights[rows] > 0)
        self.kind, self._shares = kind, pool.features.task == "classification"
        self.score = "accuracy" if self._shares else "mse"
        self._index, self._scores, self._weights = index[sound], scores[sound], pool.weights[rows][sound]
        self._present = [number for number in range(len(names)) if (self._index == number).any()]
        self.names = tuple(names[number] for number in self._present)

    def looked(self, confidence: float) -> list[_Found]:
        """All of them, those with the worst score first."""
        counts = np.array([(self._index == number).sum() for number in self._present])
        found, better = [], 1 if self._shares else -1
        for name, number, count in zip(self.names, self._present, counts.tolist(), strict=True):
            own = self._index == number
            interval = mean_of_rows(
                self._scores[own], self._weights[own], None, are_shares=self._shares, confidence=confidence
            )
            rest = self._weights[~own].sum()
            others = np.average(self._scores[~own], weights=self._weights[~own]) if rest else np.nan
            typical = float(np.median(counts[np.array(self._present) != number])) if len(counts) > 1 else 0.0
            found.append(_Found(name, count, interval, float(others), typical, better))
        return sorted(found, key=lambda each: better * each.interval[0])

    def table(self, confidence: float) -> Table:
        """Rows and score of each."""
        return Table(
            title=f"Out of fold, by {self.kind}; intervals hold for all of them at once",
            header=(self.kind, "rows", self.score, "from", "to"),
            rows=tuple((found.name, found.rows, *map(float, found.interval)) for found in self.looked(confidence)),
        )

    def sentence(self, worse: list[_Found], few: list[_Found]) -> str:
        """What was found."""
        whole = f"the {len(self.names)} {'classes' if self.kind == 'class' else 'groups'}"
        if not worse:
            return f"None of {whole} does worse than the others by more than chance."
        listed = ", ".join(
            f"'{found.name}' ({self.score} {found.interval[0]:.3g} on {found.rows} rows)" for found in worse[:5]
        )
        more = f" and {len(worse) - 5} more" if len(worse) > 5 else ""
        sentence = f"Of {whole} {listed}{more} {'does' if len(worse) == 1 else 'do'} worse than the others."
        if few:
            which = "It has" if len(worse) == 1 else f"{len(few)} of these {len(worse)} have"
            return f"{sentence} {which} few rows, too."
        which = "It has about" if len(worse) == 1 else "They have about"
        which += " as many rows as others or more: " + ("it is" if len(worse) == 1 else "they are")
        return f"{sentence} {which} hard, not short." + self._ranks()

    def _ranks(self) -> str:
        looked = self.looked(0.95)
        counts = [found.rows for found in looked]
        if len(set(counts)) < 4:
            return ""
        rank = stats.spearmanr(counts, [found.interval[0] for found in looked]).statistic
        return f" Rows and score go together with a rank correlation of {rank:.2f}."


def _class_parts(pool: Pool, trained: Trained) -> list[_Part]:
    if pool.features.task != "classification":
        return []
    rows = trained.out_of_fold.rows
    scores = trained.out_of_fold.scores(pool)
    return [_Part("class", pool.features.class_names, pool.labels[rows], scores, pool, rows)]


def _group_parts(pool: Pool, trained: Trained) -> list[_Part]:
    """By groups that were held out whole, if they were; otherwise their other rows have told of them."""
    if pool.groups is None or len(np.unique(pool.groups[trained.out_of_fold.rows])) < 2:
        return []
    found = trained.grouped or trained.out_of_fold
    rows, scores = found.rows, found.scores(pool)
    return [_Part("group", pool.features.group_names, pool.groups[rows], scores, pool, rows)]


def _class_weights_are_off(
    pool: Pool, config: ml_collections.ConfigDict, parts: list[_Part], confidence: float
) -> bool:
    """Whether classes are among what is short, and not yet weighted."""
    short = any(
        found.is_worse and found.is_few for part in parts if part.kind == "class" for found in part.looked(confidence)
    )
    return short and config.data.class_weights == "none"


def _unit(pool: Pool) -> float:
    """Of which a point is a hundredth."""
    return 1.0 if pool.features.task == "classification" else float(pool.labels[pool.splits["train"]].var())


def _amount(score: Score, gain: tuple[float, float, float]) -> str:
    mean, low, high = ((100 * value if score.is_accuracy else value) for value in gain)
    unit = "points of accuracy" if score.is_accuracy else "of mean squared error"
    return f"{mean:.3g} {unit} (95 %: {low:.3g} to {high:.3g})"


def _drawn(curve: LearningCurve, score: Score) -> Evidence:
    """What was measured, and the law up to twice the data."""
    measured = []
    for size in np.unique(curve.sizes):
        mean, low, high = score.interval(mean_interval(curve.errors[curve.sizes == size]))
        measured.append((size, mean, low, high))
    law = [
        (size, *score.interval(curve.error(float(size))))
        for size in np.geomspace(curve.sizes.min(), 2 * curve.sizes.max(), _DRAWN)
    ]
    return Curves(
        title="Learning curve, judged on the test split",
        x_label="training examples",
        y_label=score.name,
        lines={"measured, mean over seeds": np.array(measured), "power law": np.array(law)},
        log_x=True,
    )


def _by_size(curve: LearningCurve, score: Score) -> Table:
    rows = []
    for size in np.unique(curve.sizes):
        errors = curve.errors[curve.sizes == size]
        rows.append((int(size), len(errors), *map(float, score.interval(mean_interval(errors)))))
    return Table(
        title="Trainings on growing parts of the training rows",
        header=("examples", "trainings", score.name, "from", "to"),
        rows=tuple(rows),
    )
