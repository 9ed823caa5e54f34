"""Examples that are corrupt or odd, rows far from all others, and values that cannot be."""

import numpy as np

from diagnostics.examples import Examples
from diagnostics.finding import Finding, Measure, Remedy, cannot_judge
from diagnostics.quality import image_anomalies, impossible, outliers, single_anomalies, text_anomalies
from diagnostics.statistics import wilson_interval
from plumbline import counted

_CHALLENGE = "data quality"


def find(examples: Examples) -> list[Finding]:
    """Findings `corrupt_examples`, `odd_examples`, `outliers` and `impossible_values`."""
    kind = examples.features.kind
    sound = _sound(examples)
    by_values = "A row of a table is judged by its values: see outliers and impossible_values."
    odd = {
        "image": lambda: image_anomalies.find(examples, sound),
        "text": lambda: text_anomalies.find(examples),
        "table": lambda: _nothing("odd_examples", by_values),
    }
    return [
        _corrupt(examples, sound),
        odd[kind](),
        cannot_judge("outliers", _CHALLENGE, "how far texts are from each other takes a model that reads them")
        if kind == "text"
        else outliers.find(examples, sound),
        impossible.find(examples)
        if kind == "table"
        else _nothing("impossible_values", f"There are no columns in {kind}s: no value is impossible by what it is."),
    ]


def _nothing(name: str, message: str) -> Finding:
    return Finding(name=name, challenge=_CHALLENGE, severity="none", message=message)


def _sound(examples: Examples, size: int = 1024) -> np.ndarray:
    """Which of all examples (N,) could be decoded."""
    starts = range(0, len(examples), size)
    return np.concatenate(
        [examples.sound(np.arange(start, min(start + size, len(examples)))) for start in starts] or [np.ones(0, bool)]
    )


def _corrupt(examples: Examples, sound: np.ndarray) -> Finding:
    name = "corrupt_examples"
    if examples.features.kind != "image":
        return _nothing(name, f"A {examples.features.kind} that cannot be read is an error, so there is none here.")
    corrupt = np.flatnonzero(~sound)
    share = wilson_interval(len(corrupt), len(examples))
    measure = Measure.of("images that are corrupt", share, "share")
    if not len(corrupt):
        message = f"All of {counted(len(examples), 'image')} can be decoded."
        return Finding(name=name, challenge=_CHALLENGE, severity="none", message=message, measures=(measure,))
    drop = corrupt[examples.split[corrupt] == "train"]
    remedies = (Remedy(text="Replace the files, or take them away."),)
    if len(drop):
        remedies += (Remedy(text="Leave them out of training.", overrides={"data.drop": f"findings:{name}"}),)
    return Finding(
        name=name,
        challenge=_CHALLENGE,
        severity=single_anomalies.severity_by_share(share[0]),
        message=f"{counted(len(corrupt), 'image')} of {len(examples)} cannot be decoded "
        f"({single_anomalies.by_split(examples, corrupt)}). They have no weight in training and are not counted in "
        "metrics.",
        measures=(measure,),
        evidence=(single_anomalies.rows(examples, "Corrupt images", corrupt, ["cannot be decoded"] * len(corrupt)),),
        remedies=remedies,
        drop=drop if len(drop) else None,
    )
