"""Dead units: units of a rectified layer that are zero for all examples, and so no longer learn."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data import preprocessing
from trainers.step.state import InferenceState, Program

Activity = dict[str, tuple[Any, Any]]
"""By layer: its least value for any example, and whether each unit (U,) is other than zero for some example."""


def make_activity(program: Program) -> Callable[[InferenceState, jax.Array, jax.Array], Activity]:
    """Builds the function `(inference state, raw inputs (B, ...), weight (B,)) -> activity` of the model's layers.

    Values at several positions, as of an image, are averaged: of rectified values the mean is zero only if all of them
    are. Examples with weight 0 do not count.
    """

    def activity(state: InferenceState, inputs: jax.Array, weight: jax.Array) -> Activity:
        model = program.model(state.params, state.model_state)
        layers = model.representations(preprocessing.apply(state.preprocessing, program.features, inputs))
        counts = (weight > 0)[:, None]
        return {
            name: (jnp.min(jnp.where(counts, values, jnp.inf)), jnp.any(counts & (values != 0), axis=0))
            for name, values in layers.items()
        }

    return activity


def dead_shares(program: Program, activity: Activity) -> dict[str, float]:
    """The share of dead units of each rectified layer. A layer is taken for rectified if no value is below zero.

    Args:
      program: of the model.
      activity: of its layers, on the host.
    """
    shares = {}
    for name, (least, is_active) in activity.items():
        # Inputs may be zero, and so may the features of a linear model.
        if name == "embeddings" or program.config.model.name == "linear" or least < 0:
            continue
        shares["the last hidden layer" if name == "features" else name] = float(np.mean(~is_active))
    return shares
