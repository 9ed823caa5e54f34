"""Lanes: trainings that advance side by side in one compiled program, each with a state of its own.

A lane trains one member after the other, so the shapes of the programs never change. The leading axis of every array is
that of lanes, split over the devices. The lanes of a device are stacked ("vmap"), or run one after the other inside the
program ("map"), or there is a single lane, whose steps are dispatched from Python ("loop").
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from data.pool import Pool
from trainers.building import Training
from trainers.run import rules
from trainers.step.dead_units import dead_shares, make_activity
from trainers.step.objective import Sums, Totals
from trainers.step.state import InferenceState, Program, Start, TrainState, Tree, num_parameters
from trainers.step.train_step import (
    Batch,
    Metrics,
    make_evaluation_step,
    make_outputs,
    make_train_step,
    zero_metrics,
)

MODES = ("loop", "map", "vmap")

Carry = tuple[TrainState, jax.Array]
"""What steps change: the train state, and the sums of the training metrics in one array, which costs less than many."""
LaneState = tuple[TrainState, InferenceState, Tree]
"""All that a lane holds: train state, best state, and running sums of the training metrics; or the shapes of these."""

# Most batches of an evaluation in one dispatch.
_MOST_BATCHES = 64
_AXIS = "lane"


class Lanes:
    """The compiled programs of a number of lanes, and the lanes' states.

    Attributes:
      mode: "loop", "map" or "vmap".
      count: lanes, a multiple of the devices.
      steps: most steps in a dispatch.
      states: train states, leaves (count, ...).
      running: (count, ...) float32, sums of the training metrics of each lane since `take_running` last read them.
      best: the best inference state of each lane, as set by `keep_best`.
    """

    def __init__(
        self,
        training: Training,
        pool: Pool,
        arguments: Sequence[tuple],
        start: Start,
        *,
        mode: str,
        steps: int,
        devices: Sequence[jax.Device],
        evaluated: int,
    ):
        """Begins every lane and compiles the program that advances them.

        Args:
          training: of one of the members; all share its program.
          pool: of the rows.
          arguments: of `init`, for each lane; with "loop" there is one lane a device.
          start: arrays that all members begin with in place of fresh values.
          mode: how the lanes of a device are run.
          steps: most steps in a dispatch; 1 with "loop".
          devices: that the lanes are spread over.
          evaluated: most rows of an evaluation.
        """
        self.mode, self.count, self.steps = mode, len(arguments), steps
        program, init = training.program, training.init
        self._program = program
        batch_size = program.config.train.batch_size
        self._batch_size = program.config.evaluation.batch_size or batch_size
        self._batches = 1 if mode == "loop" else min(_MOST_BATCHES, max(1, -(-evaluated // self._batch_size)))
        mesh = Mesh(np.array(devices), (_AXIS,))
        split, whole = NamedSharding(mesh, PartitionSpec(_AXIS)), NamedSharding(mesh, PartitionSpec())
        self._rows = jax.device_put(_rows(pool), whole)
        self._start = start

        loop = mode == "loop"
        # Compiled once and rarely run. On CPU most of LLVM's optimization would be wasted.
        quickly = {"xla_backend_optimization_level": 1} if devices[0].platform == "cpu" else None
        self._init = jax.jit(_over_lanes(lambda start, *own: init(*own, start), mesh, "map"), compiler_options=quickly)
        advance = jax.jit(
            _over_lanes(_advance(program, loop=loop), mesh, mode),
            in_shardings=(whole, split, split, split),
            out_shardings=split,
            donate_argnums=1,
        )
        self._totals = jax.jit(_over_lanes(_over_batches(_totals(program), loop=loop), mesh, mode))
        self._predictions = jax.jit(_over_lanes(_over_batches(_predictions(program), loop=loop), mesh, mode))
        sums, self._metrics = jax.tree.flatten(_summed(program, zero_metrics(program)))
        zeros = np.zeros((self.count, len(sums)), np.float32)
        self.running, self._no_sums = jax.device_put(zeros, split), jax.device_put(zeros, split)
        self._activity = jax.jit(_over_lanes(_over_batches(_activity(program), loop=loop), mesh, mode))
        self._keep = jax.jit(_over_lanes(lambda _, *own: _choose(*own), mesh, "vmap"), donate_argnums=3)
        self._take = jax.jit(lambda tree, lane: jax.tree.map(lambda leaf: leaf[lane], tree))
        self._put = jax.jit(
            lambda tree, lane, new: jax.tree.map(lambda leaf, value: leaf.at[lane].set(value), tree, new),
            donate_argnums=0,
            out_shardings=split,
        )

        def along(*shape: int) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((self.count, *shape), jnp.int32)

        self.states: TrainState = self._begin_all(arguments)
        self.best: InferenceState = self._begin_all(arguments).inference()
        carry = self.states, self.running
        self._advance = advance.lower(self._rows, carry, along(steps, batch_size), along()).compile()

    @property
    def memory(self) -> int:
        """Bytes on each device while lanes advance, as XLA reports them."""
        sizes = self._advance.memory_analysis()
        own = sizes.temp_size_in_bytes + sizes.argument_size_in_bytes + sizes.output_size_in_bytes
        return own - sizes.alias_size_in_bytes

    @property
    def num_parameters(self) -> int:
        """How many numbers the parameters of a member hold."""
        return num_parameters(self.states.params) // self.count

    def begin(self, arguments: Mapping[int, tuple]) -> None:
        """Begins new members in these lanes; the other lanes do not change."""
        some = next(iter(arguments.values()))
        fresh = self._begin_all([arguments.get(lane, some) for lane in range(self.count)])
        mask = np.array([lane in arguments for lane in range(self.count)])
        self.states = fresh if mask.all() else self._keep((), mask, fresh, self.states)
        self.running = self._keep((), mask, self._no_sums, self.running)

    def advance(self, positions: np.ndarray, until: np.ndarray) -> None:
        """Dispatches steps. A lane that has reached its goal, or has diverged, takes none.

        Args:
          positions: (count, steps, B) int32, of the examples in the pool.
          until: (count,) int32, step at which each lane stops.
        """
        self.states, self.running = self._advance(self._rows, (self.states, self.running), positions, until)

    def progress(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps taken, and updates skipped in a row, of each lane: (count,) each. Waits for all dispatches."""
        return jax.device_get((self.states.step, self.states.skipped))

    def take_running(self, lanes: Collection[int]) -> dict[int, Sums]:
        """Reads the sums of the training metrics of these lanes, and sets them to zero."""
        sums = jax.device_get(self.running)
        mask = np.isin(np.arange(self.count), list(lanes))
        self.running = self._keep((), mask, self._no_sums, self.running)
        return {lane: jax.tree.unflatten(self._metrics, list(sums[lane])) for lane in lanes}

    def keep_best(self, better: np.ndarray) -> None:
        """Keeps the states of these lanes, (count,) bool, as their best."""
        self.best = self._keep((), better, self.states.inference(), self.best)

    def evaluate(self, positions: Mapping[int, np.ndarray], *, best: bool = False) -> dict[int, Sums]:
        """Totals of the objective over rows, by lane, in float64.

        Args:
          positions: of the rows in the pool, by lane.
          best: with the best states.
        """
        sums: dict[int, Any] = {}
        for totals in self._over(self._totals, positions, best):
            added = jax.tree.map(lambda leaf: np.sum(np.asarray(leaf, np.float64), axis=1), totals)
            for lane in positions:
                own = jax.tree.map(lambda leaf, lane=lane: leaf[lane], added)
                sums[lane] = jax.tree.map(np.add, sums[lane], own) if lane in sums else own
        return sums

    def predict(self, positions: Mapping[int, np.ndarray], *, best: bool = False) -> dict[int, np.ndarray]:
        """Predictions (n, outputs) for rows, by lane; arguments as for `evaluate`."""
        parts = list(self._over(self._predictions, positions, best))
        whole = np.concatenate([part.reshape(self.count, -1, part.shape[-1]) for part in parts], axis=1)
        return {lane: whole[lane, : len(rows)] for lane, rows in positions.items()}

    def count_dead_units(self, positions: Mapping[int, np.ndarray]) -> dict[int, dict[str, float]]:
        """The share of units that are zero for all these rows, by lane and rectified layer; with the last states."""
        parts = list(self._over(self._activity, positions, False))
        shares = {}
        for lane in positions:
            whole = jax.tree.map(lambda *leaves, lane=lane: np.concatenate([leaf[lane] for leaf in leaves]), *parts)
            activity = {name: (least.min(), active.any(axis=0)) for name, (least, active) in whole.items()}
            shares[lane] = dead_shares(self._program, activity)
        return shares

    @property
    def form(self) -> LaneState:
        """The shapes of what `take` returns."""
        return jax.eval_shape(lambda tree: jax.tree.map(lambda leaf: leaf[0], tree), self._all)

    def take(self, lane: int) -> LaneState:
        """Copies the train state, the best state and the running sums of a lane."""
        return self._take(self._all, lane)

    def put(self, lane: int, state: LaneState) -> None:
        """Puts what `take` returned into a lane."""
        self.states, self.best, self.running = self._put(self._all, lane, state)

    @property
    def _all(self) -> LaneState:
        return self.states, self.best, self.running

    def _begin_all(self, arguments: Sequence[tuple]) -> TrainState:
        return self._init(self._start, *jax.tree.map(lambda *leaves: np.stack(leaves), *arguments))

    def _over(self, function: Callable, positions: Mapping[int, np.ndarray], best: bool) -> Any:
        """Calls the function with as many batches at a time as it takes; yields its results on the host."""
        state = self.best if best else self.states.inference()
        size = self._batches * self._batch_size
        mask = np.array([lane in positions for lane in range(self.count)])
        for start in range(0, max(map(len, positions.values())), size):
            index = np.zeros((self.count, size), np.int32)
            weight = np.zeros((self.count, size), np.float32)
            for lane, rows in positions.items():
                part = rows[start : start + size]
                index[lane, : len(part)], weight[lane, : len(part)] = part, 1
            shape = (self.count, self._batches, self._batch_size)
            yield jax.device_get(function(self._rows, mask, state, index.reshape(shape), weight.reshape(shape)))


