"""Renders docs/calibration.md from the stored results."""

import dataclasses
import itertools
import json
import math
import pathlib
from collections.abc import Mapping, Sequence

from calibration.simulation import Outcome, Simulation
from calibration.subjects import SUBJECTS, document, simulations
from plumbline.files import write_text

_MEASURED = pathlib.Path(__file__).parent / "measured"
PAGE = pathlib.Path(__file__).parent.parent / "docs" / "calibration.md"

_OPENING = """# Calibration

Whatever Plumbline reports as evidence is checked by simulation: data are drawn for which the truth is known, and each
table counts how often an interval covered it, how often an alarm had no cause, and how often a planted fault was found.
Brackets hold the 95 % interval of the measured share. "Promised" is what the suite checks: its slow tests repeat the
first draws of each row. Where nothing could be claimed, a draw does not count; the last column has the number of
draws.

`python -m calibration` makes this page again; `python -m calibration NAME` measures one subject. The seeds are fixed.
"""


def load() -> dict[str, Outcome]:
    """Reads the stored results of all subjects."""
    outcomes: dict[str, Outcome] = {}
    for subject in SUBJECTS:
        if (path := _MEASURED / f"{subject}.json").exists():
            stored = json.loads(path.read_text(encoding="utf-8"))
            outcomes |= {key: Outcome(**fields) for key, fields in stored.items()}
    return outcomes


def store(subject: str, outcomes: Mapping[str, Outcome]) -> None:
    """Stores the results of a subject, without those whose simulation is gone."""
    keys = [each.key for each in simulations(subject) if each.key in outcomes]
    stored = {key: dataclasses.asdict(outcomes[key]) for key in keys}
    write_text(_MEASURED / f"{subject}.json", json.dumps(stored, indent=1) + "\n")


def render(outcomes: Mapping[str, Outcome]) -> str:
    """Renders the page.

    Args:
      outcomes: by the keys of their simulations; those without one are shown as not measured.
    """
    parts = [_OPENING]
    for subject, heading in SUBJECTS.items():
        parts.append(f"## {heading}\n\n{document(subject).strip()}\n")
        for kind, group in itertools.groupby(simulations(subject), key=lambda each: each.kind):
            rows = list(group)
            parts.append(_render_found(rows, outcomes) if kind == "found" else _render_rates(rows, outcomes))
    return "\n".join(parts)


def _render_rates(rows: Sequence[Simulation], outcomes: Mapping[str, Outcome]) -> str:
    bound = "at most" if rows[0].kind == "false alarms" else "at least"
    return _table(
        ("claim", "data", "nominal", "promised", rows[0].kind, "draws"),
        [
            (
                row.claim,
                row.setting,
                "" if math.isnan(row.nominal) else f"{row.nominal:g}",
                f"{bound} {row.promised:g}",
                _share(outcomes.get(row.key)),
                _claims(outcomes.get(row.key)),
            )
            for row in rows
        ],
    )


def _render_found(rows: Sequence[Simulation], outcomes: Mapping[str, Outcome]) -> str:
    lines = []
    for (claim, setting), group in itertools.groupby(rows, key=lambda each: (each.claim, each.setting)):
        strengths = sorted(group, key=lambda each: each.strength)
        shares = [outcomes[each.key].interval()[0] if each.key in outcomes else math.nan for each in strengths]
        cells = [f"{each.strength:g}: {_share(outcomes.get(each.key))}" for each in strengths]
        half = half_found([each.strength for each in strengths], shares)
        lines.append((claim, setting, "<br>".join(cells), half, _claims(outcomes.get(strengths[0].key))))
    return _table(("fault", "data", "strength: share found", "half are found at", "draws"), lines)


def half_found(strengths: Sequence[float], shares: Sequence[float]) -> str:
    """Returns the strength at which half of the faults are found, between two measured strengths by interpolation.

    Args:
      strengths: increasing.
      shares: found at each strength.
    """
    for index, share in enumerate(shares):
        if share >= 0.5:
            if index == 0:
                return f"at most {strengths[0]:g}"
            before = shares[index - 1]
            part = (0.5 - before) / (share - before)
            return f"{strengths[index - 1] + part * (strengths[index] - strengths[index - 1]):.2g}"
    return f"above {strengths[-1]:g}"


def _share(outcome: Outcome | None) -> str:
    if outcome is None:
        return "not measured"
    share, low, high = outcome.interval()
    return "nothing claimed" if math.isnan(share) else f"{share:.3f} ({low:.3f} to {high:.3f})"


def _claims(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    return f"{outcome.draws:,}" if outcome.claimed == outcome.draws else f"{outcome.claimed:,} of {outcome.draws:,}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
