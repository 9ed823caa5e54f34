"""Texts as tokens: a `tokenizer.json`, or one made of the characters of a text, by the library `tokenizers`."""

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
"""What `config.data.tokenizer` says for a token for each character."""

# What stands for a character that training never saw (the replacement character of Unicode).
_UNKNOWN = "\ufffd"
# What the masked-out token is called in the files of BERT and of RoBERTa and their kin.
_MASK_TOKENS = ("[MASK]", "<mask>")
# The library keeps some 400 bytes a token until it has answered: texts are handed to it so many at a time, and a long
# one in pieces of so many characters.
_TEXTS_AT_ONCE = 512
_PIECE_CHARACTERS, _PIECES_AT_ONCE = 2**15, 16
# A line break alone between two lines, after which no tokenizer known to us joins characters over the cut.
_LINE_BREAK = re.compile(r"(?<=\S)\n(?=\S)")


class Tokenizer:
    """A tokenizer; its own settings for cutting and padding are not used.

    Attributes:
      content: of its tokenizer.json.
      vocabulary: tokens there are; ids are smaller.
      mask_token: id of the token that stands for a hidden one, or None.
    """

    def __init__(self, content: str, *, name: str = FILE):
        """Reads the content of a tokenizer.json.

        Args:
          content: JSON.
          name: of the file, for messages.

        Raises:
          UserError: the library does not understand it.
        """
        import tokenizers

        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(content)
        except Exception as error:  # The library raises nothing more particular.
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"data.tokenizer: '{name}' is no tokenizer that the library `tokenizers` reads ({reason}); give a "
                f"{FILE}, as it or a fast tokenizer of Hugging Face saves it"
            ) from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.content = content
        self.vocabulary = 1 + max(self._tokenizer.get_vocab().values(), default=-1)
        if not self.vocabulary:
            raise UserError(f"data.tokenizer: '{name}' has no tokens; give one that was trained")
        found = (self._tokenizer.token_to_id(token) for token in _MASK_TOKENS)
        self.mask_token: int | None = next((token for token in found if token is not None), None)

    def encode(self, texts: Sequence[str], length: int) -> np.ndarray:
        """Tokens of each text, with those that the tokenizer puts around one (BERT's [CLS] and [SEP]).

        Args:
          texts: n of them.
          length: tokens of each; longer texts are cut at their end, shorter ones filled up with `PADDING_TOKEN`.

        Returns:
          (n, length) int32.

        Raises:
          UserError: the length leaves no room for a token of the text.
        """
        around = self._tokenizer.num_special_tokens_to_add(False)
        if length <= around:
            raise UserError(
                f"data.text_length: {length} leaves no room for text beside the {around} tokens that the tokenizer "
                f"puts around it; give at least {around + 1}"
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
        """All tokens of one text of any length, with none around it: (n,) int32."""
        ids = [np.zeros(0, np.int32)]
        pieces = _pieces(text)
        while batch := list(itertools.islice(pieces, _PIECES_AT_ONCE)):
            encodings = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            ids.extend(np.array(encoding.ids, np.int32) for encoding in encodings)
        return np.concatenate(ids)

    def contradicts(self, other: "Tokenizer") -> bool:
        """Whether a number stands for one token here and for another there."""
        theirs = {number: token for token, number in other._tokenizer.get_vocab().items()}
        return any(theirs.get(number, token) != token for token, number in self._tokenizer.get_vocab().items())

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """The text of tokens; padding and the tokens around a text are left out."""
        return self._tokenizer.decode([int(token) for token in ids if token != PADDING_TOKEN])


def read(path: str) -> Tokenizer:
    """The tokenizer at `config.data.tokenizer`: a file, or a directory that has a tokenizer.json.

    Raises:
      UserError: there is none, or none that is understood.
    """
    file = pathlib.Path(path)
    if file.is_dir():
        file = file / FILE
        if not file.is_file():
            raise UserError(f"data.tokenizer: '{path}' has no {FILE}; save the tokenizer there in that form")
    if not file.is_file():
        raise UserError(
            f"data.tokenizer: no such file '{path}'; give a {FILE}, a directory that has one, or '{CHARACTERS}'"
        )
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UserError(f"data.tokenizer: '{file}' cannot be read ({error}); mend or replace it") from None
    return Tokenizer(content, name=str(file))


def of_characters(texts: Iterable[str]) -> Tokenizer:
    """A token for each character that the texts have, in the order of Unicode, after one for any other."""
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
    # The library writes the vocabulary in an order of its own; it counts as content, so it must not change.
    return Tokenizer(json.dumps(json.loads(made.to_str()), ensure_ascii=False, sort_keys=True))


def open_tokenizer(name: str, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer that `config.data.tokenizer` names.

    Args:
      name: a path, or `CHARACTERS`.
      texts: of training, which its characters are taken from.

    Raises:
      UserError: as `read`, or none is named.
    """
    if not name:
        raise UserError(
            f"data.tokenizer: is not given, and texts need one; give a {FILE}, a directory that has one, or "
            f"'{CHARACTERS}'"
        )
    return of_characters(texts) if name == CHARACTERS else read(name)


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces that end where a line does, so that they have the tokens that the whole has."""
    start = 0
    while start < len(text):
        found = _LINE_BREAK.search(text, start + _PIECE_CHARACTERS)
        end = found.end() if found else len(text)
        yield text[start:end]
        start = end
