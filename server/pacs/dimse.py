"""An archive that speaks DIMSE (PS3.7): C-ECHO and C-STORE, by pynetdicom. `dicom://AET@host:port`.

Searching and fetching go by DICOMweb: a C-MOVE needs the archive to call back, which it cannot through NAT.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from server.pacs.archives import Allowance, Parcel
from server.pacs.criteria import Criteria
from server.pacs.errors import ArchiveAway, ArchiveBusy, ArchiveDenied, ArchiveRefused, CannotSearch
from server.pacs.findings import FoundSeries, FoundStudy
from server.pacs.place import NoPlace

if TYPE_CHECKING:
    from pynetdicom.association import Association

VERIFICATION = "1.2.840.10008.1.1"
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
_AET = re.compile(r"[\x21-\x5b\x5d-\x7e][\x20-\x5b\x5d-\x7e]{0,15}")
# PS3.8, table 9-21: source and reason of a rejection that says "not by this name".
_NAMES_UNKNOWN = frozenset({3, 7})
_DUPLICATE = 0x0111


@dataclass(frozen=True)
class Peer:
    """An application entity by its title, host and port."""

    aet: str
    host: str
    port: int


def peer_of(url: str) -> Peer:
    """The entity that `dicom://AET@host:port` names. Raises NoPlace."""
    sentence = "the address is not of the form dicom://AET@host:port"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise NoPlace(sentence) from None
    aet = unquote(parts.username or "")
    if parts.scheme != "dicom" or not parts.hostname or not port or not is_aet(aet) or parts.path.strip("/"):
        raise NoPlace(sentence)
    return Peer(aet=aet, host=parts.hostname, port=port)


def is_aet(text: str) -> bool:
    """Whether it is a title of an application entity (PS3.5, 6.2: AE)."""
    return _AET.fullmatch(text) is not None


class Dimse:
    """`server.pacs.archives.Archive`, as far as it goes over associations."""

    def __init__(self, *, url: str, calling_aet: str) -> None:
        self._peer = peer_of(url)
        self._calling_aet = calling_aet

    def __enter__(self) -> Dimse:
        return self

    def __exit__(self, *_: object) -> None:
        """An association lasts as long as one request."""

    def test(self) -> str:
        """C-ECHO."""
        association = self._associated([(VERIFICATION, [])])
        try:
            status = association.send_c_echo()
        finally:
            association.release()
        if "Status" not in status or status.Status != 0x0000:
            raise ArchiveBusy("The archive did not answer C-ECHO with success.")
        return "It answers C-ECHO."

    def store(self, parcel: Parcel) -> None:
        """C-STORE of one object, in the transfer syntax it is written in."""
        from pydicom import dcmread

        dataset = dcmread(BytesIO(parcel.content))
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        association = self._associated([(str(dataset.SOPClassUID), [syntax])])
        try:
            if not association.accepted_contexts:
                raise ArchiveRefused("The archive does not take this kind of object.")
            status = association.send_c_store(dataset)
        except ValueError as error:
            raise ArchiveRefused("The archive does not take this kind of object.") from error
        finally:
            association.release()
        _check_stored(status)

    def search(self, criteria: Criteria, *, limit: int) -> list[FoundStudy]:
        raise CannotSearch

    def new_studies(self, *, since: str, limit: int) -> list[FoundStudy]:
        raise CannotSearch

    def changed_studies(self, *, after: int) -> tuple[list[str], int]:
        raise CannotSearch

    def study(self, study_uid: str) -> FoundStudy | None:
        raise CannotSearch

    def series_of(self, study_uid: str) -> list[FoundSeries]:
        raise CannotSearch

    def fetch(self, study_uid: str, series_uid: str, *, into: Path, allowance: Allowance) -> int:
        raise CannotSearch

    def _associated(self, contexts: list[tuple[str, list[str]]]) -> Association:
        from pynetdicom import AE

        entity = AE(ae_title=self._calling_aet)
        entity.connection_timeout, entity.acse_timeout = CONNECT_SECONDS, CONNECT_SECONDS
        entity.dimse_timeout = entity.network_timeout = ANSWER_SECONDS
        for abstract, syntaxes in contexts:
            entity.add_requested_context(abstract, syntaxes or None)
        association = entity.associate(self._peer.host, self._peer.port, ae_title=self._peer.aet)
        if association.is_established:
            return association
        if association.is_rejected:
            raise _rejection(association)
        if association.is_aborted and association.acceptor.primitive is not None:
            raise ArchiveRefused("The archive does not take this kind of object.")
        raise ArchiveAway("No connection to the archive, or it was lost.")


def _rejection(association: Association) -> ArchiveAway | ArchiveDenied:
    """Temporary (PS3.8, 9.3.4: result 2) or because of the names."""
    answer = association.acceptor.primitive
    if answer is not None and answer.result == 1 and answer.diagnostic in _NAMES_UNKNOWN:
        return ArchiveDenied("The archive does not know one of the two AETs.")
    return ArchiveAway("The archive rejected the association.")


def _check_stored(status: Any) -> None:
    """Raise unless the status means success, a warning (PS3.4, B.2.3) or that it is there already."""
    if "Status" not in status:
        raise ArchiveAway("The connection was lost before the archive had answered.")
    code = int(status.Status)
    if code in (0x0000, _DUPLICATE) or code & 0xF000 == 0xB000:
        return
    if code & 0xFF00 == 0xA700 or code in (0x0110, 0x0112):
        raise ArchiveBusy(f"The archive did not store it: out of resources or processing failure ({code:04X}H).")
    if code == 0x0124:
        raise ArchiveDenied(f"The archive did not store it: not authorised ({code:04X}H).")
    raise ArchiveRefused(f"The archive did not store it ({code:04X}H).")
