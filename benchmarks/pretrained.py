"""pretrained: time and memory to load a file of weights into the layout of Plumbline's models.

Writes a safetensors file of the size of ViT-B/16 in float32. `models.pretrained.load` and `safetensors.numpy.load_file`
read it alternately from the file system's cache. `pretrained/time` is the first time divided by the second. Where
Plumbline's layout differs (dense layers are transposed), loading returns a view. The copy when JAX makes an array of it
is not counted: 0.2 s on two cores. `pretrained/memory` is the peak memory of a new process while it loads, minus its
memory before, divided by the size of the parameters.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import safetensors.numpy
from flax import nnx

from benchmarks.measure import Result
from configs.defaults import get_config
from models import build, pretrained
from models.interface import Model

_TURNS = 5
_WIDTH, _DEPTH, _MLP_SIZE = 768, 12, 3072


def run(options: argparse.Namespace) -> list[Result]:
    """Returns two results."""
    del options
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        num_bytes = _write(path)
        model, ours, theirs = _model(folder), [], []
        for _ in range(_TURNS):
            ours.append(_seconds(lambda: pretrained.load(folder, model)))
            theirs.append(_seconds(lambda: safetensors.numpy.load_file(path / "model.safetensors")))
        peaks = [_peak(folder) for _ in range(_TURNS)]
    return [
        Result(
            name="pretrained/time",
            ratios=[one / other for one, other in zip(ours, theirs, strict=True)],
            target=1.5,
            at_least=False,
            comparison="loading into our layout / reading by safetensors alone",
            figures=f"{np.median(ours):.2f} s / {np.median(theirs):.2f} s",
        ),
        Result(
            name="pretrained/memory",
            ratios=[peak / num_bytes for peak in peaks],
            target=1.3,
            at_least=False,
            comparison="peak memory of loading / parameters",
            figures=f"{np.median(peaks) / 1e6:.0f} MB / {num_bytes / 1e6:.0f} MB",
        ),
    ]


def measure_peak(source: str) -> int:
    """Returns the peak memory of this process while it loads, minus its memory before, in bytes."""
    model = _model(source)
    # Resets the peak memory of this process to its current memory.
    pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _high_water_mark()
    pretrained.load(source, model)
    return _high_water_mark() - before


def _peak(source: str) -> int:
    code = f"from benchmarks import pretrained; print(pretrained.measure_peak({source!r}))"
    finished = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return int(finished.stdout)


def _high_water_mark() -> int:
    lines = pathlib.Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _model(source: str) -> Model:
    config = get_config()
    config.update_from_flattened_dict(pretrained.architecture(source))
    return nnx.eval_shape(
        lambda: build(config.model, input_shape=(224, 224, 3), categories=(), num_outputs=1000, key=jax.random.key(0))
    )


def _write(folder: pathlib.Path) -> int:
    """Writes random weights in the layout of transformers; returns the bytes of the parameters."""
    width = _WIDTH
    shapes = {
        "vit.embeddings.cls_token": (1, 1, width),
        "vit.embeddings.position_embeddings": (1, 197, width),
        "vit.embeddings.patch_embeddings.projection.weight": (width, 3, 16, 16),
        "vit.embeddings.patch_embeddings.projection.bias": (width,),
        "vit.layernorm.weight": (width,),
        "vit.layernorm.bias": (width,),
        "classifier.weight": (1000, width),
        "classifier.bias": (1000,),
    }
    layers: dict[str, tuple[int, ...]] = {
        **{f"attention.attention.{part}": (width, width) for part in ("query", "key", "value")},
        "attention.output.dense": (width, width),
        "intermediate.dense": (_MLP_SIZE, width),
        "output.dense": (width, _MLP_SIZE),
        "layernorm_before": (width,),
        "layernorm_after": (width,),
    }
    for block in range(_DEPTH):
        for layer, shape in layers.items():
            name = f"vit.encoder.layer.{block}.{layer}"
            shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    generator = np.random.default_rng(0)
    tensors = {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    config = {"model_type": "vit", "hidden_size": width, "num_hidden_layers": _DEPTH, "num_attention_heads": 12}
    config |= {"intermediate_size": _MLP_SIZE, "patch_size": 16, "image_size": 224, "layer_norm_eps": 1e-12}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return 4 * sum(map(math.prod, shapes.values()))
