"""Splits for language modelling: one long text, split into consecutive parts that are cut into windows."""

import ml_collections
import numpy as np

from data import splitting, text_splits, tokenizer
from data.features import PADDING_TOKEN, Features
from data.sources.text import LanguageText, digest, read
from data.split import Split
from data.tokenizer import Tokenizer
from plumbline import UserError


class WindowReader:
    """Windows of one array of tokens; overlapping windows share memory.

    Args:
      windows: (n, L) int32, a view of the tokens.
      chosen: tokenizer of the tokens.
    """

    in_memory = True

    def __init__(self, windows: np.ndarray, chosen: Tokenizer):
        self._windows, self._tokenizer = windows, chosen

    def read(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reads windows (B, L) at `positions`; all are valid."""
        return self._windows[positions], np.ones(len(positions), bool)

    def name(self, position: int) -> str:
        """Returns the number of the window."""
        return f"window {position}"

    def text(self, position: int) -> str:
        """Decodes the tokens of a window to text."""
        return self._tokenizer.decode(self._windows[position])


def make(
    source: LanguageText, config: ml_collections.ConfigDict, content: str
) -> tuple[Features, dict[str, Split], list[str]]:
    """Makes the features and splits of a text.

    The test split is the end of the text, and the validation split the end of the rest, so that no window spans two
    splits. Labels are the next tokens, (n, L) int32 like the inputs. Both are padded with `PADDING_TOKEN` at the end of
    a split. If windows do not overlap, each token of a split but the first is predicted exactly once.

    Args:
      source: the text.
      config: `config.data`.
      content: content of the tokenizer's file; "" to read the one named in the config.

    Returns:
      Features, splits, and the fingerprints of all texts that were read.

    Raises:
      UserError: a split is too short for one window, or the config does not fit.
    """
    _check(config)
    parts, fingerprints = _split_text(source, config)
    chosen = Tokenizer(content) if content else tokenizer.open_tokenizer(config.tokenizer, [parts["train"]])
    length = config.text_length
    features = Features(
        kind="text",
        shape=(length,),
        dtype="int32",
        task="language",
        target="token",
        tokenizer=chosen.content,
        vocabulary=chosen.vocabulary,
    )
    splits, start = {}, 0
    for name, text in parts.items():
        tokens = _tokens(text, chosen, config)
        if len(tokens) <= length:
            raise UserError(
                f"data.text_length: {length}, but the {name} split has {len(tokens)} tokens, too few for one window "
                "and the next token; give more text, another share, or a smaller length"
            )
        stride = config.text_stride or length if name == "train" else length
        inputs, labels = cut_windows(tokens, length, stride)
        splits[name] = Split(
            labels=labels,
            groups=None,
            weights=np.ones(len(inputs), np.float32),
            rows=start + stride * np.arange(len(inputs)),
            reader=WindowReader(inputs, chosen),
        )
        start += len(tokens)
    return features, splits, fingerprints


def cut_windows(tokens: np.ndarray, length: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Cuts tokens into windows with their next tokens.

    Args:
      tokens: (N,) int32, more than `length` of them.
      length: tokens of a window.
      stride: tokens from the start of a window to the start of the next.

    Returns:
      Inputs and labels (n, length) int32, read-only views of one array. The last window is the first whose labels reach
      the last token; positions after that are `PADDING_TOKEN`.
    """
    count = 1 + -(-(len(tokens) - 1 - length) // stride)
    filled = np.full((count - 1) * stride + length + 1, PADDING_TOKEN, np.int32)
    filled[: len(tokens)] = tokens
    inputs, labels = (
        np.lib.stride_tricks.sliding_window_view(part, length)[::stride] for part in (filled[:-1], filled[1:])
    )
    return inputs, labels


def _check(config: ml_collections.ConfigDict) -> None:
    text_splits.check_options(config, language=True)
    for field in ("classes", "examples_per_class"):
        if config[field]:
            raise UserError(f"data.{field}: needs classes, which language modelling does not have; leave it empty")
    if config.task != "auto":
        raise UserError(f"data.task: '{config.task}' is not supported for {config.source}; leave it at 'auto'")
    if config.text_stride > config.text_length:
        raise UserError(
            f"data.text_stride: {config.text_stride} is more than data.text_length, {config.text_length}, so tokens "
            "between windows would be skipped; give at most the length of a window"
        )


def _split_text(source: LanguageText, config: ml_collections.ConfigDict) -> tuple[dict[str, str], list[str]]:
    """Splits a text. Returns the text of each split, in the order of the source, and the fingerprints of all texts."""
    text, fingerprints = source.text, [source.fingerprint]
    for field in ("test", "validation"):
        if splitting.split_name(config[field]) is not None:
            raise UserError(f"data.{field}: '{config[field]}', but a text has no named splits; write 'N percent'")
    share = splitting.DEFAULT_TEST_SHARE if config.test == "auto" else splitting.parse_share(config.test, "data.test")
    if share is None:
        if config.test in ("", "none"):
            raise UserError(f"data.test: '{config.test}' is not valid; write 'auto', 'N percent' or a path")
        other = read(config.test, "data.test")
        if other.fingerprint == source.fingerprint:
            raise UserError("data.test: is the same text as the training data; name another file or 'N percent'")
        test = other.text
        fingerprints.append(other.fingerprint)
    else:
        text, test = _cut_tail(text, share)
    parts = {"train": text, "test": test}
    if config.validation != "none":
        share = splitting.parse_validation_share(config.validation)
        if share is None:
            raise UserError(f"data.validation: '{config.validation}' is not valid; write 'auto', 'none' or 'N percent'")
        text, validation = _cut_tail(text, share)
        parts = {"train": text, "validation": validation, "test": test}
    return parts, fingerprints


def _cut_tail(text: str, share: float) -> tuple[str, str]:
    """Splits off the last share of a text."""
    end = len(text) - round(share * len(text))
    return text[:end], text[end:]


def _tokens(text: str, chosen: Tokenizer, config: ml_collections.ConfigDict) -> np.ndarray:
    key = {"text": digest(text), "tokenizer": digest(chosen.content)}
    return text_splits.cache_tokens(config, key, len(text), lambda: chosen.tokens(text))
