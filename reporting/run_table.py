"""The table of runs as text, CSV or Markdown."""

import math
import pathlib
import shlex
import sys

import pandas
import rich.console
import rich.table
import rich.text

from diagnostics.phrases import choose
from plumbline import pluralize, provenance, unknown_name
from reporting.formatting import plain
from reporting.run_records import CONFIG

FORMATS = ("text", "csv", "markdown")

# Fields that text and Markdown show unless they are named; more would not fit on a line.
_MOST_FIELDS = 8
_LAST = ("started", "commit", "command")
# Of these, text shows those that a table has, unless metrics are named.
_SHOWN_METRICS = ("accuracy", "r2", "perplexity", "loss")
_SHORT_COMMIT = 7


def render(frame: pandas.DataFrame, form: str, metrics: tuple[str, ...] = (), *, all_fields: bool = False) -> str:
    """Formats the table.

    Args:
      frame: from `run_records.runs`.
      form: one of `FORMATS`.
      metrics: that "text" and "markdown" show; accuracy or R2, and loss, by default. "csv" has all columns.
      all_fields: "text" and "markdown" show all config fields of the table, not only the first ones.

    Raises:
      UserError: there is no such format.
    """
    if form not in FORMATS:
        raise unknown_name("--format", form, FORMATS)
    if form == "csv":
        return frame.to_csv(index=False)
    fields = [name for name in frame if name.startswith(CONFIG)]
    shown = fields if all_fields else fields[:_MOST_FIELDS]
    cells = _cells(frame, shown, metrics or tuple(name for name in _SHOWN_METRICS if name in frame))
    table, remarks = (_markdown if form == "markdown" else _text)(cells), []
    if left_out := len(fields) - len(shown):
        differ = choose(left_out, "differs", "differ")
        remarks.append(
            f"{pluralize(left_out, 'more field')} {differ}; --fields=NAME,NAME chooses fields, --format=csv shows all"
        )
    folders = frame["folder"].dropna().unique()
    if len(folders) == 1 and folders[0] != str(pathlib.Path.cwd()):
        remarks.append(f"commands were run in {plain(folders[0])}")
    # Markdown takes a line right after a table for a row of it.
    return table + "".join(f"\n{line}\n" if form == "markdown" else f"{line}\n" for line in remarks)


def _cells(frame: pandas.DataFrame, fields: list[str], metrics: tuple[str, ...]) -> pandas.DataFrame:
    """The columns to show, each cell as text."""
    table = {"run": frame["run"], "status": frame["status"], "step": frame["step"]}
    table |= {name.removeprefix(CONFIG): frame[name] for name in fields}
    for name in metrics:
        table[name] = frame[name]
        if f"{name} mean" in frame:
            bounds = zip(
                frame[f"{name} mean"], frame[f"{name} low"], frame[f"{name} high"], frame["seeds"], strict=True
            )
            table[f"{name} over seeds"] = [_interval(*values) for values in bounds]
    table |= {name: frame[name] for name in _LAST if not frame[name].isna().all()}
    if "command" in table:
        several = frame["folder"].nunique() > 1
        table["command"] = [_command(*pair, several) for pair in zip(frame["command"], frame["folder"], strict=True)]
    if "started" in table:
        table = {("started (UTC)" if name == "started" else name): column for name, column in table.items()}
    if "commit" in table:
        table["commit"] = [_commit(*pair) for pair in zip(frame["commit"], frame["dirty"], strict=True)]
    return pandas.DataFrame({name: [_cell(value) for value in column] for name, column in table.items()})


def _interval(mean: float, low: float, high: float, seeds: int) -> str:
    if seeds < 2 or math.isnan(mean):
        return ""
    return f"{mean:.4g} [{low:.4g}, {high:.4g}] ({seeds})"


def _commit(commit: str | None, dirty: bool | None) -> str:
    """Short hashes, with a star where files differ from the commit."""
    if not isinstance(commit, str):
        return ""
    return ", ".join(each[:_SHORT_COMMIT] for each in commit.split(", ")) + ("*" if dirty else "")


def _command(command: str | None, folder: str | None, several: bool) -> str:
    """The command that makes a run again, from its folder where there are several; a remark if there is none."""
    if not isinstance(command, str):
        return ""
    if command == provenance.INTERACTIVE:
        return "none (interactive Python)"
    return f"cd {shlex.quote(folder)} && {command}" if several and isinstance(folder, str) else command


def _cell(value: object) -> str:
    if value is None or value is pandas.NaT or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, pandas.Timestamp):
        return f"{value.tz_convert(None) if value.tz else value:%Y-%m-%d %H:%M}"
    return f"{value:.4g}" if isinstance(value, float) else plain(str(value))


def _markdown(cells: pandas.DataFrame) -> str:
    rows = [list(cells.columns), ["---"] * len(cells.columns), *cells.to_numpy().tolist()]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)


def _text(cells: pandas.DataFrame) -> str:
    """A table with lines on a terminal, plain columns elsewhere."""
    if sys.stdout.isatty():
        table = rich.table.Table()
        for name in cells:
            table.add_column(rich.text.Text(name), overflow="fold")
        for row in cells.to_numpy().tolist():
            table.add_row(*map(rich.text.Text, row))
        console = rich.console.Console()
        with console.capture() as captured:
            console.print(table)
        return captured.get()
    rows = [list(cells.columns), *cells.to_numpy().tolist()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)
