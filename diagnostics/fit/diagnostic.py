"""The diagnostic of the fit: of the trainings of an audit, or of a finished run."""

from diagnostics.diagnostic import Diagnostic
from diagnostics.finding import Finding
from diagnostics.fit import calibration, comparison, control, from_run, from_trainings, judgement, optimisation
from diagnostics.material import Material


def find(material: Material) -> list[Finding]:
    """Judges the fit of the run, if there is one, and else of the trainings."""
    if material.run:
        return from_run.judge(material.run)
    return from_trainings.judge(material.config, material.pool, material.trainings)


DIAGNOSTIC = Diagnostic(
    title="fit",
    questions=(
        judgement.QUESTION,
        control.QUESTION,
        comparison.QUESTION,
        calibration.QUESTION,
        optimisation.QUESTION,
    ),
    find=find,
    needs_any=("trainings", "run"),
)
