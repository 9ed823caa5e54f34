"""Trains on growing parts of the training rows, and says what more data would bring.

    python -m experiments.learning_curve --config=configs/digits_mlp.py --workdir=runs/curve --accuracy=0.95

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

Writes learning_curve.json and learning_curve.png.

Exit codes: 0 done, 2 an error you can mend, 3 trainings diverged, 42 preempted (run the same command again).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags
from ml_collections import config_flags

from experiments import command, plots, workplace
from experiments.populations import population_devices
from plumbline import UserError, counted

if TYPE_CHECKING:
    import ml_collections

    from data.pool import Pool
    from diagnostics.learning_curve import LearningCurve, Needed
    from trainers.members import Member, Outcome

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory for the results.")
_SIZES = flags.DEFINE_integer("sizes", 8, "Subsets.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Trainings of each size.")
_ACCURACY = flags.DEFINE_float("accuracy", None, "Accuracy asked for.")
_TARGET = flags.DEFINE_float("target", None, "Mean squared error asked for.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Train anew.")

_FIGURES, _PICTURE = "learning_curve.json", "learning_curve.png"
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
    workplace.stoppable()
    population_devices()
    return _learn(_CONFIG.value)


def _learn(config: "ml_collections.ConfigDict") -> int:
    from data import subsets
    from data.pool import load_pool
    from diagnostics import learning_curve
    from trainers import transfer
    from trainers.building import make_clock
    from trainers.population import Population

    question = workplace.Question(
        command="learning_curve", asked={"sizes": _SIZES.value}, seeds=_SEEDS.value, results=(_FIGURES, _PICTURE)
    )
    with workplace.held(_WORKDIR.value, question, overwrite=_OVERWRITE.value) as place:
        config = transfer.resolved(config)
        pool = load_pool(config.data, seed=config.seed)
        pool.require_independent("learning_curve")
        measure = _Measure(pool)
        train = pool.splits["train"]
        sizes = subsets.sizes(len(train), _SIZES.value, len(pool.features.class_names))
        _set_in_steps(config, make_clock(config, len(train)))
        members = _members(pool, sizes, range(config.seed, config.seed + _SEEDS.value))
        place.begin()
        population = Population(config, pool, directory=place.path)
        outcomes = population.train(list(members.values()))
        points, diverged = _points(members, outcomes, measure)
        if len(np.unique(points[:, 0])) < _LEAST_SIZES:
            raise UserError(
                f"learning_curve: {counted(len(diverged), 'training')} diverged, and too few sizes are left; "
                "lower optimizer.learning_rate"
            )
        curve = learning_curve.fit(points[:, 0], points[:, 1])
        figures = {
            "metric": measure.name,
            "steps": next(iter(outcomes.values())).total_steps,
            "sizes": _by_size(points, measure),
            **_answers(curve, measure),
            "hindsight": _hindsight(points, measure),
            "no_hindsight": _why_no_hindsight(points, pool),
            "diverged": diverged,
            "population": population.summary,
        }
        place.answer()
        workplace.write_json(place.path / _FIGURES, figures)
        plots.draw_learning_curve(
            place.path / _PICTURE, curve, label=measure.error_name, title=_title(config), asked=measure.asked
        )
        _print(figures, curve, measure)
        print(f"{place.path}/{_FIGURES}, {_PICTURE}")
    return command.DIVERGED if diverged else command.DONE


class _Measure:
    """What is followed over the sizes: accuracy, fitted as the error 1 - accuracy; or the mean squared error itself."""

    def __init__(self, pool: "Pool"):
        self.is_accuracy = pool.features.task == "classification"
        if self.is_accuracy and _TARGET.value is not None:
            raise UserError("--target: is for a regression; give --accuracy=SHARE")
        if not self.is_accuracy and _ACCURACY.value is not None:
            raise UserError("--accuracy: is for a classification; give --target=MSE")
        self.name = "accuracy" if self.is_accuracy else "mse"
        self.error_name = "1 - accuracy" if self.is_accuracy else "mean squared error"
        self.asked = None
        if self.is_accuracy and _ACCURACY.value is not None:
            self.asked = 1 - _ACCURACY.value
        elif not self.is_accuracy:
            self.asked = _TARGET.value

    def error(self, value: float) -> float:
        """The error that is fitted; its own inverse."""
        return 1 - value if self.is_accuracy else value

    def text(self, value: float) -> str:
        """A value as it is printed."""
        return f"{value:.4f}" if self.is_accuracy else f"{value:,.5g}"

    def range(self, interval: tuple[float, float, float]) -> str:
        """An interval as it is printed."""
        mean, low, high = map(self.text, interval)
        return f"{mean} ({low} to {high})"

    def interval(self, interval: tuple[float, float, float]) -> tuple[float, float, float]:
        """An interval of errors as one of the metric."""
        mean, low, high = self.errors(interval)
        return (1 - mean, 1 - high, 1 - low) if self.is_accuracy else (mean, low, high)

    def errors(self, interval: tuple[float, float, float]) -> tuple[float, float, float]:
        """An interval of errors, no wider than they go."""
        from diagnostics.statistics import within

        return within(interval, 0.0, 1.0 if self.is_accuracy else np.inf)


def _set_in_steps(config: "ml_collections.ConfigDict", clock: Any) -> None:
    """Writes all durations in steps, as they are for all rows, so that they are the same for each subset."""
    train, schedule = config.train, config.schedule
    for section, field in (
        (train, "evaluate_every"),
        (train, "log_every"),
        (train, "patience"),
        (schedule, "warmup"),
        (schedule, "rsqrt_timescale"),
    ):
        if section[field].strip():
            section[field] = f"{clock.steps(section[field], field)} steps"
    schedule.step_at = tuple(f"{clock.steps(text, 'schedule.step_at')} steps" for text in schedule.step_at)
    train.duration = f"{clock.total_steps} steps"


def _members(pool: "Pool", sizes: list[int], seeds: range) -> dict[tuple[int, int], "Member"]:
    """A training for each size and seed."""
    from data import subsets
    from trainers.members import Member

    train = pool.splits["train"]
    members = {}
    for seed in seeds:
        order = subsets.nested_order(pool.labels[train], seed=seed)
        for size in sizes:
            members[size, seed] = Member(
                name=f"{size} examples, seed {seed}",
                overrides={},
                seed=seed,
                train=np.sort(train[order[:size]]),
                held_out=pool.splits["test"],
                validation=pool.splits.get("validation", np.zeros(0, np.int64)),
            )
    return members


def _points(
    members: Mapping[tuple[int, int], "Member"], outcomes: Mapping[str, "Outcome"], measure: _Measure
) -> tuple[np.ndarray, list[str]]:
    """(n, 2) size and error of each training, and the names of those that diverged."""
    diverged = [member.name for member in members.values() if not outcomes[member.name].metrics]
    points = [
        (size, measure.error(outcomes[member.name].metrics[measure.name]))
        for (size, _), member in members.items()
        if outcomes[member.name].metrics
    ]
    return np.array(points).reshape(-1, 2), diverged


def _by_size(points: np.ndarray, measure: _Measure) -> list[dict[str, Any]]:
    from diagnostics.statistics import mean_interval

    return [
        {
            "examples": int(size),
            "values": [measure.error(error) for error in points[points[:, 0] == size, 1].tolist()],
            "mean": measure.interval(mean_interval(points[points[:, 0] == size, 1])),
        }
        for size in np.unique(points[:, 0])
    ]


def _answers(curve: "LearningCurve", measure: _Measure) -> dict[str, Any]:
    twice = 2 * int(curve.sizes.max())
    answers: dict[str, Any] = {
        "law": curve.parameters() | {"floor": measure.errors(curve.parameters()["floor"])},
        "doubts": curve.doubts(),
        "twice": {
            "examples": twice,
            "mean": measure.interval(curve.error(twice)),
            "one_training": measure.interval(curve.prediction(twice)),
        },
    }
    if measure.asked is not None:
        needed = curve.needed(measure.asked)
        answers["needed"] = {
            "for": measure.error(measure.asked),
            "examples": needed.examples,
            "low": needed.low,
            "high": needed.high,
            "reason": needed.reason,
        }
    return answers


def _hindsight(points: np.ndarray, measure: _Measure) -> dict[str, Any] | None:
    """What the sizes up to half of the rows say of all rows, beside what was measured there; None for too few sizes."""
    from diagnostics import learning_curve

    sizes, errors = points.T
    half = _up_to_half(sizes)
    if len(np.unique(sizes[half])) < _LEAST_SIZES:
        return None
    curve = learning_curve.fit(sizes[half], errors[half])
    said = measure.interval(curve.prediction(sizes.max()))
    measured = [measure.error(error) for error in errors[sizes == sizes.max()].tolist()]
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
            possible = np.array(subsets.sizes(rows, count, classes))
        except UserError:
            return f"{reason}; there are too few rows for more sizes"
        if _up_to_half(possible).sum() >= _LEAST_SIZES:
            return f"{reason}; {'the others diverged' if len(sizes) < _SIZES.value else f'give --sizes={count}'}"
    return reason


def _up_to_half(sizes: np.ndarray) -> np.ndarray:
    return sizes <= np.ceil(sizes.max() / 2)


def _print(figures: Mapping[str, Any], curve: "LearningCurve", measure: _Measure) -> None:
    name, text, interval = figures["metric"], measure.text, measure.range
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
        f"\n{measure.error_name} falls with the power {slowest:.2f} to {fastest:.2f} of the examples, "
        f"to a floor of {interval(figures['law']['floor'])}."
        + "".join(f"\nDo not believe it: {doubt}." for doubt in figures["doubts"])
    )
    twice = figures["twice"]
    single = " to ".join(map(text, twice["one_training"][1:]))
    print(
        f"Twice the data, {twice['examples']:,} examples: {name} {interval(twice['mean'])}; a single training {single}."
    )
    if measure.asked is not None:
        print(f"{name} {measure.error(measure.asked):g}: {_needed(curve.needed(measure.asked))}.")
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
