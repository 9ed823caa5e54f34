"""Optimizers built from traced hyperparameters, and rules for the factors of each parameter."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jax.typing import ArrayLike

from plumbline import UserError, unknown_name
from trainers.step.hyperparameters import Hyperparameters

Params = Any
Factors = Any
"""A tree like the parameters with a Python float for each."""
Direction = Callable[[Hyperparameters, bool], optax.GradientTransformation]


def _sgd(hyperparameters: Hyperparameters, nesterov: bool) -> optax.GradientTransformation:
    return optax.trace(hyperparameters["momentum"], nesterov=nesterov)


def _adam(hyperparameters: Hyperparameters, nesterov: bool) -> optax.GradientTransformation:
    return optax.scale_by_adam(hyperparameters["b1"], hyperparameters["b2"])


def _lion(hyperparameters: Hyperparameters, nesterov: bool) -> optax.GradientTransformation:
    return optax.scale_by_lion(hyperparameters["b1"], hyperparameters["b2"])


def _adafactor(hyperparameters: Hyperparameters, nesterov: bool) -> optax.GradientTransformation:
    # Shazeer & Stern 2018, without its own learning rate and parameter scaling: the schedule gives the rate.
    return optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0))


def _muon(hyperparameters: Hyperparameters, nesterov: bool) -> optax.GradientTransformation:
    # `consistent_rms` gives updates the size of AdamW's (Liu et al. 2025, section 2.2), so that one learning rate
    # fits both the matrices and the parameters that Adam updates.
    muon = optax.contrib.muon(
        1.0,
        beta=hyperparameters["momentum"],
        nesterov=nesterov,
        adam_b1=hyperparameters["b1"],
        adam_b2=hyperparameters["b2"],
        consistent_rms=0.2,
        muon_weight_dimension_numbers=_muon_dimensions,
    )
    if nesterov:
        b1, b2 = hyperparameters["b1"], hyperparameters["b2"]
        muon = _with_plain_adam(muon, optax.adamw(1.0, b1, b2, weight_decay=0.0))
    return optax.chain(muon, optax.scale(-1.0))  # Optax's alias already descends; here that is the last step.


def _with_plain_adam(muon: optax.GradientTransformation, adam: optax.GradientTransformation) -> Any:
    """Optax's Muon, with Adam for the parameters that are not Muon's. Optax takes Nesterov's variant for them as well.

    Both variants have the same state, so that of Optax's Muon is used.
    """

    def update(updates: Params, state: Any, params: Params) -> tuple[Params, Any]:
        is_rest = _is_left_to_adam(updates)
        rest, _ = optax.masked(adam, is_rest).update(updates, state.inner_states["adam"], params)
        updates, state = muon.update(updates, state, params)
        return jax.tree.map(lambda alone, a, b: a if alone else b, is_rest, rest, updates), state

    return optax.GradientTransformation(muon.init, update)


# Name -> the direction of the update before decay and learning rate, and whether weight decay is decoupled from it
# (Loshchilov & Hutter 2019) rather than added to the gradient.
OPTIMIZERS: dict[str, tuple[Direction, bool]] = {
    "sgd": (_sgd, False),
    "adam": (_adam, False),
    "adamw": (_adam, True),
    "lion": (_lion, True),
    "lamb": (_adam, True),
    "adafactor": (_adafactor, True),
    "muon": (_muon, True),
}


def build(
    config: ml_collections.ConfigDict,
    hyperparameters: Hyperparameters,
    used: frozenset[str],
    *,
    learning_rate: ArrayLike | Params,
    weight_decay_factors: Factors,
    learning_rate_factors: Factors,
) -> optax.GradientTransformation:
    """Builds the optimizer of a config. Called inside the step, so that all numbers stay traced.

    Args:
      config: the `optimizer` section; only its name and `nesterov` are read.
      hyperparameters: traced scalars.
      used: names of the hyperparameters that are not zero; the program contains no others.
      learning_rate: scalar with the schedule applied, or a tree like the parameters.
      weight_decay_factors: factors on the weight decay.
      learning_rate_factors: factors on the learning rate.

    Raises:
      UserError: the optimizer is unknown.
    """
    if config.name not in OPTIMIZERS:
        raise unknown_name("optimizer.name", config.name, OPTIMIZERS)
    direction, decoupled = OPTIMIZERS[config.name]
    decay = _decay(hyperparameters["weight_decay"], weight_decay_factors) if "weight_decay" in used else None
    return _chain(
        *([optax.clip_by_global_norm(_limit(hyperparameters["clip_norm"]))] if "clip_norm" in used else []),
        *([decay] if decay and not decoupled else []),
        direction(hyperparameters, config.nesterov),
        *([decay] if decay and decoupled else []),
        *([optax.scale_by_trust_ratio()] if config.name == "lamb" else []),
        _descend(learning_rate, learning_rate_factors),
    )


def factors(params: Params, rules: Sequence[tuple[str, float]], field: str) -> Factors:
    """The factor of each parameter: that of the first rule whose regular expression matches its path.

    Args:
      params: nested dict of arrays; a path is the keys joined by "/".
      rules: (regular expression, factor) pairs.
      field: the config field that holds the rules, for errors.

    Raises:
      UserError: no rule matches a parameter, a rule matches no parameter, or an expression is invalid.
    """
    paths = [path for path, _ in paths_and_leaves(params)]
    patterns = compile_patterns([pattern for pattern, _ in rules], paths, field)
    uncovered = [path for path in paths if not any(pattern.search(path) for pattern in patterns)]
    if uncovered:
        raise UserError(f"{field}: no rule covers {_some(uncovered)}; add a last rule ('.', 1.0)")
    compiled = [(pattern, float(factor)) for pattern, (_, factor) in zip(patterns, rules, strict=True)]
    chosen = [next(factor for pattern, factor in compiled if pattern.search(path)) for path in paths]
    return jax.tree.unflatten(jax.tree.structure(params), chosen)


def compile_patterns(patterns: Sequence[str], paths: Sequence[str], field: str) -> list[re.Pattern]:
    """Compiles regular expressions over the paths of parameters.

    Args:
      patterns: as text.
      paths: of all parameters.
      field: the config field that holds the patterns, for errors.

    Raises:
      UserError: one is not a regular expression, or matches no parameter.
    """
    compiled = [_compile(pattern, field) for pattern in patterns]
    for pattern in compiled:
        if not any(pattern.search(path) for path in paths):
            raise UserError(f"{field}: '{pattern.pattern}' is found in no parameter; parameters are {_some(paths)}")
    return compiled


def paths_and_leaves(params: Params) -> list[tuple[str, Any]]:
    """The parameters with their paths, in the order of the tree."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def _chain(*transformations: optax.GradientTransformation) -> optax.GradientTransformation:
    """Chains transformations, also without implicit type promotion: Optax raises a traced decay to an integer power."""
    chained = optax.chain(*transformations)

    def update(updates: Params, state: Any, params: Params) -> tuple[Params, Any]:
        with jax.numpy_dtype_promotion("standard"):
            return chained.update(updates, state, params)

    return optax.GradientTransformation(chained.init, update)


