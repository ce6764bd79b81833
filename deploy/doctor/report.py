"""The findings in print: a table for a terminal, a line each for a log or a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploy.doctor.finding import Finding

STYLES: Mapping[str, str] = {"ok": "green", "note": "yellow", "wrong": "bold red"}
MARKS: Mapping[str, str] = {"ok": "✓", "note": "!", "wrong": "✗"}


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Write one line per finding, for a log or a pipe."""
    for finding in findings:
        remedy = f" -> {finding.remedy}" if finding.remedy else ""
        yield f"{finding.level:<5}  {finding.area}: {finding.name}: {finding.found}{remedy}"
    yield _verdict(findings)


def drawn(findings: Sequence[Finding]) -> RenderableType:
    """Draw a table by area, then what to do."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False, padding=(0, 1), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    area = ""
    for finding in findings:
        if finding.area != area:
            if area:
                table.add_section()
            area = finding.area
            table.add_row("", Text(area, "bold cyan"), "")
        style = STYLES[finding.level]
        found = Text(finding.found, "" if finding.level == "ok" else style)
        table.add_row(Text(MARKS[finding.level], style), finding.name, found)
    to_do = [finding for finding in findings if finding.remedy]
    parts: list[RenderableType] = [table]
    if to_do:
        remedies = Table.grid(padding=(0, 1))
        for finding in to_do:
            mark = Text(MARKS[finding.level], STYLES[finding.level])
            remedies.add_row(mark, Text(finding.name, "dim"), Text(finding.remedy))
        parts += [Text("what to do", "bold cyan"), remedies, Text()]
    is_wrong = any(finding.level == "wrong" for finding in findings)
    parts.append(Text(_verdict(findings), "bold red" if is_wrong else "bold green"))
    return Group(*parts)


def _verdict(findings: Sequence[Finding]) -> str:
    levels = [finding.level for finding in findings]
    wrong, notes = levels.count("wrong"), levels.count("note")
    noted = f", {notes} to note" if notes else ""
    if wrong:
        return f"a run could not start: {wrong} wrong{noted}"
    return f"a run can start{noted}"
