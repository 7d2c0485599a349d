"""A trained model and its corpus in; sentences that it says out, to be read by people.

Of a sequence VAE: codes from the prior, decoded three ways; test sentences and what their
codes say; and lines of codes between two of them. Of a language model, which has no code:
what it says by itself. A sentence is {"text", "log_p" (nats, by the decoder, given the code
if there is one), "ended" (whether it came to `</s>`)}.

Shapes: N sentences, S steps of a line, Z latent dimensions.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.generation import beam, greedy, sampled
from trainers.metrics import evaluating
from trainers.models import LanguageModel, SequenceVAE
from trainers.text import BOS, EOS, Text, Vocabulary

WIDTH = 5  # Of a beam.
STEPS = 6  # Of a line, both ends counted.
LINES = 2
COLUMNS = 100  # Of samples.txt.

Sentence = dict[str, Any]
Say = Callable[[Tensor], list[Sentence]]


def samples(
    model: SequenceVAE | LanguageModel, text: Text, generator: torch.Generator, count: int = 8
) -> dict[str, Any]:
    """`count` sentences of each kind, in the form of samples.json, none longer than the
    longest of the training split. What is drawn is drawn from `generator`, which is on the
    model's device; the model is left in the mode it was in."""
    longest = max(len(tokens) for tokens in text.train) - 1
    sizes = {"longest": longest, "beam_width": WIDTH}
    with evaluating(model):
        if isinstance(model, LanguageModel):
            return sizes | of_language_model(model, text, generator, count, longest)
        return sizes | of_vae(model, text, generator, count, longest)


def of_language_model(
    model: LanguageModel, text: Text, generator: torch.Generator, count: int, longest: int
) -> dict[str, Any]:
    decoder, spell = model.decoder, partial(spelled, text.vocabulary)
    one = {"longest": longest, "count": 1}
    many = {"longest": longest, "count": count, "generator": generator}
    return {
        "unconditional": {
            "greedy": spell(*greedy(decoder, None, **one))[0],
            "beam": spell(*beam(decoder, None, width=WIDTH, **one))[0],
            "sampled": spell(*sampled(decoder, None, **many)),
        }
    }


def of_vae(
    model: SequenceVAE, text: Text, generator: torch.Generator, count: int, longest: int
) -> dict[str, Any]:
    """A line's ends are reconstructions, and so are not decoded again."""
    decoder, spell = model.decoder, partial(spelled, text.vocabulary)
    originals = text.test[:count]
    centre_NZ, drawn_NZ = codes_of(model, originals, generator)
    prior_NZ = normal((count, centre_NZ.shape[1]), centre_NZ, generator)
    pairs = [(first, first + 1) for first in range(0, len(originals) - 1, 2)][:LINES]
    shares = [step / (STEPS - 1) for step in range(STEPS)]
    inner_S1 = centre_NZ.new_tensor(shares[1:-1]).unsqueeze(1)
    lines = {(a, b): torch.lerp(centre_NZ[a], centre_NZ[b], inner_S1) for a, b in pairs}
    codes = {"prior": prior_NZ, "centre": centre_NZ, "drawn": drawn_NZ} | lines
    by_greedy = together(codes, lambda them: spell(*greedy(decoder, them, longest=longest)))
    by_beam = together(
        {name: codes[name] for name in ("prior", "centre")},
        lambda them: spell(*beam(decoder, them, width=WIDTH, longest=longest)),
    )
    freely = spell(*sampled(decoder, prior_NZ, longest=longest, generator=generator))
    known = spell(originals, log_p_of(model, originals, centre_NZ))
    said = by_greedy["centre"]
    return {
        "prior": entries(
            code=prior_NZ.tolist(),
            greedy=by_greedy["prior"],
            beam=by_beam["prior"],
            sampled=freely,
        ),
        "reconstructions": entries(
            original=known, greedy=said, beam=by_beam["centre"], drawn_code=by_greedy["drawn"]
        ),
        "interpolations": [
            {
                "from": known[a]["text"],
                "to": known[b]["text"],
                "steps": entries(share=shares, said=[said[a], *by_greedy[a, b], said[b]]),
            }
            for a, b in pairs
        ],
    }


