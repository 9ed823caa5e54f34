"""Keeps the findings on the fit from proposing opposite changes: the verdict decides which way to go."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import ml_collections

from diagnostics.finding import Finding, Remedy
from diagnostics.severity import cap
from trainers.settings import fields

# Fields of which a higher value lets a model fit its training rows more (1) or less (-1).
_HIGHER = {
    "train.duration": 1,
    "optimizer.learning_rate": 1,
    "model.dropout": -1,
    "model.stochastic_depth": -1,
    "objective.label_smoothing": -1,
    "optimizer.weight_decay": -1,
    "augment.shift": -1,
    "augment.crop_padding": -1,
    "augment.mixup": -1,
    "prune.sparsity": -1,
}
_SIZES = ("hidden_sizes", "width", "widths", "mlp_size")
_OPPOSITE = {"overfits": 1, "underfits": -1}


def settle(findings: Sequence[Finding], kind: str, config: ml_collections.ConfigDict) -> list[Finding]:
    """Withholds the remedies that go against the verdict on the fit, and says so.

    If the model overfits, nothing is proposed that makes it fit its training rows more, such as a longer training; if
    it underfits, nothing that makes it fit them less. A finding that is left without a remedy is at most of severity
    "low", as it is not what to act on first.

    Args:
      findings: on the fit.
      kind: of the verdict.
      config: of the training.
    """
    opposite = _OPPOSITE.get(kind)
    return [_settle(finding, opposite, kind, config) if opposite else finding for finding in findings]


def direction(remedy: Remedy, config: ml_collections.ConfigDict) -> int:
    """Returns 1 if a remedy makes a model fit its training rows more, -1 if less, and 0 if neither is clear.

    Args:
      remedy: with config overrides.
      config: that they change.
    """
    known = fields(config)
    signs = {_sign(path, value, known.get(path)) for path, value in remedy.overrides.items()} - {0}
    return signs.pop() if len(signs) == 1 else 0


def _settle(finding: Finding, opposite: int, kind: str, config: ml_collections.ConfigDict) -> Finding:
    kept = tuple(remedy for remedy in finding.remedies if direction(remedy, config) != opposite)
    withheld = [remedy.text.rstrip(".") for remedy in finding.remedies if remedy not in kept]
    if not withheld:
        return finding
    listed = "; ".join(f"{text[0].lower()}{text[1:]}" for text in withheld)
    return dataclasses.replace(
        finding,
        message=f"{finding.message} The model {kind}, so this is not proposed until that is solved: {listed}.",
        severity=finding.severity if kept else cap(finding.severity, "low"),
        remedies=kept,
    )


def _sign(path: str, value: Any, before: Any) -> int:
    if path == "train.patience":
        return -1 if value else 0
    if path == "model.name":
        return 1 if before == "linear" else 0
    higher = _HIGHER.get(path, 1 if path.startswith("model.") and path.rpartition(".")[2] in _SIZES else 0)
    new, old = _amount(value), _amount(before)
    if path == "optimizer.learning_rate" and new < old:
        # A lower rate may fit more or less.
        return 0
    return higher * ((new > old) - (new < old))


def _amount(value: Any) -> float:
    """Returns a number, the sum of several, or the number of a duration."""
    if isinstance(value, str):
        number = value.strip().partition(" ")[0]
        return float(number) if number.replace(".", "", 1).isdigit() else 0.0
    return float(sum(value)) if isinstance(value, (tuple, list)) else float(value or 0)
