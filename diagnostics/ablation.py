"""Ablations: variants of a recipe, compared with the baseline on the same seeds and the same test rows."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from data.pool import Pool
from diagnostics.crossed import crossed_interval
from diagnostics.scores import Score, by_row
from diagnostics.statistics import Interval, bonferroni, mean_interval, paired_difference, within
from plumbline import UserError, nearest
from trainers import settings
from trainers.populations.members import Member, Outcome, check_shared
from trainers.run.evaluation import overall
from trainers.step.objectives import bounds

BASELINE = "baseline"
Variants = dict[str, dict[str, Any]]
"""From the name of a variant to its overrides, config path -> value."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A variant's row of the table.

    Attributes:
      name: of the variant.
      changes: what it overrides, as text.
      values: of the metric, by seed; without the seeds that diverged.
      mean: over the seeds, with its 95 % interval.
      difference: from the baseline on the same seeds, with its interval; None for the baseline itself.
      validation: mean over the seeds on the validation rows; nan without any.
      diverged: seeds whose training diverged.
      higher_is_better: direction of the metric.
    """

    name: str
    changes: str
    values: dict[int, float]
    mean: Interval
    difference: Interval | None
    validation: float
    diverged: tuple[int, ...]
    higher_is_better: bool

    @property
    def verdict(self) -> str:
        """Better or worse than the baseline if the interval excludes 0; the same if no seed differs.

        If all differences are equal, as those of few seeds in whole test rows may be, their variance is unknown.
        """
        if self.difference is None:
            return ""
        _, low, high = self.difference
        if low == high == 0:
            return "the same"
        if not (low > 0 or high < 0) or low == high:
            return "unclear"
        return "better" if (low > 0) == self.higher_is_better else "worse"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class JudgedRows:
    """The rows that trainings are judged on, so that differences hold for other rows too.

    Attributes:
      labels: (n,).
      weights: (n,).
      groups: (n,) of rows that depend on each other; None if they are independent.
      task: "classification" or "regression".
    """

    labels: np.ndarray
    weights: np.ndarray
    groups: np.ndarray | None
    task: str

    @classmethod
    def of(cls, pool: Pool, rows: np.ndarray, metric: str) -> "JudgedRows | None":
        """Returns some rows (n,) of a pool; None if the metric cannot be computed from predictions of rows."""
        task = pool.features.task
        if task == "language" or metric != Score(task).name:
            return None
        groups = None if pool.groups is None else pool.groups[rows]
        return cls(labels=pool.labels[rows], weights=pool.weights[rows], groups=groups, task=task)

    def score(self, outcome: Outcome) -> np.ndarray:
        """Returns whether each row (n,) was predicted right, or its squared error."""
        return by_row(outcome.predictions, self.labels, self.task)

    def interval(self, values: np.ndarray, confidence: float = 0.95) -> Interval:
        """Computes the mean of the scores (S, n) of S trainings, or their differences, over seeds and rows."""
        return crossed_interval(values, self.weights, self.groups, confidence)


def check(ablations: object, config: ml_collections.ConfigDict) -> Variants:
    """Checks the variants that a config's `ablations()` returned, and puts the baseline first.

    Args:
      ablations: the value returned.
      config: to which the overrides are applied.

    Raises:
      UserError: it is not a dict from names to overrides, has no baseline or nothing else, or an override names no
        field, has an invalid value, or changes what all trainings share.
    """
    if not isinstance(ablations, Mapping) or not all(
        isinstance(name, str) and isinstance(overrides, Mapping) for name, overrides in ablations.items()
    ):
        raise UserError("ablations(): it must return a dict from a variant's name to a dict of config path: value")
    if BASELINE not in ablations:
        near = nearest(BASELINE, ablations)
        hint = f"rename '{near}', or " if near else ""
        raise UserError(f"ablations(): no '{BASELINE}' among its variants; {hint}add '{BASELINE}': {{}}")
    if len(ablations) < 2:
        raise UserError(f"ablations(): nothing but the {BASELINE}; add a variant to compare with it")
    for name, overrides in ablations.items():
        try:
            settings.check(settings.override(config, overrides))
            check_shared(overrides)
        except UserError as error:
            raise UserError(f"ablations(): '{name}': {error}") from None
    ordered = [BASELINE, *(name for name in ablations if name != BASELINE)]
    return {name: dict(ablations[name]) for name in ordered}


def make_members(pool: Pool, variants: Variants, seeds: Sequence[int]) -> list[Member]:
    """Makes a training for each variant and seed, on the splits of a single run; judged on the test split."""
    return [
        Member(
            name=member_name(variant, seed),
            overrides=overrides,
            seed=seed,
            train=pool.splits["train"],
            held_out=pool.splits["test"],
            validation=pool.splits.get("validation", np.zeros(0, np.int64)),
        )
        for variant, overrides in variants.items()
        for seed in seeds
    ]


def rows(
    variants: Variants,
    seeds: Sequence[int],
    outcomes: Mapping[str, Outcome],
    metric: str,
    *,
    higher_is_better: bool,
    judged: JudgedRows | None,
) -> list[Row]:
    """Makes the rows of the table, one for each variant.

    Intervals of the differences hold together for all variants in 95 % of tables (Bonferroni).

    Args:
      variants: result of `check`.
      seeds: of all variants.
      outcomes: of their members, with predictions if there are judged rows.
      metric: to compare.
      higher_is_better: its direction.
      judged: rows that the members hold out: intervals are over seeds and these rows; None: over seeds alone.
    """
    of_variant = {
        name: {seed: own for seed in seeds if (own := outcomes[member_name(name, seed)]).metrics} for name in variants
    }
    baseline, found = of_variant[BASELINE], []
    least, most = bounds(metric)
    for name, own in of_variant.items():
        # A seed counts if both trainings finished.
        paired = [seed for seed in own if seed in baseline]
        difference = _compare([(own[seed], baseline[seed]) for seed in paired], metric, judged, confidence(variants))
        found.append(
            Row(
                name=name,
                changes=changes(variants[name]),
                values={seed: outcome.metrics[metric] for seed, outcome in own.items()},
                mean=within(_average(list(own.values()), metric, judged), least, most),
                difference=None if name == BASELINE else within(difference, least - most, most - least),
                validation=_validation(list(own.values()), metric),
                diverged=tuple(seed for seed in seeds if seed not in own),
                higher_is_better=higher_is_better,
            )
        )
    return found


def confidence(variants: Variants) -> float:
    """Returns the confidence of the interval of each difference."""
    return bonferroni(len(variants) - 1)


def chosen(table: Sequence[Row]) -> Row | None:
    """Returns the variant that is best on the validation rows; None without such rows."""
    known = [row for row in table if np.isfinite(row.validation)]
    sign = 1 if table[0].higher_is_better else -1
    return max(known, key=lambda row: sign * row.validation) if known else None


def _average(trainings: list[Outcome], metric: str, judged: JudgedRows | None) -> Interval:
    if judged is None or not trainings:
        return mean_interval([outcome.metrics[metric] for outcome in trainings])
    return judged.interval(np.stack([judged.score(outcome) for outcome in trainings]))


def _compare(
    pairs: list[tuple[Outcome, Outcome]], metric: str, judged: JudgedRows | None, confidence: float
) -> Interval:
    if judged is None or not pairs:
        values = [[outcome.metrics[metric] for outcome in side] for side in zip(*pairs, strict=True)] or [[], []]
        return paired_difference(*values, confidence)
    differences = [judged.score(own) - judged.score(baseline) for own, baseline in pairs]
    return judged.interval(np.stack(differences), confidence)


def _validation(trainings: list[Outcome], metric: str) -> float:
    """Averages the metric on the validation rows at the best steps; nan if one of the trainings has none."""
    found = [line[metric] for each in trainings for line in each.history if line["step"] == each.best_step]
    return float(np.mean(found)) if found and len(found) == len(trainings) else np.nan


def changes(overrides: Mapping[str, Any]) -> str:
    """Formats the overrides of a variant."""
    return ", ".join(f"{path} = {value!r}" for path, value in overrides.items())


def all_metrics(outcomes: Mapping[str, Outcome]) -> dict[str, dict[str, float]]:
    """Returns the overall metrics of each training by name."""
    return {name: overall(outcome.metrics) for name, outcome in outcomes.items()}


def cells(row: Row, digits: int = 4) -> list[str]:
    """Formats a row: name, changes, mean, interval, difference, its interval, verdict.

    Args:
      row: of the table.
      digits: after the point.
    """

    def number(value: float, sign: str = "") -> str:
        # The addition turns -0 into +0.
        return f"{round(value, digits) + 0.0:{sign}.{digits}f}" if np.isfinite(value) else "-"

    def interval(bounds: Interval, sign: str = "") -> str:
        return f"{number(bounds[1], sign)} to {number(bounds[2], sign)}" if np.isfinite(bounds[1]) else "-"

    difference = ["", ""] if row.difference is None else [number(row.difference[0], "+"), interval(row.difference, "+")]
    verdict = f"{len(row.diverged)} of {len(row.values) + len(row.diverged)} diverged" if row.diverged else row.verdict
    return [row.name, row.changes, number(row.mean[0]), interval(row.mean), *difference, verdict]


def header(metric: str, variants: Variants) -> list[str]:
    """Returns the names of the columns of `cells`."""
    interval = f"{100 * confidence(variants):.4g} % interval"
    return ["variant", "changes", metric, "95 % interval", "difference", interval, "against the baseline"]


def markdown(head: Sequence[str], table: Sequence[Sequence[str]]) -> str:
    """Formats a Markdown table; the third to sixth column are right-aligned."""
    rule = ["---:" if 2 <= column <= 5 else "---" for column in range(len(head))]
    lines = [head, rule, *([f"`{cell}`" if i == 1 and cell else cell for i, cell in enumerate(row)] for row in table)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def member_name(variant: str, seed: int) -> str:
    """Returns the name of a variant's training on a seed."""
    return f"{variant}, seed {seed}"
