"""The model in docs/extending.md passes the battery of registered models."""

import types

import jax
import pytest

from models import REGISTRY, build
from tests.models import test_model_registry as registry
from tests.test_extending import run

ROW = registry.Row("two_towers", (8, 8, 1), 64)
# The battery's own fixture.
random_row = registry.random_row


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(REGISTRY, "two_towers", run("class TwoTowers")["TwoTowers"])


@pytest.fixture
def make_model():
    """As that of the registered models, without a section in the default config."""

    def make(name, input_shape, *, seed=0, dtype="float32", remat="none", categories=(), num_outputs=3, **fields):
        return build(
            {"name": name, "dtype": dtype, "remat": remat, name: fields},
            input_shape=input_shape,
            categories=categories,
            num_outputs=num_outputs,
            key=jax.random.key(seed),
        )

    return make


def in_battery(function):
    return any(mark.args[1] is registry.ROWS for mark in getattr(function, "pytestmark", ()) if len(mark.args) > 1)


def for_row(function):
    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    return pytest.mark.parametrize("row", [ROW], ids=["two_towers"])(copy)


TESTS = {name: for_row(function) for name, function in vars(registry).items() if in_battery(function)}
globals().update(TESTS)


def test_the_battery_is_not_empty():
    assert len(TESTS) > 8
