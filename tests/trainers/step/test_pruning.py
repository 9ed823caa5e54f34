"""Magnitude pruning: how many weights are zero when, which, and that they stay so."""

import dataclasses
import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from configs import defaults
from data.pool import load_pool
from plumbline import UserError
from tests.trainers.conftest import FEATURES
from tests.trainers.populations.test_population import assert_equals_run
from trainers.building import build_program, make_clock
from trainers.devices.mesh import make_mesh, replicated
from trainers.devices.sharding import state_shardings
from trainers.devices.step_programs import StepPrograms
from trainers.populations.population import Member, Population, train_population
from trainers.run.directory import RunDirectory
from trainers.run.inference import FinishedRun
from trainers.run.loop import train
from trainers.settings import override
from trainers.step import hyperparameters, pruning_schedule
from trainers.step.optimizers import OPTIMIZERS, paths_and_leaves
from trainers.step.pruning import PruningState
from trainers.step.train_step import zero_metrics

# Of twelve steps, three masks and then three steps that train what is left.
SOON = {"prune__begin": "2 steps", "prune__end": "8 steps", "prune__every": "2 steps"}
VIT = {
    "model__name": "vit",
    "model__vit__patch_size": 4,
    "model__vit__width": 8,
    "model__vit__depth": 3,
    "model__vit__heads": 2,
    "model__vit__mlp_size": 12,
}


def states_of(training, count):
    """The first state and those after each step."""
    step, states = jax.jit(training.train_step), [training.state]
    for number in range(count):
        state, metrics = step(states[-1], training.batch(number))
        assert metrics["skipped"][0] == 0
        states.append(state)
    return states


def optimized(count=9, begin_with=None, **fields):
    """Program, the first parameters and those after each step, of random gradients: without any model's arithmetic."""
    fields = {
        "train.duration": "100 steps",
        "schedule.warmup": "",
        **{name.replace("__", "."): value for name, value in fields.items()},
    }
    config = override(defaults.get_config(), {"model.name": "mlp", "model.mlp.hidden_sizes": (16,), **fields})
    program, _ = build_program(config, FEATURES)
    values = jax.tree.map(jnp.asarray, hyperparameters.from_config(config, make_clock(config, 1000)))
    generator = np.random.default_rng(0)

    def random(tree):
        return jax.tree.map(lambda leaf: jnp.asarray(generator.normal(size=leaf.shape), jnp.float32), tree)

    @jax.jit
    def step(params, state, gradient, number):
        trained = program.partition.select(params)
        updates, state = program.optimizer(values, number).update(gradient, state, trained)
        return program.partition.merge(params, optax.apply_updates(trained, updates)), state

    params = [begin_with or random(program.params)]
    state = program.optimizer(values, jnp.int32(0)).init(program.partition.select(params[0]))
    for number in range(count):
        gradient = random(program.partition.select(params[-1]))
        new, state = step(params[-1], state, gradient, jnp.int32(number))
        params.append(new)
    return program, [jax.device_get(each) for each in params]


def kernels(tree):
    return {path: np.asarray(leaf) for path, leaf in paths_and_leaves(tree) if path.endswith("kernel")}


def zeros(tree):
    return sum(int((leaf == 0).sum()) for leaf in kernels(tree).values())


def size(tree):
    return sum(leaf.size for leaf in kernels(tree).values())


@pytest.mark.parametrize(("begin", "end", "every"), [(20, 70, 1), (10, 100, 7), (0, 30, 10), (50, 50, 5)])
def test_the_sparsity_follows_the_closed_form(begin, end, every):
    lengths = {"prune_begin": begin, "prune_end": end, "prune_every": every}
    lengths = {name: jnp.int32(steps) for name, steps in lengths.items()}
    shares = jax.vmap(pruning_schedule.share, (0, None))(jnp.arange(101, dtype=jnp.int32), lengths)
    for step, share in enumerate(shares):
        # Equation (1) of the paper at the last of its times, with s_i = 0 and s_f = 1.
        times = [time for time in range(begin, end, every) if time <= step]
        expected = 1 + (0 - 1) * (1 - (times[-1] - begin) / (end - begin)) ** 3 if times else 0.0
        assert float(share) == pytest.approx(1.0 if step >= end else expected, abs=1e-6), step


