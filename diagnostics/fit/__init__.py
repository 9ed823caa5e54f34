"""Whether a model over- or underfits: its figures against each other, against baselines and against random labels."""

from diagnostics.fit.findings import find, of_run
from diagnostics.fit.verdict import KINDS, Figures, Verdict, judge

__all__ = ["KINDS", "Figures", "Verdict", "find", "judge", "of_run"]
