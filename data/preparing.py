"""Conversion of an image folder to ArrayRecord shards for TFDS, on one machine or, with Apache Beam, on many.

Rows are listed once, and a shard is a range of rows. So shards are written independently, nothing is shuffled between
machines, and a writer holds one image at a time. Image files are stored unchanged; rows, classes and splits are those
of the folder.
"""

import contextlib
import dataclasses
import difflib
import importlib.util
import io
import json
import logging
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ml_collections
import numpy as np

from data import images
from data.images import CorruptImageError
from data.input_files import LeftOut, UnreadableFileError, merge_left_out
from data.sources import prepared
from data.sources.folder import FileRecords, FolderSource
from data.sources.source import Part
from data.sources.tfds import TfdsRecords
from plumbline import UserError, unknown_name
from plumbline.files import replace_atomically

# Supported runners of Apache Beam, and "none": threads of this process, without Beam.
RUNNERS = ("DirectRunner", "DataflowRunner", "FlinkRunner", "SparkRunner", "PortableRunner", "none")
NAME, VERSION = "plumbline_images", "1.0.0"
# Number of files whose sizes are read to estimate the size of a split.
_SAMPLED_FILES = 1024


def prepare(
    source: str,
    output: str | os.PathLike,
    *,
    runner: str = "DirectRunner",
    options: Sequence[str] = (),
    shards: int = 0,
    overwrite: bool = False,
    report: Callable[[LeftOut], None] = lambda entry: None,
) -> dict[str, int]:
    """Writes a source as ArrayRecord, with the metadata TFDS needs; it is read as `prepared:DIR`.

    The folder `output` is created atomically. If it already has the result, nothing is done.

    Args:
      source: "folder:PATH".
      output: folder to write.
      runner: one of `RUNNERS`. Runners other than "none" and "DirectRunner" may start workers on other machines. These
        must see both folders under the same paths and be able to import this module.
      options: pipeline options of Beam, as on a command line.
      shards: number of files of each split; 0 for the rule of TFDS (64 MiB to 1 GiB each, if possible at most 1024).
      overwrite: whether other content of `output` is deleted.
      report: called with the files of the source that are not used.

    Returns:
      Number of images in each split.

    Raises:
      UserError: an argument is invalid, or images cannot be read.
    """
    pipeline = None if runner == "none" and not options else _pipeline(runner, options)
    folder = _open(source)
    output = _check_output(output, source)
    parts = {name: _part(folder, name) for name in folder.part_names}
    sizes = {name: len(part) for name, part in parts.items()}
    for entry in merge_left_out(
        [*folder.unlabelled.values(), *(entry for part in parts.values() for entry in part.left_out)]
    ):
        report(entry)
    facts = _facts(folder, parts)
    lengths = {name: _shard_lengths(name, part, shards) for name, part in parts.items()}
    if not overwrite and _is_prepared(output, facts, lengths if shards else None):
        return sizes
    try:
        with replace_atomically(output) as temporary:
            temporary.mkdir()
            work = temporary.parent / "parts"
            write, tasks = _plan(folder, parts, lengths, work)
            _run(write, tasks, pipeline)
            _refuse_unreadable(write)
            _finish(write, facts, lengths, work, temporary)
            _check(parts, temporary)
            if output.exists() and any(output.iterdir()):
                # A folder cannot be renamed over another one. Move the old one into the temporary folder, which is
                # deleted.
                os.replace(output, temporary.parent / "old")
    except OSError as error:
        raise UserError(f"--output: '{output}' cannot be written ({error}); fix that or name another folder") from None
    return sizes


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """One file to write.

    Attributes:
      split: name of the split.
      path: path of the file.
      start: first row.
      stop: row after the last one.
    """

    split: str
    path: str
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class WriteShard:
    """Writes one file. Workers receive this object, whose size does not depend on the number of rows.

    Attributes:
      roots: image folder of each split.
      listings: for each split, the `.npy` file with the names of its images, relative to the folder.
      ends: for each split, the cumulative number of rows after each class.
      class_names: names of all classes.
      unreadable: folder for one note per image that cannot be read.
    """

    roots: Mapping[str, str]
    listings: Mapping[str, str]
    ends: Mapping[str, tuple[int, ...]]
    class_names: tuple[str, ...]
    unreadable: str

    def __call__(self, task: ShardTask) -> str:
        """Writes the file atomically and returns its path."""
        from tensorflow_datasets.core import file_adapters

        serialize = self.serializer()
        examples = ((row, serialize(example)) for row, example in self._examples(task))
        with replace_atomically(task.path) as temporary:
            try:
                file_adapters.ArrayRecordFileAdapter.write_examples(str(temporary), examples)
            except RuntimeError as error:
                # ArrayRecord reports a full disk in this way.
                raise OSError(str(error)) from error
        return task.path

    def serializer(self) -> Callable[[Mapping[str, Any]], bytes]:
        """Imports what is needed, and returns the function that serializes an example to the bytes of a record."""
        from tensorflow_datasets.core import example_serializer

        features = _features(self.class_names)
        serializer = example_serializer.ExampleSerializer(features.get_serialized_info())

        def serialize(example: Mapping[str, Any]) -> bytes:
            # Deterministic, so that a retry writes the same file.
            return serializer.get_tf_example(features.encode_example(example)).SerializeToString(deterministic=True)

        return serialize

    def _examples(self, task: ShardTask) -> Iterator[tuple[int, dict[str, Any]]]:
        records = FileRecords(self.roots[task.split], np.load(self.listings[task.split], mmap_mode="r"))
        rows = np.arange(task.start, task.stop)
        labels = np.searchsorted(self.ends[task.split], rows, side="right")
        for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
            try:
                encoded = records.read_encoded(row)
                images.read_shape(encoded)
            except (UnreadableFileError, CorruptImageError) as error:
                # Write a note instead of raising: some runners retry a failed task, and all of them hide its message.
                reason = error.reason if isinstance(error, UnreadableFileError) else str(error)
                note = pathlib.Path(self.unreadable, f"{task.split}-{row:012}")
                note.write_text(f"{records.name(row)} cannot be prepared ({reason})", encoding="utf-8")
                continue
            yield row, {prepared.IMAGE: io.BytesIO(encoded), prepared.LABEL: label}


