"""The finding on optimisation: problems that show in the course of a training."""

import ml_collections

from diagnostics.finding import Curves, Finding, Measure, Question, Table
from diagnostics.fit.course import LEAST_POINTS, Course
from diagnostics.fit.judgement import draw_losses
from diagnostics.fit.problems import find_problems
from plumbline import pluralize

QUESTION = Question("optimisation", "fit")


def judge(config: ml_collections.ConfigDict, course: Course, *, of_run: bool) -> Finding:
    """Reports problems of optimisation.

    Args:
      config: of the training.
      course: of the training.
      of_run: whether it is a run, of which gradients and units are judged as well, or a population.
    """
    found = find_problems(course, config)
    if not found and len(course.train) < LEAST_POINTS:
        field = "train.log_every" if of_run else "train.evaluate_every"
        return QUESTION.cannot_tell(
            f"the training loss has {pluralize(len(course.train), 'point')}, and at least {LEAST_POINTS} are needed; "
            f"lower {field}"
        )
    evidence: list[Curves | Table] = list(draw_losses(course))
    if len(course.gradient_norm):
        lines = {"gradient norm": course.gradient_norm}
        evidence.append(Curves(title="Gradient", x_label="step", y_label="norm", lines=lines))
    if course.dead:
        shares = tuple((layer, share) for layer, share in course.dead.items())
        evidence.append(Table(title="Units that are zero for all examples", header=("layer", "share"), rows=shares))
    observed = "loss, gradient and units" if of_run else "loss"
    message = " ".join(f"{each.name.capitalize()}: {each.text}" for each in found)
    return QUESTION.found(
        found[0].severity if found else "none",
        message or f"No problem seen in the course of {observed}.",
        measures=(
            Measure(name="updates skipped", value=course.skipped, kind="count"),
            *(
                Measure(name=f"dead units of {layer}", value=share, kind="share")
                for layer, share in course.dead.items()
            ),
        ),
        evidence=tuple(evidence),
        remedies=tuple(remedy for each in found for remedy in each.remedies),
    )
