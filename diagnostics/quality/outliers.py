"""Rows and images far from all others."""

import numpy as np
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from data.random_streams import Stream, generator
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Histogram, Measure, Remedy, cannot_judge
from diagnostics.quality import single_anomalies
from diagnostics.statistics import wilson_interval
from plumbline import counted

_CHALLENGE = "data quality"
# Rows that the distances are measured to, and those whose distances are.
_REFERENCE, _SCORED = 4000, 50_000
# The fifth nearest, so that a handful of far rows alike do not hide each other (Ramaswamy et al. 2000).
_NEIGHBOUR = 5
_COMPONENTS, _SIDE = 32, 16
# Largest distance between nearly all values of a column that most rows have the same value of.
_RARE_UNITS = 10.0
# Distances are no less, so that they have a logarithm.
_LEAST = 1e-6
# Share of normally spread rows that are nearer than any row that is far, and how many of them are drawn at least.
_NORMAL, _DRAWN = 0.999, 4000
# Robust deviations of the logarithm of the distance, and times the usual distance, of a row that is far; and times the
# usual distance from which on it bends the scaling of a column for all others.
_FAR, _FAR_TIMES, _BENDING_TIMES = 4.0, 2.0, 50.0


def find(examples: Examples, sound: np.ndarray) -> Finding:
    """Rows whose fifth nearest neighbour among training rows is far, against what normally spread rows would show."""
    name = "outliers"
    positions = np.flatnonzero(sound)
    train = positions[examples.split[positions] == "train"]
    if len(train) < 10 * _NEIGHBOUR:
        return cannot_judge(name, _CHALLENGE, f"{counted(len(train), 'training row')} are too few to be far from")
    order = generator(0, Stream.ANOMALY_SAMPLE).permutation(len(examples))
    reference = np.sort(order[np.isin(order, train)][:_REFERENCE])
    scored = np.sort(order[np.isin(order, positions)][:_SCORED])
    place = _Places(examples, reference)
    distances = _distances(place, examples, reference, scored)
    log = np.log(np.maximum(distances, _LEAST))
    ours = np.isin(scored, reference)
    centre = np.median(log[ours])
    # A set of few distinct rows has distances of 0, and no usual one.
    if distances[ours].min() == np.median(distances[ours]):
        return cannot_judge(name, _CHALLENGE, "most rows are the same as others, so that none has a usual distance")
    normal = _normal_distances(place.points)
    # No nearer than nearly all normally spread rows are: on a line, say, those at the ends are far by nature.
    threshold = centre + max(
        _FAR * float(stats.median_abs_deviation(log[ours], scale="normal")),
        float(np.log(_FAR_TIMES)),
        float(np.quantile(normal, _NORMAL, method="higher")),
    )
    far = np.flatnonzero(log > threshold)
    expected = float((normal > threshold - centre).mean())
    times = np.exp(log - centre)
    order = far[np.argsort(-times[far], kind="stable")]
    share = wilson_interval(len(far), len(scored))
    measures = (
        Measure.of("rows far from all others", share, "share"),
        Measure(name="share expected of normally spread rows", value=expected, kind="share"),
        Measure(name="times the usual distance of the farthest", value=float(times.max())),
    )
    histogram = Histogram(
        title="Distance to the fifth nearest training row",
        label="times the usual distance",
        values={split: times[examples.split[scored] == split] for split in examples.splits},
        marks={"far": float(np.exp(threshold - centre))},
    )
    looked = f"{counted(len(scored), 'row')}" + (f" drawn of {len(examples)}" if len(scored) < len(positions) else "")
    expectation = f"{expected:.2%}" if expected else f"less than {1 / len(normal):.2%}"
    if not len(far):
        return Finding(
            name=name,
            challenge=_CHALLENGE,
            severity="none",
            message=f"None of {looked} is far from all others: the farthest is {times.max():.1f} times as far from its "
            "neighbours as a usual row.",
            measures=measures,
            evidence=(histogram,),
        )
    found = scored[far]
    drop = found[examples.split[found] == "train"]
    remedies = [Remedy(text="Look at them one by one, and mend what is wrong.")]
    if len(drop):
        text = "See if training does better without them."
        remedies.append(Remedy(text=text, overrides={"data.drop": f"findings:{name}"}))
    return Finding(
        name=name,
        challenge=_CHALLENGE,
        severity="medium" if times[far].max() >= _BENDING_TIMES else "low",
        message=f"{len(far)} of {looked} ({share[0]:.2%}; {single_anomalies.by_split(examples, found)}) "
        f"{'is' if len(far) == 1 else 'are'} far from all others, the farthest {times[far].max():.1f} times as far "
        f"from its neighbours as a usual row. Of rows spread normally {expectation} would be. They may be slips, or "
        "the rare cases that matter.",
        measures=measures,
        evidence=(
            single_anomalies.rows(
                examples, "Rows far from all others", scored[order], [f"{times[row]:.1f} times" for row in order]
            ),
            histogram,
        ),
        remedies=tuple(remedies),
        drop=drop if len(drop) else None,
    )


