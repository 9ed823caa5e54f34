"""Ablations: variants of a recipe, trained on the same seeds and compared with the baseline pair by pair."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from data.pool import Pool
from diagnostics.statistics import Interval, mean_interval, paired_difference, within
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
      diverged: seeds whose training diverged.
      higher_is_better: direction of the metric.
    """

    name: str
    changes: str
    values: dict[int, float]
    mean: Interval
    difference: Interval | None
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
    confidence: float = 0.95,
) -> list[Row]:
    """Makes the rows of the table, one for each variant.

    Args:
      variants: result of `check`.
      seeds: of all variants.
      outcomes: of their members.
      metric: to compare.
      higher_is_better: its direction.
      confidence: of the intervals of the differences.
    """
    of_variant = {
        name: {
            seed: outcomes[member_name(name, seed)].metrics[metric]
            for seed in seeds
            if outcomes[member_name(name, seed)].metrics
        }
        for name in variants
    }
    baseline, found = of_variant[BASELINE], []
    least, most = bounds(metric)
    for name, values in of_variant.items():
        # A seed counts if both trainings finished.
        paired = [seed for seed in values if seed in baseline]
        pairs = [[each[seed] for seed in paired] for each in (values, baseline)]
        difference = paired_difference(*pairs, confidence)
        found.append(
            Row(
                name=name,
                changes=changes(variants[name]),
                values=values,
                mean=within(mean_interval(list(values.values())), least, most),
                difference=None if name == BASELINE else within(difference, least - most, most - least),
                diverged=tuple(seed for seed in seeds if seed not in values),
                higher_is_better=higher_is_better,
            )
        )
    return found


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


def header(metric: str) -> list[str]:
    """Returns the names of the columns of `cells`."""
    return ["variant", "changes", metric, "95 % interval", "difference", "95 % interval", "against the baseline"]


def markdown(head: Sequence[str], table: Sequence[Sequence[str]]) -> str:
    """Formats a Markdown table; the third to sixth column are right-aligned."""
    rule = ["---:" if 2 <= column <= 5 else "---" for column in range(len(head))]
    lines = [head, rule, *([f"`{cell}`" if i == 1 and cell else cell for i, cell in enumerate(row)] for row in table)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def member_name(variant: str, seed: int) -> str:
    """Returns the name of a variant's training on a seed."""
    return f"{variant}, seed {seed}"
