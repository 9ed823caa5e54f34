"""Numbers of a table that are hardly possible: codes, fill values, caps, and counts below zero."""

import dataclasses

import numpy as np

from data.features import Column
from diagnostics.diagnostic import Diagnostic
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Measure, Question, Remedy, Rows, Table
from diagnostics.material import Material
from diagnostics.severity import Severity
from diagnostics.statistics import wilson_interval
from diagnostics.thresholds import THRESHOLDS
from plumbline import pluralize

QUESTION = Question("impossible_values", "data quality")

# Rows that are listed, and further values that the message names.
_SHOWN, _NAMED = 20, 3
# Customary codes for "missing" or "not applicable": all nines, and the limits of 16 and 32 bit integers. In float32
# more than seven nines are a power of ten.
_NINES = frozenset(
    sign * value
    for sign in (1, -1)
    for value in (*(float(10**digits - 1) for digits in range(2, 8)), *(float(10**digits) for digits in range(8, 13)))
)
_LIMITS = frozenset({-32768.0, 32767.0, 65535.0, -(2.0**31), 2.0**31, 2.0**32})
_CODES = _NINES | _LIMITS | {-1.0, -9.0}
# A value of this size is a fill value, unless others are nearly as large.
_FILL, _FILL_TIMES = 1e20, 1000
# Distinct values that the rest of a column needs for its range to mean something, and for a cap to show.
_FEWEST_DISTINCT, _FEWEST_UNDER_CAP = 5, 20
# A value at the edge of the range is a cap if this many rows have it, and this many times as many as have each of the
# next few values.
_REPEATED_ROWS, _REPEATED_TIMES, _NEXT = 10, 5, 5
# Rows at 0 and 1 for each row below zero of a column whose counts begin there.
_IN_FORCE = 20
# Codes that are reported for one column, and codes of one family.
_MOST_SENTINELS, _FAMILY = 4, 3
# Bytes of a table's columns that are held at once.
_HELD = 256 * 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Suspect:
    """One or several values of a column that are hardly possible."""

    column: str
    values: tuple[float, ...]
    rows: int
    why: str
    severity: Severity


def find(material: Material) -> list[Finding]:
    """Looks for impossible values in the numeric columns of a table; infinite ones are an error when it is read."""
    examples = material.examples
    kind = examples.features.kind
    if kind != "table":
        return [QUESTION.none(f"There are no columns in {kind}s, so no value is impossible by its meaning.")]
    columns = [index for index, column in enumerate(examples.features.numeric_columns) if column.kind == "numeric"]
    if not columns:
        return [QUESTION.none("No column holds numbers.")]
    found, rows = _look(examples, columns)
    codes = [each for each in found if each.severity == "medium"]
    affected = len({row for index, each in enumerate(found) if each in codes for row in rows[index]})
    measure = Measure.of("rows with an impossible value", wilson_interval(affected, len(examples)), "share")
    if not found:
        message = f"No value of {pluralize(len(columns), 'numeric column')} looks like a code or an error."
        return [QUESTION.none(message, measures=(measure,))]
    order = sorted(range(len(found)), key=lambda index: (found[index].severity != "medium", -found[index].rows))
    first = found[order[0]]
    message = f"'{first.column}' is {_values_text(first)} in {pluralize(first.rows, 'row')}: {first.why}."
    if len(found) > 1:
        message += f" Also suspicious: {_others([found[index] for index in order[1:]])}."
    if codes:
        message += " Read as a number, a code shifts the column's mean and standard deviation for all rows."
    return [
        QUESTION.found(
            "medium" if codes else "low",
            message,
            measures=(measure, Measure(name="suspicious values", value=float(len(found)), kind="count")),
            evidence=_evidence(found, rows, order),
            remedies=_remedies(codes),
        )
    ]


