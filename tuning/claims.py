"""How a worker acquires a waiting trial: of several workers that try, exactly one succeeds, even if it dies at once."""

import contextlib
import time
from collections.abc import Sequence

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from tuning.trials import OWNER, claim_name, claimants
from tuning.workers import Heartbeats

# Time in which a worker that has acquired a trial surely writes its name on it.
_SECONDS_TO_SIGN = 2.0


class Claims:
    """Acquires trials for one worker."""

    def __init__(self, storage: BaseStorage, worker: str, heartbeats: Heartbeats | None):
        """Acquires nothing yet.

        Args:
          storage: of the study.
          worker: name of this worker.
          heartbeats: of this worker's trials; None if the storage has none.
        """
        self._storage, self._worker, self._heartbeats = storage, worker, heartbeats

    def acquire(self, trial: int, batch: int) -> bool:
        """Acquires a waiting trial, unless another worker does so first.

        The claim is written first: if this worker dies right after it has acquired the trial, others can tell who did.

        Args:
          trial: id in the storage.
          batch: index of the batch that the trial joins.

        Returns:
          Whether this worker has the trial.
        """
        try:
            self._storage.set_trial_user_attr(trial, claim_name(self._worker), batch)
            if self._heartbeats:
                self._heartbeats.add(trial)
            acquired = self._storage.set_trial_state_values(trial, state=TrialState.RUNNING)
        except UpdateFinishedTrialError:
            acquired = False
        if acquired:
            self._sign(trial, batch)
        elif self._heartbeats:
            self._heartbeats.discard([trial])
        return acquired

    def sign_acquired(self, trials: Sequence[FrozenTrial]) -> None:
        """Signs the trials that this worker acquired just before it died.

        Args:
          trials: all trials of the study.
        """
        claim = claim_name(self._worker)
        for trial in trials:
            if trial.state != TrialState.RUNNING or claim not in trial.user_attrs or OWNER in trial.user_attrs:
                continue
            if claimants(trial) != [self._worker]:
                # One of the others may have acquired it, and be about to sign.
                time.sleep(_SECONDS_TO_SIGN)
                trial = self._storage.get_trial(trial._trial_id)
            if OWNER not in trial.user_attrs:
                self._sign(trial._trial_id, trial.user_attrs[claim])

    def _sign(self, trial: int, batch: int) -> None:
        with contextlib.suppress(UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(trial, OWNER, {"worker": self._worker, "batch": batch})
