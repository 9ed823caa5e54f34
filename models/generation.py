"""Generation of text with a language model, token by token."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float32, Int, Int32, PRNGKeyArray

from models.texts import PADDING_TOKEN


def draw_token(
    logits: Float32[Array, " vocabulary"], key: PRNGKeyArray, *, temperature: float, top_k: int
) -> Int[Array, ""]:
    """Samples a token.

    Args:
      logits: logits of all tokens.
      key: random key of this token.
      temperature: divisor of the logits; 0 selects the most likely token.
      top_k: sample from the `top_k` most likely tokens (Fan et al. 2018, "Hierarchical Neural Story Generation",
        section 5.4); 0 samples from all.
    """
    if temperature == 0:
        return logits.argmax()
    if 0 < top_k < len(logits):
        least = jax.lax.top_k(logits, top_k)[0][-1]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return jax.random.categorical(key, logits / temperature)


def generate_tokens(
    logits_of: Callable[[Int32[Array, "1 tokens"]], Float32[Array, "1 tokens vocabulary"]],
    prompt: Int32[Array, " prompt"],
    *,
    length: int,
    num_tokens: int,
    temperature: float,
    top_k: int,
    key: PRNGKeyArray,
) -> Int32[Array, " new"]:
    """Continues a prompt. Use it inside `jax.jit`.

    The model reads the last `length` tokens for each new token. This costs more than a cache of keys and values, but is
    exact for any length of text: the model always reads as many tokens as in training.

    Args:
      logits_of: the model as a function of tokens, padded at the end.
      prompt: at least one token.
      length: number of tokens that the model reads.
      num_tokens: number of tokens to generate.
      temperature, top_k: as in `draw_token`.
      key: random key of the whole text.
    """
    prompt = prompt[-length:]
    window = jnp.full(length, PADDING_TOKEN, jnp.int32).at[: len(prompt)].set(prompt)

    def write(carry, number):
        window, count = carry
        logits = logits_of(window[None])[0, count - 1]
        token = draw_token(logits, jax.random.fold_in(key, number), temperature=temperature, top_k=top_k)
        token = token.astype(jnp.int32)
        window = jnp.where(count < length, window, jnp.roll(window, -1))
        window = window.at[jnp.minimum(count, length - 1)].set(token)
        return (window, jnp.minimum(count + 1, length)), token

    start = (window, jnp.int32(len(prompt)))
    return jax.lax.scan(write, start, jnp.arange(num_tokens, dtype=jnp.int32))[1]
