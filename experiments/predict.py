"""Prints the predictions of a run, one JSON line for each example.

    plumbline predict --workdir=runs/digits image.png folder/
    plumbline predict --workdir=runs/census people.csv --output=predictions.csv
    plumbline predict --workdir=runs/digits --split=test --limit=3

Inputs are image or text files, folders of them, or tables (CSV or Parquet) with or without the target column. A run on
texts in a column of a table takes such tables or text files. Of a folder, the files count that count in training, with
those in folders below it. Images and texts that cannot be read are named on standard error, and all others are
predicted; the exit code is 2 only if there are none.

Flags:
    --workdir=DIR                the run directory
    --split=NAME                 predict a split of the run's own data instead of inputs
    --limit=N                    predict only the first N examples
    --checkpoint=best|last       which parameters: the best on the validation split (the default), or the last
    --output=FILE.csv            write a CSV file instead
"""

import csv
import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from absl import flags

from experiments import command
from experiments.path_flags import check_output, define_path
from plumbline import UserError, pluralize
from plumbline.files import replace_atomically

if TYPE_CHECKING:
    from data.prediction import Notes
    from trainers.run.inference import FinishedRun

_WORKDIR = define_path("workdir", None, "Run directory.")
_SPLIT = flags.DEFINE_string("split", None, "Split of the run's own data.")
_LIMIT = flags.DEFINE_integer("limit", None, "Only the first examples.", lower_bound=1)
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Which parameters.")
_OUTPUT = define_path("output", None, "CSV file.")


def main(inputs: list[str]) -> None:
    """Predicts and prints."""
    command.require(workdir=_WORKDIR.value)
    if bool(inputs) == bool(_SPLIT.value):
        raise UserError("predict: name inputs (images, texts, folders, tables) or a --split, one of the two")
    check_output(_OUTPUT.value, (".csv", ""))
    from trainers.run.inference import FinishedRun

    run = FinishedRun(_WORKDIR.value, checkpoint=_CHECKPOINT.value)
    predictions = run.predict_split(_SPLIT.value) if _SPLIT.value else _predict_inputs(run, inputs)
    predictions = itertools.islice(predictions, _LIMIT.value)
    if _OUTPUT.value:
        number = _write_csv(_OUTPUT.value, predictions)
        print(f"{_OUTPUT.value}: {pluralize(number, 'prediction')}")
    else:
        for prediction in predictions:
            print(json.dumps(prediction), flush=True)


def _predict_inputs(run: "FinishedRun", inputs: list[str]) -> Iterator[dict[str, Any]]:
    """Predicts the inputs that can be read, and names the others on standard error.

    Raises:
      UserError: none can be read.
    """
    from data.prediction import Notes

    notes, shown, answered = Notes(), 0, False
    for prediction in run.predict(inputs, notes):
        if not answered:
            for entry in notes.left_out:
                print(f"left out: {' '.join(entry.describe().split())}", file=sys.stderr)
        shown, answered = _print_unreadable(notes, shown), True
        yield prediction
    if not answered and notes.unreadable:
        others = len(notes.unreadable) - 1
        more = f" (and {pluralize(others, 'other input')} cannot be read either)" if others else ""
        raise UserError(f"{notes.unreadable[0]}{more}")
    _print_unreadable(notes, shown)


def _print_unreadable(notes: "Notes", shown: int) -> int:
    """Prints the errors from the one at `shown` on. Returns the number of all."""
    for error in notes.unreadable[shown:]:
        print(f"not predicted: {' '.join(str(error).removeprefix('inputs: ').split())}", file=sys.stderr)
    return len(notes.unreadable)


def _write_csv(path: str, predictions: Iterator[Mapping]) -> int:
    """Writes a column for each field, and one for the probability of each class. Returns the number of rows."""
    number = 0
    with replace_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = None
        for prediction in predictions:
            probabilities = prediction.pop("probabilities", {})
            row = prediction | {f"probability {name}": value for name, value in probabilities.items()}
            writer = writer or _with_header(file, row)
            writer.writerow(row)
            number += 1
    return number


def _with_header(file: object, row: Mapping) -> csv.DictWriter:
    writer = csv.DictWriter(file, list(row))
    writer.writeheader()
    return writer


if __name__ == "__main__":
    command.run(main)
