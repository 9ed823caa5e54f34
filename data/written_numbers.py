"""Numbers as people write them: `1,234.5`, `$5`, `45%`, `5 kg`, a decimal comma, a Unicode minus."""

import dataclasses
import decimal as exact
import functools
import re
from collections.abc import Iterable

import numpy as np

DECIMALS = ("auto", ".", ",")
# Texts that stand for "not a number", in lower case; among numbers they are missing values.
_NOT_A_NUMBER = ("nan", "-nan", "+nan", "<na>", "#n/a", "#na")
_MINUS = str.maketrans(
    dict.fromkeys("\N{MINUS SIGN}\N{FIGURE DASH}\N{SMALL HYPHEN-MINUS}\N{FULLWIDTH HYPHEN-MINUS}", "-")
)
# Signs that separate thousands besides comma and dot.
_APART = "'\N{RIGHT SINGLE QUOTATION MARK}\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}"
_CURRENCIES = "$£€¥₹₩₽₺₴₪"
# With these, the comma separates thousands.
_WITH_COMMAS = frozenset("$£¥₹₩")
_UNITS = (
    *_CURRENCIES,
    *("USD", "EUR", "GBP", "%", "‰", "°", "°C", "°F", "mg", "g", "kg", "lb", "lbs", "oz", "mm", "cm", "m", "km", "mi"),
    *(
        "ft",
        "in",
        "m²",
        "ft²",
        "sqft",
        "ml",
        "mL",
        "l",
        "L",
        "ms",
        "s",
        "sec",
        "min",
        "h",
        "hrs",
        "days",
        "years",
        "yrs",
    ),
    *("kB", "KB", "MB", "GB", "TB", "px", "Hz", "MHz", "GHz", "V", "W", "kW", "kWh", "hp", "bhp", "CC", "cc", "mpg"),
    *("kmpl", "km/h", "km/kg", "mph", "kcal", "k", "K", "M"),
)
_PLAIN = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_PLAIN_ALONE = re.compile(_PLAIN, re.ASCII)
_WITH_COMMA = r"^[+-]?(\d+,?\d*|,\d+)([eE][+-]?\d+)?$"
_FORM = re.compile(
    rf"(?P<sign>[+-]?)(?P<before>[{_CURRENCIES}]?) ?(?P<inner>[+-]?)(?P<number>[\d.,{_APART}]*\d[.,]?)"
    rf"(?P<power>[eE][+-]?\d+)? ?(?P<after>{'|'.join(sorted(map(re.escape, _UNITS), key=len, reverse=True))})?",
    re.ASCII,
)
# Digits in groups of three, and then decimals; or without groups.
_GROUPED = {
    sign: re.compile(rf"[1-9]\d{{0,2}}([{other}{_APART}]\d{{3}})+({sign}\d*)?")
    for sign, other in ((r"\.", ","), (",", "."))
}
_UNGROUPED = {sign: re.compile(rf"\d+({sign}\d*)?|{sign}\d+") for sign in (r"\.", ",")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """Numbers read from texts.

    Attributes:
      values: (n,) float64, NaN for a missing value and for a text that is not a number.
      missing: (n,) bool.
      strange: (n,) bool, True for a text that is not a number.
      unit: what is written before or after each number, such as "$", "%" or "kg"; "" for nothing.
      decimal: the sign before the decimals, "." or ",", or "auto" if the numbers do not tell.
      commas: whether some texts are strange only because the meaning of their comma is not known.
      formed: (n,) bool, True for a text that has the form of a number, perhaps with another unit.
      units: units in the texts, in order of their frequency; some texts are strange if there are several.
    """

    values: np.ndarray
    missing: np.ndarray
    strange: np.ndarray
    unit: str = ""
    decimal: str = "auto"
    commas: bool = False
    formed: np.ndarray | None = None
    units: tuple[str, ...] = ()


def read(array, *, decimal: str, unit: str | None = None) -> Written:
    """Reads a column of texts as numbers.

    Args:
      array: pyarrow array of type large_string, stripped, with null for missing values.
      decimal: "." or "," before the decimals; the other one separates thousands. "auto": the point, and the comma
        separates thousands where no other reading is possible.
      unit: unit that the numbers have; only a percent sign must be there. None: whichever they have, but a single one.
    """
    import pyarrow
    import pyarrow.compute

    plain = array
    if decimal == ",":
        is_plain = pyarrow.compute.all(pyarrow.compute.match_substring_regex(array, _WITH_COMMA)).as_py()
        plain = pyarrow.compute.replace_substring(array, ",", ".") if is_plain else None
    if plain is not None and unit != "%":
        # Almost always all are plain numbers.
        try:
            values = pyarrow.compute.cast(plain, pyarrow.float64()).to_numpy(zero_copy_only=False)
        except pyarrow.ArrowInvalid:
            pass
        else:
            strange = np.zeros(len(values), bool)
            return Written(values=values, missing=np.isnan(values), strange=strange, unit=unit or "", decimal=decimal)
    coded = array.dictionary_encode()
    codes = coded.indices.fill_null(len(coded.dictionary)).to_numpy(zero_copy_only=False)
    found = _read_distinct(coded.dictionary.to_pylist(), np.bincount(codes), decimal, unit)
    return dataclasses.replace(
        found,
        values=np.append(found.values, np.nan)[codes],
        missing=np.append(found.missing, True)[codes],
        strange=np.append(found.strange, False)[codes],
        formed=np.append(found.formed, False)[codes],
    )


@functools.lru_cache(maxsize=100_000, typed=True)
def spell(value: object) -> str:
    """Returns the one spelling of a number: 1 for 1, 1.0, 01 and 1e0. Other values become texts as they are.

    Integers are exact.
    """
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float | exact.Decimal):
        return _spell_number(value, str(value))
    text = str(value)
    if re.fullmatch(r"[+-]?[0-9]+", text):
        return str(int(text))
    if _PLAIN_ALONE.fullmatch(text):
        return _spell_number(exact.Decimal(text), text)
    return text


