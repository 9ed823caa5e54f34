"""Scores sources to start from before anything is trained: are they relevant to this task?

    plumbline relevance --config=configs/digits_mlp.py --source=runs/A --source=runs/B

Flags:
    --config=FILE[:ARGUMENT]   a config file, for its data; --config.FIELD=VALUE changes a field
    --source=SOURCE            a source as in transfer.source; give the flag several times to compare several. Each
                               source brings its own model, and images or texts are prepared as it expects
    --workdir=DIR              output directory for relevance.json, relevance.png and relevance.svg; none by default
    --folds=K                  folds: of whole groups if the data have groups, else stratified by class (for a
                               regression shuffled); 5 by default
    --limit=N                  the most training and validation rows to use; of more, N are drawn, with the shares of
                               the classes kept; 0 uses all; 5000 by default
    --overwrite                replace earlier results in DIR of other sources, folds or rows; off by default

All layers of each source are scored, frozen; so are five random initialisations of the same models, and a simple
model without pretraining: logistic regression (for a regression, ridge) on TF-IDF of texts or on the raw inputs. All
use the same rows in the same folds, from the training and validation rows. The test split is not used.

Exit codes: 0 done, 2 an error that you can fix.
"""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import rich.console
import rich.table
from absl import flags
from ml_collections import config_flags

from experiments import command, output_directory
from experiments.path_flags import define_path, define_paths
from plumbline import UserError
from plumbline.files import write_json
from reporting import plot_style, population_plots

if TYPE_CHECKING:
    import ml_collections
    import numpy as np

    from diagnostics.transfer.compare_sources import Comparison
    from diagnostics.transfer.relevance import Candidate, Layer, Verdict

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
_SOURCES = define_paths("source", "What to start from.")
_WORKDIR = define_path("workdir", None, "Directory for the results.")
_FOLDS = flags.DEFINE_integer("folds", 5, "Folds.")
_LIMIT = flags.DEFINE_integer("limit", 5000, "Rows.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace results.")

_FIGURES, _PLOT = "relevance.json", "relevance"
_SECONDS_BETWEEN_LINES = 2.0
# Columns of a table that is not shown on a terminal.
_WIDTH = 200
_KINDS = {"group": "of whole groups", "stratified": "shuffled by class", "shuffled": "shuffled"}


def main(words: list[str]) -> None:
    """Scores, prints and writes."""
    command.refuse(words)
    command.require(config=_CONFIG.value)
    if not _SOURCES.value:
        raise UserError("--source: missing; give at least one, as in transfer.source: a run directory, say")
    for source in _SOURCES.value:
        if _SOURCES.value.count(source) > 1:
            raise UserError(f"--source: '{source}' is given twice; once is enough")
    if _FOLDS.value < 2:
        raise UserError(f"--folds: {_FOLDS.value} given; it must be at least 2")
    if _LIMIT.value < 0:
        raise UserError(f"--limit: {_LIMIT.value} given; it must be at least 1, or 0 for all rows")
    output_directory.exit_on_sigterm()
    if _WORKDIR.value is None:
        _compare(_CONFIG.value)
        return
    with output_directory.lock(_WORKDIR.value, _request(), overwrite=_OVERWRITE.value) as output:
        comparison, verdict = _compare(_CONFIG.value)
        output.claim()
        output.record_request()
        write_json(output.path / _FIGURES, _figures(comparison, verdict))
        plots = population_plots.draw_relevance(output.path, _PLOT, comparison)
        print(f"{output.path}/{', '.join((_FIGURES, *plots))}")


def _compare(config: "ml_collections.ConfigDict") -> tuple["Comparison", "Verdict"]:
    from diagnostics.transfer import compare_sources, relevance
    from trainers.devices import compilation

    began = time.monotonic()
    compilation.keep_programs(config.execution.compilation_cache, config.data.cache_dir)
    comparison = compare_sources.compare(
        config, _SOURCES.value, folds=_FOLDS.value, limit=_LIMIT.value, show=_lines_now_and_then()
    )
    verdict = relevance.judge(comparison.candidates, comparison.splits.task)
    _print(comparison, verdict)
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    return comparison, verdict


