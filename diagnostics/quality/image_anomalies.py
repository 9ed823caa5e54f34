"""Images that are blank, much too dark or bright, or of an unusual size."""

import io

import numpy as np

from data.random_streams import Stream, generator
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Histogram, Measure, Question, Remedy, drop_remedy
from diagnostics.quality.anomaly_evidence import describe, robust_deviations, show
from diagnostics.severity import Severity
from diagnostics.statistics import wilson_interval
from diagnostics.thresholds import THRESHOLDS

# Files whose sizes are read; only their headers are decoded.
_MOST_FILES = 100_000


def judge(question: Question, examples: Examples) -> Finding:
    """Looks for images that are anomalous by themselves.

    Args:
      question: that is answered.
      examples: of images.
    """
    sound = examples.decodable
    positions = np.flatnonzero(sound)
    if not len(positions):
        return question.cannot_tell("no image can be decoded")
    means, blank, flat = _measure(examples, positions)
    plain = blank | flat
    found = {
        "blank": blank,
        "nearly constant": flat,
        **_unusual_brightness(means, sound, plain),
        **_unusual_sizes(examples, positions),
    }
    useless = np.flatnonzero(plain)
    share = wilson_interval(len(useless), len(positions))
    anomalous = np.any(list(found.values()), axis=0)
    drop = np.flatnonzero(blank & (examples.split == "train"))
    severity: Severity = "low" if anomalous.any() else "none"
    if len(useless):
        severity = THRESHOLDS.affected.grade(share[0])
    remedies = (
        Remedy(text="Look at these images and replace those that are wrong."),
        *drop_remedy(question.name, drop, "Leave blank images out of training."),
    )
    return question.found(
        severity,
        describe(examples, found, len(positions), "image"),
        measures=(
            Measure.of("images that are blank or nearly constant", share, "share"),
            Measure.of(
                "images that are anomalous in any way", wilson_interval(int(anomalous.sum()), len(positions)), "share"
            ),
        ),
        evidence=(
            *show(found),
            Histogram(
                title="Brightness of images",
                label="mean level (0 to 255)",
                values={name: means[(examples.split == name) & sound] for name in examples.splits},
            ),
        ),
        remedies=remedies if anomalous.any() else (),
        drop=drop if len(drop) else None,
    )


def _measure(examples: Examples, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean levels (N,) of the images, which are blank (N,), and which others are nearly constant (N,)."""
    means, deviations, ranges = (np.zeros(len(examples)) for _ in range(3))
    for own, inputs in examples.blocks(positions):
        values = inputs.reshape(len(inputs), -1).astype(np.float32)
        means[own] = values.mean(axis=1)
        deviations[own], ranges[own] = values.std(axis=1), np.ptp(values, axis=1)
    sound = examples.decodable
    blank = sound & (ranges <= THRESHOLDS.blank_range)
    unlike_others = robust_deviations(deviations, sound) < -THRESHOLDS.image_deviations
    flat = sound & ~blank & (deviations < THRESHOLDS.flat_deviation) & unlike_others
    return means, blank, flat


def _unusual_brightness(means: np.ndarray, sound: np.ndarray, plain: np.ndarray) -> dict[str, np.ndarray]:
    """Images much darker or brighter than the others; a set of night skies has none."""
    deviations, limit = robust_deviations(means, sound), THRESHOLDS.image_deviations
    return {
        "much darker than the others": sound & ~plain & (means < THRESHOLDS.dark_level) & (deviations < -limit),
        "much brighter than the others": sound & ~plain & (means > THRESHOLDS.bright_level) & (deviations > limit),
    }


def _unusual_sizes(examples: Examples, positions: np.ndarray) -> dict[str, np.ndarray]:
    """Images (N,) bool whose files have an unusual size or aspect ratio; {} if there are no files."""
    from PIL import Image

    if len(positions) > _MOST_FILES:
        positions = np.sort(generator(0, Stream.ANOMALY_SAMPLE).permutation(positions)[:_MOST_FILES])
    sizes = np.ones((len(examples), 2))
    for position in positions.tolist():
        encoded = examples.read_encoded(position)
        if encoded is None:
            return {}
        with Image.open(io.BytesIO(encoded)) as image:
            sizes[position] = image.size
    measured = np.zeros(len(examples), bool)
    measured[positions] = True
    sides = np.log(sizes)
    usual = np.median(sides[measured], axis=0)
    aspect = sides[:, 0] - sides[:, 1]
    apart = np.abs(sides - usual).max(axis=1)
    skewed = np.abs(aspect - np.median(aspect[measured]))
    return {
        "of an unusual size": measured & (apart > np.log(THRESHOLDS.image_side_times)),
        "of an unusual shape": measured & (skewed > np.log(THRESHOLDS.image_aspect_times)),
    }
