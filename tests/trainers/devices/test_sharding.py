"""The same training on any mesh, by jit and by pmap; and what each device holds of it."""

import functools

import jax
import ml_collections
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from plumbline import UserError
from trainers.devices.mesh import check_batch, data_mesh, local_rows, make_mesh, replicated
from trainers.devices.sharding import parameter_specs, placements, state_shardings
from trainers.devices.step_programs import StepPrograms, check_parallel_mode
from trainers.step.optimizers import OPTIMIZERS
from trainers.step.train_step import zero_metrics

# Sizes that eight devices divide.
SMALL = {
    "mlp": {"model__mlp__hidden_sizes": (32, 32)},
    "resnet": {"model__resnet__width": 8},
    "vit": {
        "model__vit__patch_size": 2,
        "model__vit__width": 32,
        "model__vit__depth": 2,
        "model__vit__heads": 8,
        "model__vit__mlp_size": 64,
    },
}
MESHES = {
    "data": (8, 1, 1),
    "fsdp": (1, 8, 1),
    "tensor": (1, 1, 8),
    "mixed": (2, 2, 2),
    "data and fsdp": (2, 4, 1),
}


def mesh_of(data, fsdp, tensor, devices=None):
    return make_mesh(ml_collections.ConfigDict({"data": data, "fsdp": fsdp, "tensor": tensor}), devices)


def placed(training, mesh, mode="jit"):
    """The dispatch, a copy of the state and zero metrics on the mesh."""
    shardings = state_shardings(training.program, mesh, training.abstract_state)
    step = StepPrograms(training.train_step, mesh, shardings, batch_size=training.config.train.batch_size, mode=mode)
    state = jax.tree.map(lambda leaf, s: jax.device_put(leaf.copy(), s), training.state, shardings)
    return step, state, jax.device_put(zero_metrics(training.program), replicated(mesh))


def losses_and_state(training, mesh, mode="jit", steps=20):
    step, state, zero = placed(training, mesh, mode)
    copy = functools.partial(jax.tree.map, lambda leaf: leaf.copy())
    losses = []
    for number in range(steps):
        batch = jax.tree.map(np.asarray, training.batch(number))
        state, sums, _ = step.compiled["loop"](state, copy(zero), step.place("loop", batch), None)
        losses.append(float(sums["loss"][0] / sums["loss"][1]))
    return np.array(losses), jax.device_get(jax.tree.map(_numbers, state))


def _numbers(leaf):
    return jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


@pytest.fixture(scope="module")
def one_device():
    """Losses and state of twenty steps on one device, by model; computed once."""
    return {}


def training_of(make_training, model, **fields):
    # Adam divides by gradients that may be nothing but rounding, and with large steps on random labels a network with
    # batch statistics makes the more of a difference the longer it trains.
    optimizer = {"optimizer__name": "sgd", "optimizer__learning_rate": 0.003} if model == "resnet" else {}
    return make_training(
        model__name=model,
        parallel__fsdp_min_size=64,
        model__dropout=0.1,
        model__stochastic_depth=0.1,
        augment__shift=1,
        augment__mixup=0.2,
        augment__color=0.2,
        train__accumulation_steps=2,
        train__ema_decay=0.9,
        **SMALL[model],
        **optimizer,
        **fields,
    )


def cases():
    """All, of which those that compile for long are slow."""
    quick = {("mlp", name) for name in [*MESHES, "pmap"]} | {("vit", "mixed"), ("vit", "pmap")}
    for model in SMALL:
        for name in [*MESHES, "pmap"]:
            yield pytest.param(model, name, marks=() if (model, name) in quick else pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "name"), list(cases()))
def test_eight_devices_equal_one_on_every_mesh_and_by_pmap(make_training, one_device, assert_trees_equal, model, name):
    training = training_of(make_training, model)
    if model not in one_device:
        one_device[model] = losses_and_state(training, mesh_of(1, 1, 1, jax.devices()[:1]))
    losses, state = one_device[model]
    mesh = mesh_of(*MESHES.get(name, (8, 1, 1)))
    got_losses, got_state = losses_and_state(training, mesh, "pmap" if name == "pmap" else "jit")
    np.testing.assert_allclose(got_losses, losses, rtol=0, atol=1e-5)
    assert_trees_equal(got_state.params, state.params, rtol=0, atol=1e-4)
    assert_trees_equal(got_state.model_state, state.model_state, rtol=1e-4, atol=1e-4)


