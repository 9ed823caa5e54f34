"""Your own images: a folder PATH/<split>/<class>/ with files of any image type, or PATH/<class>/ without splits.

    plumbline train --config=configs/image_folder.py:PATH --workdir=runs/images

A ResNet-18 of quarter width for 32x32 pixels, small enough for a first look on a CPU. For better results, set
--config.data.image_size=64, --config.model.resnet.width=64 or a longer --config.train.duration, and
--config.augment.flip if mirrored images are valid.
"""

from configs import arguments, defaults


def get_config(argument=""):
    path, _, _ = arguments.split(argument, ())
    if not path:
        raise ValueError("configs/image_folder.py: no folder; write configs/image_folder.py:PATH")
    config = defaults.get_config()
    config.data.source = f"folder:{path}"
    config.data.image_size = 32
    config.data.channels = 3
    config.data.validation = "auto"

    config.model.name = "resnet"
    config.model.resnet.depth = 18
    config.model.resnet.width = 16

    config.augment.crop_padding = 2

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 0.05
    config.schedule.warmup = "10 percent"

    config.train.duration = "10 epochs"
    config.train.batch_size = 64
    config.train.log_every = "5 percent"
    config.train.best_metric = "loss"
    return config
