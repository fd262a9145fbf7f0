"""Resumable uploads, tus 1.0 core with creation, termination, checksum and expiration, over rows of `Upload`.

One implementation serves the files of users and the masks of workers; who may call is decided by the caller, or by
its `guard` inside the transaction that moves the offset. https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from server.imaging import storage
from server.imaging.errors import (
    ChecksumMismatch,
    OffsetMismatch,
    TooLarge,
    UploadBusy,
    UploadGone,
    UploadInvalid,
    UploadNotFound,
)
from server.imaging.models import Upload, UploadBatch
from server.imaging.parts import parts_of

VERSION = "1.0.0"
EXTENSIONS = "creation,termination,checksum,expiration"
CHECKSUMS = ("sha256", "sha1")


def create(  # noqa: PLR0913 - an upload is a study file of an owner or a result of a job; all by keyword
    *,
    length: int,
    max_bytes: int,
    metadata: Mapping[str, str] | None = None,
    owner: Any = None,
    batch: UploadBatch | None = None,
    job_id: str = "",
    fence: int | None = None,
    role: str = "",
    sha256: str = "",
) -> Upload:
    """Begin an upload of `length` bytes. `sha256` (hex) is checked when the last byte has come.

    Raises:
        TooLarge, UploadInvalid, StorageFull, StorageFailed.
    """
    if length > max_bytes:
        raise TooLarge(f"The file has {length} bytes; at most {max_bytes} are accepted.")
    if length < 1:
        raise UploadInvalid("An upload has at least one byte.")
    known = dict(metadata or {})
    upload = Upload(
        length=length,
        filename=Path(known.get("filename", "").replace("\\", "/")).name[:255],
        metadata=known,
        owner=owner,
        batch=batch,
        job_id=job_id,
        fence=fence,
        role=role,
        sha256=sha256.lower(),
        expires_at=_expiry(),
    )
    upload.path = storage.upload_path(upload.pk)
    parts_of(upload).begin()
    upload.save(force_insert=True)
    return upload


def head(upload_id: str, **belongs_to: Any) -> Upload:
    """Where an upload stands; `belongs_to` (`owner=…`, or `job_id=…, fence=…`) says whose it must be.

    Raises:
        UploadNotFound, UploadGone.
    """
    upload = Upload.objects.select_related("batch").filter(pk=upload_id, **belongs_to).first()
    if upload is None:
        raise UploadNotFound
    if upload.expires_at <= timezone.now():
        terminate(upload)
        raise UploadGone
    return upload


def append(
    upload: Upload,
    *,
    offset: int,
    chunk: bytes,
    checksum: str | None = None,
    guard: Callable[[Upload], None] | None = None,
) -> Upload:
    """Add a chunk and answer where the upload stands then; complete means on the disk, with the declared digest.

    `checksum` is the header's value, `sha256 <base64>`. The bytes are written first and count only once the
    offset has moved; `guard` is called in that same transaction and raises to refuse the chunk.

    Raises:
        OffsetMismatch, ChecksumMismatch, TooLarge, UploadInvalid, UploadBusy, StorageFull, StorageFailed.
    """
    _check(chunk, checksum)
    parts = parts_of(upload)
    with parts.alone():
        upload.refresh_from_db()
        if offset != upload.offset:
            raise OffsetMismatch(expected=upload.offset, got=offset)
        if offset + len(chunk) > upload.length:
            raise TooLarge("The chunk is longer than what is left of the upload.")
        names = parts.write(chunk, offset)
        is_last = offset + len(chunk) == upload.length
        if is_last:
            _check_whole(upload, parts.pieces(names))
        with transaction.atomic():
            if guard is not None:
                guard(upload)
            moved = Upload.objects.filter(pk=upload.pk, offset=offset, is_complete=False)
            if not moved.update(offset=offset + len(chunk), parts=names, is_complete=is_last, expires_at=_expiry()):
                raise UploadBusy
    upload.refresh_from_db()
    return upload


def terminate(upload: Upload) -> None:
    """Drop an upload and its bytes."""
    parts = parts_of(upload)
    upload.delete()
    parts.remove()


def metadata_of(header: str) -> dict[str, str]:
    """The pairs of an `Upload-Metadata` header, decoded.

    Raises:
        UploadInvalid: a value is not base64 of UTF-8.
    """
    pairs: dict[str, str] = {}
    for pair in header.split(","):
        key, _, value = pair.strip().partition(" ")
        if key:
            try:
                pairs[key] = base64.b64decode(value, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError) as error:
                raise UploadInvalid(f"The metadata value of {key[:40]!r} is not base64 of UTF-8.") from error
            if "\0" in pairs[key]:  # no database takes it
                raise UploadInvalid(f"The metadata value of {key[:40]!r} holds a null.")
    return pairs


def _check(chunk: bytes, checksum: str | None) -> None:
    if not checksum:
        return
    algorithm, _, encoded = checksum.partition(" ")
    if algorithm not in CHECKSUMS:
        raise UploadInvalid(f"Checksums are {' or '.join(CHECKSUMS)}.")
    try:
        declared = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise UploadInvalid("The checksum is not base64.") from error
    if len(declared) != hashlib.new(algorithm).digest_size:
        raise UploadInvalid("The checksum has not the length of its kind.")
    if not hmac.compare_digest(hashlib.new(algorithm, chunk).digest(), declared):
        raise ChecksumMismatch("The chunk was damaged on its way; send it again.")


def _check_whole(upload: Upload, pieces: Iterator[bytes]) -> None:
    if not upload.sha256:
        return
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    if digest.hexdigest() != upload.sha256:
        Upload.objects.filter(pk=upload.pk).update(offset=0, parts=[])
        raise ChecksumMismatch("The whole does not have the declared digest; send it again from the start.")


def _expiry() -> Any:
    return timezone.now() + timedelta(seconds=settings.LIMITS.upload_ttl_seconds)
