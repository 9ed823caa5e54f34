"""Progress of a run or a population: a bar on a terminal, plain lines elsewhere."""

import math
import sys
import time
from collections.abc import Mapping

import rich.console
import rich.progress
import rich.table

# Least time between plain lines, except for the last.
_SECONDS_BETWEEN_LINES = 2.0
_SECONDS_BETWEEN_REFRESHES = 0.2


class Progress:
    """A bar, or occasional lines, with step, loss, validation metric, examples per second and time left."""

    def __init__(self, total_steps: int, batch_size: int, initial_step: int = 0, *, shown: bool = True):
        """Shows nothing until it is entered.

        Args:
          total_steps: of the training.
          batch_size: examples in a step.
          initial_step: where the run begins or resumes.
          shown: if False, nothing is shown.
        """
        self._total, self._batch_size, self._initial = total_steps, batch_size, initial_step
        self._shown = shown
        self._metrics: dict[str, float] = {}
        self._began = time.monotonic()
        self._last_line = self._last_refresh = 0.0
        self._bar: rich.progress.Progress | None = None

    def __enter__(self) -> "Progress":
        """Shows the bar, if standard error is a terminal."""
        steps = rich.progress.TextColumn("step {task.completed:>6.0f}/{task.total:.0f}")
        if self._shown and (bar := _bar(steps)):
            self._bar = bar
            self._task = bar.add_task("compiling", total=self._total, completed=self._initial)
        return self

    def __exit__(self, *exception: object) -> None:
        """Removes the bar."""
        if self._bar:
            self._bar.stop()

    def restart_clock(self, step: int) -> None:
        """Measures speed from here on, after the first step has been compiled."""
        self._initial, self._began = step, time.monotonic()

    def step(self, step: int) -> None:
        """Sets the steps taken so far. Called after every dispatch, so it must be cheap."""
        if self._bar and time.monotonic() - self._last_refresh >= _SECONDS_BETWEEN_REFRESHES:
            self._refresh(step)

    def leave_out(self, seconds: float) -> None:
        """Excludes a time that will not recur from speed and time left."""
        self._began += seconds

    def metrics(self, split: str, metrics: Mapping[str, float]) -> None:
        """Sets the newest metrics of a split, for `show`."""
        kept = {name: value for name, value in self._metrics.items() if not name.startswith(f"{split} ")}
        self._metrics = kept | {f"{split} {name}": value for name, value in metrics.items()}

    def show(self, step: int) -> None:
        """Shows the metrics after `step`."""
        now = time.monotonic()
        if self._bar:
            self._refresh(step)
        elif self._shown and (now - self._last_line >= _SECONDS_BETWEEN_LINES or step == self._total):
            self._last_line = now
            left = _seconds_left(self._total - step, step - self._initial, now - self._began)
            text = f"step {step}/{self._total}  {self._description(step)}  {left:.0f} s left"
            print(text, file=sys.stderr, flush=True)

    def _refresh(self, step: int) -> None:
        self._last_refresh = time.monotonic()
        self._bar.update(self._task, completed=step, description=self._description(step))

    def _description(self, step: int) -> str:
        rate = (step - self._initial) * self._batch_size / max(1e-9, time.monotonic() - self._began)
        figures = [f"{name} {value:.4g}" for name, value in self._metrics.items()]
        return "  ".join([*figures, f"{rate:,.0f} examples/s"])


class PopulationProgress:
    """A bar, or occasional lines, with members done, running and waiting, the best result and the time left."""

    def __init__(
        self,
        total_steps: int,
        members: int,
        *,
        until: float = 1.0,
        gone: Mapping[str, int] | None = None,
        shown: bool = True,
    ):
        """Shows nothing until it is entered.

        Args:
          total_steps: of all members together.
          members: number of members.
          until: the share of their training after which they pause.
          gone: number of members that ended in earlier calls, by status, such as {"pruned": 42}.
          shown: if False, nothing is shown.
        """
        self._total, self._members, self._shown = total_steps, members, shown
        self._end = "trainings done" if until >= 1 else f"paused at {100 * until:.2g} %"
        self._gone = "".join(f", {count} {what}" for what, count in (gone or {}).items() if count)
        self._steps = self._done = 0
        self._best: tuple[str, float] | None = None
        self._bar: rich.progress.Progress | None = None

    def __enter__(self) -> "PopulationProgress":
        """Shows the bar, if standard error is a terminal; the time left is estimated from here on."""
        self._initial, self._began, self._last_line = self._steps, time.monotonic(), time.monotonic()
        if self._shown and (bar := _bar()):
            self._bar = bar
            self._task = bar.add_task("compiling", total=self._total, completed=self._steps)
        return self

    def __exit__(self, *exception: object) -> None:
        """Removes the bar."""
        if self._bar:
            self._bar.stop()

    def advance(self, steps: int, done: int) -> None:
        """Adds steps that were taken, or are no longer needed, and members that are done."""
        self._steps, self._done = self._steps + steps, self._done + done

    def result(self, metric: str, value: float, sign: int) -> None:
        """Adds the result of a member; higher is better if `sign` is 1, lower if it is -1."""
        if math.isfinite(value) and (self._best is None or sign * value > sign * self._best[1]):
            self._best = metric, value

    def show(self, running: int) -> None:
        """Shows the progress; `running` is the number of members in lanes."""
        now, waiting = time.monotonic(), self._members - self._done - running
        best = f"  best {self._best[0]} {self._best[1]:.4g}" if self._best else ""
        text = f"{self._done}/{self._members} {self._end}, {running} running, {waiting} waiting{self._gone}{best}"
        if self._bar:
            self._bar.update(self._task, completed=self._steps, description=text)
        elif self._shown and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = _seconds_left(self._total - self._steps, self._steps - self._initial, now - self._began)
            print(f"{text}  {left:.0f} s left", file=sys.stderr, flush=True)


def print_table(title: str, columns: Mapping[str, Mapping[str, float]]) -> None:
    """Prints metrics to standard output, with a row for each metric and a column for each split."""
    table = rich.table.Table(title=title, title_justify="left")
    table.add_column("metric")
    for name in columns:
        table.add_column(name, justify="right")
    for metric in dict.fromkeys(metric for column in columns.values() for metric in column):
        cells = (column.get(metric) for column in columns.values())
        table.add_row(metric, *map(_cell, cells))
    rich.console.Console(soft_wrap=not sys.stdout.isatty()).print(table)


def _bar(*before: rich.progress.ProgressColumn) -> rich.progress.Progress | None:
    """A started bar with these columns before it; None if standard error is not a terminal."""
    console = rich.console.Console(stderr=True)
    if not console.is_terminal:
        return None
    bar = rich.progress.Progress(
        *before,
        rich.progress.BarColumn(),
        rich.progress.TextColumn("{task.description}"),
        rich.progress.TimeRemainingColumn(),
        console=console,
        refresh_per_second=4,
    )
    bar.start()
    return bar


def _seconds_left(steps: int, taken: int, seconds: float) -> float:
    """Seconds that `steps` more steps take, if `taken` steps took `seconds`; at least 0."""
    return max(0.0, steps * seconds / max(1, taken))


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
