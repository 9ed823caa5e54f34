"""The content of an audit, before it is rendered."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from data import row_lists
from diagnostics.examples import Examples
from diagnostics.finding import CHALLENGES, SEVERITIES, Finding, Remedy, worst_first
from plumbline import pluralize

# What the worst severity of an audit means for its reader.
_VERDICTS = {
    "high": "Do not trust figures on these data before you have looked at",
    "medium": "Nothing spoils training or evaluation, but some of it is lost by",
    "low": "Nothing that has to be acted on was found; good to know:",
}
# Findings that the verdict names.
_NAMED = 4

# Config fields that take findings by name, and the field with the directory of their audit.
_OF_FINDINGS, _DIRECTORY = ("data.drop", "data.weights"), "data.findings"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """The findings of an audit and the data that they are about.

    Attributes:
      directory: of the audit's files.
      source: of the data, as in the config.
      examples: of the data.
      findings: with unique names.
      reference: source of the reference data; "" for none.
      reference_fingerprint: of the reference data; "" for none.
      trainings: `Population.summary`; None if nothing was trained.
      seconds: duration of each diagnostic, by its title.
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
        """Returns the number of findings of each severity, the worst first."""
        return {severity: sum(finding.severity == severity for finding in self.findings) for severity in SEVERITIES}

    def verdict(self) -> str:
        """Returns the verdict in one sentence: what the worst findings mean, and which they are."""
        for severity, meaning in _VERDICTS.items():
            names = [each.name.replace("_", " ") for each in self.findings if each.severity == severity]
            if names:
                more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
                return f"{meaning} {', '.join(names[:_NAMED])}{more}."
        judged = sum(finding.severity == "none" for finding in self.findings)
        if not judged:
            return "None of the questions could be judged."
        unknown = len(self.findings) - judged
        return f"Nothing was found by {pluralize(judged, 'check')}" + (
            f"; {unknown} could not judge." if unknown else "."
        )

    def nothing_found(self) -> list[Finding]:
        """Returns the findings with nothing found."""
        return [finding for finding in self.findings if finding.severity == "none"]

    def overrides(self, remedy: Remedy) -> dict[str, Any]:
        """Returns the overrides of a remedy.

        If they name findings, the directory of the audit and the findings that the config used before are added.
        """
        if not any(remedy.overrides.get(field) for field in _OF_FINDINGS):
            return dict(remedy.overrides)
        found, before = {_DIRECTORY: self.directory} | dict(remedy.overrides), self.examples.row_lists
        for field, lists in zip(_OF_FINDINGS, (before.drop, before.weights), strict=True):
            if any(map(len, lists.values())):
                found[field] = row_lists.include_earlier(found.get(field, ""))
        return found

    def by_challenge(self) -> dict[str, list[Finding]]:
        """Returns the findings of each challenge that has any, the worst first; without those with nothing found.

        Challenges with severe findings come first.
        """
        found = {
            challenge: worst_first(
                [each for each in self.findings if each.challenge == challenge and each.severity != "none"]
            )
            for challenge in CHALLENGES
        }
        present = {challenge: findings for challenge, findings in found.items() if findings}
        order = sorted(present, key=lambda challenge: SEVERITIES.index(present[challenge][0].severity))
        return {challenge: present[challenge] for challenge in order}
