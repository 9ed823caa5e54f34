"""Training from Python: single runs and populations."""

import importlib.util
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ml_collections
import pandas

import data.pool
from data.pool import Pool
from diagnostics import ablation
from diagnostics.transfer import transfer_check
from experiments import config_errors
from experiments.origins import shorten
from plumbline import UserError
from plumbline.files import expand_home
from plumbline.public.run import Run, open_run
from plumbline.public.wording import names_arguments
from plumbline.rooms import find_in_checkout
from trainers.populations import population, population_file
from trainers.populations.members import Member, Outcome, check_shared
from trainers.run import loop, transfer
from trainers.settings import override

Config = ml_collections.ConfigDict | str | os.PathLike
"""A whole config, or a config file: FILE or FILE:ARGUMENT."""


def load_config(config: Config, overrides: Mapping[str, Any] | None = None) -> ml_collections.ConfigDict:
    """Loads a config file, and changes some of its fields.

    Args:
      config: FILE or FILE:ARGUMENT, looked up in the current folder, then in the checkout; or a config, which is
        copied.
      overrides: config path -> value, such as `{"optimizer.learning_rate": 3e-3}`.

    Returns:
      The config, locked.

    Raises:
      UserError: there is no such file, it fails or returns no config, the config lacks fields of
        `configs/defaults.py`, or an override does not fit. For a failure, the message names the line, and the cause is
        the exception that was raised there.
    """
    if isinstance(config, ml_collections.ConfigDict):
        config_errors.check_complete(config, "config:")
    else:
        config = _read(os.fspath(config))
    return override(config, overrides or {}).lock()


@names_arguments
def train(
    config: Config,
    workdir: str | os.PathLike,
    *,
    overrides: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    extend: bool = False,
) -> Run:
    """Trains a run, or continues one that stopped, as the command `plumbline train` does.

    Args:
      config: a config, or a config file as in `load_config`.
      workdir: the run directory: new, empty, or that of the same config.
      overrides: config path -> value.
      overwrite: delete what another run left in `workdir`.
      extend: continue the run in `workdir`, which is done, for a longer `train.duration`.

    Returns:
      The run. Its `status` says whether it is done, was preempted (Ctrl-C, after a save) or diverged. With
      `transfer.check`, a finished run is followed by the same training from scratch and repetitions of both on other
      seeds, and `transfer_check` has the difference.

    Raises:
      UserError: config, data or directory are not right.
      Preempted: Ctrl-C or SIGTERM while trainings are repeated for `transfer.check`, after a save.
    """
    config = load_config(config, overrides)
    if config.transfer.check:
        transfer_check.check_possible()
    summary = loop.train(config, workdir, overwrite=overwrite, extend=extend)
    if config.transfer.check and summary["status"] == "done":
        transfer_check.check(config, workdir)
    return open_run(workdir)


@names_arguments
def train_population(
    config: Config,
    members: Mapping[str, Mapping[str, Any]] | Sequence[Member],
    *,
    seeds: Iterable[int] | None = None,
    workdir: str | os.PathLike | None = None,
    overrides: Mapping[str, Any] | None = None,
    pool: Pool | None = None,
) -> pandas.DataFrame:
    """Trains many models side by side, in as few compiled programs as they need.

    Args:
      config: what all members share; a config, or a config file as in `load_config`.
      members: overrides by the name of a variant, each trained on every seed and on the splits of a single run; or
        `Member`s, which choose their own rows of `pool`.
      seeds: of the variants; the config's own by default.
      workdir: a folder to save in, so that the same call continues after a kill; None saves nothing.
      overrides: config path -> value, for all members.
      pool: of the rows, from `load_pool`; loaded by default.

    Returns:
      A row for each member, by name: `variant` and `seed`, `status` (done or diverged), `step`, `best_step`,
      `parameters`, and the metrics on the test split, or on the rows that a `Member` holds out.

    Raises:
      UserError: a value does not fit, or is the same for all members of a population.
      Preempted: Ctrl-C or SIGTERM, after a save.
    """
    config = transfer.resolve(load_config(config, overrides))
    if isinstance(members, Mapping):
        pool = load_pool(config) if pool is None else pool
        seeds = [config.seed] if seeds is None else list(seeds)
        variants = {name: dict(changes) for name, changes in members.items()}
        for changes in variants.values():
            check_shared(changes)
        members = ablation.make_members(pool, variants, seeds)
        names = [variant for variant in variants for _ in seeds]
    elif pool is None:
        raise UserError(
            "train_population: members that choose rows need their pool; give pool=plumbline.load_pool(...)"
        )
    else:
        names = [member.name for member in members]
    outcomes = population.train_population(config, pool, members, directory=workdir)
    rows = [_row(outcomes[member.name], name, member) for name, member in zip(names, members, strict=True)]
    return pandas.DataFrame(rows, index=pandas.Index([member.name for member in members], name="member"))


@names_arguments
def population_history(workdir: str | os.PathLike) -> pandas.DataFrame:
    """The metrics of each finished member of a population at each of its evaluations.

    Args:
      workdir: the folder that `train_population`, or a command that trains a population, saved in.

    Returns:
      Two rows for each evaluation, with `member`, `split` and `step`. "train" has the means over the steps since the
      last evaluation (`loss`, `gradient_norm`, `learning_rate`) and the number of updates `skipped` in them.
      "validation" has the metrics on the validation rows, or else on the rows that are held out.

    Raises:
      UserError: the folder holds no population, or its file is damaged.
    """
    path = pathlib.Path(expand_home(workdir)) / population_file.NAME
    if not path.is_file():
        raise UserError(f"workdir: '{workdir}' holds no population; give the folder that `train_population` saved in")
    outcomes = [outcome for outcome in population_file.read(path).outcomes.values() if outcome.status != "paused"]
    # The last of several that differ in what was requested of them.
    finished = {outcome.name: outcome for outcome in outcomes}
    lines = [
        {"member": name, "split": split, **line, "step": int(line["step"])}
        for name, outcome in finished.items()
        for split, history in (("train", outcome.training), ("validation", outcome.history))
        for line in history
    ]
    return pandas.DataFrame(lines)


@names_arguments
def load_pool(config: Config, overrides: Mapping[str, Any] | None = None) -> Pool:
    """Reads the whole data set of a config into memory, for `Member`s that choose their own rows.

    Raises:
      UserError: the data are not right, or too large.
    """
    loaded = load_config(config, overrides)
    return data.pool.load_pool(loaded.data, seed=loaded.seed)


def _row(outcome: Outcome, variant: str, member: Member) -> dict[str, Any]:
    return {
        "variant": variant,
        "seed": member.seed,
        "status": outcome.status,
        "step": outcome.step,
        "best_step": outcome.best_step,
        "parameters": outcome.parameters,
        **outcome.metrics,
    }


def _read(config: str) -> ml_collections.ConfigDict:
    """The config that a file returns."""
    name, colon, argument = find_in_checkout(expand_home(config)).partition(":")
    path = pathlib.Path(name)
    spec = importlib.util.spec_from_file_location(f"{path.stem}_config", path) if path.is_file() else None
    if spec is None:
        raise UserError(f"config: no Python file '{name}'; the shipped ones are in configs/")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, "get_config", None)):
            raise UserError(f"config: '{name}' has no function get_config()")
        loaded = module.get_config(argument) if colon else module.get_config()
        config_errors.check_loaded(loaded, shorten(name))
    # A config file is the user's code: whatever it raises is an error that the user can fix.
    except Exception as error:
        raise UserError(" ".join(config_errors.describe(error, where="config").split())) from error
    return loaded
