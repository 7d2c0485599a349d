from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainers.config import typed
from trainers.decoders import DECODERS
from trainers.generation import beam, greedy, sampled
from trainers.models import LanguageModel, SequenceVAE, build_model, initialise
from trainers.posteriors import POSTERIORS
from trainers.samples import samples, write
from trainers.text import BOS, EOS, Text, load_text

TRAIN = ["the cat sat", "a dog ran off to the sea", "the dog sat", "a cat ran", "a cat"]
TEST = ["the dog ran", "a cat sat off", "off", "a sea", "the cat", "the bird ran"]
LONGEST = 8  # Of seven words and </s>.


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Text:
    root = tmp_path_factory.mktemp("data")
    (root / "tiny").mkdir()
    for split, lines in {"train": TRAIN, "valid": TRAIN, "test": TEST}.items():
        (root / "tiny" / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return load_text(typed({"data": "tiny"}), root)


def made(text: Text, **changes: Any) -> SequenceVAE | LanguageModel:
    """With large weights, so that codes and words matter."""
    size = {"embedding": 4, "encoder": 7, "decoder": 6, "latent": 3}
    config = typed({"data": "tiny", "size": size, "init": {"scheme": "default"}} | changes)
    model = build_model(config, len(text.vocabulary))
    initialise(model, config.init, 4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


def drawn(model: SequenceVAE | LanguageModel, text: Text, **changes: Any) -> dict[str, Any]:
    return samples(model, text, torch.Generator().manual_seed(11), **changes)


def in_words(text: Text, tokens: Any) -> str:
    return " ".join(text.vocabulary.words[word] for word in tokens if word not in (BOS, EOS))


def log_p(model: SequenceVAE, text: Text, said: dict[str, Any], code_Z: Tensor) -> float:
    ids = [BOS, *text.vocabulary.encode(said["text"].split()), *[EOS] * said["ended"]]
    with torch.no_grad():
        return -model.decoder.reconstruction(torch.tensor([ids]), code_Z[None])[1].item()


def centres(model: SequenceVAE, text: Text) -> list[Tensor]:
    with torch.no_grad():
        found = [model.encode(torch.as_tensor(tokens)[None])[1] for tokens in text.test]
    return [posterior.centre_BZ[0] for posterior in found]


def test_the_prior_decodes_each_code_three_ways(text: Text) -> None:
    model = made(text)
    found = drawn(model, text)["prior"]
    assert len(found) == 8
    codes = [torch.tensor(entry["code"]) for entry in found]
    assert len({tuple(entry["code"]) for entry in found}) == 8
    model.eval()
    for entry, code_Z in zip(found, codes, strict=True):
        for way, say in (("greedy", greedy), ("beam", beam)):
            more = {"width": 5} if way == "beam" else {}
            (tokens,), _ = say(model.decoder, code_Z[None], longest=LONGEST, **more)
            assert entry[way]["text"] == in_words(text, tokens)
        for way in ("greedy", "beam", "sampled"):
            expected = log_p(model, text, entry[way], code_Z)
            assert entry[way]["log_p"] == pytest.approx(expected, abs=2e-4)
        assert entry["beam"]["log_p"] >= entry["greedy"]["log_p"]
    assert any(entry["sampled"]["text"] != entry["greedy"]["text"] for entry in found)


def test_reconstructions_are_of_the_first_test_sentences(text: Text) -> None:
    model = made(text)
    found = drawn(model, text)["reconstructions"]
    assert [entry["original"]["text"] for entry in found] == [*TEST[:5], "the <unk> ran"]
    model.eval()
    for entry, code_Z in zip(found, centres(model, text), strict=True):
        (tokens,), _ = greedy(model.decoder, code_Z[None], longest=LONGEST)
        assert entry["greedy"]["text"] == in_words(text, tokens)
        for way in ("original", "greedy", "beam"):
            expected = log_p(model, text, entry[way], code_Z)
            assert entry[way]["log_p"] == pytest.approx(expected, abs=2e-4)
    assert [entry["original"]["ended"] for entry in found] == [True] * 6


def test_a_drawn_code_is_the_posteriors(text: Text) -> None:
    """With next to no variance it says what the middle says."""
    model = made(text)
    with torch.no_grad():
        model.posterior.linear.weight[3:] = 0
        free = drawn(model, text)["reconstructions"]
    assert any(entry["drawn_code"]["text"] != entry["greedy"]["text"] for entry in free)
    wide = model.posterior.forward
    model.posterior.forward = lambda feature_BH: narrow(wide(feature_BH))
    tight = drawn(model, text)["reconstructions"]
    assert all(entry["drawn_code"] == entry["greedy"] for entry in tight)


def narrow(posterior: Any) -> Any:
    return type(posterior)(mean_BZ=posterior.mean_BZ, logvar_BZ=posterior.logvar_BZ - 60)


def test_interpolations_go_from_one_reconstruction_to_another(text: Text) -> None:
    model = made(text)
    found = drawn(model, text)
    said, codes = found["reconstructions"], centres(model, text)
    assert [(it["from"], it["to"]) for it in found["interpolations"]] == [
        (TEST[0], TEST[1]),
        (TEST[2], TEST[3]),
    ]
    model.eval()
    for place, entry in enumerate(found["interpolations"]):
        first, last = 2 * place, 2 * place + 1
        steps = entry["steps"]
        assert [step["share"] for step in steps] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
        assert steps[0]["said"] == said[first]["greedy"]
        assert steps[-1]["said"] == said[last]["greedy"]
        for step in steps:
            code_Z = (1 - step["share"]) * codes[first] + step["share"] * codes[last]
            (tokens,), log_p_1 = greedy(model.decoder, code_Z[None], longest=LONGEST)
            assert step["said"]["text"] == in_words(text, tokens)
            assert step["said"]["log_p"] == pytest.approx(log_p_1[0], abs=2e-4)


def test_a_language_model_has_no_codes(text: Text) -> None:
    model = made(text, model="language_model")
    found = drawn(model, text, count=5)
    assert set(found) == {"longest", "beam_width", "unconditional"}
    assert found["longest"] == LONGEST
    said = found["unconditional"]
    assert set(said) == {"greedy", "beam", "sampled"}
    assert len(said["sampled"]) == 5
    generator = torch.Generator().manual_seed(11)
    tokens, log_p_N = sampled(model.decoder, None, longest=LONGEST, generator=generator, count=5)
    assert [it["text"] for it in said["sampled"]] == [in_words(text, it) for it in tokens]
    assert [it["log_p"] for it in said["sampled"]] == pytest.approx(log_p_N, abs=1e-4)
    (tokens,), (nats,) = beam(model.decoder, None, width=5, longest=LONGEST, count=1)
    assert said["beam"]["text"] == in_words(text, tokens)
    assert said["beam"]["log_p"] == pytest.approx(nats, abs=1e-4)


@pytest.mark.parametrize("changes", [{}, {"model": "language_model"}], ids=["vae", "lm"])
def test_equal_generators_write_equal_bytes(
    text: Text, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Whatever the global generator does, which is left alone, as is the model's mode."""
    model = made(text, **changes).train()
    before = torch.random.get_rng_state()
    found = drawn(model, text)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.training
    assert model.decoder.training
    write(tmp_path / "one", found)
    torch.rand(1)
    write(tmp_path / "two", drawn(model.eval(), text))
    assert not model.training
    for name in ("samples.json", "samples.txt"):
        one, two = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
        assert one == two
    assert json.loads((tmp_path / "one" / "samples.json").read_text(encoding="utf-8")) == found
    other = samples(model, text, torch.Generator().manual_seed(12))
    assert other != found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_says_the_same_twice(text: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    """By kernels that are deterministic, as trials run."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    model = made(text).to("cuda")
    torch.use_deterministic_algorithms(True)
    try:
        one, two = (samples(model, text, torch.Generator("cuda").manual_seed(1)) for _ in "ab")
    finally:
        torch.use_deterministic_algorithms(False)
    assert one == two


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_every_part_has_samples(text: Text, decoder: str, posterior: str) -> None:
    found = drawn(made(text, decoder=decoder, posterior=posterior), text, count=2)
    assert [len(found[kind]) for kind in ("prior", "reconstructions", "interpolations")] == [
        2,
        2,
        1,
    ]


def test_one_test_sentence_is_enough(text: Text) -> None:
    found = drawn(made(text), text, count=1)
    assert len(found["reconstructions"]) == 1
    assert found["interpolations"] == []


def test_the_page_holds_all_sentences_within_its_columns(text: Text, tmp_path: Path) -> None:
    long = {"text": " ".join(["word"] * 60), "log_p": -1234.567, "ended": False}
    none = {"text": "", "log_p": -0.5, "ended": True}
    found = drawn(made(text), text)
    found["prior"][0] |= {"greedy": long, "beam": none}
    write(tmp_path, found)
    page = (tmp_path / "samples.txt").read_text(encoding="utf-8")
    lines = page.splitlines()
    assert max(map(len, lines)) <= 100
    titles = [above for above, line in pairwise(lines) if set(line) == {"="}]
    assert titles == ["FROM THE PRIOR", "RECONSTRUCTIONS", "INTERPOLATIONS"]
    at = lines.index("Code 1")
    # 76 columns beside the label: fifteen words and their spaces.
    assert lines[at + 1] == "  greedy      -1234.57  " + " ".join(["word"] * 15)
    assert lines[at + 2 : at + 4] == [" " * 24 + " ".join(["word"] * 15)] * 2
    assert lines[at + 4] == " " * 24 + " ".join(["word"] * 15)
    assert lines[at + 5] == " " * 24 + "[...]"
    assert lines[at + 6] == "  beam           -0.50  (no words)"
    assert "Code 8" in lines
    assert "from  the dog ran" in lines
    assert "to    a cat sat off" in lines
    assert "from  off" in lines
    assert sum(line.startswith("  original ") for line in lines) == len(TEST)
    assert sum("%  " in line for line in lines) == 12