@pytest.mark.parametrize("count", [1, 45, 25_856, 16_777_217, 2**31 - 1])
def test_final_counts_are_exact(count):
    sparsities = [0.5, 0.9, 0.8, 0.1, 0.999, 0.123456789, 0.575, 2 / 3, 1e-9, 0.9999999999999999]
    configs = [override(defaults.get_config(), {"prune.sparsity": sparsity}) for sparsity in sparsities]
    clock = make_clock(configs[0], 1000)
    words = np.stack([pruning_schedule.lengths(config, clock)["sparsity"] for config in configs])
    counts = jax.vmap(lambda own: pruning_schedule.final_count({"sparsity": own}, count))(words)
    # Fractions round as Python's floats do: halves to the even number.
    assert list(counts) == [round(Fraction(str(sparsity)) * count) for sparsity in sparsities]


def test_zeros_of_all_kernels_rise_as_scheduled_to_the_exact_share_and_stay():
    _, states = optimized(12, prune__sparsity=0.7, **SOON)
    count = size(states[0])
    for step, state in enumerate(states):
        time = min(max(step - 2, 0) // 2 * 2, 6)
        assert zeros(state) == round(round(0.7 * count) * (1 - (1 - time / 6) ** 3)), step
    for one, other in itertools.pairwise(map(kernels, states)):
        assert all(not other[path][one[path] == 0].any() for path in one)


def test_the_mask_is_that_of_a_sort():
    fields = {"optimizer__name": "sgd", "optimizer__learning_rate": 0.1}
    now = {"prune__begin": "0 steps", "prune__end": "1 steps"}
    # What the step comes to without pruning.
    plain = kernels(optimized(1, **fields)[1][1])
    pruned = kernels(optimized(1, prune__sparsity=0.37, **now, **fields)[1][1])
    flat = np.concatenate([np.abs(leaf).ravel() for leaf in plain.values()])
    smallest = np.zeros(flat.size, bool)
    smallest[np.argsort(flat, kind="stable")[: round(0.37 * flat.size)]] = True
    np.testing.assert_array_equal(np.concatenate([(leaf == 0).ravel() for leaf in pruned.values()]), smallest)
    for path, leaf in pruned.items():
        np.testing.assert_allclose(leaf[leaf != 0], plain[path][leaf != 0], rtol=1e-6)


def test_each_layer_and_each_stacked_block_comes_to_its_own_exact_share():
    program, (*_, params) = optimized(prune__sparsity=0.6, prune__scope="layer", **SOON, **VIT)
    for path, leaf in kernels(params).items():
        layers = list(leaf) if path.startswith("blocks/") else [leaf]
        assert len(layers) == (3 if path.startswith("blocks/") else 1)
        assert [(layer == 0).sum() for layer in layers] == [round(0.6 * layers[0].size)] * len(layers), path
    reached = program.pruning.summarize(program.pruning.count_zeros(jax.tree.map(jnp.asarray, params)))
    assert reached["layers"]["blocks/2/mlp/out/kernel"] == round(0.6 * 96) / 96
    assert reached["zeros"] == zeros(params)
    others = [leaf for path, leaf in paths_and_leaves(params) if not path.endswith("kernel")]
    assert all(np.all(leaf != 0) for leaf in others)


def test_equal_weights_go_in_their_order():
    program, _ = optimized(0)
    equal = jax.tree.map(lambda leaf: jnp.full(leaf.shape, -0.25), program.params)
    fields = {"prune__begin": "0 steps", "prune__end": "1 steps", "optimizer__learning_rate": 1e-30}
    _, (_, after) = optimized(1, equal, prune__sparsity=0.5, prune__parameters=("head/kernel",), **fields)
    expected = np.where(np.arange(160) < 80, 0.0, -0.25).reshape(16, 10).astype(np.float32)
    np.testing.assert_array_equal(after["head"]["kernel"], expected)


def test_weights_that_begin_at_zero_are_trained_like_others():
    program, _ = optimized(0)
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), program.params)
    _, states = optimized(12, zero, prune__sparsity=0.5, **SOON)
    assert zeros(states[1]) == 0
    assert zeros(states[-1]) == round(0.5 * size(zero))


