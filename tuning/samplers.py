"""How a trial's point is drawn: a pure function of the seed, the trial's number and the trials told before."""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

# Points of one generation of NSGA-II; Optuna's 50 is for studies of thousands of trials.
_GENERATION = 20

_MAKE: dict[str, Callable[[int], BaseSampler]] = {
    # A grid's points are queued with the study; drawing fills in nothing.
    "grid": lambda seed: RandomSampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    # Points in hand count as bad ones until they are told, so that a batch does not crowd one place.
    "tpe": lambda seed: TPESampler(seed=seed, constant_liar=True),
    "cmaes": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False),
    "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=_GENERATION),
}
SAMPLERS = tuple(_MAKE)


class Sampler(BaseSampler):
    """One of Optuna's, made anew for each draw.

    Optuna's samplers keep a random stream, so that what a trial gets depends on what the process drew before. Here a
    sweep that was killed while it drew half a point, or half a batch, goes on with the same other half.
    """

    def __init__(self, name: str, seed: int):
        """Draws nothing yet.

        Args:
          name: one of `SAMPLERS`.
          seed: of the study.
        """
        self._name, self._seed = name, seed

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Dimensions that are drawn together."""
        return self._make(trial, "").infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draws those."""
        return self._make(trial, "").sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draws one of the others."""
        return self._make(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Takes note of a result."""
        self._make(trial, "").after_trial(study, trial, state, values)

    def _make(self, trial: FrozenTrial, drawn: str) -> BaseSampler:
        words = (self._seed, trial.number, zlib.crc32(drawn.encode()))
        return _MAKE[self._name](int(np.random.SeedSequence(words).generate_state(1)[0]))
