"""Every claim keeps what it promises, in the documented draws and in the first of them drawn once more."""

import pytest

from calibration import page
from calibration.__main__ import main
from calibration.subjects import SUBJECTS, simulations

ALL = [each for subject in SUBJECTS for each in simulations(subject)]
STORED = page.load()


@pytest.mark.parametrize("simulation", ALL, ids=lambda each: each.key)
def test_the_documented_share_keeps_the_promise(simulation):
    outcome = STORED[simulation.key]
    assert outcome.draws == simulation.draws
    assert simulation.keeps(outcome), outcome.interval()


@pytest.mark.slow
@pytest.mark.parametrize("simulation", ALL, ids=lambda each: each.key)
def test_the_first_draws_keep_the_promise_too(simulation):
    outcome = simulation.run(simulation.quick)
    assert simulation.keeps(outcome), outcome.interval()


def test_the_page_shows_the_stored_shares():
    assert page.PAGE.read_text(encoding="utf-8") == page.render(STORED)


def test_keys_are_unique():
    assert len({each.key for each in ALL}) == len(ALL)


def test_half_are_found_between_two_strengths():
    assert page.half_found([1, 2, 4], [0.0, 0.25, 0.75]) == "3"
    assert page.half_found([1, 2], [0.6, 1.0]) == "at most 1"
    assert page.half_found([1, 2], [0.1, 0.2]) == "above 2"


def test_an_unknown_subject_is_an_error(capsys):
    assert main(["mean"]) == 2
    assert "NAME: unknown name 'mean'; did you mean 'means'?" in capsys.readouterr().err
