"""The best of many trials of a search, judged on folds that did not select it. All trials are
worth the same. Without a rule for ties, the fold that is judged decides among trials that are equal on the others: of
64 trials and folds of 10 rows, the mean was then 0.84 for a worth of 0.80; it is 0.80 with ties broken by number.

Importances (PED-ANOVA) are shares of 100 % even where nothing matters; they are compared with those of permuted values.
A sampler that learns from earlier trials makes values of the trials depend on each other, which a permutation ignores.
With 24 noisy trials few hyperparameters that matter are found: no name in the report does not mean that none matters.
"""

import functools

import numpy as np
import optuna

from calibration.simulation import Simulation
from tuning.importances import compute_importances
from tuning.metrics import Metric
from tuning.results import Results
from tuning.trials import TrialRecord

_ACCURACY = Metric(name="accuracy", higher_is_better=True)
_FOLDS, _TRIALS, _WORTH, _SEARCHED = 5, 64, 0.8, 24


def _make_results(scores: np.ndarray) -> Results:
    records = [
        TrialRecord(
            number=number,
            status="done",
            overrides={"model.dropout": number / len(scores)},
            values=(float(own.mean()),),
            attributes={"scores": {"accuracy": own.tolist()}},
        )
        for number, own in enumerate(scores)
    ]
    return Results(records, [_ACCURACY], folds=scores.shape[1], seeds=1)


def _covers_the_worth(rng: np.random.Generator, rows: int) -> bool:
    right = rng.binomial(rows, _WORTH, (_TRIALS, _FOLDS))
    _, low, high = _make_results(right / rows).held_out()
    return bool(low <= _WORTH <= high)


def _finds_importances(rng: np.random.Generator, sampler: str, effect: float) -> bool:
    """Whether a hyperparameter is above chance; if there is an effect, the one that has it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = int(rng.integers(2**31))
    made = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}[sampler](seed=seed)
    study, records = optuna.create_study(direction="maximize", sampler=made), []
    for number in range(_SEARCHED):
        trial = study.ask()
        drawn = {f"p{index}": trial.suggest_float(f"p{index}", 0, 1) for index in range(2)}
        drawn["kind"] = trial.suggest_categorical("kind", ("a", "b", "c"))
        value = float(rng.normal() - effect * abs(drawn["p0"] - 0.3))
        study.tell(trial, value)
        records.append(TrialRecord(number=number, status="done", overrides=drawn, values=(value,)))
    found = compute_importances(study, Results(records, [_ACCURACY], folds=0, seeds=1), seed=seed)
    return not isinstance(found, str) and ("p0" in found.above_chance if effect else bool(found.above_chance))


_SELECTED = tuple(
    Simulation(
        claim="95 % interval of the best of 64 trials on folds that did not select it",
        setting=f"trials of accuracy {_WORTH:.0%}, 5 folds of {rows} rows",
        kind="coverage",
        draw=functools.partial(_covers_the_worth, rows=rows),
        nominal=0.95,
        promised=promised,
        draws=2_000,
        quick=200,
    )
    for rows, promised in ((10, 0.93), (100, 0.95))
)
_FALSE = tuple(
    Simulation(
        claim="a hyperparameter's importance is above chance",
        setting=f"{_SEARCHED} trials by {sampler}, 3 hyperparameters that do not matter",
        kind="false alarms",
        draw=functools.partial(_finds_importances, sampler=sampler, effect=0.0),
        nominal=0.05,
        promised=promised,
        draws=100 if sampler == "random" else 50,
        quick=5 if sampler == "random" else 2,
    )
    for sampler, promised in (("random", 0.05), ("tpe", 0.1))
)
_FOUND = tuple(
    Simulation(
        claim="the hyperparameter that matters is above chance",
        setting=f"{_SEARCHED} trials by random; strength: its effect in deviations of the noise",
        kind="found",
        draw=functools.partial(_finds_importances, sampler="random", effect=effect),
        promised=promised,
        draws=20,
        quick=2,
        strength=effect,
    )
    for effect, promised in ((2.0, 0.05), (4.0, 0.05), (8.0, 0.3))
)

SIMULATIONS = (*_SELECTED, *_FALSE, *_FOUND)
