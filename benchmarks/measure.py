"""Shared by all benchmarks: alternating measurements, their ratio, and the table of results."""

import argparse
import dataclasses
import itertools
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import rich.console
import rich.table


class CannotRun(Exception):
    """A benchmark needs something that a flag provides. The message is one line."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """A ratio that was measured several times.

    Attributes:
      name: what was measured.
      ratios: one per round; the result is their median.
      target: what the median should reach, or not exceed.
      at_least: whether the target is a lower bound; otherwise it is an upper bound.
      comparison: what is divided by what.
      figures: the medians of both sides with their unit, as a scale for the ratio.
    """

    name: str
    ratios: Sequence[float]
    target: float
    at_least: bool
    comparison: str
    figures: str

    @property
    def ratio(self) -> float:
        """The median."""
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool:
        """Whether the median meets the target."""
        return self.ratio >= self.target if self.at_least else self.ratio <= self.target


Benchmark = Callable[[argparse.Namespace], list[Result]]


def alternate(
    ours: Callable[[], float], other: Callable[[], float], rounds: int
) -> tuple[list[float], list[float], list[float]]:
    """Measures `other, ours, other, ours, ..., other` and divides.

    Each measurement is divided by the mean of the two reference measurements around it, so that a gradual
    change in the load of the machine favours neither side.

    Args:
      ours: makes one measurement of Plumbline.
      other: makes one measurement of the reference, in the same unit.
      rounds: number of measurements of Plumbline.

    Returns:
      The ratios (rounds,), the measurements (rounds,) and the reference measurements (rounds + 1,).
    """
    own, others = [], [other()]
    for _ in range(rounds):
        own.append(ours())
        others.append(other())
    ratios = [o / statistics.mean(pair) for o, pair in zip(own, itertools.pairwise(others), strict=True)]
    return ratios, own, others


def compare(
    name: str,
    ours: Callable[[], float],
    other: Callable[[], float],
    *,
    rounds: int,
    target: float,
    at_least: bool,
    comparison: str,
    unit: str,
) -> Result:
    """Returns `alternate` as a result; for the arguments, see there and `Result`."""
    ratios, own, others = alternate(ours, other, rounds)
    figures = f"{statistics.median(own):.4g} / {statistics.median(others):.4g} {unit}"
    return Result(name=name, ratios=ratios, target=target, at_least=at_least, comparison=comparison, figures=figures)


def print_table(results: Sequence[Result]) -> None:
    """Prints the results, and the machine they were measured on, to standard output."""
    table = rich.table.Table(title="Benchmarks", title_justify="left", caption=machine(), caption_justify="left")
    for column in ("name", "ratio", "range", "target", "", "figures", "what is divided by what"):
        table.add_column(column, no_wrap=column != "what is divided by what")
    for result in results:
        table.add_row(
            result.name,
            f"{result.ratio:.3g}",
            f"{min(result.ratios):.3g} to {max(result.ratios):.3g}",
            f"{'>=' if result.at_least else '<='} {result.target:g}",
            "met" if result.met else "MISSED",
            result.figures,
            result.comparison,
        )
    console = rich.console.Console()
    # Without a terminal there is no reason to wrap lines at 80 characters.
    (console if console.is_terminal else rich.console.Console(width=200)).print(table)


def machine() -> str:
    """Returns one line: processor, cores, JAX version and date."""
    return (
        f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, jax {jax.__version__} on "
        f"{jax.default_backend()}, {time.strftime('%Y-%m-%d')}"
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
