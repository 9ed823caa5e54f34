"""audit.html: one file that opens without a network, and holds nothing that runs."""

import base64
from collections.abc import Mapping

from diagnostics.finding import Evidence, Finding, Measure, Remedy, Rows, Table
from plumbline import counted
from reporting.audit_plots import Picture
from reporting.audit_report import Report
from reporting.formatting import as_flags, cell, interval, is_number, number, title
from reporting.html_examples import shown
from reporting.markup import escaped, scrolling
from reporting.style import CSS

# What the count of each severity is a count of.
_MEANINGS = {
    "high": "spoils training or its evaluation",
    "medium": "costs some of it",
    "low": "good to know",
    "none": "looked for, not found",
    "unknown": "cannot be judged",
}
_TABLE_ROWS = 60
# Characters up to which a cell stands in one line.
_UNBROKEN, _SHORT = 24, ' class="short"'
# Even a mistake in escaping could neither run nor fetch anything.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(report: Report, pictures: Mapping[tuple[str, int], Picture]) -> str:
    """The whole page.

    Args:
      report: that it tells.
      pictures: plots of its findings, as `plots.draw_all` gives them.
    """
    sections = "".join(
        f'<section aria-labelledby="{_id(challenge)}"><h2 id="{_id(challenge)}">{escaped(title(challenge))}</h2>'
        + "".join(_article(finding, report, pictures) for finding in findings)
        + "</section>"
        for challenge, findings in report.by_challenge().items()
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>Audit of {escaped(report.source)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f"<header><h1>Audit of {escaped(report.source)}</h1>{_facts(report)}{_counts(report)}</header>\n"
        f'<main>\n<section aria-labelledby="all"><h2 id="all">All findings</h2>{_list(report)}</section>\n'
        f"{sections}\n</main>\n<footer>{_footer(report)}</footer>\n</body>\n</html>\n"
    )


def _facts(report: Report) -> str:
    features = report.examples.features
    splits = ", ".join(f"{len(split):,} {name}" for name, split in report.examples.splits.items())
    kinds = {
        "image": f"images of {' x '.join(map(str, features.shape))}",
        "table": f"a table with {counted(len(features.columns), 'input column')}",
        "text": f"texts of up to {features.shape[0]:,} tokens",
    }
    told = f"{len(features.class_names)} classes" if features.task == "classification" else features.task
    facts = [f"{kinds[features.kind]}; {told}", f"rows: {splits}"]
    if report.reference:
        facts.append(f"compared with {report.reference}")
    if report.trainings is None:
        facts.append("nothing was trained; only the data were looked at")
    else:
        trainings = counted(report.trainings["trainings"], "training")
        facts.append(f"{trainings} in {report.trainings['total_seconds']:.0f} s")
    return f'<ul class="facts">{"".join(f"<li>{escaped(title(fact))}</li>" for fact in facts)}</ul>'


def _counts(report: Report) -> str:
    tiles = "".join(
        f'<li class="{severity if count else "zero"}"><b>{count}</b> {severity}: {_MEANINGS[severity]}</li>'
        for severity, count in report.counts().items()
    )
    return f'<ul class="counts" aria-label="Findings of each severity">{tiles}</ul>'


def _list(report: Report) -> str:
    found = [finding for finding in report.findings if finding.severity != "none"]
    others = [finding for finding in report.findings if finding.severity == "none"]
    listed = _items(found) if found else '<p class="card list">Nothing was found.</p>'
    if not others:
        return listed
    return f"{listed}<details><summary>{len(others)} looked for, not found</summary>{_items(others)}</details>"


def _items(findings: list[Finding]) -> str:
    items = "".join(
        f'<li>{_badge(finding.severity)}<a href="#{_id(finding.name)}">{escaped(title(finding.name))}</a>'
        f"<p>{escaped(finding.message)}</p></li>"
        for finding in findings
    )
    return f'<ol class="card list">{items}</ol>'


def _article(finding: Finding, report: Report, pictures: Mapping[tuple[str, int], Picture]) -> str:
    evidence = "".join(
        _evidence(each, report, pictures.get((finding.name, number))) for number, each in enumerate(finding.evidence)
    )
    if evidence and finding.severity == "none":
        evidence = f"<details><summary>What was looked at</summary>{evidence}</details>"
    return (
        f'<article id="{_id(finding.name)}" class="at-{finding.severity}"><div class="title">'
        f"{_badge(finding.severity)}<h3>{escaped(title(finding.name))}</h3><code>{escaped(finding.name)}</code></div>"
        f'<p class="message">{escaped(finding.message)}</p>'
        f"{_measures(finding.measures)}{_remedies(finding, report)}{evidence}</article>\n"
    )


def _badge(severity: str) -> str:
    return f'<span class="badge {severity}">{severity}</span>'


def _measures(measures: tuple[Measure, ...]) -> str:
    if not measures:
        return ""
    bounded = any(interval(measure) for measure in measures)
    rows = "".join(
        f'<tr><th scope="row">{escaped(measure.name)}</th><td class="number">{number(measure.value, measure.kind)}</td>'
        + (f'<td class="number">{interval(measure)}</td>' if bounded else "")
        + "</tr>"
        for measure in measures
    )
    head = '<tr><th scope="col">measure</th><th scope="col" class="number">value</th>'
    head += '<th scope="col" class="number">95 % interval</th></tr>' if bounded else "</tr>"
    return scrolling(f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>", "Measures")


def _remedies(finding: Finding, report: Report) -> str:
    aside = []
    if finding.drop is not None and len(finding.drop):
        aside.append(f"{counted(len(finding.drop), 'row')} to drop")
    if finding.weights is not None:
        aside.append(f"a weight for each of {len(finding.weights):,} rows")
    listed = f'<p class="aside">findings.npz holds {" and ".join(aside)}.</p>' if aside else ""
    if not finding.remedies:
        return listed
    items = "".join(f"<li>{_remedy(remedy, report)}</li>" for remedy in finding.remedies)
    return f'<h4>What can be done</h4><ul class="remedies">{items}</ul>{listed}'


def _remedy(remedy: Remedy, report: Report) -> str:
    flags = escaped(" ".join(as_flags(report.overrides(remedy))))
    return escaped(remedy.text) + (f'<pre tabindex="0"><code>{flags}</code></pre>' if flags else "")


def _evidence(evidence: Evidence, report: Report, picture: Picture | None) -> str:
    if isinstance(evidence, Rows):
        return shown(evidence, report.examples)
    if isinstance(evidence, Table):
        return _table(evidence)
    return f"<h4>{escaped(evidence.title)}</h4>{_plot(picture)}" if picture else ""


def _table(table: Table) -> str:
    right = [
        bool(table.rows) and all(is_number(row[place]) for row in table.rows) for place in range(len(table.header))
    ]
    classes = [' class="number"' if each else "" for each in right]
    head = "".join(
        f'<th scope="col"{each}>{escaped(name)}</th>' for name, each in zip(table.header, classes, strict=True)
    )
    rows = []
    for row in table.rows[:_TABLE_ROWS]:
        first, *rest = (escaped(cell(each)) for each in row)
        cells = "".join(
            f"<td{each or (_SHORT if len(words) <= _UNBROKEN else '')}>{words}</td>"
            for words, each in zip(rest, classes[1:], strict=True)
        )
        rows.append(f'<tr><th scope="row"{classes[0]}>{first}</th>{cells}</tr>')
    more = len(table.rows) - _TABLE_ROWS
    aside = f'<p class="aside">{more:,} more in findings.json.</p>' if more > 0 else ""
    content = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f"<h4>{escaped(table.title)}</h4>{scrolling(content, table.title)}{aside}"


def _plot(picture: Picture) -> str:
    light, dark = (base64.b64encode(png).decode("ascii") for png in (picture.light, picture.dark))
    return (
        f'<picture class="plot"><source media="(prefers-color-scheme: dark)" srcset="data:image/png;base64,{dark}">'
        f'<img alt="{escaped(picture.words)}" src="data:image/png;base64,{light}"></picture>'
    )


def _footer(report: Report) -> str:
    return (
        f"Fingerprint of the data: <code>{escaped(report.examples.fingerprint)}</code>. All that is told here, and the "
        "examples that are not shown, are in findings.json; rows to drop and weights in findings.npz."
    )


def _id(name: str) -> str:
    """The anchor of a heading."""
    return escaped(name.replace(" ", "-"))
