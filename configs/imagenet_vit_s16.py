"""ViT-S/16 on ImageNet, for a pod slice; needs the prepared TFDS set `imagenet2012`.

    plumbline train --config=configs/imagenet_vit_s16.py --workdir=runs/imagenet_vit_s16

After Beyer et al. 2022, "Better plain ViT baselines for ImageNet-1k": 90 epochs, batch 1024, sincos positions, mean
pooling, mixup 0.2. Tested by shape only: the model is built and traced, and takes one step on data of this shape. The
paper reports 76.5 % with RandAugment and random-scale crops, which this recipe does not use.
"""

from configs import defaults


def get_config():
    config = defaults.get_config()
    config.data.source = "tfds:imagenet2012"
    config.data.num_examples = 1_281_167
    config.data.num_classes = 1000
    config.data.test = "split:validation"
    config.data.validation = "1 percent"
    config.data.image_size = 224
    config.data.channels = 3
    config.data.normalize = "imagenet"

    config.model.name = "vit"
    config.model.vit.variant = "S"
    config.model.vit.patch_size = 16
    config.model.vit.pooling = "mean"
    config.model.vit.positions = "sincos2d"
    config.model.dtype = "bfloat16"

    config.augment.crop_padding = 16
    config.augment.flip = True
    config.augment.mixup = 0.2

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.1
    config.optimizer.clip_norm = 1.0
    config.schedule.warmup = "10000 steps"

    config.train.duration = "90 epochs"
    config.train.batch_size = 1024
    config.train.log_every = "100 steps"
    config.train.checkpoint_every = "10 minutes"
    return config
