"""Splits of texts. All rows of a part are tokenised at once, and cached if that takes long."""

import pathlib
from collections.abc import Callable, Mapping, Sequence

import ml_collections
import numpy as np

from data import cache, tokenizer
from data.features import PADDING_TOKEN, Features
from data.sources.source import Part, Source, Texts
from data.sources.text import digest
from data.split import ArrayReader, Split
from data.tokenizer import Tokenizer
from plumbline import UserError

# Number of characters from which on tokens are cached: tokenising them takes a tenth of a second.
_LONG = 200_000


class NoTokensError(UserError):
    """A tokenizer gives no tokens for a text.

    Attributes:
      row: its row among the texts.
    """

    def __init__(self, message: str, row: int):
        super().__init__(message)
        self.row = row


class TextReader(ArrayReader):
    """Tokens of texts, and the texts.

    Args:
      tokens: (N, L) int32 tokens of all texts of the part.
      rows: (n,) rows of the part that belong to the split.
      texts: all texts of the part.
    """

    def __init__(self, tokens: np.ndarray, rows: np.ndarray, texts: Texts):
        super().__init__(tokens, rows)
        self._texts = texts

    def name(self, position: int) -> str:
        """Returns the name of the text, for messages."""
        return self._texts.name(int(self._indices[position]))

    def text(self, position: int) -> str:
        """Returns the whole text."""
        return self._texts.text(int(self._indices[position]))


def make(
    source: Source, assigned: Mapping[str, tuple[Part, np.ndarray]], config: ml_collections.ConfigDict, content: str
) -> tuple[Features, dict[str, Split]]:
    """Makes the features and splits of examples that are texts.

    Args:
      source: source of the texts.
      assigned: for each split, the part of the source and the rows in it.
      config: `config.data`.
      content: content of the tokenizer's file; "" to read the one named in the config.

    Raises:
      UserError: a text is empty or cannot be read, or the config does not fit.
    """
    check_options(config)
    train, rows = assigned["train"]
    if content:
        chosen = Tokenizer(content)
    else:
        chosen = tokenizer.open_tokenizer(config.tokenizer, (train.texts.text(row) for row in rows.tolist()))
    features = Features(
        kind="text",
        shape=(config.text_length,),
        dtype="int32",
        task=source.task,
        class_names=source.class_names,
        group_names=source.group_names,
        target=source.target,
        tokenizer=chosen.content,
        vocabulary=chosen.vocabulary,
    )
    parts = {id(part): part for part, _ in assigned.values()}
    encoded = {name: _encode_part(part, chosen, config) for name, part in parts.items()}
    splits = {
        name: Split(
            labels=part.labels[rows],
            groups=None if part.groups is None else part.groups[rows],
            weights=part.weights[rows],
            rows=rows + part.first_row,
            reader=TextReader(encoded[id(part)], rows, part.texts),
        )
        for name, (part, rows) in assigned.items()
    }
    return features, splits


def check_options(config: ml_collections.ConfigDict, *, language: bool = False) -> None:
    """Checks that the options are supported for texts.

    Args:
      config: `config.data`.
      language: whether the texts are for language modelling.

    Raises:
      UserError: an option is not supported.
    """
    for field in ("image_size", "channels"):
        if config[field]:
            raise UserError(f"data.{field}: needs images, but '{config.source}' holds texts; leave it at 0")
    if config.text_length < 1:
        raise UserError(f"data.text_length: {config.text_length} given; it must be at least 1")
    if config.text_stride and not language:
        raise UserError(
            f"data.text_stride: needs language modelling (text:PATH), but the source is '{config.source}'; leave "
            "it at 0"
        )


def encode(
    texts: Sequence[str], chosen: Tokenizer, length: int, *, name: Callable[[int], str], field: str
) -> np.ndarray:
    """Tokenises texts, none of which may be empty.

    Args:
      texts: n texts.
      chosen: tokenizer.
      length: number of tokens of each text.
      name: returns the name of a text, for messages.
      field: config field or argument that named the texts, for messages.

    Returns:
      Tokens (n, length) int32.

    Raises:
      UserError: a text is empty, or (`NoTokensError`) the tokenizer gives no tokens for it.
    """
    for row, text in enumerate(texts):
        check_not_empty(text, name(row), field)
    encoded = chosen.encode(texts, length)
    nothing = (encoded == PADDING_TOKEN).all(axis=1)
    if nothing.any():
        first = int(np.argmax(nothing))
        raise NoTokensError(
            f"{field}: the tokenizer gives no tokens for {name(first)}; fix the text, or use another tokenizer", first
        )
    return encoded


def check_not_empty(text: str, name: str, field: str) -> None:
    """Raises an error for a text of white space alone.

    Args:
      text: the text.
      name: its name.
      field: config field or argument that named it.

    Raises:
      UserError: it is empty.
    """
    if not text.strip():
        raise UserError(f"{field}: {name} is empty; add a text, or remove it")


def cache_tokens(
    config: ml_collections.ConfigDict, key: Mapping[str, object], characters: int, make_tokens
) -> np.ndarray:
    """Returns `make_tokens()`, through the cache if there are many characters.

    Args:
      config: `config.data`.
      key: everything the tokens depend on.
      characters: number of characters of the texts.
      make_tokens: function that makes the tokens.
    """
    if characters < _LONG:
        return make_tokens()

    def write(folder: pathlib.Path) -> None:
        np.save(folder / "tokens.npy", make_tokens())

    return cache.load_or_make(config.cache_dir, key, write)["tokens"]


def _encode_part(part: Part, chosen: Tokenizer, config: ml_collections.ConfigDict) -> np.ndarray:
    """Tokenises all texts of a part to (N, L)."""
    texts = [part.texts.text(row) for row in range(len(part))]
    key = {
        "texts": part.cache_key or part.fingerprint,
        "column": config.text,
        "tokenizer": digest(chosen.content),
        "length": config.text_length,
    }
    if (config.delimiter, config.encoding, config.header) != ("auto", "auto", True):
        # The same file, read in another way.
        key["form"] = [config.delimiter, config.encoding, config.header]
    return cache_tokens(
        config,
        key,
        sum(map(len, texts)),
        lambda: encode(texts, chosen, config.text_length, name=part.texts.name, field="data.source"),
    )
