"""From texts to the inputs of a split: tokenised once, all rows of a part, and kept where that took long."""

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

# Characters from which on tokens are kept in the cache: to make so many into tokens takes a tenth of a second.
_LONG = 200_000


class TextReader(ArrayReader):
    """Tokens of texts, and the texts themselves.

    Args:
      tokens: (N, L) int32 of the whole part.
      rows: (n,) of the part that belong to the split.
      texts: of the whole part.
    """

    def __init__(self, tokens: np.ndarray, rows: np.ndarray, texts: Texts):
        super().__init__(tokens, rows)
        self._texts = texts

    def name(self, position: int) -> str:
        """What the user knows the text by."""
        return self._texts.name(int(self._indices[position]))

    def text(self, position: int) -> str:
        """The text itself, whole."""
        return self._texts.text(int(self._indices[position]))


def make(
    source: Source, assigned: Mapping[str, tuple[Part, np.ndarray]], config: ml_collections.ConfigDict, content: str
) -> tuple[Features, dict[str, Split]]:
    """Features and splits of examples that are texts.

    Args:
      source: of the texts.
      assigned: the part of the source, and the rows of it, that make up each split.
      config: `config.data`.
      content: of the tokenizer, instead of the one that the config names; "" for that one.

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
    encoded = {name: _encoded(part, chosen, config) for name, part in parts.items()}
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
    """Checks that what is asked for can be done with texts.

    Args:
      config: `config.data`.
      language: whether they are for language modelling.

    Raises:
      UserError: it cannot.
    """
    for field in ("image_size", "channels"):
        if config[field]:
            raise UserError(f"data.{field}: is for images, but '{config.source}' holds texts; leave it at 0")
    if config.text_length < 1:
        raise UserError(f"data.text_length: {config.text_length} given; it must be at least 1")
    if config.text_stride and not language:
        raise UserError(
            f"data.text_stride: is for language modelling (text:PATH), but the source is '{config.source}'; leave it "
            "at 0"
        )


def encode(
    texts: Sequence[str], chosen: Tokenizer, length: int, *, name: Callable[[int], str], field: str
) -> np.ndarray:
    """Tokens (n, length) int32 of texts, none of which may be empty.

    Args:
      texts: n of them.
      chosen: tokenizer.
      length: tokens of each.
      name: gives what the user knows one of them by.
      field: config field or argument that named them, for messages.

    Raises:
      UserError: a text is empty, or nothing of it is left by the tokenizer.
    """
    for row, text in enumerate(texts):
        if not text.strip():
            raise UserError(f"{field}: {name(row)} is empty; put a text there, or leave it out")
    encoded = chosen.encode(texts, length)
    nothing = (encoded == PADDING_TOKEN).all(axis=1)
    if nothing.any():
        first = name(int(np.argmax(nothing)))
        raise UserError(f"{field}: the tokenizer leaves nothing of {first}; mend the text, or choose another tokenizer")
    return encoded


def kept(config: ml_collections.ConfigDict, key: Mapping[str, object], characters: int, make_tokens) -> np.ndarray:
    """What `make_tokens()` gives, from the cache where that takes long.

    Args:
      config: `config.data`.
      key: all that the tokens depend on.
      characters: of the text.
      make_tokens: makes them.
    """
    if characters < _LONG:
        return make_tokens()

    def write(folder: pathlib.Path) -> None:
        np.save(folder / "tokens.npy", make_tokens())

    return cache.stored(config.cache_dir, key, write)["tokens"]


def _encoded(part: Part, chosen: Tokenizer, config: ml_collections.ConfigDict) -> np.ndarray:
    """Tokens (N, L) of all texts of a part."""
    texts = [part.texts.text(row) for row in range(len(part))]
    key = {
        "texts": part.cache_key or part.fingerprint,
        "column": config.text,
        "tokenizer": digest(chosen.content),
        "length": config.text_length,
    }
    return kept(
        config,
        key,
        sum(map(len, texts)),
        lambda: encode(texts, chosen, config.text_length, name=part.texts.name, field="data.source"),
    )
