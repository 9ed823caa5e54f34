"""The pool of a command with --groups."""

import ml_collections

from data.pool import Pool, load_pool
from plumbline import UserError

_TABLES = ("csv:", "parquet:", "sklearn:")


def load_grouped_pool(config: ml_collections.ConfigDict, groups: str) -> Pool:
    """Loads the pool with the groups that --groups names.

    Args:
      config: the whole config; for a table, `data.group` is set to the column.
      groups: a column of a table, or the name of the groups of another source; "" for none.

    Raises:
      UserError: the source has no such groups, or as `load_pool`.
    """
    is_table = config.data.source.startswith(_TABLES)
    if groups and is_table:
        config.data.group = groups
    try:
        pool = load_pool(config.data, seed=config.seed)
    except UserError as error:
        # The user gave the flag, not the field.
        raise UserError(str(error).replace("data.group", "--groups") if groups else str(error)) from None
    if groups and pool.groups is None:
        raise UserError(
            f"--groups: '{config.data.source}' has no groups, so there is no '{groups}'; leave --groups out"
        )
    if groups and not is_table and not pool.features.group_names[0].startswith(groups):
        names = ", ".join(f"'{name}'" for name in pool.features.group_names[:2])
        raise UserError(f"--groups: no '{groups}' in '{config.data.source}', whose groups are {names}, ...")
    return pool
