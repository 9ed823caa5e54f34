"""ResNet-18 on CIFAR-10, for one GPU or TPU chip; needs the prepared TFDS set `cifar10`.

    plumbline train --config=configs/cifar10_resnet18.py --workdir=runs/cifar10

After He et al. 2016 with the stem for small images. Tested by shape only: the model is built and traced, and
takes one step on data of this shape. The literature reports about 95 % test accuracy for this recipe.
"""

from configs import defaults


def get_config():
    config = defaults.get_config()
    config.data.source = "tfds:cifar10"
    config.data.num_examples = 50_000
    config.data.num_classes = 10
    config.data.image_size = 32
    config.data.channels = 3
    config.data.validation = "2 percent"

    config.model.name = "resnet"
    config.model.resnet.depth = 18
    config.model.dtype = "bfloat16"

    config.augment.crop_padding = 4
    config.augment.flip = True

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.4
    config.optimizer.weight_decay = 5e-4
    config.optimizer.momentum = 0.9
    config.schedule.warmup = "10 percent"

    config.train.duration = "100 epochs"
    config.train.batch_size = 512
    config.train.log_every = "100 steps"
    config.evaluation.batch_size = 1000
    return config
