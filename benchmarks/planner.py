"""planner: the step time that `experiments.plan --device=cpu` estimates, relative to that of a training.

The measured side is the planner's estimate. It times one step of the model on a quarter of the batch and one that
computes nothing, and extrapolates to the full batch from the two compiled programs. It never runs the step it
estimates.

The reference is a whole training by `trainers.run.loop.train` without evaluations, with steps dispatched one at a time
as the estimate assumes; its figure is the inverse of `steps_per_second` in the summary. Each measurement has its own
process. An estimate should be within 25 % of the measured time, so there are two targets, and both must be met.
"""

import argparse

import jax

import data
from benchmarks import load_config
from benchmarks.measure import Result, alternate
from benchmarks.step_rate import parse_config, prolong, run_in_new_process, steps_per_second
from diagnostics.cost import calibration
from diagnostics.cost.program import compile_step, examples_of, make_training

# Config: epochs of the timed training.
_CASES = {"digits_vit": 20, "digits_mlp": 1000}
_ROUNDS = 3
_FARTHEST = 0.25


def run(options: argparse.Namespace) -> list[Result]:
    """Returns two results for each config: a lower and an upper bound."""
    del options
    return [result for name, epochs in _CASES.items() for result in _compare(name, epochs)]


def estimated_seconds(config: str) -> float:
    """Returns the planner's estimate for one step; the config is JSON."""
    whole = parse_config(config)
    examples, devices = examples_of(whole), jax.devices()
    training = make_training(whole, examples, devices)
    return calibration.calibrate(training, examples, devices).step_seconds(compile_step(training))


def _compare(name: str, epochs: int) -> list[Result]:
    config = load_config(f"configs/{name}.py")
    planned = config.to_json()
    prolong(config, epochs, _training_examples(planned))
    config.execution.mode = "loop"
    trained = config.to_json()
    ratios, ours, others = alternate(
        lambda: run_in_new_process(estimated_seconds, planned),
        lambda: 1 / run_in_new_process(steps_per_second, trained),
        _ROUNDS,
    )
    milliseconds = [1e3 * sorted(times)[len(times) // 2] for times in (ours, others)]
    return [
        Result(
            name=f"planner/{name}, {bound}",
            ratios=ratios,
            target=target,
            at_least=target < 1,
            comparison=f"seconds per step, configs/{name}.py: planned / trained, one step per dispatch",
            figures="{:.4g} / {:.4g} ms".format(*milliseconds),
        )
        for bound, target in (("lower bound", 1 - _FARTHEST), ("upper bound", 1 + _FARTHEST))
    ]


def _training_examples(config: str) -> int:
    whole = parse_config(config)
    return len(data.load(whole.data, seed=whole.seed).splits["train"])
