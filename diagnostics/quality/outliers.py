"""Rows and images far from all others."""

import dataclasses

import numpy as np
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from data.random_streams import Stream, generator
from diagnostics.diagnostic import Diagnostic
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Histogram, Measure, Question, Remedy, drop_remedy
from diagnostics.material import Material
from diagnostics.phrases import choose
from diagnostics.quality.anomaly_evidence import count_by_split, list_rows
from diagnostics.quality.places import Places
from diagnostics.statistics import wilson_interval
from diagnostics.thresholds import THRESHOLDS
from plumbline import pluralize

QUESTION = Question("outliers", "data quality")

# Training rows that distances are measured to, and rows whose distances are measured.
_REFERENCE, _SCORED = 4000, 50_000
# The fifth nearest neighbour: a few similar outliers do not hide each other (Ramaswamy et al. 2000).
_NEIGHBOUR = 5
# Distances are at least this, so that they have a logarithm.
_LEAST = 1e-6
# Normally distributed rows that are drawn at least.
_DRAWN = 4000


def find(material: Material) -> list[Finding]:
    """Looks for rows whose fifth nearest training row is far, compared with normally distributed rows."""
    examples = material.examples
    if examples.features.kind == "text":
        return [QUESTION.cannot_tell("distances between texts take a model that reads them")]
    positions = np.flatnonzero(examples.decodable)
    train = positions[examples.split[positions] == "train"]
    if len(train) < 10 * _NEIGHBOUR:
        return [QUESTION.cannot_tell(f"{pluralize(len(train), 'training row')} are too few to be far from")]
    distances = _measure(examples, positions, train)
    if distances is None:
        return [QUESTION.cannot_tell("most rows equal other rows, so there is no usual distance")]
    measures = (
        Measure.of("rows far from all others", wilson_interval(len(distances.far), len(distances.rows)), "share"),
        Measure(name="share expected of normally distributed rows", value=distances.expected, kind="share"),
        Measure(name="distance of the farthest row (usual distances)", value=float(distances.times.max())),
    )
    histogram = Histogram(
        title="Distance to the fifth nearest training row",
        label="usual distances",
        values={name: distances.times[examples.split[distances.rows] == name] for name in examples.splits},
        marks={"far": distances.limit},
    )
    looked = pluralize(len(distances.rows), "row")
    if len(distances.rows) < len(positions):
        looked += f" sampled from {len(examples)}"
    if not len(distances.far):
        return [
            QUESTION.none(
                f"None of {looked} is far from all others: the farthest is {distances.times.max():.1f} times as far "
                "from its neighbours as a usual row.",
                measures=measures,
                evidence=(histogram,),
            )
        ]
    return [_report(examples, distances, looked, measures, histogram)]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Distances:
    """Distances to the fifth nearest training row.

    Attributes:
      rows: (n,) positions whose distances were measured.
      times: (n,) distances, in usual distances.
      far: indices in `rows` of those that are far.
      limit: distance from which on a row is far, in usual distances.
      expected: share of normally distributed rows that are as far.
      drawn: number of those.
    """

    rows: np.ndarray
    times: np.ndarray
    far: np.ndarray
    limit: float
    expected: float
    drawn: int


def _measure(examples: Examples, positions: np.ndarray, train: np.ndarray) -> _Distances | None:
    """Measures distances of a sample; None if more than half of them are the smallest one, as among equal rows."""
    order = generator(0, Stream.ANOMALY_SAMPLE).permutation(len(examples))
    reference = np.sort(order[np.isin(order, train)][:_REFERENCE])
    scored = np.sort(order[np.isin(order, positions)][:_SCORED])
    places = Places(examples, reference)
    distances = _distances(places, examples, reference, scored)
    log = np.log(np.maximum(distances, _LEAST))
    ours = np.isin(scored, reference)
    centre = np.median(log[ours])
    if distances[ours].min() == np.median(distances[ours]):
        return None
    normal = _normal_distances(places.points)
    # Beyond nearly all normally distributed rows: in one dimension, say, the rows at the ends are far by nature.
    limit = max(
        THRESHOLDS.outlier_deviations * float(stats.median_abs_deviation(log[ours], scale="normal")),
        float(np.log(THRESHOLDS.outlier_times)),
        float(np.quantile(normal, THRESHOLDS.outlier_normal_share, method="higher")),
    )
    threshold = centre + limit
    return _Distances(
        rows=scored,
        times=np.exp(log - centre),
        far=np.flatnonzero(log > threshold),
        limit=float(np.exp(threshold - centre)),
        expected=float((normal > threshold - centre).mean()),
        drawn=len(normal),
    )


def _report(
    examples: Examples, distances: _Distances, looked: str, measures: tuple[Measure, ...], histogram: Histogram
) -> Finding:
    far, times = distances.far, distances.times
    order = far[np.argsort(-times[far], kind="stable")]
    found = distances.rows[far]
    drop = found[examples.split[found] == "train"]
    expected = f"{distances.expected:.2%}" if distances.expected else f"less than {1 / distances.drawn:.2%}"
    return QUESTION.found(
        THRESHOLDS.outlier_distance.grade(times[far].max()),
        f"{len(far)} of {looked} ({measures[0].value:.2%}; {count_by_split(examples, found)}) "
        f"{choose(len(far), 'is', 'are')} far from all others; the farthest is {times[far].max():.1f} times as far "
        f"from its neighbours as a usual row. Of normally distributed rows, {expected} would be. They may be errors or "
        "the rare cases that matter.",
        measures=measures,
        evidence=(
            list_rows("Rows far from all others", distances.rows[order], [f"{times[row]:.1f} times" for row in order]),
            histogram,
        ),
        remedies=(
            Remedy(text="Look at them one by one and correct errors."),
            *drop_remedy(QUESTION.name, drop, "Check whether training does better without them."),
        ),
        drop=drop if len(drop) else None,
    )


def _distances(places: Places, examples: Examples, reference: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Distance (n,) of each scored row to its fifth nearest other row of the reference."""
    neighbours = NearestNeighbors(n_neighbors=_NEIGHBOUR + 1).fit(places.points)
    found = []
    for own, raw in examples.blocks(scored):
        nearest = neighbours.kneighbors(places(raw))[0]
        # A row of the reference is its own nearest neighbour.
        found.append(np.where(np.isin(own, reference), nearest[:, _NEIGHBOUR], nearest[:, _NEIGHBOUR - 1]))
    return np.concatenate(found)


def _normal_distances(points: np.ndarray) -> np.ndarray:
    """Log distances (m,), less their median, of rows from a normal distribution with the covariance of points (n, D).

    They are drawn n at a time, since distances depend on the number of rows. The outermost points do not count in the
    covariance.
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


DIAGNOSTIC = Diagnostic(title="outliers", questions=(QUESTION,), find=find)
