"""An audit on the screen: a table on a terminal, a line a finding elsewhere, and the remedies to copy."""

import sys

import rich.console
import rich.table
import rich.text

from reporting.audit_report import Report
from reporting.formatting import as_flags, plain

_STYLES = {"high": "bold red", "medium": "yellow", "low": "cyan", "none": "green", "unknown": "dim"}

_COUNTED = {"high": "high", "medium": "medium", "low": "low", "none": "not found", "unknown": "cannot be judged"}


def show(report: Report) -> None:
    """Prints the findings, the worst first, and then what can be done."""
    if sys.stdout.isatty():
        _print_table(report)
    else:
        _print_lines(report)
    _print_remedies(report)


def heading(report: Report) -> str:
    """What was found, in a line."""
    counts = ", ".join(f"{count} {_COUNTED[severity]}" for severity, count in report.counts().items() if count)
    rows = ", ".join(f"{len(split):,} {name}" for name, split in report.examples.splits.items())
    return f"{plain(report.source)} ({rows} rows): {counts or 'nothing was asked'}"


def _print_table(report: Report) -> None:
    table = rich.table.Table(title=rich.text.Text(heading(report)), title_justify="left")
    for name in ("severity", "finding", "what was found"):
        table.add_column(name, overflow="fold")
    for finding in report.findings:
        # Texts, as square brackets would be taken for markup.
        style = _STYLES[finding.severity]
        table.add_row(
            rich.text.Text(finding.severity, style=style),
            rich.text.Text(plain(finding.name)),
            rich.text.Text(plain(finding.message)),
        )
    rich.console.Console().print(table)


def _print_lines(report: Report) -> None:
    print(f"{heading(report)}\n")
    for finding in report.findings:
        print(f"{finding.severity:<8} {plain(finding.name)}: {plain(finding.message)}")


def _print_remedies(report: Report) -> None:
    remedies = [(finding.name, remedy) for finding in report.findings for remedy in finding.remedies]
    if remedies:
        print("\nRemedies:")
    for name, remedy in remedies:
        print(f"  {plain(name)}: {plain(remedy.text)}")
        # In one line, whatever the terminal's width, to be copied.
        if remedy.overrides:
            print(f"    {' '.join(as_flags(report.overrides(remedy)))}")
    print()
