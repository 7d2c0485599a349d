"""A file of arrays that a trial left in; the numbers of one array, or why there are none, out."""

from __future__ import annotations

import io
import zipfile

import numpy as np

from sweeper.errors import unknown


def loaded(content: bytes, name: str) -> np.ndarray:
    """The array `name` of an .npz file, as float64. Raises ValueError, in words, for what is
    no such file or not finite numbers throughout."""
    try:
        file = np.load(io.BytesIO(content), allow_pickle=False)
        names = file.files
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, AttributeError) as fault:
        raise ValueError("it is no .npz file") from fault
    if name not in names:
        raise ValueError(unknown("array", name, names))
    found = file[name]
    if found.dtype.kind not in "fiub" or not np.isfinite(found).all():
        raise ValueError(f"{name} is not finite numbers throughout")
    return found.astype(np.float64)
