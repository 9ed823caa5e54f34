"""Generation of text by a run that trained a language model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from data.tokenizer import Tokenizer
from models import REGISTRY, generation
from plumbline import UserError
from trainers.run.inference import FinishedRun
from trainers.step.keys import make_key
from trainers.step.train_step import make_outputs


def generate_text(
    run: FinishedRun, prompt: str, *, num_tokens: int, temperature: float = 1.0, top_k: int = 0, seed: int = 0
) -> str:
    """The prompt and its continuation by the model of the run.

    Args:
      run: of a model that predicts the next token.
      prompt: the beginning of the text.
      num_tokens: number of tokens to generate.
      temperature, top_k: as in `models.generation.draw_token`.
      seed: of the draws.

    Raises:
      UserError: the run is of another kind, or the prompt is empty or no text.
    """
    features, name = run.features, run.config.model.name
    if features.task != "language" or not REGISTRY[name].causal or run.program.objective.masks_inputs:
        raise UserError(
            f"--workdir: holds a '{name}' for {features.task}, which does not predict the next token; "
            "`plumbline generate` needs a run of 'gpt' on text:PATH"
        )
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise UserError("--prompt: is not encoded as UTF-8; encode it as UTF-8") from None
    tokenizer = Tokenizer(features.tokenizer)
    tokens = tokenizer.tokens(prompt)
    if not len(tokens):
        raise UserError("--prompt: has no tokens; begin the text with at least one")
    outputs = make_outputs(run.program)

    @functools.partial(jax.jit, static_argnames="count")
    def generate_tokens(state, tokens, key, count):
        return generation.generate_tokens(
            functools.partial(outputs, state),
            tokens,
            length=features.shape[0],
            num_tokens=count,
            temperature=temperature,
            top_k=top_k,
            key=key,
        )

    new = generate_tokens(run.state, jnp.asarray(tokens[-features.shape[0] :]), make_key(seed), num_tokens)
    whole = tokenizer.decode(np.concatenate([tokens, np.asarray(new)]))
    # A tokenizer may not reproduce the prompt exactly.
    return prompt + whole[len(tokenizer.decode(tokens)) :]
