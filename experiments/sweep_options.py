"""The flags of `plumbline sweep`, and the checks that need no training."""

import dataclasses
from collections.abc import Sequence

from plumbline import UserError, unknown_name
from trainers.durations import Clock
from tuning import pruning, samplers
from tuning.metrics import Metric
from tuning.space import Space


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The flags of `plumbline sweep`, as given."""

    sampler: str
    trials: int | None
    folds: int
    groups: str
    seeds: int
    pruner: str
    metric: str
    budget: str
    storage: str | None
    study: str | None
    dead_after: int
    overwrite: bool


def check_options(options: Options, space: Space) -> int:
    """Checks the options that do not depend on the data.

    Args:
      options: of the search.
      space: of the search.

    Returns:
      The number of trials.

    Raises:
      UserError: an option is wrong.
    """
    for name, given, known in (
        ("--sampler", options.sampler, samplers.SAMPLERS),
        ("--pruner", options.pruner, pruning.PRUNERS),
    ):
        if given not in known:
            raise unknown_name(name, given, known)
    for name, number, least in (
        ("--trials", options.trials, 1),
        ("--seeds", options.seeds, 1),
        ("--dead-after", options.dead_after, 1),
        ("--folds", options.folds, 0),
    ):
        if number is not None and number < least:
            raise UserError(f"{name}: {number} given; it must be at least {least}")
    if options.groups and not options.folds:
        raise UserError("--groups: given without --folds; say how many folds to split the groups into")
    trials = options.trials
    if options.sampler == "grid":
        points = space.grid_size()
        if trials is not None and points > trials:
            raise UserError(
                f"--trials: {trials} given, but the grid has {points} points; give --trials={points}, fewer choices in "
                "sweep(), or another --sampler"
            )
        trials = points
    if trials is None:
        raise UserError("--trials: missing; say how many points to try")
    if options.pruner != "none" and trials < 2:
        raise UserError(
            "--pruner: there is one trial and none to compare it with; give more --trials, or --pruner=none"
        )
    return trials


def parse_budget(budget: str) -> float | None:
    """Returns the seconds of a --budget; None for no limit.

    Raises:
      UserError: it is not a time.
    """
    if not budget:
        return None
    try:
        seconds = Clock(num_examples=1, batch_size=1).every(budget, "--budget", wall_time=True).seconds
    except UserError:
        seconds = None
    if seconds is None:
        raise UserError(
            f"--budget: '{budget}' is not a time; write a number above 0 and a unit, such as '90 seconds' or "
            "'20 minutes'"
        )
    return seconds


def check_metrics(metrics: Sequence[Metric], options: Options) -> None:
    """Checks that the sampler and the pruner support the metrics.

    Raises:
      UserError: one of them does not.
    """
    if len(metrics) > 1 and options.sampler == "cmaes":
        raise UserError("--sampler: cmaes takes one metric; take nsga2, or give one --metric")
    if len(metrics) > 1 and options.pruner != "none":
        raise UserError("--pruner: trials are compared by one metric; give one --metric, or --pruner=none")
    if not metrics[0].measured and options.pruner != "none":
        raise UserError(
            f"--pruner: '{metrics[0].name}' does not change during training; give another --metric, or --pruner=none"
        )
