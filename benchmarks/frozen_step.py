"""frozen_step: steps of fine-tuning with frozen parameters, relative to steps that train all parameters of the model.

The measured side is the trainer's step for a config with `transfer.freeze`; the reference is the same step with nothing
frozen. Model, batch, augmentation, optimizer and dispatch are the same: one step at a time on a fixed batch of the
config's shape, through `trainers.devices.dispatch`. Both programs run in one process and are timed alternately for an
eighth of a second. The ratio is that of steps per second. The forward pass, about a third of a step, cannot be avoided.
"""

import argparse
from collections.abc import Callable

import jax

from benchmarks import load_config
from benchmarks.measure import Result, compare
from diagnostics.cost import calibration
from diagnostics.cost.program import examples_of, make_training
from trainers.step.train_step import make_train_step

# Name: config, frozen parameters, and the target ratio.
_CASES = {
    "digits_vit, all but the head": ("digits_vit", ("^(?!head/)",), 1.5),
    "digits_vit, half of the blocks": ("digits_vit", ("^embedding/", "^positions", "^blocks/[01]/"), 1.2),
    "digits_resnet, all but the head": ("digits_resnet", ("^(?!head/)",), 1.5),
}
_ROUNDS = 15


def run(options: argparse.Namespace) -> list[Result]:
    """Returns one result for each case."""
    del options
    return [_compare(name, *case) for name, case in _CASES.items()]


def _compare(name: str, config: str, freeze: tuple[str, ...], target: float) -> Result:
    return compare(
        f"frozen_step/{name}",
        _rate(config, freeze),
        _rate(config, ()),
        rounds=_ROUNDS,
        target=target,
        at_least=True,
        comparison=f"steps/s, configs/{config}.py: with transfer.freeze={freeze} / with nothing frozen",
        unit="steps/s",
    )


def _rate(name: str, freeze: tuple[str, ...]) -> Callable[[], float]:
    """Compiles once, and returns the function that measures steps per second."""
    config = load_config(f"configs/{name}.py")
    config.transfer.freeze = freeze
    training = make_training(config, examples_of(config), jax.devices())
    (seconds,) = calibration.step_timers(training, make_train_step(training.program))
    seconds()  # The outputs of a step may need another compilation.
    return lambda: 1 / seconds()
