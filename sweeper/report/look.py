"""The style sheet of a report, on top of that of a table, and its one script: cards open by
pointing and by focus, too. Without the script they open by a press."""

CHOICES = "\n".join(
    f".plots:has(.p{n}:checked) .plot .s:not(.s{n}) {{ opacity: .1; }}\n"
    f".plots:has(.p{n}:checked) .plot .band.s{n} {{ opacity: .3; }}"
    for n in range(24)
)
LIGHT = (
    "#0072b2",
    "#c4500a",
    "#00805a",
    "#a8457f",
    "#8a6a00",
    "#3d97c9",
    "#1b1d21",
    "#7a4ab8",
    "#9c1f3c",
    "#5b7f1d",
)
DARK = (
    "#4ba6e0",
    "#f08648",
    "#35bd92",
    "#df8cbb",
    "#dcb548",
    "#9ad0ee",
    "#dfe2e6",
    "#b79af0",
    "#f07f98",
    "#a9cf63",
)


def _colours(values: tuple[str, ...]) -> str:
    return " ".join(f"--c{n}: {value};" for n, value in enumerate(values))


SERIES = "\n".join(f".c{n} {{ --series: var(--c{n}); }}" for n in range(len(LIGHT)))

STYLE_OF_REPORT = (
    f"""
:root {{ {_colours(LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_colours(DARK)} }} }}
{SERIES}
{CHOICES}
"""
    + """
.sheet { max-width: 76rem; margin: 0 auto; padding: 2.25rem 1.5rem 5rem; }
table.plain th[scope=row] { white-space: normal; min-width: min(9rem, 20vw); }
.sheet main { max-width: none; margin: 0; padding: 0; min-width: 0; }
body { overflow-wrap: anywhere; }
nav li, .legend span, article, section { min-width: 0; }
header { margin: 0 0 1.5rem; }
h1 { font-size: 1.7rem; line-height: 1.2; font-weight: 600; margin: 0 0 .35rem;
  letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.12rem; font-weight: 600; margin: 0 0 .75rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--hair); }
h3 { font-size: .95rem; font-weight: 600; margin: 1.4rem 0 .3rem; overflow-wrap: anywhere; }
h3 code { font-weight: 400; color: var(--soft); }
section { margin: 0 0 3rem; scroll-margin-top: 1rem; }
p { margin: 0 0 .6rem; max-width: 46rem; overflow-wrap: anywhere; }
code { font: .92em ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono",
  monospace; overflow-wrap: anywhere; }
p > code { background: var(--wash); padding: .1em .35em; border-radius: 3px; }
.lead { font-size: 1.05rem; color: var(--soft); }
.facts, .note { color: var(--soft); font-size: 13px; }
.profile { border-left: 3px solid var(--rule); padding: .15rem 0 .15rem .8rem; margin: .9rem 0 0; }
.profile.warns { border-color: var(--doubt); }
.profile.warns b { color: var(--doubt); }
nav { font-size: 13px; margin: 0 0 2rem; }
nav ol { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1rem; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
@media (min-width: 62rem) {
  .sheet { display: grid; grid-template-columns: 9.5rem minmax(0, 1fr); column-gap: 2.5rem; }
  header { grid-column: 2; }
  nav { grid-column: 1; grid-row: 2; }
  nav ol { position: sticky; top: 2rem; display: block; }
  nav li { margin: 0 0 .35rem; overflow-wrap: anywhere; }
  main { grid-column: 2; }
}
svg.shares { display: block; width: 100%; max-width: 46rem; height: 6px; border-radius: 3px;
  margin: .2rem 0 .7rem; background: var(--hair); }
td svg.shares { width: 5.5rem; height: 5px; margin: 0; background: none; }
.shares .done, .shares .part { fill: var(--accent); }
.shares .stale { fill: var(--doubt); }
.shares .running { fill: var(--accent); opacity: .5; }
.shares .unscored, .shares .missing { fill: var(--rule); }
.shares .failed, .shares .diverged, .shares .exceeded, .shares .corrupt { fill: var(--bad); }
.shares .rest { fill: none; }
ul.states { list-style: none; margin: 0 0 .8rem; padding: 0; font-size: 13px; color: var(--soft);
  display: flex; flex-wrap: wrap; gap: .1rem 1.6rem; }
.of { color: var(--ink); font-variant-numeric: tabular-nums; }
.of.failed, .of.diverged, .of.exceeded, .of.corrupt { color: var(--bad); }
.of.stale { color: var(--doubt); }
details { margin: .5rem 0; }
summary { cursor: pointer; color: var(--accent); font-size: 13px; padding: .1rem 0;
  overflow-wrap: anywhere; }
summary b { font-weight: 600; }
.about { color: var(--soft); }
pre { margin: .4rem 0 .8rem; padding: .8rem 1rem; max-height: 26rem; overflow: auto;
  background: var(--raised); border: 1px solid var(--hair); border-radius: 4px;
  font: 12px/1.5 ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono",
    monospace; tab-size: 4; }
table.plain, table.facts { margin: .4rem 0; font-size: 12.5px; }
table.facts { border-color: var(--rule); border-width: 1px; }
table.facts tbody th { color: var(--soft); }
table.plain thead td { border: 0; }
tr.sum > * { border-top: 1px solid var(--rule); font-weight: 600; }
table.plain thead th:first-child { text-align: left; padding-left: .15em; }
thead th.text { text-align: left; }
td.text { text-align: left; white-space: normal; min-width: 14rem; max-width: 44rem;
  overflow-wrap: anywhere; }
.claim td:not(.text), .claim th { text-align: left; }
.remark { color: var(--soft); font-size: 12px; }
td.supported, .verdict.supported { color: var(--good); }
td.refuted, .verdict.refuted { color: var(--bad); }
td.undecided, .verdict.undecided { color: var(--doubt); }
.verdict { display: inline-block; font-size: 11px; font-weight: 600; letter-spacing: .04em;
  text-transform: uppercase; border: 1px solid; border-radius: 3px; padding: 0 .4em;
  margin-right: .6em; vertical-align: .12em; }
.verdict.missing { color: var(--wait); }
article.claim { margin: 0 0 1.5rem; }
.panels { display: grid; gap: 1rem 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
.panels.alone { grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
figure.panel { margin: 0; min-width: 0; max-width: 27rem; }
.panel figcaption, .drawn figcaption { font-size: 13px; margin: 0 0 .3rem;
  overflow-wrap: anywhere; }
.panel figcaption { color: var(--soft); }
figure.drawn { margin: 0 0 2.25rem; }
.drawn img { display: block; max-width: 100%; width: 46rem; height: auto; background: #fff;
  border-radius: 4px; }
svg.plot { display: block; width: 100%; height: auto; }
.plot text { fill: var(--soft); font-size: 10.5px; font-variant-numeric: tabular-nums; }
.plot text.name { fill: var(--ink); }
.plot text.axis { fill: var(--faint); }
.plot text.none { fill: var(--faint); }
.grid { stroke: var(--hair); fill: none; }
.base { stroke: var(--rule); fill: none; }
.line { stroke: var(--series); stroke-width: 1.5; fill: none; stroke-linejoin: round; }
.line.d1 { stroke-dasharray: 5 2; }
.line.d2 { stroke-dasharray: 1.5 2; }
.band { fill: var(--series); opacity: .075; }
circle.dot, .dot { fill: var(--series); }
.spread { stroke: var(--series); opacity: .5; fill: none; }
.front { stroke: var(--faint); stroke-dasharray: 3 3; fill: none; }
.first .dot { stroke: var(--ink); stroke-width: 1.2; }
ol.front { margin: 0; padding-left: 1.3rem; font-size: 12px; color: var(--soft); }
fieldset.legend { border: 0; margin: 0 0 .4rem; padding: .4rem 0; display: flex; flex-wrap: wrap;
  gap: .15rem .9rem; font-size: 12.5px; position: sticky; top: 0; z-index: 1;
  background: var(--paper); }
.legend legend { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); }
.legend label { display: inline-flex; min-width: 0; max-width: 100%; align-items: center;
  gap: .35em; cursor: pointer; border-bottom: 1.5px solid transparent; overflow-wrap: anywhere; }
.legend input { position: absolute; opacity: 0; pointer-events: none; }
.legend label:has(:checked) { border-color: currentColor; }
.legend label:has(:focus-visible) { outline: 2px solid var(--accent); outline-offset: 2px; }
.legend label:hover span { text-decoration: underline; }
svg.key { width: 22px; height: 10px; flex: none; }
button.behind { all: unset; cursor: pointer; border-radius: 2px; }
button.behind:hover { text-decoration: underline dotted var(--faint);
  text-underline-offset: .25em; }
button.behind:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.card { position: fixed; inset: auto; margin: .35rem; border: 1px solid var(--rule);
  border-radius: 6px; background: var(--raised); color: var(--ink); padding: .7rem .9rem;
  box-shadow: 0 4px 18px rgb(0 0 0 / .16); max-width: min(38rem, calc(100vw - 1rem));
  max-height: 70vh; overflow: auto; font-size: 12.5px; text-align: left; white-space: normal; }
.card:not(:popover-open) { display: none; }
.card table { border-color: var(--rule); border-width: 1px; margin: .3rem 0 .5rem;
  font-size: 12px; }
.card td { text-align: right; }
.card thead th { white-space: nowrap; min-width: 0; }
.card th, .card td { padding-left: .5em; padding-right: .5em; }
.card td:first-child, .card th:first-child { text-align: left; padding-left: 0; }
.card p { margin: 0 0 .2rem; }
.card .what span { color: var(--soft); padding-left: .4em; }
.card .made { color: var(--soft); font-size: 11.5px; }
@supports (position-area: bottom) {
  .card { position-area: bottom; position-try-fallbacks: flip-block, bottom span-left,
    top span-left, bottom span-right, top span-right; }
}
@supports not (position-area: bottom) {
  .card { left: 0; right: 0; bottom: .5rem; margin: 0 auto; width: fit-content; }
}
@media (max-width: 40rem) {
  .sheet { padding: 1.25rem .9rem 4rem; }
  .card { position-area: none; left: .5rem; right: .5rem; bottom: .5rem; top: auto; margin: 0;
    max-width: none; }
  td.text { min-width: 11rem; }
  fieldset.legend { position: static; }
}
@media print {
  nav, fieldset.legend input, .card { display: none; }
  .sheet { display: block; max-width: none; padding: 0; }
  section, article { break-inside: auto; }
  figure.panel, article.claim { break-inside: avoid; }
  fieldset.legend { position: static; }
}
"""
)

