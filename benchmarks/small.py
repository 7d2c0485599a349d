"""The small size of the benchmarks: twin models with the same weights, and random text."""

from __future__ import annotations

import torch
from baseline import PlainVAE
from torch import Tensor

from trainers.config import TextVaeConfig
from trainers.models import SequenceVAE, build_model

WORDS, EMBEDDING, HIDDEN, LATENT, BATCH = 8000, 128, 128, 32, 32
SHORTEST, LONGEST = 24, 80
BOS, EOS, FIRST_WORD = 1, 2, 4


def twins(dropout: float) -> tuple[SequenceVAE, PlainVAE]:
    """Our model and the plain one, with equal random weights of a trained model's size."""
    config = TextVaeConfig.model_validate(
        {
            "data": "random words",
            "dropout": dropout,
            "size": {
                "embedding": EMBEDDING,
                "encoder": HIDDEN,
                "decoder": HIDDEN,
                "latent": LATENT,
            },
        }
    )
    ours = build_model(config, WORDS)
    plain = PlainVAE(
        words=WORDS, embedding=EMBEDDING, hidden=HIDDEN, latent=LATENT, dropout=dropout
    )
    generator = torch.Generator().manual_seed(1)
    places = {
        "encoder.embed": "encoder_embed",
        "encoder.lstm": "encoder_lstm",
        "posterior.linear": "to_posterior",
        "decoder.embed": "decoder_embed",
        "decoder.lstm": "decoder_lstm",
        "decoder.trans_linear": "to_cell",
        "decoder.pred_linear": "to_words",
    }
    with torch.no_grad():
        for own, other in places.items():
            pairs = zip(
                ours.get_submodule(own).parameters(),
                plain.get_submodule(other).parameters(),
                strict=True,
            )
            for mine, theirs in pairs:
                mine.uniform_(-0.2, 0.2, generator=generator)
                theirs.copy_(mine)
    return ours, plain


def random_batches(count: int, size: int = BATCH, seed: int = 0) -> list[Tensor]:
    """Batches of sentences of one length, `<s> w1 .. wn </s>`, lengths spread evenly."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.linspace(SHORTEST, LONGEST, count).round().int()
    batches = []
    for length in lengths[torch.randperm(count, generator=generator)].tolist():
        tokens_BT = torch.randint(FIRST_WORD, WORDS, (size, length + 2), generator=generator)
        tokens_BT[:, 0], tokens_BT[:, -1] = BOS, EOS
        batches.append(tokens_BT)
    return batches


def training_flops_per_target() -> int:
    """Floating-point work of one training step per target word: 2 for each weight of a
    matrix product, forward and, twice that, backward."""
    decoder = 4 * HIDDEN * (EMBEDDING + LATENT + HIDDEN)
    encoder = 4 * HIDDEN * (EMBEDDING + HIDDEN)
    return 6 * (WORDS * HIDDEN + decoder + encoder)