def _rows(pool: Pool) -> dict[str, np.ndarray]:
    rows = {"inputs": pool.inputs, "labels": pool.labels, "weight": pool.weights}
    if pool.features.task == "language":
        rows |= {"index": pool.rows.astype(np.int32)}  # The masks of an evaluation are drawn by it.
    return rows if pool.groups is None else rows | {"group": pool.groups}


def _gather(rows: Batch, index: jax.Array) -> Batch:
    # The barrier keeps XLA from fusing the gather with the step, so that the step is compiled as in a single run.
    return jax.lax.optimization_barrier({name: leaf[index] for name, leaf in rows.items()})


def _over_lanes(function: Callable, mesh: Mesh, mode: str) -> Callable:
    """The function of one lane, `(common, *own)`, as one of all lanes: `own` gets a leading axis, `common` does not."""

    def on_device(common: Any, *own: Any) -> Any:
        def one(own: tuple) -> Any:
            return function(common, *own)

        if mode == "vmap":
            return jax.vmap(one)(own)
        if mode == "map":
            return jax.lax.map(one, own)
        return jax.tree.map(lambda leaf: leaf[None], one(jax.tree.map(lambda leaf: leaf[0], own)))

    def over_lanes(common: Any, *own: Any) -> Any:
        lanes = PartitionSpec(_AXIS)
        specs = (PartitionSpec(), *[lanes] * len(own))
        return jax.shard_map(on_device, mesh=mesh, in_specs=specs, out_specs=lanes, check_vma=False)(common, *own)

    return over_lanes


