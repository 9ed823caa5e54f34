"""The objectives of language modelling: a token at each position, out of the whole vocabulary.

All figures are means over the tokens that were asked for, each counted once, however they lie in examples. Targets are
integers: one-hot over a vocabulary would take more memory than the model.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax

from data.features import PADDING_TOKEN
from data.tokenizer import Tokenizer
from plumbline import UserError
from trainers.step.objective import Objective, direction, mean

# Of the tokens, so many are asked for; of those, so many are hidden and so many replaced (Devlin et al. 2019).
ASKED, HIDDEN, REPLACED = 0.15, 0.8, 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class NextToken(Objective):
    """Causal language modelling: cross-entropy of the next token at each position, in nats."""

    task = "language"
    best_metric = "loss"
    scores = ("accuracy",)
    bounds = {"loss": (0.0, math.inf), "perplexity": (1.0, math.inf), "accuracy": (0.0, 1.0)}

    def targets(self, labels, scaling):
        """The tokens that are asked for, as they are."""
        return labels

    def weights(self, weight, targets):
        """As many tokens as an example asks for, so that each token counts once."""
        return weight * _asked(targets).sum(-1).astype(jnp.float32)

    def loss(self, outputs, targets):
        """Mean cross-entropy of the tokens that each example asks for."""
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(outputs, jnp.maximum(targets, 0))
        return _mean_asked(losses, targets)

    def score(self, outputs, targets):
        """The share of the tokens asked for of each example that are the likeliest."""
        return {"accuracy": _mean_asked((outputs.argmax(-1) == targets).astype(jnp.float32), targets)}

    def predictions(self, outputs, scaling):
        """Probabilities of the tokens, at each position."""
        return jax.nn.softmax(outputs)

    def totals(self, outputs, labels, weight, group, scaling):
        """Loss and accuracy, over tokens."""
        tokens = self.weights(weight, labels)
        values = {"loss": self.loss(outputs, labels), **self.score(outputs, labels)}
        return {name: (jnp.sum(tokens * value), jnp.sum(tokens)) for name, value in values.items()}

    def metrics(self, totals, scaling):
        """Loss in nats a token, perplexity (its exponential) and accuracy."""
        loss = mean(totals["loss"])
        try:
            perplexity = math.exp(loss)
        except OverflowError:
            perplexity = math.inf
        return {"loss": loss, "perplexity": perplexity, "accuracy": mean(totals["accuracy"])}

    def higher_is_better(self, metric):
        """Accuracy is; loss and perplexity are not."""
        return direction(metric, {"loss": False, "perplexity": False, "accuracy": True})


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedToken(NextToken):
    """Masked language modelling (Devlin et al. 2019, section 3.1): tokens that were hidden, from those on both sides.

    Each token is asked for with a probability of 15 percent; of those 80 percent are shown as the mask token, 10
    percent as any token and 10 percent as they are.

    Raises:
      UserError: the tokenizer has no mask token.
    """

    hides = True

    def __post_init__(self):
        mask_token = Tokenizer(self.features.tokenizer).mask_token
        if mask_token is None:
            raise UserError(
                "objective.name: 'masked_token' needs a tokenizer with a token [MASK] or <mask>, and that of the data "
                "has none; choose 'next_token', or another data.tokenizer"
            )
        object.__setattr__(self, "_mask_token", mask_token)

    def shown(self, keys, inputs, labels):
        """Tokens with some hidden, and of the labels those of the hidden ones alone."""

        def hide(key: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
            asked_key, way_key, token_key = jax.random.split(key, 3)
            asked = (jax.random.uniform(asked_key, tokens.shape) < ASKED) & _asked(tokens)
            way = jax.random.uniform(way_key, tokens.shape)
            others = jax.random.randint(token_key, tokens.shape, 0, self.features.vocabulary)
            hidden = jnp.where(way < HIDDEN, self._mask_token, jnp.where(way < HIDDEN + REPLACED, others, tokens))
            return jnp.where(asked, hidden, tokens), jnp.where(asked, tokens, PADDING_TOKEN)

        return jax.vmap(hide)(keys, inputs)


def _asked(tokens: jax.Array) -> jax.Array:
    return tokens != PADDING_TOKEN


def _mean_asked(values: jax.Array, targets: jax.Array) -> jax.Array:
    """The mean of values (B, L) over the positions of each example that are asked for; 0 where there are none."""
    asked = _asked(targets)
    number = jnp.maximum(asked.sum(-1), 1).astype(values.dtype)
    return jnp.where(asked, values, 0).sum(-1) / number
