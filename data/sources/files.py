"""`csv:PATH` and `parquet:PATH`."""

import ml_collections

from data import table_files
from data.sources.table_source import TableSource
from data.table_files import Form
from data.tables import Table
from plumbline import UserError


def open_source(name: str, config: ml_collections.ConfigDict) -> TableSource:
    """Opens the table in the file `name`. `config.data.test` may name another file of the same type."""
    parquet = config.source.startswith("parquet:")
    form = Form.from_config(config)

    def read(path: str, field: str) -> Table:
        if table_files.is_parquet(path) != parquet:
            wanted = "should end in .parquet or .pq" if parquet else "should be a CSV file"
            raise UserError(f"{field}: '{path}' {wanted}, as data.source is '{config.source}'")
        return table_files.read(path, form, field)

    return TableSource(
        table=read(name, "data.source"),
        config=config,
        target=config.target,
        read_other=lambda path: read(path, "data.test"),
    )
