"""Learning rates by layer and of the head, and parameters whose time has not come."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import defaults
from data import Features
from data.pool import load_pool
from plumbline import UserError
from tests.conftest import jit_quickly
from trainers.building import build_program, make_clock
from trainers.populations.population import Member, train_population
from trainers.settings import override
from trainers.step import hyperparameters
from trainers.step.optimizers import paths_and_leaves

PLAIN = {"optimizer__name": "sgd", "optimizer__learning_rate": 0.1, "optimizer__momentum": 0.0}
VIT = {
    "model__name": "vit",
    "model__vit__patch_size": 4,
    "model__vit__width": 8,
    "model__vit__depth": 3,
    "model__vit__heads": 2,
    "model__vit__mlp_size": 8,
}
IMAGES = Features(kind="image", shape=(8, 8, 1), dtype="uint8", task="classification", class_names=("a", "b"))


def rates_of(step=0, **fields):
    """The learning rate of every trained parameter at a step, by path, without making any parameters."""
    fields = {"schedule.name": "constant", "schedule.warmup": "", "train.duration": "100 steps", **fields}
    config = override(defaults.get_config(), {n.replace("__", "."): value for n, value in fields.items()})
    program, _ = build_program(config, IMAGES)
    values = jax.tree.map(jnp.asarray, hyperparameters.from_config(config, make_clock(config, 1000)))
    return dict(paths_and_leaves(program.learning_rates(values, jnp.int32(step))))


# timm's `param_groups_layer_decay`, by hand, for twelve blocks: decay ** (last - layer) with the patches in layer 0,
# the blocks in 1 to 12, the last norm with the last block, and the head in 13.
OF_TWELVE = [
    0.75**12, 0.75**11, 0.75**10, 0.75**9, 0.75**8, 0.75**7,
    0.75**6, 0.75**5, 0.75**4, 0.75**3, 0.75**2, 0.75**1,
]  # fmt: skip


def test_factors_of_layer_decay_are_those_of_timm():
    rates = rates_of(**{**VIT, "model__vit__depth": 12}, transfer__layer_decay=0.75, optimizer__learning_rate=1.0)
    for path, rate in rates.items():
        if path.startswith("blocks/"):
            np.testing.assert_allclose(np.ravel(rate), OF_TWELVE, rtol=1e-6)
        else:
            layers_after = {"head": 0, "norm": 1, "embedding": 13, "class_token": 13, "positions": 13}
            assert float(rate) == pytest.approx(0.75 ** layers_after[path.split("/")[0]], rel=1e-6), path


def test_layers_of_a_residual_network_are_its_stem_its_blocks_and_its_head():
    rates = rates_of(
        model__name="resnet", model__resnet__width=4, transfer__layer_decay=0.5, optimizer__learning_rate=1.0
    )
    # The 18 layers have 8 blocks, two in each stage.
    layers_after = {
        "stem/conv/kernel": 9,
        "stages/0/1/conv2/kernel": 7,
        "stages/3/0/shortcut/norm/bias": 2,
        "head/bias": 0,
    }
    for path, layers in (layers_after | {"head/bias": 0}).items():
        assert float(rates[path]) == pytest.approx(0.5**layers), path


def test_blocks_that_are_trained_keep_the_factors_they_have_in_the_whole():
    frozen = ("^embedding/", "^blocks/0/")
    rates = rates_of(**VIT, transfer__layer_decay=0.5, transfer__freeze=frozen, optimizer__learning_rate=1.0)
    assert "embedding/kernel" not in rates
    np.testing.assert_allclose(rates["blocks/mlp/out/kernel"], np.reshape([0.25, 0.5], (2, 1, 1)))


def moved(training, count=1):
    step, state = jit_quickly(training.train_step), training.state
    for number in range(count):
        state, _ = step(state, training.batch(number))
    return {path: np.asarray(leaf) for path, leaf in paths_and_leaves(state.params)}


@pytest.mark.slow
def test_layer_decay_shortens_the_steps_of_early_layers(make_training):
    sizes = {"model__mlp__hidden_sizes": (16, 16)}
    plain, decayed = (make_training(**PLAIN, **sizes, **more) for more in ({}, {"transfer__layer_decay": 0.5}))
    before = {path: np.asarray(leaf) for path, leaf in paths_and_leaves(plain.state.params)}
    full, short = moved(plain), moved(decayed)
    for path, factor in (("head/kernel", 1.0), ("hidden/1/kernel", 0.5), ("hidden/0/kernel", 0.25)):
        np.testing.assert_allclose(short[path] - before[path], factor * (full[path] - before[path]), atol=2e-7)


def test_the_head_has_a_rate_and_a_schedule_of_its_own():
    fields = {"model__name": "mlp", "model__mlp__hidden_sizes": (4,), "schedule__name": "linear"}
    fields |= {"optimizer__learning_rate": 0.1, "transfer__head_learning_rate": 0.4}
    rates = rates_of(step=50, **fields)
    assert (float(rates["hidden/0/kernel"]), float(rates["head/kernel"])) == pytest.approx((0.05, 0.2))
    rates = rates_of(step=50, **fields, transfer__head_schedule="constant")
    assert (float(rates["hidden/0/kernel"]), float(rates["head/kernel"])) == pytest.approx((0.05, 0.4))
    # Lengths that only the head's schedule asks for: three quarters of the training are over at step 80.
    fields |= {"transfer__head_learning_rate": 0.0, "transfer__head_schedule": "step"}
    rates = rates_of(step=80, **fields)
    assert (float(rates["hidden/0/kernel"]), float(rates["head/kernel"])) == pytest.approx((0.02, 0.001))


def test_without_any_of_it_there_is_one_rate_for_all():
    config = override(defaults.get_config(), {"model.name": "linear"})
    program, _ = build_program(config, IMAGES)
    values = jax.tree.map(jnp.asarray, hyperparameters.from_config(config, make_clock(config, 1000)))
    rate = program.learning_rates(values, jnp.int32(1))
    assert (rate.shape, program.fine_tuning.unfreeze_index) == ((), {})


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{"model__mlp__hidden_sizes": (16, 16)}, VIT], ids=["mlp", "vit"])
def test_parameters_are_still_to_the_bit_until_their_time_comes(make_training, fields):
    first = "^blocks/[01]/" if "model__name" in fields else "^hidden/0/"
    later = ((first, "2 steps"), ("^(?!head/)", "1 steps"))
    training = make_training(**fields, optimizer__weight_decay=0.1, transfer__unfreeze=later)
    states = [{p: np.asarray(leaf) for p, leaf in paths_and_leaves(training.state.params)}]
    states += [moved(training, count) for count in (1, 2, 3)]
    for path in states[0]:
        rows = (0, 2) if path.startswith("blocks/") else (...,)
        for row in rows:
            stands = [a[path][row].tobytes() == b[path][row].tobytes() for a, b in itertools.pairwise(states)]
            waits = 0 if path.startswith("head/") else 2 if path.startswith("hidden/0/") or row == 0 else 1
            assert stands == [number < waits for number in range(3)] or path.endswith("key/bias"), path


@pytest.mark.slow
def test_members_that_differ_in_rates_and_times_share_a_program_and_equal_their_runs():
    fields = {
        "data.source": "sklearn:iris",
        "model.name": "mlp",
        "model.mlp.hidden_sizes": (8, 8),
        "transfer.unfreeze": (("^hidden/0/", "10 steps"),),
        "train.duration": "30 steps",
        "train.batch_size": 16,
        "train.evaluate_every": "10 steps",
        "population.mode": "map",
        "population.lanes": 2,
    }
    config = override(defaults.get_config(), fields)
    parts = (pool := load_pool(config.data, seed=0)).splits
    rows = {"train": parts["train"], "validation": parts["validation"], "held_out": parts["test"]}
    overrides = [
        {"transfer.layer_decay": 0.5},
        {"transfer.head_learning_rate": 0.01, "transfer.unfreeze": (("^hidden/0/", "20 steps"),)},
        {},
    ]
    members = [Member(name=f"{n}", overrides=own, seed=0, **rows) for n, own in enumerate(overrides)]
    devices = jax.devices()[:1]
    together = train_population(config, pool, members, devices=devices, progress=False)
    for member in members:
        alone = train_population(config, pool, [member], devices=devices, progress=False)[member.name]
        np.testing.assert_allclose(together[member.name].metrics["loss"], alone.metrics["loss"], rtol=1e-4)
    assert len({round(outcome.metrics["loss"], 5) for outcome in together.values()}) == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"transfer__unfreeze": (("hiden", "1 steps"),)}, "transfer.unfreeze: 'hiden' is found in no parameter"),
        (
            {"transfer__unfreeze": (("hidden", "100 steps"),)},
            "'100 steps' is 100 steps, but the whole training has 100",
        ),
        ({"transfer__unfreeze": (("hidden", "soon"),)}, "transfer.unfreeze: 'soon' is not a duration"),
        ({"transfer__head_schedule": "cosin"}, "transfer.head_schedule: unknown name 'cosin'; did you mean 'cosine'?"),
    ],
)
def test_what_does_not_fit_is_an_error(make_training, fields, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        make_training(**fields)
