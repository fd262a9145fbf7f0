"""What can go wrong with stored images, each with its HTTP status.

Problem
├── SeriesNotFound, StudyNotFound, UploadNotFound, BatchNotFound   404
├── NothingReadable    422  none of the files could be read
├── SeriesConflict     409  the same SeriesInstanceUID with other content
├── ResultInvalid      422  a worker's mask that cannot be offered
├── StorageFull        507  no room: nothing was kept, the same request may be repeated
├── StorageFailed      503  the disk or the object storage does not answer, or must not be written
├── StoredFileDamaged  500  what lies there is not what was put there, so it is not handed out
├── RangeInvalid       416  a part of a file that does not exist
└── tus: OffsetMismatch 409, ChecksumMismatch 460, TooLarge 413, UploadInvalid 400, UploadGone 410, UploadBusy 423,
    BatchClosed 409, WrongProtocol 412, WrongContent 415
"""

from collections.abc import Sequence

from server.core.errors import Problem

SHOWN = 3
"""How many refused files a sentence names; the list beside it has them all."""


class StudyNotFound(Problem):
    """No such study, or not for this user."""

    status = 404
    code = "study_not_found"
    title = "Study not found"

    def __init__(self) -> None:
        super().__init__("There is no such study that you may see.")


class SeriesNotFound(Problem):
    """No such series, or not for this user."""

    status = 404
    code = "series_not_found"
    title = "Series not found"

    def __init__(self) -> None:
        super().__init__("There is no such series that you may see.")


class UploadNotFound(Problem):
    """No such upload, or not for this user or job."""

    status = 404
    code = "upload_not_found"
    title = "Upload not found"

    def __init__(self) -> None:
        super().__init__("There is no such upload.")


class BatchNotFound(Problem):
    """No such batch of uploads of this user."""

    status = 404
    code = "batch_not_found"
    title = "Batch not found"

    def __init__(self) -> None:
        super().__init__("There is no such batch of uploads.")


class NothingReadable(Problem):
    """None of the files could be read; `refused` says why for each."""

    status = 422
    code = "nothing_readable"
    title = "No readable series"

    def __init__(self, refused: Sequence[dict[str, str]]) -> None:
        sentences = [f"{entry['filename']}: {entry['detail']}" for entry in refused[:SHOWN]]
        if len(refused) > SHOWN:
            sentences.append(f"… and {len(refused) - SHOWN} more.")
        super().__init__(" ".join(sentences) or "The request holds no files.", extra={"refused": list(refused)})


class SeriesConflict(Problem):
    """The same series identifier is already stored with other content."""

    status = 409
    code = "series_conflict"
    title = "Series already stored with other content"

    def __init__(self, refused: Sequence[dict[str, str]]) -> None:
        super().__init__(
            f"{refused[0]['filename']}: {refused[0]['detail']}",
            extra={"refused": list(refused)},
        )


class ResultInvalid(Problem):
    """A worker's mask does not lie on the grid, has unknown labels, or could not be proven."""

    status = 422
    code = "result_invalid"
    title = "The result cannot be offered"


class OffsetMismatch(Problem):
    """The chunk does not start where the upload stands."""

    status = 409
    code = "offset_mismatch"
    title = "Wrong offset"

    def __init__(self, *, expected: int, got: int) -> None:
        self.expected = expected
        super().__init__(f"The upload stands at byte {expected}, the chunk starts at {got}.")


class ChecksumMismatch(Problem):
    """A chunk or the whole does not have the declared digest."""

    status = 460
    code = "checksum_mismatch"
    title = "Wrong checksum"


class TooLarge(Problem):
    """More bytes than are allowed or were declared."""

    status = 413
    code = "too_large"
    title = "Too large"


class UploadInvalid(Problem):
    """A header of the upload protocol is missing or malformed."""

    status = 400
    code = "upload_invalid"
    title = "Malformed upload request"


class BatchClosed(Problem):
    """All files of the batch have come, or its count was another."""

    status = 409
    code = "batch_closed"
    title = "Batch closed"


class UploadGone(Problem):
    """The upload was not finished in time and has been dropped."""

    status = 410
    code = "upload_expired"
    title = "Upload expired"

    def __init__(self) -> None:
        super().__init__("The upload was not finished in time; start it again.")


class UploadBusy(Problem):
    """Another request is writing to the same upload."""

    status = 423
    code = "upload_busy"
    title = "Upload in use"

    def __init__(self) -> None:
        super().__init__("Another request is writing to this upload; ask where it stands and go on from there.")


class WrongProtocol(Problem):
    """The client speaks another version of the upload protocol."""

    status = 412
    code = "wrong_protocol"
    title = "Wrong protocol version"

    def __init__(self) -> None:
        super().__init__("This server speaks tus 1.0.0; send the header Tus-Resumable: 1.0.0.")


class WrongContent(Problem):
    """A chunk is not announced as one."""

    status = 415
    code = "wrong_content_type"
    title = "Wrong content type"

    def __init__(self) -> None:
        super().__init__("A chunk has the content type application/offset+octet-stream.")


class RangeInvalid(Problem):
    """A part of a file was asked for that does not exist."""

    status = 416
    code = "range_not_satisfiable"
    title = "No such range"

    def __init__(self, size: int) -> None:
        self.headers = {"Content-Range": f"bytes */{size}"}
        super().__init__(f"The file has {size} bytes.")


class StorageFull(Problem):
    """There is no room for more."""

    status = 507
    code = "storage_full"
    title = "Storage full"

    def __init__(self) -> None:
        super().__init__("The server has no room for it; nothing was kept. Try again later, or tell the operator.")


class StorageFailed(Problem):
    """The storage does not answer, or refuses to be written."""

    status = 503
    code = "storage_unavailable"
    title = "Storage unavailable"

    def __init__(self) -> None:
        super().__init__("The server's storage cannot be used at the moment; nothing was kept. Try again later.")


class StoredFileDamaged(Problem):
    """A stored file is missing, cut short, or does not have its digest any more."""

    status = 500
    code = "stored_file_damaged"
    title = "Stored file damaged"

    def __init__(self) -> None:
        super().__init__("The stored file is damaged, so it is not shown. Tell the operator: verify_storage finds it.")
