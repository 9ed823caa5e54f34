"""Low-rank adapters: nothing at first, trained alone, and multiplied out to plain parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs import defaults
from models import lora
from plumbline import UserError
from tests.conftest import jit_quickly
from trainers.building import build_program
from trainers.run.inference import FinishedRun
from trainers.run.loop import train
from trainers.settings import override
from trainers.step.optimizers import paths_and_leaves
from trainers.step.train_step import make_outputs

VIT = {
    "model__name": "vit",
    "model__vit__patch_size": 4,
    "model__vit__width": 8,
    "model__vit__depth": 3,
    "model__vit__heads": 2,
    "model__vit__mlp_size": 16,
}
# All but the head and the adapters.
FREEZE = ("^(?!head/)(?!.*/lora_)",)
CASES = {
    "mlp": ({"model__mlp__hidden_sizes": (16, 16)}, ("^hidden/",)),
    "vit": (VIT, ("attention/(query|value)$", "mlp/out$")),
}


def adapted(make_training, case, **fields):
    own, patterns = CASES[case]
    fields = {"transfer__lora__patterns": patterns, "transfer__lora__rank": 2, "transfer__freeze": FREEZE, **fields}
    return make_training(**own, **fields)


def trained(training, count=3):
    step, state = jit_quickly(training.train_step), training.state
    for number in range(count):
        state, _ = step(state, training.batch(number))
    return state


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_adapters_change_nothing_at_first_and_leave_other_first_parameters_alone(make_training, case):
    plain, training = make_training(**CASES[case][0]), adapted(make_training, case)
    inputs = training.batch(0)["inputs"]
    expected, outputs = (make_outputs(each.program)(each.state.inference(), inputs) for each in (plain, training))
    np.testing.assert_array_equal(outputs, expected)
    added = dict(paths_and_leaves(training.state.params)).keys() - dict(paths_and_leaves(plain.state.params)).keys()
    assert all(path.endswith(lora.NAMES) for path in added)
    assert len(added) == {"mlp": 4, "vit": 6}[case]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_merged_equals_applied(make_training, case):
    training = adapted(make_training, case, optimizer__learning_rate=0.03, train__ema_decay=0.5)
    state = trained(training).inference()
    scale = training.config.transfer.lora.alpha / 2
    merged = lora.merge(state.params, scale)
    plain = make_training(**CASES[case][0])
    assert jax.tree.map(jnp.shape, merged) == jax.tree.map(jnp.shape, plain.state.params)
    inputs = training.batch(0)["inputs"]
    outputs = make_outputs(training.program)(state, inputs)
    multiplied_out = make_outputs(plain.program)(type(state)(merged, {}, state.preprocessing), inputs)
    np.testing.assert_allclose(multiplied_out, outputs, atol=1e-5)
    left_out = make_outputs(plain.program)(type(state)(lora.merge(state.params, 0.0), {}, state.preprocessing), inputs)
    assert np.abs(left_out - outputs).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_only_adapters_and_head_are_trained_and_have_optimizer_state(make_training, case):
    training = adapted(make_training, case)
    before, after = (dict(paths_and_leaves(state.params)) for state in (training.state, trained(training)))
    moves = {path for path, leaf in before.items() if leaf.tobytes() != after[path].tobytes()}
    assert moves == {path for path in before if path.startswith("head/") or path.endswith(lora.NAMES)}
    size = sum(before[path].nbytes for path in moves)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(training.state.opt_state)) == 2 * size + 4


def test_kernels_with_adapters_are_frozen_and_nothing_else_without_patterns(make_training):
    training = adapted(make_training, "vit", transfer__freeze=())
    layers = ("attention/query", "attention/value", "mlp/out")
    assert training.program.partition.frozen == {f"blocks/{n}/{layer}/kernel" for n in range(3) for layer in layers}


def test_a_layer_computes_what_the_paper_says():
    linear = nnx.Linear(6, 5, rngs=nnx.Rngs(0))
    layer = lora.LoraLinear(linear, rank=4, scale=3.0, key=jax.random.key(1))
    layer.lora_b[...] = jax.random.normal(jax.random.key(2), (4, 5))
    inputs = jnp.arange(12.0).reshape(2, 6)
    arrays = (inputs, *(part[...] for part in (linear.kernel, linear.bias, layer.lora_a, layer.lora_b)))
    x, w, bias, a, b = (np.asarray(array, np.float64) for array in arrays)
    np.testing.assert_allclose(layer(inputs), x @ w + bias + 3 * x @ a @ b, rtol=1e-4)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("attention",), "'attention' matches no linear layer; choose from hidden/0, hidden/1"),
        (("^head",), "transfer.lora.patterns: '.head' matches no linear layer"),
        (("hidden/(",), r"transfer.lora.patterns: 'hidden/\(' is not a regular expression"),
    ],
)
def test_a_layer_that_does_not_exist_is_an_error(make_training, patterns, message):
    with pytest.raises(UserError, match=message):
        make_training(model__mlp__hidden_sizes=(8, 8), transfer__lora__patterns=patterns)


@pytest.mark.slow
def test_a_run_with_adapters_is_a_source_of_plain_parameters(tmp_path):
    fields = {
        "data.source": "sklearn:iris",
        "model.name": "mlp",
        "model.mlp.hidden_sizes": (8,),
        "train.duration": "20 steps",
        "train.batch_size": 16,
        "train.tensorboard": False,
        "execution.mode": "loop",
    }
    config = override(defaults.get_config(), fields)
    adapters = {"transfer.lora.patterns": ("hidden/0",), "optimizer.learning_rate": 0.03}
    train(override(config, adapters), tmp_path / "adapted")
    still = {"transfer.source": str(tmp_path / "adapted"), "optimizer.learning_rate": 1e-30}
    train(override(config, still), tmp_path / "plain")
    adapted, plain = (FinishedRun(tmp_path / name).state.params for name in ("adapted", "plain"))
    assert plain["hidden"][0].keys() == {"kernel", "bias"}
    np.testing.assert_allclose(plain["hidden"][0]["kernel"], lora.merge(adapted, 2.0)["hidden"][0]["kernel"], atol=1e-7)
    assert np.abs(plain["hidden"][0]["kernel"] - adapted["hidden"][0]["kernel"]).max() > 1e-3
    # And back, with fresh adapters.
    train(override(config, {**still, **adapters, "optimizer.learning_rate": 1e-30}), tmp_path / "again")
    assert build_program(config, FinishedRun(tmp_path / "again").features)[0].params.keys() == plain.keys()
    again = FinishedRun(tmp_path / "again").state.params
    np.testing.assert_allclose(again["hidden"][0]["kernel"], plain["hidden"][0]["kernel"], atol=1e-20)