SCRIPT = """
(() => {
  if (!HTMLElement.prototype.showPopover) return;
  const wait = { open: 140, close: 220 };
  let timer = 0, current = null, pinned = false;
  const cardOf = (button) => document.getElementById(button.getAttribute("popovertarget"));
  const behind = (node) => (node instanceof Element ? node.closest("button.behind") : null);
  const shown = (card) => card && card.matches(":popover-open");
  const open = (button) => {
    const card = cardOf(button);
    if (card && !shown(card)) card.showPopover({ source: button });
    current = button;
  };
  const close = () => {
    const card = current && cardOf(current);
    if (shown(card) && !pinned) card.hidePopover();
  };
  const later = (what, after) => {
    clearTimeout(timer);
    timer = setTimeout(what, after);
  };
  document.addEventListener("pointerover", (event) => {
    if (event.pointerType !== "mouse") return;
    const button = behind(event.target);
    if (button && button !== current) pinned = false;
    if (button) later(() => open(button), wait.open);
    else if (event.target instanceof Element && event.target.closest(".card")) clearTimeout(timer);
    else later(close, wait.close);
  });
  document.addEventListener("focusin", (event) => {
    const button = behind(event.target);
    if (button && button.matches(":focus-visible")) open(button);
  });
  document.addEventListener("click", (event) => {
    const button = behind(event.target);
    if (button) { current = button; pinned = true; }
  });
  document.addEventListener("toggle", (event) => {
    if (event.newState === "closed") pinned = false;
  }, true);
})();
"""
