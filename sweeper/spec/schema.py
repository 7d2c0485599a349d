"""Nothing in, or the JSON Schema of a trainer's configuration; the JSON Schema (draft 2020-12) of
the sweep language out, for editors.

It is made of the closed lists of keys that the parser has. It is no second parser: what a file
takes from another is not seen, so that no key of a part that may be merged is required, and names
of axes, levels and metrics are any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sweeper.spec.axes import CHANGES
from sweeper.spec.claims import CLAIM
from sweeper.spec.expressions import MAX_LENGTH
from sweeper.spec.figures import ARRAY, ARTIFACT, BANDS, KINDS, SHOWN
from sweeper.spec.figures import FORMATS as PICTURES
from sweeper.spec.layers import IMPORT, TAKEN
from sweeper.spec.levels import FORMS, LONG, MAX_LABEL
from sweeper.spec.limits import BUDGET, DURATION, LIMITS, ON_EXCEED, RESOURCES
from sweeper.spec.numbers import FORMAT, MAX_TEMPLATE
from sweeper.spec.parse import KNOWN
from sweeper.spec.profiles import PROFILE
from sweeper.spec.search import (
    ENVIRONMENT,
    OBJECTIVE,
    PART,
    POSTGRESQL,
    PROMOTE,
    PRUNE,
    RULES,
    SAMPLERS,
    SEARCH,
    SHARE,
    SPLITS,
    SQLITE,
)
from sweeper.spec.section import GOALS, NAME, RESULT_KEY, Form
from sweeper.spec.space import KINDS as PARAMETERS
from sweeper.spec.space import PARAMETER
from sweeper.spec.tables import (
    AT,
    BESIDE,
    BEST,
    CHECKPOINTS,
    CORRECTIONS,
    DELTA,
    FILLED_ARTIFACT,
    FORMATS,
    LEAST_SAMPLES,
    MARKS,
    METRIC,
    RELATIVE_TO,
    ROWS,
    SEARCH_ROWS,
    SIGNIFICANCE,
    TABLE,
    TEST,
)
from sweeper.spec.trainers import FUNCTION, MODULE, TRAINER

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# A number with _ between its digits is text in an editor that reads YAML 1.2.
GROUPED = r"^[0-9]+(_[0-9]+)+$"


def schema(config: Mapping[str, Any] | None = None) -> Schema:
    """`config` is the JSON Schema of a whole configuration; here any part of one is right."""
    return {
        "$schema": DIALECT,
        "title": "A sweep file",
        "description": "Which trials exist, what they may cost, and which tables, figures and "
        "claims they are for.",
        **closed(KNOWN, top_level(), required=["name"]),
        "$defs": {
            "configuration": configuration(config),
            "axis": axis(),
            "level": level(),
            "metric": metric(),
            "table": table(),
            "figure": figure(),
            "claim": claim(),
            "search": search(config),
            "parameter": parameter(),
            "budget": budget(),
            "resources": resources(),
            "trainer": trainer(),
            "profile": profile(),
        },
    }


# ---- what schemas are made of


def closed(keys: Iterable[str], properties: Mapping[str, Schema], **more: Any) -> Schema:
    """A mapping with these keys and no others, which are those that are described."""
    keys = tuple(keys)
    assert {*keys} == {*properties}, {*keys} ^ {*properties}
    described = {key: properties[key] for key in keys}
    return {
        "type": "object",
        "properties": described,
        "additionalProperties": False,
        **more,
    }


def said(description: str, schema: Schema) -> Schema:
    return {"description": description, **schema}


def ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def form(form: Form) -> Schema:
    return {"type": "string", "pattern": f"^({form.pattern})$"}


def one_of(options: Iterable[str]) -> Schema:
    return {"enum": list(options)}


def some(item: Schema) -> Schema:
    """One, or a list of them."""
    return {"anyOf": [item, {"type": "array", "items": item, "uniqueItems": True}]}


def listed(item: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": item, **more}


def named(entry: Schema, names: Form = NAME) -> Schema:
    return {
        "type": "object",
        "propertyNames": {"pattern": f"^({names.pattern})$"},
        "additionalProperties": entry,
    }


def whole(least: int = 1) -> Schema:
    return {
        "anyOf": [{"type": "integer", "minimum": least}, {"type": "string", "pattern": GROUPED}]
    }


def having(keys: Iterable[str]) -> Schema:
    """A mapping in which one of `keys` is."""
    return {"type": "object", "anyOf": [{"required": [key]} for key in keys]}


def chain(*cases: tuple[Schema, Schema], last: Schema) -> Schema:
    """The first schema whose condition holds, else the last."""
    found = last
    for condition, then in reversed(cases):
        found = {"if": condition, "then": then, "else": found}
    return found


TEXT = {"type": "string", "minLength": 1}
NUMBER = {"type": "number"}
TRUTH = {"type": "boolean"}
SCALAR = {"type": ["string", "number", "boolean", "null"]}
LABEL = {"type": ["string", "number", "boolean"]}  # Labels are text, whatever they look like.
LABELS = {"type": "object", "additionalProperties": TEXT}
CONDITION = {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH}
TEMPLATE = {"type": "string", "minLength": 1, "maxLength": MAX_TEMPLATE}
CONFIGURATION = {"anyOf": [ref("configuration"), {"type": "null"}]}
PATH_OR_CONFIGURATION = {"anyOf": [ref("configuration"), TEXT, {"type": "null"}]}
WHERE = {"type": "object", "additionalProperties": LABEL}
SHARE_BELOW_1 = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
ABOVE_0 = {"type": "number", "exclusiveMinimum": 0}
TIME = form(Form(DURATION.pattern, ""))


# ---- the file


def top_level() -> dict[str, Schema]:
    of_a_profile = profile_entries()
    return {
        "name": said("What the sweep is called.", form(NAME)),
        "description": said("What it is for, in words.", TEXT),
        "import": said(
            "Parts of another file; this file's own keys merge over them.",
            closed(
                IMPORT,
                {
                    "from": said("Its path, relative to this file.", TEXT),
                    "take": said(
                        "Its entries (metrics), and single ones (axes.dataset).",
                        listed({"type": "string", "pattern": taken()}),
                    ),
                },
                required=list(IMPORT),
            ),
        ),
        "trainer": ref("trainer"),
        "base": said(
            "The configuration that every trial starts from, or the path of one.",
            PATH_OR_CONFIGURATION,
        ),
        **{key: of_a_profile[key] for key in PROFILE},
        "metrics": said("How results are shown, by name.", named(ref("metric"))),
        "reported": said(
            "Published values, or the path of them: table, row, column. Printed beside.",
            {"type": ["object", "string"]},
        ),
        "data_root": said("The folder of corpora, relative to this file.", TEXT),
        "profiles": said(
            "What goes over the file's own under --profile NAME; quick is the default.",
            named(ref("profile")),
        ),
        "tables": said("Queries over the records, by name.", named(ref("table"))),
        "figures": said("Figures of the records, by name.", named(ref("figure"))),
        "claims": said("What the records should show, by name.", named(ref("claim"))),
    }


def profile_entries() -> dict[str, Schema]:
    return {
        "set": said("Written over the base; or the path of such a file.", PATH_OR_CONFIGURATION),
        "axes": said("The design is their cross; the first varies slowest.", named(ref("axis"))),
        "exclude": said(
            "What of the cross is no trial: conditions, and partial matches.",
            listed({"anyOf": [CONDITION, match()]}),
        ),
        "include": said(
            "Points beside the cross: a level of some axes, further keys; a list crosses.",
            listed({"type": "object", "minProperties": 1}),
        ),
        "resources": ref("resources"),
        "budget": ref("budget"),
        "search": ref("search"),
    }


def profile() -> Schema:
    return closed(PROFILE, profile_entries())


def taken() -> str:
    whole = "|".join(entry for entry, single in TAKEN.items() if not single)
    parts = "|".join(entry for entry, single in TAKEN.items() if single)
    return rf"^({whole}|({parts})(\..+)?)$"


def match() -> Schema:
    return {"type": "object", "minProperties": 1}


def trainer() -> Schema:
    long = closed(
        TRAINER,
        {
            "function": said("package.module:function, or a registered name.", form(FUNCTION)),
            "command": said(
                "A program that prints measurements as JSON objects; {key} is a value.",
                listed(SCALAR, minItems=1),
            ),
            "config": said("The module that types configurations.", form(MODULE)),
        },
        oneOf=[{"required": ["function"]}, {"required": ["command"]}],
    )
    return said("What a trial is run by.", {"anyOf": [form(FUNCTION), long]})


def resources() -> Schema:
    gpus = {"anyOf": [{"type": "number", "minimum": 0}, {"const": "auto"}]}
    properties = {
        "cpus": said("Threads.", whole()),
        "gpus": said("A number, a share of one, or auto: one where there is any.", gpus),
        "stall": said("A trial that measures nothing for so long (30m) hangs, and is ended.", TIME),
    }
    return said("What one trial takes.", closed(RESOURCES, properties))


def budget() -> Schema:
    limits = {
        "updates": said("Parameter updates.", whole()),
        "wall": said("Time, such as 90s, 30m, 12h, 2d.", TIME),
        "gpu_hours": said("The hours of each GPU, or share of one.", ABOVE_0),
    }
    properties = {
        **limits,
        "per_trial": said("The most that each trial may cost.", closed(LIMITS, limits)),
        "on_exceed": said("What becomes of those that run.", one_of(ON_EXCEED)),
    }
    return said("The most that all trials may cost together.", closed(BUDGET, properties))


# ---- axes


def axis() -> Schema:
    """A list; a change of an axis that there was; a long form; or labels."""
    is_list = {"type": "array"}
    return said(
        "Levels: a list of values of the key that the axis is named by, or label: configuration.",
        chain(
            (is_list, listed(SCALAR, minItems=1)),
            (having(CHANGES), changed_axis()),
            (having(FORMS), formed_axis()),
            last={
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"maxLength": MAX_LABEL},
                "properties": {"when": False},
                "additionalProperties": ref("level"),
            },
        ),
    )


WHEN = said("Where this does not hold, the axis is absent.", CONDITION)


def changed_axis() -> Schema:
    properties = {
        "only": said("Some of the levels there were, in this order.", some(LABEL)),
        "also": said(
            "Further keys over levels there were.",
            {"type": "object", "additionalProperties": CONFIGURATION},
        ),
        "when": WHEN,
    }
    return closed((*CHANGES, "when"), properties)


def formed_axis() -> Schema:
    span = listed(NUMBER, minItems=3, maxItems=3)
    properties = {
        "values": said("Values of the key that the axis is named by.", listed(SCALAR, minItems=1)),
        "range": said(
            "[from, to, step]; both ends are in.", listed(NUMBER, minItems=2, maxItems=3)
        ),
        "linspace": said("[from, to, how many], evenly.", span),
        "logspace": said("[from, to, how many], evenly by logarithm.", span),
        "zip": said(
            "Keys that move together: lists of one length.",
            {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": listed(SCALAR, minItems=1),
            },
        ),
        "levels": said(
            "label: configuration.",
            {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"maxLength": MAX_LABEL},
                "additionalProperties": ref("level"),
            },
        ),
        "when": WHEN,
    }
    alone = [{"required": [form]} for form in FORMS]
    return closed((*FORMS, "when"), properties, oneOf=alone)


def level() -> Schema:
    long = {
        "set": said("The level's keys.", {}),
        "note": said("A footnote wherever the level is shown.", TEXT),
        "override": said("It may write what an earlier axis writes.", TRUTH),
        "trainer": said("What runs the trials of this level, for the file's.", ref("trainer")),
    }
    own = {
        "if": {"required": ["trainer"]},
        "then": {},
        "else": {"properties": {"set": CONFIGURATION}},
    }
    return said(
        "A partial configuration, or {set, note, override, trainer}.",
        chain((having(LONG), closed(LONG, long, **own)), last=CONFIGURATION),
    )


# ---- what is shown


def metric() -> Schema:
    properties = {
        "from": said("Its key in a result, such as test/nll_iw.", form(RESULT_KEY)),
        "or": said("Another key that may stand in, marked.", form(RESULT_KEY)),
        "goal": said("Which value is best.", one_of(GOALS)),
        "format": said("Such as .1f, ,.0f, .2e, g.", form(Form(FORMAT.pattern, ""))),
        "label": said("Its heading.", TEXT),
        "unit": said("Written after it.", TEXT),
        "scale": said("Multiplied before it is formatted.", ABOVE_0),
        "note": said("A footnote of its column.", TEXT),
    }
    return closed(METRIC, properties)


def table() -> Schema:
    rows = {
        "anyOf": [
            TEXT,
            closed(
                ROWS,
                {
                    "axis": said("Whose levels are the rows.", TEXT),
                    "only": said("Some of them, in this order.", some(LABEL)),
                },
            ),
            closed(
                SEARCH_ROWS,
                {
                    "from": said("What the search promoted.", one_of(["search"])),
                    "order_by": said("A metric or a result key.", TEXT),
                },
            ),
        ]
    }
    properties = {
        "rows": said("An axis, some of its levels, or what a search found.", rows),
        "columns": said("Axes, as nested groups.", some(TEXT)),
        "values": said("Metrics.", some(TEXT)),
        "over": said("Axes that a cell averages over.", some(TEXT)),
        "where": said("Axes at one level: axis: label.", WHERE),
        "cell": said("Over {mean} {sd} {ci95} {n} {min} {max}.", TEMPLATE),
        "labels": said("Other headings: label: text.", LABELS),
        "rules_after": said("Rows with a rule below.", some(LABEL)),
        "groups": said(
            "Headings over rows, in this order: heading: rows.",
            {"type": "object", "additionalProperties": some(LABEL)},
        ),
        "caption": said("In words.", TEXT),
        "references": said(
            "Rows of the corpus's own numbers: label: {value: result key}.",
            {"type": "object", "additionalProperties": {"type": "object"}},
        ),
        "best": said(
            "Whose best cell of a column is marked.",
            closed(
                BEST,
                {
                    "values": said("Metrics with a goal.", some(TEXT)),
                    "per": said("Among the columns that agree on these axes.", some(TEXT)),
                    "mark": one_of(MARKS),
                    "alpha": said("The level of the tests that tell a tie.", SHARE_BELOW_1),
                    "correct": said("For many tests.", one_of(CORRECTIONS)),
                },
            ),
        ),
        "delta": said(
            "Columns of differences: between two levels, or from a row.",
            closed(
                DELTA,
                {
                    "axis": said("One of the columns.", TEXT),
                    "from": LABEL,
                    "to": LABEL,
                    "row": said("Each row minus this one, beside each value.", LABEL),
                    "label": TEXT,
                    "significance": closed(TEST, tested()),
                },
            ),
        ),
        "relative_to": said(
            "Quotients by one row.",
            closed(RELATIVE_TO, {"row": LABEL, "as": said("Over {ratio:.1f}.", TEMPLATE)}),
        ),
        "significance": said(
            "Paired tests against one row.",
            closed(
                SIGNIFICANCE,
                {"value": said("A metric.", TEXT), "against": said("A row.", LABEL), **tested()},
            ),
        ),
        "checkpoints": said(
            "A paired bootstrap against one row, over what each trial left numbers of in a file: "
            "of these checkpoints, not of other seeds.",
            closed(
                CHECKPOINTS,
                {
                    "value": said("A metric: the mean of the numbers.", TEXT),
                    "against": said("A row.", LABEL),
                    "artifact": said("The file; {key} is configured.", form(FILLED_ARTIFACT)),
                    "or": said("Another that may stand in.", form(FILLED_ARTIFACT)),
                    "array": said("In it: [N].", form(ARRAY)),
                    "over": said("What the N are: sentences.", TEXT),
                    "samples": said("Resamples.", whole(LEAST_SAMPLES)),
                    **tested(),
                },
            ),
        ),
        "beside": said("Published values beside ours.", one_of(BESIDE)),
        "at": said(
            "Every trial at its last measurement at or before so many updates.",
            closed(
                AT,
                {
                    "updates": said(
                        "So many, or min: those of the cheapest.",
                        {"anyOf": [*whole()["anyOf"], {"const": "min"}]},
                    )
                },
            ),
        ),
        "write": said("Formats.", some(one_of(FORMATS))),
    }
    return closed(TABLE, properties)


def tested() -> dict[str, Schema]:
    return {
        "alpha": said("The level of the tests.", SHARE_BELOW_1),
        "correct": said("For many tests.", one_of(CORRECTIONS)),
        "mark": said("Put after what is significant.", TEXT),
    }


def figure() -> Schema:
    """By its kind; without one, of every key that a figure may have."""
    every = figure_entries()
    cases = []
    for kind, (keys, _) in KINDS.items():
        is_kind = {"properties": {"kind": {"const": kind}}, "required": ["kind"]}
        shown = {**every, "kind": one_of([kind])}
        cases.append((is_kind, closed(keys, {key: shown[key] for key in keys})))
    return chain(*cases, last=closed(every, every))


def figure_entries() -> dict[str, Schema]:
    axis_of = {
        "anyOf": [TEXT, closed(ROWS, {"axis": TEXT, "only": some(LABEL)}, required=["axis"])]
    }
    return {
        "kind": said("What is drawn.", one_of(KINDS)),
        "panels": said("An axis: a column of panels for each level.", axis_of),
        "where": said("Axes at one level: axis: label.", WHERE),
        "labels": said("Other names: label: text.", LABELS),
        "caption": said("In words.", TEXT),
        "write": said("Formats.", some(one_of(PICTURES))),
        "x": said("A metric or a result key; curves: cost/updates.", TEXT),
        "y": said("Metrics or result keys; curves: a row of panels each.", some(TEXT)),
        "series": said("An axis: a line for each level.", axis_of),
        "over": said("Axes that a line averages over.", some(TEXT)),
        "band": said("What is shaded around it.", one_of(BANDS)),
        "x_label": said("Under the axis.", TEXT),
        "y_labels": said("Beside the axis: name in y: text.", LABELS),
        "artifact": said("The file that a trial left.", form(ARTIFACT)),
        "array": said("In it: [N, H].", form(ARRAY)),
        "colour": said("In it: [N].", form(ARRAY)),
        "rows": said("An axis: a row of panels for each level.", axis_of),
        "by": said("Axes: a colour for each point.", some(TEXT)),
        "show": said("What stands out.", some(one_of(SHOWN))),
        "metric": said("Of the validation split.", TEXT),
        "keys": said("Of the space, in this order; else all.", some(TEXT)),
    }


def claim() -> Schema:
    properties = {
        "say": said("In words.", TEXT),
        "test": said("Such as nll[MaxPool] < nll[SeqVAE], or a / b in 2.5..3.5.", CONDITION),
        "each": said("Axes: a verdict for each level.", some(TEXT)),
        "pool": said("Axes whose levels are pairs of the test.", some(TEXT)),
        "over": said("Axes whose levels are pairs: seeds.", some(TEXT)),
        "alike": said("Different metrics that it takes for one kind.", some(TEXT)),
        "alpha": said("The level of the tests.", SHARE_BELOW_1),
    }
    return closed(CLAIM, properties)


# ---- the search


def search(config: Mapping[str, Any] | None) -> Schema:
    storage = {
        "anyOf": [
            form(SQLITE),
            form(ENVIRONMENT),
            {"type": "string", "pattern": rf"^{re.escape(POSTGRESQL)}://\S+$"},
        ]
    }
    sampler = {
        "type": "object",
        "properties": {"name": {"anyOf": [one_of(SAMPLERS), form(PART)]}},
        "additionalProperties": SCALAR,
    }
    space: Schema = {"type": "object", "additionalProperties": ref("parameter")}
    if config is not None:
        space["propertyNames"] = {"enum": leaves(config)}
    metric = {"type": "string", "minLength": 1, "not": {"pattern": "^test/"}}
    properties = {
        "for_each": said("A study for each point of these axes.", some(TEXT)),
        "storage": said("sqlite:///path, postgresql+psycopg2://..., or env:NAME.", storage),
        "sampler": said("One of Optuna's, or package.module:thing; its arguments.", sampler),
        "trials": said("In each study.", whole()),
        "parallel": said("At most so many at a time.", whole()),
        "objectives": said(
            "What is best.",
            listed(
                closed(
                    OBJECTIVE,
                    {"metric": said("Of the validation split.", metric), "goal": one_of(GOALS)},
                    required=list(OBJECTIVE),
                ),
                minItems=1,
            ),
        ),
        "constraints": said("Such as valid/kl >= 0.5.", listed(CONDITION)),
        "space": said("Configuration keys, and what each may be.", space),
        "enqueue": said(
            "Points that are tried first.",
            listed({"type": "object", "minProperties": 1, "additionalProperties": SCALAR}),
        ),
        "prune": said(
            "Trials that are behind end early.",
            closed(
                PRUNE,
                {
                    "rule": one_of(RULES),
                    "metric": said("Of the validation split.", metric),
                    "by": said("What rungs are counted in.", metric),
                    "settled": said(
                        "What has to have come to rest, such as the KL weight.", metric
                    ),
                    "goal": one_of(GOALS),
                    "grace": said("The first rung, such as 20% of a trial.", form(SHARE)),
                    "factor": said("From rung to rung; 1 of so many goes on.", whole(2)),
                },
            ),
        ),
        "promote": said(
            "What is trained again, and scored.",
            closed(
                PROMOTE,
                {
                    "front": said("What no other beats in every objective.", TRUTH),
                    "top": said("At most so many, by the first objective.", whole()),
                    "seeds": listed(
                        {"type": "integer", "minimum": 0}, minItems=1, uniqueItems=True
                    ),
                    "score_on": one_of(SPLITS),
                },
            ),
        ),
    }
    return said("Configurations that are found, not listed.", closed(SEARCH, properties))


def parameter() -> Schema:
    two = {"minItems": 2, "maxItems": 2}
    properties = {
        "choice": said("One of these.", listed(SCALAR, minItems=1)),
        "float": said("[low, high]", listed(NUMBER, **two)),
        "int": said("[low, high]", listed({"type": "integer"}, **two)),
        "log": said("Uniform in the logarithm.", TRUTH),
        "step": said("In steps of so much from low.", ABOVE_0),
        "when": said("Over other keys of the space.", CONDITION),
    }
    return closed(PARAMETER, properties, oneOf=[{"required": [kind]} for kind in PARAMETERS])


# ---- configurations


def configuration(config: Mapping[str, Any] | None) -> Schema:
    """Any keys; or those of a trainer, nested and dotted, and the seed."""
    if config is None:
        return said("Configuration keys, nested or dotted.", {"type": "object"})
    seed = said("What random numbers are made from.", {"type": "integer", "minimum": 0})
    found = partial(config, config)
    return {**found, "properties": {"seed": seed, **found["properties"]}}


def partial(node: Mapping[str, Any], root: Mapping[str, Any]) -> Schema:
    """A section of which any part is right: no key is required, and what is in a section
    within it may be named by dotted keys."""
    properties: dict[str, Schema] = {}
    for key, child in node.get("properties", {}).items():
        properties[key] = value = resolved(child, root)
        if "properties" in value:
            properties[key] = inner = partial(value, root)
            properties |= {f"{key}.{name}": it for name, it in inner["properties"].items()}
    kept = {key: it for key, it in node.items() if key in ("description", "additionalProperties")}
    return {"type": "object", **kept, "properties": properties}


def resolved(node: Mapping[str, Any], root: Mapping[str, Any]) -> Schema:
    """What a reference stands for, wherever it stands, without titles made from names."""
    if "$ref" in node:
        target: Any = root
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        beside = {key: it for key, it in node.items() if key not in ("$ref", "default")}
        return resolved({**target, **beside}, root)
    found = {key: inside(it, root) for key, it in node.items() if key != "title"}
    if "properties" in node:  # There `title` is the name of a key.
        found["properties"] = {key: inside(it, root) for key, it in node["properties"].items()}
    return found


def inside(value: Any, root: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return resolved(value, root)
    return [inside(item, root) for item in value] if isinstance(value, list) else value


def leaves(config: Mapping[str, Any]) -> list[str]:
    """The dotted keys of a configuration that are no sections."""
    entries = partial(config, config)["properties"].items()
    return [key for key, child in entries if "properties" not in child]
