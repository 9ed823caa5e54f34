"""Findings on the fit: of the trainings of an audit, or of a finished run."""

import dataclasses
import os
from collections.abc import Sequence

import ml_collections
import numpy as np

from data import subsets
from data.dataset import Dataset, load
from data.features import Features
from data.pool import Pool
from diagnostics import scores
from diagnostics.finding import Curves, Finding, Measure, Remedy, Table, cannot_judge
from diagnostics.fit import baselines, calibration, optimisation, remedies
from diagnostics.fit.baselines import Baselines
from diagnostics.fit.optimisation import Course
from diagnostics.fit.verdict import Figures, judge
from diagnostics.statistics import Interval, clustered_interval, mean_interval, within
from diagnostics.trainings import Control, Trained
from plumbline import UserError, counted
from trainers.building import make_clock
from trainers.run.directory import RunDirectory
from trainers.run.inference import FinishedRun

_CHALLENGE = "fit"
# A difference that is not worth a word; of a calibration error and of a correlation, more is not.
_POINT, _CALIBRATION, _CORRELATION = 0.01, 0.05, 0.05
# Examples by which dead units are looked for.
_EXAMPLES = 2_000
# Examples of a run's split that baselines are fitted to and judged on.
_MOST_EXAMPLES = 10_000


def find(config: ml_collections.ConfigDict, pool: Pool, trained: Trained) -> list[Finding]:
    """Findings `fit`, `control`, `baselines`, `calibration` and `optimisation` of the trainings of an audit.

    The gap is that between the training rows, by the trainings on all of them, and the same kind of rows out of fold;
    baselines are compared on the test split.

    Args:
      config: of the trainings.
      pool: of their data.
      trained: what became of them.
    """
    finished, control = trained.finished, _control(pool, trained.control)
    course = _course_of(config, pool, trained)
    optimised = _optimisation(config, course, of_run=False)
    if not len(finished):
        reason = "all trainings on the training split diverged"
        lost = [cannot_judge(name, _CHALLENGE, reason) for name in ("fit", "baselines", "calibration")]
        return [lost[0], control, *lost[1:], optimised]
    train, test, scale = pool.splits["train"], pool.splits["test"], _Scale.of(pool)
    known = baselines.fit(config, pool, train, test, seed=config.seed)

    def told(rows: np.ndarray) -> np.ndarray:
        return scores.by_row(finished[:, rows], pool.labels[rows], pool.features.task).mean(axis=0)

    comparison = _Comparison(pool, scale, known, test, told(test))
    folds, curve = trained.out_of_fold, trained.curve
    gain = None
    if curve is not None and not curve.doubts():
        size = float(curve.sizes.max())
        gain = scale.amount(curve.gain(size, 2 * size))
    own = _told(pool, trained.control)
    figures = comparison.figures(
        train=scale.mean(told(train), pool.weights[train]),
        held_out=scale.mean(*_finite(folds.scores(pool), pool.weights[folds.rows])),
        held_out_name="out of fold",
        by_heart=float(own.mean()) if len(own) else None,
        gain=gain,
        turned=optimisation.turned(course.validation),
    )
    table = [("training rows", len(train), *figures.train)]
    if "validation" in pool.splits:
        rows = pool.splits["validation"]
        table.append(("validation split", len(rows), *scale.mean(told(rows), pool.weights[rows], _groups(pool, rows))))
    table.append(("out of fold", len(folds.rows), *figures.held_out))
    if (grouped := trained.grouped) is not None:
        values, weights, groups = _finite(grouped.scores(pool), pool.weights[grouped.rows], _groups(pool, grouped.rows))
        table.append(("out of folds of whole groups", len(values), *scale.mean(values, weights, groups)))
    table.append(("test split", len(test), *scale.mean(told(test), pool.weights[test], _groups(pool, test))))
    return [
        _fit(config, pool.features, figures, table, course),
        control,
        comparison.finding(),
        _calibration(config, pool.features, finished[:, test], pool.labels[test], pool.weights[test]),
        optimised,
    ]


