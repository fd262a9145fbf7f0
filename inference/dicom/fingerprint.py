"""What the voxels themselves say of the contrast of tissues, as a few numbers without a unit."""

from __future__ import annotations

import numpy as np

from inference.contract import Volume


def fingerprint(volume: Volume) -> dict[str, float]:
    """The fingerprint of a scan, (I, J, K) in any stored order and scale; empty where it shows no head."""
    seen = np.asarray(volume.voxels[::2, ::2, ::2], dtype=np.float64)
    low, high = np.percentile(seen, [1, 99])
    if high <= low:
        return {}
    inside = (seen[seen > low + 0.2 * (high - low)] - low) / (high - low)
    return {f"p{rank}": float(np.percentile(inside, rank)) for rank in (10, 50, 90)} if inside.size else {}
