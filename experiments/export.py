"""Writes the parameters of a run in the names and layout of its pretrained weights, for other libraries to load.

    plumbline export --workdir=runs/pictures --output=exported
    plumbline export --workdir=runs/pictures --output=exported --like=weights/vit

Flags:
    --workdir=DIR     the run directory; the best parameters on the validation split are exported, with adapters merged
    --output=FOLDER   a new folder. It gets model.safetensors (float32), config.json, adapted to the classes and image
                      size of the run, and the tokenizer if there is one; or weights.npz, if the source is such a file
    --like=SOURCE     weights of the same architecture whose names and layout to use; transfer.source by default

Exit codes: 0 done, 2 an error that you can fix.
"""

import json
import os
import pathlib
from typing import TYPE_CHECKING

from experiments import command
from experiments.path_flags import check_output, define_path
from plumbline import UserError

if TYPE_CHECKING:
    import numpy as np

    from trainers.run.transfer import MergedRun

_WORKDIR = define_path("workdir", None, "Run directory.")
_OUTPUT = define_path("output", None, "Folder to write.")
_LIKE = define_path("like", None, "Weights whose layout to use.")


def main(words: list[str]) -> None:
    """Writes the folder and prints what it contains."""
    command.refuse(words)
    command.require(workdir=_WORKDIR.value, output=_OUTPUT.value)
    if pathlib.Path(_OUTPUT.value).exists():
        raise UserError(f"--output: '{_OUTPUT.value}' exists already; name a new folder")
    check_output(_OUTPUT.value.rstrip(os.sep))
    from models.pretrained.export import About, export
    from trainers.run import transfer

    run = transfer.read_run(_WORKDIR.value)
    like = _LIKE.value or run.config.transfer.source
    if not like:
        raise UserError("--like: missing, and the run has no transfer.source; name weights of the same architecture")
    if transfer.is_run(like):
        raise UserError(f"--like: '{like}' is a run of Plumbline; name weights of another library whose layout to use")
    features = run.features
    images = {}
    if features.kind == "image":
        mean, std = (tuple(map(float, run.preprocessing[name])) for name in ("mean", "std"))
        images = {"image_size": features.shape[:2], "mean": mean, "std": std}
    class_names = None if features.task == "language" else features.class_names
    about = About(class_names=class_names, tokenizer=features.tokenizer, **images)
    try:
        kind = export(like, run.model, _in_units(run), about, _OUTPUT.value)
    except UserError as error:
        raise UserError(str(error).replace("transfer.source:", "--like:")) from None
    numbers = sum(array.size for array in run.arrays.values())
    print(f"{_OUTPUT.value}: {numbers:,} numbers of step {run.step}, as {kind}")
    if images and not _says_normalization(pathlib.Path(_OUTPUT.value)):
        normalization = "; ".join(
            f"{name} {', '.join(f'{value:.6g}' for value in images[name])}" for name in ("mean", "std")
        )
        print(f"no exported file records the normalisation of images (pixels from 0 to 1): {normalization}")


def _says_normalization(folder: pathlib.Path) -> bool:
    config = folder / "config.json"
    says = config.is_file() and "pretrained_cfg" in json.loads(config.read_text(encoding="utf-8"))
    return says or (folder / "preprocessor_config.json").is_file()


def _in_units(run: "MergedRun") -> "dict[str, np.ndarray]":
    """Returns the parameters; the head of a regression is rescaled to predict in the units of the label."""
    if run.features.task != "regression":
        return run.arrays
    mean, std = (run.preprocessing[name] for name in ("label_mean", "label_std"))
    kernel, bias = (run.arrays[f"head/{name}"] for name in ("kernel", "bias"))
    return run.arrays | {"head/kernel": kernel * std, "head/bias": bias * std + mean}


if __name__ == "__main__":
    command.run(main)
