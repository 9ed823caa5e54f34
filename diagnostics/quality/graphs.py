"""Clusters of rows that are connected by pairs."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def find_clusters(pairs: np.ndarray) -> list[np.ndarray]:
    """Finds the rows that are connected by a chain of pairs.

    Args:
      pairs: (p, 2) rows.

    Returns:
      Rows of each cluster, ascending; in the order of their first rows.
    """
    if not len(pairs):
        return []
    rows, index = np.unique(pairs, return_inverse=True)
    one, other = index.reshape(-1, 2).T
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(rows), len(rows)))
    _, component = connected_components(graph, directed=False)
    order = np.argsort(component, kind="stable")
    parts = np.split(rows[order], np.flatnonzero(np.diff(component[order])) + 1)
    return sorted(parts, key=lambda part: part[0])
