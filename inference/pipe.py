"""What parent and child of the isolated analysis say to each other: one JSON line each, over two pipes.

Scans and masks go through files; only names, figures and small previews travel here. JSON, because the child
reads strangers' files: whatever takes it over can say these words to its parent and nothing else.
"""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import msgspec
import numpy as np

from inference.contract import (
    Grid,
    InputFile,
    ModelRef,
    Order,
    Outcome,
    PackedVolume,
    Preview,
    Progress,
    Sequence,
    Stage,
)
from inference.errors import (
    Cancelled,
    DeviceUnavailable,
    DiskFailed,
    InferenceError,
    InputInvalid,
    ModelError,
    ModelMissing,
    OutOfMemory,
    Unforeseen,
)

MAX_LINE_BYTES = 8 << 20
"""A preview of 64 voxels an axis has 350 kB at most."""
_MAX_PREVIEW_BYTES = 1 << 22


class _Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", forbid_unknown_fields=True):
    """One line in either direction."""


class Begin(_Line, frozen=True, tag="begin"):
    """Parent -> child: do this order."""

    id: str
    roles: tuple[Sequence, ...]
    paths: tuple[str, ...]
    packed: tuple[PackedVolume, ...]
    shape: tuple[int, int, int]
    affine: tuple[float, ...]
    model: ModelRef | None
    output: str


class Stop(_Line, frozen=True, tag="stop"):
    """Parent -> child: give up this order."""

    id: str


class Ready(_Line, frozen=True, tag="ready"):
    """Child -> parent: the default model is loaded on this device, and has run once."""

    device: str


class Alive(_Line, frozen=True, tag="alive"):
    """Child -> parent: the process still gets time to run; says nothing about the analysis."""


class Moved(_Line, frozen=True, tag="moved"):
    """Child -> parent: a stage has come this far."""

    stage: Stage
    fraction: float
    eta_seconds: float | None = None


class Shown(_Line, frozen=True, tag="shown"):
    """Child -> parent: the labels so far; `labels` is C-order uint8, deflated, in base64."""

    shape: tuple[int, int, int]
    affine: tuple[float, ...]
    labels: str


class Done(_Line, frozen=True, tag="done"):
    """Child -> parent: the mask is in its file."""

    outcome: Outcome


class Failed(_Line, frozen=True, tag="failed"):
    """Child -> parent: there will be no mask, and why."""

    family: str
    code: str
    sentence: str


ToChild = Begin | Stop
FromChild = Ready | Alive | Moved | Shown | Done | Failed

_encoder = msgspec.json.Encoder()
_to_child: msgspec.json.Decoder[ToChild] = msgspec.json.Decoder(ToChild)
_from_child: msgspec.json.Decoder[FromChild] = msgspec.json.Decoder(FromChild)


def line_of(message: ToChild | FromChild) -> bytes:
    """The message as one line, newline included."""
    return _encoder.encode(message) + b"\n"


def read_to_child(line: bytes) -> ToChild:
    """Raises msgspec.DecodeError or msgspec.ValidationError if the line is no message of the parent's."""
    return _to_child.decode(line)


def read_from_child(line: bytes) -> FromChild:
    """Raises msgspec.DecodeError or msgspec.ValidationError if the line is no message of the child's."""
    return _from_child.decode(line)


def begin(order: Order) -> Begin:
    """The order as a message."""
    return Begin(
        id=order.id,
        roles=tuple(given.role for given in order.inputs),
        paths=tuple(str(given.path) for given in order.inputs),
        packed=tuple(given.packed for given in order.inputs),
        shape=order.grid.shape,
        affine=_by_rows(order.grid),
        model=order.model,
        output=str(order.output),
    )


def order_of(message: Begin) -> Order:
    """The order in a message."""
    given = zip(message.roles, message.paths, message.packed, strict=True)
    return Order(
        id=message.id,
        inputs=tuple(InputFile(role=role, path=Path(path), packed=packed) for role, path, packed in given),
        grid=_grid(message.shape, message.affine),
        model=message.model,
        output=Path(message.output),
    )


def telling(news: Progress | Preview) -> Moved | Shown:
    """The news as a message."""
    if isinstance(news, Progress):
        return Moved(stage=news.stage, fraction=news.fraction, eta_seconds=news.eta_seconds)
    labels = base64.b64encode(zlib.compress(np.ascontiguousarray(news.labels).tobytes(), level=1))
    return Shown(shape=news.grid.shape, affine=_by_rows(news.grid), labels=labels.decode())


def news_of(message: Moved | Shown) -> Progress | Preview:
    """The news in a message. Raises ValueError if a preview is not what it says it is."""
    if isinstance(message, Moved):
        return Progress(stage=message.stage, fraction=message.fraction, eta_seconds=message.eta_seconds)
    raw = zlib.decompressobj().decompress(base64.b64decode(message.labels), _MAX_PREVIEW_BYTES)
    labels = np.frombuffer(raw, dtype=np.uint8).reshape(message.shape)
    return Preview(labels=labels, grid=_grid(message.shape, message.affine))


def failed(error: InferenceError) -> Failed:
    """The failure as a message."""
    return Failed(family=error.family, code=error.code, sentence=str(error))


def error_of(message: Failed) -> InferenceError:
    """The failure in a message, as the class a caller can tell apart."""
    if message.family == InputInvalid.family:
        return InputInvalid(message.code, message.sentence)
    kinds: dict[str, type[InferenceError]] = {
        OutOfMemory.code: OutOfMemory,
        DeviceUnavailable.code: DeviceUnavailable,
        DiskFailed.code: DiskFailed,
        Unforeseen.code: Unforeseen,
        Cancelled.code: Cancelled,
    }
    if message.code in kinds:
        return kinds[message.code](message.sentence)
    if message.code == ModelMissing.code:
        return ModelMissing(sentence=message.sentence)
    kind = ModelError if message.family == ModelError.family else InferenceError
    return kind(message.sentence, code=message.code)


def _by_rows(grid: Grid) -> tuple[float, ...]:
    return tuple(float(number) for number in np.asarray(grid.affine).ravel())


def _grid(shape: tuple[int, int, int], affine: tuple[float, ...]) -> Grid:
    return Grid(shape=shape, affine=np.asarray(affine, dtype=np.float64).reshape(4, 4))
