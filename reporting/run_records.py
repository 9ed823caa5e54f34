"""All runs below a folder as a DataFrame: a row for each run, with intervals over the seeds of one config."""

import json
import os
import pathlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas

from diagnostics.statistics import mean_interval, within
from plumbline import UserError, provenance, unknown_name
from plumbline.files import describe_missing, expand_home
from trainers.run.directory import RunDirectory
from trainers.run.evaluation import overall
from trainers.run.identity import defining_fields
from trainers.step.objectives import bounds

# A run directory has both.
_FILES = ("config.json", "features.json")
# A data set has no other splits.
_SPLITS = ("train", "validation", "test")
# What tells runs apart, the most telling first; other fields come after these, in their order.
_TELLING = ("model.name", "optimizer.", "schedule.", "train.", "seed")
# Folders of a run that hold no other run.
_NOT_SEARCHED = ("checkpoints", "tensorboard")
CONFIG = "config."
"""What the names of columns that hold a config field begin with."""


def runs(
    folder: str | os.PathLike = ".",
    *,
    split: str = "test",
    sort: str = "run",
    metrics: str | Sequence[str] = (),
    fields: str | Sequence[str] = (),
) -> pandas.DataFrame:
    """Collects all runs below a folder.

    Args:
      folder: searched with all folders in it.
      split: whose metrics are taken: the final ones of a finished run, else the latest in `metrics.jsonl`.
      sort: the column to sort by, ascending; with a minus in front, descending.
      metrics: one or several names; all that are not of single classes or groups by default.
      fields: one or several config fields; those in which the runs differ by default.

    Returns:
      A row for each run:

      - `run` (its path below the folder), `status` and `step`;
      - `config.FIELD` for each field of the config in which the runs differ, the most telling ones first, None where a
        config has no such field;
      - `seeds`: how many seeds of the same config are done;
      - the metrics and, where a config has several seeds, `METRIC mean`, `METRIC low` and `METRIC high` over them
        (Student's t, 95 %);
      - `started` (UTC), `seconds`, `commit`, `dirty`, `folder` and `command`, where they were recorded. A run that was
        started at several commits names them all.

    Raises:
      UserError: there is no such folder, or it holds no run; or no split, column, metric or field has such a name.
    """
    if split not in _SPLITS:
        raise unknown_name("--split", split, _SPLITS)
    metrics, fields = ([names] if isinstance(names, str) else list(names) for names in (metrics, fields))
    root = pathlib.Path(expand_home(folder))
    if not root.is_dir():
        raise UserError(f"runs: {describe_missing(root)}; give a folder that holds run directories")
    records = [_record(path, root, split) for path in sorted(_run_directories(root))]
    if not records:
        raise UserError(f"runs: no run in '{folder}' or below it; give a folder that holds run directories")
    known = list(dict.fromkeys(name for record in records for name in record["metrics"]))
    for name in metrics:
        if name not in known:
            raise unknown_name("--metrics", name, known)
    known_fields = {name for record in records for name in record["config"]}
    for name in fields:
        if name not in known_fields:
            raise unknown_name("--fields", name, known_fields)
    frame = _frame(records, metrics or known, fields or _differing(records))
    column = sort.removeprefix("-")
    found = column if column in frame else f"{CONFIG}{column}"
    if found not in frame:
        raise unknown_name("--sort", column, [name.removeprefix(CONFIG) for name in frame])
    key = None if pandas.api.types.is_numeric_dtype(frame[found]) or found == "started" else _text_key
    return frame.sort_values(found, ascending=column == sort, key=key, kind="stable", ignore_index=True)


def _frame(records: list[dict[str, Any]], metrics: list[str], fields: list[str]) -> pandas.DataFrame:
    """The table of the records; see `runs`."""
    # Of runs that are alike in all, their seed included, one counts: they are no independent values.
    groups: dict[str, dict[Any, dict[str, Any]]] = defaultdict(dict)
    for record in records:
        if record["status"] == "done":
            groups[_identity(record["config"])].setdefault(record["config"]["seed"], record)
    several = any(len(group) > 1 for group in groups.values())
    rows = []
    for record in records:
        group = groups.get(_identity(record["config"]), {}).values()
        row = {name: record[name] for name in ("run", "status", "step")}
        row |= {f"{CONFIG}{name}": _plain(record["config"].get(name)) for name in fields}
        row["seeds"] = len(group)
        for name in metrics:
            row[name] = record["metrics"].get(name)
            if several:
                values = [other["metrics"][name] for other in group if other["metrics"].get(name) is not None]
                interval = within(mean_interval(values), *bounds(name)) if values else (None, None, None)
                row |= dict(zip((f"{name} mean", f"{name} low", f"{name} high"), interval, strict=True))
        rows.append(row | record["origin"])
    frame = pandas.DataFrame(rows)
    numbers = [
        name for name in frame if name.removesuffix(" mean").removesuffix(" low").removesuffix(" high") in metrics
    ]
    return frame.astype(dict.fromkeys([*numbers, "seconds"], float))


