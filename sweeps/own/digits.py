"""scikit-learn's 1,797 handwritten digits: a seed in; three splits of (pixels, digit) out."""

import numpy as np
from sklearn.datasets import load_digits

TRAIN, VALID = 1000, 400  # what is left, 397 digits, is the test split


def splits(seed):
    """Pixels [N, 64] between 0 and 1, digits [N]. Each seed cuts anew, so that what is said of
    a system does not hang on one cut; two systems under one seed see the same three splits."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    parts = np.split(order, [TRAIN, TRAIN + VALID])
    return [(digits.data[part] / 16, digits.target[part]) for part in parts]