@pytest.mark.parametrize(
    "optimizer", [n if n in ("sgd", "adamw", "muon") else pytest.param(n, marks=pytest.mark.slow) for n in OPTIMIZERS]
)
def test_nothing_brings_a_pruned_weight_back(optimizer):
    fields = {"prune__begin": "2 steps", "prune__end": "4 steps", "prune__every": "1 steps"}
    fields |= {"optimizer__weight_decay": 0.1, "optimizer__clip_norm": 1.0, "optimizer__name": optimizer}
    _, states = optimized(8, prune__sparsity=0.8, **fields)
    assert [zeros(state) for state in states[4:]] == [round(0.8 * size(states[0]))] * 5
    assert not np.array_equal(*(kernels(states[n])["head/kernel"] for n in (7, 8)))


def test_the_moving_average_is_pruned_as_well_and_skipped_updates_are_made_up_for(make_training):
    fields = {"prune__begin": "1 steps", "prune__end": "3 steps", "prune__every": "1 steps"}
    training = make_training(prune__sparsity=0.8, train__ema_decay=0.9, train__accumulation_steps=2, **fields)
    step, states = jax.jit(training.train_step), [training.state]
    for number in range(6):
        # The update that the schedule ends with is not made.
        weight = jnp.full(32, jnp.nan if number == 2 else 1.0)
        states.append(step(states[-1], {**training.batch(number), "weight": weight})[0])
    count = round(0.8 * size(training.state.params))
    assert [bool(training.program.pruning.is_over(state.opt_state)) for state in states[2:5]] == [False, False, True]
    assert zeros(states[3].params) == zeros(states[2].params) == round(count * 7 / 8)
    assert [zeros(state.params) for state in states[4:]] == [count] * 3
    # What evaluation reads.
    assert [zeros(state.inference().params) for state in states[4:]] == [count] * 3
    assert not np.array_equal(*(kernels(states[n].inference().params)["head/kernel"] for n in (5, 6)))


def test_gradients_of_pruned_weights_do_not_count_in_the_norm_that_is_clipped():
    """Without momentum, what is left moves by just the norm times the learning rate."""
    fields = {"optimizer__name": "sgd", "optimizer__momentum": 0.0, "optimizer__clip_norm": 0.1}
    fields |= {"prune__begin": "0 steps", "prune__end": "1 steps", "prune__parameters": (".",)}
    fields |= {"schedule__name": "constant", "schedule__warmup": "", "optimizer__learning_rate": 1.0}
    _, (*_, before, after) = optimized(3, prune__sparsity=0.9, **fields)
    moved = jax.tree.map(np.subtract, after, before)
    assert math.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(moved))) == pytest.approx(0.1, rel=1e-3)


def test_what_is_frozen_is_neither_pruned_nor_counted():
    frozen = ("^embedding/", "^blocks/1/")
    _, states = optimized(prune__sparsity=0.75, transfer__freeze=frozen, **SOON, **VIT)
    before, after = kernels(states[0]), kernels(states[-1])
    np.testing.assert_array_equal(before.pop("embedding/kernel"), after.pop("embedding/kernel"))
    trained = [leaf[[0, 2]] if path.startswith("blocks/") else leaf for path, leaf in after.items()]
    assert sum((leaf == 0).sum() for leaf in trained) == round(0.75 * sum(leaf.size for leaf in trained))
    for path, leaf in after.items():
        if path.startswith("blocks/"):
            np.testing.assert_array_equal(leaf[1], before[path][1])


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_blocks_are_chosen_one_by_one(scope):
    patterns = ("^blocks/[02]/mlp/.*kernel", "^head/kernel")
    _, (*_, after) = optimized(prune__sparsity=0.5, prune__parameters=patterns, prune__scope=scope, **SOON, **VIT)
    after = kernels(after)
    assert zeros(after) == round(0.5 * (2 * 2 * 96 + 80))
    assert all(leaf[1].all() for path, leaf in after.items() if path.startswith("blocks/"))
    assert after["blocks/attention/query/kernel"].all()


