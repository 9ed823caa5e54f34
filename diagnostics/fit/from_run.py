"""Judges the fit of a finished run."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from data import subsets
from data.dataset import Dataset, load
from data.pool import Pool
from diagnostics.finding import Finding
from diagnostics.fit import baselines, calibration, control, course, directions, judgement, optimisation, verdict
from diagnostics.fit.comparison import Comparison
from diagnostics.fit.course import Course
from diagnostics.fit.scale import Scale
from plumbline import UserError
from trainers.building import make_clock
from trainers.run.directory import RunDirectory
from trainers.run.inference import FinishedRun

# Examples by which dead units are counted.
_EXAMPLES = 2_000
# Examples of each split that baselines are fitted to and judged on.
_MOST_EXAMPLES = 10_000

Evaluated = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""Values, weights and groups of the rows of a split; see `FinishedRun.evaluate_each`."""


def judge(workdir: str | os.PathLike) -> list[Finding]:
    """Answers the questions on the fit of a run with its best parameters; there is no control, as that takes trainings.

    Held-out rows are those of the validation and the test split together.

    Args:
      workdir: the run directory.

    Raises:
      UserError: there is no run, it has no whole checkpoint, it is a language model, or its data are no longer those it
        was trained on.
    """
    directory, run = RunDirectory(workdir), FinishedRun(workdir)
    config, features = run.config, run.features
    if features.task == "language":
        raise UserError("--workdir: holds a language model, which has no rows; `plumbline evaluate` measures it")
    each = {"train": run.evaluate_each("train")}
    dataset = load(config.data, seed=config.seed, assets=directory.assets())
    held_out = [name for name in ("validation", "test") if name in dataset.splits]
    each |= {name: run.evaluate_each(name) for name in held_out}
    pool, chosen = _sample(dataset, ["train", *held_out], config.seed)
    scale = Scale.of(pool)
    rows = np.concatenate([pool.splits[name] for name in held_out])
    known = baselines.fit(config, pool, pool.splits["train"], rows, seed=config.seed)
    name = f"on the {' and '.join(held_out)} split{'s' if len(held_out) > 1 else ''}"
    # The pool holds the splits one after the other.
    own = np.concatenate([each[n][0][chosen[n]] for n in ("train", *held_out)])
    compared = Comparison(pool, scale, known, own[None], name)
    losses = _read_course(directory, run, dataset, pool)
    values, weights, groups = _join(each, held_out)
    figures = compared.figures(
        # Intervals of training rows are by row: training groups are not a sample of groups.
        train=scale.mean(*each["train"][:2]),
        held_out=scale.mean(values, weights, groups),
        held_out_name=name,
        other_groups=groups is not None,
        risen=course.measure_rise(losses.validation),
    )
    scored = [("training rows", len(each["train"][0]), figures.train)]
    scored += [(f"{name} split", len(each[name][0]), scale.mean(*each[name])) for name in held_out]
    if features.task == "classification":
        predicted = _predict(run, dataset, held_out)
    else:
        predicted = np.zeros((1, 0, 0)), pool.labels[rows], rows
    findings = [
        judgement.report(config, features, figures, scored, losses),
        control.QUESTION.cannot_tell("a run has no trainings on random labels, as an audit has"),
        compared.report(),
        calibration.judge(config, features, *predicted),
        optimisation.judge(config, losses, of_run=True),
    ]
    return directions.settle(findings, verdict.judge(figures).kind, config)


def _read_course(directory: RunDirectory, run: FinishedRun, dataset: Dataset, pool: Pool) -> Course:
    # Units may have died after the best step.
    last = FinishedRun(directory.path, checkpoint="last")
    inputs = pool.inputs[pool.splits["train"][:_EXAMPLES]]
    return course.from_metrics(
        directory.metrics(),
        total_steps=make_clock(run.config, len(dataset.splits["train"])).total_steps,
        chance=course.chance_loss(run.config, pool),
        diverged=directory.status().get("status") == "diverged",
        dead=course.count_dead_units(last.program, last.state, inputs),
    )


def _join(each: Mapping[str, Evaluated], names: Sequence[str]) -> Evaluated:
    """Joins the rows of several splits; without groups if one of them has none."""
    values, weights, groups = (
        None if any(part is None for part in parts) else np.concatenate(parts)
        for parts in zip(*(each[name] for name in names), strict=True)
    )
    return values, weights, groups


def _predict(run: FinishedRun, dataset: Dataset, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities (1, n, classes), labels (n,) and weights (n,) of the rows of some splits."""
    parts = [[list(line["probabilities"].values()) for line in run.predict_split(name)] for name in names]
    probabilities = np.concatenate([np.array(part, np.float32) for part in parts])[None]
    splits = [dataset.splits[name] for name in names]
    # Corrupt images are not predicted.
    sound = [(split.weights > 0) | (dataset.features.kind != "image") for split in splits]
    labels, weights = (
        np.concatenate([values[own] for values, own in zip(parts, sound, strict=True)])
        for parts in ([split.labels for split in splits], [split.weights for split in splits])
    )
    return probabilities, labels, weights


def _sample(dataset: Dataset, names: Sequence[str], seed: int) -> tuple[Pool, dict[str, np.ndarray]]:
    """Makes a pool of a sample of each split, also of a streamed set; returns it with the positions in the splits."""
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
