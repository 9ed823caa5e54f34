"""A study that any number of workers share: its trials are a queue, filled once, from which each takes batches.

A trial has a slot, its place in the search. Of the trials of one slot the oldest that is not void counts; a void one is
that of a dead worker, or one that was queued twice because two workers did the same at the same moment. So every slot
is run once, whatever dies when. Optuna's storages give the one thing this needs: of several workers that take a waiting
trial, or end a running one, exactly one succeeds.
"""

import contextlib
import copy
import dataclasses
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
from optuna.storages import BaseStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from plumbline import UserError
from tuning import storage as storages
from tuning.directory import check_same
from tuning.samplers import Sampler
from tuning.space import Space
from tuning.workers import Heartbeats, LockedFiles

DEFAULT_NAME = "sweep"
_SECONDS_BETWEEN_LOOKS = 0.2
# A worker that has won a trial writes its name on it at once; this is long for that.
_SECONDS_TO_SIGN = 2.0
_STATES = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """A trial to be run.

    Attributes:
      number: in the study.
      overrides: config path -> value.
      told: its result is in the study already; it comes along as part of a batch that was interrupted.
      steps: objective by step, as it was reported before.
    """

    number: int
    overrides: Mapping[str, Any]
    told: bool = False
    steps: Mapping[int, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What a study knows of a trial.

    Attributes:
      number: in the study.
      status: "done", "pruned", "failed", "running" or "waiting".
      overrides: config path -> value.
      values: of the objectives, in their order; () unless done.
      attributes: what was told with the result.
      steps: objective by step, where it was reported.
      reason: why it failed.
    """

    number: int
    status: str
    overrides: Mapping[str, Any]
    values: tuple[float, ...] = ()
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    steps: Mapping[int, float] = dataclasses.field(default_factory=dict)
    reason: str = ""


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
        """Opens the study, or makes it.

        Args:
          storage: URL, "journal:PATH", or None for a journal in the workdir.
          name: of the study in the storage; a database needs one.
          workdir: of this worker.
          worker: a name that no other worker has, and that stays the same when this one is started again.
          space: to be searched.
          sampler: one of `samplers.SAMPLERS`.
          seed: of the draws.
          directions: "minimize" or "maximize" for each objective.
          settings: what else all workers have to agree on, as JSON values.
          dead_after: seconds without a heartbeat after which a worker counts as dead; over databases only.

        Raises:
          UserError: the storage cannot be reached, or the study is of another space or other settings.
        """
        self._space, self._worker, self._dead_after = space, worker, dead_after
        self._sampler = Sampler(sampler, seed)
        self._journal = storages.journal_path(storage, workdir / "journal.log")
        self.storage_text = storage or f"journal:{self._journal}"
        self.name = name or DEFAULT_NAME
        self._storage, self._close_storage = self._open_storage(storage)
        self._open_study(directions, settings)
        self._files = self._hearts = None
        if self._journal:
            self._files = LockedFiles(self._journal.with_name(f"{self._journal.name}.workers"), worker)
        else:
            self._hearts = Heartbeats(self._storage)
        self._identity: dict[int, int] = {}
        self._sign_own()

    def close(self) -> None:
        """Lets other workers have what this one leaves."""
        if self._hearts:
            self._hearts.close()
        if self._files:
            self._files.close()
        self._close_storage()

    def __enter__(self) -> "Study":
        """Gives itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes it."""
        self.close()

    def fill(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Queues a trial for each point, once, whoever else does so.

        Args:
          points: overrides of each slot; empty ones are drawn by the sampler when their turn comes.
        """
        self._wait_for_maker()
        with self._exclusive():
            study, queued = self._study(), {t.user_attrs.get("slot") for t in self._trials()}
            for slot, point in enumerate(points):
                if slot not in queued:
                    study.enqueue_trial(self._space.drawn(point), user_attrs={"slot": slot})
            if study.user_attrs.get("queued", 0) < len(points):
                study.set_user_attr("queued", len(points))

    def take(self, count: int) -> list[Asked]:
        """The next batch; or the one that this worker had in hand when it was stopped.

        Args:
          count: how many trials at most.

        Returns:
          The trials in the order of their numbers; none if none is waiting.
        """
        self._recover()
        index, batch, whole = self._in_hand()
        drawn = [self._asked(trial) for trial in batch]
        # The queue is asked for one only when the one before has been drawn.
        missing = 0 if whole else max(0, count - len(drawn))
        drawn += [self._asked(trial) for trial in itertools.islice(self._won(index), missing)]
        return sorted(drawn, key=lambda asked: asked.number)

    def report(self, number: int, step: int, value: float) -> None:
        """Notes the objective of a trial on its way."""
        with contextlib.suppress(UpdateFinishedTrialError):
            self._storage.set_trial_intermediate_value(self._identity[number], step, value)

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
          attributes: JSON values that are kept with it.
          failure: why it failed; "" if it did not.
          pruned: it was stopped early.

        Returns:
          Whether it counts: not if this worker was held to be dead and another ended the trial first.
        """
        trial = self._identity[number]
        state = TrialState.FAIL if failure else TrialState.PRUNED if pruned else TrialState.COMPLETE
        try:
            for name, value in {**attributes, **({"failure": failure} if failure else {})}.items():
                self._storage.set_trial_user_attr(trial, name, value)
            self._study().tell(number, None if failure or pruned else list(values), state=state)
        except (UpdateFinishedTrialError, ValueError):
            if not self._storage.get_trial(trial).state.is_finished():
                raise
            logging.warning("Trial %d was given to another worker, as this one was held to be dead.", number)
            return False
        finally:
            if self._hearts:
                self._hearts.discard([trial])
        return True

    def records(self) -> list[Record]:
        """All trials that count, by number."""
        trials = self._trials()
        numbers = set(_counting(trials).values())
        return [self._record(trial) for trial in trials if trial.number in numbers]

    def as_optuna(self) -> optuna.Study:
        """The study as Optuna knows it."""
        return self._study()

    def _record(self, trial: FrozenTrial) -> Record:
        return Record(
            number=trial.number,
            status=_STATES[trial.state],
            overrides=self._space.overrides(trial.params),
            values=tuple(trial.values or ()) if trial.state == TrialState.COMPLETE else (),
            attributes={name: value for name, value in trial.user_attrs.items() if not _bookkeeping(name)},
            steps=dict(sorted(trial.intermediate_values.items())),
            reason=trial.user_attrs.get("failure", ""),
        )

    def _open_storage(self, url: str | None) -> tuple[BaseStorage, Callable[[], None]]:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if self._journal:
            return storages.open_journal(self._journal), lambda: None
        return storages.open_database(url, dead_after=self._dead_after, requeue=_requeue)

    def _open_study(self, directions: Sequence[str], settings: Mapping[str, Any]) -> None:
        """Makes the study, or checks the one that is there."""
        settings = {"space": self._space.fingerprint, **settings}
        try:
            optuna.create_study(storage=self._storage, study_name=self.name, directions=list(directions))
        except DuplicatedStudyError:
            there, end = self._study().user_attrs, time.monotonic() + storages.REACH_SECONDS
            while "made" not in there and time.monotonic() < end:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                there = self._study().user_attrs
            if "made" in there:
                check_same(
                    there["made"]["settings"], settings, f"--study: '{self.name}' in '{self._shown}'", self._remedy
                )
                return
            # Its maker died at once, unless it was somebody else's.
            if self._trials():
                raise UserError(
                    f"--study: '{self.name}' in '{self._shown}' was not made by a sweep; give another --study"
                ) from None
        self._study().set_user_attr("made", {"maker": self._worker, "settings": settings})

    @property
    def _shown(self) -> str:
        return storages.without_password(self.storage_text)

    @property
    def _remedy(self) -> str:
        return "another --study" if self._journal is None else "another --study or --workdir, or --overwrite"

    def _study(self) -> optuna.Study:
        return optuna.load_study(study_name=self.name, storage=self._storage, sampler=self._sampler)

    def _trials(self) -> list[FrozenTrial]:
        return self._study().get_trials(deepcopy=False)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Keeps others on this machine from filling the queue; a database has no such lock, and what is queued twice is
        void.
        """
        if not self._files:
            yield
            return
        with self._files.exclusive():
            yield

    def _wait_for_maker(self) -> None:
        """Over a database, lets the one that made the study fill its queue, unless that one is dead."""
        if self._files or self._study().user_attrs["made"]["maker"] == self._worker:
            return
        end = time.monotonic() + self._dead_after
        while "queued" not in self._study().user_attrs and time.monotonic() < end:
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _sign_own(self) -> None:
        """Puts this worker's name on what it won the moment it died."""
        claim = _claim(self._worker)
        for trial in self._trials():
            if trial.state != TrialState.RUNNING or claim not in trial.user_attrs or "owner" in trial.user_attrs:
                continue
            if any(name.startswith(_CLAIM) and name != claim for name in trial.user_attrs):
                time.sleep(_SECONDS_TO_SIGN)
                trial = self._storage.get_trial(trial._trial_id)
            if "owner" not in trial.user_attrs:
                self._sign(trial._trial_id, trial.user_attrs[claim])

    def _sign(self, trial: int, batch: int) -> None:
        with contextlib.suppress(UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(trial, "owner", {"worker": self._worker, "batch": batch})

    def _in_hand(self) -> tuple[int, list[FrozenTrial], bool]:
        """The batch that is not finished: its index, its trials, and whether no more belong to it."""
        own = [t for t in self._trials() if _owner(t) == self._worker and not _void(t)]
        indices = [t.user_attrs["owner"]["batch"] for t in own]
        running = [index for t, index in zip(own, indices, strict=True) if t.state == TrialState.RUNNING]
        if not running:
            return max(indices, default=-1) + 1, [], False
        batch = [t for t, index in zip(own, indices, strict=True) if index == min(running)]
        if self._hearts:
            for trial in batch:
                if trial.state == TrialState.RUNNING:
                    self._hearts.add(trial._trial_id)
            # Others may have held this worker to be dead until a moment ago.
            batch = [t for t in map(self._storage.get_trial, [t._trial_id for t in batch]) if not _void(t)]
        # Only a batch that was drawn to its end has results.
        return min(running), batch, any(t.state.is_finished() for t in batch)

    def _won(self, batch: int) -> Iterator[FrozenTrial]:
        """Takes waiting trials, the oldest first, as long as it is asked for more."""
        trials = self._trials()
        counting = _counting(trials)
        for trial in trials:
            if trial.state == TrialState.WAITING:
                if counting.get(trial.user_attrs.get("slot")) != trial.number:
                    self._end(trial._trial_id)
                elif self._win(trial._trial_id, batch):
                    yield self._storage.get_trial(trial._trial_id)

    def _win(self, trial: int, batch: int) -> bool:
        """Takes a waiting trial, unless another worker is faster.

        The claim comes first: should this worker die the moment it wins, it is known who did.
        """
        try:
            self._storage.set_trial_user_attr(trial, _claim(self._worker), batch)
            if self._hearts:
                self._hearts.add(trial)
            won = self._storage.set_trial_state_values(trial, state=TrialState.RUNNING)
        except UpdateFinishedTrialError:
            won = False
        if won:
            self._sign(trial, batch)
        elif self._hearts:
            self._hearts.discard([trial])
        return won

    def _asked(self, trial: FrozenTrial) -> Asked:
        self._identity[trial.number] = trial._trial_id
        steps = dict(trial.intermediate_values)
        if trial.state.is_finished():
            return Asked(number=trial.number, overrides=self._space.overrides(trial.params), told=True, steps=steps)
        # As `Study.ask` would, of a trial that is running already. What was drawn of it before is kept.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            overrides = self._space.suggest(optuna.trial.Trial(self._study(), trial._trial_id))
        return Asked(number=trial.number, overrides=overrides, steps=steps)

    def _recover(self) -> None:
        """Ends the trials of dead workers and queues them again."""
        if self._files:
            for trial in self._trials():
                if trial.state == TrialState.RUNNING and not self._alive(trial) and self._end(trial._trial_id):
                    logging.warning("Trial %d comes back: its worker is dead.", trial.number)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                fail_stale_trials(self._study())
        with self._exclusive():
            self._requeue_lost()

    def _alive(self, trial: FrozenTrial) -> bool:
        owner = _owner(trial)
        claims = [name.removeprefix(_CLAIM) for name in trial.user_attrs if name.startswith(_CLAIM)]
        # This worker's own claim on what another has won says nothing.
        workers = [owner] if owner else [worker for worker in claims if worker != self._worker]
        return any(map(self._files.alive, workers))

    def _end(self, trial: int) -> bool:
        try:
            return self._storage.set_trial_state_values(trial, state=TrialState.FAIL)
        except UpdateFinishedTrialError:
            return False

    def _requeue_lost(self) -> None:
        """Queues the slots of which nothing but void trials is left."""
        trials = self._trials()
        living = _counting(trials)
        newest = {t.user_attrs["slot"]: t for t in trials if _void(t) and "slot" in t.user_attrs}
        now = datetime.datetime.now()
        for slot, trial in newest.items():
            # Over a database whoever ends a trial queues it again; the others step in if that one died in between.
            waited = self._files or now - trial.datetime_complete > datetime.timedelta(seconds=self._dead_after)
            if slot not in living and waited:
                _requeue(self._study(), trial)


_CLAIM = "claim:"


def _claim(worker: str) -> str:
    return f"{_CLAIM}{worker}"


def _bookkeeping(name: str) -> bool:
    return name in ("slot", "owner", "failure") or name.startswith(_CLAIM)


def _owner(trial: FrozenTrial) -> str | None:
    return trial.user_attrs.get("owner", {}).get("worker")


def _void(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and "failure" not in trial.user_attrs


def _counting(trials: Sequence[FrozenTrial]) -> dict[int, int]:
    """Slot -> number of the trial that counts, of slots that have one."""
    return {t.user_attrs["slot"]: t.number for t in reversed(trials) if "slot" in t.user_attrs and not _void(t)}


def _requeue(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queues a void trial's point again, under a new number; what was not drawn of it yet is drawn then."""
    trial = copy.deepcopy(trial)
    trial.user_attrs = {"slot": trial.user_attrs["slot"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        RetryHeartbeatStaleTrialCallback()(study, trial)
