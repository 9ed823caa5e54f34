import numpy as np
import pytest

from data import splitting
from plumbline import UserError


def _held_out(share, strata=None, groups=None, num_rows=100, seed=0, field="data.test"):
    return splitting.hold_out(share, strata, groups, num_rows, seed=seed, field=field)


def test_classes_keep_their_shares():
    strata = np.repeat([0, 1, 2], [60, 30, 10])
    mask = _held_out(0.2, strata)
    np.testing.assert_array_equal(np.bincount(strata[mask]), [12, 6, 2])


def test_no_class_is_held_out_whole():
    strata = np.arange(100) // 2
    mask = _held_out(0.5, strata)
    np.testing.assert_array_equal(np.bincount(strata[mask]), np.ones(50))


def test_groups_stay_whole_and_come_nearest_to_the_share():
    groups = np.arange(100) % 7
    mask = _held_out(0.3, groups=groups)
    assert not set(groups[mask]) & set(groups[~mask])
    # Two of the groups, of 14 or 15 rows each: a third would miss the share by more.
    assert len(set(groups[mask])) == 2


def test_a_draw_depends_on_seed_and_field_only():
    masks = [_held_out(0.3), _held_out(0.3, seed=1), _held_out(0.3, field="data.validation")]
    np.testing.assert_array_equal(_held_out(0.3), masks[0])
    assert not np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0], masks[2])


def test_an_empty_side_is_an_error():
    with pytest.raises(UserError, match=r"data.test: 0.1% of 100 rows leaves one side empty"):
        _held_out(0.001)
    with pytest.raises(UserError, match=r"data.test: whole groups are held out, but there is only one"):
        _held_out(0.1, groups=np.zeros(100, np.int32))