def _lines_now_and_then() -> Callable[[str], None]:
    last = 0.0

    def show(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    return show


def _request() -> output_directory.Request:
    config = _CONFIG.value
    settings = {"sources": ", ".join(_SOURCES.value), "data": config.data.source, "folds": _FOLDS.value}
    return output_directory.Request(
        command="relevance",
        settings=settings | {"limit": _LIMIT.value, "seed": config.seed},
        seeds=1,
        results=(_FIGURES, *plot_style.file_names(_PLOT)),
    )


def _print(comparison: "Comparison", verdict: "Verdict") -> None:
    from diagnostics.transfer import relevance

    splits, candidates = comparison.splits, comparison.candidates
    metric = "accuracy" if splits.task == "classification" else "R2"
    rows = []
    for candidate in candidates:
        value = relevance.score(candidate, splits.task)
        gap = verdict.differences.get(candidate.name)
        behind = "" if gap is None else _with_interval((-gap[0], -gap[2], -gap[1]), sign="+")
        rows.append([candidate.name, candidate.best.name, _with_interval(value), behind])
    _table(
        f"{len(comparison.rows):,} rows, {len(splits.folds)} folds {_KINDS[splits.kind]}; "
        "linear probe of the best layer",
        ["candidate", "best layer", f"{metric} (95 %)", f"against {verdict.take} (95 %)"],
        rows,
    )
    rows = [[each.name, *_cells(layer, splits.task, each.overlap)] for each in candidates for layer in each.layers]
    _table(
        "by layer",
        ["candidate", "layer", "size", f"probe {metric} (95 %)", f"neighbours {metric} (95 %)", "LogME (95 %)"],
        rows,
    )
    for line in (*verdict.lines, *verdict.warnings, *comparison.remarks):
        print(f"{line}\n")
    if len(comparison.rows) < comparison.num_rows:
        print(f"{len(comparison.rows):,} of {comparison.num_rows:,} rows were drawn (--limit).")
    print(f"The {comparison.num_test:,} rows of the test split were not used.")


def _cells(layer: "Layer", task: str, overlap: float) -> list[str]:
    from diagnostics.transfer import relevance

    scores = [
        "" if values is None else _with_interval(relevance.interval(values, task, overlap))
        for values in (layer.probe, layer.neighbours)
    ]
    evidence = "" if layer.logme is None else _with_interval(layer.logme)
    return [layer.name, str(layer.size or ""), *scores, evidence]


def _with_interval(found: Sequence[float], sign: str = "") -> str:
    # The addition makes +0 of -0.
    mean, low, high = (round(value, 4) + 0.0 for value in found)
    return f"{mean:{sign}.4f}" + (f" ({low:{sign}.4f} to {high:{sign}.4f})" if math.isfinite(low) else "")


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = rich.table.Table(title=title, title_justify="left")
    for number, name in enumerate(head):
        table.add_column(name, overflow="fold", justify="left" if number < 2 else "right")
    for row in rows:
        table.add_row(*row)
    console = rich.console.Console() if sys.stdout.isatty() else rich.console.Console(width=_WIDTH, soft_wrap=True)
    console.print(table)


def _figures(comparison: "Comparison", verdict: "Verdict") -> Mapping[str, Any]:
    from diagnostics.transfer import relevance

    splits = comparison.splits

    def score(values: "np.ndarray | None", overlap: float) -> dict[str, Any] | None:
        if values is None:
            return None
        mean, low, high = relevance.interval(values, splits.task, overlap)
        return {"mean": mean, "low": low, "high": high, "values": values.tolist()}

    def probe(candidate: "Candidate") -> dict[str, Any]:
        mean, low, high = relevance.score(candidate, splits.task)
        draws = {} if candidate.draws is None else {"draws": candidate.draws.tolist()}
        return {"mean": mean, "low": low, "high": high, "values": candidate.values().tolist(), **draws}

    def figures(candidate: "Candidate") -> dict[str, Any]:
        return {
            "name": candidate.name,
            "kind": candidate.kind,
            "random": candidate.random,
            "probe": probe(candidate),
            "best_layer": candidate.best.name,
            "cut": candidate.cut.name,
            "layers": [
                {
                    "name": layer.name,
                    "size": layer.size,
                    "probe": score(layer.probe, candidate.overlap),
                    "neighbours": score(layer.neighbours, candidate.overlap),
                    "logme": layer.logme,
                }
                for layer in candidate.layers
            ],
        }

    return {
        "metric": "accuracy" if splits.task == "classification" else "r2",
        "rows": len(comparison.rows),
        "of_rows": comparison.num_rows,
        "test_rows_untouched": comparison.num_test,
        "folds": {"count": len(splits.folds), "kind": splits.kind},
        "candidates": [figures(candidate) for candidate in comparison.candidates],
        "verdict": {
            "take": verdict.take,
            "layer": verdict.layer,
            "cut": verdict.cut,
            "differences": verdict.differences,
            "lines": verdict.lines,
            "warnings": verdict.warnings,
        },
        "remarks": comparison.remarks,
    }


if __name__ == "__main__":
    command.run(main)
