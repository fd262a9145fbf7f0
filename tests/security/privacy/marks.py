"""A patient whose every identifying value is a mark: no such value occurs anywhere by chance."""

from __future__ import annotations

import hashlib
import io
import re
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

TEXTS = frozenset({"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
YEAR, CLOCK, UID_ROOT, AGE, WEIGHT = 1907, "131719.77", "2.25.77319", "113Y", "73.190428"
NAME = "표식환자"
"""The patient's name in Hangul: in EUC-KR in one half of the series, in UTF-8 in the other."""
SHAPE, SPACING_MM = (28, 28, 28), 1.2
MEANT = frozenset({"LossyImageCompressionRatio", "TimezoneOffsetFromUTC", "PixelDataProviderURL"})
"""Text elements that say how the others are to be read."""
PROTOCOLS = {
    "T1": {"RepetitionTime": 550.0, "EchoTime": 12.0, "ScanningSequence": "SE"},
    "T1CE": {"RepetitionTime": 550.0, "EchoTime": 12.0, "ScanningSequence": "SE"},
    "T2": {"RepetitionTime": 4500.0, "EchoTime": 100.0, "ScanningSequence": "SE"},
    "FLAIR": {"RepetitionTime": 9000.0, "EchoTime": 120.0, "InversionTime": 2500.0, "ScanningSequence": "IR"},
}
BRIGHTNESS = {"T1": -40, "T1CE": 80, "T2": 60, "FLAIR": 90}


@dataclass
class Marker:
    """Gives out values that are all different, and remembers those by which a patient could be looked up."""

    numbers: count[int] = field(default_factory=lambda: count(1))
    values: set[str] = field(default_factory=set)

    def text(self) -> str:
        """Nine characters: short enough for every text element."""
        return self._kept(f"ZQ{next(self.numbers):05d}XK")

    def date(self) -> str:
        """A day of a year in which nobody was scanned."""
        day = np.datetime64(f"{YEAR}-01-01") + next(self.numbers) % 365
        return self._kept(str(day).replace("-", ""))

    def uid(self) -> str:
        """Below a root that nothing else uses."""
        return self._kept(f"{UID_ROOT}{next(self.numbers):012d}")

    def time(self) -> str:
        """To the microsecond."""
        return f"{CLOCK}{next(self.numbers) % 10_000:04d}"

    def _kept(self, value: str) -> str:
        self.values.add(value)
        return value


@dataclass(frozen=True)
class MarkedStudy:
    """A zip as a hospital would send it, and what in it must not leave."""

    archive: bytes
    archive_name: str
    series_uids: dict[str, str]
    """By sequence."""
    digests: frozenset[str]
    """The first 16 hexadecimal digits of digests of the values and files."""


def marked_study() -> MarkedStudy:
    """Four series of one small head, marked in every element of the standard that holds words, days or UIDs."""
    marker = Marker()
    shared = {"study": marker.uid(), "frame": marker.uid(), "id": marker.text(), "accession": marker.text()}
    packed, uids, files = io.BytesIO(), {}, []
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = marker.text().encode()
        for number, sequence in enumerate(PROTOCOLS, start=1):
            uids[sequence] = marker.uid()
            folder = f"{marker.text()}/{NAME} {marker.text()}"
            for place, pixels in enumerate(_slices(sequence)):
                image = _image(marker, pixels, place=place, sequence=sequence, shared=shared)
                image.SeriesInstanceUID, image.SeriesNumber = uids[sequence], number
                files.append(_file(image, marker, is_implicit=number == 2))
                archive.writestr(f"{folder}/{marker.text()}-{place}.dcm", files[-1])
        for name, content in _no_scans(marker, shared):
            archive.writestr(f"{NAME}/{name}", content)
    return MarkedStudy(
        archive=packed.getvalue(),
        archive_name=f"{marker.text()}-{NAME}.zip",
        series_uids=uids,
        digests=frozenset(_digests([*(value.encode() for value in marker.values), NAME.encode(), *files])),
    )


def _no_scans(marker: Marker, shared: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """What is set aside and what is refused, so that the sentences about them are heard too."""
    localizer = _image(marker, _slices("T1")[0], place=0, sequence="T1", shared=shared)
    localizer.ImageType, localizer.SeriesInstanceUID = ["ORIGINAL", "PRIMARY", "LOCALIZER"], marker.uid()
    yield f"{marker.text()}.dcm", _file(localizer, marker, is_implicit=False)
    yield f"{marker.text()}.txt", f"{NAME} {marker.text()} {marker.date()}".encode()
    broken = _image(marker, _slices("T2")[0], place=0, sequence="T2", shared=shared)
    broken.SeriesInstanceUID = marker.uid()
    yield f"{marker.text()}-half.dcm", _file(broken, marker, is_implicit=False)[:-500]


def _slices(sequence: str) -> np.ndarray:
    """A ball with a lesion, as (slices, rows, columns)."""
    places = np.indices(SHAPE) - SHAPE[0] / 2 + 0.5
    ball = np.sqrt((places**2).sum(0)) < 0.45 * SHAPE[0]
    lesion = np.sqrt(((places - 2) ** 2).sum(0)) < 0.15 * SHAPE[0]
    noise = 10 * np.random.default_rng(7).standard_normal(SHAPE)
    return (ball * (200 + noise) + lesion * BRIGHTNESS[sequence]).astype(np.int16)


def _image(marker: Marker, pixels: np.ndarray, *, place: int, sequence: str, shared: dict[str, str]) -> Dataset:
    image = Dataset()
    # Its elements are encoded by it, so it comes first; PS3.3 C.12.1.1.2.
    image.SpecificCharacterSet = ["", "ISO 2022 IR 149"] if sequence in ("T1", "T2") else "ISO_IR 192"
    if place == 0:
        _mark(image, marker)
    _nest(image, marker)
    _mark_privately(image, marker)
    _name(image, marker, shared)
    _scan(image, marker, sequence)
    image.SeriesDescription = f"{marker.text()} {sequence} {NAME}"
    image.SOPClassUID, image.Modality, image.ImageType = "1.2.840.10008.5.1.4.1.1.4", "MR", ["ORIGINAL", "PRIMARY", "M"]
    image.SOPInstanceUID, image.InstanceNumber = marker.uid(), place + 1
    image.SequenceVariant, image.MRAcquisitionType, image.SliceThickness = "NONE", "2D", SPACING_MM
    image.PixelSpacing, image.ImageOrientationPatient = [SPACING_MM] * 2, [1, 0, 0, 0, 1, 0]
    image.ImagePositionPatient = [-20.0, -20.0, 5.0 + SPACING_MM * place]
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.PixelData = np.ascontiguousarray(pixels).tobytes()
    return image


def _scan(image: Dataset, marker: Marker, sequence: str) -> None:
    for keyword in image.dir("Contrast"):
        delattr(image, keyword)  # who has had an agent is told by these
    for keyword, value in PROTOCOLS[sequence].items():
        setattr(image, keyword, value)
    if sequence == "T1CE":
        image.ContrastBolusAgent = f"Gadolinium {marker.text()}"


def _mark(image: Dataset, marker: Marker) -> None:
    """Every element of PS3.6 that holds words, a day, a time or a UID gets a mark of its own."""
    makers = {"DA": marker.date, "TM": marker.time, "UI": marker.uid, "DT": lambda: marker.date() + marker.time()}
    for tag, (kind, multiplicity, _, _, keyword) in DicomDictionary.items():
        if tag >> 16 < 0x0008 or not keyword or keyword in MEANT or "-n" in multiplicity.replace("1-n", ""):
            continue
        make = marker.text if kind in TEXTS else makers.get(kind)
        if make is not None:
            setattr(image, keyword, make())


def _nest(image: Dataset, marker: Marker) -> None:
    """The same again three sequences deep."""
    for keyword in ("ReferencedStudySequence", "RequestAttributesSequence", "OriginalAttributesSequence"):
        inner = Dataset()
        inner.PatientName, inner.PatientID, inner.StudyDate = marker.text(), marker.text(), marker.date()
        inner.ReferencedSOPInstanceUID = inner.StudyInstanceUID = marker.uid()
        deeper, deepest = Dataset(), Dataset()
        deepest.OperatorsName, deepest.PatientComments = marker.text(), marker.text()
        deepest.InstitutionName, deepest.DeviceSerialNumber = marker.text(), marker.text()
        deeper.ModifiedAttributesSequence = Sequence([deepest])
        inner.ModifiedAttributesSequence = Sequence([deeper])
        setattr(image, keyword, Sequence([inner]))


def _mark_privately(image: Dataset, marker: Marker) -> None:
    block = image.private_block(0x0029, f"{marker.text()} HEADER", create=True)
    inner = Dataset()
    inner.PatientName = marker.text()
    for element, (kind, value) in enumerate(
        (
            ("LO", marker.text()),
            ("OB", f"\x00\x01{marker.text()}\x00".encode()),
            ("UN", f"SV10 {marker.text()} {marker.date()}".encode() + b"\x00"),
            ("SQ", Sequence([inner])),
        ),
        start=1,
    ):
        block.add_new(element, kind, value)


def _name(image: Dataset, marker: Marker, shared: dict[str, str]) -> None:
    """Who it is, where, by whom: what is the same in every image of the study."""
    image.PatientName = f"ZQ00000XK^GIVEN={NAME}"
    image.PatientID, image.AccessionNumber = shared["id"], shared["accession"]
    image.PatientBirthDate, image.StudyDate, image.StudyTime = "19070203", "19071121", f"{CLOCK}0000"
    image.PatientAge, image.PatientWeight, image.PatientSex = AGE, WEIGHT, "O"
    image.StudyInstanceUID, image.FrameOfReferenceUID = shared["study"], shared["frame"]
    image.StudyDescription = f"{NAME} {marker.text()}"
    image.ImageComments = f"{NAME}, born 3.2.1907, {marker.text()}"


def _file(image: Dataset, marker: Marker, *, is_implicit: bool) -> bytes:
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.file_meta.SourceApplicationEntityTitle = marker.text()
    image.preamble = marker.text().encode().ljust(128, b"\0")
    written = io.BytesIO()
    image.save_as(written, enforce_file_format=True)
    return written.getvalue()


def _digests(values: list[bytes]) -> list[str]:
    """A name that was only hashed is found by whoever has a list of names."""
    kinds = ("md5", "sha1", "sha256", "sha512", "blake2b")
    found = [hashlib.new(kind, value).hexdigest()[:16] for value in values for kind in kinds]
    spaces = (uuid.NAMESPACE_DNS, uuid.NAMESPACE_URL, uuid.NAMESPACE_OID)
    texts = [value.decode() for value in values if len(value) <= 64]
    return found + [
        make(space, text).hex[:16] for text in texts for space in spaces for make in (uuid.uuid3, uuid.uuid5)
    ]


_DAY, _MONTH = r"(?:[12]\d|3[01]|0?[1-9])", r"(?:1[0-2]|0?[1-9])"
_DATES = rf"{YEAR}\d{{4}}|{YEAR}[-/.]{_MONTH}[-/.]{_DAY}|{_DAY}[-/. ]+{_MONTH}[-/. ]+{YEAR}|{_MONTH}/{_DAY}/{YEAR}"
_MONTH_NAMES = rf"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]* {_DAY},? {YEAR}"
SPELLINGS = re.compile(
    rb"zq\d{5}xk|"
    + UID_ROOT.encode().replace(b".", rb"\.")
    + rb"\d{4}|77319\d{12}|13:?17:?19\.77\d{4}|73\.?190428|"
    # Between other digits these would be a part of some number.
    + rf"(?<![\d.])(?:{_DATES})(?![\d.]\d)|{_MONTH_NAMES}|(?<=[\s\"':,=])113y(?=[\s\"',])".encode()
)
"""What the marks look like in lower-case ASCII."""
NAMES = tuple(NAME.encode(kind) for kind in ("utf-8", "euc-kr", "utf-16-le", "utf-16-be"))
