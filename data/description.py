"""What a data set holds, in words: in short for the opening lines of a training, in full for `plumbline inspect`."""

import ml_collections
import numpy as np

from data import splitting
from data.batches import Batch
from data.dataset import Dataset
from data.features import FIRST_CATEGORY, MISSING, Column, Features
from data.split import Split
from data.tokenizer import Tokenizer
from plumbline import pluralize

# Number of names, and of characters of all of them, that a line of the short description lists.
_LISTED, _LISTED_CHARACTERS = 12, 160
# Number of characters of a text, and of its tokens, that are shown.
_TEXT_CHARACTERS, _TOKENS = 300, 40


def describe(dataset: Dataset, config: ml_collections.ConfigDict, *, full: bool = False) -> list[str]:
    """Describes task, sizes of the splits, inputs, and what is left out of a data set.

    Args:
      dataset: the data set.
      config: `config.data`.
      full: whether to add each class, group and column; otherwise there are a few lines.

    Returns:
      Lines without line breaks.
    """
    features = dataset.features
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
    groups = f"; {pluralize(len(features.group_names), 'group')} by '{config.group}'" if config.group else ""
    if dataset.opening:
        lines = [*(dataset.opening_in_full if full else dataset.opening), f"  splits: {sizes}{groups}"]
    else:
        lines = [f"data: {_task(features)}; {sizes}{groups}", _inputs(features)]
    if full:
        lines += _columns(dataset)
        lines += _counts("class", "classes", features.class_names, {n: s.labels for n, s in dataset.splits.items()})
        lines += _counts("group", "groups", features.group_names, {n: s.groups for n, s in dataset.splits.items()})
    lines += [f"left out: {printable(entry.describe())}" for entry in dataset.left_out]
    for name in dataset.unused_splits:
        hint = "; --config.data.validation=auto takes it" if name.lower() in splitting.VALIDATION_NAMES else ""
        lines.append(f"not used: split '{printable(name)}' of the source{hint}")
    return lines


def describe_batch(batch: Batch, model_inputs: np.ndarray) -> list[str]:
    """Describes shape, type and range of each array of a batch.

    Args:
      batch: the batch.
      model_inputs: (B, ...) its preprocessed inputs.
    """
    arrays = {**batch, "inputs of the model": model_inputs}
    width = max(map(len, arrays))
    return [f"{name:<{width}}  {array.dtype} {array.shape}  {_range(array)}" for name, array in arrays.items()]


def describe_texts(features: Features, split: Split, positions: np.ndarray) -> list[str]:
    """Describes texts: for each its name, its text and its tokens.

    Args:
      features: description of an example.
      split: split of texts.
      positions: (n,) positions in the split.
    """
    tokenizer, lines = Tokenizer(features.tokenizer), []
    for position, tokens in zip(positions.tolist(), split.read(positions), strict=True):
        text = split.reader.text(position)
        names = tokenizer.names(tokens)
        more = f" and {len(names) - _TOKENS:,} more" if len(names) > _TOKENS else ""
        cut = "..." if len(text) > _TEXT_CHARACTERS else ""
        lines += [
            f"text: {printable(split.reader.name(position))}: {text[:_TEXT_CHARACTERS]!r}{cut}",
            f"  {pluralize(len(names), 'token')}: {' '.join(map(repr, names[:_TOKENS]))}{more}",
        ]
    return lines


def printable(text: str) -> str:
    """Replaces characters that cannot be printed in one line, such as line breaks in names of files."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _task(features: Features) -> str:
    if features.task == "language":
        return "language modelling"
    if features.task == "regression":
        return f"regression of '{printable(features.target)}'"
    names = features.class_names
    return f"classification of '{printable(features.target)}' into {len(names)} classes ({_list(names)})"


def _inputs(features: Features) -> str:
    if features.kind == "image":
        colours = "grey" if features.shape[2] == 1 else "RGB"
        return f"inputs: images of {features.shape[1]}x{features.shape[0]} pixels, {colours}"
    return f"inputs: texts of {features.shape[0]} tokens, of a vocabulary of {features.vocabulary:,}"


def _columns(dataset: Dataset) -> list[str]:
    """Describes each column of a table over the training rows, in the order of the inputs."""
    features, train = dataset.features, dataset.splits["train"]
    if features.kind != "table":
        return []
    inputs = train.read(np.arange(len(train)))
    width = max(len(printable(column.name)) for column in features.columns)
    return [
        f"input: {printable(column.name):<{width}}  {column.kind}, {_values(column, inputs[:, index])}"
        for index, column in enumerate(features.columns)
    ]


def _values(column: Column, values: np.ndarray) -> str:
    """Describes the values (n,) of a column in the training rows."""
    if column.kind != "categorical":
        missing, values = int(np.isnan(values).sum()), column.restore(values[~np.isnan(values)])
        return _range(values) + (f", {missing:,} missing" if missing else "")
    counts = np.bincount(values.astype(np.int64), minlength=FIRST_CATEGORY + len(column.categories))
    missing, counts = int(counts[MISSING]), counts[FIRST_CATEGORY:]
    names = [f"{column.categories[each]} ({counts[each]:,})" for each in np.argsort(-counts, kind="stable").tolist()]
    return f"{len(names)} values: {_list(names)}" + (f", {missing:,} missing" if missing else "")


def _range(values: np.ndarray) -> str:
    if not values.size:
        return "no values"
    values = values.astype(np.float64)
    found = values[~np.isnan(values)]
    if not found.size:
        return "all missing"
    return f"{found.min():.6g} to {found.max():.6g}, mean {found.mean():.6g}"


def _counts(noun: str, plural: str, names: tuple[str, ...], numbers: dict[str, np.ndarray | None]) -> list[str]:
    """A heading and a line for each class or group: how many examples of each split it has."""
    if not names or any(of_split is None for of_split in numbers.values()):
        return []
    counts = {split: np.bincount(each[each >= 0], minlength=len(names)) for split, each in numbers.items()}
    shown = [printable(name) for name in names]
    width = max(map(len, (*shown, noun)))
    lines = [f"{plural}: {noun:<{width}}  " + "  ".join(f"{split:>10}" for split in counts)]
    for index, name in enumerate(shown):
        cells = "  ".join(f"{of_split[index]:>10,}" for of_split in counts.values())
        lines.append(f"{'':<{len(plural)}}  {name:<{width}}  {cells}")
    return lines


def _list(names: list[str] | tuple[str, ...]) -> str:
    """Lists the first names, at most a line of them."""
    listed, length = [], 0
    for name in names[:_LISTED]:
        name = printable(name)
        length += len(name) + 2
        if listed and length > _LISTED_CHARACTERS:
            break
        listed.append(name if len(name) <= _LISTED_CHARACTERS else f"{name[:_LISTED_CHARACTERS]}...")
    more = len(names) - len(listed)
    return ", ".join(listed) + (f" and {more:,} more" if more else "")
