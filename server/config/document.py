"""The OpenAPI document: what the framework knows of the operations, and what it cannot see in them.

It knows paths, parameters and JSON answers. Files, resumable uploads and refusals are answered by hand, so they are
described here; a fuzzer holds the document against the server (tests/security/test_document.py).
"""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any

from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema

from server.config.problems import CONTENT_TYPE

Json = dict[str, Any]

TEXT, NUMBER, WHOLE, FLAG = {"type": "string"}, {"type": "number"}, {"type": "integer"}, {"type": "boolean"}
MAYBE_TEXT, MAYBE_WHOLE = {"type": ["string", "null"]}, {"type": ["integer", "null"]}
BINARY = {"type": "string", "format": "binary"}


def _object(required: Json, *, is_open: bool = False) -> Json:
    return {"type": "object", "properties": required, "required": list(required), "additionalProperties": is_open}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


SCHEMAS: Json = {
    "Problem": _object(
        {"type": TEXT, "title": TEXT, "status": WHOLE, "detail": TEXT, "code": TEXT},
        is_open=True,
    ),
    "Series": _object(
        {
            "id": TEXT,
            "study": TEXT,
            "uid": TEXT,
            "part": WHOLE,
            "revision": WHOLE,
            "is_current": FLAG,
            "number": MAYBE_WHOLE,
            "description": TEXT,
            "modality": TEXT,
            "sequence": {"enum": ["T1", "T1CE", "T2", "FLAIR", None]},
            "sequence_confidence": NUMBER,
            "shape": _list(WHOLE),
            "spacing_mm": _list(NUMBER),
            "source": {"enum": ["dicom", "nifti"]},
            "volume_url": TEXT,
            "volume_size": WHOLE,
        },
        is_open=True,
    ),
    "Study": _object(
        {
            "id": TEXT,
            "uid": TEXT,
            "patient_name": TEXT,
            "patient_id": TEXT,
            "study_date": MAYBE_TEXT,
            "description": TEXT,
            "source": {"enum": ["dicom", "nifti"]},
            "created_at": TEXT,
            "series": _list(_ref("Series")),
        },
        is_open=True,
    ),
    "Studies": _object({"studies": _list(_ref("Study")), "count": WHOLE}),
    "Ingested": _object({"studies": _list(_ref("Study")), "refused": _list({"type": "object"})}),
    "Batch": _object(
        {
            "state": {"enum": ["receiving", "ingesting", "done", "failed"]},
            "studies": _list({"type": "object"}),
            "refused": _list({"type": "object"}),
        }
    ),
    "Exchange": {
        "type": "object",
        "properties": {"session": MAYBE_TEXT, "ack": MAYBE_WHOLE, "frames": _list({"type": "object"})},
    },
}
DATA_TOKEN = {"DataToken": {"type": "http", "scheme": "bearer", "description": "Of one attempt; comes with its offer."}}


def _answer(schema: Json | None = None, *, kind: str = "application/json") -> Json:
    return {"description": "OK", "content": {kind: {"schema": schema}}} if schema else {"description": "OK"}


def _file(kind: str) -> Json:
    whole = {"type": "object"} if kind == "application/json" else BINARY
    return {
        "200": _answer(whole, kind=kind),
        "206": _answer(BINARY, kind=kind),
        "302": {"description": "The file lies in the object storage; the link is good for minutes."},
        "304": {"description": "The client has it already."},
    }


def _header(name: str, schema: Json, *, is_required: bool = True) -> Json:
    return {"in": "header", "name": name, "required": is_required, "schema": schema}


