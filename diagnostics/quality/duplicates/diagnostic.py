"""The diagnostic of duplicates."""

import numpy as np

from diagnostics.diagnostic import Diagnostic
from diagnostics.examples import Examples
from diagnostics.finding import Finding
from diagnostics.material import Material
from diagnostics.quality.duplicates import across_splits, conflicting_labels, within_splits
from diagnostics.quality.duplicates.copies import Embed, find_copies
from trainers.run.inference import FinishedRun


def find(material: Material) -> list[Finding]:
    """Looks for equal and nearly equal examples; for images and texts with the help of a run's embeddings."""
    embed = None
    if material.run and material.examples.features.kind != "table":
        run = FinishedRun(material.run)
        vectors = np.concatenate([run.embed(split) for split in material.examples.splits.values()])
        embed = vectors.__getitem__
    return judge(material.examples, embed)


def judge(examples: Examples, embed: Embed | None = None) -> list[Finding]:
    """Answers the four questions.

    Args:
      examples: of the set.
      embed: as in `copies.find_copies`.
    """
    copies = find_copies(examples, embed)
    return [
        within_splits.judge_exact(copies),
        within_splits.judge_near(copies),
        across_splits.judge_leaks(copies),
        conflicting_labels.judge_conflicts(copies),
    ]


DIAGNOSTIC = Diagnostic(
    title="duplicates",
    questions=(within_splits.EXACT, within_splits.NEAR, across_splits.QUESTION, conflicting_labels.QUESTION),
    find=find,
)
