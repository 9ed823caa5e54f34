"""The verdict on a fit, from figures alone: underfits, overfits, sound, or cannot tell; and why."""

import dataclasses

import numpy as np

from diagnostics.statistics import Interval, difference_interval

KINDS = ("underfits", "overfits", "sound", "cannot tell")
# Scores are accuracies, or shares of the label's variance that are explained. Of those a little noise moves more.
_MARGINS = {"accuracy": 0.05, "R2": 0.10}
# A difference that is not worth a word.
_POINT = 0.01
# So well told are labels at random that the model could have learned its training rows by heart.
_BY_HEART = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """What a verdict goes by. Intervals are of 95 %; more is better.

    Attributes:
      score: "accuracy" or "R2".
      train: score on the training rows.
      held_out: score on rows that took no part in training.
      held_out_name: what these are, such as "out of fold".
      other_groups: whether these are of other groups than the training rows, which cost something by themselves.
      chance: score without looking at the inputs.
      baseline: name of the baseline that does best on rows held out; "" where none was fitted.
      baseline_score: its score there.
      behind: how much better than the model it does on the same rows.
      by_heart: score that the model reaches on training rows with labels at random; None where that was not tried.
      gain: what twice the data would add to the score; None where nobody knows.
      turned: by which share of its least value the validation loss has risen at the end; None where nobody knows.
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
    by_heart: float | None = None
    gain: Interval | None = None
    turned: float | None = None

    @property
    def gap(self) -> Interval:
        """Training score less the one held out."""
        return difference_interval(self.train, self.held_out)

    @property
    def margin(self) -> float:
        """A gap up to which nobody minds."""
        return _MARGINS[self.score]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a model fits.

    Attributes:
      kind: one of `KINDS`.
      why: in a few sentences, with the figures that decided it.
      severity: as that of a finding.
    """

    kind: str
    why: str
    severity: str


def judge(figures: Figures) -> Verdict:
    """The verdict.

    - Underfits: a baseline does better on rows it has not seen than the model does on those it was trained on, by
      more than a point and beyond both intervals.
    - Overfits: the gap is more than 5 points of accuracy (10 of R2), and its whole interval more than half of that, or
      of rows of other groups all of it; or the gap is above a point, and a baseline does better than the model on the
      same rows held out, both with the whole interval.
    - Sound: neither, the gap is within that margin, and its interval within twice the margin.
    - Cannot tell: otherwise; or where nothing was learned that a baseline could have learned either.
    """
    gap, held_out = figures.gap, _percent(figures, figures.held_out)
    if not np.isfinite([*figures.train, *figures.held_out]).all():
        return _cannot_tell(
            f"there is no interval for the score {figures.held_out_name}, as there are too few rows, or all are of one "
            "group"
        )
    train = _percent(figures, figures.train)
    both = f"{figures.score} {train} on training rows, {held_out} {figures.held_out_name}"
    known = figures.baseline and np.isfinite(figures.baseline_score).all()
    if known and figures.baseline_score[1] > figures.train[2] + _POINT:
        lead = figures.baseline_score[0] - figures.train[0]
        why = (
            f"{both}: it does not even fit the rows it was trained on, while a {figures.baseline} has "
            f"{_percent(figures, figures.baseline_score)} on rows it has not seen."
        )
        return Verdict(kind="underfits", why=why, severity="high" if lead > 2 * figures.margin else "medium")
    if gap[0] > figures.margin and gap[1] > figures.margin * (1.0 if figures.other_groups else 0.5):
        return Verdict(
            kind="overfits",
            why=f"{both}: a gap of {_percent(figures, gap)}.{_reasons(figures)}",
            severity="high" if gap[1] > 3 * figures.margin else "medium",
        )
    if known and figures.behind[1] > _POINT and gap[1] > _POINT:
        why = (
            f"{both}: a gap of {_percent(figures, gap)}, and a {figures.baseline} does better on the same rows by "
            f"{_percent(figures, figures.behind)}.{_reasons(figures)}"
        )
        return Verdict(kind="overfits", why=why, severity="medium")
    if figures.train[1] <= figures.chance + _POINT:
        return _cannot_tell(
            f"{both}, where {figures.chance:.1%} take no looking at the inputs: it has learned nothing, and so has no "
            "baseline; either there is nothing to learn, or all of them fail at it"
        )
    if not known and figures.train[2] < 1 - figures.margin:
        return _cannot_tell(f"{both}, and no baseline says whether better is possible")
    if gap[0] > figures.margin or gap[2] > 2 * figures.margin:
        reason = "there are too few rows held out"
        if figures.other_groups:
            reason = "the rows held out are of a few other groups, and part of it may be what these cost: an audit "
            reason += "tells these apart"
        return _cannot_tell(f"{both}: a gap of {_percent(figures, gap)}, an interval too wide for a verdict; {reason}")
    why = f"{both}: a gap of {_percent(figures, gap)}, within {figures.margin:.0%}"
    if known:
        why += f"; no baseline does clearly better (the best, a {figures.baseline}, "
        why += f"{_percent(figures, figures.baseline_score)})"
    return Verdict(kind="sound", why=f"{why}.", severity="none")


def _reasons(figures: Figures) -> str:
    """What else speaks for it, each a sentence."""
    said = ""
    if figures.held_out[1] <= figures.chance + _POINT:
        said += f" It memorises: held out, it is no better than chance, {figures.chance:.1%}."
    elif figures.by_heart is not None and figures.by_heart >= _BY_HEART:
        said += f" It can learn labels at random by heart ({figures.by_heart:.1%} of them), so nothing holds it back."
    if figures.turned is not None and figures.turned > 0.1:
        said += f" At the end, its validation loss was {figures.turned:.0%} above its best."
    if figures.gain is not None and figures.gain[1] > _POINT:
        said += f" Twice the data would add {_percent(figures, figures.gain)}."
    return said


def _cannot_tell(reason: str) -> Verdict:
    return Verdict(kind="cannot tell", why=f"Cannot tell: {reason}.", severity="unknown")


def _percent(figures: Figures, interval: Interval) -> str:
    value, low, high = interval
    if figures.score == "R2":
        return f"{value:.3f} ({low:.3f} to {high:.3f})"
    return f"{value:.1%} ({low:.1%} to {high:.1%})"
