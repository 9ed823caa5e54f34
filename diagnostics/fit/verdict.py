"""The verdict on a fit, from figures alone: underfits, overfits, sound, or cannot tell."""

import dataclasses

import numpy as np

from diagnostics.severity import Severity
from diagnostics.statistics import Interval, difference_interval, negate
from diagnostics.thresholds import THRESHOLDS

KINDS = ("underfits", "overfits", "sound", "cannot tell")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """The figures that a verdict depends on. Intervals are of 95 %; more is better.

    Attributes:
      score: "accuracy" or "R2".
      train: score on the training rows.
      held_out: score on rows that took no part in training.
      held_out_name: how messages call these rows, such as "out of fold".
      other_groups: whether these rows are of other groups than the training rows, which lowers the score by itself.
      chance: score of a model that ignores the inputs.
      paired_gap: the training score minus the held-out score on the same rows; None if the rows are others.
      baseline: name of the best baseline on rows that took no part in training; "" if none was fitted.
      behind: how much better than the model it is on the same rows.
      behind_name: how messages call these rows, such as "on the test split".
      missed_by: name of the baseline that is best on training rows that it was not fitted to.
      missed_score: its score there.
      missed: how much better it is than the model, which was trained on these rows.
      grouped: score on rows of groups that took no part in training; None if that was not tried.
      optimism: how much the score on other rows of known groups is above that, on the same rows; None likewise.
      memorised: score of the model on training rows with random labels; None if that was not tried.
      gain: what twice the data would add to the score; None if unknown.
      risen: share of its minimum by which the validation loss has risen at the end; None if unknown.
    """

    score: str
    train: Interval
    held_out: Interval
    held_out_name: str
    chance: float
    other_groups: bool = False
    paired_gap: Interval | None = None
    baseline: str = ""
    behind: Interval = (np.nan, np.nan, np.nan)
    behind_name: str = "on held-out rows"
    missed_by: str = ""
    missed_score: Interval = (np.nan, np.nan, np.nan)
    missed: Interval = (np.nan, np.nan, np.nan)
    grouped: Interval | None = None
    optimism: Interval | None = None
    memorised: float | None = None
    gain: Interval | None = None
    risen: float | None = None

    @property
    def gap(self) -> Interval:
        """The training score minus the held-out score."""
        return self.paired_gap or difference_interval(self.train, self.held_out)

    @property
    def is_optimistic(self) -> bool:
        """Whether the held-out score is too high for rows of new groups."""
        return self.optimism is not None and bool(self.optimism[1] > 0)

    @property
    def margin(self) -> float:
        """The largest acceptable gap."""
        return THRESHOLDS.margin_accuracy if self.score == "accuracy" else THRESHOLDS.margin_r2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a model fits.

    Attributes:
      kind: one of `KINDS`.
      why: the reasons in a few sentences, with figures.
      severity: as of a finding.
    """

    kind: str
    why: str
    severity: Severity


def judge(figures: Figures) -> Verdict:
    """Judges a fit.

    - Underfits: a baseline that was not fitted to the training rows is better on them than the model that was, by more
      than a point, with the whole interval.
    - Overfits: the gap is larger than a margin of 5 points of accuracy (10 of R2), with its whole interval above half
      of that, or for rows of other groups above all of it; or the gap is above a point, and a baseline is better than
      the model on the same held-out rows, both with the whole interval.
    - Sound: neither, with the gap within the margin and its interval within twice the margin.
    - Cannot tell: otherwise; or if neither the model nor a baseline learned anything.

    Where the held-out rows are of groups that training has seen, and this makes their score too high, the reasons say
    which figure holds for new groups.
    """
    verdict = _judge(figures)
    return dataclasses.replace(verdict, why=verdict.why + _which_to_believe(figures))


def _judge(figures: Figures) -> Verdict:
    gap, held_out = figures.gap, _percent(figures, figures.held_out)
    if not np.isfinite([*figures.train, *figures.held_out]).all():
        return _cannot_tell(
            f"there is no interval for the score {figures.held_out_name}, as there are too few rows, or rows of "
            "fewer than three groups"
        )
    train = _percent(figures, figures.train)
    both = f"{figures.score} {train} on training rows, {held_out} {figures.held_out_name}"
    if figures.missed[1] > THRESHOLDS.point:
        why = (
            f"{both}: it does not fit its training rows as well as a {figures.missed_by} predicts them that was not "
            f"fitted to them, {_percent(figures, figures.missed_score)}; on the same rows that is better by "
            f"{_percent(figures, figures.missed)}."
        )
        severity = THRESHOLDS.underfit.grade(figures.missed[0], unit=figures.margin)
        return Verdict(kind="underfits", why=why, severity=severity)
    if gap[0] > figures.margin and gap[1] > figures.margin * (1.0 if figures.other_groups else 0.5):
        return Verdict(
            kind="overfits",
            why=f"{both}: a gap of {_percent(figures, gap)}.{_reasons(figures)}",
            severity=THRESHOLDS.overfit.grade(gap[1], unit=figures.margin),
        )
    known = figures.baseline and np.isfinite(figures.behind).all()
    if known and figures.behind[1] > THRESHOLDS.point and gap[1] > THRESHOLDS.point:
        why = (
            f"{both}: a gap of {_percent(figures, gap)}, and {figures.behind_name} a {figures.baseline} is better on "
            f"the same rows by {_percent(figures, figures.behind)}.{_reasons(figures)}"
        )
        return Verdict(kind="overfits", why=why, severity="medium")
    if figures.train[1] <= figures.chance + THRESHOLDS.point:
        return _cannot_tell(
            f"{both}, where a model that ignores the inputs has {figures.chance:.1%}: neither the model nor a baseline "
            "has learned anything; either there is nothing to learn, or all of them fail"
        )
    if not known and figures.train[2] < 1 - figures.margin:
        return _cannot_tell(f"{both}, and no baseline shows whether better is possible")
    if gap[0] > figures.margin or gap[2] > 2 * figures.margin:
        wide = f"a gap of {_percent(figures, gap)}, with an interval too wide for a verdict"
        return _cannot_tell(f"{both}: {wide}; {_why_wide(figures)}")
    why = f"{both}: a gap of {_percent(figures, gap)}, within {figures.margin:.0%}"
    return Verdict(kind="sound", why=f"{why}{_against_baseline(figures) if known else ''}.", severity="none")


def _against_baseline(figures: Figures) -> str:
    """The model against the best baseline, on equal rows."""
    where, best, lead = figures.behind_name, f"a {figures.baseline}", figures.behind
    stands = f"ahead by {_percent(figures, lead)}" if lead[0] > 0 else f"behind by {_percent(figures, negate(lead))}"
    if lead[2] < 0:
        return f"; {where} the best baseline, {best}, is {stands} on the same rows"
    if lead[1] > THRESHOLDS.point:
        return f"; but {where} {best} is {stands} on the same rows"
    return f"; {where} no baseline is clearly better (the best, {best}, is {stands} on the same rows)"


def _which_to_believe(figures: Figures) -> str:
    """Says which figure holds for new groups; "" if the held-out rows are not seen to be too easy."""
    if not figures.is_optimistic or figures.grouped is None:
        return ""
    grouped = _percent(figures, figures.grouped)
    return (
        f" For new groups, believe {grouped}, with whole groups held out: the score {figures.held_out_name} is too "
        f"high for them by {_percent(figures, figures.optimism)}, as training has seen other rows of each group."
    )


def _why_wide(figures: Figures) -> str:
    if not figures.other_groups:
        return "there are too few held-out rows"
    return "the held-out rows are of a few other groups, which may explain part of the gap; an audit separates the two"


def _reasons(figures: Figures) -> str:
    """Further evidence of overfitting, in sentences."""
    text = ""
    if figures.held_out[1] <= figures.chance + THRESHOLDS.point:
        text += f" It memorises: on held-out rows it is no better than chance, {figures.chance:.1%}."
    elif figures.memorised is not None and figures.memorised >= THRESHOLDS.memorised:
        text += f" It can memorise random labels ({figures.memorised:.1%} of them), so nothing limits it."
    if figures.risen is not None and figures.risen > THRESHOLDS.risen_loss:
        text += f" At the end, the validation loss was {figures.risen:.0%} above its minimum."
    if figures.gain is not None and figures.gain[1] > THRESHOLDS.point:
        text += f" Twice the data would add {_percent(figures, figures.gain)}."
    return text


def _cannot_tell(reason: str) -> Verdict:
    return Verdict(kind="cannot tell", why=f"Cannot tell: {reason}.", severity="unknown")


def _percent(figures: Figures, interval: Interval) -> str:
    value, low, high = interval
    if figures.score == "R2":
        return f"{value:.3f} ({low:.3f} to {high:.3f})"
    return f"{value:.1%} ({low:.1%} to {high:.1%})"