def test_adapters_are_pruned_where_they_are_named_and_their_kernels_are_not():
    fields = {"transfer__lora__patterns": ("query",), "transfer__lora__rank": 2, **VIT}
    patterns = ("lora_", "^head/kernel")
    _, (*_, after) = optimized(prune__sparsity=0.5, prune__parameters=patterns, **SOON, **fields)
    after = dict(paths_and_leaves(after))
    pruned = [leaf for path, leaf in after.items() if "lora_" in path or path == "head/kernel"]
    assert sum(int((leaf == 0).sum()) for leaf in pruned) == round(0.5 * sum(leaf.size for leaf in pruned))
    assert np.all(after["blocks/attention/query/kernel"] != 0)


def test_stacked_trainings_are_pruned_as_single_ones():
    """Members of a population take both sides of every branch."""
    config = override(
        defaults.get_config(), {"model.name": "linear", "prune.sparsity": 0.3, "train.duration": "9 steps"}
    )
    program, _ = build_program(config, FEATURES)
    times = [{"prune.sparsity": 0.3}, {"prune.sparsity": 0.9, "prune.begin": "0 steps", "prune.every": "2 steps"}]
    configs = [override(config, own) for own in times]
    values = [hyperparameters.from_config(own, make_clock(own, 1000)) for own in configs]
    start = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(0), leaf.shape), program.params)

    def trained(values):
        state = program.optimizer(values, jnp.int32(0)).init(start)

        def step(carry, number):
            params, state = carry
            updates, state = program.optimizer(values, number).update(params, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (start, state), jnp.arange(9, dtype=jnp.int32))[0][0]["head"]["kernel"]

    stacked = jax.jit(jax.vmap(trained))(jax.tree.map(lambda *leaves: np.stack(leaves), *values))
    for one, own, sparsity in zip(stacked, values, (0.3, 0.9), strict=True):
        alone = jax.jit(trained)(own)
        assert int((alone == 0).sum()) == round(sparsity * 640)
        np.testing.assert_array_equal(one == 0, alone == 0)
        np.testing.assert_allclose(one, alone, rtol=1e-6)


def test_without_sparsity_there_is_nothing_of_it(make_training):
    training = make_training()
    assert training.program.pruning is None
    assert not [name for name in training.state.hyperparameters if "prune" in name or "sparsity" in name]
    nodes = jax.tree.leaves(training.state.opt_state, is_leaf=lambda node: isinstance(node, PruningState))
    assert not any(isinstance(node, PruningState) for node in nodes)


def on_mesh(training, axes, mode="jit", steps=9):
    sizes = ml_collections.ConfigDict(dict(zip(("data", "fsdp", "tensor"), axes, strict=True)))
    mesh = make_mesh(sizes, jax.devices()[: math.prod(axes)])
    shardings = state_shardings(training.program, mesh, training.state)
    dispatch = StepPrograms(training.train_step, mesh, shardings, batch_size=32, mode=mode)
    state = jax.tree.map(lambda leaf, sharding: jax.device_put(leaf.copy(), sharding), training.state, shardings)
    running = jax.device_put(zero_metrics(training.program), replicated(mesh))
    batches = [jax.tree.map(np.asarray, training.batch(number)) for number in range(steps)]
    stacked = {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
    state, running, _ = dispatch.compiled["scan"](state, running, dispatch.place("scan", stacked), None)
    return state, shardings, float(running["loss"][0])


MLP = {"model__mlp__hidden_sizes": (32, 32), "parallel__fsdp_min_size": 64}
SLOW = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "scope", "axes", "mode"),
    [
        pytest.param(MLP, "global", (8, 1, 1), "jit", marks=SLOW),
        (MLP, "global", (1, 8, 1), "jit"),
        pytest.param(MLP, "layer", (2, 2, 2), "jit", marks=SLOW),
        pytest.param(MLP, "global", (8, 1, 1), "pmap", marks=SLOW),
        pytest.param({**VIT, "parallel__fsdp_min_size": 64}, "layer", (2, 2, 2), "jit", marks=SLOW),
    ],
)
def test_eight_devices_equal_one(make_training, fields, scope, axes, mode):
    training = make_training(prune__sparsity=0.8, prune__scope=scope, train__ema_decay=0.9, **SOON, **fields)
    one, _, loss = on_mesh(training, (1, 1, 1))
    eight, shardings, got = on_mesh(training, axes, mode)
    assert got == pytest.approx(loss, abs=1e-3)
    assert zeros(eight.params) == zeros(one.params) > 0
    for tree, other in ((one.inference().params, eight.inference().params), (one.params, eight.params)):
        for path, leaf in kernels(tree).items():
            np.testing.assert_allclose(kernels(other)[path], leaf, atol=1e-4, err_msg=path)
    # What is kept is split as the parameters are.
    for kept, own in paths_and_leaves(shardings.opt_state.kept):
        assert own == dict(paths_and_leaves(shardings.params))[kept]


