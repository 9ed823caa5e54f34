"""Data sets: opening a source, splitting it, and fitting the preprocessing."""

import dataclasses
import hashlib

import ml_collections
import numpy as np

from data import (
    image_splits,
    language,
    preprocessing,
    row_lists,
    selection,
    splitting,
    table_columns,
    table_opening,
    text_splits,
)
from data.features import Column, Features
from data.input_files import LeftOut, merge_left_out
from data.row_lists import RowLists
from data.selection import Assignment
from data.sources import LanguageText, Part, Source, open_source
from data.split import ArrayReader, Split
from data.table_columns import Inferred
from plumbline import UserError, unknown_name

__all__ = ["Dataset", "RunAssets", "Split", "load"]

# Number of images on which mean and deviation are fitted when a data set is streamed.
_SAMPLED_IMAGES = 10_000
# Attributes of the features that give the outputs and inputs of a model their meaning.
_DEFINING = ("class_names", "group_names", "columns")


@dataclasses.dataclass(eq=False)
class Dataset:
    """A data set.

    Attributes:
      features: description of one example.
      splits: "train", "test" and, if the config asks for it, "validation".
      preprocessing: arrays fitted on the training rows, for `data.preprocessing.apply`.
      fingerprint: fingerprint of all files and data sets that were read.
      class_weights: (C,) float32 with mean 1 over the training rows, or None.
      parts: for each split, the fingerprint of the part of the source that its rows come from.
      row_lists: rows that were dropped or have a lower weight.
      assignment: digest of the rows, labels and groups of each split.
      left_out: files of the source that are not used.
      unused_splits: splits of the source that are not used.
      opening: how a table was read, in a screenful of lines for a user; () for other data.
      opening_in_full: the same with all columns and notes.
    """

    features: Features
    splits: dict[str, Split]
    preprocessing: dict[str, np.ndarray]
    fingerprint: str
    class_weights: np.ndarray | None
    parts: dict[str, str]
    row_lists: RowLists
    assignment: str
    left_out: tuple[LeftOut, ...] = ()
    unused_splits: tuple[str, ...] = ()
    opening: tuple[str, ...] = ()
    opening_in_full: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """What a checkpoint stores of the data: the fingerprint, and the digest of the assignment to splits."""
        return f"{self.fingerprint}+{self.assignment}"

    def check_same(self, identity: str, features: Features, *, source: str) -> None:
        """Checks that these are the data that a run began with.

        Args:
          identity: `identity` of the run's data. In runs of earlier versions it is the fingerprint alone.
          features: features of the run.
          source: `config.data.source`, for messages.

        Raises:
          UserError: the files, their classes, groups or columns, or the rows of a split differ.
        """
        fingerprint, _, assignment = identity.partition("+")
        if fingerprint != self.fingerprint:
            raise UserError(
                f"data.source: '{source}' holds other data than when this run began; bring those back, start a new run "
                "with another --workdir, or predict the new ones with `plumbline predict`"
            )
        differing = [name for name in _DEFINING if getattr(features, name) != getattr(self.features, name)]
        what = differing[0].replace("_", " ") if differing else ""
        if not differing and assignment not in ("", self.assignment):
            what = "splits"
        if what:
            raise UserError(
                f"data.source: '{source}' holds the same data as when this run began, but its {what} differ; use the "
                "version of Plumbline and of its packages that began the run, or start a new run with another --workdir"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RunAssets:
    """What a run stores of its data, so that files named in the config are read only once and columns keep their types.

    Attributes:
      tokenizer: content of its tokenizer.json, as in `Features.tokenizer`.
      row_lists: rows that it drops or gives a lower weight.
      columns: the input columns of a table; () for other data.
      target_offset: as in `Features`; None to choose it.
    """

    tokenizer: str
    row_lists: RowLists
    columns: tuple[Column, ...] = ()
    target_offset: float | None = None


def load(config: ml_collections.ConfigDict, *, seed: int, assets: RunAssets | None = None) -> Dataset:
    """Opens a source, splits it and fits the preprocessing on its training rows.

    Args:
      config: `config.data`.
      seed: seed of random splits.
      assets: files stored by a run on the same data, used in place of those that the config names.

    Raises:
      UserError: the config or the data are invalid.
    """
    if config.class_weights not in ("none", "balanced"):
        raise UserError(f"data.class_weights: unknown value '{config.class_weights}'; choose 'none' or 'balanced'")
    source, tokenizer = open_source(config), assets.tokenizer if assets else ""
    lists = assets.row_lists if assets else row_lists.read_lists(config)
    if isinstance(source, LanguageText):
        if config.drop or config.weights:
            raise UserError("data.drop, data.weights: not supported for one long text; leave them empty")
        features, splits, fingerprints = language.make(source, config, tokenizer)
        parts, left_out, unused, opening = {}, source.left_out, (), ((), ())
    else:
        assigned = row_lists.drop_rows(_assign(source, config, seed), lists, config)
        left_out, unused = _left_out(source, assigned), _unused_splits(source, config)
        assigned, class_names = selection.select(assigned, source.class_names, config, seed=seed)
        assigned, target_offset = _make_targets_relative(assigned, assets.target_offset if assets else None)
        parts = {name: part.fingerprint for name, (part, _) in assigned.items()}
        fingerprints = [*parts.values(), *filter(None, [lists.digest()])]
        if assigned["train"][0].records is not None:
            (features, splits), opening = _image_splits(source, assigned, config), ((), ())
        elif assigned["train"][0].texts is not None:
            (features, splits), opening = text_splits.make(source, assigned, config, tokenizer), ((), ())
        else:
            features, splits, opening = _table_splits(source, assigned, config, assets.columns if assets else ())
        table = assigned["train"][0].table
        width = len(table.columns) if table is not None and table.numbered else 0
        features = dataclasses.replace(features, class_names=class_names, target_offset=target_offset, width=width)
        splits["train"].weights *= lists.factors(parts["train"], splits["train"].rows)
    for name, split in splits.items():
        if not split.weights.any():
            raise UserError(f"data.weight: no example of the {name} split has a weight above 0; correct the weights")
    return Dataset(
        features=features,
        splits=splits,
        preprocessing=_fit(features, splits["train"], config),
        fingerprint=_fingerprint(features, fingerprints),
        class_weights=class_weights(features, splits["train"].labels, config),
        parts=parts,
        row_lists=lists,
        assignment=_digest_assignment(splits),
        left_out=left_out,
        unused_splits=unused,
        opening=opening[0],
        opening_in_full=opening[1],
    )


def _assign(source: Source, config: ml_collections.ConfigDict, seed: int) -> Assignment:
    """Assigns rows to splits: the part of the source, and the rows in it, of each split."""
    if config.test == config.validation and splitting.split_name(config.test):
        raise UserError(f"data.validation: '{config.validation}' is the test split as well; choose another split")
    train = source.part("train")
    rows = train.rows
    share = splitting.parse_share(config.test, "data.test")
    if config.test == "auto" and "test" not in source.part_names:
        share = splitting.DEFAULT_TEST_SHARE
    if share is not None:
        rows, test_rows = _hold_out(train, rows, share, seed, "data.test")
        test = train, test_rows
    else:
        test = _whole(_test_part(source, config.test))
    validation = _validation(source, train, rows, config, seed)
    for field, part in (("data.test", test[0]), ("data.validation", validation[0] if validation else None)):
        if part is not None and part is not train and part.fingerprint == train.fingerprint:
            raise UserError(f"{field}: has the same rows as the training data; name another file or 'N percent'")
    if validation is None:
        return {"train": (train, rows), "test": test}
    if validation[0] is train:
        rows = np.setdiff1d(rows, validation[1], assume_unique=True)
    return {"train": (train, rows), "validation": validation, "test": test}


def _test_part(source: Source, text: str) -> Part:
    if text == "auto":
        return source.part("test")
    if text in ("", "none"):
        raise UserError(f"data.test: '{text}' is not valid; write 'auto', 'N percent', 'split:NAME' or a path")
    name = splitting.split_name(text)
    return source.other(text) if name is None else _named_part(source, name, "data.test")


def _validation(
    source: Source, train: Part, rows: np.ndarray, config: ml_collections.ConfigDict, seed: int
) -> tuple[Part, np.ndarray] | None:
    if config.validation == "none":
        return None
    name = _validation_name(source, config)
    if name is not None:
        if name == "test" and config.test == "auto":
            raise UserError("data.validation: 'split:test' is the test split as well; choose another, or 'N percent'")
        return _whole(_named_part(source, name, "data.validation"))
    share = splitting.parse_validation_share(config.validation)
    if share is None:
        raise UserError(
            f"data.validation: '{config.validation}' is not valid; write 'auto', 'none', 'N percent' or 'split:NAME'"
        )
    return train, _hold_out(train, rows, share, seed, "data.validation")[1]


def _validation_name(source: Source, config: ml_collections.ConfigDict) -> str | None:
    """Returns the split of the source that is the validation split; None if there is none."""
    if config.validation != "auto":
        return splitting.split_name(config.validation)
    own = [name for name in source.part_names if name.lower() in splitting.VALIDATION_NAMES]
    own = [name for name in own if name != splitting.split_name(config.test)]
    if len(own) > 1:
        listed = " and ".join(f"'{name}'" for name in own)
        raise UserError(f"data.validation: the source has {listed}; choose one with 'split:NAME', or 'N percent'")
    return own[0] if own else None


def _unused_splits(source: Source, config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """Returns the splits of the source that no split is made of."""
    test = "test" if config.test == "auto" else splitting.split_name(config.test)
    used = {"train", test, _validation_name(source, config)}
    return tuple(name for name in source.part_names if name not in used)


def _left_out(source: Source, assigned: Assignment) -> tuple[LeftOut, ...]:
    """Adds up the files that are left out of the parts in use, and of splits without labels."""
    parts = {id(part): part for part, _ in assigned.values()}.values()
    unlabelled = getattr(source, "unlabelled", {}).values()
    return tuple(merge_left_out([*unlabelled, *(entry for part in parts for entry in part.left_out)]))


def _named_part(source: Source, name: str, field: str) -> Part:
    if name == "train":
        raise UserError(f"{field}: 'split:train' is the training split; choose another split, or 'N percent'")
    if name in getattr(source, "unlabelled", ()):
        raise UserError(
            f"{field}: '{name}' has no class folders, so its files have no labels; choose another split or "
            "'N percent', and run plumbline predict on the folder"
        )
    if name not in source.part_names:
        raise unknown_name(field, name, set(source.part_names) - {"train"})
    return source.part(name)


def _whole(part: Part) -> tuple[Part, np.ndarray]:
    return part, part.rows


def _hold_out(part: Part, rows: np.ndarray, share: float, seed: int, field: str) -> tuple[np.ndarray, np.ndarray]:
    strata = part.labels[rows] if part.labels.dtype == np.int32 else None
    groups = None if part.groups is None else part.groups[rows]
    mask = splitting.hold_out(share, strata, groups, len(rows), seed=seed, field=field)
    return rows[~mask], rows[mask]


def _image_splits(
    source: Source, assigned: Assignment, config: ml_collections.ConfigDict
) -> tuple[Features, dict[str, Split]]:
    if config.task not in ("auto", "classification"):
        raise UserError(f"data.task: '{config.task}' is not supported for {config.source}; choose 'classification'")
    image_format = image_splits.find_format(assigned["train"][0], config)
    features = Features(
        kind="image",
        shape=image_format.shape,
        dtype="uint8",
        task="classification",
        class_names=source.class_names,
        group_names=source.group_names,
        target=source.target,
    )
    splits = {
        name: image_splits.make_split(part, rows, image_format, config) for name, (part, rows) in assigned.items()
    }
    return features, splits


def _make_targets_relative(assigned: Assignment, offset: float | None) -> tuple[Assignment, float]:
    """Converts float64 targets to float32, relative to an offset if float32 would merge values otherwise."""
    train, rows = assigned["train"]
    if train.labels.dtype != np.float64:
        return assigned, 0.0
    if offset is None:
        offset = table_columns.choose_offset(train.labels[rows])
    # Splits of one part must keep sharing one object.
    parts = {
        id(part): dataclasses.replace(part, labels=(part.labels - offset).astype(np.float32))
        for part, _ in assigned.values()
    }
    return {name: (parts[id(part)], rows) for name, (part, rows) in assigned.items()}, offset


def _table_splits(
    source: Source, assigned: Assignment, config: ml_collections.ConfigDict, columns: tuple[Column, ...]
) -> tuple[Features, dict[str, Split], tuple[tuple[str, ...], ...]]:
    """Makes the features and splits of a table, and describes it in short and in full.

    The types of the columns are inferred, unless a run stored them.
    """
    train, rows = assigned["train"]
    if columns:
        inferred = Inferred(columns=columns, left_out=source.left_out)
    else:
        inferred = table_columns.infer_columns(train.table, rows, left_out=source.left_out, config=config)
        columns = inferred.columns
    features = Features(
        kind="table",
        shape=(len(columns),),
        dtype="float32",
        task=source.task,
        class_names=source.class_names,
        group_names=source.group_names,
        columns=columns,
        target=source.target,
    )
    encoded = {id(part): table_columns.encode(part.table, columns) for part, _ in assigned.values()}
    opening = table_opening.describe(features, inferred, assigned, encoded)
    splits = {
        name: Split(
            labels=part.labels[rows],
            groups=None if part.groups is None else part.groups[rows],
            weights=part.weights[rows],
            rows=rows,
            reader=ArrayReader(encoded[id(part)], rows),
        )
        for name, (part, rows) in assigned.items()
    }
    return features, splits, opening


def _fit(features: Features, train: Split, config: ml_collections.ConfigDict) -> dict[str, np.ndarray]:
    positions = np.arange(len(train))
    if features.kind == "text":
        return preprocessing.fit(
            features, np.zeros((0, *features.shape), np.int32), train.labels, normalize=config.normalize
        )
    if features.kind == "table":
        return preprocessing.fit(features, train.read(positions), train.labels, normalize=config.normalize)
    if not train.in_memory:
        positions = np.unique(np.linspace(0, len(train) - 1, _SAMPLED_IMAGES).astype(np.int64))
    chunks = image_splits.read_chunks(train, positions)
    return preprocessing.fit_images(features, chunks, normalize=config.normalize)


def class_weights(features: Features, labels: np.ndarray, config: ml_collections.ConfigDict) -> np.ndarray | None:
    """Computes class weights inverse to class frequency: n / (present classes * rows of the class).

    Their mean over the rows is 1.

    Args:
      features: description of an example.
      labels: (n,) labels of the training rows.
      config: `config.data`.

    Returns:
      (C,) float32, or None if `config.class_weights` is "none".

    Raises:
      UserError: the task is not a classification.
    """
    if config.class_weights == "none":
        return None
    if features.task != "classification":
        raise UserError(f"data.class_weights: 'balanced' is for classification; choose 'none' for {features.task}")
    counts = np.bincount(labels, minlength=features.num_outputs)
    weights = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0).astype(np.float32)


def _fingerprint(features: Features, fingerprints: list[str]) -> str:
    digest = hashlib.sha256(features.tokenizer.encode())
    for fingerprint in dict.fromkeys(fingerprints):
        digest.update(fingerprint.encode())
    return digest.hexdigest()


def _digest_assignment(splits: dict[str, Split]) -> str:
    """Returns a digest of the rows, labels and groups of each split."""
    digest = hashlib.sha256()
    for name in sorted(splits):
        split = splits[name]
        digest.update(name.encode())
        for values in (split.rows, split.labels, split.groups):
            # Tokens of a language model are a function of the text, which has a fingerprint.
            if values is not None and values.ndim == 1:
                digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:32]
