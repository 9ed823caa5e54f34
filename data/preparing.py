"""From a folder of images to ArrayRecord shards that TFDS reads, on one machine or, with Apache Beam, on many.

Rows are listed once. A shard is a range of them, so that whoever writes one needs to know of no other: nothing is
shuffled between machines, and a writer holds one image at a time. Files keep their bytes; rows, classes and splits stay
those of the folder.
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
from data.sources import prepared
from data.sources.folder import FileRecords, FolderSource
from data.sources.source import Part
from data.sources.tfds import TfdsRecords
from plumbline import UserError, unknown_name
from plumbline.files import replaced

# Those of Apache Beam that are known to have what is needed, and "none": threads of this process, without Beam.
RUNNERS = ("DirectRunner", "DataflowRunner", "FlinkRunner", "SparkRunner", "PortableRunner", "none")
NAME, VERSION = "plumbline_images", "1.0.0"
# Files whose sizes are looked up to know how large a split is.
_SAMPLED_FILES = 1024


def prepare(
    source: str,
    output: str | os.PathLike,
    *,
    runner: str = "DirectRunner",
    options: Sequence[str] = (),
    shards: int = 0,
    overwrite: bool = False,
) -> dict[str, int]:
    """Writes a source as ArrayRecord, with all that TFDS needs to read it; read it as `prepared:DIR`.

    The folder `output` appears whole or not at all. If it holds what would be written, nothing is done.

    Args:
      source: "folder:PATH".
      output: folder to write to.
      runner: one of `RUNNERS`. All but "none" and "DirectRunner" may start workers on other machines, which must see
        both folders under the same paths, and import this module.
      options: Beam's pipeline options, as on a command line.
      shards: files of each split; 0 for TFDS's rule (64 MiB to 1 GiB each, at most 1024 if that will do).
      overwrite: whether another content of `output` is deleted.

    Returns:
      Images in each split.

    Raises:
      UserError: something about the arguments, or images that cannot be read.
    """
    pipeline = None if runner == "none" and not options else _pipeline(runner, options)
    folder = _open(source)
    output = _checked_output(output, source)
    parts = {name: _part(folder, name) for name in folder.part_names}
    sizes = {name: len(part) for name, part in parts.items()}
    facts = _facts(folder, parts)
    lengths = {name: _shard_lengths(name, part, shards) for name, part in parts.items()}
    if not overwrite and _is_prepared(output, facts, lengths if shards else None):
        return sizes
    try:
        with replaced(output) as temporary:
            temporary.mkdir()
            work = temporary.parent / "parts"
            write, tasks = _plan(folder, parts, lengths, work)
            _run(write, tasks, pipeline)
            _refuse_unreadable(write)
            _finish(write, facts, lengths, work, temporary)
            _check(parts, temporary)
            if output.exists() and any(output.iterdir()):
                # A folder cannot be renamed over another: the old one steps aside, and goes with the temporary one.
                os.replace(output, temporary.parent / "old")
    except OSError as error:
        raise UserError(f"--output: '{output}' cannot be written ({error}); mend that or name another folder") from None
    return sizes


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """A file to be written.

    Attributes:
      split: its name.
      path: of the file.
      start: first of its rows.
      stop: row after the last.
    """

    split: str
    path: str
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class WriteShard:
    """Writes one file. All that a worker is sent: it stays small however many rows there are.

    Attributes:
      roots: folder of the images of each split.
      listings: file with the names of the images of each split below it, as of `numpy.save`.
      ends: number of rows of each split up to and with each class.
      class_names: of all.
      unreadable: folder for a note on each image that cannot be read.
    """

    roots: Mapping[str, str]
    listings: Mapping[str, str]
    ends: Mapping[str, tuple[int, ...]]
    class_names: tuple[str, ...]
    unreadable: str

    def __call__(self, task: ShardTask) -> str:
        """Writes the file, whole or not at all, and returns its path."""
        from tensorflow_datasets.core import file_adapters

        serialized = self.serializer()
        examples = ((row, serialized(example)) for row, example in self._examples(task))
        with replaced(task.path) as temporary:
            try:
                file_adapters.ArrayRecordFileAdapter.write_examples(str(temporary), examples)
            except RuntimeError as error:
                # So ArrayRecord tells of a full disk.
                raise OSError(str(error)) from error
        return task.path

    def serializer(self) -> Callable[[Mapping[str, Any]], bytes]:
        """The function that makes an example into the bytes of a record; imports what that takes."""
        from tensorflow_datasets.core import example_serializer

        features = _features(self.class_names)
        serializer = example_serializer.ExampleSerializer(features.get_serialized_info())

        def serialized(example: Mapping[str, Any]) -> bytes:
            # Deterministic, so that a file that is written again is the same.
            return serializer.get_tf_example(features.encode_example(example)).SerializeToString(deterministic=True)

        return serialized

    def _examples(self, task: ShardTask) -> Iterator[tuple[int, dict[str, Any]]]:
        records = FileRecords(self.roots[task.split], np.load(self.listings[task.split], mmap_mode="r"))
        rows = np.arange(task.start, task.stop)
        labels = np.searchsorted(self.ends[task.split], rows, side="right")
        for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
            try:
                encoded = records.encoded(row)
                images.shape(encoded)
            except (OSError, CorruptImageError) as error:
                # Noted, not raised: some runners try a task that failed again, and all hide what it said.
                reason = error.strerror if isinstance(error, OSError) else str(error)
                note = pathlib.Path(self.unreadable, f"{task.split}-{row:012}")
                note.write_text(f"{records.name(row)} cannot be prepared ({reason})", encoding="utf-8")
                continue
            yield row, {prepared.IMAGE: io.BytesIO(encoded), prepared.LABEL: label}


def _open(source: str) -> FolderSource:
    scheme, _, name = source.partition(":")
    if scheme != "folder" or not name:
        raise UserError(f"--source: '{source}' cannot be prepared; image folders can: write folder:PATH")
    _refuse_url("--source", name)
    with _naming_the_flag():
        folder = FolderSource(pathlib.Path(name), ml_collections.ConfigDict())
    if folder.has_texts:
        raise UserError(f"--source: '{source}' holds texts, and images are prepared; texts are trained on as they are")
    for part in folder.part_names:
        if not part.isascii() or not part.replace("-", "_").isidentifier() or part.lower() == "all":
            raise UserError(
                f"--source: the split '{part}' has a name that TFDS cannot take; rename the folder with letters, "
                "digits, '_' and '-', and not 'all'"
            )
    for name in folder.class_names:
        if name != name.strip() or not name.isprintable():
            raise UserError(
                f"--source: the class {name!a} has a name that TFDS cannot store; rename the folder without spaces at "
                "its ends and without characters that cannot be printed"
            )
    return folder


def _checked_output(output: str | os.PathLike, source: str) -> pathlib.Path:
    _refuse_url("--output", str(output))
    output = pathlib.Path(os.path.abspath(output))  # noqa: PTH100 (resolving a link would replace it, not its target)
    root = pathlib.Path(source.partition(":")[2]).resolve()
    if output.resolve().is_relative_to(root):
        raise UserError(f"--output: '{output}' lies in the source '{root}'; name a folder outside of it")
    if output.exists() and not output.is_dir():
        raise UserError(f"--output: '{output}' is a file; name a folder")
    return output


def _refuse_url(flag: str, path: str) -> None:
    if "://" in path:
        raise UserError(
            f"{flag}: '{path}' is no path; mount it where this machine and all workers see it, and give that"
        )


def _part(folder: FolderSource, name: str) -> Part:
    with _naming_the_flag():
        return folder.part(name)


@contextlib.contextmanager
def _naming_the_flag() -> Iterator[None]:
    """Messages of the source name the flag instead of the config's field, and files that cannot be read are told."""
    try:
        yield
    except OSError as error:
        raise UserError(f"--source: '{error.filename}' cannot be read ({error.strerror}); mend or remove it") from None
    except UserError as error:
        raise UserError(str(error).replace("data.source:", "--source:", 1)) from None


