import pytest

from plumbline import UserError
from trainers.durations import Clock, Every

CLOCK = Clock(num_examples=1000, batch_size=64, total_steps=400)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("500 steps", 500),
        ("1 step", 1),
        ("2 epochs", 32),  # 2000 / 64 = 31.25, rounded up
        ("0.5 epochs", 8),
        ("1e3 examples", 16),
        ("640 examples", 10),
        ("5 percent", 20),
        ("0 steps", 0),
    ],
)
def test_every_unit_gives_its_steps(text, steps):
    assert CLOCK.steps(text, "train.duration") == steps


def test_whole_epochs_of_whole_batches_are_not_rounded_up():
    clock = Clock(num_examples=640, batch_size=64)
    assert [clock.steps(f"{n} epochs", "x") for n in (1, 3, 7, 49)] == [10, 30, 70, 490]


@pytest.mark.parametrize("text", ["", "ten epochs", "10", "10 parsecs", "-1 steps", "10 minutes"])
def test_what_is_no_number_of_steps_is_an_error_that_names_the_field(text):
    with pytest.raises(UserError, match=r"^train.duration: '.*' (is not a duration|cannot be counted in steps)"):
        CLOCK.steps(text, "train.duration")


def test_percent_of_an_unknown_length_is_an_error():
    with pytest.raises(UserError, match=r"train\.duration"):
        Clock(num_examples=10, batch_size=2).steps("5 percent", "train.duration")


def test_intervals_come_in_steps_in_time_or_never():
    assert CLOCK.every("1 epochs", "x") == Every(steps=16)
    assert CLOCK.every("10 minutes", "x", wall_time=True) == Every(seconds=600.0)
    with pytest.raises(UserError, match="x: '10 minutes' cannot be counted in steps"):
        CLOCK.every("10 minutes", "x")
    assert CLOCK.every("", "x") == Every()
    with pytest.raises(UserError, match="more than 0"):
        CLOCK.every("0 steps", "x")


def test_an_interval_ends_at_its_multiples():
    every = Every(steps=5)
    assert [step for step in range(1, 17) if every.at(step)] == [5, 10, 15]
    assert (every.last_until(12), every.next_after(12, 100), every.next_after(15, 100)) == (10, 15, 20)
    assert every.next_after(12, 13) == 13
    assert not Every(seconds=1.0).at(5)
