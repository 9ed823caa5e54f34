"""A study that any number of workers share: a queue of trials, filled once, from which workers take batches.

Every slot of the queue is run once, whichever worker dies at whatever moment; `tuning.trials` explains slots. This
needs one guarantee of Optuna's storages: of several workers that start a waiting trial, or end a running one, exactly
one succeeds.
"""

import contextlib
import datetime
import itertools
import pathlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import optuna
from absl import logging
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from plumbline import UserError
from tuning import recovery
from tuning import storage as storages
from tuning.claims import Claims
from tuning.directory import check_same
from tuning.samplers import Sampler
from tuning.space import Space
from tuning.trials import FAILURE, OWNER, SLOT, Trial, TrialRecord, current_numbers, is_void, make_record, owner_of
from tuning.workers import Heartbeats, LockedFiles

DEFAULT_NAME = "sweep"
# Attributes of a study: who created it with which settings, and the length of its queue.
_MADE, _QUEUED = "made", "queued"
_POLL_SECONDS = 0.2


class Study:
    """One worker's view of a study. Not for several threads."""

    def __init__(
        self,
        *,
        storage: str | None,
        name: str | None,
        workdir: pathlib.Path,
        worker: str,
        space: Space,
        sampler: str,
        seed: int,
        directions: Sequence[str],
        settings: Mapping[str, Any],
        dead_after: int = 180,
    ):
        """Opens the study, or creates it.

        Args:
          storage: URL, "journal:PATH", or None for a journal in the workdir.
          name: of the study in the storage; a database needs one.
          workdir: of this worker.
          worker: a name that no other worker has, and that stays the same when this worker is restarted.
          space: to be searched.
          sampler: one of `samplers.SAMPLERS`.
          seed: of the sampler.
          directions: "minimize" or "maximize" for each objective.
          settings: what else all workers must agree on, as JSON values.
          dead_after: seconds without a heartbeat after which a worker counts as dead; for databases only.

        Raises:
          UserError: the storage cannot be reached, or the study has another space or other settings.
        """
        self._space, self._worker, self._dead_after = space, worker, dead_after
        self._sampler = Sampler(sampler, seed)
        self._journal = storages.journal_path(storage, workdir / "journal.log")
        self.storage_text = storage or f"journal:{self._journal}"
        self.name = name or DEFAULT_NAME
        # Number of a trial -> its id in the storage.
        self._ids: dict[int, int] = {}
        self._files = self._heartbeats = None
        self._storage, self._close_storage = self._open_storage(storage)
        try:
            self._open_study(directions, settings)
            if self._journal:
                self._files = LockedFiles(self._journal.with_name(f"{self._journal.name}.workers"), worker)
            else:
                self._heartbeats = Heartbeats(self._storage)
            self._claims = Claims(self._storage, worker, self._heartbeats)
            self._claims.sign_acquired(self._trials())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Releases the trials that this worker has not finished to other workers."""
        if self._heartbeats:
            self._heartbeats.close()
        if self._files:
            self._files.close()
        self._close_storage()

    def __enter__(self) -> "Study":
        """Returns the study."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes the study."""
        self.close()

    def fill(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Queues a trial for each point, once among all workers.

        Args:
          points: overrides of each slot; an empty one is drawn by the sampler when it is taken.
        """
        self._wait_for_creator()
        with self._exclusive():
            study, queued = self._study(), {t.user_attrs.get(SLOT) for t in self._trials()}
            for slot, point in enumerate(points):
                if slot not in queued:
                    study.enqueue_trial(self._space.drawn(point), user_attrs={SLOT: slot})
            if study.user_attrs.get(_QUEUED, 0) < len(points):
                study.set_user_attr(_QUEUED, len(points))

    def take(self, count: int) -> list[Trial]:
        """Takes the next batch, or the batch that this worker was running when it was stopped.

        Args:
          count: maximal number of trials.

        Returns:
          Trials by number; none if none is waiting.
        """
        self._recover()
        index, batch, complete = self._interrupted_batch()
        drawn = [self._start(trial) for trial in batch]
        # A trial is acquired only after the values of the one before have been drawn.
        missing = 0 if complete else max(0, count - len(drawn))
        drawn += [self._start(trial) for trial in itertools.islice(self._acquire_waiting(index), missing)]
        return sorted(drawn, key=lambda trial: trial.number)

    def report(self, number: int, step: int, value: float) -> None:
        """Stores the value of the first objective at a step of a running trial."""
        with contextlib.suppress(UpdateFinishedTrialError):
            self._storage.set_trial_intermediate_value(self._ids[number], step, value)

    def tell(
        self,
        number: int,
        values: Sequence[float] | None,
        *,
        attributes: Mapping[str, Any],
        failure: str = "",
        pruned: bool = False,
    ) -> bool:
        """Ends a trial.

        Args:
          number: of the trial.
          values: of the objectives; None if it failed or was pruned.
          attributes: JSON values that are stored with it.
          failure: why it failed; "" if it did not.
          pruned: whether it was stopped early.

        Returns:
          Whether the result counts. It does not if this worker was taken for dead and another has ended the trial.
        """
        trial = self._ids[number]
        state = TrialState.FAIL if failure else TrialState.PRUNED if pruned else TrialState.COMPLETE
        try:
            for name, value in {**attributes, **({FAILURE: failure} if failure else {})}.items():
                self._storage.set_trial_user_attr(trial, name, value)
            self._study().tell(number, None if failure or pruned else list(values), state=state)
        except (UpdateFinishedTrialError, ValueError):
            if not self._storage.get_trial(trial).state.is_finished():
                raise
            logging.warning("Trial %d was given to another worker because this one was taken for dead.", number)
            return False
        finally:
            if self._heartbeats:
                self._heartbeats.discard([trial])
        return True

    def records(self) -> list[TrialRecord]:
        """Returns the current trial of each slot, by number."""
        trials = self._trials()
        numbers = set(current_numbers(trials).values())
        return [make_record(t, self._space.overrides(t.params)) for t in trials if t.number in numbers]

    def as_optuna(self) -> optuna.Study:
        """Returns the study as an Optuna study."""
        return self._study()

    def _open_storage(self, url: str | None) -> tuple[BaseStorage, Callable[[], None]]:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if self._journal:
            return storages.open_journal(self._journal), lambda: None
        return storages.open_database(url, dead_after=self._dead_after, requeue=recovery.requeue)

    def _open_study(self, directions: Sequence[str], settings: Mapping[str, Any]) -> None:
        """Creates the study, or checks the settings of an existing one."""
        settings = {"space": self._space.fingerprint, **settings}
        try:
            optuna.create_study(storage=self._storage, study_name=self.name, directions=list(directions))
        except DuplicatedStudyError:
            if made := self._wait_for_attribute(_MADE, storages.REACH_SECONDS):
                shown = storages.without_password(self.storage_text)
                remedy = "another --study" if self._journal is None else "another --study or --workdir, or --overwrite"
                check_same(made["settings"], settings, f"--study: '{self.name}' in '{shown}'", remedy)
                return
            # Its creator died at once, or it is not a study of a sweep.
            if self._trials():
                shown = storages.without_password(self.storage_text)
                raise UserError(
                    f"--study: '{self.name}' in '{shown}' was not made by a sweep; give another --study"
                ) from None
        self._study().set_user_attr(_MADE, {"maker": self._worker, "settings": settings})

    def _wait_for_attribute(self, name: str, seconds: float) -> Any:
        """Returns an attribute of the study as soon as it is there; None if it is not after `seconds`."""
        end = time.monotonic() + seconds
        while True:
            attributes = self._study().user_attrs
            if name in attributes or time.monotonic() >= end:
                return attributes.get(name)
            time.sleep(_POLL_SECONDS)

    def _wait_for_creator(self) -> None:
        """Over a database, waits until the creator of the study has filled its queue, unless the creator is dead."""
        if not self._files and self._study().user_attrs[_MADE]["maker"] != self._worker:
            self._wait_for_attribute(_QUEUED, self._dead_after)

    def _study(self) -> optuna.Study:
        return optuna.load_study(study_name=self.name, storage=self._storage, sampler=self._sampler)

    def _trials(self) -> list[FrozenTrial]:
        return self._study().get_trials(deepcopy=False)

    def _exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Keeps other workers on this machine from filling the queue.

        A database has no such lock; slots that are queued twice there are run once all the same.
        """
        return self._files.exclusive() if self._files else contextlib.nullcontext()

    def _interrupted_batch(self) -> tuple[int, list[FrozenTrial], bool]:
        """Returns the index of the batch to run, those of its trials that exist, and whether it is complete."""
        own = [t for t in self._trials() if owner_of(t) == self._worker and not is_void(t)]
        indices = [t.user_attrs[OWNER]["batch"] for t in own]
        running = [index for t, index in zip(own, indices, strict=True) if t.state == TrialState.RUNNING]
        if not running:
            return max(indices, default=-1) + 1, [], False
        batch = [t for t, index in zip(own, indices, strict=True) if index == min(running)]
        if self._heartbeats:
            for trial in batch:
                if trial.state == TrialState.RUNNING:
                    self._heartbeats.add(trial._trial_id)
            # Until these heartbeats, other workers may have taken this one for dead.
            batch = [t for t in map(self._storage.get_trial, [t._trial_id for t in batch]) if not is_void(t)]
        # A batch has results only after all of its trials have been drawn.
        return min(running), batch, any(t.state.is_finished() for t in batch)

    def _acquire_waiting(self, batch: int) -> Iterator[FrozenTrial]:
        """Acquires waiting trials, the oldest first, one for each step of the iterator."""
        trials = self._trials()
        current = current_numbers(trials)
        for trial in trials:
            if trial.state == TrialState.WAITING:
                if current.get(trial.user_attrs.get(SLOT)) != trial.number:
                    recovery.end_trial(self._storage, trial._trial_id)
                elif self._claims.acquire(trial._trial_id, batch):
                    yield self._storage.get_trial(trial._trial_id)

    def _start(self, trial: FrozenTrial) -> Trial:
        """Draws the values of a running trial that have not been drawn before."""
        self._ids[trial.number] = trial._trial_id
        steps = dict(trial.intermediate_values)
        if trial.state.is_finished():
            return Trial(number=trial.number, overrides=self._space.overrides(trial.params), finished=True, steps=steps)
        # As in `Study.ask`, but for a trial that is running already.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            overrides = self._space.suggest(optuna.trial.Trial(self._study(), trial._trial_id))
        return Trial(number=trial.number, overrides=overrides, steps=steps)

    def _recover(self) -> None:
        """Ends the trials of dead workers and queues them again."""
        if self._files:
            recovery.end_trials_of_dead(self._trials(), self._storage, self._files, self._worker)
        else:
            recovery.end_stale_trials(self._study())
        with self._exclusive():
            # Over a database, the worker that ends a trial queues it again; others do so if that worker has died.
            seconds = 0 if self._files else self._dead_after
            recovery.requeue_lost(self._study(), min_age=datetime.timedelta(seconds=seconds))
