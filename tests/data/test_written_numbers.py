"""Numbers as people write them."""

import decimal

import numpy as np
import pyarrow
import pytest

from data import written_numbers

_NAN = float("nan")


def _read(texts, form="auto", unit=None):
    return written_numbers.read(pyarrow.array(texts, pyarrow.large_string()), decimal=form, unit=unit)


@pytest.mark.parametrize(
    ("texts", "form", "values", "unit"),
    [
        (["1", "2.5", "-3e2", None, "nan", "NaN"], "auto", [1, 2.5, -300, _NAN, _NAN, _NAN], ""),
        (["1", "<NA>", "#N/A"], "auto", [1, _NAN, _NAN], ""),
        (["$1,234", "$5", "-$0.50", "$-2", None], "auto", [1234, 5, -0.5, -2, _NAN], "$"),
        (["€ 12", "€7.25"], "auto", [12, 7.25], "€"),
        (["12 €", "1.234,50 €"], ",", [12, 1234.5], "€"),
        (["45%", "3.5 %"], "auto", [45, 3.5], "%"),
        (["5kg", "3 kg", "1e3kg"], "auto", [5, 3, 1000], "kg"),
        (["19.67 kmpl", "23.4 kmpl"], "auto", [19.67, 23.4], "kmpl"),
        (["\N{MINUS SIGN}5", "3"], "auto", [-5, 3], ""),
        (["1,234,567", "12"], "auto", [1234567, 12], ""),
        (["1,234.5", "1,234"], "auto", [1234.5, 1234], ""),
        (["1,234", "12"], ".", [1234, 12], ""),
        (["1,5", ",5", "2,", "-7", "1,2e3"], ",", [1.5, 0.5, 2, -7, 1200], ""),
        (["1.234,5", "1.234", "7"], ",", [1234.5, 1234, 7], ""),
        (["1\N{NARROW NO-BREAK SPACE}234,5", "3"], ",", [1234.5, 3], ""),
        (["1'234.5", "2"], "auto", [1234.5, 2], ""),
    ],
)
def test_numbers_are_read(texts, form, values, unit):
    written = _read(texts, form)
    np.testing.assert_array_equal(written.values, np.array(values))
    assert not written.strange.any()
    np.testing.assert_array_equal(written.missing, np.isnan(values))
    assert written.unit == unit


@pytest.mark.parametrize(
    ("texts", "form", "strange"),
    [
        (["1", "unknown", "-"], "auto", [False, True, True]),
        (["1,5", "2"], "auto", [True, False]),  # A decimal comma, or half of a group of thousands?
        (["1,234", "12"], "auto", [True, False]),
        (["1,23,456", "7"], ".", [True, False]),
        (["1.5", "2,5"], ",", [True, False]),
        (["5kg", "300g", "1kg"], "auto", [False, True, False]),
        (["$5", "7"], "auto", [True, False]),
        (["1_000", "0x10", "1e", "1 2", "٣", "--5", "1"], "auto", [True] * 6 + [False]),
        (["€1,234", "€0,500"], "auto", [True, True]),
    ],
)
def test_what_is_not_certain_is_strange(texts, form, strange):
    assert _read(texts, form).strange.tolist() == strange


def test_a_known_unit_may_be_left_out_but_not_a_percent_sign():
    assert _read(["5", "$7"], unit="$").values.tolist() == [5, 7]
    assert _read(["5", "7%"], unit="%").strange.tolist() == [True, False]
    assert _read(["0.5", "0.7"], unit="%").strange.all()


def test_repeated_texts_are_read_as_distinct_ones():
    texts = ["$1,000", None, "$2", "x"] * 50
    written = _read(texts)
    np.testing.assert_array_equal(written.values, np.tile([1000, _NAN, 2, _NAN], 50))
    np.testing.assert_array_equal(written.strange, np.tile([False, False, False, True], 50))


@pytest.mark.parametrize(
    ("value", "spelling"),
    [
        ("1", "1"),
        ("1.0", "1"),
        ("01", "1"),
        ("+1e0", "1"),
        (1.0, "1"),
        (decimal.Decimal("1.00"), "1"),
        ("-0.0", "0"),
        ("1.50", "1.5"),
        (1.5, "1.5"),
        ("9007199254740993", "9007199254740993"),
        ("9007199254740993.0", "9007199254740993"),
        (9007199254740993, "9007199254740993"),
        (2**70 + 1, str(2**70 + 1)),
        ("1e400", "1e400"),
        ("nan", "nan"),
        ("1.2.3", "1.2.3"),
        (True, "True"),
    ],
)
def test_a_number_has_one_spelling(value, spelling):
    assert written_numbers.spell(value) == spelling