def _limit(clip_norm: ArrayLike) -> jax.Array:
    """The limit of the norm. 0 means none, also in a program that other runs use with a limit."""
    return jnp.where(clip_norm > 0, clip_norm, jnp.inf)


def _decay(weight_decay: ArrayLike, decay_factors: Factors) -> optax.GradientTransformation:
    def add(update: jax.Array, param: jax.Array, factor: float) -> jax.Array:
        return update if factor == 0 else update + weight_decay * factor * param

    return optax.stateless(lambda updates, params: jax.tree.map(add, updates, params, decay_factors))


def _descend(learning_rate: ArrayLike | Params, rate_factors: Factors) -> optax.GradientTransformation:
    def descend(updates: Params, _: Params) -> Params:
        rates = jax.tree.broadcast(learning_rate, updates)
        return jax.tree.map(lambda u, f, rate: -rate * f * u, updates, rate_factors, rates)

    return optax.stateless(descend)


def _muon_dimensions(params: Params) -> Any:
    """The parameters that Muon updates: kernels with two or more axes, but not the head's. Adam updates the others."""

    def dimensions(path: str, param: jax.Array) -> Any:
        if not path.endswith("kernel") or path.startswith("head") or param.ndim < 2:
            return None
        # The last axis is the output. Kernels of stacked blocks (ndim 3) have a leading axis of depth.
        first = 1 if param.ndim == 3 else 0
        return optax.contrib.MuonDimensionNumbers(tuple(range(first, param.ndim - 1)), (param.ndim - 1,))

    leaves = [dimensions(path, leaf) for path, leaf in paths_and_leaves(params)]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def _is_left_to_adam(params: Params) -> Any:
    """A tree of booleans: whether Adam updates a parameter, and not Muon."""
    return jax.tree.map(lambda dimensions: dimensions is None, _muon_dimensions(params), is_leaf=_is_dimensions)


def _is_dimensions(node: Any) -> bool:
    return node is None or isinstance(node, optax.contrib.MuonDimensionNumbers)


def _compile(pattern: str, field: str) -> re.Pattern:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"{field}: '{pattern}' is not a regular expression: {error}") from None


def _some(paths: Sequence[str], limit: int = 6) -> str:
    return ", ".join(paths[:limit]) + (f" and {len(paths) - limit} more" if len(paths) > limit else "")
