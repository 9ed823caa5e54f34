"""Images that are blank, much too dark or bright, or of an odd size."""

import io

import numpy as np

from data.random_streams import Stream, generator
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Histogram, Measure, Remedy, cannot_judge
from diagnostics.quality import single_anomalies
from diagnostics.statistics import wilson_interval

_CHALLENGE = "data quality"
# Images. Levels of 0 to 255 between the darkest and the brightest value of one that is blank, and their deviation in
# one that nearly is; mean levels of one that is much too dark or bright.
_BLANK_RANGE, _FLAT_DEVIATION, _DARK, _BRIGHT = 3, 4.0, 25.0, 230.0
# Robust deviations from the other images, which it must be off as well: a set of night skies is not odd.
_OFF = 3.0
# Times that a side is shorter or longer than the usual, or an image is wider or higher in proportion.
_ODD_SIDE, _ODD_ASPECT = 4.0, 2.0
# Files whose sizes are looked at; the headers are all that is decoded.
_MOST_FILES = 100_000


def find(examples: Examples, sound: np.ndarray) -> Finding:
    """The finding `odd_examples` of images.

    Args:
      examples: the images.
      sound: (N,) bool, which of them can be decoded.
    """
    positions = np.flatnonzero(sound)
    if not len(positions):
        return cannot_judge("odd_examples", _CHALLENGE, "no image can be decoded")
    means, deviations, ranges = (np.zeros(len(examples)) for _ in range(3))
    for own, inputs in examples.blocks(positions):
        flat = inputs.reshape(len(inputs), -1).astype(np.float32)
        means[own] = flat.mean(axis=1)
        deviations[own], ranges[own] = flat.std(axis=1), np.ptp(flat, axis=1)
    off_mean, off_deviation = single_anomalies.robust(means, sound), single_anomalies.robust(deviations, sound)
    blank = sound & (ranges <= _BLANK_RANGE)
    flat = sound & ~blank & (deviations < _FLAT_DEVIATION) & (off_deviation < -_OFF)
    plain = blank | flat
    found = {
        "blank": blank,
        "nearly constant": flat,
        "much darker than the others": sound & ~plain & (means < _DARK) & (off_mean < -_OFF),
        "much brighter than the others": sound & ~plain & (means > _BRIGHT) & (off_mean > _OFF),
        **_odd_sizes(examples, positions),
    }
    bad = np.flatnonzero(plain)
    share = wilson_interval(len(bad), len(positions))
    any_odd = np.any(list(found.values()), axis=0)
    drop = np.flatnonzero(blank & (examples.split == "train"))
    histogram = Histogram(
        title="Brightness of images",
        label="mean level (0 to 255)",
        values={name: means[(examples.split == name) & sound] for name in examples.splits},
    )
    remedies = [Remedy(text="Look at them, and replace those that are not what they should be.")]
    if len(drop):
        remedies.append(
            Remedy(text="Leave blank ones out of training.", overrides={"data.drop": "findings:odd_examples"})
        )
    return Finding(
        name="odd_examples",
        challenge=_CHALLENGE,
        severity=single_anomalies.severity_by_share(share[0]) if len(bad) else "low" if any_odd.any() else "none",
        message=single_anomalies.message(examples, found, len(positions), "image"),
        measures=(
            Measure.of("images that are blank or nearly constant", share, "share"),
            Measure.of("images that are odd in any way", wilson_interval(int(any_odd.sum()), len(positions)), "share"),
        ),
        evidence=(*single_anomalies.evidence(examples, found), histogram),
        remedies=tuple(remedies) if any_odd.any() else (),
        drop=drop if len(drop) else None,
    )


def _odd_sizes(examples: Examples, positions: np.ndarray) -> dict[str, np.ndarray]:
    """Images whose files are of another size or shape than is usual, where there are files; by what is odd, (N,)."""
    from PIL import Image

    if len(positions) > _MOST_FILES:
        positions = np.sort(generator(0, Stream.ANOMALY_SAMPLE).permutation(positions)[:_MOST_FILES])
    sizes = np.ones((len(examples), 2))
    for position in positions.tolist():
        encoded = examples.encoded(position)
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
    return {
        "of an odd size": measured & (apart > np.log(_ODD_SIDE)),
        "of an odd shape": measured & (np.abs(aspect - np.median(aspect[measured])) > np.log(_ODD_ASPECT)),
    }