class _Places:
    """Where an example lies: numbers whose distances mean something.

    Numbers are scaled by their quartiles, categories are told by how rare they are, images are averaged down and
    brought to their principal components. All fitted on the reference.

    Args:
      examples: of images or a table.
      reference: (n,) positions.
    """

    def __init__(self, examples: Examples, reference: np.ndarray):
        self._features = examples.features
        raw = examples.read(reference)
        if self._features.kind == "image":
            self._pca = PCA(min(_COMPONENTS, len(raw), int(np.prod(self._small(raw[:1]).shape[1:]))), random_state=0)
            self.points = self._pca.fit_transform(self._small(raw))
            return
        self._numeric = len(self._features.numeric_columns)
        numbers = raw[:, : self._numeric].astype(np.float64)
        there = np.isfinite(numbers).any(axis=0)
        numbers[:, ~there] = 0
        self._centre = np.nanmedian(numbers, axis=0)
        low, high, least, most = (np.nanquantile(numbers, share, axis=0) for share in (0.25, 0.75, 0.01, 0.99))
        # By the quartiles; where they lie close together for most values being the same, by where nearly all are.
        scale = np.maximum((high - low) / 1.349, (most - least) / _RARE_UNITS)
        # Where most values are the same, those that are not are rare, not far: none is more than ten units off.
        scale = np.where(scale > 0, scale, (np.nanmax(numbers, axis=0) - np.nanmin(numbers, axis=0)) / _RARE_UNITS)
        # What is constant in training has no distances; `constant_columns` tells of it.
        self._scale = np.where(scale > 0, scale, np.inf)
        self._rarity = [
            -np.log((np.bincount(codes, minlength=slots) + 1) / (len(raw) + slots))
            for codes, slots in zip(raw[:, self._numeric :].astype(np.int64).T, self._features.categories, strict=True)
        ]
        self._usual = np.array([np.median(rarity[codes]) for rarity, codes in self._with_codes(raw)])
        self.points = self(raw)

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Places (n, D) of raw inputs (n, ...)."""
        if self._features.kind == "image":
            return self._pca.transform(self._small(raw))
        numbers = (raw[:, : self._numeric].astype(np.float64) - self._centre) / self._scale
        rare = np.zeros((len(raw), len(self._rarity)))
        for index, (rarity, codes) in enumerate(self._with_codes(raw)):
            # By half: of a category that one row in a thousand has, about three deviations.
            rare[:, index] = (rarity[codes] - self._usual[index]) / 2
        return np.concatenate([np.nan_to_num(numbers), rare], axis=1)

    def _with_codes(self, raw: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        return list(zip(self._rarity, raw[:, self._numeric :].astype(np.int64).T, strict=True))

    @staticmethod
    def _small(images: np.ndarray) -> np.ndarray:
        """Images (n, H, W, C) averaged down to no more than 16 a side, flat."""
        count, height, width, channels = images.shape
        rows, columns = (np.linspace(0, size, min(size, _SIDE) + 1).astype(int)[:-1] for size in (height, width))
        summed = np.add.reduceat(np.add.reduceat(images.astype(np.float32), rows, axis=1), columns, axis=2)
        heights, widths = np.diff([*rows, height]), np.diff([*columns, width])
        small = summed / (heights[None, :, None, None] * widths[None, None, :, None])
        return small.reshape(count, len(rows) * len(columns) * channels)


def _distances(place: _Places, examples: Examples, reference: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Distance (n,) of each scored row to its fifth nearest other row of the reference."""
    neighbours = NearestNeighbors(n_neighbors=_NEIGHBOUR + 1).fit(place.points)
    found = []
    for own, raw in examples.blocks(scored):
        nearest = neighbours.kneighbors(place(raw))[0]
        # A row of the reference is its own nearest.
        found.append(np.where(np.isin(own, reference), nearest[:, _NEIGHBOUR], nearest[:, _NEIGHBOUR - 1]))
    return np.concatenate(found)


def _normal_distances(points: np.ndarray) -> np.ndarray:
    """Logarithms of the distance (m,), less their median, of rows spread normally as the inner ones of (n, D) are.

    As many rows at a time as there are, since the distances hang on that.
    """
    reach = np.abs(points).max(axis=1)
    covariance = np.atleast_2d(np.cov(points[reach <= np.quantile(reach, 0.99)].T))
    rng = np.random.default_rng(0)
    logs = []
    for _ in range(-(-_DRAWN // len(points))):
        drawn = rng.multivariate_normal(np.zeros(len(covariance)), covariance, len(points), method="eigh")
        neighbours = NearestNeighbors(n_neighbors=_NEIGHBOUR + 1).fit(drawn)
        logs.append(np.log(np.maximum(neighbours.kneighbors(drawn)[0][:, _NEIGHBOUR], _LEAST)))
    log = np.concatenate(logs)
    return log - np.median(log)
