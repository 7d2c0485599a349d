"""Text that would be code somewhere, put wherever text is read. Each would make a canary file;
none is made. What hostile text becomes in each format is in tests/sweeper/test_hostile.py."""

from __future__ import annotations

import ast
import contextlib
import json
import pickle
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeper import run, worker
from sweeper.errors import CorruptRecord, SweeperError
from sweeper.render import RENDERERS
from sweeper.run import Place
from sweeper.spec import parse, read
from sweeper.spec.sweep import Metric
from sweeper.tables import Cell, Column, Row, Table
from sweeper.track.folder import Folder
from sweeper.trial import TrainerRef, Trial

ROOT = Path(__file__).parents[2]
COUNTS: dict[str, int] = {}


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file that no payload may make; looked for at the end of each test, too."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()
    assert not list(tmp_path.rglob("canary*"))


@pytest.fixture(scope="module", autouse=True)
def _counted(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if COUNTS:
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            each = ", ".join(f"{count} {what}" for what, count in COUNTS.items())
            print(f"\n{sum(COUNTS.values())} payloads ({each}): 0 canaries made")


def count(what: str, number: int = 1) -> None:
    COUNTS[what] = COUNTS.get(what, 0) + number


# ---- YAML

TAGS = (
    "!!python/object/apply:os.system ['touch {}']",
    "!!python/object/apply:subprocess.check_output [[touch, {}]]",
    "!!python/object/new:os.system ['touch {}']",
    '!!python/object/apply:builtins.exec [\'open("{}", "w")\']',
    '!!python/object/apply:builtins.eval [\'open("{}", "w")\']',
    "!!python/object:pathlib.Path {{x: {}}}",
    "!!python/name:os.system {}",
    "!!python/module:os {}",
    "!!python/tuple ['touch {}']",
    "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch {}']",
    "!py!object/apply:os.system ['touch {}']",
    "!!map {{a: 'touch {}'}}",
    "&a !!python/object/apply:os.system ['touch {}']",
    "!!python/object/new:type {{args: [z, [], {{}}], state: 'touch {}'}}",
)
HEAD = 'name: s\ntrainer: {function: "toy_hostile:train"}\nprofiles: {quick: {}}\n'


@pytest.mark.parametrize(
    "place", ["base", "file of a base", "import", "reported", "--set", "level"]
)
@pytest.mark.parametrize("tag", TAGS, ids=[tag.split()[0] for tag in TAGS])
def test_a_tag_makes_nothing(tag: str, place: str, tmp_path: Path, canary: Path) -> None:
    value = tag.format(canary)
    text, overrides = f"{HEAD}base: {{x: 1}}", []
    (tmp_path / "other.yaml").write_text(f"{'base: ' if place == 'import' else ''}{{y: {value}}}")
    match place:
        case "base":
            text = f"{HEAD}base: {{y: {value}}}"
        case "file of a base":
            text = f"{HEAD}base: other.yaml"
        case "import":
            text = f"{HEAD}import: {{from: other.yaml, take: [base]}}"
        case "reported":
            text = f"{HEAD}reported: {{t: {{file: other.yaml, y: {value}}}}}"
        case "--set":
            overrides = [f"y={value}"]
        case "level":
            text = f"{HEAD}axes: {{a: {{l: {{y: {value}}}}}}}"
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(SweeperError) as caught:
        read(tmp_path / "s.yaml", overrides=overrides)
    assert caught.value.exit_code == 2
    assert re.search("are not read|tag handle", str(caught.value)), caught.value
    count("tags of YAML")


# ---- expressions

EXPRESSIONS = (
    "__import__('os').system('touch {}')",
    "open('{}', 'w')",
    'eval(\'open("{}", "w")\')',
    "x.__class__.__mro__[1].__subclasses__() == '{}'",
    "(lambda: open('{}', 'w'))()",
    "[open('{}', 'w') for x in [1]]",
    "f'{{open(\"{}\", \"w\")}}' == 'x'",
    'x == 1 or exec(\'open("{}", "w")\')',
    "(x := open('{}', 'w'))",
    "x.format.__globals__ == '{}'",
    "'%s' % open('{}', 'w')",
    "x if open('{}', 'w') else 1",
    "x == 1; open('{}', 'w')",
    "`touch {}` == x",
    "$(touch {})",
)
USES = {
    "exclude": "exclude: [{}]",
    "when": "axes: {{x: [1, 2], y: {{when: {}, levels: {{l: {{z: 1}}}}}}}}",
    "claim": "claims: {{c: {{test: {}}}}}",
    "constraint": "search: {{space: {{z: {{float: [0.0, 1.0]}}}}, for_each: [x], trials: 3, "
    "objectives: [{{metric: m, goal: min}}], "
    "constraints: [{}]}}",
    "fallback": "metrics: {{m: {{from: loss, or: {}}}}}",
    "format": "metrics: {{m: {{from: loss, format: {}}}}}",
    "cell": "metrics: {{m: {{from: loss}}}}\ntables: {{t: {{rows: x, values: [m], cell: {}}}}}",
}


@pytest.mark.parametrize("use", [*USES, "--where"])
def test_an_expression_is_no_program(use: str, canary: Path, tmp_path: Path) -> None:
    for expression in EXPRESSIONS:
        hostile = expression.format(canary)
        said = json.dumps(hostile)
        axes = "" if use == "when" else "axes: {x: [1, 2]}\n"
        line = USES[use].format(said) if use in USES else ""
        metrics = "" if "metrics" in line else "metrics: {m: {from: loss, goal: min}}\n"
        code = 0
        try:
            sweep = parse(f"{HEAD}{axes}{metrics}{line}", tmp_path / "s.yaml")
            if use == "--where":
                run.chosen(sweep, hostile)
        except SweeperError as error:
            code = error.exit_code
        # Free text: the key of a result, or what stands around the numbers of a cell.
        assert code == 2 or (code == 0 and use in ("fallback", "cell")), (use, hostile)
        assert not canary.exists(), hostile
        count("expressions")


BENIGN = {"claim": "m[1] < 3", "constraint": "m < 3", "fallback": "other", "format": ".1f"}
BENIGN |= {"cell": "{mean}", "when": "x == 1", "exclude": "x == 1"}


@pytest.mark.parametrize("use", USES)
def test_what_is_no_program_is_read_there(use: str, tmp_path: Path) -> None:
    text = USES[use].format(json.dumps(BENIGN[use]))
    axes = "" if use == "when" else "axes: {x: [1, 2]}\n"
    metrics = "" if "metrics" in text else "metrics: {m: {from: loss, goal: min}}\n"
    parse(f"{HEAD}{axes}{metrics}{text}", tmp_path / "s.yaml")


FORMATS = (
    "{mean.__class__}",
    "{mean.__class__.__mro__}",
    "{mean!r}",
    "{mean:{width}}",
    "{0}",
    "{mean[0]}",
    "{mean:>99999999}",
    "{self}",
)


@pytest.mark.parametrize("template", FORMATS)
def test_a_template_reaches_no_attribute(template: str, tmp_path: Path) -> None:
    text = (
        f"{HEAD}axes: {{x: [1, 2]}}\nmetrics: {{m: {{from: loss}}}}\n"
        f"tables: {{t: {{rows: x, values: [m], cell: {json.dumps(template)}}}}}"
    )
    with pytest.raises(SweeperError):
        parse(text, tmp_path / "s.yaml")
    count("templates")


# ---- trainers and commands

FUNCTIONS = (
    "os.system('touch {}')",
    'os:system("touch {}")',
    "os:system;touch {}",
    'builtins:exec(\'open("{}", "w")\')',
    "os:__class__.__init__({})",
    "../../{}:train",
    "lambda: open('{}', 'w')",
)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_a_name(function: str, canary: Path, tmp_path: Path) -> None:
    said = json.dumps(function.format(canary))
    for key in ("function", "config"):
        other = "" if key == "function" else 'function: "a.b:c", '
        text = f"name: s\nprofiles: {{quick: {{}}}}\ntrainer: {{{other}{key}: {said}}}"
        with pytest.raises(SweeperError) as caught:
            parse(text, tmp_path / "s.yaml")
        assert caught.value.exit_code == 2
        count("names of functions")


@pytest.mark.parametrize("function", ["os:system", "subprocess:call", "builtins:exec"])
def test_a_function_that_a_file_names_is_not_called_before_a_run(
    function: str, canary: Path, tmp_path: Path
) -> None:
    """A file says what is run, as a Makefile does; it is run by `run`, with (config, run), and
    by nothing that only reads."""
    base = f"base: {{x: 'touch {canary}'}}\n"
    text = f'name: s\nprofiles: {{quick: {{}}}}\ntrainer: {{function: "{function}"}}\n{base}'
    sweep = parse(text, tmp_path / "s.yaml")
    place = Place(store=tmp_path / "runs")
    try:
        plan = run.look(sweep, place)
    except SweeperError:  # Not found in the source of its module.
        count("functions of libraries")
        return
    assert not canary.exists()
    (trial,) = plan.trials
    record = worker.execute(trial, worker.Surroundings(store=place.store))
    assert record.state == "failed"  # They take no configuration.
    count("functions of libraries")


ARGUMENTS = (
    "; touch {}",
    "$(touch {})",
    "`touch {}`",
    "| touch {}",
    "&& touch {}",
    "x\ntouch {}",
    "> {}",
    "'; touch {}; '",
    '"; touch {}; "',
    "${{IFS}}touch {}",
    "--x=$(touch {})",
    "{{seed}}; touch {}",
    "%s; touch {}",
)


def test_a_placeholder_is_one_word_and_meets_no_shell(
    canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "tell.py"
    script.write_text(
        "import json, sys\nopen('said.json', 'w').write(json.dumps(sys.argv[1:]))\n"
        "print(json.dumps({'loss': 1}))\n"
    )
    monkeypatch.chdir(tmp_path)
    for number, argument in enumerate(ARGUMENTS):
        value = argument.format(canary)
        monkeypatch.setenv("HOSTILE", value)
        for given in (value, "env:HOSTILE"):
            trial = Trial(
                trainer=TrainerRef(command=("python", str(script), "--x={x}", "{x}")),
                config={"x": given},
                seed=number,
            )
            record = worker.execute(trial, worker.Surroundings(store=tmp_path / "runs"))
            assert record.state == "done", record.error
            assert json.loads((tmp_path / "said.json").read_text()) == [f"--x={value}", value]
            assert not canary.exists(), value
            count("arguments")


PRINTED = (
    '{{"__reduce__": ["os.system", ["touch {}"]]}}',
    '{{"py/object": "os.system", "args": ["touch {}"]}}',
    '{{"loss": {{"__class__": "os.system", "x": "touch {}"}}}}',
    "{{\"loss\": \"__import__('os').system('touch {}')\"}}",
    '{{"!!python/object/apply:os.system": ["touch {}"]}}',
    '{{"$(touch {})": 1}}',
    '{{"../../{}": 1}}',
    '{{"loss": 1, "loss; touch {}": 2}}',
)


@pytest.mark.parametrize("printed", PRINTED)
def test_what_a_command_prints_is_numbers_or_refused(
    printed: str, canary: Path, tmp_path: Path
) -> None:
    script = tmp_path / "tell.py"
    line = printed.format(canary)
    script.write_text(f"print({line!r})\n")
    trial = Trial(trainer=TrainerRef(command=("python", str(script))), config={}, seed=0)
    record = worker.execute(trial, worker.Surroundings(store=tmp_path / "runs"))
    numbers = all(isinstance(value, int) for value in json.loads(line).values())
    assert record.state == ("done" if numbers else "failed")
    count("results of commands")


# ---- paths

PATHS = ("../canary", "../../canary", "/{}", "a/../../canary", "~/canary", "..\\canary", "a\0b")


@pytest.mark.parametrize("path", PATHS, ids=ascii)
def test_no_path_leaves_its_place(path: str, canary: Path, tmp_path: Path) -> None:
    home = tmp_path / "project"
    home.mkdir()
    (tmp_path / "outside").mkdir()
    said = json.dumps(path.format(canary).replace("//", "/"))
    inside = json.dumps(path.format(canary))
    texts = {
        "name": HEAD.replace("name: s", f"name: {said}"),
        "import": f"{HEAD}import: [{said}]",
        "base": f"{HEAD}base: {said}",
        "table": f"{HEAD}axes: {{x: [1]}}\nmetrics: {{m: {{from: l}}}}\n"
        f"tables: {{{said}: {{rows: x, values: [m]}}}}",
        "figure": f"{HEAD}axes: {{x: [1]}}\n"
        f"figures: {{{said}: {{kind: curves, y: [l], series: x}}}}",
        "profile": f"name: s\ntrainer: a.b:c\nprofiles: {{quick: {{}}, {inside}: {{}}}}",
    }
    for what, text in texts.items():
        with pytest.raises(SweeperError):
            parse(text, home / "s.yaml")
        count(f"paths: {what}")
    from trainers.corpora import CorpusError, digest

    with pytest.raises(CorpusError):
        digest(path.format(canary), home)
    count("paths: corpus")
    for id in (path.format(canary), "0" * 4):
        with pytest.raises((AssertionError, ValueError, SweeperError)):
            Folder(home / "runs").path(id)
        count("paths: trial")
    assert Folder(home / "runs").artifact("0" * 16, path.format(canary)) is None
    count("paths: artifact")


# ---- files of the store that are something else


class Touch:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["trial.json", "journal.jsonl", "result", "artifacts.json"])
def test_a_file_of_the_store_that_is_a_pickle(
    name: str, protocol: int, canary: Path, tmp_path: Path
) -> None:
    script = tmp_path / "tell.py"
    script.write_text(
        "import pathlib, sys\nplace = pathlib.Path(sys.argv[1], 'artifacts')\n"
        "place.mkdir()\n(place / 'a.txt').write_text('a')\nprint('{\"loss\": 1}')\n"
    )
    command = ("python", str(script), "{folder}")
    trial = Trial(trainer=TrainerRef(command=command), config={}, seed=0)
    store = Folder(tmp_path / "runs")
    assert worker.execute(trial, worker.Surroundings(store=store.root)).state == "done"
    file = f"result-{trial.evaluation_id}.json" if name == "result" else name
    path = store.path(trial.id) / file
    assert path.exists()
    path.write_bytes(pickle.dumps(Touch(canary), protocol=protocol))
    for look in (
        lambda: store.find([trial]),
        lambda: store.entries(trial.id),
        lambda: store.artifacts(trial.id),
        lambda: store.artifact(trial.id, "a.txt"),
        lambda: list(store.damage(trial.id)),
    ):
        with contextlib.suppress(CorruptRecord):
            look()
    assert list(store.damage(trial.id))
    count("pickles in a store")


# ---- LaTeX, with all that it may do switched on

LATEX = (
    r"\immediate\write18{{touch {0}}}",
    r"\write18{{touch {0}}}",
    r"\input|\"touch {0}\"",
    r"\input{{|touch {0}}}",
    r"\newwrite\x\immediate\openout\x={0}\immediate\closeout\x",
    r"\directlua{{os.execute('touch {0}')}}",
    r"^^5cimmediate^^5cwrite18^^7btouch {0}^^7d",
    r"\catcode`\@=0 @immediate@write18{{touch {0}}}",
    r"$\immediate\write18{{touch {0}}}$",
    r"\csname write\endcsname18{{touch {0}}}",
    r"}}\end{{tabular}}\immediate\write18{{touch {0}}}",
    "a\n\\immediate\\write18{{touch {0}}}",
    "%\n\\immediate\\write18{{touch {0}}}",
    r"\\immediate\write18{{touch {0}}}",
    r"\begin{{filecontents*}}{{{0}}}x\end{{filecontents*}}",
)


def table_of(text: str) -> Table:
    """Every piece of free text in it is `text`."""
    metric = Metric(name="nll", source="nll", label=text, unit=text, note=text)
    return Table(
        name="t",
        profile="quick",
        caption=text,
        row_axis=text,
        columns=(Column(at={"data": text}, metric=metric, path=(text,), notes=(text,)),),
        rows=(Row(key=text, label=text, note=text, group=text),),
        cells=((Cell(state="failed", text=text),),),
        marks={text: "†"},
        footer=(text,),
    )


def test_latex_writes_and_runs_nothing(canary: Path, tmp_path: Path) -> None:
    if not shutil.which("pdflatex"):
        pytest.skip("needs pdflatex with booktabs")
    names = [tmp_path / f"canary{n}" for n, _ in enumerate(LATEX)]
    tables = [
        RENDERERS["tex"](table_of(text.format(name)))
        for text, name in zip(LATEX, names, strict=True)
    ]
    bodies = [t.replace("tab:t", f"tab:{n}") + "\\clearpage\n" for n, t in enumerate(tables)]
    head = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "t.tex").write_text(f"{head}{''.join(bodies)}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-shell-escape", "t.tex"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=240)
    assert ran.returncode == 0, (tmp_path / "t.log").read_text(errors="replace")[-2000:]
    # The same, as it is: what is tested here can happen.
    (tmp_path / "bare").mkdir()
    bare = tmp_path / "bare" / "sign"
    source = rf"\documentclass{{article}}\begin{{document}}\immediate\write18{{touch {bare}}}"
    (tmp_path / "bare" / "t.tex").write_text(f"{source}x\\end{{document}}\n")
    subprocess.run(command, cwd=tmp_path / "bare", capture_output=True, timeout=240)
    assert bare.exists(), "this LaTeX runs nothing anyway"
    count("LaTeX", len(LATEX))


