"""The rows that each trial of a search is trained and judged on. The test split takes no part."""

import dataclasses

import ml_collections
import numpy as np

from data.pool import Pool
from diagnostics.cross_validation import Splits, make_members
from plumbline import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSplit:
    """Rows of a pool, each (n,) int64.

    Attributes:
      train: rows to train on.
      held_out: rows to judge the trial on.
      validation: rows that select the best step.
    """

    train: np.ndarray
    held_out: np.ndarray
    validation: np.ndarray


def make_splits(pool: Pool, config: ml_collections.ConfigDict, *, folds: int, grouped: bool) -> list[EvaluationSplit]:
    """Returns the splits that each trial is judged by.

    Args:
      pool: all rows.
      config: of the search; its seed makes the folds, which are those of `plumbline crossvalidate`.
      folds: of the training and validation rows together; 0 to train on the one split and judge on the other.
      grouped: whether whole groups are held out.

    Raises:
      UserError: the folds are not possible, or there are neither folds nor a validation split.
    """
    if not folds:
        if "validation" not in pool.splits:
            raise UserError(
                "--folds: missing; the config has no validation split to judge trials on: give --folds, or set "
                "data.validation"
            )
        validation = pool.splits["validation"]
        return [EvaluationSplit(train=pool.splits["train"], held_out=validation, validation=validation)]
    kind = "group" if grouped else "stratified" if pool.features.task == "classification" else "shuffled"
    members = make_members(pool, config, Splits(kind=kind, count=folds, seeds=(config.seed,)))
    return [EvaluationSplit(train=each.train, held_out=each.held_out, validation=each.validation) for each in members]
