"""The JSON Schema of the sweep language: the keys that the parser has, and no others."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.errors import SpecError
from sweeper.spec import parse
from sweeper.spec.levels import FORMS
from sweeper.spec.loader import load, plain
from sweeper.spec.schema import closed, schema
from trainers.config import config_schema

SWEEPS = Path(__file__).parents[2] / "sweeps"
FILES = sorted(set(SWEEPS.glob("*.yaml")) - {SWEEPS / "paper.yaml"})
PLAIN, TYPED = schema(), schema(config_schema())

HEAD = """\
name: t
trainer: a.b:c
axes: {dataset: {A: {data: a}, B: {data: b}}, seed: [0, 1]}
metrics: {nll: {from: test/nll, goal: min}}
reported: {t: {rows: {}}}
profiles: {quick: {}}
"""
SEARCH = """\
for_each: [dataset, seed], trials: 1, objectives: [{metric: valid/x, goal: min}], \
space: {lr: {int: [1, 2]}}"""
TABLE = "rows: dataset, values: nll, over: seed"

# Where a key that nobody knows is written; and where the schema has the keys that are known
# there. The parser says of each which they are.
PLACES = {
    "XX: 1": "",
    "import: {XX: 1}": "properties/import",
    "trainer: {function: a.b:c, XX: 1}": "$defs/trainer/anyOf/1",
    "resources: {XX: 1}": "$defs/resources",
    "budget: {XX: 1}": "$defs/budget",
    "budget: {per_trial: {XX: 1}}": "$defs/budget/properties/per_trial",
    "profiles: {quick: {XX: 1}}": "$defs/profile",
    "axes: {a: [1], seed: [0], dataset: {A: {set: {}, XX: 1}}}": "$defs/level/then",
    "axes: {a: {values: [1], XX: 1}, dataset: [1], seed: [0]}": "$defs/axis/else/else/then",
    "axes: {dataset: {only: [A], XX: 1}}": "$defs/axis/else/then",
    "metrics: {nll: {from: test/nll, XX: 1}}": "$defs/metric",
    f"tables: {{t: {{{TABLE}, XX: 1}}}}": "$defs/table",
    "tables: {t: {rows: {axis: dataset, XX: 1}, values: nll, over: seed}}": (
        "$defs/table/properties/rows/anyOf/1"
    ),
    "tables: {t: {rows: {from: search, XX: 1}, values: nll, over: seed}}": (
        "$defs/table/properties/rows/anyOf/2"
    ),
    f"tables: {{t: {{{TABLE}, best: {{XX: 1}}}}}}": "$defs/table/properties/best",
    f"tables: {{t: {{{TABLE}, delta: {{XX: 1}}}}}}": "$defs/table/properties/delta",
    "tables: {t: {rows: seed, columns: dataset, values: nll, delta: {axis: dataset, from: A, "
    "to: B, significance: {XX: 1}}}}": ("$defs/table/properties/delta/properties/significance"),
    f"tables: {{t: {{{TABLE}, relative_to: {{XX: 1}}}}}}": "$defs/table/properties/relative_to",
    f"tables: {{t: {{{TABLE}, significance: {{XX: 1}}}}}}": "$defs/table/properties/significance",
    f"tables: {{t: {{{TABLE}, checkpoints: {{XX: 1}}}}}}": "$defs/table/properties/checkpoints",
    f"tables: {{t: {{{TABLE}, at: {{XX: 1}}}}}}": "$defs/table/properties/at",
    "figures: {f: {kind: curves, XX: 1}}": "$defs/figure/then",
    "figures: {f: {kind: scatter, XX: 1}}": "$defs/figure/else/then",
    "figures: {f: {kind: pareto, XX: 1}}": "$defs/figure/else/else/then",
    "figures: {f: {kind: importance, XX: 1}}": "$defs/figure/else/else/else/then",
    "figures: {f: {kind: history, XX: 1}}": "$defs/figure/else/else/else/else/then",
    "figures: {f: {kind: slices, XX: 1}}": "$defs/figure/else/else/else/else/else/then",
    "figures: {f: {kind: parallel, XX: 1}}": "$defs/figure/else/else/else/else/else/else/then",
    "figures: {f: {XX: 1}}": "$defs/figure/else/else/else/else/else/else/else",
    "figures: {f: {kind: curves, series: {axis: seed, XX: 1}}}": (
        "$defs/figure/then/properties/series/anyOf/1"
    ),
    "claims: {c: {test: a, XX: 1}}": "$defs/claim",
    f"search: {{{SEARCH}, XX: 1}}": "$defs/search",
    f"search: {{{SEARCH.replace('goal: min', 'goal: min, XX: 1')}}}": (
        "$defs/search/properties/objectives/items"
    ),
    f"search: {{{SEARCH.replace('int: [1, 2]', 'int: [1, 2], XX: 1')}}}": "$defs/parameter",
    f"search: {{{SEARCH}, prune: {{XX: 1}}}}": "$defs/search/properties/prune",
    f"search: {{{SEARCH}, promote: {{XX: 1}}}}": "$defs/search/properties/promote",
}


def at(pointer):
    node = PLAIN
    for part in filter(None, pointer.split("/")):
        node = node[int(part)] if isinstance(node, list) else node[part]
    return node


def with_entry(text):
    """The head of a file with an entry in it, in the place of its own one."""
    key = text.partition(":")[0]
    lines = [line for line in HEAD.splitlines() if not line.startswith(f"{key}:")]
    return "\n".join([*lines, text, ""])


@pytest.mark.parametrize(("text", "pointer"), PLACES.items())
def test_the_keys_are_those_of_the_parser(text, pointer):
    with pytest.raises(SpecError) as caught:
        parse(with_entry(text), "s.yaml")
    (message,) = [
        problem.message
        for problem in caught.value.problems
        if "unknown key 'XX'" in problem.message
    ]
    known = re.search(r"one of ([^;]*)", message)[1].split(", ")
    assert sorted(at(pointer)["properties"]) == known
    assert at(pointer)["additionalProperties"] is False


def test_no_closed_mapping_is_left_out():
    """Each mapping with a closed list of keys is one of PLACES (or an axis's rows again)."""

    def mappings(node):
        if isinstance(node, dict):
            if node.get("additionalProperties") is False:
                yield frozenset(node["properties"])
            for child in node.values():
                yield from mappings(child)
        elif isinstance(node, list):
            for child in node:
                yield from mappings(child)

    assert {*mappings(PLAIN)} == {frozenset(at(p)["properties"]) for p in PLACES.values()}


def test_a_key_without_a_description_is_a_mistake():
    with pytest.raises(AssertionError, match="log"):
        closed(("low", "log"), {"low": {}})


# ---- what is valid


@pytest.fixture(scope="module")
def validators():
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")
    for found in (PLAIN, TYPED):
        jsonschema.Draft202012Validator.check_schema(found)
    return [jsonschema.Draft202012Validator(found) for found in (PLAIN, TYPED)]


def faults(validator, text):
    return [
        "/".join(map(str, error.absolute_path))
        for error in validator.iter_errors(plain(load(text, "s.yaml")))
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_sweep_is_valid(path, validators):
    for validator in validators:
        assert faults(validator, path.read_bytes()) == []


AXES = {
    "values": "{values: [1, a, true], when: \"pooling == 'max'\"}",
    "range": "{range: [0, 4]}",
    "linspace": "{linspace: [0, 1, 5]}",
    "logspace": "{logspace: [1e-4, 1e-1, 4]}",
    "zip": "{zip: {lr: [1, 2], optim.decay: [0.5, 0.7]}}",
    "levels": "{levels: {A: {}, B: {lr: 1}, C: {set: {lr: 1}, trainer: a.b:c}}}",
}


def test_every_form_of_an_axis_is_tried():
    assert {*AXES} == {*FORMS}


@pytest.mark.parametrize(
    "text",
    [
        *(f"axes: {{lr: {axis}}}" for axis in AXES.values()),
        "axes: {lr: [1, 2]}",
        "axes: {m: {A: null, B: {}, C: {set: {lr: 1}, note: n, override: true}, 1: {kl: {a: 1}}}}",
        "axes: {m: {only: [1, A]}}",
        "axes: {m: {also: {A: {lr: 1}}, when: a == 1}}",
        "exclude: [\"a == 'b'\", {pooling: [avg, max], kl.start: 0}]\ninclude: [{a: [1, 2]}]",
        "budget: {updates: 1_000, wall: 12h, per_trial: {gpu_hours: 0.5}}",
        "trainer: {command: [python, x.py, 1]}",
        "import: {from: a.yaml, take: [axes.model, trainer, search]}",
        "base: bases/x.yaml\nset: {a: {b: [1, 2]}}",
        "search: {storage: 'env:X', space: {a: {choice: [1, null]}}, enqueue: [{a: 1}]}",
        "search: {storage: 'postgresql+psycopg2://a@b/c', sampler: {name: a.b:C, x: 1}}",
        "profiles: {quick: {search: {trials: 2}, exclude: [a == 1]}, paper: {}}",
    ],
)
def test_what_is_valid(text, validators):
    assert faults(validators[0], f"name: t\n{text}\n") == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("axis: {}", ""),
        ("axes: {m: {values: [1], whenn: a}}", "axes/m"),
        ("axes: {m: {range: [1, 2], linspace: [1, 2, 3]}}", "axes/m"),
        ("axes: {m: {A: {}, when: a == 1}}", "axes/m"),
        ("axes: {m: {A: {set: {}, nota: x}}}", "axes/m/A"),
        ("axes: {m: []}", "axes/m"),
        ("axes: {a/b: [1]}", "axes"),
        ("tables: {t: {row: model}}", "tables/t"),
        ("tables: {t: {write: pdf}}", "tables/t/write"),
        ("tables: {t: {significance: {alpha: 1}}}", "tables/t/significance/alpha"),
        ("figures: {f: {kind: scatter, y: [a]}}", "figures/f"),
        ("figures: {f: {kind: scater}}", "figures/f/kind"),
        ("metrics: {m: {format: .1x}}", "metrics/m/format"),
        ("import: {from: a.yaml, take: [trainer.x]}", "import/take/0"),
        ("budget: {wall: 12}", "budget/wall"),
        ("resources: {gpus: many}", "resources/gpus"),
        ("trainer: {config: a.b}", "trainer"),
        ("profiles: {quick: {tables: {}}}", "profiles/quick"),
        ("search: {trials: 0}", "search/trials"),
        ("search: {space: {a: {float: [1]}}}", "search/space/a/float"),
        ("search: {space: {a: {int: [1, 2], float: [1, 2]}}}", "search/space/a"),
        (
            "search: {objectives: [{metric: test/nll, goal: min}]}",
            "search/objectives/0/metric",
        ),
        ("search: {storage: 'mysql://a/b'}", "search/storage"),
        ("search: {sampler: {name: TPESamplr}}", "search/sampler/name"),
    ],
)
def test_what_is_not(text, place, validators):
    assert faults(validators[0], f"name: t\n{text}\n") == [place]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("base: {optim.lr: 0}", "base"),
        ("base: {optim: {lrr: 1}}", "base"),
        ("set: {optim.lrr: 1}", "set"),
        ("axes: {m: {A: {poolin: max}}}", "axes/m/A"),
        ("axes: {m: {A: {set: {kl: {start: 2}}}}}", "axes/m/A/set"),
        ("search: {space: {kl: {int: [1, 2]}}}", "search/space"),
    ],
)
def test_with_a_trainers_configuration_its_keys_are_known_too(text, place, validators):
    untyped, typed = validators
    assert faults(untyped, f"name: t\n{text}\n") == []
    assert faults(typed, f"name: t\n{text}\n") == [place]


