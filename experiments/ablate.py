"""Trains the variants of a config's `ablations()` and compares each with the baseline on the same seeds and test rows.

    plumbline ablate --config=configs/digits_resnet.py --workdir=runs/ablations --seeds=5

Flags:
    --config=FILE[:ARGUMENT]   a config file with `ablations()`: a dict from the name of a variant to its overrides, a
                               dict from config path to value, with 'baseline': {}; --config.FIELD=VALUE changes a
                               field for all variants
    --workdir=DIR              output directory: new, empty, or of an earlier start of this command, which is resumed;
                               more seeds and variants may be added
    --seeds=S                  trainings of each variant, from config.seed on; 5 by default
    --overwrite                delete earlier results in DIR and train again; off by default

Every variant is trained as by `plumbline train`, on the same splits and seeds, and evaluated on the test split.
Intervals are over seeds and test rows together: they hold for other seeds and for other test rows of the same kind. (Of
a language model, or of a metric other than accuracy and the squared error, they are over seeds alone, as the caption
says.) Those of differences hold together for all variants. The validation rows choose the step of each training and the
variant that the caption names as best; test rows choose nothing.

Writes ablations.md, ablations.png, ablations.svg and ablations.json. How trainings are executed follows from the model
and the device, not from timing, so that the same command on the same machine gives the same table to the last digit.

Exit codes: 0 done, 2 an error that you can fix, 42 preempted (run the same command again).
"""

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import config_flags

from experiments import command, output_directory, recipes
from experiments.path_flags import define_path
from experiments.populations import use_a_device_per_core
from plumbline import UserError, pluralize
from plumbline.files import write_json, write_text
from reporting import plot_style, population_plots

if TYPE_CHECKING:
    import ml_collections

    from data.pool import Pool
    from diagnostics.ablation import JudgedRows, Row, Variants

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
_WORKDIR = define_path("workdir", None, "Directory for the results.")
_SEEDS = flags.DEFINE_integer("seeds", 5, "Trainings of each variant.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Train again.")

_TABLE, _PLOT, _FIGURES = "ablations.md", "ablations", "ablations.json"
_ALONE = "One seed gives no interval: a difference may be chance. Give --seeds=5."
# Models of small matrix products, for which one program of several steps is faster on a CPU; others use a loop.
_DENSE = ("linear", "mlp")


def main(words: list[str]) -> None:
    """Trains, writes the tables and prints one."""
    command.refuse(words)
    command.require(config=_CONFIG.value, workdir=_WORKDIR.value)
    if _SEEDS.value < 1:
        raise UserError(f"--seeds: {_SEEDS.value} given; it must be at least 1")
    ablations = recipes.find_function("ablations")
    if ablations is None:
        raise recipes.missing_function("ablations", "a dict from a variant's name to its overrides")
    output_directory.exit_on_sigterm()
    use_a_device_per_core()
    _ablate(_CONFIG.value, ablations())


def _ablate(config: "ml_collections.ConfigDict", ablations: object) -> None:
    import jax

    from data.pool import load_pool
    from diagnostics import ablation
    from trainers.populations.population import Population
    from trainers.run import transfer
    from trainers.step import objectives

    variants = ablation.check(ablations, config)
    if config.population.mode == "auto":
        on_cpu = jax.default_backend() == "cpu"
        config.population.mode = ("map" if config.model.name in _DENSE else "loop") if on_cpu else "vmap"
    with output_directory.lock(_WORKDIR.value, _request(variants), overwrite=_OVERWRITE.value) as output:
        config = transfer.resolve(config)
        pool = load_pool(config.data, seed=config.seed)
        bins = config.evaluation.calibration_bins
        objective = objectives.build(config.objective.name, pool.features, calibration_bins=bins)
        metric = objective.best_metric
        seeds = range(config.seed, config.seed + _SEEDS.value)
        output.claim()
        population = Population(config, pool, directory=output.path)
        judged = ablation.JudgedRows.of(pool, pool.splits["test"], metric)
        outcomes = population.train(ablation.make_members(pool, variants, seeds), predict=judged is not None)
        better = objective.higher_is_better(metric)
        rows = ablation.rows(variants, seeds, outcomes, metric, higher_is_better=better, judged=judged)
        head, cells = ablation.header(metric, variants), [ablation.cells(row) for row in rows]
        table = ablation.markdown(head, cells)
        output.record_request()
        write_text(output.path / _TABLE, f"{table}\n{_caption(rows, seeds, pool, judged)}\n")
        figures = {"metric": metric, "seeds": list(seeds), "variants": [_figures(row) for row in rows]}
        figures |= {"trainings": ablation.all_metrics(outcomes), "population": population.summary}
        write_json(output.path / _FIGURES, figures)
        title = f"{len(seeds)} seeds, paired" if len(seeds) > 1 else "1 seed"
        plots = population_plots.draw_table(output.path, _PLOT, title, head, cells)
        alone = "" if len(seeds) > 1 else f"{_ALONE}\n\n"
        print(f"{table}\n{alone}{output.path}/{_TABLE}, {', '.join(plots)}, {_FIGURES}")


def _request(variants: "Variants") -> output_directory.Request:
    from diagnostics import ablation

    return output_directory.Request(
        command="ablate",
        settings={f"'{name}'": ablation.changes(overrides) or "the config" for name, overrides in variants.items()},
        seeds=_SEEDS.value,
        results=(_TABLE, *plot_style.file_names(_PLOT), _FIGURES),
    )


def _caption(rows: Sequence["Row"], seeds: Sequence[int], pool: "Pool", judged: "JudgedRows | None") -> str:
    """Formats the text below the table: the command that makes it, and how to read it."""
    words = ["plumbline", "ablate", *sys.argv[1:]]
    diverged = [f"{row.name}: seed {', '.join(map(str, row.diverged))}" for row in rows if row.diverged]
    test = f"the {len(pool.splits['test'])} test examples"
    if len(seeds) == 1:
        reading = f"Seed {seeds[0]} on {test}. {_ALONE}"
    else:
        over = "over the seeds alone, which say nothing of other test examples"
        if judged is not None:
            groups = "" if judged.groups is None else f" of {pluralize(len(set(judged.groups.tolist())), 'group')}"
            over = f"over the seeds and the test examples{groups}"
        reading = (
            f"Means over the seeds {seeds[0]} to {seeds[-1]} on {test}, with intervals {over}; differences are paired, "
            "and their intervals hold together for all variants."
        )
    lines = [
        f"`{shlex.join(words)}`",
        "",
        reading,
        *_choice(rows, len(pool.splits.get("validation", ()))),
        *([f"Diverged: {'; '.join(diverged)}."] if diverged else []),
    ]
    return "\n".join(lines)


def _choice(rows: Sequence["Row"], num_validation: int) -> list[str]:
    """Says which variant the validation rows choose, if there are any."""
    from diagnostics import ablation

    best = ablation.chosen(rows) if num_validation else None
    if best is None:
        return []
    return [
        f"Chosen by the {num_validation} validation examples, as the best mean over the seeds: {best.name}. No test "
        "example took part in the choice."
    ]


def _figures(row: "Row") -> Mapping[str, Any]:
    return {
        "name": row.name,
        "changes": row.changes,
        "values": {str(seed): value for seed, value in row.values.items()},
        "mean": row.mean,
        "difference": row.difference,
        "validation": row.validation,
        "verdict": row.verdict,
        "diverged": list(row.diverged),
    }


if __name__ == "__main__":
    command.run(main)
