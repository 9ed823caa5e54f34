import subprocess

import numpy as np
import pytest

from diagnostics.finding import Measure
from reporting import formatting


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (1234, "count", "1,234"),
        (np.float32(0.5), "share", "50 %"),
        (1.0, "share", "100 %"),
        (0.000557, "share", "0.0557 %"),
        (0.03, "p-value", "0.03"),
        (1e-9, "p-value", "below 0.0001"),
        (0.12345, "number", "0.1235"),
        (123456.7, "number", "123,457"),
        (3.0, "number", "3"),
        (-1.11e-16, "number", "0"),
        (np.nan, "count", "-"),
        (np.inf, "number", "no limit"),
    ],
)
def test_figures_are_written_as_people_read_them(value, kind, words):
    assert formatting.format_number(value, kind) == words


def test_an_interval_is_written_where_there_is_one():
    assert formatting.format_interval(Measure(name="a", value=0.5, low=0.25, high=0.75, kind="share")) == "25 % to 75 %"
    assert formatting.format_interval(Measure(name="a", value=0.5)) == ""


def test_figures_have_no_more_digits_than_their_interval_supports():
    for value, low, high, kind, words, bounds in (
        (0.96123, 0.9512, 0.9698, "share", "96.1 %", "95.1 % to 97.0 %"),
        (0.14532, 0.0312, 0.2623, "share", "15 %", "3 % to 26 %"),
        (0.037123, 0.0361, 0.0382, "number", "0.0371", "0.0361 to 0.0382"),
        (3123.4, 2800.2, 3500.9, "number", "3,120", "2,800 to 3,500"),
        (0.0, -0.0001, 0.3, "number", "0.00", "0.00 to 0.30"),
    ):
        measure = Measure(name="a", value=value, low=low, high=high, kind=kind)
        assert formatting.format_value(measure) == words
        assert formatting.format_interval(measure) == bounds
    assert formatting.format_value(Measure(name="a", value=7, low=5.2, high=9.9, kind="count")) == "7"


def test_cells_are_texts_and_numbers_in_few_digits():
    cells = [
        formatting.format_cell(value) for value in ("a\nb", 12345, np.int64(7), 0.123456, np.float32(0.5), True, np.nan)
    ]
    assert cells == ["a b", "12,345", "7", "0.1235", "0.5", "yes", "-"]


def test_overrides_are_flags_that_a_shell_takes_as_they_are():
    overrides = {
        "data.drop": "findings:a",
        "train.duration": "60 epochs",
        "a.b": ("99", "x y"),
        "c": (1, "it's $HOME!"),
    }
    flags = formatting.format_flags(overrides)
    assert flags[:3] == [
        "--config.data.drop=findings:a",
        "'--config.train.duration=60 epochs'",
        "\"--config.a.b=('99', 'x y')\"",
    ]
    command = f"printf '%s\\n' {' '.join(flags)}"
    output = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
    assert output.splitlines() == [f"--config.{path}={value}" for path, value in overrides.items()]


def test_characters_that_would_do_something_are_made_visible():
    assert formatting.plain("a\x1b[31m\x00\u202e\ud800\r\nb\tc") == "a\ufffd[31m\ufffd\ufffd\ufffd  b c"
    assert formatting.plain("a\r\nb\tc", lines=True) == "a \nb\tc"
    assert formatting.plain("\U0001f469\u200d\U0001f52c \u05d0") == "\U0001f469\u200d\U0001f52c \u05d0"
