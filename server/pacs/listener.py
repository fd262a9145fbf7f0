"""C-STORE and C-ECHO from scanners and archives (PS3.4, annexes A and B), in a process of its own.

Images go straight to the disk as they come, unread but for the few elements that say which study they belong to; the
rest is for the parser child. Whoever may call is listed; no other title gets an association, no other address a yes.
"""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from django.db import DatabaseError, InterfaceError, connections

from inference.dicom.files import read_dataset
from server.core.errors import Problem
from server.imaging.errors import NothingReadable, SeriesConflict
from server.imaging.ingest import ingest
from server.imaging.parser.orders import Named
from server.pacs.findings import is_uid
from server.pacs.received import note_read, note_refused
from server.pacs.rules import Facts
from server.pacs.spool import Spool

log = structlog.get_logger(__name__)

# Images that can be analysed, and objects that come along with them and are set aside when a study is read.
MR_CLASSES = ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.3")
MR_CLASSES += ("1.2.840.10008.5.1.4.1.1.4.4",)
ASIDE_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.4.2",  # spectroscopy
    "1.2.840.10008.5.1.4.1.1.7",  # secondary capture
    "1.2.840.10008.5.1.4.1.1.11.1",  # presentation state
    "1.2.840.10008.5.1.4.1.1.66",  # raw data
    "1.2.840.10008.5.1.4.1.1.66.4",  # segmentation
    "1.2.840.10008.5.1.4.1.1.88.11",  # basic text report
    "1.2.840.10008.5.1.4.1.1.88.22",  # enhanced report
    "1.2.840.10008.5.1.4.1.1.88.33",  # comprehensive report
    "1.2.840.10008.5.1.4.1.1.88.59",  # key objects
    "1.2.840.10008.5.1.4.1.1.104.1",  # encapsulated PDF
)
SYNTAXES = (
    "1.2.840.10008.1.2.1",  # explicit little endian
    "1.2.840.10008.1.2",  # implicit little endian
    "1.2.840.10008.1.2.2",  # explicit big endian
    "1.2.840.10008.1.2.4.70",  # JPEG lossless
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.80",  # JPEG-LS
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.5",  # RLE
)
"""Not deflated: what would come out of it has no limit before it is there."""
SUCCESS, OUT_OF_RESOURCES, NOT_UNDERSTOOD, NOT_AUTHORISED = 0x0000, 0xA700, 0xC000, 0x0124
LEAST_FREE_BYTES = 1 << 30
MOST_ASSOCIATIONS = 10
SILENCE_SECONDS = 60.0
LOOK_SECONDS = 1.0
UNFORESEEN = "Reading it failed in a way that nobody foresaw; its files are kept, and the operator's log says more."
HEAD_TAGS = ("StudyInstanceUID", "SOPInstanceUID")
FACT_TAGS = ("StudyDescription", "Modality", "SeriesDescription", "StationName", "InstitutionName")


@dataclass(frozen=True)
class Caller:
    """Who may call: a title, from one address or from any."""

    aet: str
    address: str = ""


@dataclass(frozen=True)
class Door:
    """Where to listen, whom to let in, and how much of them."""

    aet: str
    host: str
    port: int
    callers: tuple[Caller, ...]
    stable_seconds: float
    most_images: int
    most_bytes: int


