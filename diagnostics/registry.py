"""The diagnostics of an audit. A new one is a module with a `DIAGNOSTIC`, and a row here."""

from diagnostics.diagnostic import Diagnostic
from diagnostics.fit import diagnostic as fit
from diagnostics.quality import (
    anomalies,
    class_imbalance,
    constant_columns,
    corrupt_examples,
    duplicated_columns,
    grouped_optimism,
    impossible_values,
    informative_missingness,
    label_errors,
    leaking_columns,
    missing_values,
    outliers,
    reference_shift,
    shared_groups,
    shift,
)
from diagnostics.quality.duplicates import diagnostic as duplicates
from diagnostics.quantity import diagnostic as quantity

DIAGNOSTICS: tuple[Diagnostic, ...] = (
    duplicates.DIAGNOSTIC,
    missing_values.DIAGNOSTIC,
    informative_missingness.DIAGNOSTIC,
    constant_columns.DIAGNOSTIC,
    duplicated_columns.DIAGNOSTIC,
    leaking_columns.DIAGNOSTIC,
    class_imbalance.DIAGNOSTIC,
    corrupt_examples.DIAGNOSTIC,
    anomalies.DIAGNOSTIC,
    outliers.DIAGNOSTIC,
    impossible_values.DIAGNOSTIC,
    shift.DIAGNOSTIC,
    reference_shift.DIAGNOSTIC,
    shared_groups.DIAGNOSTIC,
    grouped_optimism.DIAGNOSTIC,
    label_errors.DIAGNOSTIC,
    quantity.DIAGNOSTIC,
    fit.DIAGNOSTIC,
)
"""All that an audit asks, in this order."""
