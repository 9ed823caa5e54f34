"""Checkpoints: whatever breaks, the newest whole one is used, to the bit, and what is broken is named.

Run as a script, this file is the process that is killed, that finds no room on the disk, or that is one of two.
"""

import collections
import dataclasses
import gc
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from plumbline import UserError
from tests.conftest import free_port
from trainers.devices.sharding import abstract
from trainers.run import checksums
from trainers.run.checkpoints import Best, Checkpoint, Checkpoints
from trainers.step.state import TrainState

TEMPORARY = "*.orbax-checkpoint-tmp"

# One pattern for each kind of file that a checkpoint consists of.
KINDS = (
    "CHECKSUMS.json",
    "_CHECKPOINT_METADATA",
    "commit_success.txt",
    "*/commit_success.txt",
    "about/metadata",
    "*/_METADATA",
    "*/_sharding",
    "*/manifest.ocdbt",
    "*/array_metadatas/process_0",
    "*/d/*",
    "*/ocdbt.process_0/manifest.ocdbt",
    "*/ocdbt.process_0/d/*",
)


def make_state(step, width=8):
    """A train state whose every number follows from the step."""
    draw = np.random.default_rng(step).standard_normal
    params = {"dense": {"kernel": draw((16, width), np.float32), "bias": draw(width, np.float32)}}
    params = jax.tree.map(jnp.asarray, params)
    return TrainState(
        step=jnp.int32(step),
        params=params,
        model_state={},
        opt_state=jax.tree.map(lambda x: x + step, optax.adam(1e-3).init(params)),
        hyperparameters={"learning_rate": jnp.float32(0.1 * step)},
        key=jax.random.key(step),
        ema={},
        preprocessing={"mean": jnp.float32(step)},
        skipped=jnp.int32(0),
    )


def make_running():
    return {"loss": (jnp.float32(1.5), jnp.float32(3))}


def make_checkpoint(step, **fields):
    state = make_state(step, **fields)
    best = Best(step=step - 1, value=0.5, state=make_state(step - 1, **fields).inference())
    return Checkpoint(state=state, running=make_running(), best=best, fingerprint="data", extra={"rollbacks": step})


def save(folder, *steps, keep=3, **fields):
    saved = Checkpoints(folder, keep=keep)
    for step in steps:
        saved.save(make_checkpoint(step, **fields))
    saved.close()


def restore(folder, *, keep=3, read_only=False, at_most=None, **fields):
    whole = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    opened = Checkpoints(folder, keep=keep, read_only=read_only)
    try:
        state = abstract(make_state(0, **fields), whole)
        return opened.restore(state, abstract(make_running(), whole), at_most=at_most)
    finally:
        opened.close()


def numbers(tree):
    is_key = lambda leaf: jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path): np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        for path, leaf in leaves
    }


def assert_is_checkpoint_of(found, step, **fields):
    expected = make_checkpoint(step, **fields)
    assert int(found.state.step) == step
    for part in ("state", "running"):
        assert_same(getattr(found, part), getattr(expected, part))
    assert_same(found.best.state, expected.best.state)
    for part in ("fingerprint", "extra"):
        assert getattr(found, part) == getattr(expected, part)
    assert (found.best.step, found.best.value) == (expected.best.step, expected.best.value)


def assert_same(actual, expected):
    actual, expected = numbers(actual), numbers(expected)
    assert actual.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(actual[path], array, err_msg=path, strict=True)