JOB, TUS, WORKER = "/api/mri/segmentation/jobs/{job_id}/", "/api/mri/uploads/tus/", "/api/worker/"
FILES = {
    JOB + "mask.nii.gz": "application/gzip",
    JOB + "mask.dcm": "application/dicom",
    JOB + "report.json": "application/json",
    "/api/mri/series/{series_id}/volume.nii.gz": "application/gzip",
    WORKER + "artifacts/{artifact_id}": "application/octet-stream",
}
NOTHING = {"description": "Done; the headers say the rest."}
RESPONSES: dict[tuple[str, str], Json] = {
    ("post", "/api/mri/uploads/"): {"201": _answer(_ref("Ingested"))},
    ("get", "/api/mri/uploads/batches/{batch}/"): {"200": _answer(_ref("Batch"))},
    ("get", "/api/mri/studies/"): {"200": _answer(_ref("Studies"))},
    ("get", "/api/mri/studies/{study_id}/"): {"200": _answer(_ref("Study"))},
    ("get", "/api/mri/series/{series_id}/"): {"200": _answer(_ref("Series"))},
    ("options", TUS): {"204": NOTHING},
    ("post", TUS): {"201": NOTHING},
    ("head", TUS + "{upload_id}"): {"200": NOTHING},
    ("patch", TUS + "{upload_id}"): {"204": NOTHING},
    ("delete", TUS + "{upload_id}"): {"204": NOTHING},
    ("post", WORKER + "sync/"): {"200": _answer(_ref("Exchange"))},
    ("post", WORKER + "uploads/"): {"201": NOTHING},
    ("head", WORKER + "uploads/{upload_id}"): {"200": NOTHING},
    ("patch", WORKER + "uploads/{upload_id}"): {"204": NOTHING},
    **{("get", path): _file(kind) for path, kind in FILES.items()},
    **{("head", path): _file(kind) for path, kind in FILES.items()},
}
_VERSION = _header("Tus-Resumable", {"const": "1.0.0"})
_LENGTH, _OFFSET = (_header(name, {"type": "integer", "minimum": 0}) for name in ("Upload-Length", "Upload-Offset"))
_METADATA = _header("Upload-Metadata", TEXT, is_required=False)
PARAMETERS: dict[tuple[str, str], list[Json]] = {
    ("post", TUS): [_VERSION, _LENGTH, _METADATA],
    ("head", TUS + "{upload_id}"): [_VERSION],
    ("patch", TUS + "{upload_id}"): [_VERSION, _OFFSET],
    ("delete", TUS + "{upload_id}"): [_VERSION],
    ("post", WORKER + "uploads/"): [_LENGTH, _METADATA],
    ("patch", WORKER + "uploads/{upload_id}"): [_OFFSET],
    ("post", "/api/mri/segmentation/series/{series_id}/segment/"): [
        _header("Prefer", TEXT, is_required=False),
        _header("Idempotency-Key", TEXT, is_required=False),
    ],
}
_CHUNK = {"content": {"application/offset+octet-stream": {"schema": BINARY}}}
BODIES: dict[tuple[str, str], Json] = {
    ("patch", TUS + "{upload_id}"): _CHUNK,
    ("patch", WORKER + "uploads/{upload_id}"): _CHUNK,
    ("post", WORKER + "sync/"): {"content": {"application/json": {"schema": _ref("Exchange")}}},
}
REFUSED = {"description": "Refused", "content": {CONTENT_TYPE: {"schema": _ref("Problem")}}}


class DescribedAPI(NinjaAPI):
    """The API whose document is made once and says what is answered by hand."""

    def get_openapi_schema(self, **_: Any) -> OpenAPISchema:
        """The document."""
        return self._document

    @cached_property
    def _document(self) -> OpenAPISchema:
        document = super().get_openapi_schema(path_params={})
        document["components"]["schemas"].update(SCHEMAS)
        document["components"]["securitySchemes"].update(DATA_TOKEN)
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                methods[method] = _described(copy.deepcopy(operation), method=method, path=path)
        return document


def _described(operation: Json, *, method: str, path: str) -> Json:
    key = (method, path)
    answers = copy.deepcopy(RESPONSES.get(key, operation["responses"]))
    if method == "head":
        # The name is the same as that of the GET beside it, and there is no body.
        operation["operationId"] += "_head"
        answers = {status: {"description": answer["description"]} for status, answer in answers.items()}
    operation["responses"] = {**answers, "default": {"description": "Refused"} if method == "head" else REFUSED}
    operation["parameters"] = [*operation.get("parameters", []), *PARAMETERS.get(key, [])]
    if key in BODIES:
        operation["requestBody"] = BODIES[key]
    if path.startswith((WORKER + "artifacts", WORKER + "uploads")):
        operation["security"] = [{"DataToken": []}]
    return operation
