"""Sentences in; one feature vector per sentence out.

Shapes: B sentences, T words each (`<s>` first, `</s>` last, padding after it), H units.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Pooling = Callable[[Tensor, Tensor | None], Tensor]


class LSTMEncoder(nn.Module):
    """One unidirectional LSTM layer from a zero state, without dropout, then a pooling.

    Padding stands to the right of the words, so that it never reaches their states; the
    mask keeps it out of the pooling."""

    def __init__(self, *, words: int, embedding: int, hidden: int, pooling: Pooling) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.pooling = pooling

    def forward(self, tokens_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        states_BTH, _ = self.lstm(self.embed(tokens_BT))
        return self.pooling(states_BTH, mask_BT)
