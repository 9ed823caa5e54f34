"""Tokenizers of the library `tokenizers`: a `tokenizer.json`, or one token per character."""

import itertools
import json
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from data.features import PADDING_TOKEN
from plumbline import UserError

FILE = "tokenizer.json"
CHARACTERS = "characters"
"""Value of `config.data.tokenizer` for one token per character."""

# Token of characters not seen in training (the replacement character of Unicode).
_UNKNOWN = "\ufffd"
# Names of the mask token in the files of BERT and of RoBERTa.
_MASK_TOKENS = ("[MASK]", "<mask>")
# The library needs about 400 bytes per token during a call. So texts are passed in batches, and a long text in pieces.
_TEXTS_AT_ONCE = 512
_PIECE_CHARACTERS, _PIECES_AT_ONCE = 2**15, 16
# A single line break between two lines. No common tokenizer merges characters across it.
_LINE_BREAK = re.compile(r"(?<=\S)\n(?=\S)")


class Tokenizer:
    """A tokenizer. Its own settings for truncation and padding are ignored.

    Attributes:
      content: content of its tokenizer.json.
      vocabulary: number of token ids, from 0 on.
      mask_token: id of the mask token, or None.
    """

    def __init__(self, content: str, *, name: str = FILE):
        """Reads the content of a tokenizer.json.

        Args:
          content: JSON text.
          name: name of the file, for messages.

        Raises:
          UserError: the library cannot read it.
        """
        import tokenizers

        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(content)
        except Exception as error:  # The library raises no specific type.
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"data.tokenizer: '{name}' is not a tokenizer for the library `tokenizers` ({reason}); give a "
                f"{FILE} saved by it or by a fast tokenizer of Hugging Face"
            ) from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.content = content
        self.vocabulary = 1 + max(self._tokenizer.get_vocab().values(), default=-1)
        if not self.vocabulary:
            raise UserError(f"data.tokenizer: '{name}' has no tokens; give a trained one")
        found = (self._tokenizer.token_to_id(token) for token in _MASK_TOKENS)
        self.mask_token: int | None = next((token for token in found if token is not None), None)

    def encode(self, texts: Sequence[str], length: int) -> np.ndarray:
        """Tokenises texts and adds special tokens (BERT's [CLS] and [SEP]).

        Args:
          texts: n texts.
          length: number of tokens; longer texts are truncated at the end, shorter ones padded with `PADDING_TOKEN`.

        Returns:
          (n, length) int32.

        Raises:
          UserError: the special tokens alone fill the length.
        """
        around = self._tokenizer.num_special_tokens_to_add(False)
        if length <= around:
            raise UserError(
                f"data.text_length: {length} has no room for text besides the {around} special tokens of the "
                f"tokenizer; give at least {around + 1}"
            )
        encoded = np.full((len(texts), length), PADDING_TOKEN, np.int32)
        self._tokenizer.enable_truncation(length)
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            batch = self._tokenizer.encode_batch_fast(list(texts[start : start + _TEXTS_AT_ONCE]))
            for row, encoding in enumerate(batch, start):
                ids = encoding.ids
                encoded[row, : len(ids)] = ids
        self._tokenizer.no_truncation()
        return encoded

    def tokens(self, text: str) -> np.ndarray:
        """Tokenises one text of any length, without special tokens, to (n,) int32."""
        ids = [np.zeros(0, np.int32)]
        pieces = _pieces(text)
        while batch := list(itertools.islice(pieces, _PIECES_AT_ONCE)):
            encodings = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            ids.extend(np.array(encoding.ids, np.int32) for encoding in encodings)
        return np.concatenate(ids)

    def names(self, ids: Iterable[int] | np.ndarray) -> list[str]:
        """Returns the tokens of ids as the tokenizer writes them, without padding."""
        return [self._tokenizer.id_to_token(int(number)) or f"#{number}" for number in ids if number != PADDING_TOKEN]

    def contradicts(self, other: "Tokenizer") -> bool:
        """Returns whether some id stands for different tokens in the two tokenizers."""
        theirs = {number: token for token, number in other._tokenizer.get_vocab().items()}
        return any(theirs.get(number, token) != token for token, number in self._tokenizer.get_vocab().items())

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """Decodes tokens to text, without padding and special tokens."""
        return self._tokenizer.decode([int(token) for token in ids if token != PADDING_TOKEN])


def read(path: str) -> Tokenizer:
    """Reads the tokenizer at `config.data.tokenizer`: a file, or a directory with a tokenizer.json.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    file = pathlib.Path(path)
    if file.is_dir():
        file = file / FILE
        if not file.is_file():
            raise UserError(f"data.tokenizer: '{path}' has no {FILE}; save the tokenizer there under this name")
    if not file.is_file():
        raise UserError(
            f"data.tokenizer: no such file '{path}'; give a {FILE}, a directory with one, or '{CHARACTERS}'"
        )
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UserError(f"data.tokenizer: '{file}' cannot be read ({error}); fix or replace it") from None
    return Tokenizer(content, name=str(file))


def make_character_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Makes a tokenizer with one token per character of the texts, in Unicode order, after one for all others."""
    import tokenizers

    found: set[str] = set()
    for text in texts:
        found.update(text)
    characters = [_UNKNOWN, *sorted(found - {_UNKNOWN})]
    vocabulary = {character: number for number, character in enumerate(characters)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    every = tokenizers.Regex(r"[\s\S]")
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split(every, behavior="isolated")
    made.decoder = tokenizers.decoders.Fuse()
    # The library writes the vocabulary in varying order. Sort it: the content is part of the fingerprint.
    return Tokenizer(json.dumps(json.loads(made.to_str()), ensure_ascii=False, sort_keys=True))


def open_tokenizer(name: str, texts: Iterable[str]) -> Tokenizer:
    """Opens the tokenizer that `config.data.tokenizer` names.

    Args:
      name: a path, or `CHARACTERS`.
      texts: training texts, which define the characters.

    Raises:
      UserError: as `read`, or none is named.
    """
    if not name:
        raise UserError(
            f"data.tokenizer: not set, but texts need one; give a {FILE}, a directory with one, or '{CHARACTERS}'"
        )
    return make_character_tokenizer(texts) if name == CHARACTERS else read(name)


def _pieces(text: str) -> Iterator[str]:
    """Splits a text at line breaks into pieces, which have the same tokens as the whole text."""
    start = 0
    while start < len(text):
        found = _LINE_BREAK.search(text, start + _PIECE_CHARACTERS)
        end = found.end() if found else len(text)
        yield text[start:end]
        start = end
