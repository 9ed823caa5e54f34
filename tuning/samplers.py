"""Samplers whose draws are pure functions of the seed, the number of the trial and the trials finished before."""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

# Points in a generation of NSGA-II. Optuna's default of 50 suits studies of thousands of trials.
_GENERATION = 20

_MAKE: dict[str, Callable[[int], BaseSampler]] = {
    # The points of a grid are queued with the study, and nothing is left to draw.
    "grid": lambda seed: RandomSampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    # Running points count as bad ones, so that the points of a batch spread out.
    "tpe": lambda seed: TPESampler(seed=seed, constant_liar=True),
    "cmaes": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False),
    "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=_GENERATION),
}
SAMPLERS = tuple(_MAKE)


class Sampler(BaseSampler):
    """A sampler of Optuna that is created again for each draw.

    Optuna's samplers hold a random stream, so that a draw depends on what the process drew before. Here, a sweep that
    was killed in the middle of a point or a batch continues with the same values.
    """

    def __init__(self, name: str, seed: int):
        """Initializes the sampler.

        Args:
          name: one of `SAMPLERS`.
          seed: of the study.
        """
        self._name, self._seed = name, seed

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Returns the hyperparameters that are drawn together."""
        return self._make(trial, "").infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draws the hyperparameters that are drawn together."""
        return self._make(trial, "").sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draws one of the other hyperparameters."""
        return self._make(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Passes a result on."""
        self._make(trial, "").after_trial(study, trial, state, values)

    def _make(self, trial: FrozenTrial, drawn: str) -> BaseSampler:
        words = (self._seed, trial.number, zlib.crc32(drawn.encode()))
        return _MAKE[self._name](int(np.random.SeedSequence(words).generate_state(1)[0]))
