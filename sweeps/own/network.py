"""A trainer as a script: one hidden layer, by hand. Each line it prints is a JSON object.

python network.py --lr 0.1 --seed 0
"""

import argparse
import json

import numpy as np
from digits import splits  # Beside this file, which is where Python looks for a script's own.


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    (pixels, digit), valid, test = splits(given.seed)
    rng = np.random.default_rng(given.seed)
    first = rng.normal(0, 64**-0.5, (64, given.hidden))
    last = rng.normal(0, given.hidden**-0.5, (given.hidden, 10))
    for epoch in range(1, given.epochs + 1):
        for i in rng.permutation(len(digit)):
            hidden = np.tanh(pixels[i] @ first)
            error = softmax(hidden @ last) - (np.arange(10) == digit[i])
            back = (last @ error) * (1 - hidden**2)
            last -= given.lr * np.outer(hidden, error)
            first -= given.lr * np.outer(pixels[i], back)
        said = {
            "cost/updates": epoch * len(digit),
            "valid/accuracy": accuracy(first, last, *valid),
            "progress": epoch / given.epochs,
        }
        print(json.dumps(said))
    print(json.dumps(said | {"test/accuracy": accuracy(first, last, *test)}))


def softmax(scores):
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def accuracy(first, last, pixels, digit):
    return float(np.mean(np.argmax(np.tanh(pixels @ first) @ last, axis=1) == digit))


if __name__ == "__main__":
    main()
