import dataclasses

import numpy as np
import pytest

from diagnostics.fit.verdict import Figures, judge

SOUND = Figures(
    score="accuracy",
    train=(0.95, 0.94, 0.96),
    held_out=(0.94, 0.93, 0.95),
    held_out_name="out of fold",
    chance=0.1,
    baseline="random forest",
    behind=(-0.01, -0.02, 0.001),
    behind_name="on the test split",
    missed_by="decision tree",
    missed_score=(0.77, 0.75, 0.79),
    missed=(-0.02, -0.03, -0.01),
)


def with_(**changes):
    return judge(dataclasses.replace(SOUND, **changes))


def test_alike_on_both_sides_and_no_worse_than_baselines_is_sound():
    verdict = judge(SOUND)
    assert (verdict.kind, verdict.severity) == ("sound", "none")
    assert "a gap of 1.0% (-0.4% to 2.4%), within 5%" in verdict.why
    # Of the baseline no score is given, as it would be on other rows than that of the model.
    said = "on the test split no baseline is clearly better (the best, a random forest, is behind by 1.0% (-0.1% to"
    assert said in verdict.why
    assert "77.0%" not in verdict.why
    verdict = with_(behind=(-0.01, -0.02, -0.005))
    assert "the best baseline, a random forest, is behind by 1.0% (0.5% to 2.0%) on the same rows" in verdict.why
    verdict = with_(behind=(0.022, 0.015, 0.03), held_out=(0.945, 0.935, 0.955))
    assert "but on the test split a random forest is ahead by 2.2% (1.5% to 3.0%) on the same rows" in verdict.why


def test_what_a_baseline_beats_on_the_rows_it_was_trained_on_underfits():
    verdict = with_(train=(0.6, 0.58, 0.62), held_out=(0.58, 0.55, 0.61), missed=(0.33, 0.3, 0.36))
    assert (verdict.kind, verdict.severity) == ("underfits", "high")
    said = "not fit its training rows as well as a decision tree predicts them that was not fitted to them, 77.0%"
    assert said in verdict.why
    assert "on the same rows that is better by 33.0% (30.0% to 36.0%)." in verdict.why


def test_noise_that_no_baseline_sees_through_is_not_underfitting():
    noisy = {"train": (0.7, 0.68, 0.72), "held_out": (0.69, 0.67, 0.71), "missed": (0.0, -0.02, 0.02)}
    assert with_(**noisy).kind == "sound"
    # Without any baseline, nobody knows.
    verdict = with_(**noisy, baseline="")
    assert verdict.kind == "cannot tell"
    assert "no baseline shows whether better is possible" in verdict.why


def test_a_gap_beyond_the_margin_with_its_whole_interval_overfits():
    verdict = with_(
        train=(1.0, 0.99, 1.0), held_out=(0.8, 0.77, 0.83), memorised=0.99, gain=(0.03, 0.02, 0.04), risen=0.5
    )
    assert (verdict.kind, verdict.severity) == ("overfits", "high")
    assert "a gap of 20.0% (16.8% to 23.0%)" in verdict.why
    assert "It can memorise random labels (99.0% of them)" in verdict.why
    assert "the validation loss was 50% above its minimum" in verdict.why
    assert "Twice the data would add 3.0% (2.0% to 4.0%)." in verdict.why


def test_no_better_than_chance_on_rows_held_out_is_memorising():
    verdict = with_(train=(1.0, 0.99, 1.0), held_out=(0.1, 0.08, 0.13))
    assert verdict.kind == "overfits"
    assert "It memorises: on held-out rows it is no better than chance, 10.0%." in verdict.why


def test_a_small_gap_overfits_where_a_baseline_does_better():
    gap = {"train": (0.98, 0.97, 0.99), "held_out": (0.94, 0.93, 0.95)}
    assert with_(**gap).kind == "sound"
    assert with_(**gap, behind=(0.03, 0.02, 0.04)).kind == "overfits"


def test_a_gap_that_is_likely_beyond_the_margin_overfits_unless_other_groups_may_be_what_it_costs():
    likely = {"train": (1.0, 0.98, 1.0), "held_out": (0.93, 0.9, 0.96)}
    assert with_(**likely).kind == "overfits"
    verdict = with_(**likely, other_groups=True)
    assert verdict.kind == "cannot tell"
    assert "the held-out rows are of a few other groups" in verdict.why
    assert with_(train=(1.0, 0.98, 1.0), held_out=(0.8, 0.77, 0.83), other_groups=True).kind == "overfits"


def test_few_rows_held_out_allow_no_verdict():
    assert with_(held_out=(0.94, 0.6, 0.99)).kind == "cannot tell"
    assert "an interval too wide for a verdict" in with_(held_out=(0.88, 0.8, 0.94)).why
    assert "rows of fewer than three groups" in with_(held_out=(0.94, np.nan, np.nan)).why


def test_nothing_learned_by_anybody_allows_no_verdict():
    chance = (0.1, 0.08, 0.12)
    verdict = with_(train=chance, held_out=chance)
    assert verdict.kind == "cannot tell"
    assert "neither the model nor a baseline has learned anything" in verdict.why


def test_a_regression_is_judged_by_the_variance_it_explains():
    wide = {"score": "R2", "train": (0.9, 0.88, 0.92)}
    assert with_(**wide, held_out=(0.84, 0.82, 0.86)).kind == "sound"
    assert with_(**wide, held_out=(0.6, 0.5, 0.7)).kind == "overfits"


@pytest.mark.parametrize("shift", [-0.2, 0.0])
def test_the_gap_is_that_of_two_independent_intervals(shift):
    figures = dataclasses.replace(SOUND, held_out=(0.94 + shift, 0.93 + shift, 0.95 + shift))
    assert figures.gap == pytest.approx((0.01 - shift, 0.01 - shift - 0.02**0.5 / 10, 0.01 - shift + 0.02**0.5 / 10))


def test_the_gap_of_equal_rows_is_paired():
    verdict = with_(paired_gap=(0.01, 0.008, 0.012))
    assert "a gap of 1.0% (0.8% to 1.2%)" in verdict.why


@pytest.mark.parametrize("figures", [{}, {"train": (1.0, 0.99, 1.0), "held_out": (0.9, 0.88, 0.92)}])
def test_beside_folds_that_are_too_easy_it_is_said_which_figure_holds_for_new_groups(figures):
    known = {"grouped": (0.9, 0.86, 0.94), "optimism": (0.04, 0.02, 0.06)}
    said = (
        "For new groups, believe 90.0% (86.0% to 94.0%), with whole groups held out: the score out of fold is too high"
    )
    assert said in with_(**figures, **known).why
    assert "by 4.0% (2.0% to 6.0%)" in with_(**figures, **known).why
    # Where no optimism is shown, either figure will do.
    assert said not in with_(**figures, **known | {"optimism": (0.01, -0.01, 0.03)}).why
