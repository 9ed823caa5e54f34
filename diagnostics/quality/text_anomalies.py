"""Texts that are nearly empty, very short or long, not made of words, or longer than what a model reads."""

import dataclasses

import numpy as np

from data.features import PADDING_TOKEN
from data.random_streams import Stream, generator
from data.tokenizer import Tokenizer
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Histogram, Measure, Question, Remedy, drop_remedy
from diagnostics.quality.anomaly_evidence import describe, robust_deviations, show
from diagnostics.severity import Severity, worst
from diagnostics.statistics import wilson_interval
from diagnostics.thresholds import THRESHOLDS

# Texts whose tokens are counted, up to this many times the length that is read.
_COUNTED_TEXTS, _COUNTED_TIMES = 1000, 16


def judge(question: Question, examples: Examples) -> Finding:
    """Looks for texts that are anomalous by themselves, and for texts that `data.text_length` truncates.

    Args:
      question: that is answered.
      examples: of texts.
    """
    count = len(examples)
    sizes = _measure(examples)
    found = _anomalies(sizes)
    anomalous = np.any(list(found.values()), axis=0)
    empty = found["nearly empty"]
    useless = empty | found["mostly not letters"]
    share = wilson_interval(int(useless.sum()), count)
    truncation = _judge_truncation(examples, sizes.full)
    severity: Severity = "low" if anomalous.any() else "none"
    if useless.any():
        severity = THRESHOLDS.affected.grade(share[0])
    drop = np.flatnonzero(empty & (examples.split == "train"))
    look = (Remedy(text="Read these texts, and correct or leave out those that are wrong."),)
    return question.found(
        worst(severity, truncation.severity),
        f"{describe(examples, found, count, 'text')} {truncation.message}",
        measures=(
            Measure.of("texts that are nearly empty or mostly not letters", share, "share"),
            Measure.of("texts that are anomalous in any way", wilson_interval(int(anomalous.sum()), count), "share"),
            *truncation.measures,
        ),
        evidence=(
            *show(found),
            Histogram(
                title="Length of texts",
                label="words",
                values={name: sizes.words[examples.split == name] for name in examples.splits},
            ),
        ),
        remedies=(
            *truncation.remedies,
            *(look if anomalous.any() else ()),
            *drop_remedy(question.name, drop, "Leave nearly empty texts out of training."),
        ),
        drop=drop if len(drop) else None,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Sizes:
    """Sizes (N,) of texts: non-blank characters, letters and digits, words, and whether all that is read is filled."""

    characters: np.ndarray
    letters: np.ndarray
    words: np.ndarray
    full: np.ndarray


def _measure(examples: Examples) -> _Sizes:
    count = len(examples)
    characters, letters, words = (np.zeros(count) for _ in range(3))
    full = np.zeros(count, bool)
    for own, tokens in examples.blocks(np.arange(count)):
        full[own] = (tokens != PADDING_TOKEN).all(axis=1)
        for position in own.tolist():
            text = examples.text(position)
            words[position] = len(text.split())
            characters[position] = sum(not character.isspace() for character in text)
            letters[position] = sum(character.isalnum() for character in text)
    return _Sizes(characters=characters, letters=letters, words=words, full=full)


def _anomalies(sizes: _Sizes) -> dict[str, np.ndarray]:
    every, limit = np.ones(len(sizes.words), bool), THRESHOLDS.text_deviations
    length = np.log(np.maximum(sizes.characters, 1))
    off = robust_deviations(length, every, 0.1)
    off_letters = robust_deviations(sizes.letters / np.maximum(sizes.characters, 1), every, 0.01)
    empty = sizes.letters < THRESHOLDS.empty_text_letters
    few_letters = sizes.letters < THRESHOLDS.letter_share * sizes.characters
    return {
        "nearly empty": empty,
        "very short": ~empty & (sizes.words <= THRESHOLDS.short_text_words) & (off < -limit),
        "very long": (length > np.median(length) + np.log(THRESHOLDS.long_text_times)) & (off > limit),
        "mostly not letters": ~empty & few_letters & (off_letters < -limit),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Truncation:
    """What truncating texts to the length that is read costs."""

    severity: Severity
    message: str
    measures: tuple[Measure, ...]
    remedies: tuple[Remedy, ...] = ()


def _judge_truncation(examples: Examples, full: np.ndarray) -> _Truncation:
    """Counts the tokens of a sample of the texts that fill the length that is read."""
    (length,) = examples.features.shape
    suspects = np.flatnonzero(full)
    chosen = np.sort(generator(0, Stream.ANOMALY_SAMPLE).permutation(suspects)[:_COUNTED_TEXTS])
    tokens = np.zeros(0, np.int64)
    if len(chosen):
        tokenizer = Tokenizer(examples.features.tokenizer)
        encoded = (tokenizer.encode([examples.text(position)], _COUNTED_TIMES * length) for position in chosen.tolist())
        tokens = np.array([int((each != PADDING_TOKEN).sum()) for each in encoded])
    # The sample stands for all texts that fill the length.
    truncated = float((tokens > length).mean() * len(suspects)) if len(tokens) else 0.0
    share = wilson_interval(truncated, len(full))
    lost = float(np.mean(1 - length / tokens[tokens > length])) if (tokens > length).any() else 0.0
    measures = (
        Measure.of("texts that are truncated", share, "share"),
        Measure(name="tokens of a truncated text that are not read", value=lost, kind="share"),
    )
    message = f"{share[0]:.1%} of the texts are longer than the {length} tokens that are read"
    if share[0] < THRESHOLDS.truncated_texts:
        return _Truncation(severity="none", message=f"{message}.", measures=measures)
    # The length that nine texts in ten need, as a power of two, but no longer than a transformer can afford.
    needed = np.quantile(tokens, 1 - THRESHOLDS.truncated_texts / full.mean())
    longer = int(min(2 ** np.ceil(np.log2(needed)), 4 * length))
    return _Truncation(
        severity=THRESHOLDS.truncated_tokens.grade(lost),
        message=f"{message}; such a text loses {lost:.0%} of its tokens on average.",
        measures=measures,
        remedies=(Remedy(text="Read more of each text.", overrides={"data.text_length": longer}),),
    )
