"""The models of this machine: the built-in one, and those its owner added.

Importing this loads no torch; only `Registry.load` does.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from inference.contract import ModelRef, Sequence
from inference.errors import DeviceUnavailable, InputInvalid, ModelMissing
from inference.models.errors import ManifestInvalid
from inference.models.manifest import ModelEntry, read_manifest

if TYPE_CHECKING:
    import torch

__all__ = ["DEFAULT_MODEL", "LoadedModel", "ModelEntry", "Registry", "user_models_folder"]

log = logging.getLogger(__name__)

BUILTIN_FOLDER = Path(__file__).parent / "builtin"
DEFAULT_MODEL = "segwire-compact"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run: the network in eval mode on its device, and what to know about it."""

    entry: ModelEntry
    network: torch.nn.Module
    device: str

    @property
    def ref(self) -> ModelRef:
        """Name, version and digest."""
        return self.entry.ref


def user_models_folder() -> Path:
    """Where `models add` puts models unless told otherwise: the platform's folder for user data."""
    return platformdirs.user_data_path("segwire", appauthor=False) / "models"


class Registry:
    """Finds models by name, version and digest. Each model of the user lies in a folder of its own in `folder`."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = user_models_folder() if folder is None else folder

    def entries(self) -> tuple[ModelEntry, ...]:
        """All usable models: the built-in ones, then the user's by name, newest version first.

        A broken description is left out and logged: one bad folder must not take the others away.
        """
        found = [read_manifest(path) for path in sorted(BUILTIN_FOLDER.glob("*.json"))]
        taken = {(entry.name, entry.version) for entry in found}
        added: list[ModelEntry] = []
        for path in sorted(self.folder.glob(f"*/{MANIFEST}")):
            try:
                entry = read_manifest(path)
            except ManifestInvalid as error:
                log.warning("A model was left out: its description is not usable.", extra={"field": error.field})
                continue
            if (entry.name, entry.version) not in taken:
                taken.add((entry.name, entry.version))
                added.append(entry)
        added.sort(key=lambda entry: _age(entry.version), reverse=True)
        return (*found, *sorted(added, key=lambda entry: entry.name))

    def find(self, name: str | None, *, version: str | None = None, sha256: str | None = None) -> ModelEntry:
        """The newest model of this name (None: the built-in default) with this version and digest, if they are given.

        Raises ModelMissing.
        """
        wanted = DEFAULT_MODEL if name is None else name
        fitting = [
            entry
            for entry in self.entries()
            if entry.name == wanted and version in (None, entry.version) and sha256 in (None, entry.sha256)
        ]
        if not fitting:
            raise ModelMissing(wanted)
        return max(fitting, key=lambda entry: _age(entry.version))

    def by_preference(self) -> tuple[ModelEntry, ...]:
        """All models whose weights are there: the built-in ones first, then what was added last.

        Of the models for the sequences at hand the first is the default one.
        """
        usable = [entry for entry in self.entries() if entry.weights.is_file()]
        return tuple(sorted(usable, key=lambda entry: (entry.weights.parent != BUILTIN_FOLDER, -_added_at(entry))))

    def default_for(self, sequences: Collection[Sequence]) -> ModelEntry:
        """The model that is used for exactly these sequences when none is named.

        Raises InputInvalid sequence_missing (no model is for these alone), ModelMissing.
        """
        if set(sequences) == set(Sequence):
            return self.find(None)
        fitting = (entry for entry in self.by_preference() if set(entry.sequences) == set(sequences))
        found = next(fitting, None)
        if found is None:
            missing = ", ".join(sequence for sequence in Sequence if sequence not in sequences)
            raise InputInvalid("sequence_missing", f"No model of this machine works without {missing}.")
        return found

    def load(self, entry: ModelEntry, *, device: str) -> LoadedModel:
        """The network with its weights, ready to run on `cpu` or `cuda:N`.

        Raises WeightsMismatch, WeightsUnfit, PickleAllowed, ManifestInvalid, DeviceUnavailable.
        """
        import torch

        from inference.models.networks import build
        from inference.models.weights import fit, read_pinned, refuse_pickle

        refuse_pickle()
        state = read_pinned(entry.weights, sha256=entry.sha256, name=entry.name)
        network = build(entry.network)
        fit(network, state, name=entry.name)
        try:
            network = network.to(torch.device(device))
        except (RuntimeError, AssertionError) as error:
            # torch built without CUDA asserts; a CUDA device that is not there is a RuntimeError.
            raise DeviceUnavailable(f"There is no device {device!r} on this machine.") from error
        return LoadedModel(entry=entry, network=network.eval(), device=device)


def _added_at(entry: ModelEntry) -> float:
    return 0.0 if entry.weights.parent == BUILTIN_FOLDER else entry.weights.stat().st_mtime


def _age(version: str) -> tuple[tuple[int, int | str], ...]:
    """Versions in order: numbers count as numbers, and come before words."""
    parts = re.split(r"[.+-]", version)
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in parts)
