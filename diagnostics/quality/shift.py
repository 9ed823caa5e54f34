"""Whether the test split is distributed like the training rows."""

from diagnostics.diagnostic import Diagnostic
from diagnostics.finding import Finding, Question, Remedy
from diagnostics.material import Material
from diagnostics.quality import sample_comparison
from diagnostics.quality.samples import take_split

QUESTION = Question("train_test_shift", "data quality")


def find(material: Material) -> list[Finding]:
    """Compares a sample of the test split with a sample of the training rows; `config.seed` is that of the samples."""
    examples, seed = material.examples, material.config.seed
    train, test = take_split(examples, "train", seed), take_split(examples, "test", seed + 1)
    if reason := sample_comparison.too_small(train, test):
        return [QUESTION.cannot_tell(reason)]
    comparison = sample_comparison.compare(examples, train, test, seed)
    if comparison.groups.own:
        remedy = Remedy(
            text="If the test is meant to have new groups, keep it; train on more groups rather than on more rows."
        )
    else:
        remedy = Remedy(
            text="If the test represents what the model will meet, train on rows like it; if not, hold out training "
            "rows at random.",
            overrides={"data.test": "20 percent"},
        )
    return [comparison.report(QUESTION, (remedy,))]


DIAGNOSTIC = Diagnostic(title="train_test_shift", questions=(QUESTION,), find=find)