FROZEN = {
    "mlp": {"transfer__freeze": ("^hidden/0",)},
    "resnet": {"transfer__freeze": ("^stem/", "^stages/0/")},
    "vit": {"transfer__freeze": ("^embedding", "^class_token", "^positions", "^blocks/0/")},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("mlp", "fsdp"),
        ("mlp", "pmap"),
        ("vit", "mixed"),
        ("vit", "pmap"),
        ("resnet", "fsdp"),
        ("resnet", "pmap"),
    ],
)
def test_eight_devices_equal_one_where_a_part_is_frozen(make_training, assert_trees_equal, model, name):
    training = training_of(make_training, model, **FROZEN[model])
    losses, state = losses_and_state(training, mesh_of(1, 1, 1, jax.devices()[:1]), steps=5)
    mode, mesh = "pmap" if name == "pmap" else "jit", mesh_of(*MESHES.get(name, (8, 1, 1)))
    got_losses, got_state = losses_and_state(training, mesh, mode, steps=5)
    np.testing.assert_allclose(got_losses, losses, rtol=0, atol=1e-5)
    assert_trees_equal(got_state.inference(), state.inference(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_scanned_steps_over_eight_devices_equal_single_ones(make_training, assert_trees_equal, mode):
    training = training_of(make_training, "mlp")
    mesh = data_mesh(jax.devices())
    _, one_by_one = losses_and_state(training, mesh, mode, steps=4)
    step, state, running = placed(training, mesh, mode)
    batches = [training.batch(number) for number in range(4)]
    stacked = {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
    state, _, (skipped, request) = step.compiled["scan"](state, running, step.place("scan", stacked), None)
    assert_trees_equal(jax.device_get(state.params), one_by_one.params, rtol=0, atol=1e-6)
    assert (int(skipped), request) == (0, None)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", ["mlp", "vit"])
def test_fsdp_over_eight_devices_holds_an_eighth_on_each_and_small_parameters_whole(make_training, model, optimizer):
    training = make_training(
        model__name=model, parallel__fsdp_min_size=256, optimizer__name=optimizer, train__ema_decay=0.9, **SMALL[model]
    )
    shardings = state_shardings(training.program, mesh_of(1, 8, 1), training.abstract_state)
    state = jax.tree.map(jax.device_put, training.state, shardings)
    for tree in (state.params, state.opt_state, state.ema):
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        # The blocks of the transformer are stacked, two of them.
        sizes = [leaf.size // (2 if "blocks" in str(path) else 1) for path, leaf in leaves]
        whole = sum(leaf.nbytes for (_, leaf), size in zip(leaves, sizes, strict=True) if size < 256)
        # Counted from the buffers of one device.
        held = sum(leaf.addressable_shards[0].data.nbytes for _, leaf in leaves)
        assert held <= (sum(leaf.nbytes for _, leaf in leaves) - whole) / 8 + whole


@pytest.mark.slow
def test_the_optimizer_state_lies_as_its_parameters_do(make_training):
    training = make_training(model__name="vit", parallel__fsdp_min_size=64, optimizer__name="adamw", **SMALL["vit"])
    shardings = state_shardings(training.program, mesh_of(2, 2, 2), training.abstract_state)
    specs = {p.path: p.spec for p in placements(training.state.params, shardings.params)}
    moments = [p for p in placements(training.state.opt_state, shardings.opt_state) if "/mu/" in p.path]
    assert len(moments) == len(specs)
    assert all(p.spec == specs[p.path.partition("/mu/")[2]] for p in moments)
    assert specs["blocks/attention/query/kernel"] == PartitionSpec(None, "fsdp", "tensor")
    assert specs["blocks/mlp/out/kernel"] == PartitionSpec(None, "tensor", "fsdp")


def test_the_first_rule_of_the_config_that_matches_wins_and_is_taken_as_written(make_training):
    rules = ((r"hidden/0/kernel", (("fsdp", "tensor"), None)), (r"hidden/0", ()), (r"hidden", (None, "fsdp")))
    training = make_training(parallel__rules=rules[:2], **SMALL["mlp"])
    specs = parameter_specs(training.program, mesh_of(2, 2, 2), training.state.params)
    assert specs["hidden/0/kernel"] == PartitionSpec(("fsdp", "tensor"), None)
    assert specs["hidden/0/bias"] == PartitionSpec(None)
    assert specs["hidden/1/kernel"] == PartitionSpec("tensor", None)
    assert specs["head/kernel"] == PartitionSpec(None, None)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((("hidden/0/kernel", ("model",)),), "parallel.rules: unknown name 'model'"),
        ((("hidden/0/bias", (None, "fsdp")),), r"does not fit 'hidden/0/bias' of shape \(32,\)"),
        ((("hidden/0/kernel", ("fsdp", "fsdp")),), "each axis once"),
        ((("head/kernel", (None, "fsdp")),), r"does not divide 'head/kernel' of shape \(32, 10\)"),
        ((("hidden/(", ("fsdp",)),), "is not a regular expression"),
        ((("hiden", ("fsdp",)),), "'hiden' is found in no parameter"),
    ],
)
def test_a_wrong_rule_is_an_error(make_training, rules, message):
    training = make_training(parallel__rules=rules, **SMALL["mlp"])
    with pytest.raises(UserError, match=message):
        state_shardings(training.program, mesh_of(2, 4, 1), training.abstract_state)


@pytest.mark.parametrize(
    ("model", "fields", "message"),
    [
        ("vit", {"model__vit__heads": 4}, r"mesh.tensor: 8 does not divide model.vit.heads \(4\)"),
        ("vit", {"model__vit__mlp_size": 68}, r"mesh.tensor: 8 does not divide model.vit.mlp_size \(68\)"),
        ("mlp", {"model__mlp__hidden_sizes": (32, 32, 12)}, r"mesh.tensor: 8 does not divide model.mlp.hidden_sizes"),
        ("resnet", {"model__resnet__width": 4}, r"mesh.tensor: 8 does not divide 'stages/0/0/conv1/kernel'"),
        ("linear", {}, "mesh.tensor: no parameter of 'linear' is split over it"),
    ],
)
def test_a_tensor_axis_that_does_not_divide_is_an_error(make_training, model, fields, message):
    training = make_training(model__name=model, **{**SMALL.get(model, {}), **fields})
    with pytest.raises(UserError, match=message):
        state_shardings(training.program, mesh_of(1, 1, 8), training.abstract_state)


@pytest.mark.parametrize("sizes", [(3, 1, 1), (-1, -1, 1), (0, 1, 8), (-2, 1, 1), (-1, 3, 1), (8, 8, 1)])
def test_a_mesh_that_does_not_multiply_to_the_devices_is_an_error(sizes):
    with pytest.raises(UserError, match=r"mesh: data=.* x fsdp=.* x tensor="):
        mesh_of(*sizes)


def test_one_axis_takes_what_the_others_leave_over():
    assert dict(mesh_of(2, -1, 2).shape) == {"data": 2, "fsdp": 2, "tensor": 2}


def test_pmap_with_split_parameters_is_an_error():
    with pytest.raises(UserError, match=r"parallel.mode: 'pmap' holds parameters whole .* mesh.fsdp is 4"):
        check_parallel_mode("pmap", mesh_of(2, 4, 1))


def test_a_batch_that_cannot_be_shared_out_is_an_error():
    with pytest.raises(UserError, match=r"24 is not divisible over 8 parts .* times 2 accumulation steps; .* of 16"):
        check_batch(mesh_of(2, 4, 1), 24, 2)
    check_batch(mesh_of(1, 1, 8), 3, 3)


def test_a_process_reads_all_rows_of_its_devices_once():
    np.testing.assert_array_equal(local_rows(mesh_of(2, 2, 2), 32), np.arange(32))
