"""What can be wrong with a frame, and the codes that a connection is closed with.

ProtocolError
├── UnknownType      a type that this side does not know: answered, never fatal
├── BadFrame         not JSON, or the fields are off: fatal (4503)
└── FrameTooLarge    over the limit: never sent; fatal when it arrives (4503)
"""

from enum import IntEnum


class CloseCode(IntEnum):
    """Close codes: 4000-4499 come back by yourself, 4500-4999 do not."""

    GOING_AWAY = 4000
    HEARTBEAT_LOST = 4408
    SUPERSEDED = 4409
    TOO_SLOW = 4413
    TOO_MANY_MESSAGES = 4429
    BAD_AUTH = 4501
    PROTOCOL_ERROR = 4503
    UNSUPPORTED_VERSION = 4506
    REVOKED = 4510
    ALREADY_CONNECTED = 4511

    @property
    def may_reconnect(self) -> bool:
        """Whether the other side may come back without a person's doing."""
        return self < 4500


class ProtocolError(Exception):
    """Something about a frame is wrong."""

    code = "protocol_error"


class UnknownType(ProtocolError):
    """The frame is sound and its type is not known here; `re` is its id."""

    code = "unknown_type"

    def __init__(self, tag: str, *, re: int) -> None:
        self.tag = tag
        self.re = re
        super().__init__(f"unknown message type {tag!r}")


class BadFrame(ProtocolError):
    """The frame is no message: not JSON, not UTF-8, a wrong field, or nested too deeply."""

    code = "bad_frame"


class FrameTooLarge(ProtocolError):
    """The frame is longer than a control message may be."""

    code = "frame_too_large"

    def __init__(self, size: int, *, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(f"a message of {size} bytes is over the limit of {limit}")
