"""Images that cannot be decoded."""

import numpy as np

from diagnostics.diagnostic import Diagnostic
from diagnostics.finding import Finding, Measure, Question, Remedy, drop_remedy
from diagnostics.material import Material
from diagnostics.quality.anomaly_evidence import count_by_split, list_rows
from diagnostics.statistics import wilson_interval
from diagnostics.thresholds import THRESHOLDS
from plumbline import pluralize

QUESTION = Question("corrupt_examples", "data quality")


def find(material: Material) -> list[Finding]:
    """Looks for images that cannot be decoded; a table or text that cannot be read is an error before any audit."""
    examples = material.examples
    if examples.features.kind != "image":
        return [QUESTION.none(f"A {examples.features.kind} that cannot be read is an error, so there is none here.")]
    corrupt = np.flatnonzero(~examples.decodable)
    share = wilson_interval(len(corrupt), len(examples))
    measures = (Measure.of("images that are corrupt", share, "share"),)
    if not len(corrupt):
        return [QUESTION.none(f"All of {pluralize(len(examples), 'image')} can be decoded.", measures=measures)]
    drop = corrupt[examples.split[corrupt] == "train"]
    return [
        QUESTION.found(
            THRESHOLDS.affected.grade(share[0]),
            f"{pluralize(len(corrupt), 'image')} of {len(examples)} cannot be decoded "
            f"({count_by_split(examples, corrupt)}). They have weight 0 in training and in metrics.",
            measures=measures,
            evidence=(list_rows("Corrupt images", corrupt, ["cannot be decoded"] * len(corrupt)),),
            remedies=(
                Remedy(text="Replace or remove the files."),
                *drop_remedy(QUESTION.name, drop, "Leave them out of training."),
            ),
            drop=drop if len(drop) else None,
        )
    ]


DIAGNOSTIC = Diagnostic(title="corrupt_examples", questions=(QUESTION,), find=find)