FIELDS = {
    "data.source": "digits",
    "model.name": "mlp",
    "model.mlp.hidden_sizes": (32, 32),
    "train.duration": "80 steps",
    "train.batch_size": 32,
    "train.evaluate_every": "10 steps",
    "train.log_every": "10 steps",
    "train.ema_decay": 0.9,
    "train.best_metric": "loss",
    "train.tensorboard": False,
    "prune.every": "4 steps",
    "population.lanes": 2,
}


def config_of(**changes):
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    return override(defaults.get_config(), FIELDS | changes)


def test_a_run_answers_with_parameters_that_are_pruned_to_the_end_and_says_so(tmp_path):
    # So large a rate that the loss is least before the pruning is over.
    config = config_of(prune__sparsity=0.8, prune__end="60 steps", execution__mode="scan", optimizer__learning_rate=0.1)
    summary = train(config, tmp_path, devices=jax.devices()[:1])
    losses = {line["step"]: line["loss"] for line in RunDirectory(tmp_path).metrics() if line["split"] == "validation"}
    late = {step: loss for step, loss in losses.items() if step >= 60}
    assert summary["best_step"] == min(late, key=late.get)
    params = FinishedRun(tmp_path).state.params
    weights = 64 * 32 + 32 * 32 + 32 * 10
    assert zeros(params) == round(0.8 * weights)
    assert {name: summary["pruning"][name] for name in ("weights", "zeros")} == {
        "weights": weights,
        "zeros": round(0.8 * weights),
    }
    assert summary["pruning"]["sparsity"] == pytest.approx(0.8, abs=1e-3)
    by_layer = {path: (leaf == 0).mean() for path, leaf in kernels(params).items()}
    assert summary["pruning"]["layers"] == pytest.approx(by_layer)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["map", *(pytest.param(mode, marks=SLOW) for mode in ("loop", "vmap"))])
def test_a_member_equals_its_run_alone_and_shares_its_program_with_other_sparsities(tmp_path, mode):
    config = config_of(population__mode=mode, execution__mode="loop")
    parts = (pool := load_pool(config.data, seed=3)).splits
    rows = {"train": parts["train"], "validation": parts["validation"], "held_out": parts["test"]}
    overrides = [
        {"prune.sparsity": 0.5},
        {"prune.sparsity": 0.9, "prune.begin": "0 steps", "prune.every": "10 steps"},
        {"prune.sparsity": 0.8, "prune.end": "50 steps"},
        {},
    ]
    members = [Member(name=f"{n}", overrides=own, seed=n, **rows) for n, own in enumerate(overrides)]
    one = jax.devices()[:1]
    population = Population(config, pool, devices=one, progress=False)
    outcomes = population.train([dataclasses.replace(member, seed=3) for member in members])
    # One program for all that prune, and one without any of it.
    assert population.summary["programs"] == 2
    summary = train(override(config, overrides[2] | {"seed": 3}), tmp_path, devices=one)
    rtol = 0 if mode == "loop" else 1e-4
    assert_equals_run(outcomes["2"], summary, RunDirectory(tmp_path).metrics(), rtol=rtol)
    assert outcomes["2"].best_step >= 50
    assert len({round(outcome.metrics["loss"], 6) for outcome in outcomes.values()}) == 4


