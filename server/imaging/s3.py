"""The shelf in a bucket of an S3-compatible server, by django-storages and boto3.

An object appears whole or not at all. What was written is looked at before a row may name it: its size, and the sha256
that the server was given with the bytes to check and kept beside them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from storages.backends.s3 import S3Storage

from server.imaging.bucket import Bucket
from server.imaging.errors import StorageFailed, StorageFull, StoredFileDamaged

LINK_SECONDS = 600
_AT_ONCE = 8
"""Objects written or read side by side: a DICOM series has some hundreds of originals."""
_PIECE_BYTES = 1 << 20
_GONE = frozenset({"404", "NoSuchKey", "NotFound"})
_FULL = frozenset({"507", "QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"})
_EXISTS = frozenset({"412", "PreconditionFailed"})
_TIMES = Config(
    connect_timeout=5,
    read_timeout=30,
    retries={"mode": "standard", "max_attempts": 3},
    signature_version="s3v4",
    s3={"addressing_style": "path"},
    max_pool_connections=_AT_ONCE * 4,
)


@lru_cache(maxsize=8)
def shelf_of(bucket: Bucket) -> BucketShelf:
    """One shelf a bucket and process: making a client takes a tenth of a second, and its threads may share it."""
    return BucketShelf(bucket)


class BucketShelf:
    """`server.imaging.storage.Shelf` in a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        storage = S3Storage(
            access_key=bucket.key,
            secret_key=bucket.secret,
            bucket_name=bucket.name,
            endpoint_url=bucket.endpoint,
            region_name=bucket.region,
            querystring_auth=True,
            client_config=_TIMES,
        )
        self._client: Any = storage.connection.meta.client

    def keep(self, staged: Path, relative: str) -> None:
        """Write every file as an object, and none of them over another one. Raises StorageFull, StorageFailed.

        What was written before a failure is no harm: no row names it, and `drop_orphans` finds it.
        """
        names = [path.relative_to(staged).as_posix() for path in staged.rglob("*") if path.is_file()]
        with _told(), ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda name: self._put_file(staged / name, f"{relative}/{name}"), names))

    def take_back(self, relative: str, staged: Path) -> None:
        """The staged folder was only copied, so the copy is dropped."""
        self.remove(relative)

    def remove(self, relative: str) -> None:
        """Delete the objects, a thousand at a time."""
        with _told():
            for page in self._pages(Prefix=self._key(f"{relative}/")):
                found = [{"Key": entry["Key"]} for entry in page.get("Contents", ())]
                if found:
                    self._client.delete_objects(Bucket=self._bucket.name, Delete={"Objects": found, "Quiet": True})

    def folders(self, parent: str) -> Iterator[tuple[str, float]]:
        """By the time of the newest object in each."""
        prefix = self._key(f"{parent}/")
        newest: dict[str, float] = {}
        with _told():
            for page in self._pages(Prefix=prefix):
                for entry in page.get("Contents", ()):
                    name = entry["Key"].removeprefix(prefix).partition("/")[0]
                    newest[name] = max(newest.get(name, 0.0), entry["LastModified"].timestamp())
        yield from newest.items()

    def check(self, relative: str, *, size: int, sha256: str) -> None:
        """Size and digest as the server keeps them; that the bytes still have it is the object storage's own care."""
        with _told():
            found = self._client.head_object(Bucket=self._bucket.name, Key=self._key(relative))
        if found["ContentLength"] != size or found["Metadata"].get("sha256") != sha256:
            raise StoredFileDamaged

    def pieces(self, relative: str, first: int, last: int | None = None) -> Iterator[bytes]:
        """By one ranged request."""
        span = f"bytes={first}-{'' if last is None else last}"
        with _told():
            found = self._client.get_object(Bucket=self._bucket.name, Key=self._key(relative), Range=span)
            yield from found["Body"].iter_chunks(_PIECE_BYTES)

    @contextmanager
    def local(self, relative: str) -> Iterator[Path]:
        """A copy below DATA_DIR/staging, gone afterwards."""
        parent = Path(settings.DATA_DIR) / "staging"
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with TemporaryDirectory(dir=parent) as folder:
            copy = Path(folder) / "copy"
            with _told(), ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(lambda key: self._get(key, relative, copy), self._keys(relative)))
            yield copy

    def link(self, relative: str) -> str | None:
        """A pre-signed address, good for ten minutes and this object alone."""
        wanted = {"Bucket": self._bucket.name, "Key": self._key(relative)}
        return str(self._client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=LINK_SECONDS))

    def probe(self) -> None:
        """Ask after the bucket."""
        with _told():
            self._client.head_bucket(Bucket=self._bucket.name)

    def put(self, relative: str, content: bytes) -> None:
        """Write one object that was not there. Raises StorageFull, StorageFailed."""
        with _told():
            self._put(BytesIO(content), relative)

    def _put_file(self, path: Path, relative: str) -> None:
        with path.open("rb") as source:
            self._put(source, relative)

    def _put(self, source: BinaryIO, relative: str) -> None:
        digest = hashlib.sha256()
        while piece := source.read(_PIECE_BYTES):
            digest.update(piece)
        size = source.tell()
        source.seek(0)
        try:
            self._client.put_object(
                Bucket=self._bucket.name,
                Key=self._key(relative),
                Body=source,
                ContentLength=size,
                ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
                Metadata={"sha256": digest.hexdigest()},
                IfNoneMatch="*",
            )
        except ClientError as error:
            # An answer that was lost makes the client repeat the request: the object may be our own already.
            if _code(error) not in _EXISTS:
                raise
        self.check(relative, size=size, sha256=digest.hexdigest())

    def _get(self, key: str, relative: str, copy: Path) -> None:
        inside = key.removeprefix(self._key(relative)).strip("/")
        target = copy / inside if inside else copy
        target.parent.mkdir(parents=True, exist_ok=True)
        found = self._client.get_object(Bucket=self._bucket.name, Key=key)
        digest = hashlib.sha256()
        with target.open("xb") as out:
            for piece in found["Body"].iter_chunks(_PIECE_BYTES):
                digest.update(piece)
                out.write(piece)
        if found["Metadata"].get("sha256") != digest.hexdigest():
            raise StoredFileDamaged

    def _keys(self, relative: str) -> list[str]:
        exact = self._key(relative)
        pages = self._pages(Prefix=exact)
        found = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return [key for key in found if key == exact or key.startswith(f"{exact}/")]

    def _key(self, relative: str) -> str:
        return f"{self._bucket.prefix}{relative}"

    def _pages(self, **wanted: str) -> Iterator[dict[str, Any]]:
        yield from self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket.name, **wanted)


@contextmanager
def _told() -> Iterator[None]:
    """Turn what the object storage raises into what the client is told."""
    try:
        yield
    except ClientError as error:
        if _code(error) in _GONE:
            raise StoredFileDamaged from error
        raise (StorageFull() if _code(error) in _FULL else StorageFailed()) from error
    except (BotoCoreError, Boto3Error) as error:
        raise StorageFailed from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
