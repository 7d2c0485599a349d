"""A configuration as a sweep file says it in; the effective one out. Imports no torch.

Effective means: every default filled in, every unknown key or impossible value refused,
every key that changes nothing dropped (pooling under a language model, warm-up under
a constant schedule). A sweep takes a trial's identity from it.

The defaults are the setting of He et al. (2019), which the paper follows: one LSTM layer
of 1024 units on each side, embeddings of 512, 32 latent dimensions, plain SGD at 1.0 with
joint clipping at 5, batches of 32 sentences of one length, KL weight from 0.1 to 1 in ten
epochs, the learning rate halved when validation worsens, 500 importance samples.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from trainers import corpora

# The names that each table of parts holds. The tables themselves are beside the parts
# (pooling.POOLINGS and so on) and need torch; a test holds the two equal.
NAMES = {
    "pooling": ("abs", "attention", "avg", "last", "max"),
    "decoder": ("initial", "lstm", "skip"),
    "posterior": ("gaussian", "implicit", "planar_flow"),
    "objective": ("dual", "elbo", "wasserstein"),
    "scheme": ("adversarial", "aggressive", "joint"),
    "schedule": ("constant", "cyclical", "linear"),
    "rule": ("milestones", "plateau"),
}

# What an update moves: everything, one half of the model, or a critic beside it.
UPDATES = ("joint", "encoder", "decoder", "critic")

# Settings that only evaluation reads: they have an identity of their own.
EVALUATION = ("evaluate",)

# Settings that say which data it is.
DATA = ("data", "limits")

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]


# A list is how YAML says a tuple. All else is strict: true is no number, "1" neither.
Shares = Annotated[
    tuple[Share, ...], BeforeValidator(lambda x: tuple(x) if isinstance(x, list) else x)
]


MODULE_AND_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def a_name_of(part: str, *spellings: str) -> AfterValidator:
    """One of the table's names or of other spellings, or "my_pkg.module:thing"."""
    known = (*NAMES[part], *spellings)

    def check(name: str) -> str:
        if name not in known and not MODULE_AND_NAME.fullmatch(name):
            raise ValueError(f"{unknown(part, name, known)}, or a module:name")
        return name

    return AfterValidator(check)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def any_mapping(cls, given: Any) -> Any:
        return dict(given) if isinstance(given, Mapping) else given


class Limits(Section):
    """How much of a corpus is used: first sentences of each split, and the most frequent
    words of the training split (the rest become `_UNK`). None is everything."""

    train: Positive | None = None
    valid: Positive | None = None
    test: Positive | None = None
    words: Positive | None = None


class Size(Section):
    embedding: Positive = 512
    encoder: Positive = 1024
    decoder: Positive = 1024
    latent: Positive = 32


class Init(Section):
    """uniform: every parameter U(-scale, scale), embeddings U(-embedding, embedding), as
    He et al. do. default: PyTorch's own."""

    scheme: Literal["uniform", "default"] = "uniform"
    scale: Annotated[float, Field(gt=0)] = 0.01
    embedding: Annotated[float, Field(gt=0)] = 0.1


class Kl(Section):
    """The KL weight over updates; see kl_schedules. `none` is a constant 1. linear: from
    `start` to `end` in `warmup_epochs`, after `delay_epochs` at `start`. cyclical: `cycles`
    times from 0 to 1 within `span_epochs`, in the share `ratio` of each cycle."""

    schedule: Annotated[str, a_name_of("schedule", "none")] = "linear"
    weight: Annotated[float, Field(ge=0)] = 1.0
    start: Share = 0.1
    end: Share = 1.0
    warmup_epochs: Annotated[float, Field(gt=0)] = 10
    delay_epochs: Annotated[float, Field(ge=0)] = 0
    cycles: Positive = 4
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    span_epochs: Annotated[float, Field(gt=0)] = 40


