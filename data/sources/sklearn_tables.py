"""`sklearn:NAME`: the small tables included in scikit-learn."""

import hashlib

import ml_collections
import numpy as np

from data import tables
from data.sources.table_source import TableSource
from plumbline import unknown_name

NAMES = ("breast_cancer", "diabetes", "digits", "iris", "wine")


def open_source(name: str, config: ml_collections.ConfigDict) -> TableSource:
    """Opens `load_<name>` of scikit-learn. Its target column is "target", with classes in scikit-learn's order."""
    if name not in NAMES:
        raise unknown_name("data.source", f"sklearn:{name}", [f"sklearn:{known}" for known in NAMES])
    import pyarrow
    import sklearn.datasets

    loaded = getattr(sklearn.datasets, f"load_{name}")()
    columns = {str(column): loaded.data[:, index] for index, column in enumerate(loaded.feature_names)}
    digest = hashlib.sha256(name.encode())
    for array in (loaded.data, loaded.target):
        digest.update(np.ascontiguousarray(array).tobytes())
    table = tables.from_arrow(
        pyarrow.table({**columns, "target": loaded.target}),
        name=f"sklearn:{name}",
        missing_values=(),
        typed=True,
        line=lambda row: row + 1,
        fingerprint=digest.hexdigest(),
    )
    target = config.target or "target"
    label_names = getattr(loaded, "target_names", ()) if target == "target" else ()
    return TableSource(
        table=table, config=config, target=target, label_names=tuple(str(label) for label in label_names)
    )