def _open(source: str) -> FolderSource:
    scheme, _, name = source.partition(":")
    if scheme != "folder" or not name:
        raise UserError(f"--source: '{source}' cannot be prepared; only image folders can: write folder:PATH")
    _refuse_url("--source", name)
    with _flag_in_errors():
        folder = FolderSource(pathlib.Path(name), ml_collections.ConfigDict())
    if folder.has_texts:
        raise UserError(f"--source: '{source}' holds texts; only images are prepared, texts are read directly")
    for part in folder.part_names:
        if not part.isascii() or not part.replace("-", "_").isidentifier() or part.lower() == "all":
            raise UserError(
                f"--source: the split '{part}' has a name that TFDS does not allow; rename the folder using "
                "letters, digits, '_' and '-', but not 'all'"
            )
    for name in folder.class_names:
        if name != name.strip() or not name.isprintable():
            raise UserError(
                f"--source: the class {name!a} has a name that TFDS cannot store; rename the folder without spaces at "
                "its ends and without characters that cannot be printed"
            )
    return folder


def _check_output(output: str | os.PathLike, source: str) -> pathlib.Path:
    _refuse_url("--output", str(output))
    output = pathlib.Path(os.path.abspath(output))  # noqa: PTH100 (resolving a link would replace it, not its target)
    root = pathlib.Path(source.partition(":")[2]).resolve()
    if output.resolve().is_relative_to(root):
        raise UserError(f"--output: '{output}' lies inside the source '{root}'; name a folder outside of it")
    if output.exists() and not output.is_dir():
        raise UserError(f"--output: '{output}' is a file; name a folder")
    return output


def _refuse_url(flag: str, path: str) -> None:
    if "://" in path:
        raise UserError(f"{flag}: '{path}' is a URL; mount it on this machine and all workers, and give the path")


def _part(folder: FolderSource, name: str) -> Part:
    with _flag_in_errors():
        return folder.part(name)


