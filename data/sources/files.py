"""`csv:PATH` and `parquet:PATH`."""

import ml_collections

from data import tables
from data.sources.table_source import TableSource
from data.tables import Table
from plumbline import UserError


def open_source(name: str, config: ml_collections.ConfigDict) -> TableSource:
    """Opens the table in the file `name`. `config.data.test` may name another file of the same type."""
    parquet = config.source.startswith("parquet:")

    def read(path: str, field: str) -> Table:
        if path.endswith(tables.PARQUET_EXTENSIONS) != parquet:
            wanted = "should" if parquet else "should not"
            raise UserError(f"{field}: '{path}' {wanted} end in .parquet or .pq, as data.source is '{config.source}'")
        return tables.read(path, config.missing_values, field)

    return TableSource(
        table=read(name, "data.source"),
        config=config,
        target=config.target,
        read_other=lambda path: read(path, "data.test"),
    )