def test_a_level_with_a_trainer_of_its_own_has_keys_of_its_own(validators):
    text = "name: t\naxes: {m: {A: {set: {x: 1}, trainer: a.b:c}}}\n"
    assert faults(validators[1], text) == []


def test_keys_of_a_configuration_are_nested_and_dotted():
    found = TYPED["$defs"]["configuration"]["properties"]
    assert found["kl.start"] == found["kl"]["properties"]["start"]
    assert found["kl.start"]["maximum"] == 1
    assert found["seed"] == {
        "description": "What random numbers are made from.", "type": "integer", "minimum": 0,
    }  # fmt: skip
    assert "required" not in TYPED["$defs"]["configuration"]  # though the trainer needs data


def test_any_module_may_have_a_schema():
    """Sections within sections, with references and without."""
    own = {
        "type": "object",
        "properties": {
            "title": {"title": "Title", "type": "string"},
            "a": {"$ref": "#/$defs/A", "default": {}},
        },
        "required": ["a"],
        "$defs": {
            "A": {"type": "object", "properties": {"b": {"type": "object", "properties": {
                "c": {"type": "integer", "title": "C"},
            }}}},
        },
    }  # fmt: skip
    found = schema(own)["$defs"]
    leaf = {"type": "integer"}
    assert found["configuration"]["properties"]["a.b.c"] == leaf
    assert found["configuration"]["properties"]["a"]["properties"]["b.c"] == leaf
    assert found["configuration"]["properties"]["title"] == {"type": "string"}
    assert found["search"]["properties"]["space"]["propertyNames"] == {"enum": ["title", "a.b.c"]}


# ---- the verb


def typed_in(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sweeper", "schema", *arguments],
        cwd=SWEEPS.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_verb_prints_it():
    assert json.loads(typed_in().stdout) == PLAIN
    assert json.loads(typed_in("--config", "trainers.config").stdout) == TYPED
    assert "yaml-language-server: $schema=" in typed_in("--help").stdout


def test_a_module_without_a_schema():
    done = typed_in("--config", "trainers.parts")
    assert done.returncode == 2
    assert done.stderr == "the config module 'trainers.parts' has no function 'config_schema'\n"
