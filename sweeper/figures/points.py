"""Arrays in a file in; points that can be drawn out."""

from __future__ import annotations

import numpy as np

from sweeper.figures.panels import Cloud
from sweeper.tables.arrays import loaded


def cloud_of(content: bytes, array: str, colour: str | None = None) -> Cloud:
    """The array [N, H] in an .npz file: on the unit sphere for H = 3, as it is for H = 2,
    else along its first two principal components. Raises ValueError, in words, for what
    cannot be drawn."""
    features_NH = matrix(loaded(content, array), array)
    colours_N = None if colour is None else loaded(content, colour)
    if colours_N is not None and colours_N.shape != (len(features_NH),):
        raise ValueError(f"{colour} is {list(colours_N.shape)}, not [{len(features_NH)}]")
    width = features_NH.shape[1]
    if width == 2:
        made, points, axes = "plain", features_NH, ("h₁", "h₂")
    elif width == 3:
        made, points, axes = "scaled", on_sphere(features_NH), ("h₁", "h₂", "h₃")
    else:
        made, (points, shares) = "projected", principal(features_NH)
        axes = tuple(f"PC {i} ({share:.0%})" for i, share in enumerate(shares, 1))
    return Cloud(points=points, made=made, axes=axes, colours=colours_N)


def matrix(found: np.ndarray, name: str) -> np.ndarray:
    if found.ndim != 2 or found.shape[0] < 1 or found.shape[1] < 2:
        raise ValueError(f"{name} is {list(found.shape)}, not [N, H] with H at least 2")
    return found


def on_sphere(features_NH: np.ndarray) -> np.ndarray:
    """Each point scaled to length 1: what a cosine sees of it. One at the origin stays."""
    lengths_N1 = np.linalg.norm(features_NH, axis=1, keepdims=True)
    return features_NH / np.where(lengths_N1 > 0, lengths_N1, 1.0)


def principal(features_NH: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """The centred points along the two directions of the greatest variance [N, 2], and the
    share that each has of all of it. By the covariance [H, H], for N is the larger one. Of a
    direction's two signs the one under which its largest entry is positive."""
    centred_NH = features_NH - features_NH.mean(axis=0)
    variances_H, directions_HH = np.linalg.eigh(centred_NH.T @ centred_NH)
    top_H2 = directions_HH[:, [-1, -2]]
    largest_2 = np.abs(top_H2).argmax(axis=0)
    top_H2 = top_H2 * np.where(top_H2[largest_2, [0, 1]] < 0, -1.0, 1.0)
    whole = variances_H.sum()
    first, second = (max(v, 0.0) / whole if whole > 0 else 0.0 for v in variances_H[[-1, -2]])
    return centred_NH @ top_H2, (float(first), float(second))
