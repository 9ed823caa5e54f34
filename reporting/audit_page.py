"""audit.html: one file that opens without a network, and holds nothing that runs."""

from collections.abc import Mapping
from typing import Any

from diagnostics.finding import Evidence, Finding, Rows, Table
from plumbline import pluralize
from reporting import formatting
from reporting.audit_plots import Picture
from reporting.audit_report import Report
from reporting.html_examples import make_gallery
from reporting.templating import render

# What a severity means, beside the number of its findings.
_MEANINGS = {
    "high": "spoils training or its evaluation",
    "medium": "costs some of it",
    "low": "good to know",
    "none": "looked for, not found",
    "unknown": "cannot be judged",
}
_TABLE_ROWS = 60


def render_page(report: Report, pictures: Mapping[tuple[str, int], Picture]) -> str:
    """Renders the page.

    Args:
      report: the audit.
      pictures: figures of its findings, as returned by `audit_plots.draw_all`.

    Returns:
      The HTML.
    """
    return render(
        "audit.html",
        title=f"Audit of {report.source}",
        verdict=report.verdict(),
        facts=_list_facts(report),
        counts=report.counts(),
        meanings=_MEANINGS,
        found=[finding for finding in report.findings if finding.severity != "none"],
        not_found=[_article(finding, report, pictures) for finding in report.nothing_found()],
        challenges={
            challenge: [_article(finding, report, pictures) for finding in findings]
            for challenge, findings in report.by_challenge().items()
        },
        fingerprint=report.examples.fingerprint,
    )


def _list_facts(report: Report) -> list[str]:
    features = report.examples.features
    splits = ", ".join(f"{len(split):,} {name}" for name, split in report.examples.splits.items())
    kinds = {
        "image": f"images of {' x '.join(map(str, features.shape))}",
        "table": f"a table with {pluralize(len(features.columns), 'input column')}",
        "text": f"texts of up to {features.shape[0]:,} tokens",
    }
    target = f"{len(features.class_names)} classes" if features.task == "classification" else features.task
    facts = [f"{kinds[features.kind]}; {target}", f"rows: {splits}"]
    if report.reference:
        facts.append(f"compared with {report.reference}")
    if report.trainings is None:
        facts.append("data only; nothing was trained")
    else:
        trainings = pluralize(report.trainings["trainings"], "training")
        facts.append(f"{trainings} in {report.trainings['total_seconds']:.0f} s")
    return facts


def _article(finding: Finding, report: Report, pictures: Mapping[tuple[str, int], Picture]) -> dict[str, Any]:
    """Returns the values of the article of a finding."""
    evidence = [
        _describe_evidence(each, report, pictures.get((finding.name, index)))
        for index, each in enumerate(finding.evidence)
    ]
    remedies = [
        {"text": remedy.text, "flags": " ".join(formatting.format_flags(report.overrides(remedy)))}
        for remedy in finding.remedies
    ]
    return {
        "finding": finding,
        "remedies": remedies,
        "arrays": _describe_arrays(finding),
        "evidence": [each for each in evidence if each],
    }


def _describe_arrays(finding: Finding) -> str:
    """Describes what findings.npz holds for a finding; "" for nothing."""
    arrays = []
    if finding.drop is not None and len(finding.drop):
        arrays.append(f"{pluralize(len(finding.drop), 'row')} to drop")
    if finding.weights is not None:
        arrays.append(f"a weight for each of {len(finding.weights):,} rows")
    return " and ".join(arrays)


def _describe_evidence(evidence: Evidence, report: Report, picture: Picture | None) -> tuple[str, Any] | None:
    """Returns the kind of evidence and its values; None if there is nothing to show."""
    if isinstance(evidence, Rows):
        return "examples", make_gallery(evidence, report.examples)
    if isinstance(evidence, Table):
        return "table", _describe_table(evidence)
    return ("plot", {"title": evidence.title, "picture": picture}) if picture else None


def _describe_table(table: Table) -> dict[str, Any]:
    columns = range(len(table.header))
    return {
        "title": table.title,
        "header": table.header,
        "rows": [[formatting.format_cell(cell) for cell in row] for row in table.rows[:_TABLE_ROWS]],
        "numeric": [
            bool(table.rows) and all(formatting.is_number(row[column]) for row in table.rows) for column in columns
        ],
        "more": max(0, len(table.rows) - _TABLE_ROWS),
    }
