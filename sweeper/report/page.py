"""Contents in; the page out. A section says one thing; a section with nothing to say says
that, and how it would come to say something."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from sweeper.claims import Verdict
from sweeper.figures import Figure
from sweeper.plan import STATES
from sweeper.record import COST, Record
from sweeper.render import claims as words
from sweeper.render import html
from sweeper.render.markup import LINE, Child, Html, block, document, joined, tag
from sweeper.render.style import STYLE
from sweeper.report import drawing
from sweeper.report.contents import MOST_SAMPLED, Contents, Spot, told_apart
from sweeper.report.look import SCRIPT, STYLE_OF_REPORT
from sweeper.report.runs import SHORT, Cards, clock, codes, commit, day, titled, updates
from sweeper.sizes import bytes_in_words
from sweeper.spec.sweep import Metric
from sweeper.tables.numerals import NONE, numeral
from sweeper.trial import Key, Trial

MOST_LISTED = 400  # runs in the list of all
FEW = 12  # trials that ended without a result: what is listed, and not folded
MOST_LACKING = 40  # trials named under what is missing
MOST_OPEN = 6  # metrics whose curves, and plots against updates, that are not folded
MOST_PLOTS = 48  # of a metric against updates
MOST_CHOICES = 24  # series that can be brought forward by a choice: as many as have curves

TEXTS = ("why", "numbers", "commit")  # headings of what is read, not compared
ENDED = ("failed", "diverged", "exceeded")
LOST = (*ENDED, "corrupt")
MEANT = {
    "done": "with a result",
    "stale": "with a result that other code made",
    "running": "running now",
    "unscored": "trained, not scored in this way",
    "missing": "not run yet",
    "failed": "ended with an error",
    "diverged": "stopped at a number that was not finite",
    "exceeded": "stopped at their own budget",
    "corrupt": "with a record that cannot be believed",
}
PROFILES = {
    "quick": (
        "A quick run, to see that everything works: small settings that finish in minutes. "
        "Its numbers reproduce nothing that was published."
    ),
    "small": ("A small run, at a laptop's size. Its numbers reproduce nothing that was published."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    name: str
    title: str
    body: Html


def page(contents: Contents) -> str:
    sections = [section for make in SECTIONS if (section := make(contents)) is not None]
    toc = tag(
        "nav",
        tag("ol", *(tag("li", tag("a", s.title, href=f"#{s.name}")) for s in sections)),
        aria_label="Contents",
    )
    body = [
        tag("section", tag("h2", s.title, id=f"{s.name}-title"), LINE, s.body, LINE, id=s.name)
        for s in sections
    ]
    return document(
        f"{contents.sweep.name} ({contents.sweep.profile})",
        tag("div", header(contents), toc, tag("main", *body), class_="sheet"),
        style=STYLE + STYLE_OF_REPORT,
        script=SCRIPT,
    )


# ---- what it is, and how far it is


def header(contents: Contents) -> Html:
    sweep, records = contents.sweep, contents.plan.records.values()
    newest = max((r.finished_at for r in records), default=0.0)
    facts = [
        f"profile {sweep.profile}",
        sweep.source.name,
        f"newest result {day(newest)}" if newest else "no results yet",
    ]
    return tag(
        "header",
        tag("h1", sweep.name),
        tag("p", sweep.description, class_="lead") if sweep.description else None,
        tag("p", " · ".join(facts), class_="facts"),
        profile_in_words(contents),
    )


def profile_in_words(contents: Contents) -> Html:
    sweep = contents.sweep
    said = PROFILES.get(sweep.profile)
    changed = [f"{key}={setting.value}" for key, setting in sweep.overrides.items()]
    parts: list[Child] = [
        tag("b", f"Profile {sweep.profile}. "),
        said or "What is below was made under this profile of the file and holds for it alone.",
    ]
    if changed:
        parts.append(f" Changed on the command line: {', '.join(changed)}.")
    return tag("p", *parts, class_="profile warns" if said or changed else "profile")


def state(contents: Contents) -> Section:
    counts = contents.plan.counts
    whole = counts["total"]
    present = [(name, counts[name]) for name in STATES if counts[name]]
    points = counts["points"]
    same = f"; {points} points of the design, some of which share one" if points > whole else ""
    lines = [
        tag("li", tag("b", f"{n:,} {name}", class_=f"of {name}"), f": {MEANT[name]}")
        for name, n in present
    ]
    return Section(
        name="state",
        title="State",
        body=joined(
            [
                tag("p", f"{counts['done'] + counts['stale']:,} of {whole:,} trials done{same}."),
                drawing.shares(present),
                tag("ul", *lines, class_="states"),
                missing(contents) if whole > counts["done"] else None,
            ]
        ),
    )


def missing(contents: Contents) -> Html:
    """What lacks, why, and what to type for it."""
    plan = contents.plan
    counts = plan.counts
    parts: list[Child] = []
    if sum(counts[name] for name in ("missing", "unscored", "running")):
        parts.append(tag("p", "What has not run is filled by ", tag("code", contents.again), "."))
    for name in (*ENDED, "stale"):
        if counts[name]:
            retry = tag("code", contents.retry(name))
            said = tag("b", name, class_=f"of {name}")
            parts.append(tag("p", "What is ", said, " is run again by ", retry, "."))
    distinct = {trial.key: trial for trial in plan.trials}
    if counts["corrupt"]:
        said = tag("b", "corrupt", class_="of corrupt")
        parts.append(tag("p", "What is ", said, " goes by ", tag("code", contents.repair), "."))
    order = [*LOST, "stale", "running", "unscored", "missing"]
    lacking = [t for name in order for k, t in distinct.items() if plan.states[k] == name]
    rows = [
        tag(
            "tr",
            tag("th", titled(trial), scope="row"),
            tag("td", plan.states[trial.key], class_=plan.states[trial.key]),
            tag("td", why(plan.records.get(trial.key), plan.states[trial.key]), class_="text"),
            tag("td", tag("code", trial.id)),
        )
        for trial in lacking[:MOST_LACKING]
    ]
    more = len(lacking) - MOST_LACKING
    listed = simple(["trial", "state", "why", "id"], rows)
    few = 0 < sum(counts[name] for name in LOST) <= FEW
    summary = "Which and why"
    if more > 0:
        summary += f": the first {MOST_LACKING} of {len(lacking)}"
    return joined([*parts, tag("details", tag("summary", summary), listed, open=few)])


def why(record: Record | None, state: str) -> str:
    if state == "stale":
        return f"made by code {', '.join(codes(record))}" if record else ""
    if record is not None and record.error:
        return record.error
    return MEANT[state]


# ---- tables and claims


def tables(contents: Contents) -> Section | None:
    if not contents.tables:
        return None
    cards = Cards(contents.sweep, contents.plan)
    figures = [html.figure(table, cards.of(table)) for table in contents.tables]
    note = "Press a number to see the runs behind it; with a mouse, point at it."
    if cards.left_out:
        note += f" {cards.left_out:,} numbers more have none of that: the page would be too large."
    return Section(
        name="tables", title="Tables", body=joined([tag("p", note, class_="note"), *figures])
    )


def claims(contents: Contents) -> Section | None:
    verdicts = contents.claims
    if not verdicts.verdicts:
        return None
    legend = [tag("li", line) for line in (words.LEGEND, *verdicts.footer)]
    return Section(
        name="claims",
        title="Claims",
        body=joined(
            [
                tag("p", f"{words.counted(verdicts)}.", class_="note"),
                *map(claim, verdicts.verdicts),
                tag("ul", *legend, class_="notes"),
            ]
        ),
    )


def claim(verdict: Verdict) -> Html:
    rows = []
    for finding in verdict.findings:
        for n, comparison in enumerate(finding.comparisons):
            first = n == 0
            where = tag("th", finding.where or "everywhere", scope="row") if first else None
            remarks = [tag("div", line, class_="remark") for line in words.remarks(comparison)]
            rows.append(
                tag(
                    "tr",
                    where or tag("th", "", scope="row"),
                    tag("td", comparison.status, class_=comparison.status),
                    tag("td", words.numbers(comparison), *remarks, class_="text"),
                )
            )
    return tag(
        "article",
        tag("h3", tag("span", verdict.status, class_=f"verdict {verdict.status}"), verdict.say),
        tag("p", tag("code", verdict.test), "; ", verdict.method, class_="note"),
        simple(["at", "verdict", "numbers"], rows),
        class_="claim",
    )


# ---- curves, cost, a metric against cost


def curves(contents: Contents) -> Section:
    if not contents.courses:
        said = "No trial that is done recorded anything twice on its way: there is no curve yet."
        return Section(name="curves", title="Curves", body=tag("p", said, class_="note"))
    numbers = count(1)
    groups = []
    alone = all(len(course.panels) == 1 for course in contents.courses)
    for course in contents.courses:
        key = tag("code", course.key) if course.key != course.title else None
        title = joined([course.title, " ", key])
        panels = [
            panel(
                joined([tag("b", title), " ", heading]) if alone else heading,
                drawing.curves(it.lines, "updates", f"clip-{next(numbers)}"),
            )
            for heading, it in course.panels
            if it.lines
        ]
        if alone:
            groups += panels
        else:
            groups.append(tag("article", tag("h3", title), tag("div", *panels, class_="panels")))
    shown, more = groups[:MOST_OPEN], groups[MOST_OPEN:]
    if alone:
        shown, more = ([tag("div", *some, class_="panels alone")] for some in (shown, more))
    titles = [course.title for course in contents.courses[MOST_OPEN:]]
    folded = tag("details", tag("summary", f"Curves of {', '.join(titles)}"), *more)
    notes = [tag("li", note) for note in contents.course_notes]
    empty = dict.fromkeys(
        heading for c in contents.courses for heading, it in c.panels if not it.lines and heading
    )
    if empty:
        notes.append(tag("li", f"nothing is recorded yet at: {'; '.join(empty)}"))
    notes.append(tag("li", "frames hold the means; what of a band is outside is cut"))
    if contents.unshown_keys:
        keys = ", ".join(contents.unshown_keys)
        notes.append(tag("li", f"recorded, and not drawn here: {keys}"))
    places = sorted(
        {
            line.place: line.label
            for course in contents.courses
            for _, it in course.panels
            for line in it.lines
        }.items()
    )
    return Section(
        name="curves",
        title="Curves",
        body=tag(
            "div",
            legend("curves", places),
            *shown,
            folded if titles else None,
            tag("ul", *notes, class_="notes"),
            class_="plots",
        ),
    )


def legend(name: str, places: Sequence[tuple[int, str]]) -> Html:
    """What the colours are; a choice brings one of them forward, without any script."""

    def key(text: str, place: int | None, checked: bool = False) -> Html:
        which = "every" if place is None else f"p{place}"
        sample = tag("path", d="M0 5H22", class_=f"line {drawing.look(place or 0)}")
        picture = tag("svg", sample, viewBox="0 0 22 10", class_="key", aria_hidden="true")
        button = tag("input", type="radio", name=f"{name}-series", class_=which, checked=checked)
        return tag("label", button, picture if place is not None else None, tag("span", text))

    choices = [key("all", None, True)]
    choices += [key(text, place) for place, text in places if place < MOST_CHOICES]
    more = sum(place >= MOST_CHOICES for place, _ in places)
    rest = tag("span", f"and {more} more", class_="note") if more else None
    inside = [tag("legend", "series"), *choices, rest]
    return tag("fieldset", *inside, class_="legend")


def panel(heading: str, picture: Html) -> Html:
    return tag("figure", tag("figcaption", heading) if heading else None, picture, class_="panel")


def pareto(contents: Contents) -> Section | None:
    metric, places = contents.metric, contents.places
    if metric is None or places is None:
        return None
    name = metric.label or metric.name
    title = f"{name} against updates"
    if not contents.spots:
        said = f"No trial that is done has both {name} and a count of updates yet."
        return Section(name="pareto", title=title, body=tag("p", said, class_="note"))
    columns = list(dict.fromkeys(spot.column for spot in contents.spots))
    figures = []
    for column in columns[:MOST_PLOTS]:
        here = [spot for spot in contents.spots if spot.column == column]
        marks = [mark(spot, metric) for spot in here]
        front = sorted((m for m in marks if m.front), key=lambda m: m.x)
        listed = [tag("li", m.says) for m in front]
        said = "the front:" if front else "no front: no point has all its runs"
        figures.append(
            tag(
                "figure",
                tag("figcaption", column) if column else None,
                drawing.pareto(marks, "updates"),
                tag("p", said, class_="note"),
                tag("ol", *listed, class_="front") if front else None,
                class_="panel",
            )
        )
    summary = tag("summary", f"{len(figures[MOST_OPEN:])} plots more, of other levels")
    folded = tag("details", summary, tag("div", *figures[MOST_OPEN:], class_="panels"))
    shown = {spot.place: places.titled(spot.system) for spot in contents.spots}
    better = "lower" if metric.goal == "min" else "higher"
    over = ", ".join(places.over) or "nothing"
    notes = [
        f"a point: the mean over {over}, and the range of {name}; {better} is better",
        "the front: points that no other of their plot beats in one without losing in the other",
    ]
    if apart := told_apart(contents.sweep, places):
        each = apart[0] if len(apart) == 1 else f"combination of {', '.join(apart)}"
        notes.append(
            f"a plot, and a front, for each {each}: what columns of a table tell apart, or its "
            "where pins, is not compared"
        )
        lacking = {axis for trial in contents.plan.trials for axis in {*apart} - {*trial.labels}}
        notes += [f"what has no {axis} is in the plot of each" for axis in apart if axis in lacking]
    if len(columns) > MOST_PLOTS:
        notes.append(f"the first {MOST_PLOTS} of {len(columns)} such plots")
    if any(spot.short for spot in contents.spots):
        notes.append("n=k of more: short of runs, drawn and not compared for the front")
    return Section(
        name="pareto",
        title=title,
        body=tag(
            "div",
            legend("pareto", sorted(shown.items())),
            tag("div", *figures[:MOST_OPEN], class_="panels"),
            folded if figures[MOST_OPEN:] else None,
            tag("ul", *(tag("li", note) for note in notes), class_="notes"),
            class_="plots",
        ),
    )


def mark(spot: Spot, metric: Metric) -> drawing.Mark:
    value = numeral(spot.mean, metric.format, unit=metric.unit)
    n = f" (n={len(spot.values)} of {spot.points})"
    return drawing.Mark(
        label=spot.labels,
        place=spot.place,
        x=spot.cost,
        y=spot.mean,
        low=min(spot.values),
        high=max(spot.values),
        says=f"{spot.labels}: {value} at {spot.cost:,.0f} updates{n}",
        front=spot.front,
    )


def cost(contents: Contents) -> Section | None:
    *systems, everything = contents.outlays
    if not everything.seconds and not everything.counted:
        said = "Nothing was spent yet."
        return Section(name="cost", title="Cost", body=tag("p", said, class_="note"))
    kinds = [key for key in everything.counted if key != COST and everything.counted[key]]
    kinds = [COST, *kinds] if COST in everything.counted else kinds
    names = [key.removeprefix("cost/").replace("_", " ") for key in kinds]
    gpus = bool(everything.gpu_hours)
    head = ["", "trials", *names, "time", "", "GPU-hours", "most memory"]
    rows = []
    for outlay in (*systems, everything):
        numbers = [f"{outlay.counted.get(key, 0.0):,.0f}" for key in kinds]
        share = drawing.share(outlay.seconds, max((o.seconds for o in systems), default=0.0))
        peak = bytes_in_words(outlay.peak_bytes) if outlay.peak_bytes is not None else NONE
        cells = [
            f"{outlay.done} of {outlay.trials}",
            *numbers,
            clock(outlay.seconds),
            share if outlay is not everything else "",
            f"{outlay.gpu_hours:.2f}" if gpus else "0",
            peak,
        ]
        kind = "sum" if outlay is everything else None
        label = tag("th", outlay.title, scope="row")
        rows.append(tag("tr", label, *(tag("td", cell) for cell in cells), class_=kind))
    notes = [
        "counted in the results that there are, each kind as its trainer counts it",
        "time, GPU-hours and memory: all attempts of each trial, also those that came to nothing",
        "a trial that stands in several rows is counted in each of them, and once in the sum",
    ]
    # What was made twice, and by those that have no result.
    if everything.updates > everything.counted.get(COST, 0.0):
        notes.insert(1, f"all attempts together made {everything.updates:,.0f} updates")
    return Section(
        name="cost",
        title="Cost",
        body=joined([simple(head, rows), tag("ul", *map(item, notes), class_="notes")]),
    )


# ---- figures and samples


def figures(contents: Contents) -> Section | None:
    if not contents.figures:
        return None
    numbers = count(1)
    shown = [
        picture(figure, contents.pictures, lambda: next(numbers)) for figure in contents.figures
    ]
    return Section(name="figures", title="Figures", body=joined(shown))


def picture(figure: Figure, pictures: dict[str, bytes], number: Callable[[], int]) -> Html:
    notes = tag("ul", *map(item, figure.footer), class_="notes")
    caption = tag("figcaption", tag("b", figure.name), f": {figure.caption}" * bool(figure.caption))
    name = f"figure-{figure.name}"
    if figure.kind == "curves":
        panels = [
            panel(
                " · ".join(filter(None, [row, column])),
                drawing.curves(it.lines, figure.x_label, f"{name}-{number()}")
                if it.lines
                else tag("p", "nothing recorded", class_="note"),
            )
            for row, line in zip(figure.rows, figure.panels, strict=True)
            for column, it in zip(figure.columns, line, strict=True)
        ]
        places = sorted(
            {
                line.place: line.label for row in figure.panels for it in row for line in it.lines
            }.items()
        )
        inside = [legend(name, places) if places else None, tag("div", *panels, class_="panels")]
        plots = tag("div", *inside, class_="plots")
        return tag("figure", caption, plots, notes, id=name, class_="drawn")
    data = base64.b64encode(pictures[figure.name]).decode()
    alt = "; ".join(filter(None, [figure.caption, *figure.footer]))
    image = tag("img", src=f"data:image/png;base64,{data}", alt=alt)
    return tag("figure", caption, image, notes, id=name, class_="drawn")


def samples(contents: Contents) -> Section | None:
    if not contents.samples:
        return None
    folded = []
    for sample in contents.samples:
        about = tag("span", f"{titled(sample.trial)} · {sample.name}", class_="about")
        text = tag("pre", block(sample.text), tabindex=0)
        said = f"{sample.cut:,} characters more are in artifacts/{sample.name} of this trial."
        cut = tag("p", said, class_="note") if sample.cut else None
        summary = tag("summary", tag("b", sample.system), " ", about)
        folded.append(tag("details", summary, text, cut))
    note = "What one trial of each system left: the first of the design at the least seed."
    if contents.more_samples:
        note += f" The first {MOST_SAMPLED} systems; {contents.more_samples} more are not shown."
    return Section(
        name="samples", title="Samples", body=joined([tag("p", note, class_="note"), *folded])
    )


# ---- how it was made


def provenance(contents: Contents) -> Section:
    records = [r for r in contents.plan.records.values() if r.state == "done"]
    if not records:
        said = "There are no results to say it of."
        return Section(name="provenance", title="Provenance", body=tag("p", said, class_="note"))
    data = {}
    for trial in contents.plan.trials:
        record = contents.plan.records.get(trial.key)
        if record is not None and record.state == "done" and trial.data_digest:
            name = str(trial.config.get("data", "data"))
            data.setdefault(f"{name} {trial.data_digest[:SHORT]}", set()).add(trial.key)
    facts: list[tuple[str, dict[str, int]]] = [
        ("commit", counted(commit(r) or "outside a work tree" for r in records)),
        ("code", counted(code for r in records for code in codes(r))),
        ("data", {name: len(keys) for name, keys in data.items()}),
        ("Python", counted(str(r.provenance.get("python", "")) for r in records)),
        ("packages", counted(packages(r) for r in records)),
        ("device", counted(str(r.provenance.get("device", "")) for r in records)),
        ("processor", counted(str(r.provenance.get("cpu", "")) for r in records)),
        ("system", counted(str(r.provenance.get("platform", "")) for r in records)),
        ("host", counted(str(r.provenance.get("host", "")) for r in records)),
    ]
    rows = []
    for what, found in facts:
        some = {text: n for text, n in found.items() if text}
        for k, (text, n) in enumerate(some.items()):
            of = "" if len(some) == 1 and n == len(records) else f"{n} of {len(records)} results"
            label = tag("th", what if k == 0 else "", scope="row")
            rows.append(tag("tr", label, tag("td", text, class_="text"), tag("td", of)))
    notes = [
        *(f"could not be read: {note}" for note in contents.notes),
        *(
            ["with changes: the work tree held edits to Python sources that were not committed"]
            if any(r.provenance.get("dirty") for r in records)
            else []
        ),
    ]
    return Section(
        name="provenance",
        title="Provenance",
        body=joined(
            [
                simple([], rows, "facts"),
                tag("ul", *map(item, notes), class_="notes") if notes else None,
                every_run(contents),
            ]
        ),
    )


def every_run(contents: Contents) -> Html:
    plan = contents.plan
    distinct: dict[Key, Trial] = {}
    for trial in plan.trials:
        if trial.key in plan.records:
            distinct.setdefault(trial.key, trial)
    rows = []
    for key, trial in list(distinct.items())[:MOST_LISTED]:
        record = plan.records[key]
        rows.append(
            tag(
                "tr",
                tag("th", titled(trial), scope="row"),
                tag("td", plan.states[key], class_=plan.states[key]),
                tag("td", updates(record)),
                tag("td", clock(record.seconds)),
                tag("td", day(record.finished_at) if record.finished_at else NONE),
                tag("td", commit(record) or NONE),
                tag("td", tag("code", trial.id)),
            )
        )
    more = len(distinct) - MOST_LISTED
    said = f"All {len(distinct)} runs"
    if more > 0:
        said = f"The first {MOST_LISTED} of {len(distinct)} runs"
    head = ["run", "state", "updates", "time", "ended", "commit", "trial"]
    return tag("details", tag("summary", said), simple(head, rows))


def counted(texts: Iterator[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in texts:
        found[text] = found.get(text, 0) + 1
    return found


def packages(record: Record) -> str:
    found = record.provenance.get("packages") or {}
    return ", ".join(f"{name} {version}" for name, version in found.items())


# ---- parts


def simple(head: Sequence[str], rows: Sequence[Html], kind: str = "") -> Html:
    """A table of the page's own, in a box that it can be moved in."""
    cells = [
        tag("th", text, scope="col", class_="text" if text in TEXTS else None)
        if text
        else tag("td", "")
        for text in head
    ]
    top = tag("thead", tag("tr", *cells)) if head else None
    inside = tag("table", top, tag("tbody", *rows), class_=kind or "plain")
    return tag("div", inside, class_="scroll", tabindex=0)


def item(text: str) -> Html:
    return tag("li", text)


SECTIONS: tuple[Callable[[Contents], Section | None], ...] = (
    state,
    tables,
    claims,
    pareto,
    curves,
    figures,
    cost,
    samples,
    provenance,
)
