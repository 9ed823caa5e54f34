"""Parameters that are not trained: still to the bit, without gradient, and without optimizer state."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import defaults
from data.pool import load_pool
from plumbline import UserError
from tests.conftest import IRIS, jit_quickly
from trainers.devices import flops
from trainers.populations.population import Member, train_population
from trainers.run.directory import RunDirectory
from trainers.run.inference import FinishedRun
from trainers.run.loop import train
from trainers.settings import override
from trainers.step.optimizers import OPTIMIZERS, paths_and_leaves
from trainers.step.state import num_parameters

VIT = {
    "model__name": "vit",
    "model__vit__patch_size": 2,
    "model__vit__width": 16,
    "model__vit__depth": 5,
    "model__vit__heads": 2,
    "model__vit__mlp_size": 32,
}
EVERYTHING = {"train__ema_decay": 0.8, "train__accumulation_steps": 2, "optimizer__weight_decay": 0.1}
BEFORE_BLOCKS = ("^embedding/", "^class_token", "^positions")
FROZEN = {
    "mlp": ({"model__mlp__hidden_sizes": (16, 16)}, ("^hidden/0/",)),
    "resnet": ({"model__name": "resnet", "model__resnet__width": 4}, ("^stem/", "^stages/[01]/")),
    "first blocks": (VIT, (*BEFORE_BLOCKS, "^blocks/[012]/")),
    "some blocks": (VIT, ("^blocks/[13]/mlp/", "/query/")),
    "probe": (VIT, ("^(?!head/)",)),
}


def steps_of(training, count=3):
    step, state = jit_quickly(training.train_step), training.state
    for number in range(count):
        state, metrics = step(state, training.batch(number))
    assert metrics["skipped"][0] == 0
    return state


def rows_of(tree, depth):
    """Every array by its path, stacked ones row by row."""
    rows = {}
    for path, leaf in paths_and_leaves(tree):
        if path.startswith("blocks/"):
            rows |= {path.replace("blocks/", f"blocks/{row}/", 1): np.asarray(leaf[row]) for row in range(depth)}
        else:
            rows[path] = np.asarray(leaf)
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("case", FROZEN)
def test_what_is_frozen_is_still_to_the_bit_and_all_else_moves(make_training, case):
    fields, patterns = FROZEN[case]
    training = make_training(**fields, **EVERYTHING, transfer__freeze=patterns)
    before, state = training.state, steps_of(training)
    frozen = training.program.partition.frozen
    for tree in (state.params, state.inference().params):
        old, new = rows_of(before.params, 5), rows_of(tree, 5)
        assert old.keys() == new.keys() > frozen
        for path in old:
            is_still = old[path].tobytes() == new[path].tobytes()
            # Adding a constant to all keys of a query's softmax changes nothing: their bias may not move.
            assert is_still == (path in frozen) or path.endswith("key/bias"), path


@pytest.mark.slow
def test_statistics_of_frozen_batch_norms_stand_still_and_are_what_they_normalise_by(make_training):
    fields, patterns = FROZEN["resnet"]
    training = make_training(**fields, transfer__freeze=patterns)
    before, state = training.state, steps_of(training)
    for path, leaf in paths_and_leaves(before.model_state):
        after = dict(paths_and_leaves(state.model_state))[path]
        is_frozen = path.startswith(("stem/", "stages/0/", "stages/1/"))
        assert np.array_equal(leaf, after) == is_frozen, path
    # Other statistics would give another loss.
    moved = {"stem": jax.tree.map(lambda leaf: leaf + 1, before.model_state["stem"])}
    other = {**before.model_state, **moved}
    one, two = (
        jit_quickly(training.train_step)(jax.tree.map(jnp.copy, state), training.batch(0))[1]["loss"][0]
        for state in (before, type(before)(**{**vars(before), "model_state": other}))
    )
    assert abs(float(one - two)) > 1e-3


@pytest.mark.slow
def test_a_batch_norm_that_is_trained_in_part_keeps_the_statistics_of_batches(make_training):
    training = make_training(**FROZEN["resnet"][0], transfer__freeze=("^stem/norm/scale",))
    assert not np.array_equal(
        training.state.model_state["stem"]["norm"]["mean"], steps_of(training).model_state["stem"]["norm"]["mean"]
    )


SLOW = [pytest.param(case, marks=pytest.mark.slow) for case in ("some blocks", "probe")]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["mlp", "first blocks", *SLOW])
def test_what_is_trained_moves_as_in_a_training_of_all(make_training, case):
    fields, patterns = FROZEN[case]
    plain = {"optimizer__name": "sgd", "optimizer__learning_rate": 0.1, "optimizer__momentum": 0.0}
    training = make_training(**fields, **plain, transfer__freeze=patterns)
    whole = rows_of(steps_of(make_training(**fields, **plain), 1).params, 5)
    for path, row in rows_of(steps_of(training, 1).params, 5).items():
        if path not in training.program.partition.frozen:
            np.testing.assert_allclose(row, whole[path], rtol=1e-5, atol=1e-6, err_msg=path)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("case", ["mlp", "first blocks"])
def test_the_optimizer_state_is_that_of_the_trained_part_alone(make_training, case, optimizer):
    fields, patterns = FROZEN[case]
    training = make_training(**fields, optimizer__name=optimizer, transfer__freeze=patterns)
    trained = training.program.partition.select(training.state.params)
    expected = training.program.optimizer(training.state.hyperparameters, jnp.int32(0)).init(trained)
    assert held(training.state.opt_state) == held(expected)
    if optimizer in ("adam", "adamw"):
        frozen = training.program.partition.frozen
        rows = rows_of(training.state.params, 5)
        size = sum(row.nbytes for path, row in rows.items() if path not in frozen)
        # Two moments and a count.
        assert held(training.state.opt_state) == 2 * size + 4 < held(make_training(**fields).state.opt_state)


def held(tree):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


@pytest.mark.slow
def test_first_blocks_that_are_frozen_cost_no_backward_pass(make_training):
    def pluralize(patterns):
        training = make_training(**VIT, transfer__freeze=patterns)
        return flops.count(jax.make_jaxpr(training.train_step)(training.state, training.batch(0))).total

    # A block's forward pass on 32 images of 16 patches and a class token: its kernels, and attention twice.
    tokens, width = 32 * 17, 16
    block = 2 * tokens * (4 * width**2 + 2 * width * 32) + 2 * (2 * tokens * 17 * width)
    embedding, head = 2 * 32 * 16 * 4 * width, 2 * 32 * width * 10
    whole = pluralize(())
    assert whole == 3 * 5 * block + 2 * embedding + 3 * head
    assert pluralize((*BEFORE_BLOCKS, "^blocks/[012]/")) == whole - 2 * 3 * block - embedding
    # Those before an embedding that is trained are only spared the gradient of their own parameters.
    assert whole - 3 * block <= pluralize(("^blocks/[012]/",)) < whole
    assert pluralize(("^(?!head/)",)) == 5 * block + embedding + 2 * head


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["full", "dots"])
def test_blocks_that_are_frozen_go_with_recomputation(make_training, assert_trees_equal, remat):
    fields, patterns = FROZEN["first blocks"]
    plain = make_training(**fields, transfer__freeze=patterns)
    training = make_training(**fields, transfer__freeze=patterns, model__remat=remat)
    assert_trees_equal(steps_of(training).params, steps_of(plain).params, rtol=1e-4, atol=1e-5)


def test_where_nothing_is_frozen_the_trees_are_passed_on_untouched(make_training):
    training = make_training()
    params, partition = training.state.params, training.program.partition
    assert partition.select(params) is params
    assert partition.merge({}, params) is params
    assert num_parameters(partition.map(lambda leaf, rows: leaf, params)) == num_parameters(params)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (
            ("hiden",),
            "transfer.freeze: 'hiden' is found in no parameter; parameters are head/bias, head",
        ),
        (
            ("^hidden/0", "."),
            r"transfer.freeze: \('\^hidden/0', '\.'\) are found in all parameters, so nothing",
        ),
        (("hidden/(",), r"transfer.freeze: 'hidden/\(' is not a regular expression"),
    ],
)
def test_a_pattern_of_nothing_or_of_everything_is_an_error(make_training, patterns, message):
    with pytest.raises(UserError, match=message):
        make_training(transfer__freeze=patterns)


RUN = IRIS | {"transfer.freeze": ("^hidden/0/",), "train.ema_decay": 0.9, "population.lanes": 2}


def test_a_run_with_frozen_parameters_goes_on_as_if_it_had_not_stopped(tmp_path, runs, capsys):
    config = override(defaults.get_config(), RUN)
    whole = train(config, tmp_path / "run", devices=jax.devices()[:1])
    assert "139 parameters (99 of them trained)" in capsys.readouterr().err
    expected = runs.final_state(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "30")
    (tmp_path / "run" / "status.json").write_text(json.dumps({"status": "preempted", "step": 20, "reason": ""}))
    assert train(config, tmp_path / "run", devices=jax.devices()[:1])["metrics"] == whole["metrics"]
    actual = runs.final_state(tmp_path / "run")
    assert all(np.array_equal(actual[path], array) for path, array in expected.items())
    loss = FinishedRun(tmp_path / "run").evaluate("test")["loss"]
    np.testing.assert_allclose(loss, whole["metrics"]["test"]["loss"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["loop", "map", "vmap"])
def test_a_member_with_frozen_parameters_equals_its_run_alone(tmp_path, mode):
    config = override(defaults.get_config(), RUN | {"population.mode": mode})
    parts = (pool := load_pool(config.data, seed=0)).splits
    rows = {"train": parts["train"], "validation": parts["validation"], "held_out": parts["test"]}
    members = [Member(name=f"{seed}", overrides={}, seed=seed, **rows) for seed in (1, 0)]
    outcome = train_population(config, pool, members, devices=jax.devices()[:1], progress=False)["0"]
    summary = train(config, tmp_path / "run", devices=jax.devices()[:1])
    rtol = 0 if mode == "loop" else 1e-4
    lines = [line for line in RunDirectory(tmp_path / "run").metrics() if line["split"] == "validation"]
    losses = [entry["loss"] for entry in outcome.history]
    np.testing.assert_allclose(losses, [line["loss"] for line in lines], rtol=rtol)
    np.testing.assert_allclose(outcome.metrics["loss"], summary["metrics"]["test"]["loss"], rtol=rtol)
