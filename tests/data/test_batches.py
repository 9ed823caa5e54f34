import multiprocessing
import os
import pathlib
import signal

import numpy as np
import PIL.Image
import pytest

import data
from data import batches
from data.split import ArrayReader
from plumbline import UserError


def _split(num_examples: int) -> data.Split:
    rows = np.arange(num_examples)
    return data.Split(
        labels=(rows % 3).astype(np.int32),
        groups=(rows % 2).astype(np.int32),
        weights=np.ones(num_examples, np.float32),
        rows=rows + 100,
        reader=ArrayReader(rows[:, None].astype(np.float32) * np.ones((1, 2), np.float32), rows),
    )


def rows_of(index, process_count, batch_size):
    return np.array_split(np.arange(batch_size), process_count)[index]


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_processes_share_the_same_global_batches(process_count):
    split = _split(37)
    whole = batches.TrainBatches(split, batch_size=8, seed=1)
    parts = [
        batches.TrainBatches(split, batch_size=8, seed=1, rows=rows_of(index, process_count, 8))
        for index in range(process_count)
    ]
    for step in (0, 5, 4, 9):
        read = [part.read(step) for part in parts]
        for name, leaf in whole.read(step).items():
            np.testing.assert_array_equal(np.concatenate([batch[name] for batch in read]), leaf)


def test_several_steps_are_stacked_single_ones():
    train = batches.TrainBatches(_split(37), batch_size=8, seed=1, rows=rows_of(1, 2, 8))
    stacked = train.read(3, 5)
    for index in range(5):
        for name, leaf in train.read(3 + index).items():
            np.testing.assert_array_equal(stacked[name][index], leaf)
            assert stacked[name].dtype == leaf.dtype


def test_leaves_belong_to_one_example():
    batch = batches.TrainBatches(_split(37), batch_size=8, seed=1).read(2)
    positions = batch["index"] - 100
    np.testing.assert_array_equal(batch["inputs"][:, 0], positions)
    np.testing.assert_array_equal(batch["labels"], positions % 3)
    np.testing.assert_array_equal(batch["group"], positions % 2)
    assert {name: str(leaf.dtype) for name, leaf in batch.items()} == {
        "inputs": "float32", "labels": "int32", "weight": "float32", "index": "int32", "group": "int32",
    }  # fmt: skip


@pytest.mark.parametrize("process_count", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [4, 8, 40])
def test_evaluation_counts_each_example_once(batch_size, process_count):
    read = [
        list(
            batches.evaluation_batches(
                _split(37), batch_size=batch_size, rows=rows_of(index, process_count, batch_size)
            )
        )
        for index in range(process_count)
    ]
    assert {len(one) for one in read} == {-(-37 // batch_size)}
    everything = [batch for one in read for batch in one]
    assert {len(batch["inputs"]) for batch in everything} == {batch_size // process_count}
    index = np.concatenate([batch["index"] for batch in everything])
    weight = np.concatenate([batch["weight"] for batch in everything])
    np.testing.assert_array_equal(np.sort(index[weight > 0]), np.arange(37) + 100)
    assert (index[weight == 0] == batches.PADDING).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_equals_cached(workers, image_folder, make_config):
    (image_folder / "train" / "ape" / "003.png").write_bytes(b"not an image")
    fields = {"source": f"folder:{image_folder}", "max_corrupt": 1}
    cached = data.load(make_config(**fields), seed=0).splits["train"]
    streamed = data.load(make_config(**fields, cache_limit_gib=0.0), seed=0).splits["train"]
    assert (cached.in_memory, streamed.in_memory) == (True, False)
    expected = batches.TrainBatches(cached, batch_size=8, seed=3)
    actual = batches.TrainBatches(streamed, batch_size=8, seed=3, workers=workers)
    try:
        # The last one is not the one that comes next.
        for step, count in ((0, None), (1, None), (2, 3), (1, None)):
            _assert_same(actual.read(step, count), expected.read(step, count))
    finally:
        actual.close()
    evaluations = [batches.evaluation_batches(split, batch_size=8, workers=workers) for split in (streamed, cached)]
    for one, other in zip(*evaluations, strict=True):
        _assert_same(one, other)


def test_signals_to_the_group_reach_the_workers_of_a_stream_without_ending_them(image_folder, make_config, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    config = make_config(source=f"folder:{image_folder}", cache_limit_gib=0.0)
    stream = batches.TrainBatches(data.load(config, seed=0).splits["train"], batch_size=4, seed=0, workers=2)
    try:
        stream.read(0)
        workers = multiprocessing.active_children()
        assert len(workers) == 2
        # They see no accelerator.
        assert os.environ["JAX_PLATFORMS"] == "cuda,cpu"
        for worker in workers:
            environment = pathlib.Path(f"/proc/{worker.pid}/environ").read_bytes().split(b"\0")
            assert [entry for entry in environment if entry.startswith(b"JAX_PLATFORMS=")] == [b"JAX_PLATFORMS=cpu"]
        for worker in workers:
            os.kill(worker.pid, signal.SIGTERM)
            os.kill(worker.pid, signal.SIGINT)
        for step in range(1, 8):
            assert stream.read(step)["inputs"].shape[0] == 4
        assert all(worker.is_alive() for worker in workers)
    finally:
        stream.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_streamed_image_is_raised_by_its_worker(workers, image_folder, make_config):
    config = make_config(source=f"folder:{image_folder}", cache_limit_gib=0.0)
    split = data.load(config, seed=0).splits["test"]
    PIL.Image.new("RGB", (7, 5)).save(image_folder / "test" / "bee" / "002.png")
    with pytest.raises(UserError, match=r"data.image_size: .*bee/002.png' has 7x5 pixels"):
        list(batches.evaluation_batches(split, batch_size=4, workers=workers))
    (image_folder / "test" / "bee" / "002.png").write_bytes(b"broken")
    with pytest.raises(
        UserError,
        match=r"data.max_corrupt: .*bee/002.png' is corrupt; 1 corrupt image found so far, 0 allowed",
    ):
        list(batches.evaluation_batches(split, batch_size=4, workers=workers))


def _assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name, leaf in expected.items():
        np.testing.assert_array_equal(actual[name], leaf)
        assert actual[name].dtype == leaf.dtype
