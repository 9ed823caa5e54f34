"""The results of a search as files: `trials.csv` and `summary.json`."""

import csv
import io
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from plumbline.files import write_json, write_text
from tuning.results import Metric, Results

TRIALS, SUMMARY = "trials.csv", "summary.json"
# Best trials listed in the summary.
_BEST = 10


def write_trials(results: Results, path: pathlib.Path) -> None:
    """Writes a row for each trial: number, status, metrics with intervals, config fields, and the reason of a failure.

    Args:
      results: of the search.
      path: of the file.
    """
    names = sorted({name for record in results.records for name in record.overrides})
    scores = sorted({name for record in results.records for name in record.attributes.get("scores", {})})
    others = [name for name in scores if name not in {metric.name for metric in results.metrics}]
    rows = []
    for record in results.records:
        row: dict[str, Any] = {"trial": record.number, "status": record.status}
        for metric in results.metrics if record.status == "done" else ():
            mean, low, high = results.interval(record, metric)
            row |= {metric.label: mean, f"{metric.label} low": _finite(low), f"{metric.label} high": _finite(high)}
        for name in others if record.status == "done" else ():
            if name in record.attributes["scores"]:
                row[name] = results.interval(record, Metric(name=name, higher_is_better=True))[0]
        row |= {"parameters": record.attributes.get("parameters", ""), "step": record.attributes.get("step", "")}
        row |= {name: record.overrides.get(name, "") for name in names}
        rows.append({**row, "reason": record.reason})
    metrics = [f"{metric.label}{end}" for metric in results.metrics for end in ("", " low", " high")]
    columns = dict.fromkeys(["trial", "status", *metrics, *others, "parameters", "step", *names, "reason"])
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_summary(results: Results, path: pathlib.Path, *, population: Mapping[str, Any]) -> None:
    """Writes the printed figures and the cost of the trainings as JSON.

    Args:
      results: of the search.
      path: of the file.
      population: `Population.summary`.
    """
    margin = results.margin()
    best = results.front() if len(results.metrics) > 1 else results.done[:_BEST]
    summary = {
        "trials": {
            status: sum(record.status == status for record in results.records)
            for status in ("done", "pruned", "failed", "running", "waiting")
        },
        "metrics": [metric.label for metric in results.metrics],
        "folds": results.folds,
        "seeds": results.seeds,
        "best": [
            {
                "trial": record.number,
                "overrides": dict(record.overrides),
                "metrics": {metric.label: results.interval(record, metric) for metric in results.metrics},
            }
            for record in best
        ],
        "margin": margin
        and {
            "winner": margin.winner,
            "second": margin.second,
            "difference": margin.difference,
            "within_noise": margin.within_noise,
        },
        "held_out": results.held_out(),
        "population": dict(population),
    }
    write_json(path, summary)


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value
