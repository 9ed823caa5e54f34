import dataclasses
import importlib

import jax
import numpy as np
import pytest

from diagnostics.cost import program
from plumbline import UserError
from trainers.step.train_step import zero_metrics

MESHES = {"data": (8, 1, 1), "fsdp": (1, 8, 1), "mixed": (2, 2, 2)}


def config_of(name, mesh=(-1, 1, 1), **changes):
    config = importlib.import_module(f"configs.{name}").get_config()
    config.mesh.data, config.mesh.fsdp, config.mesh.tensor = mesh
    config.update_from_flattened_dict(changes)
    return config


def training_of(config):
    return program.make_training(config, program.examples_of(config), jax.devices())


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_argument_bytes_are_the_sum_over_the_shards_that_a_device_really_holds(mesh):
    training = training_of(config_of("digits_mlp", mesh))
    compiled = program.compile_step(training)
    # Truth: the arrays themselves, and what XLA allots for them.
    state = jax.jit(training.init, out_shardings=training.shardings)(*training.init_arguments)
    batch = {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in training.batch.items()}
    in_shardings = program.sharded_batch(training.mesh)
    arrays = [*jax.tree.leaves(state), *jax.tree.leaves(jax.device_put(batch, in_shardings))]
    held = sum(
        shard.data.nbytes
        for array in arrays
        for shard in (jax.random.key_data(array) if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key) else array)
        .addressable_shards[:1]
    )  # fmt: skip
    sums = sum(leaf.nbytes for leaf in jax.tree.leaves(zero_metrics(training.program)))
    assert compiled.memory.arguments == held + sums
    assert compiled.memory.padding == 0


@pytest.mark.parametrize("name", ["digits_mlp", pytest.param("digits_vit", marks=pytest.mark.slow)])
def test_compiled_and_analytic_flops_agree_where_nothing_is_recomputed(name):
    training = training_of(config_of(name))
    compiled = program.compile_step(training)
    assert compiled.flops * training.mesh.size == pytest.approx(training.model_flops, rel=0.01)


@pytest.mark.slow
def test_recomputation_is_compiled_but_no_model_flops():
    plain = training_of(config_of("digits_vit"))
    again = training_of(config_of("digits_vit", **{"model.remat": "full"}))
    assert again.model_flops == plain.model_flops
    assert program.compile_step(again).flops > 1.2 * program.compile_step(plain).flops


def test_data_that_are_not_here_are_taken_as_declared():
    examples = program.examples_of(config_of("imagenet_vit_s16"))
    assert examples.features.shape == (224, 224, 3)
    assert examples.features.num_outputs == 1000
    assert examples.num_training == 1_281_167 - round(0.01 * 1_281_167)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.num_examples": 100}, "data.num_classes: is 0 beside data.num_examples"),
        ({"data.num_examples": 100, "data.num_classes": 5}, "data.image_size: is 0, the source's own"),
    ],
)
def test_too_little_declared_is_told(changes, message):
    with pytest.raises(UserError, match=message):
        program.examples_of(config_of("digits_vit", **changes))


def test_a_mesh_that_does_not_multiply_to_the_devices_is_told():
    with pytest.raises(UserError, match="does not multiply to the 8 device"):
        training_of(config_of("digits_mlp", (3, 1, 1)))


def test_memory_adds_up():
    memory = program.Memory(parameters=1, optimizer=2, average=3, rest=4, batch=5, padding=6, temporary=7, code=8)
    assert memory.arguments == 15
    assert memory.total == sum(dataclasses.astuple(memory))
