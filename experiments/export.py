"""Writes what a run came to in the names and layout of the weights that it began with, for other libraries to read.

    plumbline export --workdir=runs/pictures --output=exported
    plumbline export --workdir=runs/pictures --output=exported --like=weights/vit

Flags:
    --workdir=DIR     the run directory; the parameters that were best on the validation split are taken, with adapters
                      multiplied out
    --output=FOLDER   a new folder; gets model.safetensors (in float32), config.json, mended for the run's classes and
                      image size, and the tokenizer if there is one; or weights.npz, where that is what the source was
    --like=SOURCE     weights of the same architecture, whose names and layout to write in; by default the run's own
                      transfer.source

Exit codes: 0 done, 2 an error you can mend.
"""

import json
import pathlib
from typing import TYPE_CHECKING

from absl import flags

from experiments import command
from plumbline import UserError

if TYPE_CHECKING:
    import numpy as np

    from trainers.run.transfer import MergedRun

_WORKDIR = flags.DEFINE_string("workdir", None, "Run directory.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write.")
_LIKE = flags.DEFINE_string("like", None, "Weights whose layout to write in.")


def main(words: list[str]) -> None:
    """Writes the folder and says what it holds."""
    command.refuse(words)
    command.require(workdir=_WORKDIR.value, output=_OUTPUT.value)
    if pathlib.Path(_OUTPUT.value).exists():
        raise UserError(f"--output: '{_OUTPUT.value}' is there already; name a new folder")
    from models.pretrained.export import About, export
    from trainers.run import transfer

    run = transfer.read_run(_WORKDIR.value)
    like = _LIKE.value or run.config.transfer.source
    if not like:
        raise UserError("--like: missing, and the run began with no source; name weights of the same architecture")
    if transfer.is_run(like):
        raise UserError(
            f"--like: '{like}' is a run, whose layout is Plumbline's own; name weights of another library, in whose "
            "layout to write"
        )
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
        told = "; ".join(f"{name} {', '.join(f'{value:.6g}' for value in images[name])}" for name in ("mean", "std"))
        print(f"no file there says how images in 0 to 1 are to be normalised: {told}")


def _says_normalization(folder: pathlib.Path) -> bool:
    config = folder / "config.json"
    says = config.is_file() and "pretrained_cfg" in json.loads(config.read_text(encoding="utf-8"))
    return says or (folder / "preprocessor_config.json").is_file()


def _in_units(run: "MergedRun") -> "dict[str, np.ndarray]":
    """The parameters; those of a regression's head so that it answers in the units of the label, as others expect."""
    if run.features.task != "regression":
        return run.arrays
    mean, std = (run.preprocessing[name] for name in ("label_mean", "label_std"))
    kernel, bias = (run.arrays[f"head/{name}"] for name in ("kernel", "bias"))
    return run.arrays | {"head/kernel": kernel * std, "head/bias": bias * std + mean}


if __name__ == "__main__":
    command.run(main)
