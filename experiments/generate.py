"""Samples text from the language model of a run.

    plumbline generate --workdir=runs/shakespeare --prompt="ROMEO:" --tokens=500 --temperature=0.8

Flags:
    --workdir=DIR                the run directory
    --prompt=TEXT                start of the text; a line break by default
    --tokens=N                   tokens to generate; 500 by default
    --temperature=T              divides the logits; 1 by default, 0 takes the most likely token each time
    --top_k=K                    sample from the K most likely tokens; 0 (the default) samples from all
    --seed=N                     seed of the random draws; 0 by default
    --checkpoint=best|last       which parameters: the best on the validation split (the default), or the last
"""

from absl import flags

from experiments import command
from experiments.path_flags import define_path

_WORKDIR = define_path("workdir", None, "Run directory.")
_PROMPT = flags.DEFINE_string("prompt", "\n", "Start of the text.")
_TOKENS = flags.DEFINE_integer("tokens", 500, "Tokens to generate.", lower_bound=1)
_TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "Divides the logits.", lower_bound=0.0)
_TOP_K = flags.DEFINE_integer("top_k", 0, "Sample from the most likely tokens.", lower_bound=0)
flags.DEFINE_alias("top-k", "top_k")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the random draws.", lower_bound=0, upper_bound=2**32 - 1)
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Which parameters.")


def main(words: list[str]) -> None:
    """Generates and prints."""
    command.refuse(words)
    command.require(workdir=_WORKDIR.value)
    from trainers.run.generation import generate_text
    from trainers.run.inference import FinishedRun

    run = FinishedRun(_WORKDIR.value, checkpoint=_CHECKPOINT.value)
    text = generate_text(
        run,
        _PROMPT.value,
        num_tokens=_TOKENS.value,
        temperature=_TEMPERATURE.value,
        top_k=_TOP_K.value,
        seed=_SEED.value,
    )
    print(text, flush=True)


if __name__ == "__main__":
    command.run(main)