def steps_in(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


# ---- Ways to damage a file.


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def delete(path):
    path.unlink()


def empty(path):
    os.truncate(path, 0)


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def flip(path, generator=None):
    generator = generator or random.Random(path.name)
    content = bytearray(path.read_bytes())
    content[generator.randrange(len(content))] ^= generator.randrange(1, 256)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "saved"
    save(folder, 10, 20)
    return folder


@pytest.fixture
def folder(two_steps, tmp_path):
    """A folder with checkpoints of steps 10 and 20, to be damaged."""
    return pathlib.Path(shutil.copytree(two_steps, tmp_path / "checkpoints"))


def test_everything_comes_back_to_the_bit(folder, caplog):
    assert_is_checkpoint_of(restore(folder), 20)
    assert caplog.messages == []


def test_no_checkpoint_is_none_and_no_extra_facts_are_an_empty_dict(tmp_path):
    assert restore(tmp_path) is None
    saved = Checkpoints(tmp_path)
    saved.save(Checkpoint(state=make_state(1), running=make_running(), best=None, fingerprint=""))
    saved.close()
    found = restore(tmp_path)
    assert found.best is None
    assert found.extra == {}


# ---- Damage.


def test_the_kinds_of_files_are_all(folder):
    for path in files_of(folder / "20"):
        assert any(path.relative_to(folder / "20").match(kind) for kind in KINDS), path
    assert all(list((folder / "20").glob(kind)) for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", [truncate, delete, empty, zero, flip])
def test_a_damaged_checkpoint_is_named_and_passed_over_for_the_one_before(folder, caplog, damage, kind):
    path = sorted((folder / "20").glob(kind))[-1]
    damage(path)
    found = restore(folder)
    if (damage, kind) == (delete, checksums.NAME):
        assert_is_checkpoint_of(found, 20)
        assert "The checkpoint of step 20 could not be verified, as it has no CHECKSUMS.json" in caplog.text
        return
    assert_is_checkpoint_of(found, 10)
    [message] = [message for message in caplog.messages if "step 20 is damaged and skipped" in message]
    assert path.name == checksums.NAME or path.relative_to(folder / "20").as_posix() in message
    # It is out of the way of those to come.
    assert [name.name.split("-")[:2] for name in folder.glob("damaged-*")] == [["damaged", "20"]]
    save(folder, 15, 20)
    assert steps_in(folder) == [10, 15, 20]
    assert_is_checkpoint_of(restore(folder), 20)


@pytest.mark.slow
# What Orbax cannot read it leaves to the garbage collector, half done.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", [truncate, delete, empty, zero])
def test_damage_beside_lost_checksums_is_survived(two_steps, tmp_path, damage):
    for number, kind in enumerate(KINDS[1:]):
        folder = pathlib.Path(shutil.copytree(two_steps, tmp_path / str(number)))
        (folder / "20" / checksums.NAME).unlink()
        for path in (folder / "20").glob(kind):
            damage(path)
        found = restore(folder)
        assert_is_checkpoint_of(found, int(found.state.step))
        # The others only describe, or were gathered into these.
        if kind in ("about/metadata", "*/_METADATA", "*/manifest.ocdbt", "*/d/*"):
            assert int(found.state.step) == 10, kind
        gc.collect()


def test_a_flipped_byte_anywhere_is_found(folder):
    generator = random.Random(1)
    for path in files_of(folder / "20"):
        content = path.read_bytes()
        for _ in range(5):
            flip(path, generator)
            found = checksums.damage(folder / "20")
            assert len(found) == 1
            # A wrong checksum looks like a wrong file.
            assert path.name == checksums.NAME or found[0].startswith(path.relative_to(folder / "20").as_posix())
            path.write_bytes(content)
    assert checksums.damage(folder / "20") == []


def test_a_file_too_many_is_damage(folder, caplog):
    shutil.copy(folder / "20" / "about" / "metadata", folder / "20" / "about" / "metadata.old")
    assert_is_checkpoint_of(restore(folder), 10)
    assert "about/metadata.old does not belong there" in caplog.text


def test_an_empty_folder_is_no_checkpoint(folder, caplog):
    (folder / "30").mkdir()
    assert_is_checkpoint_of(restore(folder), 20)
    assert "The checkpoint of step 30 is damaged and skipped" in caplog.text


def test_if_all_are_damaged_nothing_is_begun_anew(folder):
    truncate(folder / "10" / "about" / "metadata")
    truncate(folder / "20" / "about" / "metadata")
    with pytest.raises(
        UserError, match=r"--workdir: all checkpoints in '.*' are damaged \(steps \[20, 10\]\); put one"
    ):
        restore(folder)
    assert steps_in(folder) == [10, 20]


def test_a_reader_renames_nothing(folder):
    truncate(folder / "20" / "about" / "metadata")
    assert_is_checkpoint_of(restore(folder, read_only=True), 10)
    assert sorted(path.name for path in folder.iterdir()) == ["10", "20"]


def test_a_reader_finds_what_took_the_place_of_the_checkpoints_it_saw(folder):
    whole = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    reader = Checkpoints(folder, read_only=True)
    save(folder, 30, keep=1)
    assert steps_in(folder) == [30]
    step, state, fingerprint = reader.restore_inference(abstract(make_state(0), whole), "last")
    reader.close()
    assert (step, fingerprint) == (30, "data")
    assert_same(state, make_state(30).inference())


# ---- Checksums and the moment of the commit.


def test_checksums_are_there_from_the_first_moment_of_a_checkpoint(tmp_path):
    saved = Checkpoints(tmp_path)
    saved.save(make_checkpoint(1))
    end = time.monotonic() + 60
    while not (tmp_path / "1").exists():
        assert time.monotonic() < end
    known = json.loads((tmp_path / "1" / checksums.NAME).read_text())
    saved.close()
    sealed = json.loads((tmp_path / "1" / checksums.NAME).read_text())
    assert sealed.items() >= known.items()
    assert sealed.keys() - {"_CHECKPOINT_METADATA", "commit_success.txt"} <= known.keys()
    assert sealed.keys() == {p.relative_to(tmp_path / "1").as_posix() for p in files_of(tmp_path / "1")} - {
        checksums.NAME
    }


def test_a_kill_right_after_the_commit_leaves_a_whole_checkpoint(folder, caplog):
    path = folder / "20" / checksums.NAME
    sums = json.loads(path.read_text())
    del sums["_CHECKPOINT_METADATA"], sums["commit_success.txt"]
    path.write_text(json.dumps(sums, indent=1, sort_keys=True) + "\n")
    (folder / "20" / f".{checksums.NAME}").write_text("{")
    assert_is_checkpoint_of(restore(folder), 20)
    assert caplog.messages == []


def test_old_checkpoints_are_deleted_with_their_checksums(tmp_path):
    save(tmp_path, 1, 2, 3, 4, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]
    assert checksums.damage(tmp_path / "3") == checksums.damage(tmp_path / "4") == []


def test_what_is_saved_is_the_state_at_the_time_though_later_steps_use_up_its_memory(tmp_path):
    step = jax.jit(
        lambda state: dataclasses.replace(state, params=jax.tree.map(lambda x: -x, state.params)), donate_argnums=0
    )
    width = 400_000  # Large enough to be copied before it is saved.
    state, saved = make_state(1, width), Checkpoints(tmp_path)
    for number in (1, 2, 3):
        state = dataclasses.replace(step(state), step=jnp.int32(number))
        saved.save(Checkpoint(state=state, running=make_running(), best=None, fingerprint=""))
        for _ in range(3):
            state = step(state)
    saved.close()
    sign = -1  # Nine steps to the third save, of which each turned it.
    expected = make_state(1, width).params
    assert_same(restore(tmp_path, width=width).state.params, jax.tree.map(lambda x: sign * x, expected))


# ---- Choosing by step.


def test_restoring_at_most_a_step_leaves_later_ones_alone(folder, caplog):
    save(folder, 30, 40, keep=9)
    truncate(folder / "30" / "about" / "metadata")
    found = restore(folder, at_most=35, keep=9)
    assert_is_checkpoint_of(found, 20)
    assert "step 30 is damaged" in caplog.text
    assert steps_in(folder) == [10, 20, 40]
    assert restore(folder, at_most=9, keep=9) is None


def test_what_was_moved_aside_is_neither_restored_nor_in_the_way(folder):
    opened = Checkpoints(folder, keep=3)
    opened.save(make_checkpoint(30))
    opened.move_aside(15, "diverged")
    opened.save(make_checkpoint(16))
    opened.close()
    assert steps_in(folder) == [10, 16]
    assert {path.name.rsplit("-", 1)[0] for path in folder.glob("diverged-*")} == {"diverged-20", "diverged-30"}
    assert_is_checkpoint_of(restore(folder), 16)


# ---- Another model, another mesh.


def test_a_model_of_another_shape_is_told_by_its_parameters_and_is_no_damage(folder, caplog):
    with pytest.raises(UserError) as error:
        restore(folder, width=9)
    assert str(error.value) == (
        f"--workdir: the checkpoint of step 20 in '{folder}' is of another model: params/dense/bias is float32[8] "
        "there, float32[9] here, params/dense/kernel is float32[16, 8] there, float32[16, 9] here, "
        "opt_state/0/mu/dense/bias is float32[8] there, float32[9] here (and 5 more); go back to the code that saved "
        "it, or give another --workdir"
    )
    assert caplog.messages == []
    assert_is_checkpoint_of(restore(folder), 20)


@pytest.mark.parametrize("which", ["best", "last"])
def test_parameters_of_another_name_or_type_are_told(folder, which):
    whole, state = jax.sharding.SingleDeviceSharding(jax.devices()[0]), make_state(0)
    kernel = state.params["dense"]["kernel"]
    state = dataclasses.replace(state, params={"dense": {"kernel": kernel.astype(jnp.bfloat16), "scale": kernel}})
    opened = Checkpoints(folder, read_only=True)
    with pytest.raises(UserError) as error:
        opened.restore_inference(abstract(state, whole), which)
    opened.close()
    assert "params/dense/kernel is float32[16, 8] there, bfloat16[16, 8] here" in str(error.value)
    assert "params/dense/scale is not there, float32[16, 8] here" in str(error.value)
    assert "params/dense/bias is float32[8] there, not here" in str(error.value)


def mesh_of(data, fsdp):
    devices = np.array(jax.devices()[: data * fsdp]).reshape(data, fsdp)
    return Mesh(devices, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def sharded_over(mesh, state):
    """FSDP: the first axis of matrices is split, the rest is whole everywhere."""
    return jax.tree.map(lambda leaf: NamedSharding(mesh, PartitionSpec(*["fsdp"] * (leaf.ndim == 2))), state)


@pytest.mark.parametrize("shape", [(1, 8), (1, 4), (1, 2), (1, 1), (2, 4), (4, 2), (8, 1)])
def test_saved_on_eight_devices_and_restored_on_any_mesh(tmp_path, shape):
    checkpoint = make_checkpoint(3)
    state = jax.device_put(checkpoint.state, sharded_over(mesh_of(1, 8), checkpoint.state))
    assert state.params["dense"]["kernel"].addressable_shards[0].data.shape == (2, 8)
    saved = Checkpoints(tmp_path)
    saved.save(dataclasses.replace(checkpoint, state=state))
    mesh = mesh_of(*shape)
    running = abstract(make_running(), NamedSharding(mesh, PartitionSpec()))
    found = saved.restore(abstract(state, sharded_over(mesh, state)), running)
    saved.close()
    assert_is_checkpoint_of(found, 3)
    for kernel in (found.state.params["dense"]["kernel"], found.best.state.params["dense"]["kernel"]):
        assert kernel.sharding.mesh == mesh
        assert kernel.addressable_shards[0].data.shape == (16 // shape[1], 8)


def test_abstract_takes_one_sharding_or_a_tree_of_them():
    tree = {"a": {"x": jnp.zeros((8, 2)), "y": jnp.zeros((8, 2), jnp.int32)}, "b": jnp.zeros(3)}
    split, whole = (NamedSharding(mesh_of(1, 8), PartitionSpec(*axes)) for axes in (("fsdp",), ()))
    assert {leaf.sharding for leaf in jax.tree.leaves(abstract(tree, whole))} == {whole}
    found = abstract(tree, {"a": split, "b": whole})
    assert found["a"]["y"] == jax.ShapeDtypeStruct((8, 2), jnp.int32, sharding=split)
    assert found["b"].sharding == whole


# ---- Processes that come to grief.


def start(command, *words, **options):
    arguments = [sys.executable, __file__, *map(str, words)]
    return command.popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def assert_told_and_mended(process, folder, reason):
    """The process could not save step 30: one line says so, step 20 is whole, and the next start cleans up."""
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert output == (
        f"--workdir: could not save the checkpoint of step 30 in '{folder}': {reason}; the checkpoints before it are "
        "whole; make room and run the same command again\n"
    )
    assert "orbax" not in errors
    assert steps_in(folder) == [20]
    assert list(folder.glob(TEMPORARY))
    assert_is_checkpoint_of(restore(folder, width=2048), 20, width=2048)
    save(folder, 31, keep=1)
    assert [path.name for path in folder.iterdir()] == ["31"]


@pytest.mark.parametrize("limit", [60, 2000, 200_000], ids=["bookkeeping", "checksums", "arrays"])
def test_a_file_size_limit_while_saving_is_told_in_one_line(command, tmp_path, limit):
    save(tmp_path, 20, width=2048)
    assert_told_and_mended(start(command, "fill", tmp_path, limit), tmp_path, "file too large")


def test_a_full_disk_while_saving_is_told_in_one_line(command, tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        folder = tmp_path / "checkpoints"
        save(folder, 20, width=2048)
        assert_told_and_mended(start(command, "fill", folder, 0), folder, "no space left on device")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(10))
def test_killed_during_a_save_the_newest_whole_checkpoint_is_restored(command, tmp_path, moment):
    process = start(command, "save", tmp_path)
    end = time.monotonic() + 120
    while max(steps_in(tmp_path), default=0) < 2:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.001)
    # A save takes about a tenth of a second, and the next begins at once.
    time.sleep(random.Random(moment).uniform(0, 0.3))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    committed = steps_in(tmp_path)
    found = restore(tmp_path, width=2**15)
    assert_is_checkpoint_of(found, committed[-1], width=2**15)
    save(tmp_path, committed[-1] + 1, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == [str(committed[-1] + 1)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["", "CHECKSUMS.json", "about/metadata", "state/d/*"])
def test_two_processes_agree_on_the_checkpoint(command, tmp_path, kind):
    """Both save their halves; the newest is damaged, in one case beside lost checksums; both restore the same."""
    folder = tmp_path / "checkpoints"
    together(command, "save_half", folder)
    assert steps_in(folder) == [10, 20]
    assert any("ocdbt.process_1" in str(path) for path in files_of(folder / "20"))
    assert checksums.damage(folder / "20") == []
    if kind == "state/d/*":
        (folder / "20" / checksums.NAME).unlink()
    for path in (folder / "20").glob(kind or "nothing"):
        flip(path) if kind == checksums.NAME else truncate(path)
    expected = 10 if kind else 20
    outputs, errors = together(command, "restore_half", folder)
    assert [output.splitlines()[-1] for output in outputs] == [f"{expected} {process}" for process in range(2)]
    assert steps_in(folder) == sorted({10, expected, 2 * expected})[-2:]
    assert errors[0].count("step 20 is damaged and skipped") == bool(kind)
    assert len(list(folder.glob("damaged-20-*"))) == bool(kind)


def together(command, task, folder):
    port = free_port()
    processes = [start(command, task, folder, port, number) for number in range(2)]
    results = collections.defaultdict(str)
    readers = [threading.Thread(target=lambda p=p: results.update({p: p.communicate(timeout=180)})) for p in processes]
    for thread in readers:
        thread.start()
    for thread in readers:
        thread.join()
    for process in processes:
        assert process.returncode == 0, results[process][1]
    return tuple(zip(*(results[process] for process in processes), strict=True))


def main(task, folder, *words):
    """What the processes of these tests do."""
    if task == "fill":
        saved = Checkpoints(folder)
        if limit := int(words[0]):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            for step in range(30, 60, 10) if limit else [30]:
                saved.save(make_checkpoint(step, width=2**13))
            saved.close()
        except UserError as error:
            print(error)
            return 2
    elif task == "save":
        saved = Checkpoints(folder)
        for step in range(1, 10_000):
            saved.save(make_checkpoint(step, width=2**15))
    else:
        jax.distributed.initialize(f"localhost:{words[0]}", 2, int(words[1]))
        halves(task, folder)
    return 0


def halves(task, folder):
    """Each of two processes holds one half of the matrices."""
    mesh = Mesh(np.array(jax.devices()), ("fsdp",), axis_types=(AxisType.Auto,))
    opened, whole = Checkpoints(folder, keep=2), NamedSharding(mesh, PartitionSpec())

    def over_both(tree):
        return jax.jit(lambda: tree, out_shardings=sharded_over(mesh, tree))()

    if task == "save_half":
        for step in (10, 20):
            checkpoint = make_checkpoint(step)
            best = dataclasses.replace(checkpoint.best, state=over_both(checkpoint.best.state))
            opened.save(
                dataclasses.replace(
                    checkpoint, state=over_both(checkpoint.state), running=over_both(checkpoint.running), best=best
                )
            )
    else:
        state = make_state(0)
        found = opened.restore(abstract(state, sharded_over(mesh, state)), abstract(make_running(), whole))
        step = int(found.state.step)
        expected = np.split(np.asarray(make_state(step).params["dense"]["kernel"]), 2)[jax.process_index()]
        [half] = found.state.params["dense"]["kernel"].addressable_shards
        np.testing.assert_array_equal(np.asarray(half.data), expected)
        opened.save(dataclasses.replace(found, state=dataclasses.replace(found.state, step=found.state.step + step)))
        print(step, jax.process_index())
    opened.close()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
