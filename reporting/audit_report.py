"""What an audit has to tell, before it is told."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from data import row_lists
from diagnostics.examples import Examples
from diagnostics.finding import CHALLENGES, SEVERITIES, Finding, Remedy, worst_first

# Fields that take findings by name, and the one that says of which audit.
_OF_FINDINGS, _DIRECTORY = ("data.drop", "data.weights"), "data.findings"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """An audit's findings, and what they are about.

    Attributes:
      directory: where it is written.
      source: of the data, as the config has it.
      examples: of it.
      findings: one of each name.
      reference: source of the set that it is compared with; "" for none.
      reference_fingerprint: of that set; "" for none.
      trainings: what they took, as `Population.summary`; None where nothing was trained.
      seconds: that each diagnostic took, by its title.
    """

    directory: str
    source: str
    examples: Examples
    findings: tuple[Finding, ...]
    reference: str = ""
    reference_fingerprint: str = ""
    trainings: Mapping[str, Any] | None = None
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Findings of each severity, the worst first."""
        return {severity: sum(finding.severity == severity for finding in self.findings) for severity in SEVERITIES}

    def overrides(self, remedy: Remedy) -> dict[str, Any]:
        """Those of a remedy; where they name findings, with the directory that these are in, and what was in use."""
        if not any(remedy.overrides.get(field) for field in _OF_FINDINGS):
            return dict(remedy.overrides)
        found, before = {_DIRECTORY: self.directory} | dict(remedy.overrides), self.examples.row_lists
        for field, lists in zip(_OF_FINDINGS, (before.drop, before.weights), strict=True):
            if any(map(len, lists.values())):
                found[field] = row_lists.include_earlier(found.get(field, ""))
        return found

    def by_challenge(self) -> dict[str, list[Finding]]:
        """The findings of each challenge that has some, the worst first."""
        found = {
            challenge: worst_first([each for each in self.findings if each.challenge == challenge])
            for challenge in CHALLENGES
        }
        return {challenge: findings for challenge, findings in found.items() if findings}
