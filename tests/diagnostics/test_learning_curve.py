import numpy as np
import pytest

from diagnostics import learning_curve

SIZES = np.repeat(1270 * 2.0 ** (-np.arange(8) / 2), 3)
# Floor, factor and exponent: with a floor and without, steep and shallow.
LAWS = [(0.02, 1.5, 0.5), (0.0, 2.0, 0.6), (0.05, 3.0, 1.0), (0.0, 0.8, 0.2), (0.1, 0.5, 0.7)]


def error(law, size):
    floor, factor, exponent = law
    return floor + factor * size**-exponent


def measured(law, sizes, random, rows=382):
    """Errors as measured on a test set with this number of rows."""
    return random.binomial(rows, error(law, sizes)) / rows


@pytest.mark.parametrize("law", LAWS)
def test_a_law_with_hardly_any_noise_is_found_again(law):
    random = np.random.default_rng(0)
    curve = learning_curve.fit(SIZES, error(law, SIZES) * random.normal(1, 0.005, len(SIZES)))
    for size in (200.0, 1270.0):
        assert curve.error(size)[0] == pytest.approx(error(law, size), rel=0.01)
    for size in (2540.0, 5080.0):
        mean, low, high = curve.error(size)
        assert low < error(law, size) < high
        assert high - low < mean
    needed = curve.needed(error(law, 2540.0))
    assert needed.low < 2540 < needed.high
    assert 2540 / 2 < needed.examples < 2540 * 2
    assert curve.doubts() == []


@pytest.mark.parametrize("law", LAWS)
def test_intervals_at_twice_the_data_hold_as_often_as_they_say(law):
    random = np.random.default_rng(7)
    covered, count = np.zeros(2), 60
    for _ in range(count):
        curve = learning_curve.fit(SIZES, measured(law, SIZES, random), draws=500)
        truth = error(law, 2540.0), measured(law, 2540.0, random)
        bounds = curve.error(2540.0)[1:], curve.prediction(2540.0)[1:]
        covered += [low <= value <= high for value, (low, high) in zip(truth, bounds, strict=True)]
    # They also allow for curves that depart from the law, as real ones do. These do not, so coverage is above 0.95.
    assert (covered / count >= 0.93).all(), covered / count


def test_intervals_hold_where_the_curve_departs_from_the_law_and_trainings_share_their_rows():
    random, hits, count = np.random.default_rng(5), np.zeros(2), 100
    sizes = np.repeat(1024.0 / 2 ** np.arange(6), 3)
    # The rows of the three seeds are blocks of one set: whole for the largest size, and disjoint from a quarter on.
    starts = np.tile([0, 341, 682], 6)
    rows = (np.arange(1024) - starts[:, None]) % 1024 < sizes[:, None]
    overlaps = rows.astype(float) @ rows.T
    covariance = overlaps / np.outer(sizes, sizes) * 1024 + np.eye(18) * 0.1
    logs = np.log2(np.append(np.unique(sizes), 2048) / 32)
    departures = np.linalg.cholesky(np.minimum.outer(logs, logs) + 1e-9 * np.eye(7))
    for _ in range(count):
        truth = (0.05 + 0.3 * 2 ** (-0.5 * logs)) * (1 + 0.1 * departures @ random.normal(size=7))
        noise = np.linalg.cholesky(covariance) @ random.normal(size=18)
        errors = np.maximum(truth[5 - np.repeat(np.arange(6), 3)] + 0.01 * noise, 0)
        curve = learning_curve.fit(sizes, errors, overlaps, draws=500)
        (_, low, high), (_, least, most) = curve.error(2048), curve.gain(1024, 2048)
        hits += np.array([low <= truth[6] <= high, least <= truth[5] - truth[6] <= most])
    # 0.53 and 0.50 for a law that is taken as exact and trainings that share nothing.
    assert (hits / count >= 0.9).all(), hits / count


def test_more_data_may_not_help():
    _, low, high = learning_curve.fit(SIZES, measured((0.15, 0.3, 0.5), SIZES, np.random.default_rng(2))).gain(
        1270, 2540
    )
    assert low < 0 < high


def test_the_interval_of_the_data_needed_contains_it():
    law, random = (0.01, 1.5, 0.5), np.random.default_rng(3)
    needed = [
        learning_curve.fit(SIZES, measured(law, SIZES, random), draws=500).needed(error(law, 2540.0)) for _ in range(60)
    ]
    assert np.mean([each.low <= 2540 <= each.high for each in needed]) >= 0.9


def test_it_cannot_say_what_lies_too_far_or_below_the_floor():
    random = np.random.default_rng(0)
    curve = learning_curve.fit(SIZES, error((0.1, 2.0, 0.8), SIZES) * random.normal(1, 0.002, len(SIZES)))
    assert curve.needed(0.05).examples is None
    assert "more than 10 times the 1,270 examples" in curve.needed(0.05).reason
    assert curve.needed(0.05).high == np.inf
    assert "out of reach: with more data the error levels off at " in curve.needed(0.0).reason
    assert "fewer than the 112 examples" in curve.needed(0.5).reason
    shallow = learning_curve.fit(SIZES, error((0.0, 0.8, 0.2), SIZES) * random.normal(1, 0.002, len(SIZES)))
    assert "more than 10 times the 1,270 examples" in shallow.needed(0.1).reason


def test_it_doubts_what_does_not_fall_and_what_is_no_power_law():
    random = np.random.default_rng(0)
    level = learning_curve.fit(SIZES, random.normal(0.3, 0.02, len(SIZES)))
    assert "does not clearly fall with data" in level.doubts()[0]
    assert level.needed(0.25).examples is None
    rising = learning_curve.fit(SIZES, 0.3 + SIZES / 2e4 + random.normal(0, 0.001, len(SIZES)))
    assert rising.falling < 0.05
    cliff = np.where(SIZES < 600, 0.5, 0.1) + random.normal(0, 0.005, len(SIZES))
    assert "do not lie on one power law" in learning_curve.fit(SIZES, cliff).doubts()[-1]


def test_it_seldom_doubts_a_power_law():
    random = np.random.default_rng(5)
    curves = [learning_curve.fit(SIZES, measured(LAWS[0], SIZES, random), draws=200) for _ in range(100)]
    assert np.mean([bool(curve.doubts()) for curve in curves]) < 0.06


def test_one_seed_of_each_size_and_no_errors_at_all_are_borne():
    curve = learning_curve.fit(SIZES[::3], error(LAWS[0], SIZES[::3]) + np.tile([0.004, -0.004], 4))
    _, low, high = curve.prediction(2540.0)
    assert low <= error(LAWS[0], 2540.0) <= high
    assert np.isnan(curve.misfit)
    perfect = learning_curve.fit(SIZES, np.zeros(len(SIZES)))
    assert perfect.error(2540.0)[0] == pytest.approx(0, abs=1e-2)
    assert perfect.doubts()


def test_the_answer_is_the_same_each_time():
    errors = measured(LAWS[0], SIZES, np.random.default_rng(1))
    first, second = (learning_curve.fit(SIZES, errors) for _ in range(2))
    assert first.prediction(2540.0) == second.prediction(2540.0)
    assert first.needed(0.04) == second.needed(0.04)


def test_too_few_sizes_and_impossible_errors_are_refused():
    with pytest.raises(ValueError, match="at least 4 sizes, not 3"):
        learning_curve.fit(SIZES[:9], SIZES[:9])
    with pytest.raises(ValueError, match="negative or not finite"):
        learning_curve.fit(SIZES, -SIZES)
