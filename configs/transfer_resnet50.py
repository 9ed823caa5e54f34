"""Your own images on a pretrained ResNet-50: PATH/<split>/<class>/*.png or *.jpg, or PATH/<class>/*.png.

plumbline train --config=configs/transfer_resnet50.py:PATH,source=WEIGHTS --workdir=runs/pictures

WEIGHTS is a directory of `transformers` or a .safetensors file of `timm` or torchvision (docs/transfer.md). They give
the model and, if the source has it, the normalisation. Full fine-tuning by SGD with Nesterov momentum, as in Kornblith
et al. 2019, "Do Better ImageNet Models Transfer Better?", but with ten times the learning rate for the new head. GPUs
and TPUs give the same result: all devices share a batch, and batch norms use statistics of the whole batch. To train
the last stage only, --config.transfer.freeze="('^stem/', '^stages/[0-2]/')".

To plan without the weights, use --config.model.name=resnet. No accuracy was measured, for lack of such weights and of
an accelerator. The commands below were run on a CPU with the small random weights of the tests, which learn little:

    plumbline samples samples
    plumbline train --workdir=runs/smoke
      --config=configs/transfer_resnet50.py:samples/digits,source=tests/references/fixtures/hf_resnet_bottleneck
      --config.data.image_size=32 --config.train.duration="50 steps"
"""

from configs import arguments, defaults


def get_config(argument=""):
    path, options, _ = arguments.split(argument, ("source",))
    source = options.get("source", "")
    if not path or not source:
        raise ValueError(
            "configs/transfer_resnet50.py: path or source missing; write "
            "configs/transfer_resnet50.py:PATH,source=WEIGHTS"
        )
    config = defaults.get_config()
    config.data.source = f"folder:{path}"
    config.data.image_size = 224
    config.data.channels = 3
    config.data.validation = "auto"
    # Normalisation of torchvision and timm, used if the source does not give one.
    config.data.normalize = "imagenet"

    config.model.name = "pretrained"
    # Sizes of such models, to plan without the weights.
    config.model.resnet.depth = 50
    config.model.resnet.stem = "large"
    config.model.dtype = "bfloat16"
    config.transfer.source = source
    config.transfer.head_learning_rate = 0.1

    config.augment.crop_padding = 16
    config.augment.flip = True
    config.objective.label_smoothing = 0.1

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.01
    config.optimizer.weight_decay = 1e-4
    config.schedule.warmup = "5 percent"

    config.train.duration = "30 epochs"
    config.train.batch_size = 128
    config.train.best_metric = "loss"
    config.train.checkpoint_every = "10 minutes"
    return config


def ablations():
    return {
        "baseline": {},
        "from scratch": {"transfer.source": "", "optimizer.learning_rate": 0.1},
        "head at the rate of the rest": {"transfer.head_learning_rate": 0.0},
        "last stage only": {"transfer.freeze": ("^stem/", "^stages/[0-2]/")},
        "frozen but for the head": {"transfer.freeze": ("^(?!head/)",)},
    }