def _advance(program: Program, *, loop: bool) -> Callable:
    train_step, most = make_train_step(program), program.config.train.max_skipped

    def step(rows: Batch, carry: Carry, index: jax.Array, until: jax.Array) -> Carry:
        under_way = (carry[0].step < until) & ~rules.has_diverged(carry[0].skipped, most)

        def take_step(carry: Carry) -> Carry:
            state, metrics = train_step(carry[0], _gather(rows, index))
            return state, carry[1] + jnp.stack(jax.tree.leaves(_summed(program, metrics)))

        # A branch saves the work of stopped lanes. But on a CPU, XLA runs convolutions in a branch much more slowly.
        if loop:
            return _choose(under_way, take_step(carry), carry)
        return jax.lax.cond(under_way, take_step, lambda carry: carry, carry)

    def advance(rows: Batch, carry: Carry, index: jax.Array, until: jax.Array) -> Carry:
        if loop:
            return step(rows, carry, index[0], until)
        return jax.lax.scan(lambda carry, index: (step(rows, carry, index, until), None), carry, index)[0]

    return advance


def _summed(program: Program, metrics: Metrics) -> Metrics:
    """The metrics that lanes add up: all but the objective's scores, which would slow short steps on a CPU by 5 %."""
    return {name: pair for name, pair in metrics.items() if name not in program.objective.scores}


def _totals(program: Program) -> Callable:
    evaluation_step = make_evaluation_step(program)

    def totals(rows: Batch, state: InferenceState, index: jax.Array, weight: jax.Array) -> Totals:
        batch = _gather(rows, index)
        return evaluation_step(state, batch | {"weight": batch["weight"] * weight})

    return totals


def _predictions(program: Program) -> Callable:
    outputs = make_outputs(program)

    def predictions(rows: Batch, state: InferenceState, index: jax.Array, weight: jax.Array) -> jax.Array:
        return program.objective.predictions(outputs(state, rows["inputs"][index]), state.preprocessing)

    return predictions


def _activity(program: Program) -> Callable:
    activity = make_activity(program)
    return lambda rows, state, index, weight: activity(state, rows["inputs"][index], weight)


def _over_batches(function: Callable, *, loop: bool) -> Callable:
    """The function of one batch as one of several batches, (batches, B); a lane whose mask is off computes nothing."""

    def over(rows: Batch, mask: jax.Array, state: InferenceState, index: jax.Array, weight: jax.Array) -> Any:
        if loop:
            return jax.tree.map(lambda leaf: leaf[None], function(rows, state, index[0], weight[0]))

        def all_of_them() -> Any:
            return jax.lax.map(lambda batch: function(rows, state, *batch), (index, weight))

        shapes = jax.eval_shape(all_of_them)
        return jax.lax.cond(
            mask, all_of_them, lambda: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        )

    return over


def _choose(mask: jax.Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(mask, a, b), new, old)
