"""Converts images to ArrayRecord once, so that every run reads a few large files instead of many small ones.

    plumbline prepare --source=folder:photos --output=prepared/photos --runner=none
    python -m experiments.prepare --source=folder:photos --output=prepared/photos
    python -m experiments.prepare --source=folder:/mnt/photos --output=/mnt/prepared --runner=FlinkRunner -- \
        --flink_master=cluster:8081 --parallelism=64

Examples, classes, splits and order stay those of the folder, and images keep their bytes. Runs read the result with
--config.data.source=prepared:DIR.

Flags:
    --source=folder:PATH     images in PATH/<split>/<class>/ or PATH/<class>/, as for a training
    --output=DIR             folder to write; it appears when everything is written
    --runner=NAME            runner of Apache Beam: DirectRunner (this machine; the default), DataflowRunner,
                             FlinkRunner, SparkRunner or PortableRunner; or none: this machine, without Beam
    --shards=N               files of each split; by default the number that TFDS chooses
    --overwrite              delete the content of DIR
    -- OPTIONS               Beam's pipeline options

Apache Beam needs its own environment, in which the command is `python -m experiments.prepare`; see
docs/preparing_data.md.
"""

import shlex
import signal
import sys

from absl import flags

from experiments import command
from experiments.path_flags import define_path

_SOURCE = flags.DEFINE_string("source", None, "Source.")
_OUTPUT = define_path("output", None, "Folder to write.")
_RUNNER = flags.DEFINE_string("runner", "DirectRunner", "Runner of Apache Beam.")
_SHARDS = flags.DEFINE_integer("shards", 0, "Files of each split.", lower_bound=0)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Delete what the folder holds.")


def main(words: list[str]) -> None:
    """Prepares, and prints what is there and how to read it."""
    if words and not words[0].startswith("-"):
        command.refuse(words)
    command.require(source=_SOURCE.value, output=_OUTPUT.value)
    from data.preparing import prepare

    # Told to stop, it takes away what is half done.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sizes = prepare(
        _SOURCE.value,
        _OUTPUT.value,
        runner=_RUNNER.value,
        options=words,
        shards=_SHARDS.value,
        overwrite=_OVERWRITE.value,
        report=lambda entry: print(f"left out: {entry.describe()}", file=sys.stderr),
    )
    print(f"{_OUTPUT.value}: {', '.join(f'{number} images in {name}' for name, number in sizes.items())}")
    print(f"read it with --config.data.source={shlex.quote(f'prepared:{_OUTPUT.value}')}")


if __name__ == "__main__":
    command.run(main)
