"""Frames to messages and back: JSON by msgspec, typed and bounded."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from worker_client.protocol.errors import BadFrame, FrameTooLarge, UnknownType
from worker_client.protocol.messages import FromServer, FromWorker, Message

MAX_FRAME_BYTES = 65536

_encoder = msgspec.json.Encoder()
_from_server: msgspec.json.Decoder[FromServer] = msgspec.json.Decoder(FromServer)
_from_worker: msgspec.json.Decoder[FromWorker] = msgspec.json.Decoder(FromWorker)


class _Head(msgspec.Struct):
    t: str
    id: int = 0


_head = msgspec.json.Decoder(_Head)
_FROM_SERVER_TAGS = frozenset(str(kind.__struct_config__.tag) for kind in FromServer.__args__)
_FROM_WORKER_TAGS = frozenset(str(kind.__struct_config__.tag) for kind in FromWorker.__args__)

M = TypeVar("M")


def encode(message: Message, *, limit: int = MAX_FRAME_BYTES) -> str:
    """The text frame of a message.

    Raises FrameTooLarge: the other side's socket would be cut without a code, so it is never sent.
    """
    frame = _encoder.encode(message)
    if len(frame) > limit:
        raise FrameTooLarge(len(frame), limit=limit)
    return frame.decode()


def decode_from_server(frame: str | bytes) -> FromServer:
    """A message that a worker may receive. Raises FrameTooLarge, UnknownType, BadFrame."""
    return _decode(frame, _from_server, _FROM_SERVER_TAGS)


def decode_from_worker(frame: str | bytes) -> FromWorker:
    """A message that a server may receive. Raises FrameTooLarge, UnknownType, BadFrame."""
    return _decode(frame, _from_worker, _FROM_WORKER_TAGS)


def _decode(frame: str | bytes, decoder: msgspec.json.Decoder[M], tags: frozenset[str]) -> M:
    try:
        octets = frame.encode() if isinstance(frame, str) else frame
    except UnicodeEncodeError as error:
        raise BadFrame("the frame is not valid Unicode") from error
    if len(octets) > MAX_FRAME_BYTES:
        raise FrameTooLarge(len(octets), limit=MAX_FRAME_BYTES)
    try:
        return decoder.decode(octets)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _reason(octets, tags, error) from error


def _reason(octets: bytes, tags: frozenset[str], error: Exception) -> UnknownType | BadFrame:
    try:
        head: Any = _head.decode(octets)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return BadFrame(str(error))
    if head.t not in tags:
        return UnknownType(head.t, re=head.id)
    return BadFrame(str(error))
