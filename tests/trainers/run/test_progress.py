import pytest

from trainers.run import progress
from trainers.run.progress import PopulationProgress, Progress


@pytest.fixture(autouse=True)
def every_line(monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)


def test_a_population_counts_those_that_run_wait_or_are_gone(capsys):
    with PopulationProgress(100, 5, until=0.1, gone={"pruned": 4, "failed": 0}) as shown:
        shown.advance(40, 2)
        shown.result("accuracy", 0.5, 1)
        shown.result("accuracy", 0.75, 1)
        shown.result("accuracy", float("nan"), 1)
        shown.show(running=1)
    line = capsys.readouterr().err
    assert line.startswith("2/5 paused at 10 %, 1 running, 2 waiting, 4 pruned  best accuracy 0.75  ")


def test_no_time_is_left_at_the_end_even_where_a_wait_was_left_out(capsys):
    with Progress(10, 4) as shown:
        shown.leave_out(1000.0)
        shown.show(10)
    with PopulationProgress(10, 1) as shown:
        shown.advance(12, 1)
        shown.show(running=0)
    assert [line.split("  ")[-1] for line in capsys.readouterr().err.splitlines()] == ["0 s left"] * 2
