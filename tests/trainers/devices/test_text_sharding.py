"""The same training of models of texts on any mesh."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import tokenizers

from configs import defaults
from data import Features
from trainers.building import build_program, make_clock
from trainers.devices.mesh import make_mesh, replicated
from trainers.devices.sharding import state_shardings
from trainers.devices.step_programs import StepPrograms
from trainers.step import hyperparameters
from trainers.step.train_step import make_train_step, zero_metrics

VOCABULARY, LENGTH, BATCH_SIZE = 24, 10, 16
MESHES = {"data": (8, 1, 1), "fsdp": (1, 8, 1), "tensor": (1, 1, 8), "mixed": (2, 2, 2)}
OBJECTIVES = {"gpt": "next_token", "bert": "masked_token"}


def features():
    """Texts of a tokenizer that has a token to hide others by."""
    words = {"[MASK]": 0} | {f"w{number}": number for number in range(1, VOCABULARY)}
    content = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[MASK]")).to_str()
    shape = {"shape": (LENGTH,), "dtype": "int32", "vocabulary": VOCABULARY}
    return Features(kind="text", task="language", tokenizer=content, **shape)


def make_program(model):
    config = defaults.get_config()
    fields = {"width": 32, "depth": 2, "heads": 8, "mlp_size": 64}
    config.update_from_flattened_dict(
        {
            "data.source": "text:any",
            "model.name": model,
            "model.dropout": 0.1,
            "model.stochastic_depth": 0.1,
            "objective.name": OBJECTIVES[model],
            "optimizer.learning_rate": 3e-3,
            "parallel.fsdp_min_size": 64,
            "schedule.warmup": "",
            "train.batch_size": BATCH_SIZE,
            "train.duration": "100 steps",
            **{f"model.{model}.{name}": size for name, size in fields.items()},
        }
    )
    return build_program(config, features())


def batches(count):
    """Texts of several lengths; what is asked for is the next token, or all of them."""
    generator = np.random.default_rng(0)
    for _ in range(count):
        tokens = generator.integers(1, VOCABULARY, (BATCH_SIZE, LENGTH + 1)).astype(np.int32)
        tokens[np.arange(LENGTH + 1) >= generator.integers(2, LENGTH + 2, BATCH_SIZE)[:, None]] = -1
        index = np.arange(BATCH_SIZE, dtype=np.int32)
        yield {
            "inputs": tokens[:, :-1],
            "labels": tokens[:, 1:],
            "weight": np.ones(BATCH_SIZE, np.float32),
            "index": index,
        }


def losses(program, init, sizes, mode="jit"):
    devices = jax.devices()[: int(np.prod(sizes))]
    mesh = make_mesh(ml_collections.ConfigDict(dict(zip(("data", "fsdp", "tensor"), sizes, strict=True))), devices)
    values = hyperparameters.from_config(program.config, make_clock(program.config, 1000))
    state = jax.jit(init)(jnp.uint32(0), values, {})
    shardings = state_shardings(program, mesh, state)
    step = StepPrograms(make_train_step(program), mesh, shardings, batch_size=BATCH_SIZE, mode=mode)
    state = jax.tree.map(jax.device_put, state, shardings)
    found = []
    for batch in batches(8):
        zero = jax.device_put(zero_metrics(program), replicated(mesh))
        state, sums, _ = step.compiled["loop"](state, zero, step.place("loop", batch), None)
        found.append(float(sums["loss"][0] / sums["loss"][1]))
    return found


@pytest.fixture(scope="module")
def one_device():
    """Programs, and their losses on one device, by model; made once."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt", "mixed"),
        ("bert", "mixed"),
        *[(model, name) for model in OBJECTIVES for name in ("data", "fsdp", "tensor", "pmap")],
    ],
)
def test_eight_devices_equal_one(one_device, model, name):
    if model not in one_device:
        made = make_program(model)
        one_device[model] = (*made, losses(*made, (1, 1, 1)))
    program, init, expected = one_device[model]
    sizes = MESHES.get(name, (8, 1, 1))
    np.testing.assert_allclose(losses(program, init, sizes, "pmap" if name == "pmap" else "jit"), expected, atol=2e-5)
    assert expected[-1] < expected[0]