def of_run(workdir: str | os.PathLike) -> list[Finding]:
    """The same findings of a finished run, with its best parameters; no control, as that takes trainings.

    Rows held out are those of the validation and the test split together.

    Args:
      workdir: the run directory.

    Raises:
      UserError: there is no run, it has no whole checkpoint, it is a language model, or its data are no longer those it
        was trained on.
    """
    directory, run = RunDirectory(workdir), FinishedRun(workdir)
    config, features = run.config, run.features
    if features.task == "language":
        raise UserError("--workdir: holds a language model, which has no rows; plumbline evaluate measures it")
    each = {"train": run.evaluate_each("train")}
    dataset = load(config.data, seed=config.seed, assets=directory.assets())
    held_out = [name for name in ("validation", "test") if name in dataset.splits]
    each |= {name: run.evaluate_each(name) for name in held_out}
    pool, chosen = _some(dataset, ["train", *held_out], config.seed)
    scale = _Scale.of(pool)
    rows = np.concatenate([pool.splits[name] for name in held_out])
    known = baselines.fit(config, pool, pool.splits["train"], rows, seed=config.seed)
    comparison = _Comparison(pool, scale, known, rows, np.concatenate([each[n][0][chosen[n]] for n in held_out]))
    # What died may have died after the best step.
    last = FinishedRun(workdir, checkpoint="last")
    course = optimisation.of_lines(
        directory.metrics(),
        total_steps=make_clock(config, len(dataset.splits["train"])).total_steps,
        chance=_chance_loss(config, pool),
        diverged=directory.status().get("status") == "diverged",
        dead=optimisation.dead_units(last.program, last.state, pool.inputs[pool.splits["train"][:_EXAMPLES]]),
    )
    intervals = {name: scale.mean(values, weights, groups) for name, (values, weights, groups) in each.items()}
    values, weights, groups = (
        None if any(part is None for part in parts) else np.concatenate(parts)
        for parts in zip(*(each[name] for name in held_out), strict=True)
    )
    figures = comparison.figures(
        # These rows are no draw of groups: how well the model does on others of them is what is held out.
        train=scale.mean(*each["train"][:2]),
        held_out=scale.mean(values, weights, groups),
        held_out_name=f"on the {' and '.join(held_out)} split{'s' if len(held_out) > 1 else ''}",
        other_groups=groups is not None,
        turned=optimisation.turned(course.validation),
    )
    table = [("training rows", len(each["train"][0]), *figures.train)]
    table += [(f"{name} split", len(each[name][0]), *intervals[name]) for name in held_out]
    probabilities, sound = np.zeros((1, 0, 0)), rows
    if scale.is_share:
        parts = [[list(line["probabilities"].values()) for line in run.predict_split(name)] for name in held_out]
        probabilities = np.concatenate([np.array(part, np.float32) for part in parts])[None]
        splits = [dataset.splits[name] for name in held_out]
        # Of images, those that are corrupt are not predicted.
        kept = [(split.weights > 0) | (features.kind != "image") for split in splits]
        labels, sound = (
            np.concatenate([values[own] for values, own in zip(parts, kept, strict=True)])
            for parts in ([split.labels for split in splits], [split.weights for split in splits])
        )
    else:
        labels = pool.labels[rows]
    return [
        _fit(config, features, figures, table, course),
        cannot_judge("control", _CHALLENGE, "a run has no trainings on labels at random, as an audit has"),
        comparison.finding(),
        _calibration(config, features, probabilities, labels, sound),
        _optimisation(config, course, of_run=True),
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Scale:
    """From what is known of each row to a score: accuracy, or the share of the label's variance that is explained."""

    is_share: bool
    variance: float

    @classmethod
    def of(cls, pool: Pool) -> "_Scale":
        labels = pool.labels[pool.splits["train"]].astype(np.float64)
        return cls(is_share=_is_classification(pool), variance=float(max(labels.var(), 1e-30)))

    @property
    def name(self) -> str:
        return "accuracy" if self.is_share else "R2"

    @property
    def kind(self) -> str:
        return "share" if self.is_share else "number"

    def mean(self, values: np.ndarray, weights: np.ndarray, groups: np.ndarray | None = None) -> Interval:
        """Of rows that are right or not, or of squared errors."""
        mean, low, high = scores.mean_of_rows(values, weights, groups, are_shares=self.is_share)
        if self.is_share:
            return (float(mean), float(low), float(high))
        # No squared error is below 0, though an interval around a few groups may be.
        return tuple(float(1 - value / self.variance) for value in within((mean, high, low), 0.0, np.inf))

    def amount(self, interval: Interval) -> Interval:
        """A difference of errors as one of scores."""
        return tuple(float(value if self.is_share else value / self.variance) for value in interval)

    def text(self, interval: Interval) -> str:
        mean, low, high = interval
        if not np.isfinite([low, high]).all():
            return f"{mean:.1%}" if self.is_share else f"{mean:.3f}"
        if self.is_share:
            return f"{mean:.1%} ({low:.1%} to {high:.1%})"
        return f"{mean:.3f} ({low:.3f} to {high:.3f})"


class _Comparison:
    """Baselines against the model, on the same rows held out."""

    def __init__(self, pool: Pool, scale: _Scale, known: Baselines, rows: np.ndarray, own: np.ndarray):
        place = np.full(len(pool.rows), -1)
        place[rows] = np.arange(len(rows))
        self._own, self._scale, self._known = own[place[known.held_out]], scale, known
        self._weights = {
            name: pool.weights[where] for name, where in (("train", known.train), ("held", known.held_out))
        }
        self._groups = _groups(pool, known.held_out)
        means = [np.average(each.held_out, weights=self._weights["held"]) for each in known.found]
        looking = list(range(1, len(means))) or [0]
        self._best = max(looking, key=lambda n: means[n] if scale.is_share else -means[n])

    def figures(self, **others: object) -> Figures:
        """What the verdict goes by."""
        best, constant = self._known.found[self._best], self._known.found[0]
        return Figures(
            score=self._scale.name,
            chance=self._held(constant.held_out)[0],
            baseline=best.name,
            baseline_score=self._held(best.held_out),
            behind=self._behind(best.held_out),
            **others,
        )

    def finding(self) -> Finding:
        """Whether the model is worth more than they are."""
        best, scale = self._known.found[self._best], self._scale
        behind, model, score = self._behind(best.held_out), self._held(self._own), self._held(best.held_out)
        both = f"Held out, the model has {scale.name} {scale.text(model)}, the best baseline, a {best.name}, "
        both += scale.text(score)
        if not np.isfinite(behind).all():
            severity = "unknown"
            message = (
                "Cannot judge: there is no interval for scores on the rows held out, as all that count are of one "
            )
            message += f"group, or too few. {both}."
        elif behind[1] > _POINT:
            severity = "high" if behind[0] > 0.1 else "medium"
            message = f"{both}: the baseline is better by {scale.text(behind)} on the same rows."
        elif behind[2] < 0:
            severity, ahead = "none", tuple(-value for value in (behind[0], behind[2], behind[1]))
            message = f"{both}: the model is better by {scale.text(ahead)} on the same rows."
        else:
            severity = "low"
            message = f"{both}: on these rows the model is not clearly better, at a greater cost."
        rows = [("the model", "", "", "", *model)]
        for each in self._known.found:
            rows.append((each.name, *scale.mean(each.train, self._weights["train"]), *self._held(each.held_out)))
        table = Table(
            title=f"Baselines, fitted to {len(self._known.train):,} rows, judged on {len(self._known.held_out):,}",
            header=("model", f"{scale.name}, training", "from", "to", f"{scale.name}, held out", "from", "to"),
            rows=tuple(rows),
        )
        return Finding(
            name="baselines",
            challenge=_CHALLENGE,
            severity=severity,
            message=message,
            measures=(
                Measure.of(f"{scale.name} by which the best baseline is ahead", behind),
                Measure.of(f"{scale.name} of the model", model, scale.kind),
                Measure.of(f"{scale.name} of a {best.name}", score, scale.kind),
            ),
            evidence=(table,),
        )

    def _held(self, values: np.ndarray) -> Interval:
        return self._scale.mean(values, self._weights["held"], self._groups)

    def _behind(self, values: np.ndarray) -> Interval:
        """How much better than the model a baseline is, row by row; wider, as it is the best of several."""
        difference = values - self._own if self._scale.is_share else (self._own - values) / self._scale.variance
        clusters = np.arange(len(values)) if self._groups is None else self._groups
        confidence = 1 - 0.05 / len(self._known.found)
        return tuple(map(float, clustered_interval(difference, clusters, self._weights["held"], confidence)))


def _fit(
    config: ml_collections.ConfigDict, features: Features, figures: Figures, table: list[tuple], course: Course
) -> Finding:
    verdict = judge(figures)
    offered: tuple[Remedy, ...] = ()
    if verdict.kind == "overfits":
        offered = remedies.against_overfitting(config, features)
    elif verdict.kind == "underfits":
        offered = remedies.against_underfitting(config, features)
    kind = "share" if figures.score == "accuracy" else "number"
    measures = [
        Measure.of(f"gap in {figures.score} between training rows and those held out", figures.gap),
        Measure.of(f"{figures.score} on training rows", figures.train, kind),
        Measure.of(f"{figures.score} {figures.held_out_name}", figures.held_out, kind),
    ]
    if figures.gain is not None:
        measures.append(Measure.of(f"{figures.score} that twice the data would add", figures.gain))
    if figures.by_heart is not None:
        measures.append(Measure(name="of labels at random, learned by heart", value=figures.by_heart, kind=kind))
    scored = Table(
        title=f"{figures.score} of the model",
        header=("rows", "number", figures.score, "from", "to"),
        rows=tuple((name, count, *map(float, interval)) for name, count, *interval in table),
    )
    message = verdict.why if verdict.kind == "cannot tell" else f"It {_said(verdict.kind)}: {verdict.why}"
    return Finding(
        name="fit",
        challenge=_CHALLENGE,
        severity=verdict.severity,
        message=message,
        measures=tuple(measures),
        evidence=(scored, *_losses(course)),
        remedies=offered,
    )


def _said(kind: str) -> str:
    return "is sound" if kind == "sound" else kind


def _control(pool: Pool, control: Control) -> Finding:
    """Trained on labels at random, a model must not tell true ones; if it does, something but the inputs tells them."""
    name, sound = "control", pool.weights[control.rows] > 0
    rows, labels = control.rows[sound], pool.labels[control.rows[sound]]
    there = np.isfinite(control.predictions).all(axis=(1, 2))
    if there.sum() < 2:
        return cannot_judge(name, _CHALLENGE, "it takes two trainings on labels at random that do not diverge")
    predictions, own = control.predictions[there][:, sound], _told(pool, control)
    if _is_classification(pool):
        chosen, classes = predictions.argmax(axis=-1), pool.features.num_outputs
        shares = np.bincount(labels, minlength=classes) / len(rows)
        # Of answers that know nothing of the labels, so many are right.
        chance = np.array([(np.bincount(each, minlength=classes) / len(rows)) @ shares for each in chosen])
        told = (chosen == labels).mean(axis=1)
        excess, least = mean_interval(told - chance), _POINT
        seen = f"gets {told.mean():.1%} of the rows held out right, where chance is {chance.mean():.1%}"
        learned = f"Of these labels themselves, it learned {own.mean():.1%} by heart."
        measures = [
            Measure.of("accuracy above chance, trained on labels at random", excess),
            Measure(name="of labels at random, learned by heart", value=float(own.mean()), kind="share"),
        ]
    else:
        values = predictions[..., 0].astype(np.float64)
        excess, least = mean_interval([_correlation(each, labels) for each in values]), _CORRELATION
        seen = f"tells values that correlate with the true ones by {excess[0]:.3f}, where chance is 0"
        learned = f"Of the variance of these labels themselves, it learned {own.mean():.3f} by heart."
        measures = [
            Measure.of("correlation with true values, trained on labels at random", excess),
            Measure(name="R2 on labels at random that it was trained on", value=float(own.mean())),
        ]
    message = f"Trained on labels at random, it {seen}."
    if excess[1] > 0 and excess[0] > least:
        message += " That is more than chance: the trainings or their evaluation see what they must not."
        severity = "high"
    else:
        message += " That is as it must be."
        severity = "none"
    return Finding(
        name=name, challenge=_CHALLENGE, severity=severity, message=f"{message} {learned}", measures=tuple(measures)
    )


def _calibration(
    config: ml_collections.ConfigDict,
    features: Features,
    probabilities: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
) -> Finding:
    name = "calibration"
    if features.task != "classification":
        return cannot_judge(name, _CHALLENGE, "a regression gives no probabilities")
    found = calibration.measure(
        probabilities, labels, weights, features, bins=config.evaluation.calibration_bins, seed=config.seed
    )
    error, low, high = found.error
    confidence, right, count = found.bins.T
    sure = float(np.average(confidence - right, weights=count))
    message = f"The expected calibration error held out is {error:.3f} ({low:.3f} to {high:.3f})"
    if error <= found.by_chance:
        severity = "none"
        message += f"; on so many rows, a model that is right as often as it says may have {found.by_chance:.3f}."
    else:
        severity = "medium" if low > 2 * _CALIBRATION else "low" if error > _CALIBRATION else "none"
        way = "surer than it is right" if sure > 0 else "less sure than it is right"
        message += f", where chance alone explains {found.by_chance:.3f}: in the mean it is {way}, by {abs(sure):.1%}."
    offered = []
    if severity != "none" and sure > 0:
        if not config.objective.label_smoothing:
            offered.append(Remedy(text="Smooth the labels.", overrides={"objective.label_smoothing": 0.05}))
        if config.train.best_metric != "loss" and config.data.validation != "none":
            offered.append(
                Remedy(text="Choose the checkpoint by its validation loss.", overrides={"train.best_metric": "loss"})
            )
    if severity != "none" and sure < 0:
        if config.objective.label_smoothing:
            offered.append(Remedy(text="Do not smooth the labels.", overrides={"objective.label_smoothing": 0.0}))
        offered += remedies.longer(config)
    table = Table(
        title="Confidence against accuracy, by bin of confidence",
        header=("confidence", "accuracy", "rows"),
        rows=tuple((float(sure), float(own), round(float(rows), 1)) for sure, own, rows in found.bins),
    )
    return Finding(
        name=name,
        challenge=_CHALLENGE,
        severity=severity,
        message=message,
        measures=(
            Measure.of("expected calibration error", found.error),
            Measure(name="calibration error that chance explains", value=found.by_chance),
        ),
        evidence=(table,),
        remedies=tuple(offered),
    )


def _optimisation(config: ml_collections.ConfigDict, course: Course, *, of_run: bool) -> Finding:
    name = "optimisation"
    found = optimisation.troubles(course, config)
    if not found and len(course.train) < optimisation.LEAST_POINTS:
        return cannot_judge(
            name,
            _CHALLENGE,
            f"the training loss has {counted(len(course.train), 'point')}, and it takes {optimisation.LEAST_POINTS}; "
            f"set {'train.log_every' if of_run else 'train.evaluate_every'} to less",
        )
    looked = "loss" if not of_run else "loss, gradient and units"
    message = " ".join(f"{each.name.capitalize()}: {each.text}" for each in found)
    evidence = list(_losses(course))
    if len(course.gradient_norm):
        lines = {"gradient norm": course.gradient_norm}
        evidence.append(Curves(title="Gradient", x_label="step", y_label="norm", lines=lines))
    if course.dead:
        shares = tuple((layer, share) for layer, share in course.dead.items())
        evidence.append(Table(title="Units that are zero for all examples", header=("layer", "share"), rows=shares))
    return Finding(
        name=name,
        challenge=_CHALLENGE,
        severity=found[0].severity if found else "none",
        message=message or f"No trouble seen in how {looked} went.",
        measures=(
            Measure(name="updates skipped", value=course.skipped, kind="count"),
            *(
                Measure(name=f"dead units of {layer}", value=share, kind="share")
                for layer, share in course.dead.items()
            ),
        ),
        evidence=tuple(evidence),
        remedies=tuple(remedy for each in found for remedy in each.remedies),
    )


def _losses(course: Course) -> tuple[Curves, ...]:
    lines = {
        name: curve for name, curve in (("training", course.train), ("validation", course.validation)) if len(curve)
    }
    return (Curves(title="Loss over the training", x_label="step", y_label="loss", lines=lines),) if lines else ()


def _course_of(config: ml_collections.ConfigDict, pool: Pool, trained: Trained) -> Course:
    return optimisation.of_history(
        trained.training_history,
        [history for history in trained.histories if history],
        config,
        num_rows=len(pool.splits["train"]),
        chance=_chance_loss(config, pool),
        diverged=len(trained.finished) < len(trained.seeds),
    )


def _chance_loss(config: ml_collections.ConfigDict, pool: Pool) -> float:
    """The training loss of a model that does not look at the inputs, in the unit of the loss."""
    if not _is_classification(pool):
        return 1.0  # Labels are scaled to unit deviation.
    _, counts = np.unique(pool.labels[pool.splits["train"]], return_counts=True)
    shares = counts / counts.sum()
    mixed = config.objective.label_smoothing or config.augment.mixup or config.augment.cutmix
    if mixed or config.data.class_weights != "none":
        return float(np.log(max(2, pool.features.num_outputs)))
    return float(-(shares * np.log(shares)).sum())


def _told(pool: Pool, control: Control) -> np.ndarray:
    """(s,) how well each training on labels at random does on these."""
    there = np.isfinite(control.own).all(axis=(1, 2))
    found = []
    for own, labels in zip(control.own[there], control.labels[there], strict=True):
        mean = float(scores.by_row(own, labels, pool.features.task).mean())
        found.append(mean if _is_classification(pool) else 1 - mean / max(float(labels.var()), 1e-30))
    return np.array(found)


def _correlation(values: np.ndarray, labels: np.ndarray) -> float:
    """0 where one of the two does not vary."""
    if values.std() == 0 or labels.std() == 0:
        return 0.0
    return float(np.corrcoef(values, labels)[0, 1])


def _some(dataset: Dataset, names: Sequence[str], seed: int) -> tuple[Pool, dict[str, np.ndarray]]:
    """A pool of some examples of each split, with their positions in the splits; of a set that is streamed as well."""
    splits = {name: dataset.splits[name] for name in names}
    chosen = {
        name: np.sort(subsets.nested_order(split.labels, seed=seed)[:_MOST_EXAMPLES]) for name, split in splits.items()
    }
    ends = np.cumsum([len(rows) for rows in chosen.values()])

    def joined(part: str) -> np.ndarray | None:
        values = [getattr(split, part) for split in splits.values()]
        if any(each is None for each in values):
            return None
        return np.concatenate([each[chosen[name]] for name, each in zip(splits, values, strict=True)])

    texts = None
    if dataset.features.kind == "text":
        texts = [splits[name].reader.text(int(row)) for name, rows in chosen.items() for row in rows]
    pool = Pool(
        features=dataset.features,
        inputs=np.concatenate([splits[name].reader.read(rows)[0] for name, rows in chosen.items()]),
        labels=joined("labels"),
        weights=joined("weights"),
        groups=joined("groups"),
        rows=joined("rows"),
        splits={n: np.arange(end - len(chosen[n]), end) for n, end in zip(chosen, ends, strict=True)},
        fingerprint=dataset.fingerprint,
        texts=texts,
    )
    return pool, chosen


def _finite(values: np.ndarray, *others: np.ndarray | None) -> list[np.ndarray | None]:
    """Without the rows of trainings that diverged."""
    there = np.isfinite(values)
    return [values[there], *(None if other is None else other[there] for other in others)]


def _groups(pool: Pool, rows: np.ndarray) -> np.ndarray | None:
    return None if pool.groups is None else pool.groups[rows]


def _is_classification(pool: Pool) -> bool:
    return pool.features.task == "classification"
