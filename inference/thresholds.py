"""Where dark ends and bright begins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_BINS = 256


def otsu(values: npt.NDArray[np.generic], *, within: tuple[float, float] | None = None) -> float:
    """The threshold that best parts dark from bright (Otsu 1979), on 256 bins `within` these, or from end to end.

    The lower end where nothing parts them.
    """
    counts, edges = np.histogram(values, bins=_BINS, range=within)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    return float(edges[1:-1][np.nanargmax(between)]) if np.isfinite(between).any() else float(edges[0])