def _run_directories(root: pathlib.Path) -> Iterator[pathlib.Path]:
    for path, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _NOT_SEARCHED and name[0] != "."]
        if set(_FILES) <= set(files):
            yield pathlib.Path(path)


def _record(path: pathlib.Path, root: pathlib.Path, split: str) -> dict[str, Any]:
    """What the files of a run say; one that cannot be read has the status "damaged" or "newer version"."""
    directory = RunDirectory(path, writes=False)
    record = {"run": str(path.relative_to(root)), "status": "", "step": 0, "config": {}, "metrics": {}}
    record["origin"] = {"started": pandas.NaT, "seconds": None, "commit": None, "dirty": None}
    record["origin"] |= {"folder": None, "command": None}
    try:
        record["config"] = defining_fields(directory.config().to_dict())
        status = directory.status()
        record["step"] = status.get("step", 0)
        summary = directory.summary() if status.get("status") == "done" else {}
        found = summary["metrics"].get(split, {}) if summary else directory.last_metrics(split)
        record["metrics"] = {name: value for name, value in overall(found).items() if isinstance(value, int | float)}
        record["origin"] |= {"seconds": summary.get("total_seconds"), **_origin(directory)}
        record["status"] = status.get("status", "not begun")
    except (UserError, KeyError, TypeError, AttributeError):
        record["status"] = "newer version" if _is_newer(directory) else "damaged"
    return record


def _is_newer(directory: RunDirectory) -> bool:
    try:
        return provenance.is_newer(directory.provenance())
    except UserError:
        return False


def _origin(directory: RunDirectory) -> dict[str, Any]:
    """When, from which commits and by which command a run was made."""
    starts = directory.provenance().get("starts", [])
    if not starts:
        lines = directory.metrics()
        return {"started": pandas.to_datetime(lines[0]["time"] if lines else None, unit="s", utc=True)}
    commits = list(dict.fromkeys(start["commit"] or "none" for start in starts))
    return {
        "started": pandas.to_datetime(starts[0]["time"], unit="s", utc=True),
        "commit": ", ".join(commits),
        "dirty": any(start["dirty"] for start in starts),
        "folder": starts[0]["folder"],
        "command": _command(directory, starts),
    }


def _command(directory: RunDirectory, starts: Sequence[Mapping[str, Any]]) -> str:
    """What makes a run again: the command that began it, and then the one that began each extension."""
    commands = [starts[0]["command"]]
    for extension in directory.extensions():
        later = next((start["command"] for start in starts[1:] if start["time"] >= extension["time"]), None)
        commands += [later] if later else []
    return provenance.INTERACTIVE if provenance.INTERACTIVE in commands else " && ".join(commands)


def _differing(records: list[dict[str, Any]]) -> list[str]:
    """The fields of which configs have different values, the most telling first."""
    values: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for name, value in record["config"].items():
            values[name].add(repr(value))
    return sorted((name for name, different in values.items() if len(different) > 1), key=_rank)


def _rank(field: str) -> int:
    """The place of a field among `_TELLING`."""
    return next((place for place, start in enumerate(_TELLING) if field.startswith(start)), len(_TELLING))


def _identity(config: Mapping[str, Any]) -> str:
    """The same for configs that differ in nothing but the seed."""
    return json.dumps({name: value for name, value in config.items() if name != "seed"}, sort_keys=True, default=str)


def _plain(value: Any) -> Any:
    """A value for one cell: numbers, texts and truth values as they are, lists as text."""
    return str(value) if isinstance(value, tuple | list | dict) else value


def _text_key(column: pandas.Series) -> pandas.Series:
    """Sorts texts and mixed values by what they look like, missing ones last."""
    return column.map(lambda value: None if value is None else str(value))
