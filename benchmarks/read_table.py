"""read_table: seconds to open a CSV file of two million rows as a data set, relative to pandas reading it.

The file has three columns of numbers, one of four words, one of true and false, and a label of two classes. The
measured side is `data.load`: it reads all as texts, infers the types from the training rows, splits, encodes, and fits
the preprocessing. The reference is `pandas.read_csv`, which only reads. The file has been read once before.
"""

import argparse
import pathlib
import tempfile
import time

import numpy as np
import pandas

import data
from benchmarks.measure import Result, compare
from configs import defaults

TARGET = 18.0
_ROWS, _ROUNDS = 2_000_000, 3


def run(options: argparse.Namespace) -> list[Result]:
    """Returns one result."""
    del options
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "table.csv"
        write_table(path, _ROWS)
        config = defaults.get_config().data
        config.source, config.target = f"csv:{path}", "label"
        return [
            compare(
                "read_table",
                lambda: _seconds(lambda: data.load(config, seed=0)),
                lambda: _seconds(lambda: pandas.read_csv(path)),
                rounds=_ROUNDS,
                target=TARGET,
                at_least=False,
                comparison="seconds, a CSV file of two million rows and six columns: data.load / pandas.read_csv",
                unit="s",
            )
        ]


def write_table(path: pathlib.Path, rows: int) -> None:
    """Writes the table of this benchmark."""
    random = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "measured": np.round(random.normal(0, 100, rows), 3),
            "counted": random.integers(0, 5000, rows),
            "share": np.round(random.random(rows), 6),
            "colour": np.array(["red", "green", "blue", "black"])[random.integers(0, 4, rows)],
            "member": random.random(rows) < 0.5,
            "label": random.integers(0, 2, rows),
        }
    )
    frame.to_csv(path, index=False)


def _seconds(read) -> float:
    began = time.perf_counter()
    read()
    return time.perf_counter() - began