def _facts(folder: FolderSource, parts: Mapping[str, Part]) -> dict[str, Any]:
    """What `data.sources.prepared.read_facts` will return, but for the files."""
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
    """Rows in each file of a split."""
    if shards > len(part):
        raise UserError(f"--shards: {shards} is more than the {len(part)} images of the split '{name}'; give fewer")
    if not shards:
        from tensorflow_datasets.core.utils import shard_utils

        sampled = np.unique(np.linspace(0, len(part) - 1, _SAMPLED_FILES).astype(int)).tolist()
        size = float(np.mean([part.records.num_bytes(row) for row in sampled]))
        shards = shard_utils.ShardConfig.calculate_number_shards(round(size * len(part)), len(part))
    return np.diff(len(part) * np.arange(shards + 1) // shards).tolist()


def _is_prepared(output: pathlib.Path, facts: Mapping[str, Any], lengths: Mapping[str, list[int]] | None) -> bool:
    """Whether `output` holds what would be written, whatever its shards where `lengths` is None.

    Raises:
      UserError: it holds anything else.
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
            f"--output: '{output}' was prepared from something else or in other shards; name a new folder, or "
            "--overwrite to delete it"
        )
    return True


def _plan(
    folder: FolderSource, parts: Mapping[str, Part], lengths: Mapping[str, list[int]], work: pathlib.Path
) -> tuple[WriteShard, list[ShardTask]]:
    """Writes down in the folder `work` what workers need to know, and what is to be done."""
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
    """A Beam pipeline that is not begun."""
    if runner not in RUNNERS:
        raise unknown_name("--runner", runner, RUNNERS)
    if runner == "none":
        raise UserError(f"pipeline options: '{options[0]}' is for Apache Beam, which --runner=none does without")
    if importlib.util.find_spec("apache_beam") is None:
        raise UserError(
            f"--runner: {runner} needs Apache Beam, which is not in this environment; run 'make install-prepare' and "
            "then .venv-prepare/bin/python -m experiments.prepare, or give --runner=none to do without"
        )
    with _quiet():
        import apache_beam

        parsed = _parsed(options)
        try:
            return apache_beam.Pipeline(runner=runner, options=parsed)
        except (ValueError, ImportError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"--runner: {runner} cannot be used ({reason}); mend the options after --") from None


def _parsed(options: Sequence[str]):
    from apache_beam.options.pipeline_options import PipelineOptions

    for word in options:
        if not word.startswith("--"):
            raise UserError(f"pipeline options: '{word}' is none; write --name=value")
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
def _quiet() -> Iterator[None]:
    """Beam warns of parts of it that are not installed, and of options before we do."""
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
                # Else a runner may fuse all into one task.
                | "Spread" >> apache_beam.Reshuffle()
                | "Write" >> apache_beam.Map(write)
            )
    except Exception as error:
        # Whatever a runner raises has the traces of its workers in it.
        logging.info("The pipeline failed.", exc_info=True)
        reason = f"{type(error).__name__}: {str(error).strip()}".splitlines()[-1][:500]
        raise UserError(f"--runner: the pipeline failed ({reason}); --verbosity=0 shows all of it") from error


def _run_here(write: WriteShard, tasks: Sequence[ShardTask]) -> None:
    # TFDS imports parts of itself when they are used: two threads that began with that could wait for each other for
    # ever, each with the lock of a module that the other needs.
    write.serializer()
    # Pillow and the files let go of the interpreter's lock.
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
        raise UserError(f"--source: {notes[0].read_text(encoding='utf-8')}{more}; mend or remove, and run it again")


def _finish(
    write: WriteShard,
    facts: Mapping[str, Any],
    lengths: Mapping[str, list[int]],
    work: pathlib.Path,
    folder: pathlib.Path,
) -> None:
    """Moves the finished files, and only them, to `folder`, and writes down what they are."""
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
        # The check would need TensorFlow.
        check_data=False,
        description="A folder of images, prepared by Plumbline.",
        supervised_keys=(prepared.IMAGE, prepared.LABEL),
        disable_shuffling=True,
    )
    (folder / prepared.FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _check(parts: Mapping[str, Part], folder: pathlib.Path) -> None:
    """Reads the first and last image of each class back.

    Raises:
      UserError: one is not what its file holds.
    """
    for name, part in parts.items():
        records = TfdsRecords(str(folder), name, prepared.IMAGE)
        if len(records) != len(part):
            raise UserError(f"--output: {len(records)} of {len(part)} images of '{name}' were written; run it again")
        borders = np.flatnonzero(np.diff(part.labels))
        for row in sorted({0, len(part) - 1, *borders.tolist(), *(borders + 1).tolist()}):
            example = records.example(row)
            if (example[prepared.LABEL], example[prepared.IMAGE]) != (part.labels[row], part.records.encoded(row)):
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
    """The files of a split, named as TFDS does."""
    return [folder / f"{NAME}-{split}.array_record-{index:05}-of-{number:05}" for index in range(number)]
