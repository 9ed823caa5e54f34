"""The diagnostic of the quantity of data."""

from diagnostics.diagnostic import Diagnostic
from diagnostics.finding import Finding
from diagnostics.material import Material
from diagnostics.quantity import curve_findings, small_classes


def find(material: Material) -> list[Finding]:
    """Judges the number of examples by a learning curve, and classes and groups by their scores out of fold."""
    pool, trainings = material.pool, material.trainings
    return [
        curve_findings.judge_more_data(pool, trainings, wanted=material.wanted),
        small_classes.judge(pool, trainings),
        curve_findings.judge_enough_data(pool, trainings),
    ]


DIAGNOSTIC = Diagnostic(
    title="quantity",
    questions=(curve_findings.MORE, small_classes.QUESTION, curve_findings.ENOUGH),
    find=find,
    needs=("pool", "trainings"),
)
