"""Images and texts that are anomalous by themselves, such as blank images and empty texts."""

from diagnostics.diagnostic import Diagnostic
from diagnostics.finding import Finding, Question
from diagnostics.material import Material
from diagnostics.quality import image_anomalies, text_anomalies

QUESTION = Question("odd_examples", "data quality")


def find(material: Material) -> list[Finding]:
    """Looks for images or texts that are anomalous by themselves; rows of a table are judged by their values."""
    examples = material.examples
    if examples.features.kind == "image":
        return [image_anomalies.judge(QUESTION, examples)]
    if examples.features.kind == "text":
        return [text_anomalies.judge(QUESTION, examples)]
    return [QUESTION.none("Rows of a table are judged by their values: see outliers and impossible_values.")]


DIAGNOSTIC = Diagnostic(title="anomalies", questions=(QUESTION,), find=find)
