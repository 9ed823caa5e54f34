"""The objectives of language modelling: a token at each position, out of the whole vocabulary.

All metrics are means over the predicted tokens, each counted once, however they are divided into examples. Targets are
integers: one-hot vectors over a vocabulary would take more memory than the model.
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

# Share of the tokens that are predicted; of those, shares that are masked and replaced (Devlin et al. 2019).
PREDICTED, MASKED, REPLACED = 0.15, 0.8, 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class NextToken(Objective):
    """Causal language modelling: cross-entropy of the next token at each position, in nats."""

    task = "language"
    best_metric = "loss"
    scores = ("accuracy",)
    bounds = {"loss": (0.0, math.inf), "perplexity": (1.0, math.inf), "accuracy": (0.0, 1.0)}

    def targets(self, labels, scaling):
        """The labels: token numbers."""
        return labels

    def weights(self, weight, targets):
        """The weight times the number of predicted tokens, so that each token counts once."""
        return weight * _has_target(targets).sum(-1).astype(jnp.float32)

    def loss(self, outputs, targets):
        """Mean cross-entropy of the predicted tokens of each example."""
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(outputs, jnp.maximum(targets, 0))
        return _mean_of_targets(losses, targets)

    def score(self, outputs, targets):
        """The share of the predicted tokens of each example that are the likeliest."""
        return {"accuracy": _mean_of_targets((outputs.argmax(-1) == targets).astype(jnp.float32), targets)}

    def predictions(self, outputs, scaling):
        """Probabilities of the tokens, at each position."""
        return jax.nn.softmax(outputs)

    def totals(self, outputs, labels, weight, group, scaling):
        """Loss and accuracy, over tokens."""
        tokens = self.weights(weight, labels)
        values = {"loss": self.loss(outputs, labels), **self.score(outputs, labels)}
        return {name: (jnp.sum(tokens * value), jnp.sum(tokens)) for name, value in values.items()}

    def metrics(self, totals, scaling):
        """Loss in nats per token, perplexity (its exponential) and accuracy."""
        loss = mean(totals["loss"])
        try:
            perplexity = math.exp(loss)
        except OverflowError:
            perplexity = math.inf
        return {"loss": loss, "perplexity": perplexity, "accuracy": mean(totals["accuracy"])}

    def higher_is_better(self, metric):
        """True for accuracy; False for loss and perplexity."""
        return direction(metric, {"loss": False, "perplexity": False, "accuracy": True})


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedToken(NextToken):
    """Masked language modelling (Devlin et al. 2019, section 3.1): masked tokens are predicted from both sides.

    Each token is predicted with a probability of 15 percent. Of those, 80 percent become the mask token, 10 percent a
    random token, and 10 percent stay as they are.

    Raises:
      UserError: the tokenizer has no mask token.
    """

    masks_inputs = True

    def __post_init__(self):
        mask_token = Tokenizer(self.features.tokenizer).mask_token
        if mask_token is None:
            raise UserError(
                "objective.name: 'masked_token' needs a tokenizer with a token [MASK] or <mask>, and that of the data "
                "has none; choose 'next_token', or another data.tokenizer"
            )
        object.__setattr__(self, "_mask_token", mask_token)

    def corrupt(self, keys, inputs, labels):
        """Tokens with some of them masked, and labels of the predicted tokens only."""

        def mask(key: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
            choice_key, kind_key, token_key = jax.random.split(key, 3)
            predicted = (jax.random.uniform(choice_key, tokens.shape) < PREDICTED) & _has_target(tokens)
            kind = jax.random.uniform(kind_key, tokens.shape)
            random_tokens = jax.random.randint(token_key, tokens.shape, 0, self.features.vocabulary)
            replaced = jnp.where(kind < MASKED + REPLACED, random_tokens, tokens)
            masked = jnp.where(kind < MASKED, self._mask_token, replaced)
            return jnp.where(predicted, masked, tokens), jnp.where(predicted, tokens, PADDING_TOKEN)

        return jax.vmap(mask)(keys, inputs)


def _has_target(tokens: jax.Array) -> jax.Array:
    return tokens != PADDING_TOKEN


def _mean_of_targets(values: jax.Array, targets: jax.Array) -> jax.Array:
    """The mean of values (B, L) over the positions of each example that have a target; 0 where there are none."""
    has_target = _has_target(targets)
    number = jnp.maximum(has_target.sum(-1), 1).astype(values.dtype)
    return jnp.where(has_target, values, 0).sum(-1) / number
