"""frozen_step: steps of fine-tuning with frozen parameters against steps that train all of the same model.

Ours is the trainer's own step of a config with `transfer.freeze`, the other the same step with nothing frozen: same
model, batch, augmentation, optimizer and dispatch, one step at a time on a fixed batch of the config's shape, through
`trainers.devices.dispatch`. Both programs live in one process and are timed in turns, for an eighth of a second each
time; what is compared is steps per second. The forward pass, about a third of a step, cannot be spared.
"""

import argparse
from collections.abc import Callable

import jax

from benchmarks import load_config
from benchmarks.measure import Result, side_by_side
from diagnostics.cost import calibration
from diagnostics.cost.program import examples_of, make_step
from trainers.step.train_step import make_train_step

# Name: config, what is frozen, and the ratio to reach.
_CASES = {
    "digits_vit, all but the head": ("digits_vit", ("^(?!head/)",), 1.5),
    "digits_vit, half of the blocks": ("digits_vit", ("^embedding/", "^positions", "^blocks/[01]/"), 1.2),
    "digits_resnet, all but the head": ("digits_resnet", ("^(?!head/)",), 1.5),
}
_ROUNDS = 15


def run(options: argparse.Namespace) -> list[Result]:
    """One result for each case."""
    del options
    return [_compare(name, *case) for name, case in _CASES.items()]


def _compare(name: str, config: str, freeze: tuple[str, ...], target: float) -> Result:
    return side_by_side(
        f"frozen_step/{name}",
        _rate(config, freeze),
        _rate(config, ()),
        rounds=_ROUNDS,
        target=target,
        at_least=True,
        divided=f"steps/s, configs/{config}.py: with transfer.freeze={freeze} / with nothing frozen",
        unit="steps/s",
    )


def _rate(name: str, freeze: tuple[str, ...]) -> Callable[[], float]:
    """The function that measures steps per second; it compiles before, once."""
    config = load_config(f"configs/{name}.py")
    config.transfer.freeze = freeze
    step = make_step(config, examples_of(config), jax.devices())
    (seconds,) = calibration.step_timers(step, make_train_step(step.program))
    seconds()  # What a step gave may be compiled for anew.
    return lambda: 1 / seconds()