@contextlib.contextmanager
def _flag_in_errors() -> Iterator[None]:
    """Rewrites errors of the source to name the flag instead of the config field."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace("data.source:", "--source:", 1)) from None


def _facts(folder: FolderSource, parts: Mapping[str, Part]) -> dict[str, Any]:
    """Returns the facts that `data.sources.prepared.read_facts` will read, without the shards."""
    splits = {
        name: {
            "fingerprint": part.fingerprint,
            "source_key": part.cache_key,
            "counts": np.bincount(part.labels, minlength=len(folder.class_names)).tolist(),
        }
        for name, part in parts.items()
    }
    return {"format": prepared.FORMAT, "classes": list(folder.class_names), "splits": splits}


def _shard_lengths(name: str, part: Part, shards: int) -> list[int]:
    """Returns the number of rows in each file of a split."""
    if shards > len(part):
        raise UserError(f"--shards: {shards} is more than the {len(part)} images of the split '{name}'; give fewer")
    if not shards:
        from tensorflow_datasets.core.utils import shard_utils

        sampled = np.unique(np.linspace(0, len(part) - 1, _SAMPLED_FILES).astype(int)).tolist()
        size = float(np.mean([part.records.num_bytes(row) for row in sampled]))
        shards = shard_utils.ShardConfig.calculate_number_shards(round(size * len(part)), len(part))
    return np.diff(len(part) * np.arange(shards + 1) // shards).tolist()


def _is_prepared(output: pathlib.Path, facts: Mapping[str, Any], lengths: Mapping[str, list[int]] | None) -> bool:
    """Returns whether `output` already has the result. Shards are not compared if `lengths` is None.

    Raises:
      UserError: it holds something else.
    """
    if not output.exists() or not any(output.iterdir()):
        return False
    try:
        found = prepared.read_facts(output, "--output")
        for split in found["splits"].values():
            prepared.check_shards(output, split["shards"], "--output")
    except UserError:
        raise UserError(f"--output: '{output}' is not empty; name a new folder, or --overwrite to delete it") from None
    numbers = {name: len(split.pop("shards")) for name, split in found["splits"].items()}
    if found != facts or (lengths and numbers != {name: len(of_split) for name, of_split in lengths.items()}):
        raise UserError(
            f"--output: '{output}' was prepared from other data or with other shards; name a new folder, or "
            "--overwrite to delete it"
        )
    return True


def _plan(
    folder: FolderSource, parts: Mapping[str, Part], lengths: Mapping[str, list[int]], work: pathlib.Path
) -> tuple[WriteShard, list[ShardTask]]:
    """Writes the listings for the workers to the folder `work`, and returns the tasks."""
    unreadable = work / "unreadable"
    unreadable.mkdir(parents=True)
    tasks, listings, ends = [], {}, {}
    for name, part in parts.items():
        listings[name] = str(work / f"{name}.npy")
        np.save(listings[name], part.records.names)
        counts = np.bincount(part.labels, minlength=len(folder.class_names))
        ends[name] = tuple(np.cumsum(counts).tolist())
        stops = np.cumsum(lengths[name]).tolist()
        for path, start, stop in zip(_shard_paths(work, name, len(stops)), [0, *stops], stops, strict=False):
            tasks.append(ShardTask(name, str(path), start, stop))
    # Workers may run in another folder.
    roots = {name: os.path.abspath(part.records.root) for name, part in parts.items()}  # noqa: PTH100
    return WriteShard(roots, listings, ends, folder.class_names, str(unreadable)), tasks


def _pipeline(runner: str, options: Sequence[str]):
    """Makes a Beam pipeline without starting it."""
    if runner not in RUNNERS:
        raise unknown_name("--runner", runner, RUNNERS)
    if runner == "none":
        raise UserError(f"pipeline options: '{options[0]}' is for Apache Beam, which --runner=none does not use")
    if importlib.util.find_spec("apache_beam") is None:
        raise UserError(
            f"--runner: {runner} needs Apache Beam, which is not installed here; run 'make install-prepare' and "
            "then .venv-prepare/bin/python -m experiments.prepare, or give --runner=none"
        )
    with _silence_beam():
        import apache_beam

        parsed = _parse(options)
        try:
            return apache_beam.Pipeline(runner=runner, options=parsed)
        except (ValueError, ImportError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"--runner: {runner} cannot be used ({reason}); correct the options after --") from None


def _parse(options: Sequence[str]):
    from apache_beam.options.pipeline_options import PipelineOptions

    for word in options:
        if not word.startswith("--"):
            raise UserError(f"pipeline options: '{word}' is not an option; write --name=value")
    usage = io.StringIO()
    try:
        with contextlib.redirect_stderr(usage):
            parsed = PipelineOptions(list(options))
            known = parsed.get_all_options()
            given = parsed.get_all_options(retain_unknown_options=True)
    except SystemExit:
        raise UserError(
            f"pipeline options: {usage.getvalue().strip().splitlines()[-1].partition('error: ')[2]}"
        ) from None
    for name in sorted(given.keys() - known.keys()):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '--{near[0]}'?" if near else "its documentation lists them"
        raise UserError(f"pipeline options: Beam has no '--{name}'; {hint}")
    return parsed


@contextlib.contextmanager
def _silence_beam() -> Iterator[None]:
    """Silences warnings of Beam about missing optional parts, and about options that are reported here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _run(write: WriteShard, tasks: Sequence[ShardTask], pipeline) -> None:
    if pipeline is None:
        _run_here(write, tasks)
        return
    import apache_beam

    try:
        with pipeline:
            _ = (
                pipeline
                | "Shards" >> apache_beam.Create(tasks)
                # Without this, a runner may fuse all shards into one task.
                | "Spread" >> apache_beam.Reshuffle()
                | "Write" >> apache_beam.Map(write)
            )
    except Exception as error:
        # Errors of runners contain the traces of their workers.
        logging.info("The pipeline failed.", exc_info=True)
        reason = f"{type(error).__name__}: {str(error).strip()}".splitlines()[-1][:500]
        raise UserError(f"--runner: the pipeline failed ({reason}); --verbosity=0 shows the whole trace") from error


