import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from diagnostics.cost import collectives, hlo
from diagnostics.cost.collectives import Collective, Sum

DATA = PartitionSpec("data")


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)


def compiled(mesh: Mesh, function, shape, out=DATA):
    mapped = jax.shard_map(function, mesh=mesh, in_specs=DATA, out_specs=out, check_vma=False)
    argument = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, DATA))
    return collectives.by_kind(collectives.find(hlo.parse(jax.jit(mapped).lower(argument).compile().as_text())))


# A device holds (8 / 4, 16) float32 of an (8, 16) array: 128 bytes.
SHARD = 2 * 16 * 4


@pytest.mark.parametrize(
    ("function", "kind", "size", "sent"),
    [
        (lambda x: jax.lax.psum(x, "data"), "all-reduce", SHARD, 2 * SHARD * 3 / 4),
        (lambda x: jax.lax.psum(x, ("data", "tensor")), "all-reduce", SHARD, 2 * SHARD * 7 / 8),
        (lambda x: jax.lax.all_gather(x, "data", tiled=True), "all-gather", 4 * SHARD, 4 * SHARD * 3 / 4),
        (
            lambda x: jax.lax.psum_scatter(x, "data", scatter_dimension=1, tiled=True),
            "reduce-scatter", SHARD, SHARD * 3 / 4,
        ),
        (
            lambda x: jax.lax.all_to_all(x, "data", split_axis=1, concat_axis=0, tiled=True),
            "all-to-all", SHARD, SHARD * 3 / 4,
        ),
        (lambda x: jax.lax.ppermute(x, "data", [(0, 1), (1, 2), (2, 3), (3, 0)]), "collective-permute", SHARD, SHARD),
    ],
)  # fmt: skip
def test_each_collective_is_found_with_its_bytes(mesh, function, kind, size, sent):
    assert compiled(mesh, function, (8, 16)) == {kind: Sum(1, size, sent)}


def test_a_collective_in_a_loop_counts_as_often_as_the_loop_turns(mesh):
    def summed(x):
        def body(carry, _):
            return jnp.sin(jax.lax.psum(carry, "tensor")), None

        return jax.lax.scan(body, x, length=5)[0]

    assert compiled(mesh, summed, (8, 16)) == {"all-reduce": Sum(5, 5 * SHARD, 5 * 2 * SHARD / 2)}


def test_a_program_of_one_device_has_none():
    function = functools.partial(jnp.einsum, "ij,jk->ik")
    shapes = (jax.ShapeDtypeStruct((8, 8), jnp.float32),) * 2
    assert collectives.find(hlo.parse(jax.jit(function).lower(*shapes).compile().as_text())) == []


HEADER = "HloModule m, num_partitions=8\n\nENTRY %main (p: bf16[4,8]) -> bf16[4,8] {\n"
PARAMETER = "  %p = bf16[4,8]{1,0} parameter(0)\n"


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("{{0,1,2,3},{4,5,6,7}}", 4),
        ("{}", 8),
        ("[2,4]<=[8]", 4),
        ("[4,2]<=[2,4]T(1,0)", 2),
        ("mesh['a'=4,'b'=2] {'a'}", 4),
        ("mesh['a'=4,'b'=2] {'a','b'}", 8),
        ("mesh['a'=8] {'a':(2)4}", 4),
    ],
)
def test_every_way_to_write_a_group_is_read(groups, size):
    line = (
        f"  ROOT %r = bf16[4,8]{{1,0:T(8,128)(2,1)S(1)}} all-reduce(%p), channel_id=1, replica_groups={groups}, x=y\n"
    )
    assert collectives.find(hlo.parse(HEADER + PARAMETER + line + "}\n")) == [Collective("all-reduce", 1, 64, size)]


def test_a_started_collective_counts_once():
    lines = (
        "  %s = (bf16[4,8]{1,0}, bf16[16,8]{1,0}) all-gather-start(%p), replica_groups=[2,4]<=[8], dimensions={0}\n"
        "  ROOT %d = bf16[16,8]{1,0} all-gather-done(%s)\n}\n"
    )
    assert collectives.find(hlo.parse(HEADER + PARAMETER + lines)) == [Collective("all-gather", 1, 256, 4)]
