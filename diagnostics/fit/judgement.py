"""The finding on the fit: does the model underfit or overfit, by how much, and what can be done?"""

import ml_collections

from data.features import Features
from diagnostics.finding import Curves, Finding, Measure, Question, Remedy, Table
from diagnostics.fit import remedies
from diagnostics.fit.course import Course
from diagnostics.fit.verdict import Figures, judge
from diagnostics.statistics import Interval

QUESTION = Question("fit", "fit")

Scored = tuple[str, int, Interval]
"""Name of some rows, their number, and the model's score on them."""


def report(
    config: ml_collections.ConfigDict, features: Features, figures: Figures, scored: list[Scored], course: Course
) -> Finding:
    """Reports the verdict on some figures.

    Args:
      config: of the training.
      features: of its data.
      figures: that the verdict depends on.
      scored: scores on all rows, for the table.
      course: of the training, for its curves.
    """
    verdict = judge(figures)
    offered: tuple[Remedy, ...] = ()
    if verdict.kind == "overfits":
        offered = remedies.against_overfitting(config, features)
    elif verdict.kind == "underfits":
        offered = remedies.against_underfitting(config, features)
    kind = "share" if figures.score == "accuracy" else "number"
    measures = [
        Measure.of(f"gap in {figures.score} between training and held-out rows", figures.gap),
        Measure.of(f"{figures.score} on training rows", figures.train, kind),
        Measure.of(f"{figures.score} {figures.held_out_name}", figures.held_out, kind),
    ]
    if figures.grouped is not None:
        measures.append(Measure.of(f"{figures.score} out of folds of whole groups", figures.grouped, kind))
    if figures.gain is not None:
        measures.append(Measure.of(f"{figures.score} that twice the data would add", figures.gain))
    if figures.memorised is not None:
        measures.append(Measure(name="random labels that were memorised", value=figures.memorised, kind=kind))
    table = Table(
        title=f"{figures.score} of the model",
        header=("rows", "number", figures.score, "from", "to"),
        rows=tuple((name, count, *map(float, interval)) for name, count, interval in scored),
    )
    sound = "The fit is sound for groups that training has seen: " if figures.is_optimistic else "The fit is sound: "
    opening = {"sound": sound, "cannot tell": ""}.get(verdict.kind, f"The model {verdict.kind}: ")
    return QUESTION.found(
        verdict.severity,
        f"{opening}{verdict.why}",
        measures=tuple(measures),
        evidence=(table, *draw_losses(course)),
        remedies=offered,
    )


def draw_losses(course: Course) -> tuple[Curves, ...]:
    """Draws the losses of a training; () if there are none."""
    curves = {"training": course.train, "validation": course.validation}
    lines = {name: curve for name, curve in curves.items() if len(curve)}
    return (Curves(title="Loss over the training", x_label="step", y_label="loss", lines=lines),) if lines else ()
