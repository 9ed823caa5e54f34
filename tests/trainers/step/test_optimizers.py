import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import defaults
from plumbline import UserError
from trainers.durations import Clock
from trainers.step import hyperparameters, optimizers

CLOCK = Clock(num_examples=100, batch_size=10, total_steps=100)

# Optax's own aliases, with the hyperparameters of `config_for`: what each of ours has to equal, step by step.
REFERENCES = {
    "sgd": lambda lr, mask: optax.chain(
        optax.add_decayed_weights(0.1, mask), optax.sgd(lr, momentum=0.8, nesterov=True)
    ),
    "adam": lambda lr, mask: optax.chain(optax.add_decayed_weights(0.1, mask), optax.adam(lr, b1=0.85, b2=0.95)),
    "adamw": lambda lr, mask: optax.adamw(lr, b1=0.85, b2=0.95, weight_decay=0.1, mask=mask),
    "lion": lambda lr, mask: optax.lion(lr, b1=0.85, b2=0.95, weight_decay=0.1, mask=mask),
    "lamb": lambda lr, mask: optax.lamb(lr, b1=0.85, b2=0.95, eps=1e-8, weight_decay=0.1, mask=mask),
    # Optax's Adafactor decays by an absolute rate, ours by a share of the learning rate like the others.
    "adafactor": lambda lr, mask: optax.adafactor(
        lr, multiply_by_parameter_scale=False, weight_decay_rate=0.1 * lr, weight_decay_mask=mask
    ),
    "muon": lambda lr, mask: optax.contrib.muon(
        lr,
        beta=0.8,
        adam_b1=0.85,
        adam_b2=0.95,
        weight_decay=0.1,
        weight_decay_mask=mask,
        consistent_rms=0.2,
    ),
}


def config_for(name: str):
    config = defaults.get_config()
    config.optimizer.update(name=name, weight_decay=0.1, momentum=0.8, b1=0.85, b2=0.95, learning_rate=0.03)
    return config


def parameters():
    keys = jax.random.split(jax.random.key(0), 3)
    return {
        "block": {"kernel": jax.random.normal(keys[0], (5, 7)), "bias": jax.random.normal(keys[1], (7,))},
        "out": {"kernel": jax.random.normal(keys[2], (7, 3))},
    }


def gradients(params, step):
    return jax.tree.map(lambda p: jnp.sin(p + step), params)


def build(config, params, learning_rate=None, used=None):
    values = hyperparameters.from_config(config, CLOCK)
    rules = config.optimizer.weight_decay_rules, config.optimizer.learning_rate_rules
    return optimizers.build(
        config.optimizer,
        values,
        hyperparameters.used([config]) if used is None else used,
        learning_rate=values["learning_rate"] if learning_rate is None else learning_rate,
        weight_decay_factors=optimizers.factors(params, rules[0], "optimizer.weight_decay_rules"),
        learning_rate_factors=optimizers.factors(params, rules[1], "optimizer.learning_rate_rules"),
    )


def run(optimizer, steps=4):
    params = parameters()
    state = optimizer.init(params)
    for step in range(steps):
        with jax.numpy_dtype_promotion("standard"):  # Optax's aliases need it.
            updates, state = optimizer.update(gradients(params, step), state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_every_optimizer_has_a_reference():
    assert set(REFERENCES) == set(optimizers.OPTIMIZERS)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_each_optimizer_equals_optax(name):
    mask = {"block": {"kernel": True, "bias": False}, "out": {"kernel": True}}
    ours = run(build(config_for(name), parameters()))
    theirs = run(REFERENCES[name](0.03, mask))
    if name == "muon":
        # Muon leaves the bias to plain Adam.
        theirs["block"]["bias"] = run(REFERENCES["adamw"](0.03, mask))["block"]["bias"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), ours, theirs)