def _look(examples: Examples, columns: list[int]) -> tuple[list[_Suspect], dict[int, list[int]]]:
    """The suspicious values of some columns, and the rows that have each of them."""
    found: list[_Suspect] = []
    rows: dict[int, list[int]] = {}
    at_once = max(1, _HELD // (4 * len(examples)))
    for start in range(0, len(columns), at_once):
        chosen = columns[start : start + at_once]
        values = np.concatenate([inputs[:, chosen] for _, inputs in examples.blocks(np.arange(len(examples)))])
        for place, index in enumerate(chosen):
            column = examples.features.columns[index]
            restored = column.restore(values[:, place])
            for each in _suspects(column, restored):
                wanted = np.array(each.values, restored.dtype)
                rows[len(found)] = np.flatnonzero(np.isin(restored, wanted)).tolist()
                found.append(each)
    return found, rows


def _evidence(found: list[_Suspect], rows: dict[int, list[int]], order: list[int]) -> tuple[Table, Rows]:
    return (
        Table(
            title="Values that are hardly possible, or stand for something else",
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
    )


def _others(found: list[_Suspect]) -> str:
    named = [f"{_values_text(each)} in '{each.column}'" for each in found[:_NAMED]]
    more = len(found) - len(named)
    return ", ".join([*named, f"{more} more"] if more else named)


def _remedies(codes: list[_Suspect]) -> tuple[Remedy, ...]:
    ask = Remedy(text="Find out what the values stand for; for missing values, leave the cell empty in the file.")
    texts = tuple(dict.fromkeys(f"{value:.10g}" for each in codes for value in each.values if len(each.values) == 1))
    if not texts:
        return (ask,)
    text = "Read the codes as missing in every column (as they are written in a CSV file)."
    return (ask, Remedy(text=text, overrides={"data.missing_values": texts}))


def _suspects(column: Column, values: np.ndarray) -> list[_Suspect]:
    """Looks for suspicious values among the values (n,) of a column, NaN where one is missing."""
    distinct, counts = np.unique(values[~np.isnan(values)].astype(np.float64), return_counts=True)
    found = []
    for _ in range(_MOST_SENTINELS):
        alone = _find_lone_value(distinct, counts)
        if alone is None:
            break
        index, why, severity = alone
        found.append(
            _Suspect(
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
                _Suspect(
                    column=column.name,
                    values=(float(distinct[index]),),
                    rows=int(counts[index]),
                    why=f"far more rows than the values next to it, at the {where} edge of the range: a cap or a code",
                    severity="low",
                )
            )
    return found


def _find_lone_value(distinct: np.ndarray, counts: np.ndarray) -> tuple[int, str, Severity] | None:
    """Finds the outermost of a few values that stand alone at an edge: index, reason and severity."""
    for upper in (True, False):
        values = distinct[::-1] if upper else distinct
        index = len(distinct) - 1 if upper else 0
        # Codes come in families, such as 998 and 999.
        for family in range(1, _FAMILY + 1):
            edge, rest = values[:family], values[family:]
            if len(rest) < _FEWEST_DISTINCT:
                break
            gap, span = float(np.abs(rest[0] - edge[-1])), float(np.abs(rest[-1] - rest[0]))
            is_code = np.isin(edge, list(_CODES)).any()
            # If nothing else is below zero, -1 and -9 are codes even next to the other values.
            if is_code and edge.max() < 0 <= rest.min() and counts[index] > 1:
                return index, "a customary code, and no other value is below zero", "medium"
            if is_code and np.abs(edge).max() > 9 and gap >= THRESHOLDS.code_gap * span:
                return index, f"a customary code, {gap:.6g} away from the other values", "medium"
            if family == 1 and gap >= THRESHOLDS.lone_value_gap * span:
                severity = "medium" if counts[index] > 1 else "low"
                return index, f"{gap / span:.1f} times the range of all other values away from them", severity
        if len(values) > 1 and abs(values[0]) >= max(_FILL, _FILL_TIMES * abs(values[1])):
            return index, "too large for any quantity; a fill value", "medium"
    return None


def _below_zero(distinct: np.ndarray, counts: np.ndarray) -> _Suspect | None:
    """Finds a few values below zero in a column of counts."""
    below = distinct < 0
    share = counts[below].sum() / max(counts.sum(), 1)
    rest = distinct[~below]
    if not below.any() or share > THRESHOLDS.negative_counts or len(rest) < _FEWEST_DISTINCT or not _is_whole(distinct):
        return None
    # The values of a signed quantity thin out below zero; counts have many rows at 0 or 1.
    rows = int(counts[below].sum())
    if counts[~below][rest <= 1].sum() < _IN_FORCE * rows:
        return None
    why = "below zero in a column of counts"
    return _Suspect(column="", values=tuple(distinct[below].tolist()), rows=rows, why=why, severity="low")


def _is_whole(values: np.ndarray) -> bool:
    return bool((values == np.round(values)).all())


def _is_capped(distinct: np.ndarray, counts: np.ndarray, index: int) -> bool:
    """Whether far more rows have the value at an edge than each of the next values; counts begin at 0 or 1."""
    if len(distinct) < _FEWEST_UNDER_CAP or (index == 0 and distinct[0] in (0, 1)):
        return False
    near = counts[1 : 1 + _NEXT] if index == 0 else counts[-1 - _NEXT : -1]
    if counts[index] < max(_REPEATED_ROWS, _REPEATED_TIMES * near.max()):
        return False
    # If values inside the range are as frequent, as round numbers are, one at the edge means nothing.
    beside = np.max([counts[:-4], counts[1:-3], counts[3:-1], counts[4:]], axis=0)
    frequent = (counts[2:-2] >= _REPEATED_ROWS) & (counts[2:-2] >= _REPEATED_TIMES * beside)
    return int(frequent.sum()) < 2


def _values_text(suspect: _Suspect) -> str:
    shown = [f"{value:.10g}" for value in suspect.values]
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")


DIAGNOSTIC = Diagnostic(title="impossible_values", questions=(QUESTION,), find=find)
