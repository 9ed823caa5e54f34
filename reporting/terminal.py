"""Prints an audit: a table on a terminal, otherwise a line for each finding, then the remedies as flags to copy."""

import sys

import rich.console
import rich.table
import rich.text

from diagnostics.finding import Finding
from reporting.audit_report import Report
from reporting.formatting import format_flags, plain

_STYLES = {"high": "bold red", "medium": "yellow", "low": "cyan", "none": "green", "unknown": "dim"}

_COUNT_NAMES = {"high": "high", "medium": "medium", "low": "low", "none": "not found", "unknown": "cannot be judged"}


def print_report(report: Report) -> None:
    """Prints the verdict, the findings, the worst first, those with nothing found in one line, and the remedies."""
    if sys.stdout.isatty():
        _print_table(report)
    else:
        _print_lines(report)
    if nothing := report.nothing_found():
        names = ", ".join(plain(finding.name) for finding in nothing)
        print(f"Looked for, not found ({len(nothing)}): {names}")
    _print_remedies(report)


def format_heading(report: Report) -> str:
    """Returns the source, its splits and the number of findings of each severity in one line."""
    counts = ", ".join(f"{count} {_COUNT_NAMES[severity]}" for severity, count in report.counts().items() if count)
    rows = ", ".join(f"{len(split):,} {name}" for name, split in report.examples.splits.items())
    return f"{plain(report.source)} ({rows} rows): {counts or 'no findings'}"


def _shown(report: Report) -> list[Finding]:
    return [finding for finding in report.findings if finding.severity != "none"]


def _print_table(report: Report) -> None:
    table = rich.table.Table(title=rich.text.Text(format_heading(report)), title_justify="left")
    for name in ("severity", "finding", "what was found"):
        table.add_column(name, overflow="fold")
    for finding in _shown(report):
        # `Text` objects, because square brackets in a plain string are markup.
        style = _STYLES[finding.severity]
        table.add_row(
            rich.text.Text(finding.severity, style=style),
            rich.text.Text(plain(finding.name)),
            rich.text.Text(plain(finding.message)),
        )
    console = rich.console.Console()
    console.print(rich.text.Text(plain(report.verdict()), style="bold"))
    if table.row_count:
        console.print(table)
    else:
        console.print(rich.text.Text(format_heading(report)))


def _print_lines(report: Report) -> None:
    print(f"{format_heading(report)}\n{plain(report.verdict())}\n")
    for finding in _shown(report):
        print(f"{finding.severity:<8} {plain(finding.name)}: {plain(finding.message)}")


def _print_remedies(report: Report) -> None:
    remedies = [(finding.name, remedy) for finding in report.findings for remedy in finding.remedies]
    if remedies:
        print("\nRemedies:")
    for name, remedy in remedies:
        print(f"  {plain(name)}: {plain(remedy.text)}")
        # One line at any terminal width, to be copied.
        if remedy.overrides:
            print(f"    {' '.join(format_flags(report.overrides(remedy)))}")
    print()
