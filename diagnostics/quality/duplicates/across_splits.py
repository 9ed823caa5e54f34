"""Examples of one split that another split has as well: leaks."""

import dataclasses
import itertools

import numpy as np

from diagnostics.finding import Finding, Measure, Question, Table, drop_remedy
from diagnostics.phrases import choose
from diagnostics.quality.duplicates.copies import Copies, list_clusters
from diagnostics.quality.duplicates.within_splits import NOTHING
from diagnostics.statistics import wilson_interval
from diagnostics.thresholds import THRESHOLDS
from plumbline import pluralize

QUESTION = Question("leaked_duplicates", "data quality")

# The distance of equal examples; that of examples that are only shifted is 0.
_EXACTLY = -1.0
# Of two copies the one in the earlier split is dropped.
_ORDER = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Leak:
    """Two copies in two splits.

    Attributes:
      goes: position of the copy in the earlier split, which is dropped.
      stays: position of the copy in the later split.
      distance: of the two.
      same_label: whether they have the same label.
    """

    goes: int
    stays: int
    distance: float
    same_label: bool

    @property
    def note(self) -> str:
        how = "equal" if self.distance == _EXACTLY else f"distance {self.distance:.3f}"
        return f"{how}, labels {'agree' if self.same_label else 'differ'}"


def judge_leaks(copies: Copies) -> Finding:
    """Reports examples that are equal or nearly equal to one of another split."""
    examples = copies.examples
    leaks = [leak for own in copies.exact for leak in _leaks(copies, own, own, _EXACTLY)]
    for (one, other), distance in zip(copies.pairs, copies.near.distances, strict=True):
        leaks += _leaks(copies, one, other, float(distance))
    left_out = copies.describe_left_out()
    if not leaks:
        splits = " and ".join(examples.splits)
        message = f"No example of one split is equal or nearly equal to one of another ({splits}).{left_out}"
        return QUESTION.none(message, measures=NOTHING)
    leaks.sort(key=lambda leak: leak.distance)
    drop = copies.droppable([leak.goes for leak in leaks])
    spoiled, table = _count(copies, leaks)
    # The test first: reported figures are measured on it.
    (first, second), most = max(
        spoiled.items(),
        key=lambda item: (item[0][1] == "test" and bool(item[1]), len(item[1]) / len(examples.splits[item[0][1]])),
    )
    total = len(examples.splits[second])
    # Sorted by distance, so that each pair is listed with its smallest one.
    notes: dict[tuple[int, int], str] = {}
    for leak in leaks:
        notes.setdefault((leak.goes, leak.stays), leak.note)
    near = np.array([leak.distance for leak in leaks if leak.distance != _EXACTLY])
    return QUESTION.found(
        THRESHOLDS.leaked.grade(len(most), unit=total),
        f"{len(most):,} of {pluralize(total, f'{second} example')} ({len(most) / total:.2%}) "
        f"{choose(len(most), 'is', 'are')} in the {first} split as well, exactly or nearly. A model can memorise them, "
        f"so figures on the {second} split are too optimistic.{left_out}",
        measures=(
            Measure.of(
                f"share of {second} examples that are in the {first} split as well",
                wilson_interval(len(most), total),
                "share",
            ),
            *(
                Measure(name=f"{later} examples that are in the {earlier} split as well", value=len(own), kind="count")
                for (earlier, later), own in spoiled.items()
            ),
        ),
        evidence=(
            list_clusters("Copies in two splits", [*map(np.array, notes)], [*notes.values()]),
            table,
            copies.histogram({"across splits": near}),
        ),
        remedies=drop_remedy(QUESTION.name, drop, "Train without copies of held-out examples, so that figures hold."),
        drop=drop,
        spoiled=np.unique([leak.stays for leak in leaks if examples.split[leak.stays] == "test"]).astype(np.int64),
    )


def _count(copies: Copies, leaks: list[_Leak]) -> tuple[dict[tuple[str, str], set[int]], Table]:
    """For each pair of splits, the positions of the later one that are in the earlier one; and a table of them."""
    split, rows, spoiled = copies.examples.split, [], {}
    for first, second in itertools.combinations([name for name in _ORDER if name in copies.examples.splits], 2):
        own = [leak for leak in leaks if (split[leak.goes], split[leak.stays]) == (first, second)]
        exact = {leak.stays for leak in own if leak.distance == _EXACTLY}
        near = {leak.stays for leak in own} - exact
        same = {leak.stays for leak in own if leak.same_label}
        spoiled[first, second] = exact | near
        rows.append((second, first, len(exact), len(near), len(same)))
    table = Table(
        title="Examples that another split has as well",
        header=("of split", "that are in", "exactly", "nearly", "with the same label"),
        rows=tuple(rows),
    )
    return spoiled, table


def _leaks(copies: Copies, one: np.ndarray, other: np.ndarray, distance: float) -> list[_Leak]:
    """Leaks between two sets of copies: pairs of a position that goes and one that stays."""
    leaks = []
    first, second = copies.by_split(one), copies.by_split(other)
    for early, late in itertools.combinations(_ORDER, 2):
        for going, staying in ((first, second), (second, first)) if one is not other else ((first, second),):
            if early in going and late in staying:
                # Each example of both sides appears, but not all pairs.
                width = max(len(going[early]), len(staying[late]))
                goes, stays = (np.resize(own, width).tolist() for own in (going[early], staying[late]))
                leaks += [
                    _Leak(goes=a, stays=b, distance=distance, same_label=copies.has_same_label(a, b))
                    for a, b in zip(goes, stays, strict=True)
                ]
    return leaks
