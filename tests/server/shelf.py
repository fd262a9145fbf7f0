"""Studies on the shelf, made without reading a file: four sequences of one patient who does not exist."""

import hashlib

import numpy as np
from django.contrib.auth.models import User

from inference.contract import Sequence, Volume
from inference.volume import pack
from server.imaging import storage
from server.imaging.models import Artifact, Series, Study
from server.imaging.selectors import packed_of

SHAPE = (6, 5, 4)
AFFINE = np.diag([1.5, 1.5, 3.0, 1.0])


def a_user(name: str = "reader", *, is_staff: bool = False) -> User:
    """A user who can sign in."""
    return User.objects.create_user(name, password="not-so-secret", is_staff=is_staff)


def a_study(owner: User, *, uid: str = "1.2.3", source: str = "nifti") -> Study:
    """A study with nothing in it."""
    return Study.objects.create(owner=owner, uid=uid, source=source)


def a_series(study: Study, *, sequence: str | None, uid: str = "", voxels: np.ndarray | None = None) -> Series:
    """A series with an artifact on the disk."""
    voxels = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE) if voxels is None else voxels
    uid = uid or f"{study.uid}.{Series.objects.count() + 1}"
    name = f"series/{uid}.packed"
    target = storage.path_of(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    packed = pack(Volume(voxels=voxels, affine=AFFINE), target)
    artifact = Artifact.objects.create(
        size=packed.size,
        sha256=packed.sha256,
        encoding=packed.encoding,
        dtype=packed.dtype,
        shape=list(packed.shape),
        affine=AFFINE.tolist(),
        path=name,
    )
    assert packed_of(artifact) == packed
    return Series.objects.create(
        study=study,
        uid=uid,
        sequence=sequence,
        sequence_confidence=1.0 if sequence else 0.0,
        shape=list(voxels.shape),
        spacing_mm=[1.5, 1.5, 3.0],
        affine=AFFINE.tolist(),
        content_sha256=hashlib.sha256(voxels.tobytes() + uid.encode()).hexdigest(),
        source=study.source,
        folder=f"series/{uid}",
        volume_sha256="0" * 64,
        volume_size=1,
        artifact=artifact,
    )


def four_series(study: Study) -> list[Series]:
    """T1, T1CE, T2, FLAIR."""
    return [a_series(study, sequence=str(sequence)) for sequence in Sequence]
