"""Archives that are not what they seem: `name: (bytes, the code that is answered)`."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Callable

_SMALL = b"nothing to see"
_CENTRAL, _LOCAL = b"PK\x01\x02", b"PK\x03\x04"


def _zip(members: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def _link() -> bytes:
    member = zipfile.ZipInfo("link.dcm")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(member, "/etc/passwd")
    return out.getvalue()


def _patched(content: bytes, mark: bytes, offset: int, change: bytes) -> bytes:
    place = content.rindex(mark) + offset
    return content[:place] + change + content[place + len(change) :]


def _claiming(size: int) -> bytes:
    """The directory says the member is this long once unpacked (APPNOTE 4.3.12, 4.5.3: zip64 in the extra field)."""
    name, extra = b"a.dcm", struct.pack("<HHQQ", 1, 16, size, len(_SMALL))
    local = _LOCAL + struct.pack("<5H3L2H", 45, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, len(name), len(extra))
    central = _CENTRAL + struct.pack(
        "<6H3L5H2L", 45, 45, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, len(name), len(extra), 0, 0, 0, 0, 0
    )
    body = local + name + extra + _SMALL
    directory = central + name + extra
    end = b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 1, 1, len(directory), len(body), 0)
    return body + directory + end


def _with_wrong_sum() -> bytes:
    content = _zip({"a.dcm": _SMALL}, method=zipfile.ZIP_STORED)
    return content.replace(_SMALL, b"n0thing to see")


def _nested(depth: int) -> bytes:
    content = _zip({"a.dcm": bytes(1 << 20)})
    for level in range(depth):
        content = _zip({f"{level}.zip": content})
    return content


ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a thousandfold": (lambda: _zip({f"{place}.dcm": bytes(8 << 20) for place in range(4)}), "archive_too_large"),
    "an archive in an archive in an archive": (lambda: _nested(3), "not_an_image"),
    "a name that climbs": (lambda: _zip({"../../up.dcm": _SMALL}), "archive_unsafe"),
    "an absolute name": (lambda: _zip({"/etc/cron.d/up.dcm": _SMALL}), "archive_unsafe"),
    "a name that climbs as Windows does": (lambda: _zip({"a\\..\\..\\up.dcm": _SMALL}), "archive_unsafe"),
    "a link": (_link, "archive_unsafe"),
    "encrypted": (lambda: _patched(_zip({"a.dcm": _SMALL}), _CENTRAL, 8, b"\x01"), "archive_encrypted"),
    "20,001 members": (lambda: _zip({f"{place}.dcm": b"" for place in range(20_001)}), "archive_too_large"),
    "cut off": (lambda: _zip({"a.dcm": bytes(range(256)) * 64})[:-30], "archive_damaged"),
    "only its first bytes": (lambda: _LOCAL, "archive_damaged"),
    "a directory that claims a terabyte": (lambda: _claiming(1 << 40), "archive_damaged"),
    "a directory that claims nothing": (
        lambda: _patched(_zip({"a.dcm": _SMALL}), _CENTRAL, 24, b"\0\0\0\0"),
        "archive_damaged",
    ),
    "a wrong checksum": (_with_wrong_sum, "archive_damaged"),
    "another name inside than outside": (
        lambda: _patched(_zip({"a.dcm": _SMALL}), _CENTRAL, 46, b"b"),
        "archive_damaged",
    ),
    "an unknown method": (lambda: _patched(_zip({"a.dcm": _SMALL}), _CENTRAL, 10, b"\x63"), "archive_damaged"),
    "bzip2": (lambda: _zip({"a.dcm": _SMALL}, method=zipfile.ZIP_BZIP2), "archive_damaged"),
    "members of no bytes": (lambda: _zip({"a.dcm": b"", "b.nii": b""}), "not_an_image"),
    "names of 60,000 letters": (lambda: _zip({"a" * 60_000: _SMALL}), "not_an_image"),
    "names that steer a terminal": (lambda: _zip({"\x1b[2J\r\n<script>.nii": _SMALL}), "not_an_image"),
    "without a member": (lambda: _zip({}), "not_an_image"),
    "a pickle": (lambda: _zip({"archive/data.pkl": b"\x80\x02cos\nsystem\n."}), "not_an_image"),
}
