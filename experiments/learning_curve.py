"""Trains on subsets of growing size and estimates what more data would bring.

    plumbline learning_curve --config=configs/digits_mlp.py --workdir=runs/curve --accuracy=0.95

Flags:
    --config=FILE[:ARGUMENT]   a config file; --config.FIELD=VALUE changes a field
    --workdir=DIR              output directory: new, empty, or of an earlier start of this command, which is resumed;
                               more seeds and another accuracy or error may be given, but the sizes stay
    --sizes=N                  subsets, at least 4: from all rows down, each smaller by the same factor; 8 by default
    --seeds=S                  trainings of each size, each on its own subset; 3 by default
    --accuracy=SHARE           estimate how much data this accuracy takes (classification)
    --target=MSE               estimate how much data this mean squared error takes (regression)
    --overwrite                delete earlier results in DIR and train again; off by default

Each subset is part of the larger ones of its seed and keeps the shares of the classes; those of different seeds share
as few rows as possible. All trainings take the same
number of steps, that of the config on all rows, so that a small subset is not also trained less. The validation split
is the same for all. The trainings are evaluated on the test split; nothing is selected on it.

A power law with a floor, and departures from it, is fitted to the errors. Its extrapolations come with 95 % intervals,
which may include no gain, and doubts about them are reported. The same fit to the sizes up to half of the rows shows in
hindsight how well it would have predicted all rows.

Writes learning_curve.json, learning_curve.png and learning_curve.svg.

Exit codes: 0 done, 2 an error that you can fix, 3 trainings diverged, 42 preempted (run the same command again).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags
from ml_collections import config_flags

from experiments import command, output_directory
from experiments.path_flags import define_path
from experiments.populations import use_a_device_per_core
from plumbline import UserError, exit_codes, pluralize
from plumbline.files import write_json
from reporting import plot_style, population_plots

if TYPE_CHECKING:
    import ml_collections

    from data.pool import Pool
    from diagnostics.learning_curve import LearningCurve, Needed
    from diagnostics.scores import Score

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
_WORKDIR = define_path("workdir", None, "Directory for the results.")
_SIZES = flags.DEFINE_integer("sizes", 8, "Subsets.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Trainings of each size.")
_ACCURACY = flags.DEFINE_float("accuracy", None, "Accuracy to reach.")
_TARGET = flags.DEFINE_float("target", None, "Mean squared error to reach.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Train again.")

_FIGURES, _PLOT = "learning_curve.json", "learning_curve"
_LEAST_SIZES = 4


def main(words: list[str]) -> int:
    """Trains, fits, writes and prints."""
    command.refuse(words)
    command.require(config=_CONFIG.value, workdir=_WORKDIR.value)
    for name, flag, least in (("sizes", _SIZES, _LEAST_SIZES), ("seeds", _SEEDS, 1)):
        if flag.value < least:
            raise UserError(f"--{name}: {flag.value} given; it must be at least {least}")
    if _ACCURACY.value is not None and not 0 < _ACCURACY.value < 1:
        raise UserError(f"--accuracy: {_ACCURACY.value} given; it must lie between 0 and 1, both excluded")
    if _TARGET.value is not None and not _TARGET.value > 0:
        raise UserError(f"--target: {_TARGET.value} given; a mean squared error is more than 0")
    output_directory.exit_on_sigterm()
    use_a_device_per_core()
    return _learn(_CONFIG.value)


def _learn(config: "ml_collections.ConfigDict") -> int:
    from data import subsets
    from data.pool import load_pool
    from diagnostics import learning_curve, trainings
    from trainers.populations.population import Population
    from trainers.run import transfer

    request = output_directory.Request(
        command="learning_curve",
        settings={"sizes": _SIZES.value},
        seeds=_SEEDS.value,
        results=(_FIGURES, *plot_style.file_names(_PLOT)),
    )
    with output_directory.lock(_WORKDIR.value, request, overwrite=_OVERWRITE.value) as output:
        config = transfer.resolve(config)
        pool = load_pool(config.data, seed=config.seed)
        pool.require_independent("learning_curve")
        score, asked = _score(pool)
        train = pool.splits["train"]
        sizes = subsets.choose_sizes(len(train), _SIZES.value, len(pool.features.class_names))
        config.update_from_flattened_dict(trainings.in_steps(config, len(train)))
        seeds = range(config.seed, config.seed + _SEEDS.value)
        members = trainings.growing_members(pool, sizes, seeds, {})
        output.claim()
        population = Population(config, pool, directory=output.path)
        outcomes = population.train(list(members.values()))
        points, overlaps = trainings.curve_points(pool, members, outcomes)
        diverged = [member.name for member in members.values() if not outcomes[member.name].metrics]
        if len(np.unique(points[:, 0])) < _LEAST_SIZES:
            raise UserError(
                f"learning_curve: {pluralize(len(diverged), 'training')} diverged, and too few sizes are left; "
                "lower optimizer.learning_rate"
            )
        curve = learning_curve.fit(*points.T, overlaps)
        figures = {
            "metric": score.name,
            "steps": next(iter(outcomes.values())).total_steps,
            "sizes": _by_size(points, score),
            **_answers(curve, score, asked),
            "hindsight": _hindsight(points, overlaps, score),
            "no_hindsight": _why_no_hindsight(points, pool),
            "diverged": diverged,
            "population": population.summary,
        }
        output.record_request()
        write_json(output.path / _FIGURES, figures)
        plots = population_plots.draw_learning_curve(
            output.path, _PLOT, curve, label=score.error_name, title=_title(config), target=asked
        )
        _print(figures, curve, score, asked)
        print(f"{output.path}/{', '.join((_FIGURES, *plots))}")
    return exit_codes.DIVERGED if diverged else exit_codes.DONE


def _score(pool: "Pool") -> tuple["Score", float | None]:
    """Returns the score that is measured for each size, and the error to reach."""
    from diagnostics.scores import Score

    score = Score(pool.features.task)
    if score.is_accuracy and _TARGET.value is not None:
        raise UserError("--target: is for a regression; give --accuracy=SHARE")
    if not score.is_accuracy and _ACCURACY.value is not None:
        raise UserError("--accuracy: is for a classification; give --target=MSE")
    asked = _ACCURACY.value if score.is_accuracy else _TARGET.value
    return score, None if asked is None else score.error(asked)


def _by_size(points: np.ndarray, score: "Score") -> list[dict[str, Any]]:
    from diagnostics.statistics import mean_interval

    return [
        {
            "examples": int(size),
            "values": [score.error(error) for error in points[points[:, 0] == size, 1].tolist()],
            "mean": score.interval(mean_interval(points[points[:, 0] == size, 1])),
        }
        for size in np.unique(points[:, 0])
    ]


def _answers(curve: "LearningCurve", score: "Score", asked: float | None) -> dict[str, Any]:
    twice = 2 * int(curve.sizes.max())
    answers: dict[str, Any] = {
        "law": curve.parameters() | {"floor": score.errors(curve.parameters()["floor"])},
        "doubts": curve.doubts(),
        "twice": {
            "examples": twice,
            "mean": score.interval(curve.error(twice)),
            "one_training": score.interval(curve.prediction(twice)),
        },
    }
    if asked is not None:
        needed = curve.needed(asked)
        answers["needed"] = {
            "for": score.error(asked),
            "examples": needed.examples,
            "low": needed.low,
            "high": needed.high,
            "reason": needed.reason,
        }
    return answers


def _hindsight(points: np.ndarray, overlaps: np.ndarray, score: "Score") -> dict[str, Any] | None:
    """Compares the prediction from sizes up to half of the rows with all rows; None with too few sizes."""
    from diagnostics import learning_curve

    sizes, errors = points.T
    half = _up_to_half(sizes)
    if len(np.unique(sizes[half])) < _LEAST_SIZES:
        return None
    curve = learning_curve.fit(sizes[half], errors[half], overlaps[np.ix_(half, half)])
    said = score.interval(curve.prediction(sizes.max()))
    measured = [score.error(error) for error in errors[sizes == sizes.max()].tolist()]
    return {
        "from": int(sizes[half].max()),
        "to": int(sizes.max()),
        "said": said,
        "measured": measured,
        "mean": float(np.mean(measured)),
        "covered": bool(said[1] <= np.mean(measured) <= said[2]),
    }


def _why_no_hindsight(points: np.ndarray, pool: "Pool") -> str | None:
    """Gives the reason why there is no check in hindsight; None if there is one."""
    from data import subsets

    sizes = np.unique(points[:, 0])
    found = int(_up_to_half(sizes).sum())
    if found >= _LEAST_SIZES:
        return None
    reason = f"{found} of the {len(sizes)} sizes hold up to half of the rows, and a power law takes {_LEAST_SIZES}"
    rows, classes = len(pool.splits["train"]), len(pool.features.class_names)
    for count in range(_LEAST_SIZES + 1, rows):
        try:
            possible = np.array(subsets.choose_sizes(rows, count, classes))
        except UserError:
            return f"{reason}; there are too few rows for more sizes"
        if _up_to_half(possible).sum() >= _LEAST_SIZES:
            return f"{reason}; {'the others diverged' if len(sizes) < _SIZES.value else f'give --sizes={count}'}"
    return reason


def _up_to_half(sizes: np.ndarray) -> np.ndarray:
    return sizes <= np.ceil(sizes.max() / 2)


def _print(figures: Mapping[str, Any], curve: "LearningCurve", score: "Score", asked: float | None) -> None:
    name, text, interval = figures["metric"], score.text, score.range
    alone = all(len(row["values"]) < 2 for row in figures["sizes"])
    head = f"{'examples':>10}  {name:>8}" + ("" if alone else "  95 % over seeds")
    print(f"{figures['steps']} steps each, judged on the test split\n\n{head}")
    for row in figures["sizes"]:
        mean, low, high = row["mean"]
        bounds = f"  {text(low)} to {text(high)}" if np.isfinite(low) else "" if alone else "  -"
        print(f"{row['examples']:>10,}  {text(mean):>8}{bounds}")
    if alone:
        print(
            "\nOne training of each size gives no interval for chance in training. The intervals below depend on "
            "the scatter of the sizes around the power law, and nothing tests whether it holds; give --seeds=3."
        )
    _, slowest, fastest = curve.parameters()["exponent"]
    print(
        f"\nBy the power law, {score.error_name} falls with the power {slowest:.2f} to {fastest:.2f} of the examples, "
        f"to a floor of {interval(figures['law']['floor'])}."
        + "".join(f"\nDo not believe it: {doubt}." for doubt in figures["doubts"])
    )
    twice = figures["twice"]
    single = " to ".join(map(text, twice["one_training"][1:]))
    print(
        f"Twice the data, {twice['examples']:,} examples: {name} {interval(twice['mean'])}; a single training {single}."
    )
    if asked is not None:
        print(f"{name} {score.error(asked):g}: {_needed(curve.needed(asked))}.")
    if seen := figures["hindsight"]:
        verdict = "covers" if seen["covered"] else "MISSES"
        print(
            f"In hindsight: the sizes up to {seen['from']:,} said {interval(seen['said'])} for a training on "
            f"{seen['to']:,}, which {verdict} the {text(seen['mean'])} measured in the mean."
        )
    else:
        print(f"No look in hindsight: {figures['no_hindsight']}.")
    if figures["diverged"]:
        print(f"diverged, and left out: {'; '.join(figures['diverged'])}")


def _needed(needed: "Needed") -> str:
    if needed.examples is None:
        return f"cannot say: {needed.reason}"
    high = f"{needed.high:,.0f}" if np.isfinite(needed.high) else "any number, as it may never be enough"
    return f"about {needed.examples:,.0f} examples (95 %: {needed.low:,.0f} to {high})"


def _title(config: "ml_collections.ConfigDict") -> str:
    return f"{config.model.name} on {config.data.source}, {pluralize(_SEEDS.value, 'seed')}"


if __name__ == "__main__":
    command.run(main)