def _run_here(write: WriteShard, tasks: Sequence[ShardTask]) -> None:
    # TFDS imports its parts lazily. Import them before the threads start: two threads could deadlock, each holding the
    # import lock of a module that the other needs.
    write.serializer()
    # Pillow and file access release the interpreter lock.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        try:
            for path in threads.map(write, tasks):
                logging.info("Wrote %s.", path)
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


def _refuse_unreadable(write: WriteShard) -> None:
    notes = sorted(pathlib.Path(write.unreadable).iterdir())
    if notes:
        more = f" and {len(notes) - 1} more" if len(notes) > 1 else ""
        raise UserError(f"--source: {notes[0].read_text(encoding='utf-8')}{more}; fix or remove, and run it again")


def _finish(
    write: WriteShard,
    facts: Mapping[str, Any],
    lengths: Mapping[str, list[int]],
    work: pathlib.Path,
    folder: pathlib.Path,
) -> None:
    """Moves the finished files to `folder` and writes the metadata."""
    import tensorflow_datasets as tfds

    infos = []
    for name, of_split in lengths.items():
        shards = {path.name: path.stat().st_size for path in _shard_paths(work, name, len(of_split))}
        for file in shards:
            os.replace(work / file, folder / file)
        facts["splits"][name]["shards"] = shards
        infos.append(tfds.core.SplitInfo(name=name, shard_lengths=of_split, num_bytes=sum(shards.values())))
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=_features(write.class_names),
        split_infos=infos,
        version=VERSION,
        # This check needs TensorFlow.
        check_data=False,
        description="A folder of images, prepared by Plumbline.",
        supervised_keys=(prepared.IMAGE, prepared.LABEL),
        disable_shuffling=True,
    )
    (folder / prepared.FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _check(parts: Mapping[str, Part], folder: pathlib.Path) -> None:
    """Reads back the first and last image of each class.

    Raises:
      UserError: one differs from its file.
    """
    for name, part in parts.items():
        records = TfdsRecords(str(folder), name, prepared.IMAGE)
        if len(records) != len(part):
            raise UserError(f"--output: {len(records)} of {len(part)} images of '{name}' were written; run it again")
        borders = np.flatnonzero(np.diff(part.labels))
        for row in sorted({0, len(part) - 1, *borders.tolist(), *(borders + 1).tolist()}):
            example = records.example(row)
            if (example[prepared.LABEL], example[prepared.IMAGE]) != (part.labels[row], part.records.read_encoded(row)):
                raise UserError(f"--source: {part.records.name(row)} changed while it was prepared; run it again")


def _features(class_names: tuple[str, ...]):
    import tensorflow_datasets as tfds

    return tfds.features.FeaturesDict(
        {
            prepared.IMAGE: tfds.features.Image(shape=(None, None, None)),
            prepared.LABEL: tfds.features.ClassLabel(names=list(class_names)),
        }
    )


def _shard_paths(folder: pathlib.Path, split: str, number: int) -> list[pathlib.Path]:
    """Returns the paths of the files of a split, in the naming scheme of TFDS."""
    return [folder / f"{NAME}-{split}.array_record-{index:05}-of-{number:05}" for index in range(number)]
