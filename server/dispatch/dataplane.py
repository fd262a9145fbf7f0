"""The bytes of one attempt: inputs down, the mask up. Every request proves anew that the attempt still counts.

Flow: 8 mask
"""

import re

from django.conf import settings
from django.db.models import QuerySet

from server.core.job import State
from server.core.reconcile import Hold
from server.dispatch import keys
from server.dispatch.errors import ArtifactNotFound, AttemptOver, DataTokenRefused
from server.dispatch.models import Worker
from server.dispatch.sessions import hold_on
from server.imaging import tus
from server.imaging.errors import UploadInvalid, UploadNotFound
from server.imaging.models import Artifact, Upload
from server.jobs.models import Job

MASK = "mask"
_DIGEST = re.compile(r"^[0-9a-f]{64}$")


def artifact_for(authorization: str, artifact_id: str) -> Artifact:
    """An input of the job that the token speaks for.

    Raises:
        DataTokenRefused, AttemptOver, ArtifactNotFound.
    """
    claim = keys.read_data_token(authorization, op=keys.FETCH)
    job = open_attempt(claim)
    found = _inputs_of(job).filter(pk=artifact_id).first()
    if found is None or artifact_id not in claim.artifacts:
        raise ArtifactNotFound
    return found


def fresh_token(hold: Hold, *, worker_id: str) -> str | None:
    """A new data token for an attempt that is still held; None when it no longer counts."""
    if not hold_on(hold, worker_id=worker_id):
        return None
    job = Job.objects.get(pk=hold.job_id)
    artifacts = tuple(_inputs_of(job).values_list("pk", flat=True))
    return keys.data_token(keys.DataClaim(job=hold.job_id, fence=hold.fence, worker=worker_id, artifacts=artifacts))


def open_attempt(claim: keys.DataClaim) -> Job:
    """The job of an attempt that still counts, of a worker that is still allowed; in the caller's transaction, if any.

    Raises:
        DataTokenRefused: the worker was revoked.
        AttemptOver: the job has ended, or another attempt is the newest.
    """
    if not Worker.objects.filter(pk=claim.worker).exclude(state=Worker.State.REVOKED).exists():
        raise DataTokenRefused
    job = Job.objects.filter(pk=claim.job, fence=claim.fence, worker_id=claim.worker).first()
    if job is None or State(job.state).is_final:
        raise AttemptOver
    return job


def begin_upload(authorization: str, *, length: int, metadata: dict[str, str]) -> Upload:
    """A place for the mask of the attempt; the one that was begun before, when it is for the same bytes.

    Raises:
        DataTokenRefused, AttemptOver, UploadInvalid, TooLarge.
    """
    claim = keys.read_data_token(authorization, op=keys.STORE)
    open_attempt(claim)
    sha256, role = metadata.get("sha256", "").lower(), metadata.get("role", "")
    if (metadata.get("job"), metadata.get("fence")) != (claim.job, str(claim.fence)):
        raise UploadInvalid("The metadata names another attempt than the token.")
    if role != MASK or not _DIGEST.match(sha256):
        raise UploadInvalid("The metadata needs the role 'mask' and the sha256 of the whole in hex.")
    same = Upload.objects.filter(job_id=claim.job, fence=claim.fence, role=role, sha256=sha256, length=length).first()
    return same or tus.create(
        length=length,
        max_bytes=settings.LIMITS.artifact_bytes,
        metadata=metadata,
        job_id=claim.job,
        fence=claim.fence,
        role=role,
        sha256=sha256,
    )


def upload_of(authorization: str, upload_id: str) -> Upload:
    """The upload, if it belongs to the attempt the token speaks for.

    Raises:
        DataTokenRefused, AttemptOver, UploadNotFound, UploadGone.
    """
    claim = keys.read_data_token(authorization, op=keys.STORE)
    open_attempt(claim)
    return tus.head(upload_id, job_id=claim.job, fence=claim.fence)


def add_chunk(authorization: str, upload_id: str, *, offset: int, chunk: bytes, checksum: str | None) -> Upload:
    """Add a chunk; the fence is looked at in the transaction that moves the offset.

    Raises:
        DataTokenRefused, AttemptOver, UploadNotFound, OffsetMismatch, ChecksumMismatch, TooLarge, UploadBusy.
    """
    claim = keys.read_data_token(authorization, op=keys.STORE)

    def still_counts(upload: Upload) -> None:
        if (upload.job_id, upload.fence) != (claim.job, claim.fence):
            raise UploadNotFound
        open_attempt(claim)

    upload = upload_of(authorization, upload_id)
    if upload.is_complete and not chunk:
        return upload
    return tus.append(upload, offset=offset, chunk=chunk, checksum=checksum, guard=still_counts)


def _inputs_of(job: Job) -> QuerySet[Artifact]:
    return Artifact.objects.filter(series__in=job.sequence_series_ids)