class Listener:
    """One listening entity. `start` once, `stop` once."""

    def __init__(self, door: Door, *, owner: Any, spool: Spool, read_in: Callable[..., Any] = ingest) -> None:
        self.door, self.owner, self.spool = door, owner, spool
        self._read_in = read_in
        self._stopping = threading.Event()
        self._counts: Counter[Any] = Counter()
        self._bytes: Counter[Any] = Counter()
        self._reader = threading.Thread(target=self._keep_reading, name="received", daemon=True)
        self._server: Any = None

    def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        from pynetdicom import AE, _config, evt

        # pynetdicom's names for files in arrival; renaming one needs it on the same disk.
        tempfile.tempdir = str(self.spool.prepare())
        _config.STORE_RECV_CHUNKED_DATASET = True
        entity = AE(ae_title=self.door.aet)
        entity.require_called_aet = True
        entity.require_calling_aet = sorted({caller.aet for caller in self.door.callers})
        entity.maximum_associations = MOST_ASSOCIATIONS
        entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = SILENCE_SECONDS
        entity.add_supported_context("1.2.840.10008.1.1")
        for kind in (*MR_CLASSES, *ASIDE_CLASSES):
            entity.add_supported_context(kind, list(SYNTAXES))
        handlers = [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_ECHO, self._on_echo),
            (evt.EVT_CONN_CLOSE, self._on_close),
        ]
        self._server = entity.start_server((self.door.host, self.door.port), block=False, evt_handlers=handlers)
        self._reader.start()

    def stop(self) -> None:
        """Hang up; what has arrived stays and is read in after the next start."""
        self._stopping.set()
        if self._server is not None:
            self._server.shutdown()
        if self._reader.ident is not None:
            self._reader.join()

    def read_rested(self, *, seconds: float | None = None) -> int:
        """Read in every study that has come to rest, and answer how many."""
        count = 0
        for folder in list(self.spool.at_rest(seconds=self.door.stable_seconds if seconds is None else seconds)):
            count += self._read(folder)
        return count

    def _on_echo(self, event: Any) -> int:
        return SUCCESS if self._is_welcome(event.assoc) else NOT_AUTHORISED

    def _on_store(self, event: Any) -> int:
        file = Path(event.dataset_path)
        try:
            if not self._is_welcome(event.assoc):
                return NOT_AUTHORISED
            if not self._has_room(event.assoc, file.stat().st_size):
                return OUT_OF_RESOURCES
            head = read_dataset(file, tags=list(HEAD_TAGS))
            study_uid, image_uid = str(head.get("StudyInstanceUID", "")), str(head.get("SOPInstanceUID", ""))
            if not (is_uid(study_uid) and is_uid(image_uid)):
                return NOT_UNDERSTOOD
            self.spool.take(file, study_uid=study_uid, image_uid=image_uid, sender=event.assoc)
        except Problem:
            return OUT_OF_RESOURCES
        except Exception as error:  # noqa: BLE001  (whatever is wrong with it, the sender is told that it is not stored)
            log.warning("an image could not be received", cause=type(error).__name__)
            return NOT_UNDERSTOOD
        finally:
            file.unlink(missing_ok=True)
        return SUCCESS

    def _on_close(self, event: Any) -> None:
        self.spool.gone(event.assoc)
        self._counts.pop(event.assoc, None)
        self._bytes.pop(event.assoc, None)

    def _is_welcome(self, association: Any) -> bool:
        aet, address = str(association.requestor.ae_title).strip(), str(association.requestor.address)
        return any(caller.aet == aet and caller.address in ("", address) for caller in self.door.callers)

    def _has_room(self, association: Any, size: int) -> bool:
        self._counts[association] += 1
        self._bytes[association] += size
        is_within = (
            self._counts[association] <= self.door.most_images and self._bytes[association] <= self.door.most_bytes
        )
        return is_within and self.spool.free_bytes() >= LEAST_FREE_BYTES

    def _keep_reading(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self.read_rested()
            except Exception:
                # The images stay where they are; the next look finds them.
                log.exception("could not look for studies that have arrived")
            finally:
                connections.close_all()

    def _read(self, folder: Path) -> int:
        apart = self.spool.begin(folder)
        files = sorted(apart.iterdir())
        study_uid, facts = _facts_of(files)
        try:
            done = self._read_in(owner=self.owner, files=[Named(path=str(file), name=file.name) for file in files])
        except (NothingReadable, SeriesConflict) as refusal:
            note_refused(study_uid, facts, images=len(files), reason=refusal.detail)
            if any(entry.get("code") == "parser_failed" for entry in refusal.extra.get("refused", [])):
                # The parser's end may have been the machine's fault, and the sender was told that it is stored.
                self.spool.keep_for_operator(apart)
        except (Problem, DatabaseError, InterfaceError) as failure:
            log.warning("a received study is read in later", cause=type(failure).__name__)
            self.spool.give_back(apart)
            return 0
        except Exception:
            self.spool.keep_for_operator(apart)
            note_refused(study_uid, facts, images=len(files), reason=UNFORESEEN)
            raise
        else:
            note_read(study_uid, facts, images=len(files), study_id=done.series[0].study_id)
        self.spool.finish(apart)
        return 1


def _facts_of(files: list[Path]) -> tuple[str, Facts]:
    """What rules look at, of the headers; each was read before, when it came."""
    heads = [read_dataset(file, tags=[*HEAD_TAGS, *FACT_TAGS]) for file in files]
    told = {tag: tuple(dict.fromkeys(str(head.get(tag, "") or "") for head in heads)) for tag in FACT_TAGS}
    facts = Facts(
        study_description=told["StudyDescription"][0],
        modalities=told["Modality"],
        series_descriptions=told["SeriesDescription"],
        stations=told["StationName"],
        institutions=told["InstitutionName"],
    )
    return str(heads[0].get("StudyInstanceUID", "")), facts