@pytest.mark.slow
def test_a_pause_changes_nothing():
    config = config_of(population__mode="map", prune__sparsity=0.8)
    parts = (pool := load_pool(config.data, seed=0)).splits
    rows = {"train": parts["train"], "validation": parts["validation"], "held_out": parts["test"]}
    member = Member(name="one", overrides={}, seed=0, **rows)
    whole, halved = (Population(config, pool, devices=jax.devices()[:1], progress=False) for _ in range(2))
    assert halved.train([member], until=0.5)["one"].status == "paused"
    one, other = whole.train([member])["one"], halved.train([member])["one"]
    assert (one.metrics, one.best_step) == (other.metrics, other.best_step)


@pytest.mark.slow
def test_killed_in_the_midst_of_pruning_and_resumed_equals_uninterrupted(command, runs, tmp_path):
    arguments = (
        *runs.EVERYTHING,
        "--config.train.duration=100 steps",
        "--config.execution.mode=loop",
        "--config.prune.sparsity=0.8",
        "--config.prune.every=3 steps",
        "--config.prune.begin=10 steps",
        "--config.prune.end=80 steps",
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finished = command("train", *arguments, f"--workdir={whole}")
    assert "weights are zero (80.00%)" in finished.stdout
    for after in (17, 50):
        process = command.start("train", *arguments, f"--workdir={killed}")
        runs.wait_for(lambda after=after: runs.checkpoint_steps(killed) and runs.logged_step(killed) > after, process)
        process.kill()
        process.wait()
    assert runs.logged_step(killed) < 100
    command("train", *arguments, f"--workdir={killed}")
    assert any("kept" in path for path in runs.final_state(whole))
    runs.assert_runs_equal(whole, killed)


@pytest.mark.slow
def test_four_fifths_of_the_weights_cost_less_than_a_point_of_accuracy():
    from configs import digits_mlp

    config = digits_mlp.get_config()
    config.population.mode = "map"
    parts = (pool := load_pool(config.data, seed=0)).splits
    rows = {"train": parts["train"], "validation": parts["validation"], "held_out": parts["test"]}
    members = [
        Member(name=f"{sparsity} {seed}", overrides={"prune.sparsity": sparsity}, seed=seed, **rows)
        for sparsity in (0.0, 0.8)
        for seed in range(3)
    ]
    outcomes = train_population(config, pool, members, devices=jax.devices()[:1], progress=False)
    accuracy = {s: np.mean([outcomes[f"{s} {n}"].metrics["accuracy"] for n in range(3)]) for s in (0.0, 0.8)}
    assert accuracy[0.8] > accuracy[0.0] - 0.01
    assert accuracy[0.0] > 0.9


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prune__parameters": ("kernal",)}, "prune.parameters: 'kernal' is found in no parameter"),
        ({"prune__parameters": ("(",)}, r"prune.parameters: '\(' is not a regular expression"),
        ({"prune__parameters": ()}, "prune.parameters: no pattern is given"),
        (
            {"prune__parameters": ("hidden/0",), "transfer__freeze": ("hidden/0",)},
            "prune.parameters: 'hidden/0' is found in no parameter; parameters are head/bias",
        ),
        ({"prune__end": "101 steps"}, "prune.end: '101 steps' is 101 steps, but the whole training has 100"),
        ({"prune__end": "late"}, "prune.end: 'late' is not a duration"),
        ({"prune__begin": ""}, "prune.begin: '' is not a duration"),
        ({"prune__every": "0 steps"}, "prune.every: '0 steps' is not an interval; give more than 0"),
        ({"prune__begin": "80 steps"}, "prune.begin: '80 steps' is 80 steps, after prune.end at 70; begin earlier"),
        ({"transfer__unfreeze": (("hidden", "30 steps"),)}, "but transfer.unfreeze freezes parameters until step 30"),
    ],
)
def test_what_does_not_fit_is_an_error(make_training, fields, message):
    with pytest.raises(UserError, match=message):
        make_training(prune__sparsity=0.5, **fields)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sparsity", 1.0, "prune.sparsity: 1.0 given; it must be at least 0 and less than 1"),
        ("sparsity", -0.1, "prune.sparsity: -0.1 given; it must be at least 0 and less than 1"),
        ("scope", "layers", "prune.scope: unknown name 'layers'; did you mean 'layer'?"),
    ],
)
def test_a_value_that_makes_no_sense_is_an_error(tmp_path, field, value, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        train(config_of(**{f"prune.{field}": value}), tmp_path)
