"""Trains on growing parts of the training rows, and says what more data would bring.

    plumbline learning_curve --config=configs/digits_mlp.py --workdir=runs/curve --accuracy=0.95

Flags:
    --config=FILE[:ARGUMENT]   a config file; fields are changed with --config.FIELD=VALUE
    --workdir=DIR              new, empty, or that of an earlier start of this command, which it goes on with; more
                               seeds and another accuracy or error may be asked for there, but no other sizes
    --sizes=N                  subsets, 8 by default, at least 4: all rows, and each next one smaller by the same factor
    --seeds=S                  trainings of each size, 3 by default, on subsets of their own
    --accuracy=SHARE           how much data would this accuracy take? (classification; not asked by default)
    --target=MSE               how much data would this mean squared error take? (regression; not asked by default)
    --overwrite                off by default; delete what this command left in DIR, and train anew

Each subset lies inside the larger ones of its seed, and has the classes in the shares of the whole. All trainings take
as many steps as the config gives to all rows, so that a small subset is not also trained less; the validation split is
the same for all. They are judged on the test split: nothing is chosen by it.

A power law with a floor is fitted to the errors. What it says of sizes that were not trained comes with 95 % intervals,
and where it should not be believed, that is said. The same fit to the sizes up to half of the rows shows what it would
have said of all rows.

Writes learning_curve.json, learning_curve.png and learning_curve.svg.

Exit codes: 0 done, 2 an error you can mend, 3 trainings diverged, 42 preempted (run the same command again).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags
from ml_collections import config_flags

from experiments import command, output_directory
from experiments.populations import population_devices
from plumbline import UserError, counted, exit_codes
from plumbline.files import write_json
from reporting import plot_style, population_plots

if TYPE_CHECKING:
    import ml_collections

    from data.pool import Pool
    from diagnostics.learning_curve import LearningCurve, Needed
    from diagnostics.scores import Score

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory for the results.")
_SIZES = flags.DEFINE_integer("sizes", 8, "Subsets.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Trainings of each size.")
_ACCURACY = flags.DEFINE_float("accuracy", None, "Accuracy asked for.")
_TARGET = flags.DEFINE_float("target", None, "Mean squared error asked for.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Train anew.")

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
    population_devices()
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
        points = trainings.curve_points(pool, members, outcomes)
        diverged = [member.name for member in members.values() if not outcomes[member.name].metrics]
        if len(np.unique(points[:, 0])) < _LEAST_SIZES:
            raise UserError(
                f"learning_curve: {counted(len(diverged), 'training')} diverged, and too few sizes are left; "
                "lower optimizer.learning_rate"
            )
        curve = learning_curve.fit(points[:, 0], points[:, 1])
        figures = {
            "metric": score.name,
            "steps": next(iter(outcomes.values())).total_steps,
            "sizes": _by_size(points, score),
            **_answers(curve, score, asked),
            "hindsight": _hindsight(points, score),
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
    """What is followed over the sizes, and the error that is asked for."""
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


def _hindsight(points: np.ndarray, score: "Score") -> dict[str, Any] | None:
    """What the sizes up to half of the rows say of all rows, beside what was measured there; None for too few sizes."""
    from diagnostics import learning_curve

    sizes, errors = points.T
    half = _up_to_half(sizes)
    if len(np.unique(sizes[half])) < _LEAST_SIZES:
        return None
    curve = learning_curve.fit(sizes[half], errors[half])
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
    """Why the smaller sizes do not say what they would have said of all rows; None if they do."""
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
            "\nOne training of each size gives no interval of what chance in training does. The intervals below go by "
            "how far the sizes lie off the law, and nothing tests whether it is their law; give --seeds=3."
        )
    _, slowest, fastest = curve.parameters()["exponent"]
    print(
        f"\n{score.error_name} falls with the power {slowest:.2f} to {fastest:.2f} of the examples, "
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
    return f"{config.model.name} on {config.data.source}, {counted(_SEEDS.value, 'seed')}"


if __name__ == "__main__":
    command.run(main)