class Optim(Section):
    """Optimisation. rule plateau: He et al.'s (decay when validation has worsened
    `patience` times, not before epoch `first_decay_epoch`, stop at the `decays`-th decay).
    rule milestones: decay after these shares of the epochs."""

    algorithm: Literal["adam", "sgd"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 1.0
    clip: Annotated[float, Field(gt=0)] = 5.0
    batch: Positive = 32
    epochs: Positive = 100
    rule: Annotated[str, a_name_of("rule")] = "plateau"
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.5
    patience: Positive = 2
    first_decay_epoch: Annotated[int, Field(ge=0)] = 15
    decays: Positive = 5
    milestones: Shares = (0.6, 0.75, 0.9)


class Aggressive(Section):
    """He et al.'s inner loop: `inner` is one more than the most encoder updates, as in their
    code (100 allows 99), `window` the number of them between two looks at the loss,
    `checks_per_epoch` how often an epoch's mutual information decides whether to go on (at
    most once a batch), `max_epochs` a bound on the aggressive phase."""

    window: Positive = 15
    inner: Positive = 100
    checks_per_epoch: Positive = 1
    max_epochs: Positive | None = None


class Critic(Section):
    """The critics of the dual objective (Fang et al. 2019): networks of three hidden layers of
    `hidden` units, of a code and a feature and of a code alone, moved `steps` times a batch
    by Adam at `lr`. `of` says which of them stands for the KL: `pair` (iVAE) or `code`
    (iVAE_MI, the KL of the aggregate posterior)."""

    of: Literal["code", "pair"] = "pair"
    hidden: Positive = 512
    steps: Positive = 5
    lr: Annotated[float, Field(gt=0)] = 1e-5


class Flow(Section):
    """How many planar maps a flow is made of."""

    length: Positive = 1


class Wasserstein(Section):
    """The objective of Wang & Wang (2019): `mmd` is the weight that the KL and the MMD share,
    `band` that of the Riemannian penalty, whose `centres` are refitted every epoch."""

    mmd: Annotated[float, Field(ge=0)] = 10.0
    band: Annotated[float, Field(ge=0)] = 0.5
    centres: Positive = 20


class Evaluate(Section):
    """Evaluation only: no part of what training depends on. `active_threshold` is for the
    test split; on validation it is always 0.01. `own_codes` is how many codes a sentence has
    in the figure that only iVAE's paper reports."""

    samples: Positive = 500
    active_threshold: Annotated[float, Field(gt=0)] = 0.01
    own_codes: Positive = 128


class TextVaeConfig(Section):
    data: Annotated[str, Field(min_length=1)]
    limits: Limits = Limits()
    model: Literal["language_model", "seq_vae"] = "seq_vae"
    pooling: Annotated[str, a_name_of("pooling")] = "last"
    decoder: Annotated[str, a_name_of("decoder")] = "lstm"
    posterior: Annotated[str, a_name_of("posterior")] = "gaussian"
    objective: Annotated[str, a_name_of("objective")] = "elbo"
    scheme: Annotated[str, a_name_of("scheme")] = "joint"
    word_dropout: Rate = 0.0
    cosine: Annotated[float, Field(ge=0)] = 0.0  # weight of the cosine regulariser
    dropout: Rate = 0.5
    size: Size = Size()
    init: Init = Init()
    kl: Kl = Kl()
    optim: Optim = Optim()
    aggressive: Aggressive = Aggressive()
    critic: Critic = Critic()
    flow: Flow = Flow()
    wasserstein: Wasserstein = Wasserstein()
    precision: Literal["fp32"] = "fp32"
    evaluate: Evaluate = Evaluate()


class ConfigError(ValueError):
    """A configuration is wrong. `problems` holds (dotted key, message) pairs, all of them."""

    def __init__(self, problems: Sequence[tuple[str, str]]):
        self.problems = list(problems)
        super().__init__("\n".join(f"{key}: {message}" for key, message in self.problems))


def typed(config: Mapping[str, Any]) -> TextVaeConfig:
    """The typed configuration, defaults filled in. Raises ConfigError."""
    try:
        settings = TextVaeConfig.model_validate(config)
    except ValidationError as error:
        raise ConfigError([in_words(fault) for fault in error.errors(include_url=False)]) from None
    if wrong := list(at_odds(settings)):
        raise ConfigError(wrong)
    return settings


def at_odds(settings: TextVaeConfig) -> Iterator[tuple[str, str]]:
    """Settings that are right one by one and cannot be together: (dotted key, message)."""
    if not is_vae(settings):
        return
    if settings.objective == "dual" and settings.scheme in ("joint", "aggressive"):
        yield (
            "objective",
            "objective dual reads a critic, which scheme "
            f"{settings.scheme} does not train; say 'scheme: adversarial' too",
        )
    if settings.scheme == "adversarial" and settings.objective in ("elbo", "wasserstein"):
        yield (
            "scheme",
            "scheme adversarial trains a critic, which objective "
            f"{settings.objective} does not read; say 'objective: dual' too",
        )
    if settings.kl.schedule == "linear" and settings.kl.start > settings.kl.end:
        yield "kl.end", f"kl.end must be at least kl.start ({settings.kl.start:g})"


def effective(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the run depends on: defaults filled in, inert keys dropped, spellings made one.
    Effective again, it is itself. Raises ConfigError, which names every unknown key and
    impossible value."""
    settings = typed(config)
    if settings.kl.schedule == "none":  # Another way to say a constant weight of 1.
        settings = settings.model_copy(update={"kl": Kl(schedule="constant", weight=1.0)})
    kept = settings.model_dump(mode="json")
    kept["data"] = corpora.canonical(settings.data)
    for (section, leaf), matters in MATTERS.items():
        place = kept if section is None else kept.get(section, {})
        if leaf in place and not matters(settings):
            del place[leaf]
    return kept


def is_vae(config: TextVaeConfig) -> bool:
    return config.model == "seq_vae"


def is_built_in(part: str, name: str) -> bool:
    """Not a part of one's own, of which nobody knows what it reads."""
    return name in NAMES[part]


def reads(part: str, *names: str) -> Callable[[TextVaeConfig], bool]:
    """Whether a sequence VAE's part is one of `names`, or one of somebody's own."""

    def matters(config: TextVaeConfig) -> bool:
        name = getattr(config, part)
        return is_vae(config) and (name in names or not is_built_in(part, name))

    return matters


def follows(*schedules: str) -> Callable[[TextVaeConfig], bool]:
    def matters(config: TextVaeConfig) -> bool:
        name = config.kl.schedule
        return name in schedules or not is_built_in("schedule", name)

    return matters


def decays_by(*rules: str) -> Callable[[TextVaeConfig], bool]:
    def matters(config: TextVaeConfig) -> bool:
        return config.optim.rule in rules or not is_built_in("rule", config.optim.rule)

    return matters


has_flow = reads("posterior", "planar_flow")


def has_critic(config: TextVaeConfig) -> bool:
    return reads("scheme", "adversarial")(config) or reads("objective", "dual")(config)


def has_centres(config: TextVaeConfig) -> bool:
    """Whether the centres of a flow's penalty are read."""
    penalised = reads("objective", "wasserstein")(config) and config.wasserstein.band > 0
    return penalised and has_flow(config)


# A key that stands here is dropped where its condition does not hold.
MATTERS: dict[tuple[str | None, str], Callable[[TextVaeConfig], bool]] = {
    (None, "pooling"): is_vae,
    (None, "decoder"): is_vae,
    (None, "posterior"): is_vae,
    (None, "objective"): is_vae,
    (None, "scheme"): is_vae,
    (None, "cosine"): is_vae,
    (None, "kl"): is_vae,
    (None, "evaluate"): is_vae,
    (None, "aggressive"): reads("scheme", "aggressive"),
    (None, "critic"): has_critic,
    (None, "flow"): has_flow,
    (None, "wasserstein"): reads("objective", "wasserstein"),
    ("wasserstein", "band"): has_flow,
    ("wasserstein", "centres"): has_centres,
    ("evaluate", "own_codes"): reads("objective", "dual"),
    ("size", "encoder"): is_vae,
    ("size", "latent"): is_vae,
    ("kl", "weight"): follows("constant"),
    ("kl", "start"): follows("linear"),
    ("kl", "end"): follows("linear"),
    ("kl", "warmup_epochs"): follows("linear"),
    ("kl", "delay_epochs"): follows("linear"),
    ("kl", "cycles"): follows("cyclical"),
    ("kl", "ratio"): follows("cyclical"),
    ("kl", "span_epochs"): follows("cyclical"),
    ("init", "scale"): lambda c: c.init.scheme == "uniform",
    ("init", "embedding"): lambda c: c.init.scheme == "uniform",
    ("optim", "patience"): decays_by("plateau"),
    ("optim", "first_decay_epoch"): decays_by("plateau"),
    ("optim", "decays"): decays_by("plateau"),
    ("optim", "milestones"): decays_by("milestones"),
}


def is_objective(name: str) -> Callable[[TextVaeConfig], bool]:
    """Unlike `reads`: what only one objective's paper reports is reported of none of one's own."""
    return lambda config: is_vae(config) and config.objective == name


def floor(kind: str) -> tuple[str, ...]:
    """Above the exact floor of a corpus that has one, which is the corpus's to say: a sweep
    shows it under a profile with built-in corpora, and has a dash under one without."""
    return tuple(f"test/nll_{kind}_above_floor{of}" for of in ("", "_se", "_t"))


SUMMARY = ("au", "cosine", "cosine_batch", "kl", "mi_batch", "mi_full", "nelbo", "rec")

# What a trial may measure, on the way or at last, and under which condition.
MEASURED: tuple[tuple[Callable[[TextVaeConfig], bool], tuple[str, ...]], ...] = (
    (
        lambda config: True,
        (
            *("cost/updates", *(f"cost/updates_{kind}" for kind in UPDATES)),
            *("cost/outer_steps", "cost/inner_steps", "cost/epochs"),
            *("progress", "train/loss", "optim/lr", "best/epoch"),
            *("test/sentences", "test/targets", "test/nll_unigram", "test/nll_floor"),
        ),
    ),
    (
        lambda config: not is_vae(config),
        ("valid/nll_exact", "test/nll_exact", "test/ppl_exact", *floor("exact")),
    ),
    (
        is_vae,
        (
            "kl/weight",
            *(f"{split}/{name}" for split in ("valid", "test") for name in SUMMARY),
            *("test/nll_iw", "test/nll_iw_se", "test/nll_iw_mc_se", "test/ppl_iw"),
            *("test/iw_ess", "test/iw_ess_min", *floor("iw")),
        ),
    ),
    (
        lambda config: is_vae(config) and config.scheme == "aggressive",
        ("aggressive/on",),
    ),
    (is_objective("dual"), ("test/nll_dual", "test/kl_dual", "test/mi_dual")),
    (is_objective("wasserstein"), ("test/nll_at_centre",)),
)

# All that any configuration may measure.
RESULTS = tuple(key for _, keys in MEASURED for key in keys)


def reported(config: Mapping[str, Any]) -> frozenset[str] | None:
    """The names of all that a trial of `config` may measure; None under a training scheme of
    one's own, which may say what it likes. Raises ConfigError."""
    settings = typed(config)
    if is_vae(settings) and not is_built_in("scheme", settings.scheme):
        return None
    return frozenset(key for holds, keys in MEASURED if holds(settings) for key in keys)


def corpus_names(root: Path | None) -> list[str]:
    """The corpora that can be named: those built in and the folders under `root`."""
    return corpora.names(root)


def corpus_digest(config: Mapping[str, Any], root: Path | None) -> str:
    """Digest of the whole corpus that `config` names; limits are part of the configuration,
    not of this. Raises corpora.CorpusError if it is missing, bad or smaller than its limits."""
    corpora.check_limits(config["data"], config.get("limits", {}), root)
    return corpora.digest(config["data"], root)


def remarks(config: Mapping[str, Any], root: Path | None) -> list[str]:
    """What is no error of the corpus that `config` names, and seldom meant."""
    return corpora.remarks(config["data"], root)


def config_schema() -> dict[str, Any]:
    """A JSON Schema of the configuration, for editors."""
    return TextVaeConfig.model_json_schema()


def describe_corpus(name: str, root: Path | None) -> dict[str, Any]:
    """What `sweeper data NAME` prints: see corpora.describe."""
    return corpora.describe(name, root)


def in_words(fault: Mapping[str, Any]) -> tuple[str, str]:
    """One of pydantic's errors -> (dotted key, what is wrong and what would be right)."""
    if fault["type"] == "invalid_key":
        return ".".join(map(str, fault["loc"])), f"the key {fault['loc'][-1]!r} must be text"
    path = [str(step) for step in fault["loc"] if not isinstance(step, int)]
    items = [step + 1 for step in fault["loc"] if isinstance(step, int)]
    key, leaf = ".".join(path), path[-1] if path else "the configuration"
    kind, given = fault["type"], fault["input"]
    if kind == "extra_forbidden":
        return key, unknown_key(path)
    if kind == "missing":
        return key, f"{leaf} is missing; name a corpus, for example synthetic_topics"
    if kind == "value_error":
        return key, str(fault["ctx"]["error"])
    if kind == "literal_error":
        return key, unknown(leaf, given, get_args(field_type(path)))
    if kind in ("model_type", "model_attributes_type"):
        keys = ", ".join(section_at(path).model_fields)
        return key, f"{leaf} must be a mapping with keys among {keys}; not {shown(given)}"
    of_item = f" (item {items[0]})" if items else ""
    wanted = WANTED.get(kind, fault["msg"]).format(**fault.get("ctx", {}))
    return key, f"{leaf}{of_item} must be {wanted}; not {shown(given)}{number_hint(given)}"


# What would be right, by pydantic's name of the fault.
WANTED = {
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "string_too_short": "some text",
    "string_type": "text",
    "tuple_type": "a list",
}


def unknown_key(path: Sequence[str]) -> str:
    *parents, leaf = path
    known = section_at(parents).model_fields
    elsewhere = [
        f"{name}.{leaf}"
        for name, field in TextVaeConfig.model_fields.items()
        if is_section(field.annotation) and leaf in field.annotation.model_fields
    ]
    near = difflib.get_close_matches(leaf, known, n=1) or elsewhere
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    where = f" in {'.'.join(parents)}" if parents else ""
    return f"unknown key {leaf!r}{where}{hint} known: {', '.join(known)}"


def unknown(what: str, given: Any, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(given), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return f"unknown {what} {shown(given)}{hint} one of {', '.join(known)}"


def section_at(path: Sequence[str]) -> type[BaseModel]:
    section: type[BaseModel] = TextVaeConfig
    for name in path:
        section = section.model_fields[name].annotation
    return section


def field_type(path: Sequence[str]) -> Any:
    return section_at(path[:-1]).model_fields[path[-1]].annotation


def is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def shown(given: Any) -> str:
    """The value as YAML would spell it, cut if long."""
    named = {None: "null", True: "true", False: "false"}
    text = named[given] if given is None or isinstance(given, bool) else repr(given)
    return text if len(text) <= 60 else text[:57] + "..."


def number_hint(given: Any) -> str:
    """YAML 1.1 reads 1e-3 as text; a number in quotes is text too."""
    try:
        return f" (text; write {float(given):.15g})" if isinstance(given, str) else ""
    except ValueError:
        return ""
