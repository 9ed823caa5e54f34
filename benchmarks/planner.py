"""planner: what `experiments.plan --device=cpu` expects of a step, against what a training takes.

Ours is the planner's estimate: it times one step of the model on a quarter of the batch and one that computes nothing,
and carries that over to the full batch by what the two compiled programs do. It never runs the step it estimates.

The other is a whole training by `trainers.run.loop.train` with that step, dispatched one at a time as the estimate
assumes, without evaluations; its figure is the inverse of `steps_per_second` in the summary. Each measurement has a
process of its own. An estimate should lie within 25 % of the measured time: of the two targets, both have to be met.
"""

import argparse

import jax

import data
from benchmarks import load_config
from benchmarks.measure import Result, in_turns
from benchmarks.step_rate import in_fresh_process, parsed, prolong, steps_per_second
from diagnostics.cost import calibration
from diagnostics.cost.program import compile_step, examples_of, make_step

# Config: epochs of the training that is timed.
_CASES = {"digits_vit": 20, "digits_mlp": 1000}
_ROUNDS = 3
_FARTHEST = 0.25


def run(options: argparse.Namespace) -> list[Result]:
    """Two results for each config: not too short, and not too long."""
    del options
    return [result for name, epochs in _CASES.items() for result in _compare(name, epochs)]


def estimated_seconds(config: str) -> float:
    """Of one step, by the planner, for a config in JSON."""
    whole = parsed(config)
    examples, devices = examples_of(whole), jax.devices()
    step = make_step(whole, examples, devices)
    return calibration.calibrate(step, examples, devices).step_seconds(compile_step(step))


def _compare(name: str, epochs: int) -> list[Result]:
    config = load_config(f"configs/{name}.py")
    planned = config.to_json()
    prolong(config, epochs, _training_examples(planned))
    config.execution.mode = "loop"
    trained = config.to_json()
    ratios, ours, others = in_turns(
        lambda: in_fresh_process(estimated_seconds, planned),
        lambda: 1 / in_fresh_process(steps_per_second, trained),
        _ROUNDS,
    )
    milliseconds = [1e3 * sorted(times)[len(times) // 2] for times in (ours, others)]
    return [
        Result(
            name=f"planner/{name}, {bound}",
            ratios=ratios,
            target=target,
            at_least=target < 1,
            divided=f"seconds a step, configs/{name}.py: as planned / as trained, one step a dispatch",
            figures="{:.4g} / {:.4g} ms".format(*milliseconds),
        )
        for bound, target in (("lower bound", 1 - _FARTHEST), ("upper bound", 1 + _FARTHEST))
    ]


def _training_examples(config: str) -> int:
    whole = parsed(config)
    return len(data.load(whole.data, seed=whole.seed).splits["train"])
