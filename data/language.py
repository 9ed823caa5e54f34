"""From one long text to the examples of language modelling: parts that follow each other, cut into windows."""

import ml_collections
import numpy as np

from data import splitting, text_splits, tokenizer
from data.features import PADDING_TOKEN, Features
from data.sources.text import LanguageText, digest, read
from data.split import Split
from data.tokenizer import Tokenizer
from plumbline import UserError


class WindowReader:
    """Windows of one array of tokens, of which none is held twice.

    Args:
      windows: (n, L) int32, a view of the tokens.
      chosen: tokenizer that they are of.
    """

    in_memory = True

    def __init__(self, windows: np.ndarray, chosen: Tokenizer):
        self._windows, self._tokenizer = windows, chosen

    def read(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Windows (B, L) at `positions`; all are sound."""
        return self._windows[positions], np.ones(len(positions), bool)

    def name(self, position: int) -> str:
        """The number of the window."""
        return f"window {position}"

    def text(self, position: int) -> str:
        """The text that the tokens of a window stand for."""
        return self._tokenizer.decode(self._windows[position])


def make(
    source: LanguageText, config: ml_collections.ConfigDict, content: str
) -> tuple[Features, dict[str, Split], list[str]]:
    """Features and splits of a text.

    The test is the last share of the text, and the validation split the last share of what is left, so that no window
    has tokens of two. Labels are the tokens that follow, (n, L) int32 as inputs are; where a part ends both are filled
    up with `PADDING_TOKEN`, so every token but the first of a part is asked for once where windows do not overlap.

    Args:
      source: the text.
      config: `config.data`.
      content: of the tokenizer, instead of the one that the config names; "" for that one.

    Returns:
      Features, splits, and the fingerprints of all texts that were used.

    Raises:
      UserError: a part is too short for one window, or the config does not fit.
    """
    _check(config)
    parts, fingerprints = _parts(source, config)
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
                "and the token after it; give more text, another share, or a smaller length"
            )
        stride = config.text_stride or length if name == "train" else length
        inputs, labels = windows(tokens, length, stride)
        splits[name] = Split(
            labels=labels,
            groups=None,
            weights=np.ones(len(inputs), np.float32),
            rows=start + stride * np.arange(len(inputs)),
            reader=WindowReader(inputs, chosen),
        )
        start += len(tokens)
    return features, splits, fingerprints


def windows(tokens: np.ndarray, length: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of tokens, and the tokens that follow each of them.

    Args:
      tokens: (N,) int32, more than `length`.
      length: tokens of a window.
      stride: from the begin of a window to that of the next.

    Returns:
      Inputs and labels (n, length) int32, views of one array and so read-only. The last window is the first one whose
      labels reach the last token; what lies beyond that is `PADDING_TOKEN`.
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
    if config.task != "auto":
        raise UserError(f"data.task: '{config.task}' is not possible for {config.source}; leave it at 'auto'")
    if config.text_stride > config.text_length:
        raise UserError(
            f"data.text_stride: {config.text_stride} is more than data.text_length, {config.text_length}, so tokens "
            "between the windows would never be read; give at most that"
        )


def _parts(source: LanguageText, config: ml_collections.ConfigDict) -> tuple[dict[str, str], list[str]]:
    """The text of each split, in the order they have in the whole, and the fingerprints of all texts."""
    text, fingerprints = source.text, [source.fingerprint]
    for field in ("test", "validation"):
        if splitting.named(config[field]) is not None:
            raise UserError(f"data.{field}: '{config[field]}', but a text has no splits of its own; write 'N percent'")
    share = splitting.DEFAULT_TEST_SHARE if config.test == "auto" else splitting.share(config.test, "data.test")
    if share is None:
        if config.test in ("", "none"):
            raise UserError(f"data.test: '{config.test}' is not possible; write 'auto', 'N percent' or a path")
        other = read(config.test, "data.test")
        if other.fingerprint == source.fingerprint:
            raise UserError("data.test: holds the very text that is trained on; name another file or 'N percent'")
        test = other.text
        fingerprints.append(other.fingerprint)
    else:
        text, test = _cut(text, share)
    parts = {"train": text, "test": test}
    if config.validation != "none":
        share = splitting.share(config.validation, "data.validation")
        if share is None:
            raise UserError(f"data.validation: '{config.validation}' is not possible; write 'none' or 'N percent'")
        text, validation = _cut(text, share)
        parts = {"train": text, "validation": validation, "test": test}
    return parts, fingerprints


def _cut(text: str, share: float) -> tuple[str, str]:
    """The text less its last share, and that."""
    end = len(text) - round(share * len(text))
    return text[:end], text[end:]


def _tokens(text: str, chosen: Tokenizer, config: ml_collections.ConfigDict) -> np.ndarray:
    key = {"text": digest(text), "tokenizer": digest(chosen.content)}
    return text_splits.kept(config, key, len(text), lambda: chosen.tokens(text))