def test_the_state_of_muon_is_that_of_optax():
    ours, theirs = (
        tree.init(parameters()) for tree in (build(config_for("muon"), parameters()), REFERENCES["muon"](0.03, None))
    )
    for (ours_path, _), (path, _) in zip(*map(optimizers.paths_and_leaves, (ours, theirs)), strict=True):
        assert ours_path.endswith(path)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_one_compiled_program_serves_all_hyperparameters(name):
    params, traces = parameters(), []

    @jax.jit
    def one_step(values):
        traces.append(name)
        config = config_for(name)
        optimizer = optimizers.build(
            config.optimizer,
            values,
            frozenset({"weight_decay", "clip_norm"}),
            learning_rate=values["learning_rate"],
            weight_decay_factors=jax.tree.map(lambda _: 1.0, params),
            learning_rate_factors=jax.tree.map(lambda _: 1.0, params),
        )
        return optimizer.update(gradients(params, 0), optimizer.init(params), params)[0]

    results = []
    for rate in (0.1, 0.2):
        values = hyperparameters.from_config(config_for(name), CLOCK) | {"clip_norm": jnp.float32(1e9)}
        results.append(one_step(values | {"learning_rate": jnp.float32(rate)}))
    assert traces == [name]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(2 * a, b, rtol=1e-5), *results)


def test_clipping_scales_the_whole_gradient_to_the_norm():
    config = defaults.get_config()
    config.optimizer.update(name="sgd", momentum=0.0, nesterov=False, learning_rate=1.0, clip_norm=0.5)
    params = parameters()
    gradient = gradients(params, 0)
    optimizer = build(config, params)
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    norm = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(gradient)))
    jax.tree.map(lambda u, g: np.testing.assert_allclose(u, -g * 0.5 / norm, rtol=1e-5), updates, gradient)


def test_the_first_matching_rule_gives_a_parameter_its_factor():
    rules = ((r"^block/bias$", 0.5), (r"kernel$", 2.0), (r".", 3.0))
    factors = optimizers.factors(parameters(), rules[:2], "optimizer.learning_rate_rules")
    assert factors == {"block": {"kernel": 2.0, "bias": 0.5}, "out": {"kernel": 2.0}}
    assert optimizers.factors(parameters(), rules[::-1], "x")["block"]["bias"] == 3.0


def test_learning_rate_factors_scale_the_update():
    config = config_for("adamw")
    config.optimizer.learning_rate_rules = ((r"^out", 0.0), (r".", 1.0))
    trained = run(build(config, parameters()))
    np.testing.assert_array_equal(trained["out"]["kernel"], parameters()["out"]["kernel"])
    plain = run(build(config_for("adamw"), parameters()))
    np.testing.assert_array_equal(trained["block"]["kernel"], plain["block"]["kernel"])


def test_a_parameter_without_a_rule_is_an_error():
    with pytest.raises(UserError, match=r"optimizer.x: no rule covers block/bias; add a last rule"):
        optimizers.factors(parameters(), (("kernel", 1.0),), "optimizer.x")


def test_a_rule_that_matches_nothing_is_an_error():
    with pytest.raises(UserError, match=r"optimizer.x: 'kernle' is found in no parameter; parameters are block/bias,"):
        optimizers.factors(parameters(), (("kernle", 1.0), (".", 1.0)), "optimizer.x")


def test_a_bad_expression_is_an_error():
    with pytest.raises(UserError, match=r"optimizer.x: '\(' is not a regular expression"):
        optimizers.factors(parameters(), (("(", 1.0),), "optimizer.x")


def test_an_unknown_optimizer_names_the_nearest():
    config = defaults.get_config()
    config.optimizer.name = "muonn"
    with pytest.raises(UserError, match=r"optimizer.name: unknown name 'muonn'; did you mean 'muon'"):
        build(config, parameters())


def test_muon_takes_matrices_and_stacked_matrices_but_not_the_head():
    params = {
        "blocks": {"kernel": jnp.ones((3, 4, 5)), "bias": jnp.ones((3, 5))},
        "head": {"kernel": jnp.ones((5, 2)), "bias": jnp.ones(2)},
        "stem": {"kernel": jnp.ones((3, 3, 1, 4))},
    }
    state = build(config_for("muon"), params).init(params)
    muon_paths = {path for path, leaf in optimizers.paths_and_leaves(state) if "muon" in path and leaf.ndim > 1}
    assert {path.split("/mu/")[1] for path in muon_paths} == {"blocks/kernel", "stem/kernel"}
