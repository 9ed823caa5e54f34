"""input_streamed: examples per second of the streaming input path, relative to PyTorch's DataLoader.

Both decode the files of `--images=FOLDER` (`train/<class>/*.jpg|png`, all of one size, such as CIFAR-10 as files) in
two worker processes into shuffled uint8 batches of 128. The measured side is `TrainBatches.read` with
`data.cache_limit_gib=0`, which disables the cache. The reference is `torch.utils.data.DataLoader` with its default
settings over a hand-written Dataset that opens each file with Pillow (`benchmarks/torch_loader.py`).

This is a steady-state rate: the clock starts after the workers have returned a hundred batches. It runs for 20,000
images, or for one epoch less the reference's warm-up images if the folder has fewer. Neither side copies to a device.
The workers stop at the end of each measurement, so they do not run next to those of the reference.

torch is not part of Plumbline's environment. `--torch-python=PATH` names the Python of an environment with torch:

    python3 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 numpy pillow
    python -m benchmarks input_streamed --images=cifar10 --torch-python=.venv-torch/bin/python
"""

import argparse
import contextlib
import pathlib
import subprocess
import time
from collections.abc import Callable, Iterator

from absl import flags

import data
from benchmarks.measure import CannotRun, Result, compare
from configs import defaults
from data.batches import TrainBatches

BATCH_SIZE, WORKERS = 128, 2
TARGET = 1.0
_ROUNDS = 3
_WARM_IMAGES, _IMAGES = 12_800, 20_000


def run(options: argparse.Namespace) -> list[Result]:
    """Returns one result.

    Raises:
      CannotRun: a flag is missing, or the path it names.
    """
    if not options.images:
        raise CannotRun("needs --images=FOLDER with train/<class>/*.jpg")
    folder = pathlib.Path(options.images)
    if not (folder / "train").is_dir():
        raise CannotRun(f"--images: no folder '{folder / 'train'}'; expected train/<class>/*.jpg in it")
    if not options.torch_python:
        raise CannotRun("needs --torch-python=PATH, a Python that has torch; see its docstring")
    if not pathlib.Path(options.torch_python).is_file():
        raise CannotRun(f"--torch-python: no file '{options.torch_python}'")
    if not flags.FLAGS.is_parsed():  # Grain reads them.
        flags.FLAGS(["benchmarks"])
    config = defaults.get_config()
    config.data.source = f"folder:{folder}"
    config.data.cache_limit_gib = 0.0
    split = data.load(config.data, seed=0).splits["train"]
    images = min(_IMAGES, len(split) - _WARM_IMAGES)
    if split.in_memory or images < _WARM_IMAGES:
        raise CannotRun(f"--images: '{folder}' has {len(split)} images to train on; give at least {3 * _WARM_IMAGES}")
    with _torch(options.torch_python, folder / "train", images) as torch_rate:
        return [
            compare(
                "input_streamed",
                lambda: _our_rate(split, images),
                torch_rate,
                rounds=_ROUNDS,
                target=TARGET,
                at_least=True,
                comparison=f"examples/s, JPEG files decoded by {WORKERS} workers, batches of {BATCH_SIZE}: "
                "TrainBatches.read, streaming / torch DataLoader",
                unit="examples/s",
            )
        ]


def _our_rate(split: data.Split, images: int) -> float:
    batches = TrainBatches(split, batch_size=BATCH_SIZE, seed=0, workers=WORKERS)
    try:
        warm, count = _WARM_IMAGES // BATCH_SIZE, images // BATCH_SIZE
        for step in range(warm):
            batches.read(step)
        began = time.perf_counter()
        for step in range(warm, warm + count):
            batches.read(step)
        return count * BATCH_SIZE / (time.perf_counter() - began)
    finally:
        batches.close()


@contextlib.contextmanager
def _torch(python: str, folder: pathlib.Path, images: int) -> Iterator[Callable[[], float]]:
    """Starts the script, and yields a function that requests one measurement."""
    script = pathlib.Path(__file__).with_name("torch_loader.py")
    arguments = [python, str(script), str(folder), *map(str, (BATCH_SIZE, WORKERS, _WARM_IMAGES, images))]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def measure() -> float:
            process.stdin.write("\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise CannotRun(f"--torch-python: '{python}' could not run {script.name}; its error is printed above")
            return float(line)

        yield measure
        process.stdin.close()
