"""Which way of predicting a model takes: one network tile by tile, or a cascade that looks ever closer.

Flow: 6 run
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from inference.preprocess import Prepared
from inference.watch import Watch

if TYPE_CHECKING:
    from inference.models.registry import LoadedModel, ModelEntry


class Predictor(Protocol):
    """From the prepared scans to probabilities."""

    def __call__(self, prepared: Prepared, *, model: LoadedModel, watch: Watch) -> npt.NDArray[np.float32]:
        """Probability of each of the model's output channels: (C, X, Y, Z) float32, 0 to 1, on the prepared grid.

        Tells `watch` how far it is, and shows it the labels so far. Raises Cancelled, OutOfMemory, ModelFailed.
        """


def predictor_of(entry: ModelEntry) -> Predictor:
    """The way this kind of model predicts."""
    if entry.kind == "cascade":
        from inference.models.brats17.cascade import predict as cascade

        return cascade
    from inference.predict import predict as windows

    return windows
