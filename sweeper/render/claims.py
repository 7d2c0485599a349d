"""Verdicts in, their text out: `render(verdicts) -> str` for a terminal, for markdown and as
JSON. Says, labels and expressions are free text and escaped as the format asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.cells import cell_len

from sweeper.claims import STATUSES, Comparison, Finding, Quantity, Verdict, Verdicts
from sweeper.render.layout import left, plain, title
from sweeper.render.markdown import escaped
from sweeper.tables.numerals import MINUS, numeral

LACKING_SHOWN = 3
WIDTH = max(map(len, STATUSES))
LEGEND = "[ ]: t interval at 1 − α, of one comparison by itself; p: after Holm's correction"


def terminal(verdicts: Verdicts) -> str:
    """A block a claim: its verdict, what it says, and a line for each place."""
    lines = [plain(title(verdicts.sweep, verdicts.profile, counted(verdicts)))]
    for verdict in verdicts.verdicts:
        lines += ["", f"{verdict.status.upper():<{WIDTH}}  {plain(said(verdict))}"]
        lines.append(f"{'':{WIDTH}}  {plain(how(verdict))}")
        widest = max((cell_len(plain(found.where)) for found in verdict.findings), default=0)
        for finding in verdict.findings:
            lines += [f"  {line}".rstrip() for line in block(finding, widest)]
    return "\n".join([*lines, "", LEGEND, *map(plain, verdicts.footer)]) + "\n"


def block(finding: Finding, widest: int) -> Iterator[str]:
    where = left(plain(finding.where), widest) + ("  " if widest else "")
    if not alone(finding):
        yield f"{finding.status:<{WIDTH}}  {where}"
    for comparison in finding.comparisons:
        if alone(finding):
            yield f"{finding.status:<{WIDTH}}  {where}{plain(numbers(comparison))}"
        else:
            yield f"{'':{WIDTH}}    {comparison.status:<{WIDTH}}  {plain(numbers(comparison))}"
        for line in remarks(comparison):
            yield f"{'':{WIDTH}}    {plain(line)}"


def markdown(verdicts: Verdicts) -> str:
    """One table, a row for each comparison at each place, and notes below."""
    head = ["| claim | verdict | at | numbers |", "|---|---|---|---|"]
    rows, notes = [], []
    for verdict in verdicts.verdicts:
        claim, status = escaped(verdict.say), f"**{verdict.status}**"
        notes.append(f"{said(verdict)}: {how(verdict)}")
        for finding in verdict.findings:
            where = finding.where if alone(finding) else f"{finding.where}: {finding.status}"
            for comparison in finding.comparisons:
                text = "; ".join([numbers(comparison), *remarks(comparison)])
                cells = (claim, status, escaped(where.removeprefix(": ")), escaped(text))
                rows.append(
                    f"| {cells[0]} | {cells[1]} | {cells[2]} | {comparison.status}: {cells[3]} |"
                )
                claim = status = where = ""
    heading = escaped(title(verdicts.sweep, verdicts.profile, counted(verdicts)))
    below = "\n".join(f"- {escaped(note)}" for note in (*notes, LEGEND, *verdicts.footer))
    return "\n\n".join([f"**{heading}**", "\n".join([*head, *rows]), below]) + "\n"


def as_json(verdicts: Verdicts) -> str:
    value = {
        "sweep": verdicts.sweep,
        "profile": verdicts.profile,
        "counts": verdicts.counts,
        "claims": [in_json(verdict) for verdict in verdicts.verdicts],
        "footer": list(verdicts.footer),
    }
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def in_json(verdict: Verdict) -> dict[str, Any]:
    value = asdict(verdict)
    for finding in value["findings"]:
        for comparison in finding["comparisons"]:
            keys = comparison.pop("trials")
            comparison["trials"] = sorted({trial_id for trial_id, _ in keys})
    return value


CLAIM_RENDERERS = {"terminal": terminal, "md": markdown, "json": as_json}


# ---- words


def counted(verdicts: Verdicts) -> str:
    """ "3 supported, 1 refuted" """
    return ", ".join(f"{n} {status}" for status, n in verdicts.counts.items()) or "no claims"


def said(verdict: Verdict) -> str:
    return verdict.name if verdict.say == verdict.test else f"{verdict.name}: {verdict.say}"


def how(verdict: Verdict) -> str:
    return f"{verdict.test}; {verdict.method}"


def alone(finding: Finding) -> bool:
    """Whether its one comparison says all that the finding says."""
    return [c.status for c in finding.comparisons] == [finding.status]


def numbers(found: Comparison) -> str:
    """ "nll[MaxPool] 81.2 − nll[SeqVAE] 83.1 = −1.9 [−4.0, 0.2], p 0.06, n=3" """
    if not found.n:
        return ", ".join([found.text, found.why, count(found)])
    estimate, between = found.estimate, ""
    if found.interval is not None:
        low, high = (numeral(value, estimate.form) for value in found.interval)
        between = f" [{low}, {high}]"
    if found.bounds is not None:
        low, high = (numeral(bound, "g") for bound in found.bounds)
        text = f"{side(found.left)}{between} in {low}..{high}"
    else:
        difference = numeral(estimate.mean, estimate.form, unit=estimate.unit)
        text = f"{side(found.left)} {MINUS} {side(found.right)} = {difference}{between}"
    test = found.why if found.p_adjusted is None else f"p {numeral(found.p_adjusted, '.2g')}"
    return ", ".join([text, test, count(found)])


def side(quantity: Quantity) -> str:
    return f"{quantity.text} {numeral(quantity.mean, quantity.form, unit=quantity.unit)}".lstrip()


def count(found: Comparison) -> str:
    return f"n={found.n}" + (f" of {found.points}" if found.n < found.points else "")


def remarks(found: Comparison) -> Iterator[str]:
    if found.lacking:
        named = [
            f"{lack.what} {lack.state}" + (f" ({lack.trial})" if lack.trial else "")
            for lack in found.lacking[:LACKING_SHOWN]
        ]
        more = len(found.lacking) - LACKING_SHOWN
        yield "lacking: " + "; ".join([*named, *([f"and {more} more"] if more > 0 else [])])
    yield from found.notes
