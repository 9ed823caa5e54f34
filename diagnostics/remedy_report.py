"""Which tried remedies are kept: folds choose, and test rows, which chose nothing, report."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from diagnostics import ablation, phrases
from diagnostics.ablation import BASELINE, JudgedRows, Row
from diagnostics.finding import Finding, Measure, Remedy, Table
from diagnostics.remedies import QUESTION, Trial
from diagnostics.statistics import Interval, bonferroni
from trainers.populations.members import Outcome


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """What folds say of a remedy.

    Attributes:
      trial: of the remedy.
      mean: of the metric out of fold, with its 95 % interval.
      difference: from the baseline on the same rows, with its interval.
      diverged: whether a training diverged where that of the baseline did not.
      higher_is_better: direction of the metric.
    """

    trial: Trial
    mean: Interval
    difference: Interval
    diverged: bool
    higher_is_better: bool

    @property
    def verdict(self) -> str:
        """Better or worse than the baseline if the interval excludes 0; else unclear. Divergence is worse."""
        if self.diverged:
            return "worse"
        return judge(self.difference, higher_is_better=self.higher_is_better)


def judge(difference: Interval, *, higher_is_better: bool) -> str:
    """Returns "better" or "worse" if an interval excludes 0, else "unclear".

    If all differences are equal, their variance is unknown.

    Args:
      difference: from the baseline.
      higher_is_better: direction of the metric.
    """
    _, low, high = difference
    if not (low > 0 or high < 0) or low == high:
        return "unclear"
    return "better" if (low > 0) == higher_is_better else "worse"


def choose(
    trials: Sequence[Trial],
    scores: Mapping[str, np.ndarray],
    judged: JudgedRows,
    *,
    higher_is_better: bool,
) -> list[Choice]:
    """Compares each remedy with the baseline out of fold.

    The intervals are over repetitions of the folds and over rows or groups together, for the training rows that there
    are. They are widened for the number of remedies (Bonferroni), so that about one audit of twenty keeps a remedy
    without effect, however many are tried.

    Args:
      trials: that were made.
      scores: (R, n) of each variant in each repetition, by name; nan where a row was not judged.
      judged: the rows.
      higher_is_better: direction of the scores.
    """
    baseline, confidence, found = scores[BASELINE], bonferroni(len(trials)), []
    rows = np.isfinite(baseline).any(axis=0)
    for trial in trials:
        own = scores[trial.name]
        whole = np.isfinite(own).all(axis=0) & np.isfinite(baseline).all(axis=0)
        counted = dataclasses.replace(judged, weights=judged.weights * whole)
        own, others = np.where(whole, own, 0.0), np.where(whole, baseline, 0.0)
        found.append(
            Choice(
                trial=trial,
                mean=counted.interval(own),
                difference=counted.interval(own - others, confidence),
                diverged=bool((np.isnan(scores[trial.name]) & np.isfinite(baseline))[:, rows].any()),
                higher_is_better=higher_is_better,
            )
        )
    return found


def test_rows(
    kept: Sequence[Trial],
    seeds: Sequence[int],
    outcomes: Mapping[str, Outcome],
    metric: str,
    *,
    higher_is_better: bool,
    judged: JudgedRows,
) -> list[Row]:
    """Compares the remedies that folds chose with the baseline on test rows; the first row is the baseline's.

    Args:
      kept: remedies.
      seeds: of each.
      outcomes: of all members of the plans, with predictions.
      metric: to judge by.
      higher_is_better: its direction.
      judged: the test rows.
    """
    variants = {BASELINE: {}} | {trial.name: dict(trial.remedy.overrides) for trial in kept}
    return ablation.rows(variants, seeds, outcomes, metric, higher_is_better=higher_is_better, judged=judged)


def report(
    choices: Sequence[Choice],
    tested: Sequence[Row],
    refused: Mapping[str, str],
    metric: str,
    *,
    chosen_by: str,
    judged_on: str,
) -> Finding:
    """Reports which remedies help, and by how much.

    Args:
      choices: result of `choose`.
      tested: result of `test_rows` for those that are better on folds; () if there are none.
      refused: remedies that could not be tried, and the reasons.
      metric: to judge by.
      chosen_by: the rows that chose, in words.
      judged_on: the test rows, in words.
    """
    untried = (Table(title="Not tried", header=("remedy", "why"), rows=tuple(refused.items())),) if refused else ()
    if not choices:
        return QUESTION.none("No remedy can be tried.", evidence=untried)
    on_test = {row.name: row for row in tested[1:]}
    verdicts = {each.trial.name: _verdict(each, on_test.get(each.trial.name)) for each in choices}
    kept = [each for each in choices if verdicts[each.trial.name].startswith("kept")]
    confirmed = [each for each in kept if on_test[each.trial.name].verdict == "better"]
    confidence = bonferroni(len(choices))
    table = Table(
        title=f"Remedies chosen by {chosen_by}, with {100 * confidence:.3g} % intervals of the differences",
        header=("remedy", "proposed by", metric, "difference", "from", "to", "verdict"),
        rows=tuple(
            (
                ablation.changes(each.trial.remedy.overrides),
                ", ".join(each.trial.findings),
                each.mean[0],
                *each.difference,
                verdicts[each.trial.name],
            )
            for each in choices
        ),
    )
    evidence = [table, *([_test_table(tested, metric, judged_on)] if on_test else []), *untried]
    return QUESTION.found(
        "medium" if kept else "none",
        _message(choices, len(kept), len(confirmed), metric, chosen_by, judged_on),
        measures=(
            Measure(name="remedies kept", value=len(kept), kind="count"),
            # Without bounds, as measures have 95 % intervals; the table has the bounds.
            *(
                Measure(name=f"{row.changes}: change of {metric} on test rows", value=_change(row))
                for row in tested[1:]
            ),
        ),
        evidence=tuple(evidence),
        remedies=tuple(Remedy(text=each.trial.remedy.text, overrides=each.trial.remedy.overrides) for each in kept),
    )


def _message(choices: Sequence[Choice], kept: int, confirmed: int, metric: str, chosen_by: str, judged_on: str) -> str:
    tried = f"{len(choices)} {phrases.choose(len(choices), 'remedy', 'remedies')} tried on {chosen_by}"
    harmful = sum(each.verdict == "worse" for each in choices)
    did_harm = f" ({harmful} of them did harm)" if harmful else ""
    text = f"{tried}: {kept} kept and {len(choices) - kept} rejected{did_harm}."
    if kept:
        shown = f"{confirmed} of the {kept} kept {phrases.choose(confirmed, 'is', 'are')} shown to improve {metric}"
        text += f" On {judged_on}, which chose nothing, {shown}."
    return text


def _verdict(choice: Choice, row: Row | None) -> str:
    if choice.diverged:
        return "rejected: a training diverged"
    if choice.verdict == "worse":
        return "rejected: worse"
    if row is None:
        return "rejected: not shown to help"
    if row.diverged:
        return f"rejected: {len(row.diverged)} diverged on the whole training split"
    return {
        "better": "kept: better on test rows too",
        "worse": "rejected: worse on test rows",
    }.get(row.verdict, "kept: test rows do not show it")


def _test_table(tested: Sequence[Row], metric: str, judged_on: str) -> Table:
    confidence = bonferroni(len(tested) - 1)
    return Table(
        title=f"Kept remedies on {judged_on}, with {100 * confidence:.3g} % intervals of the differences",
        header=("remedy", metric, "difference", "from", "to"),
        rows=tuple(
            (row.changes or BASELINE, row.mean[0], *(("", "", "") if row.difference is None else row.difference))
            for row in tested
        ),
    )


def _change(row: Row) -> float:
    return row.difference[0] if row.difference else np.nan
