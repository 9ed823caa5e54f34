"""The verdict on a fit, from figures alone: underfits, overfits, sound, or cannot tell."""

import dataclasses

import numpy as np

from diagnostics.severity import Severity
from diagnostics.statistics import Interval, difference_interval
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
      baseline: name of the best baseline on held-out rows; "" if none was fitted.
      baseline_score: its score there.
      behind: how much better than the model it is on the same rows.
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
    baseline: str = ""
    baseline_score: Interval = (np.nan, np.nan, np.nan)
    behind: Interval = (np.nan, np.nan, np.nan)
    memorised: float | None = None
    gain: Interval | None = None
    risen: float | None = None

    @property
    def gap(self) -> Interval:
        """The training score minus the held-out score."""
        return difference_interval(self.train, self.held_out)

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

    - Underfits: a baseline is better on unseen rows than the model on its training rows, by more than a point and
      beyond both intervals.
    - Overfits: the gap is larger than a margin of 5 points of accuracy (10 of R2), with its whole interval above half
      of that, or for rows of other groups above all of it; or the gap is above a point, and a baseline is better than
      the model on the same held-out rows, both with the whole interval.
    - Sound: neither, with the gap within the margin and its interval within twice the margin.
    - Cannot tell: otherwise; or if neither the model nor a baseline learned anything.
    """
    gap, held_out = figures.gap, _percent(figures, figures.held_out)
    if not np.isfinite([*figures.train, *figures.held_out]).all():
        return _cannot_tell(
            f"there is no interval for the score {figures.held_out_name}, as there are too few rows, or rows of "
            "fewer than three groups"
        )
    train = _percent(figures, figures.train)
    both = f"{figures.score} {train} on training rows, {held_out} {figures.held_out_name}"
    known = figures.baseline and np.isfinite(figures.baseline_score).all()
    if known and figures.baseline_score[1] > figures.train[2] + THRESHOLDS.point:
        lead = figures.baseline_score[0] - figures.train[0]
        why = (
            f"{both}: it does not fit its training rows as well as a {figures.baseline} does unseen rows, "
            f"{_percent(figures, figures.baseline_score)}."
        )
        return Verdict(kind="underfits", why=why, severity=THRESHOLDS.underfit.grade(lead, unit=figures.margin))
    if gap[0] > figures.margin and gap[1] > figures.margin * (1.0 if figures.other_groups else 0.5):
        return Verdict(
            kind="overfits",
            why=f"{both}: a gap of {_percent(figures, gap)}.{_reasons(figures)}",
            severity=THRESHOLDS.overfit.grade(gap[1], unit=figures.margin),
        )
    if known and figures.behind[1] > THRESHOLDS.point and gap[1] > THRESHOLDS.point:
        why = (
            f"{both}: a gap of {_percent(figures, gap)}, and a {figures.baseline} is better on the same rows by "
            f"{_percent(figures, figures.behind)}.{_reasons(figures)}"
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
    if known:
        why += f"; no baseline is clearly better (the best, a {figures.baseline}, "
        why += f"{_percent(figures, figures.baseline_score)})"
    return Verdict(kind="sound", why=f"{why}.", severity="none")


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
