import numpy as np
import pytest
from sklearn import model_selection

from data import folds
from plumbline import UserError

LABELS = np.random.default_rng(0).integers(0, 4, 203).astype(np.int32)
GROUPS = np.random.default_rng(1).integers(0, 11, 203).astype(np.int32)
SPLITTERS = {
    "stratified": lambda seed: model_selection.StratifiedKFold(5, shuffle=True, random_state=seed),
    "shuffled": lambda seed: model_selection.KFold(5, shuffle=True, random_state=seed),
    "group": lambda seed: model_selection.GroupKFold(5, shuffle=True, random_state=seed),
    "leave_one_group_out": lambda seed: model_selection.LeaveOneGroupOut(),
}


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("kind", folds.KINDS)
def test_folds_are_those_of_scikit_learn(kind, seed):
    groups = GROUPS if "group" in kind else None
    expected = list(SPLITTERS[kind](seed).split(LABELS, LABELS, groups))
    found = folds.split(LABELS, GROUPS, count=5, kind=kind, seed=seed)
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine[0], theirs[0])
        np.testing.assert_array_equal(mine[1], theirs[1])


@pytest.mark.parametrize("kind", folds.KINDS)
def test_every_row_is_held_out_once_and_never_trains_that_fold(kind):
    dealt = folds.split(LABELS, GROUPS, count=5, kind=kind, seed=3)
    np.testing.assert_array_equal(np.sort(np.concatenate([held_out for _, held_out in dealt])), np.arange(203))
    for train, held_out in dealt:
        np.testing.assert_array_equal(np.sort(np.concatenate([train, held_out])), np.arange(203))
        if "group" in kind:
            assert not set(GROUPS[train]) & set(GROUPS[held_out])


def test_the_seed_deals_other_folds_of_groups():
    first, second = (folds.split(LABELS, GROUPS, count=5, kind="group", seed=seed)[0][1] for seed in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"count": 1}, "--folds: 1 given; cross-validation takes at least 2"),
        ({"count": 8}, "--folds: 8 given, but class 'rare' has 7 rows; give fewer folds"),
        ({"count": 101, "kind": "shuffled"}, "--folds: 101 given, but there are 100 rows"),
        ({"count": 6, "kind": "group"}, "--folds: 6 given, but there are 5 groups; give at most 5"),
        ({"kind": "group", "groups": None}, "--groups: the source has no groups"),
        ({"kind": "leave_one_group_out", "groups": None}, "--groups: the source has no groups"),
        ({"kind": "group", "groups": np.zeros(100, np.int32)}, "--groups: all rows belong to one group"),
        ({"kind": "leave_one_group_out", "groups": np.zeros(100, np.int32)}, "--groups: all rows belong to one group"),
        ({"kind": "grouped"}, "folds: unknown name 'grouped'; did you mean 'group'?"),
    ],
)
def test_impossible_folds_are_an_error(changed, message):
    arguments = {"groups": np.arange(100) % 5, "count": 3, "kind": "stratified", "seed": 0, **changed}
    labels = np.repeat(np.int32([0, 1]), [93, 7])
    with pytest.raises(UserError, match=message):
        folds.split(labels, arguments.pop("groups"), class_names=("usual", "rare"), **arguments)


def test_as_many_folds_as_the_smallest_class_has_rows_are_dealt():
    labels = np.repeat(np.int32([0, 1]), [93, 7])
    held_out = [rows for _, rows in folds.split(labels, None, count=7, kind="stratified", seed=0)]
    assert [int((labels[rows] == 1).sum()) for rows in held_out] == [1] * 7
