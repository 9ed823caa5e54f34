"""Your own images on a pretrained ViT-B/16: PATH/<split>/<class>/*.png or *.jpg, or PATH/<class>/*.png.

plumbline train --config=configs/transfer_vit_b16.py:PATH,source=WEIGHTS --workdir=runs/pictures

WEIGHTS is one of the formats in docs/transfer.md, such as a directory of `transformers`, a .safetensors file of `timm`
or an .npz file of AugReg. They give the model, the normalisation and the epsilon of the norms. Full fine-tuning by
AdamW with layer-wise decay, as in Bao et al. 2022, "BEiT", but shorter and with weaker mixing, for a few thousand
images. GPUs and TPUs give the same result: all devices share a batch. For less memory, set
--config.train.accumulation_steps=4, or train only the head, without augmentation:

    --config.transfer.freeze="('^(?!head/)',)" --config.transfer.cache_features=True --config.augment.flip=False
    --config.augment.crop_padding=0 --config.augment.mixup=0.0 --config.model.stochastic_depth=0.0

To plan without the weights, use --config.model.name=vit. No accuracy was measured, for lack of such weights and of an
accelerator. The commands below were run on a CPU with the small random weights of the tests, which learn nothing:

    plumbline samples samples
    plumbline train --workdir=runs/smoke
      --config=configs/transfer_vit_b16.py:samples/digits,source=tests/references/fixtures/hf_vit
      --config.data.image_size=24 --config.train.duration="50 steps"
"""

from configs import arguments, defaults


def get_config(argument=""):
    path, options, _ = arguments.split(argument, ("source",))
    source = options.get("source", "")
    if not path or not source:
        raise ValueError(
            "configs/transfer_vit_b16.py: path or source missing; write configs/transfer_vit_b16.py:PATH,source=WEIGHTS"
        )
    config = defaults.get_config()
    config.data.source = f"folder:{path}"
    config.data.image_size = 224
    config.data.channels = 3
    config.data.validation = "auto"
    config.evaluation.batch_size = 128

    config.model.name = "pretrained"
    # Sizes of such models, to plan without the weights.
    config.model.vit.variant = "B"
    config.model.dtype = "bfloat16"
    config.model.stochastic_depth = 0.1
    config.transfer.source = source
    config.transfer.layer_decay = 0.75

    config.augment.crop_padding = 16
    config.augment.flip = True
    config.augment.mixup = 0.2
    config.objective.label_smoothing = 0.1

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-4
    config.optimizer.weight_decay = 0.05
    config.optimizer.clip_norm = 1.0
    config.schedule.warmup = "10 percent"

    config.train.duration = "20 epochs"
    config.train.batch_size = 128
    config.train.best_metric = "loss"
    config.train.checkpoint_every = "10 minutes"
    return config


def ablations():
    return {
        "baseline": {},
        "from scratch": {"transfer.source": "", "transfer.layer_decay": 0.0, "optimizer.learning_rate": 1e-3},
        "no layer decay": {"transfer.layer_decay": 0.0, "optimizer.learning_rate": 3e-5},
        "adapters": {
            "transfer.lora.patterns": ("attention/(query|value)$",),
            "transfer.freeze": ("^(?!head/)(?!.*/lora_)",),
            "transfer.layer_decay": 0.0,
        },
        "frozen but for the head": {"transfer.freeze": ("^(?!head/)",), "optimizer.learning_rate": 1e-3},
    }
