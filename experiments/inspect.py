"""Shows what a training would read: task, classes, splits, columns, what is left out, and one batch. Trains nothing.

    plumbline inspect --config=configs/image_folder.py:photos --output=sheet.png
    plumbline inspect --config=configs/table.py:people.csv,target=income

For tables it shows how each column is read; for texts, the tokens of some; for images, it writes a contact sheet of the
first training batch, as the images are read, with their labels. Training prints the same in short.

Flags:
    --config=FILE[:ARGUMENT]   a config file; --config.FIELD=VALUE changes a field
    --output=FILE.png          where to write the contact sheet of a set of images
"""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data.batches import Batch
    from data.features import Features

if __name__ == "inspect":
    # `python experiments/NAME.py` puts this folder first on the import path, so libraries that import the module of the
    # standard library get this file. It becomes that module.
    import importlib.machinery

    _spec = importlib.machinery.PathFinder.find_spec("inspect", [os.path.dirname(os.__file__)])  # noqa: PTH120
    _spec.loader.exec_module(sys.modules[__name__])
else:
    from ml_collections import config_flags

    from experiments import command
    from experiments.path_flags import check_output, define_path
    from plumbline import UserError

    _CONFIG = config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
    _OUTPUT = define_path("output", None, "PNG file for the contact sheet of images.")

# Largest number of images on the contact sheet, and number of texts that are shown.
_IMAGES, _TEXTS = 100, 3


def main(words: list[str]) -> None:
    """Reads the data, and prints what they hold."""
    command.refuse(words)
    command.require(config=_CONFIG.value)
    check_output(_OUTPUT.value, (".png",))
    import jax
    import numpy as np

    # Nothing here needs an accelerator, so data are shown also where JAX_PLATFORMS names one that is missing.
    jax.config.update("jax_platforms", "cpu")

    import data
    from data import description, preprocessing
    from data.batches import TrainBatches
    from trainers import settings
    from trainers.run import transfer

    config = transfer.resolve(_CONFIG.value)
    settings.check(config)
    dataset = data.load(config.data, seed=config.seed)
    features, train = dataset.features, dataset.splits["train"]
    if _OUTPUT.value and features.kind != "image":
        raise UserError(f"--output: is for images, but the inputs are {features.kind}s; leave it out")
    print("\n".join(description.describe(dataset, config.data, full=True)))

    size = min(config.train.batch_size, len(train))
    batch = TrainBatches(train, batch_size=size, seed=config.seed, workers=0).read(0)
    model_inputs = np.asarray(preprocessing.apply(dataset.preprocessing, features, batch["inputs"]))
    print(f"\nThe first of the training batches of {size}:")
    print("\n".join(description.describe_batch(batch, model_inputs)))
    if features.kind == "text":
        print("\n".join(description.describe_texts(features, train, np.arange(min(_TEXTS, len(train))))))
    if features.kind == "image":
        _write_sheet(batch, features)


def _write_sheet(batch: "Batch", features: "Features") -> None:
    """Writes the contact sheet of a batch, or says how to get it."""
    if not _OUTPUT.value:
        print("--output=FILE.png writes a contact sheet of these images, with their labels")
        return
    from reporting.contact_sheet import write_contact_sheet

    labels = [features.class_names[label] for label in batch["labels"][:_IMAGES].tolist()]
    write_contact_sheet(_OUTPUT.value, batch["inputs"][:_IMAGES], labels)
    print(f"contact sheet: {_OUTPUT.value}")


if __name__ == "__main__":
    command.run(main)