def all_plain(array) -> bool:
    """Returns whether all texts that are not missing are numbers without unit or separators."""
    import pyarrow.compute

    return pyarrow.compute.all(pyarrow.compute.match_substring_regex(array, f"^{_PLAIN}$")).as_py()


def is_number(text: str) -> bool:
    """Returns whether a text is a number without unit or separators."""
    return _PLAIN_ALONE.fullmatch(text) is not None


def are_spelled(texts: Iterable[str]) -> bool:
    """Returns whether all texts are numbers as `spell` writes them."""
    return all(is_number(text) and spell(text) == text for text in texts)


def _spell_number(value: float | exact.Decimal, text: str) -> str:
    rounded = float(value)
    if not abs(rounded) < float("inf"):
        return text
    if value == value // 1:
        return str(int(value))
    return str(rounded)


def _read_distinct(texts: list[str], counts: np.ndarray, decimal: str, unit: str | None) -> Written:
    """Reads distinct texts; `counts` says how often each one occurs."""
    missing = np.array([text.lower() in _NOT_A_NUMBER for text in texts], bool)
    forms = [_FORM.fullmatch(text.translate(_MINUS)) for text in texts]
    forms = [
        form and (not form["inner"] or not form["sign"]) and (not form["before"] or not form["after"]) and form
        for form in forms
    ]
    units: dict[str, int] = {}
    for form, count in zip(forms, counts.tolist(), strict=False):
        if form:
            units[_unit(form)] = units.get(_unit(form), 0) + count
    by_count = sorted(units, key=lambda each: (-units[each], each))
    if unit is None:
        unit, wanted = next(iter(by_count), ""), {next(iter(by_count), "")}
    else:
        wanted = {unit} if unit == "%" else {unit, ""}
    style = decimal if decimal != "auto" else _find_decimal([form["number"] for form in forms if form], unit)
    values = [_value(form, style) if form and _unit(form) in wanted else None for form in forms]
    strange = np.array([value is None for value in values], bool) & ~missing
    commas = style == "auto" and any(
        form and "," in form["number"] and _value(form, ",") is not None and value is None
        for form, value in zip(forms, values, strict=True)
    )
    return Written(
        values=np.array([np.nan if value is None else value for value in values], np.float64),
        missing=missing,
        strange=strange,
        unit=unit,
        decimal=style,
        commas=commas,
        formed=np.array([bool(form) for form in forms], bool),
        units=tuple(by_count),
    )


def _unit(form: re.Match) -> str:
    return form["before"] or form["after"] or ""


def _find_decimal(numbers: list[str], unit: str) -> str:
    """Returns "." if each comma certainly separates thousands, else "auto"."""
    with_comma = [number for number in numbers if "," in number]
    certain = unit in _WITH_COMMAS or any(number.count(",") > 1 or "." in number for number in with_comma)
    grouped = all(_GROUPED[r"\."].fullmatch(number) for number in with_comma)
    return "." if with_comma and certain and grouped else "auto"


def _value(form: re.Match, decimal: str) -> float | None:
    """Returns the number, or None if it is not one with this sign before its decimals."""
    sign, number = {",": ",", ".": r"\."}.get(decimal, r"\."), form["number"]
    if decimal == "auto" and "," in number:
        return None
    if _GROUPED[sign].fullmatch(number):
        number = re.sub(f"[{',' if decimal != ',' else '.'}{_APART}]", "", number)
    elif not _UNGROUPED[sign].fullmatch(number):
        return None
    return float(form["sign"] + form["inner"] + number.replace(",", ".") + (form["power"] or ""))
