"""How a table looks on a page of its own, and in a report: a style sheet. No font and no
picture is loaded; light or dark is the reader's choice; lines are those of a printed table."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fdfdfb; --raised: #fff; --ink: #1b1d21; --soft: #5a606b; --faint: #8b919c;
  --rule: #c9ccd2; --hair: #e6e7ea; --wash: #f3f3ef; --accent: #24557f;
  --good: #23703f; --bad: #a4332b; --doubt: #8a5a00; --wait: #5a606b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171a; --raised: #1d2024; --ink: #dfe2e6; --soft: #a0a7b1; --faint: #757c87;
    --rule: #454a52; --hair: #2a2e34; --wash: #1c1f23; --accent: #8dbbe4;
    --good: #7cc494; --bad: #ea8f86; --doubt: #dcb063; --wait: #a0a7b1;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans",
    Arial, sans-serif;
  overflow-wrap: break-word;
}
main { max-width: 70rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
td, th, li, b, code, span { unicode-bidi: isolate; }
figure.sweeper { margin: 0 0 2.25rem; min-width: 0; }
figure.sweeper figcaption { margin: 0 0 .5rem; max-width: 46rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; max-width: 100%; position: relative; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
table {
  border-collapse: collapse; font-size: 13px; line-height: 1.35;
  font-variant-numeric: tabular-nums lining-nums;
  border-top: 1.5px solid var(--ink); border-bottom: 1.5px solid var(--ink);
}
thead { border-bottom: 1px solid var(--ink); }
tbody + tbody { border-top: 1px solid var(--rule); }
th, td { padding: .24em .65em; text-align: right; vertical-align: baseline; }
th { font-weight: 500; max-width: 18rem; overflow-wrap: anywhere; min-width: 3.2em; }
thead th { color: var(--soft); vertical-align: bottom; padding-top: .4em;
  overflow-wrap: break-word; }
thead th.over { text-align: center; border-bottom: 1px solid var(--rule); color: var(--ink); }
th[scope=row], th.stub { text-align: left; padding-left: .15em; }
th[scope=row] { width: max-content; max-width: none; }
th[scope=row]:not(.long) { white-space: nowrap; }
th.long { min-width: min(14rem, 40vw); }
.sweeper th[scope=row], .sweeper th.stub { position: sticky; left: 0; z-index: 1;
  background: var(--paper); }
th.reference { font-style: italic; }
tr.group th { text-align: left; font-style: italic; color: var(--soft); padding: .5em .15em .15em; }
tr.group ~ tr:not(.group) > th[scope=row] { padding-left: 1em; }
td { white-space: nowrap; }
td:last-child, thead tr:first-child th:last-child { padding-right: 1em; }
tbody tr:hover > * { background: var(--wash); }
.number { display: inline-block; white-space: nowrap; }
strong.number { font-weight: 650; }
[data-after]::after { content: attr(data-after); visibility: hidden; }
small { font-size: .82em; color: var(--soft); }
td.best small { font-weight: 400; }
sup { position: absolute; font-size: .72em; line-height: 1; font-weight: 400; padding-left: .1em; }
td.paper, td.quoted { color: var(--soft); font-style: italic; }
td.difference { color: var(--soft); }
td.missing, td.unscored, td.not-applicable { color: var(--faint); }
td.running { color: var(--accent); }
td.failed, td.diverged, td.exceeded, td.corrupt { color: var(--bad); }
td.stale { color: var(--doubt); }
ul.notes {
  margin: .5rem 0 0; padding: 0; list-style: none; max-width: 58rem;
  font-size: 12px; line-height: 1.45; color: var(--soft); overflow-wrap: anywhere;
}
ul.notes b { font-weight: 500; color: var(--ink); }
@media print {
  :root { color-scheme: light; --paper: #fff; --ink: #000; --soft: #333; --rule: #999; }
  .scroll { overflow: visible; }
  figure.sweeper, tr { break-inside: avoid; }
}
"""
