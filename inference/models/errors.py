"""Why a model is not taken in or not loaded.

ModelError (inference.errors)
├── ModelMissing, WeightsMismatch   (inference.errors)
├── ManifestInvalid   the description beside the weights does not describe a model
├── BundleRefused     a bundle asks for what is not on the list, or is not a bundle
├── WeightsUnfit      the weights do not belong to the network they came with
├── CheckpointInvalid a published checkpoint is not one, or is damaged
├── DownloadFailed    a file could not be fetched; the next try goes on where this one ended
└── PickleAllowed     this process was told to load pickled code, so no weights are loaded at all
"""

from __future__ import annotations

from inference.errors import ModelError


class ManifestInvalid(ModelError):
    """The description of a model is incomplete or contradicts itself. `field` names the place."""

    code = "manifest_invalid"

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"The description of the model is not usable: {field} {reason}.")
        self.field = field


class BundleRefused(ModelError):
    """A MONAI bundle is not taken in. `place` names the entry at fault, as in `network_def.norm`."""

    code = "bundle_refused"

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"The bundle was refused: {place} {reason}.")
        self.place = place


class WeightsUnfit(ModelError):
    """The weights cannot be read, or do not belong to this network."""

    code = "weights_unfit"


class CheckpointInvalid(ModelError):
    """A TensorFlow checkpoint cannot be read as what it says it is."""

    code = "checkpoint_invalid"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The checkpoint is not usable: {reason}.")


class DownloadFailed(ModelError):
    """A file could not be fetched. What came is kept, and another try goes on from there."""

    code = "download_failed"


class PickleAllowed(ModelError):
    """MONAI_ALLOW_PICKLE is set: a weights file could run code in this process."""

    code = "pickle_allowed"

    def __init__(self) -> None:
        super().__init__("MONAI_ALLOW_PICKLE is set. Remove it from the environment; models are not loaded with it.")
