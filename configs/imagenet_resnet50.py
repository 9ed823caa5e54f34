"""ResNet-50 on ImageNet, for a pod slice or a node of GPUs; needs the prepared TFDS set `imagenet2012`.

    plumbline train --config=configs/imagenet_resnet50.py --workdir=runs/imagenet_resnet50

After Goyal et al. 2017: 90 epochs, batch 1024, learning rate 0.1 for every 256 examples, warmup of 5 epochs. Tested
by shape only: the model is built and traced, and takes one step on data of this shape. The paper reports 76.3 %. Crops
are random shifts of the centre crop, without random scale, a weaker augmentation than the paper's.
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

    config.model.name = "resnet"
    config.model.resnet.depth = 50
    config.model.dtype = "bfloat16"

    config.augment.crop_padding = 16
    config.augment.flip = True
    config.objective.label_smoothing = 0.1

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1 * 1024 / 256
    config.optimizer.weight_decay = 1e-4
    config.schedule.warmup = "5 epochs"

    config.train.duration = "90 epochs"
    config.train.batch_size = 1024
    config.train.log_every = "100 steps"
    config.train.checkpoint_every = "10 minutes"
    return config
