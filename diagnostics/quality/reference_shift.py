"""Whether a reference set, such as rows met in use, is distributed like the training rows."""

from diagnostics.diagnostic import Diagnostic
from diagnostics.finding import Finding, Question, Remedy
from diagnostics.material import Material
from diagnostics.quality import sample_comparison
from diagnostics.quality.samples import take_reference, take_split

QUESTION = Question("reference_shift", "data quality")


def find(material: Material) -> list[Finding]:
    """Compares the reference with a sample of the training rows; `config.seed` is that of the sample."""
    examples, seed = material.examples, material.config.seed
    train, other = take_split(examples, "train", seed), take_reference(material.reference)
    if reason := sample_comparison.too_small(train, other):
        return [QUESTION.cannot_tell(reason)]
    comparison = sample_comparison.compare(examples, train, other, seed)
    remedies = (
        Remedy(text="Label some rows of the reference set and train on them as well."),
        Remedy(text="Evaluate on rows of the reference set: figures of the test split do not hold for it."),
    )
    return [comparison.report(QUESTION, remedies)]


DIAGNOSTIC = Diagnostic(title="reference_shift", questions=(QUESTION,), find=find, needs=("reference",))