# ---- the sources

CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load"}
CALLS |= {"yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "builtins.eval", "builtins.exec"}
MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "code", "codeop"}
# Between a process and one that it has started, through a pipe that nobody else has.
PIPES = {"sweeper/guard.py": {"pickle"}, "sweeper/hang.py": {"pickle"}}
NEEDED = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}


def faults(source: str, name: str = "") -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names}
            names = {node.module or ""} if isinstance(node, ast.ImportFrom) else names
            unwanted = {it.partition(".")[0] for it in names} & MODULES - PIPES.get(name, set())
            found += [f"{name}:{node.lineno}: imports {it}" for it in unwanted]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        values = {key: it.value for key, it in given.items() if isinstance(it, ast.Constant)}
        if called in CALLS or ("shell" in given and values.get("shell") is not False):
            found.append(f"{name}:{node.lineno}: {called}")
        keyword, wanted = NEEDED.get(called.replace("numpy.", "np."), (None, None))
        if keyword and values.get(keyword) is not wanted:
            found.append(f"{name}:{node.lineno}: {called} without {keyword}={wanted}")
    return found


def test_no_source_runs_text_or_reads_pickles() -> None:
    found = [
        fault
        for package in ("sweeper", "trainers")
        for path in sorted((ROOT / package).rglob("*.py"))
        for fault in faults(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "exec(text)",
        "import pickle",
        "from marshal import loads",
        "yaml.load(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=maybe)",
        "np.load(path)",
        "subprocess.run(line, shell=True)",
        "subprocess.run(line, shell=maybe)",
        "os.system(line)",
    ],
)
def test_the_look_at_sources_sees(source: str) -> None:
    assert faults(source)
