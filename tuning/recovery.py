"""How the trials of dead workers are ended and queued again."""

import copy
import datetime
import warnings
from collections.abc import Sequence

import optuna
from absl import logging
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from tuning.trials import SLOT, claimants, current_numbers, is_void, owner_of
from tuning.workers import LockedFiles


def end_trial(storage: BaseStorage, trial: int) -> bool:
    """Ends a trial without a result, which makes it void.

    Args:
      storage: of the study.
      trial: id in the storage.

    Returns:
      Whether this call ended it; False if it had ended before.
    """
    try:
        return storage.set_trial_state_values(trial, state=TrialState.FAIL)
    except UpdateFinishedTrialError:
        return False


def end_trials_of_dead(trials: Sequence[FrozenTrial], storage: BaseStorage, files: LockedFiles, worker: str) -> None:
    """Ends the running trials of dead workers of a journal.

    Args:
      trials: all trials of the study.
      storage: of the study.
      files: by which live workers are known.
      worker: name of this worker.
    """
    for trial in trials:
        is_lost = trial.state == TrialState.RUNNING and not _has_live_owner(trial, files, worker)
        if is_lost and end_trial(storage, trial._trial_id):
            logging.warning("Trial %d is queued again: its worker is dead.", trial.number)


def end_stale_trials(study: optuna.Study) -> None:
    """Ends the running trials whose workers have stopped sending heartbeats to a database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        fail_stale_trials(study)


def requeue_lost(study: optuna.Study, *, min_age: datetime.timedelta) -> None:
    """Queues the slots again that have only void trials.

    Args:
      study: as Optuna knows it.
      min_age: time for which a void trial is left to the worker that ended it, which may be about to queue its slot.
    """
    trials = study.get_trials(deepcopy=False)
    current = current_numbers(trials)
    newest = {t.user_attrs[SLOT]: t for t in trials if is_void(t) and SLOT in t.user_attrs}
    now = datetime.datetime.now()
    for slot, trial in newest.items():
        if slot not in current and (not min_age or now - trial.datetime_complete > min_age):
            requeue(study, trial)


def requeue(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queues the point of a void trial under a new number; values that were not drawn yet are drawn then."""
    trial = copy.deepcopy(trial)
    trial.user_attrs = {SLOT: trial.user_attrs[SLOT]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        RetryHeartbeatStaleTrialCallback()(study, trial)


def _has_live_owner(trial: FrozenTrial, files: LockedFiles, worker: str) -> bool:
    owner = owner_of(trial)
    # A claim of this worker on a trial that another one acquired means nothing.
    workers = [owner] if owner else [name for name in claimants(trial) if name != worker]
    return any(map(files.is_alive, workers))
