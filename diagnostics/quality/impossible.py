"""Numbers of a table that can hardly be: codes, fill values, caps, and slips below zero."""

import dataclasses

import numpy as np

from data.features import Column
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Measure, Remedy, Rows, Table
from diagnostics.statistics import wilson_interval
from plumbline import counted

_CHALLENGE = "data quality"
_SHOWN = 20
# Further values that the message names.
_NAMED = 3
# Codes that stand for "missing" or "not applicable" by custom: all nines; and the ends of whole numbers of 16 and 32
# bits, with and without sign. In float32 more than seven nines are a power of ten.
_NINES = frozenset(
    sign * value
    for sign in (1, -1)
    for value in (*(float(10**digits - 1) for digits in range(2, 8)), *(float(10**digits) for digits in range(8, 13)))
)
_ENDS = frozenset({-32768.0, 32767.0, 65535.0, -(2.0**31), 2.0**31, 2.0**32})
_CODES = _NINES | _ENDS | {-1.0, -9.0}
# No quantity is as large, where the others are not nearly so: a fill value.
_FILL, _FILL_TIMES = 1e20, 1000
# A value stands alone if it is further from the next one than so much of the range of all others: a code, or any value.
_ALONE_CODE, _ALONE_ANY = 0.5, 9.0
# Distinct values that the rest of a column must have for its range to mean something, and for a cap to show.
_FEWEST_DISTINCT, _FEWEST_UNDER_CAP = 5, 20
# A value is repeated at the edge of the range if so many rows have it, and so many times as many as have each of the
# next few values.
_REPEATED_ROWS, _REPEATED_TIMES, _NEXT = 10, 5, 5
# Share of rows up to which values below zero are taken for slips in a column that otherwise counts.
_SLIPS = 0.01
# Rows at 0 and 1 for each row below zero, from which on that is where the counting begins.
_IN_FORCE = 20
# Codes of one column that are told apart, and those of one family.
_MOST_SENTINELS, _FAMILY = 4, 3
# Bytes of a table's columns that are held at once.
_HELD = 256 * 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Strange:
    """A value of a column, or several, that can hardly be."""

    column: str
    values: tuple[float, ...]
    rows: int
    why: str
    severity: str