def codes_of(
    model: SequenceVAE, sentences: Sequence[np.ndarray], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The code in the middle of each sentence's posterior and one that is drawn from it."""
    centres, drawn = [], []
    for tokens_1T in rows(model, sentences):
        _, posterior = model.encode(tokens_1T)
        centre_1Z = posterior.centre_BZ
        centres.append(centre_1Z)
        drawn.append(posterior.sample(normal(centre_1Z.shape, centre_1Z, generator)))
    return torch.cat(centres), torch.cat(drawn)


def normal(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=like.device)


def log_p_of(model: SequenceVAE, sentences: Sequence[np.ndarray], codes_NZ: Tensor) -> np.ndarray:
    """log p(x|z) of each sentence under its code, nats."""
    pairs = zip(rows(model, sentences), codes_NZ.split(1), strict=True)
    return np.array([-model.decoder.reconstruction(*pair)[1].item() for pair in pairs])


def rows(model: SequenceVAE, sentences: Sequence[np.ndarray]) -> Iterator[Tensor]:
    """Each sentence as a batch of one, on the model's device."""
    device = next(model.parameters()).device
    return (torch.as_tensor(tokens, device=device).unsqueeze(0) for tokens in sentences)


def together(codes: Mapping[Any, Tensor], say: Say) -> dict[Any, list[Sentence]]:
    """What each group of codes says; all of them are decoded at once."""
    said = iter(say(torch.cat(list(codes.values()))))
    return {name: [next(said) for _ in codes_NZ] for name, codes_NZ in codes.items()}


def entries(**columns: Sequence[Any]) -> list[dict[str, Any]]:
    """One entry for each row of these columns."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def spelled(
    vocabulary: Vocabulary, sentences: Sequence[np.ndarray], log_p_N: np.ndarray
) -> list[Sentence]:
    return [
        {
            "text": " ".join(vocabulary.words[word] for word in tokens if word not in (BOS, EOS)),
            "log_p": round(float(log_p), 4),
            "ended": bool(tokens[-1] == EOS),
        }
        for tokens, log_p in zip(sentences, log_p_N, strict=True)
    ]


def write(folder: Path, found: Mapping[str, Any]) -> None:
    """samples.json, which has all of it, and samples.txt, which is for people."""
    folder.mkdir(parents=True, exist_ok=True)
    complete = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / "samples.json").write_text(complete, encoding="utf-8")
    (folder / "samples.txt").write_text(page(found), encoding="utf-8")


def page(found: Mapping[str, Any]) -> str:
    """samples.txt."""
    parts = [
        paragraph(
            "Before each sentence stands the log-probability that the decoder gives it, in "
            f"nats, {'by itself' if 'unconditional' in found else 'given the code'}. Greedy "
            "takes the likeliest word after each word; beam looks for the likeliest sentence, "
            f"{found['beam_width']} at a time; sampled draws each word as likely as it is. [...] "
            f"marks a sentence that had not ended after {found['longest']} words, </s> counted, "
            "the length of the longest one trained on."
        )
    ]
    for name, section in SECTIONS.items():
        if name in found:
            parts += section(found[name])
    return "\n".join(parts)


def unconditional(found: Mapping[str, Any]) -> Iterator[str]:
    yield heading("WHAT THE MODEL SAYS", "A language model has no code: all begins with <s>.")
    yield block("", [("greedy", found["greedy"]), ("beam", found["beam"])])
    yield block("", [("sampled", sentence) for sentence in found["sampled"]])


def prior(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield heading("FROM THE PRIOR", "Codes from N(0, 1); each of them is decoded in three ways.")
    ways = ("greedy", "beam", "sampled")
    for number, entry in enumerate(found, 1):
        yield block(f"Code {number}", [(way, entry[way]) for way in ways])


def reconstructions(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield heading(
        "RECONSTRUCTIONS",
        "The first sentences of the test split, each with its log-probability given its own "
        "code, the one in the middle of its posterior; what that code says, greedily and by "
        "beam; and what a code drawn from the posterior says, greedily.",
    )
    ways = ("original", "greedy", "beam", "drawn_code")
    for number, entry in enumerate(found, 1):
        yield block(f"Sentence {number}", [(way.replace("_", " "), entry[way]) for way in ways])


def interpolations(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield heading(
        "INTERPOLATIONS",
        "Codes on the straight line from the code of one test sentence (0%) to that of another "
        "(100%), those in the middle of their posteriors, decoded greedily.",
    )
    for entry in found:
        ends = [hanging(f"{end:<6}", entry[end]) for end in ("from", "to")]
        steps = [(f"{step['share']:.0%}", step["said"]) for step in entry["steps"]]
        yield block("\n".join(ends), steps)


SECTIONS = {
    "unconditional": unconditional,
    "prior": prior,
    "reconstructions": reconstructions,
    "interpolations": interpolations,
}


def heading(title: str, meaning: str) -> str:
    return f"\n{title}\n{'=' * len(title)}\n{paragraph(meaning)}"


def block(title: str, sentences: Sequence[tuple[str, Sentence]]) -> str:
    """The title, if there is one, and a line or more for each label and sentence."""
    lines = [
        hanging(f"  {label:<10} {it['log_p']:>9.2f}  ", it["text"] + " [...]" * (not it["ended"]))
        for label, it in sentences
    ]
    return "\n".join([*([title] if title else []), *lines, ""])


def hanging(label: str, text: str) -> str:
    """Beside its label, wrapped to stay there; a sentence without words is shown as one."""
    return filled(text or "(no words)", label, " " * len(label))


def paragraph(text: str) -> str:
    return filled(text, "", "") + "\n"


def filled(text: str, first: str, later: str) -> str:
    return textwrap.fill(
        text,
        COLUMNS,
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )
