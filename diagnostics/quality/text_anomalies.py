"""Texts that are all but empty, very short or long, no words, or longer than what is read of them."""

import dataclasses

import numpy as np

from data.features import PADDING_TOKEN
from data.random_streams import Stream, generator
from data.tokenizer import Tokenizer
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Histogram, Measure, Remedy
from diagnostics.quality import single_anomalies
from diagnostics.statistics import wilson_interval

_CHALLENGE = "data quality"
# Texts. Letters and digits of one that is all but empty; words of a very short one; times the usual of a very long one.
_EMPTY_LETTERS, _SHORT_WORDS, _LONG_TIMES = 3, 3, 10
# Share of its characters, blanks aside, that are letters or digits, below which a text is mostly something else.
_LETTERS = 0.5
_OFF_TEXT = 3.5
# Texts whose tokens are counted, up to so many times the length that is read.
_COUNTED_TEXTS, _COUNTED_TIMES = 1000, 16
# Share of the texts that are cut off from which on it is told, and of their tokens from which on most is lost.
_CUT, _LOST = 0.1, 0.5


def find(examples: Examples) -> Finding:
    """The finding `odd_examples` of texts, which also says how many are cut off by `data.text_length`."""
    count = len(examples)
    characters, letters, words = (np.zeros(count) for _ in range(3))
    full, every = np.zeros(count, bool), np.ones(count, bool)
    for own, tokens in examples.blocks(np.arange(count)):
        full[own] = (tokens != PADDING_TOKEN).all(axis=1)
        for position in own.tolist():
            text = examples.text(position)
            words[position] = len(text.split())
            characters[position] = sum(not character.isspace() for character in text)
            letters[position] = sum(character.isalnum() for character in text)
    long = np.log(np.maximum(characters, 1))
    off, off_letters = (
        single_anomalies.robust(long, every, 0.1),
        single_anomalies.robust(letters / np.maximum(characters, 1), every, 0.01),
    )
    empty = letters < _EMPTY_LETTERS
    other = ~empty & (letters < _LETTERS * characters) & (off_letters < -_OFF_TEXT)
    found = {
        "all but empty": empty,
        "very short": ~empty & (words <= _SHORT_WORDS) & (off < -_OFF_TEXT),
        "very long": (long > np.median(long) + np.log(_LONG_TIMES)) & (off > _OFF_TEXT),
        "mostly no letters": other,
    }
    any_odd = np.any(list(found.values()), axis=0)
    bad = empty | other
    share = wilson_interval(int(bad.sum()), count)
    cut = _cut_off(examples, full)
    severities = [
        "none" if not any_odd.any() else single_anomalies.severity_by_share(share[0]) if bad.any() else "low",
        cut.severity,
    ]
    severity = min(severities, key=("high", "medium", "low", "none").index)
    drop = np.flatnonzero(empty & (examples.split == "train"))
    remedies = list(cut.remedies)
    if any_odd.any():
        remedies.append(Remedy(text="Read them, and mend or leave out those that are not what they should be."))
    if len(drop):
        text = "Leave texts that are all but empty out of training."
        remedies.append(Remedy(text=text, overrides={"data.drop": "findings:odd_examples"}))
    return Finding(
        name="odd_examples",
        challenge=_CHALLENGE,
        severity=severity,
        message=f"{single_anomalies.message(examples, found, count, 'text')} {cut.message}",
        measures=(
            Measure.of("texts that are all but empty or mostly no letters", share, "share"),
            Measure.of("texts that are odd in any way", wilson_interval(int(any_odd.sum()), count), "share"),
            *cut.measures,
        ),
        evidence=(
            *single_anomalies.evidence(examples, found),
            Histogram(
                title="Length of texts",
                label="words",
                values={name: words[examples.split == name] for name in examples.splits},
            ),
        ),
        remedies=tuple(remedies),
        drop=drop if len(drop) else None,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Cut:
    """What reading no more than so many tokens of a text costs."""

    severity: str
    message: str
    measures: tuple[Measure, ...]
    remedies: tuple[Remedy, ...] = ()


def _cut_off(examples: Examples, full: np.ndarray) -> _Cut:
    """Counts the tokens of some of the texts that fill all that is read."""
    (length,) = examples.features.shape
    suspects = np.flatnonzero(full)
    chosen = np.sort(generator(0, Stream.ANOMALY_SAMPLE).permutation(suspects)[:_COUNTED_TEXTS])
    tokens = np.zeros(0, np.int64)
    if len(chosen):
        tokenizer = Tokenizer(examples.features.tokenizer)
        encoded = (tokenizer.encode([examples.text(position)], _COUNTED_TIMES * length) for position in chosen.tolist())
        tokens = np.array([int((each != PADDING_TOKEN).sum()) for each in encoded])
    # Those counted stand for all that fill the length.
    cut = float((tokens > length).mean() * len(suspects)) if len(tokens) else 0.0
    share = wilson_interval(cut, len(full))
    lost = float(np.mean(1 - length / tokens[tokens > length])) if (tokens > length).any() else 0.0
    measures = (
        Measure.of("texts that are cut off", share, "share"),
        Measure(name="tokens of a text cut off that are not read", value=lost, kind="share"),
    )
    if share[0] < _CUT:
        message = f"{share[0]:.1%} of the texts are longer than the {length} tokens that are read."
        return _Cut(severity="none", message=message, measures=measures)
    # As long as nine in ten of all texts need, in a power of two, within what a transformer pays for.
    needed = np.quantile(tokens, 1 - _CUT / full.mean())
    longer = int(min(2 ** np.ceil(np.log2(needed)), 4 * length))
    return _Cut(
        severity="medium" if lost >= _LOST else "low",
        message=f"{share[0]:.1%} of the texts are longer than the {length} tokens that are read; of such a text "
        f"{lost:.0%} is lost in the mean.",
        measures=measures,
        remedies=(Remedy(text="Read more of each text.", overrides={"data.text_length": longer}),),
    )
