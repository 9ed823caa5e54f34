"""Writes small data sets in the layouts that Plumbline reads, to try a command or to see a layout.

    plumbline samples samples

This writes samples/digits/{train,test}/<class>/*.png (handwritten digits, 8x8 grey) and samples/breast_cancer.csv (30
numbers and the diagnosis), from data that scikit-learn ships.
"""

import csv
import pathlib

from experiments import command
from plumbline import UserError


def main(words: list[str]) -> None:
    """Writes the sets and prints where they are."""
    if len(words) != 1:
        raise UserError("samples: name one folder to write to, as in 'plumbline samples samples'")
    folder = pathlib.Path(words[0])
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"samples: '{folder}' is not empty; name a new folder")
    print(f"{_digits(folder / 'digits')}\n{_breast_cancer(folder / 'breast_cancer.csv')}")


def _digits(folder: pathlib.Path) -> pathlib.Path:
    from data.sources import digits

    for split, rows in digits.ROWS.items():
        for row, record in digits.encode_rows(rows):
            path = folder / split / str(record["label"]) / f"{row:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(record["image"].read())
    return folder


def _breast_cancer(path: pathlib.Path) -> pathlib.Path:
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*table.feature_names, "diagnosis"])
        for values, label in zip(table.data.tolist(), table.target, strict=True):
            writer.writerow([*values, table.target_names[label]])
    return path


if __name__ == "__main__":
    command.run(main)
