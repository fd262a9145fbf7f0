"""Requests to the uploads that no client of ours makes: each gets a code, and nothing of it stays."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from server.imaging.models import Upload
from tests.bad_input.uploads.niftis import good
from tests.bad_input.uploads.test_files import stored

pytestmark = pytest.mark.django_db

UPLOADS, TUS = "/api/mri/uploads/", "/api/mri/uploads/tus/"
MULTIPART = "multipart/form-data; boundary=b"
CHUNK = "application/offset+octet-stream"


def part(name: str, content: bytes = b"x", *, field: str = "files", headers: bytes = b"") -> bytes:
    """One part of a multipart form."""
    disposition = f'Content-Disposition: form-data; name="{field}"; filename="{name}"\r\n'.encode()
    return b"--b\r\n" + disposition + headers + b"\r\n" + content + b"\r\n"


END = b"--b--\r\n"
REQUESTS: dict[str, tuple[bytes, str, int, str]] = {
    "no body": (b"", MULTIPART, 422, "invalid_request"),
    "no boundary": (part("a.nii") + END, "multipart/form-data", 400, "bad_request"),
    "a boundary of 10,000 letters": (
        part("a.nii") + END,
        f"multipart/form-data; boundary={'b' * 10_000}",
        400,
        "bad_request",
    ),
    "another boundary": (part("a.nii") + END, "multipart/form-data; boundary=c", 422, "invalid_request"),
    "noise": (bytes(range(256)) * 40, MULTIPART, 400, "bad_request"),
    "no end": (part("a.nii")[:-4], MULTIPART, 422, "invalid_request"),
    "JSON": (b'{"files": ["a"]}', "application/json", 422, "invalid_request"),
    "a form without files": (b"files=a", "application/x-www-form-urlencoded", 422, "invalid_request"),
    "another field": (part("a.nii", field="file") + END, MULTIPART, 422, "invalid_request"),
    "a field in place of a file": (
        b'--b\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n' + END,
        MULTIPART,
        422,
        "invalid_request",
    ),
    "an empty file": (part("a.nii", b"") + END, MULTIPART, 422, "nothing_readable"),
    "base64 that is none": (
        part("a.nii", b"@@@", headers=b"Content-Transfer-Encoding: base64\r\n") + END,
        MULTIPART,
        400,
        "bad_request",
    ),
    "2,001 files": (b"".join(part("a.nii") for _ in range(2001)) + END, MULTIPART, 400, "bad_request"),
    "2,000 fields": (
        b"".join(part("", field=str(place)) for place in range(2000)) + END,
        MULTIPART,
        400,
        "bad_request",
    ),
    "a header of 100 KB": (
        part("a.nii", headers=b"X-Long: " + b"x" * 100_000 + b"\r\n") + END,
        MULTIPART,
        400,
        "bad_request",
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_broken_request(client, data_dir, name):
    body, kind, status, code = REQUESTS[name]
    before = stored(data_dir)

    answer = client.generic("POST", UPLOADS, body, content_type=kind)

    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json"), answer.content[:500]
    assert answer.json()["code"] == code
    assert stored(data_dir) == before


NAMES = (
    "../../../etc/cron.d/x.nii",
    "/etc/cron.d/x.nii",
    "..\\..\\x.nii",
    "x\\0.nii",
    "\x1b[2J.nii",
    "<script>alert(1)</script>.nii",
    "뇌종양.nii",
    "n" * 5000 + ".nii",
    "....",
    " ",
    "CON",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_leads_nowhere_and_is_shown_as_text(client, data_dir, name):
    answer = client.generic("POST", UPLOADS, part(name, good()) + END, content_type=MULTIPART)

    assert answer.status_code in (201, 400, 422), answer.content[:500]
    assert all(path.is_relative_to(data_dir) for path in data_dir.rglob("*"))
    kept = {path.name for path in data_dir.rglob("*") if path.is_file()}
    assert kept <= {"volume.nii.gz", "artifact"}
    if answer.status_code == 201:
        shown = answer.json()["studies"][0]["series"][0]["description"]
        assert shown.isprintable()
        assert "/" not in shown


def test_the_same_part_twice_is_one_series(client):
    answer = client.generic("POST", UPLOADS, (part("t1.nii", good()) * 2) + END, content_type=MULTIPART)

    assert answer.status_code == 201
    assert len({series["id"] for series in answer.json()["studies"][0]["series"]}) == 1


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def tus(**headers: str) -> dict[str, str]:
    return {"Tus-Resumable": "1.0.0", **{name.replace("_", "-"): value for name, value in headers.items()}}


CREATIONS: dict[str, tuple[dict[str, str], int, str]] = {
    "no version": ({"Upload-Length": "10"}, 412, "wrong_protocol"),
    "another version": ({"Tus-Resumable": "0.2.2", "Upload-Length": "10"}, 412, "wrong_protocol"),
    "no length": (tus(), 400, "upload_invalid"),
    "a length that is to come": (tus(Upload_Defer_Length="1"), 400, "upload_invalid"),
    "a length of nothing": (tus(Upload_Length="0"), 400, "upload_invalid"),
    "a length below nothing": (tus(Upload_Length="-1"), 400, "upload_invalid"),
    "a length that is no number": (tus(Upload_Length="ten"), 400, "upload_invalid"),
    "a length in other digits": (tus(Upload_Length="\u0661\u0660"), 400, "upload_invalid"),
    "a length with an exponent": (tus(Upload_Length="1e3"), 400, "upload_invalid"),
    "a length of a hundred digits": (tus(Upload_Length="9" * 100), 400, "upload_invalid"),
    "10 GB": (tus(Upload_Length=str(10 << 30)), 413, "too_large"),
    "metadata that is no base64": (tus(Upload_Length="10", Upload_Metadata="filename ***"), 400, "upload_invalid"),
    "metadata of half a character": (
        tus(Upload_Length="10", Upload_Metadata="filename " + base64_of(b"\xff\xfe")),
        400,
        "upload_invalid",
    ),
    "metadata with a null": (
        tus(Upload_Length="10", Upload_Metadata="filename " + base64_of(b"a\0b")),
        400,
        "upload_invalid",
    ),
    "a batch without a count": (
        tus(Upload_Length="10", Upload_Metadata="batch " + base64_of(b"b1")),
        400,
        "upload_invalid",
    ),
    "a batch that is a path": (
        tus(Upload_Length="10", Upload_Metadata=f"batch {base64_of(b'../b')},batch_count {base64_of(b'1')}"),
        400,
        "upload_invalid",
    ),
    "a batch of a billion": (
        tus(Upload_Length="10", Upload_Metadata=f"batch {base64_of(b'b')},batch_count {base64_of(b'1000000000')}"),
        400,
        "upload_invalid",
    ),
}


@pytest.mark.parametrize("name", CREATIONS)
def test_an_upload_that_is_not_begun(client, data_dir, name):
    headers, status, code = CREATIONS[name]
    before = stored(data_dir)

    answer = client.post(TUS, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert stored(data_dir) == before


HALF = b"01234"
CHUNKS: dict[str, tuple[dict[str, str], bytes, int, str]] = {
    "no version": ({"Upload-Offset": "5"}, HALF, 412, "wrong_protocol"),
    "no offset": (tus(), HALF, 400, "upload_invalid"),
    "an offset before": (tus(Upload_Offset="0"), HALF, 409, "offset_mismatch"),
    "an offset behind": (tus(Upload_Offset="6"), HALF, 409, "offset_mismatch"),
    "an offset beyond the end": (tus(Upload_Offset="999999999999999"), HALF, 409, "offset_mismatch"),
    "an offset below nothing": (tus(Upload_Offset="-5"), HALF, 400, "upload_invalid"),
    "a chunk that is too long": (tus(Upload_Offset="5"), HALF + b"5", 413, "too_large"),
    "another chunk than its checksum": (
        tus(Upload_Offset="5", Upload_Checksum=f"sha256 {base64_of(hashlib.sha256(b'x').digest())}"),
        HALF,
        460,
        "checksum_mismatch",
    ),
    "half a checksum": (tus(Upload_Offset="5", Upload_Checksum="sha256 AAAA"), HALF, 400, "upload_invalid"),
    "a checksum of no kind": (tus(Upload_Offset="5", Upload_Checksum="crc32 AAAA"), HALF, 400, "upload_invalid"),
    "a checksum that is no base64": (tus(Upload_Offset="5", Upload_Checksum="sha256 *"), HALF, 400, "upload_invalid"),
    "a checksum without a value": (tus(Upload_Offset="5", Upload_Checksum="sha256"), HALF, 400, "upload_invalid"),
}


@pytest.fixture
def half_way(client) -> str:
    """The address of an upload of ten bytes that has five."""
    location = client.post(TUS, headers=tus(Upload_Length="10"))["Location"]
    sent = client.patch(location, HALF, content_type=CHUNK, headers=tus(Upload_Offset="0"))
    assert sent.status_code == 204
    return location


@pytest.mark.parametrize("name", CHUNKS)
def test_a_chunk_that_does_not_count(client, data_dir, half_way, name):
    headers, chunk, status, code = CHUNKS[name]
    before = stored(data_dir)

    answer = client.patch(half_way, chunk, content_type=CHUNK, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert client.head(half_way, headers=tus())["Upload-Offset"] == "5"
    assert stored(data_dir) == before


@pytest.mark.parametrize("kind", ["application/octet-stream", "multipart/form-data", ""])
def test_a_chunk_that_is_not_announced_as_one(client, half_way, kind):
    answer = client.generic("PATCH", half_way, HALF, content_type=kind, headers=tus(Upload_Offset="5"))

    assert (answer.status_code, answer.json()["code"]) == (415, "wrong_content_type")


@pytest.mark.parametrize("method", ["head", "patch", "delete"])
def test_another_users_upload_is_not_there(client, stranger, half_way, method):
    client.force_login(stranger)
    body: dict[str, Any] = {"data": HALF, "content_type": CHUNK} if method == "patch" else {}

    answer = getattr(client, method)(half_way, headers=tus(Upload_Offset="5"), **body)

    assert answer.status_code == 404
    assert Upload.objects.get().offset == 5


@pytest.mark.parametrize("name", ["..", "%2e%2e", "a" * 3000, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "%00", "%ff"])
def test_an_upload_of_another_name_is_not_there(client, half_way, name):
    answer = client.head(f"{TUS}{name}", headers=tus())

    assert answer.status_code in (404, 405)


def test_a_method_in_disguise_is_not_obeyed(client, half_way):
    """tus 1.0 lets a POST be another method by a header; nobody needs it here, and it would pass by every filter."""
    answer = client.post(half_way, headers=tus(X_HTTP_Method_Override="DELETE"))

    assert answer.status_code == 405
    assert Upload.objects.count() == 1
