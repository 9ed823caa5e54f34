"""Lists all runs below a folder in one table: status, config differences, metrics, and how to make each run again.

    plumbline runs runs
    plumbline runs runs --sort=-accuracy --format=csv > runs.csv

Columns are the fields in which the configs differ, the metrics, when the run started, the git commit of the checkout
(with a star where files differed from it) and the command that makes the run again; a run that was started from Python
has the name of its script, or none. Text and Markdown show the eight most telling fields: model, optimizer, schedule,
training and seed go before the others. Where runs differ in nothing but the seed, the mean over the seeds is given with
its 95 % interval (Student's t) and their number.

Flags:
    --split=NAME                     whose metrics to show; test by default. Runs in progress have a validation split
    --metrics=NAME,NAME              metrics to show; accuracy or r2, and loss, by default
    --fields=NAME,NAME               config fields to show, such as model.name; those that differ by default
    --sort=COLUMN                    sort by a column, such as started or optimizer.learning_rate; --sort=-COLUMN for
                                     descending order; by the name of the run by default
    --format=text|csv|markdown       csv has all columns and unrounded numbers; text by default

From Python, plumbline.runs(FOLDER) returns the table as a DataFrame.
"""

from absl import flags

from experiments import command
from plumbline import UserError

_SPLIT = flags.DEFINE_string("split", "test", "Split whose metrics to show.")
_METRICS = flags.DEFINE_list("metrics", [], "Metrics to show.")
_FIELDS = flags.DEFINE_list("fields", [], "Config fields to show.")
_SORT = flags.DEFINE_string("sort", "run", "Column to sort by.")
_FORMAT = flags.DEFINE_enum("format", "text", ["text", "csv", "markdown"], "Form of the table.")


def main(folders: list[str]) -> None:
    """Collects and prints."""
    if len(folders) > 1:
        raise UserError(f"runs: {len(folders)} folders given; give one, and flags as --sort=COLUMN")
    from reporting import run_records, run_table

    metrics = tuple(_METRICS.value)
    frame = run_records.runs(*folders, split=_SPLIT.value, sort=_SORT.value, metrics=metrics, fields=_FIELDS.value)
    print(run_table.render(frame, _FORMAT.value, metrics, all_fields=bool(_FIELDS.value)), end="")


if __name__ == "__main__":
    command.run(main)
