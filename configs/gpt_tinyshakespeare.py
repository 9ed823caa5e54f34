"""A small GPT that learns to write like Shakespeare, one character at a time.

    plumbline train --config=configs/gpt_tinyshakespeare.py:PATH --workdir=runs/shakespeare
    plumbline generate --workdir=runs/shakespeare --prompt="ROMEO:" --temperature=0.8

PATH is a text file, such as tinyshakespeare.txt.gz. `PATH,tokenizer=TOKENIZER` sets the tokenizer: a tokenizer.json, or
a directory with one, such as GPT-2's. The default is one token per character.

Seed 0: validation loss 1.586 nats per character (1.703 after 2,000 of the 5,000 steps), test loss 1.758; the test split
is the last 10 percent of the text, which other work often uses for validation. It took 36 minutes on two cores of an
AMD EPYC with a load of ten. A step takes 0.18 s of processor time, which is 8 minutes in all on two free cores.
"""

from configs import arguments, defaults


def get_config(argument=""):
    path, options, _ = arguments.split(argument, ("tokenizer",))
    if not path:
        raise ValueError("configs/gpt_tinyshakespeare.py: no text; write configs/gpt_tinyshakespeare.py:PATH")
    config = defaults.get_config()
    config.data.source = f"text:{path}"
    config.data.tokenizer = options.get("tokenizer") or "characters"
    config.data.text_length = 64
    config.data.text_stride = 1
    config.data.test = "10 percent"
    config.data.validation = "5 percent"

    config.model.name = "gpt"
    config.model.gpt.width = 128
    config.model.gpt.depth = 4
    config.model.gpt.heads = 4
    config.model.gpt.mlp_size = 512

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.weight_decay = 0.1
    config.optimizer.b2 = 0.99
    config.optimizer.clip_norm = 1.0
    config.schedule.warmup = "100 steps"
    config.schedule.end = 0.1

    config.train.duration = "5000 steps"
    config.train.batch_size = 32
    config.train.log_every = "100 steps"
    config.train.evaluate_every = "500 steps"
    config.evaluation.batch_size = 64
    return config