def find(examples: Examples) -> Finding:
    """The finding `impossible_values` on the numeric columns of a table; infinite ones are refused when it is read."""
    name = "impossible_values"
    columns = [index for index, column in enumerate(examples.features.numeric_columns) if column.kind == "numeric"]
    if not columns:
        return Finding(name=name, challenge=_CHALLENGE, severity="none", message="No column holds numbers.")
    found: list[_Strange] = []
    rows: dict[int, list[int]] = {}
    at_once = max(1, _HELD // (4 * len(examples)))
    for start in range(0, len(columns), at_once):
        chosen = columns[start : start + at_once]
        values = np.concatenate([inputs[:, chosen] for _, inputs in examples.blocks(np.arange(len(examples)))])
        for place, index in enumerate(chosen):
            strange = _strange_values(examples.features.columns[index], values[:, place])
            for each in strange:
                rows[len(found)] = np.flatnonzero(np.isin(values[:, place], np.float32(each.values))).tolist()
                found.append(each)
    grave = [each for each in found if each.severity == "medium"]
    affected = len({row for index, each in enumerate(found) if each in grave for row in rows[index]})
    measure = Measure.of("rows with a value that can hardly be", wilson_interval(affected, len(examples)), "share")
    if not found:
        message = f"No value of {counted(len(columns), 'numeric column')} looks like a code or a slip."
        return Finding(name=name, challenge=_CHALLENGE, severity="none", message=message, measures=(measure,))
    order = sorted(range(len(found)), key=lambda index: (found[index].severity != "medium", -found[index].rows))
    first = found[order[0]]
    message = f"'{first.column}' is {_values_text(first)} in {counted(first.rows, 'row')}: {first.why}." + (
        f" Strange too: {_others([found[index] for index in order[1:]])}." if len(found) > 1 else ""
    )
    if grave:
        message += " Read as a number, a code shifts the column's mean and deviation for all rows."
    return Finding(
        name=name,
        challenge=_CHALLENGE,
        severity="medium" if grave else "low",
        message=message,
        measures=(measure, Measure(name="strange values", value=float(len(found)), kind="count")),
        evidence=(
            Table(
                title="Values that can hardly be, or stand for something else",
                header=("column", "value", "rows", "why"),
                rows=tuple(
                    (found[index].column, _values_text(found[index]), found[index].rows, found[index].why)
                    for index in order
                ),
            ),
            Rows(
                title="Rows that have them",
                clusters=tuple((row,) for index in order for row in rows[index][:3])[:_SHOWN],
                notes=tuple(
                    f"{found[index].column} = {_values_text(found[index])}" for index in order for _ in rows[index][:3]
                )[:_SHOWN],
                total=sum(map(len, rows.values())),
            ),
        ),
        remedies=_impossible_remedies(grave),
    )


def _others(found: list[_Strange]) -> str:
    named = [f"{_values_text(each)} in '{each.column}'" for each in found[:_NAMED]]
    more = len(found) - len(named)
    return ", ".join([*named, f"{more} more"] if more else named)


def _impossible_remedies(grave: list[_Strange]) -> tuple[Remedy, ...]:
    ask = Remedy(text="Find out what the values stand for; in the file, leave the cell empty where it is a gap.")
    texts = tuple(dict.fromkeys(f"{value:.10g}" for each in grave for value in each.values if len(each.values) == 1))
    if not texts:
        return (ask,)
    text = "Take the codes for missing, in every column that has them (as they are written in a CSV file)."
    return (ask, Remedy(text=text, overrides={"data.missing_values": texts}))


def _strange_values(column: Column, values: np.ndarray) -> list[_Strange]:
    """What is strange among the values (n,) of a column, NaN where one is missing."""
    distinct, counts = np.unique(values[~np.isnan(values)].astype(np.float64), return_counts=True)
    found = []
    for _ in range(_MOST_SENTINELS):
        alone = _standing_alone(distinct, counts)
        if alone is None:
            break
        index, why, severity = alone
        found.append(
            _Strange(
                column=column.name,
                values=(float(distinct[index]),),
                rows=int(counts[index]),
                why=why,
                severity=severity,
            )
        )
        distinct, counts = np.delete(distinct, index), np.delete(counts, index)
    if below := _below_zero(distinct, counts):
        found.append(dataclasses.replace(below, column=column.name))
        distinct, counts = distinct[distinct >= 0], counts[counts.size - int((distinct >= 0).sum()) :]
    for index in (0, -1):
        if _is_capped(distinct, counts, index):
            where = "upper" if index else "lower"
            found.append(
                _Strange(
                    column=column.name,
                    values=(float(distinct[index]),),
                    rows=int(counts[index]),
                    why=f"far more rows than the values next to it, at the {where} edge of the range: a cap, or a code",
                    severity="low",
                )
            )
    return found


def _standing_alone(distinct: np.ndarray, counts: np.ndarray) -> tuple[int, str, str] | None:
    """The outermost value of a few that stand alone at an edge: its index, why, and how grave that is."""
    for upper in (True, False):
        values = distinct[::-1] if upper else distinct
        index = len(distinct) - 1 if upper else 0
        # Codes come in families, such as 998 and 999.
        for family in range(1, _FAMILY + 1):
            edge, rest = values[:family], values[family:]
            if len(rest) < _FEWEST_DISTINCT:
                break
            gap, span = float(np.abs(rest[0] - edge[-1])), float(np.abs(rest[-1] - rest[0]))
            codes = np.isin(edge, list(_CODES)).any()
            # Below zero, where nothing else is, -1 and -9 are codes even next to the others.
            if codes and edge.max() < 0 <= rest.min() and counts[index] > 1:
                return index, "a customary code, and no other value is below zero", "medium"
            if codes and np.abs(edge).max() > 9 and gap >= _ALONE_CODE * span:
                return index, f"a customary code, {gap:.6g} away from the other values", "medium"
            if family == 1 and gap >= _ALONE_ANY * span:
                severity = "medium" if counts[index] > 1 else "low"
                return index, f"{gap / span:.1f} times the range of all others away from them", severity
        if len(values) > 1 and abs(values[0]) >= max(_FILL, _FILL_TIMES * abs(values[1])):
            return index, "no quantity is as large; a value that fills gaps", "medium"
    return None


def _below_zero(distinct: np.ndarray, counts: np.ndarray) -> _Strange | None:
    """The few values below zero of a column that otherwise counts."""
    below = distinct < 0
    share = counts[below].sum() / max(counts.sum(), 1)
    rest = distinct[~below]
    if not below.any() or share > _SLIPS or len(rest) < _FEWEST_DISTINCT or not _counts_only(distinct):
        return None
    # Of a quantity with a sign, the values thin out towards the last one below zero; counts begin at 0 or 1 in force.
    rows = int(counts[below].sum())
    if counts[~below][rest <= 1].sum() < _IN_FORCE * rows:
        return None
    why = "below zero in a column that otherwise counts"
    return _Strange(column="", values=tuple(distinct[below].tolist()), rows=rows, why=why, severity="low")


def _counts_only(values: np.ndarray) -> bool:
    return bool((values == np.round(values)).all())


def _is_capped(distinct: np.ndarray, counts: np.ndarray, index: int) -> bool:
    """Whether far more rows have the value at an edge than have each of the next; 0 and 1 are where counts begin."""
    if len(distinct) < _FEWEST_UNDER_CAP or (index == 0 and distinct[0] in (0, 1)):
        return False
    near = counts[1 : 1 + _NEXT] if index == 0 else counts[-1 - _NEXT : -1]
    if counts[index] < max(_REPEATED_ROWS, _REPEATED_TIMES * near.max()):
        return False
    # Where values within the range stand out as well, as round ones do, one at the edge means nothing.
    beside = np.max([counts[:-4], counts[1:-3], counts[3:-1], counts[4:]], axis=0)
    standing_out = (counts[2:-2] >= _REPEATED_ROWS) & (counts[2:-2] >= _REPEATED_TIMES * beside)
    return int(standing_out.sum()) < 2


def _values_text(strange: _Strange) -> str:
    shown = [f"{value:.10g}" for value in strange.values]
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
