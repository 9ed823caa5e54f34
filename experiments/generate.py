"""Prints a text that a run's language model writes.

    plumbline generate --workdir=runs/shakespeare --prompt="ROMEO:" --tokens=500 --temperature=0.8

Flags:
    --workdir=DIR                the run directory
    --prompt=TEXT                what the text begins with; a line break by default
    --tokens=N                   tokens to be written; 500 by default
    --temperature=T              0 takes the likeliest token each time, 1 (the default) draws as the model says
    --top_k=K                    draw from the likeliest K tokens only; 0 (the default) draws from all
    --seed=N                     of the draws
    --checkpoint=best|last       which parameters; the best on the validation split by default
"""

from absl import flags

from experiments import command

_WORKDIR = flags.DEFINE_string("workdir", None, "Run directory.")
_PROMPT = flags.DEFINE_string("prompt", "\n", "What the text begins with.")
_TOKENS = flags.DEFINE_integer("tokens", 500, "Tokens to be written.", lower_bound=1)
_TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "Logits are divided by it.", lower_bound=0.0)
_TOP_K = flags.DEFINE_integer("top_k", 0, "Draw from the likeliest only.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "Of the draws.", lower_bound=0, upper_bound=2**32 - 1)
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Which parameters.")


def main(words: list[str]) -> None:
    """Writes and prints."""
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
