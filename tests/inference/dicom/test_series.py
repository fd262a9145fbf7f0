"""Files sorted into volumes, and refused with a sentence that says which file and why."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from inference.dicom import load_series, read_folder, sort_files
from inference.dicom.headers import read_planes
from inference.errors import InputInvalid
from tests.inference.dicom import images


def refusals(folder) -> dict[str, str]:
    found = sort_files(images.named(folder))
    assert not found.series
    return {entry.code: str(entry) for entry in found.refused}


def test_one_folder_of_two_series_becomes_two_volumes(tmp_path):
    images.series(tmp_path / "a")
    images.series(tmp_path / "b", SeriesInstanceUID="1.2.1.2")

    found = read_folder(tmp_path)

    assert sorted(series.facts.series_uid for series in found) == ["1.2.1.1", "1.2.1.2"]
    assert [len(series.instances) for series in found] == [6, 6]


def test_slices_are_sorted_by_where_they_lie_not_by_name(tmp_path):
    series = read_folder(images.series(tmp_path / "a"))[0]

    assert [plane.position[2] for plane in series.planes] == [10, 14, 18, 22, 26, 30]


def test_one_series_of_two_orientations_is_two_volumes(tmp_path):
    images.series(tmp_path / "a")
    for place in range(5):
        sagittal = images.image(place + 10, images.voxels()[place], ImageOrientationPatient=[*images.SAGITTAL])
        images.save(sagittal, tmp_path / "a" / f"s{place}.dcm")

    found = read_folder(tmp_path)

    assert [(series.part, len(series.instances)) for series in found] == [(0, 6), (1, 5)]


def test_two_echoes_at_every_position_are_two_volumes(tmp_path):
    for echo in (20.0, 90.0):
        for place, pixels in enumerate(images.voxels()):
            uid = f"1.2.1.1.{place}.{int(echo)}"
            images.save(
                images.image(place, pixels, EchoTime=echo, SOPInstanceUID=uid), tmp_path / f"{place}-{echo}.dcm"
            )

    found = sort_files(images.named(tmp_path))

    assert [series.facts.scan.echo_ms for series in found.series] == [20.0, 90.0]
    assert not found.refused


def test_two_images_at_one_position_that_nothing_tells_apart_are_refused(tmp_path):
    images.series(tmp_path)
    images.save(images.image(2, images.voxels()[0], SOPInstanceUID="1.2.1.1.99"), tmp_path / "extra.dcm")

    assert "repeated_positions" in refusals(tmp_path)


def test_a_missing_slice_is_refused_and_the_gap_named(tmp_path):
    images.series(tmp_path, skip=3)

    sentence = refusals(tmp_path)["uneven_slices"]

    assert "4.00 mm apart, but 8.00 mm between 3-2.dcm and 6-4.dcm" in sentence


def test_a_file_given_twice_counts_once(tmp_path):
    images.series(tmp_path)
    (tmp_path / "copy.dcm").write_bytes((tmp_path / "0-0.dcm").read_bytes())
    images.save(images.image(1, images.voxels()[1]), tmp_path / "implicit.dcm", syntax=images.ImplicitVRLittleEndian)

    assert len(read_folder(tmp_path)[0].instances) == 6


def test_two_different_images_of_one_identifier_are_refused(tmp_path):
    images.series(tmp_path)
    images.save(images.image(0, images.voxels()[5]), tmp_path / "other.dcm")

    assert (
        "other.dcm" in refusals(tmp_path)["duplicate_instance"] or "0-0.dcm" in refusals(tmp_path)["duplicate_instance"]
    )


def test_a_scout_is_no_scan(tmp_path):
    images.series(tmp_path, images.voxels(3))

    assert "too few slices" in refusals(tmp_path)["too_few_slices"]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"SOPClassUID": "1.2.3"}, "not_mr"),
        ({"NumberOfFrames": 5}, "no_geometry"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}, "mosaic_unsupported"),
        ({"ImagePositionPatient": None}, "no_geometry"),
        ({"ImageOrientationPatient": None}, "no_geometry"),
        ({"PixelSpacing": [0.0, 1.0]}, "no_geometry"),
        ({"SamplesPerPixel": 4}, "not_greyscale"),
        ({"BitsAllocated": 32}, "not_greyscale"),
        ({"SeriesInstanceUID": None}, "malformed"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(tmp_path, header, code):
    images.series(tmp_path, images.voxels(4), **header)

    found = sort_files(images.named(tmp_path))

    assert [(entry.name, entry.code) for entry in found.refused] == [("0-0.dcm", code)]
    assert len(found.refused[0].others) == 3


def test_a_deflated_series_is_read(tmp_path):
    for place, pixels in enumerate(images.voxels()):
        images.save(images.image(place, pixels), tmp_path / f"{place}.dcm", syntax=DeflatedExplicitVRLittleEndian)

    assert load_series([tmp_path])[0].voxels.shape == (10, 8, 6)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT"}, "not_mr"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.22", "Modality": "SR"}, "report"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.59", "Modality": "KO"}, "report"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1", "Modality": "DOC"}, "document"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.11.1", "Modality": "PR"}, "presentation_state"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "Modality": "SEG"}, "segmentation"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.3", "Modality": "RTSTRUCT"}, "segmentation"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66"}, "raw_data"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "OT"}, "secondary_capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.2"}, "spectroscopy"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.3"}, "colour"),
        ({"SOPClassUID": "1.2.840.10008.1.3.10"}, "directory"),
        ({"SamplesPerPixel": 3}, "colour"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"]}, "derived_map"),
        ({"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW"]}, "derived_map"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SUBTRACTION"]}, "derived_map"),
        ({"ImageType": ["DERIVED", "SECONDARY"], "SeriesDescription": "Apparent Diffusion (eADC)"}, "derived_map"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MNIP"]}, "projection"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "secondary_capture"),
    ],
)
def test_what_is_no_scan_is_set_aside_and_not_refused(tmp_path, header, code):
    images.series(tmp_path, images.voxels(4), **header)

    found = sort_files(images.named(tmp_path))

    assert not found.series
    assert not found.refused
    assert [(entry.code, len(entry.others), entry.study_uid) for entry in found.aside] == [(code, 3, "1.2.1")]


def test_a_folder_of_nothing_but_maps_says_so(tmp_path):
    images.series(tmp_path, ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "FA"])

    with pytest.raises(InputInvalid, match="map computed from other images"):
        load_series([tmp_path])


def test_reformatted_scans_are_scans(tmp_path):
    images.series(tmp_path, ImageType=["DERIVED", "SECONDARY", "MPR"], SeriesDescription="T1 mprage tra MPR")

    assert len(read_folder(tmp_path)) == 1


def test_sequences_nested_without_end_are_refused_and_not_a_crash(tmp_path):
    """pydicom recurses into undefined-length sequences and ends in RecursionError."""
    path = images.save(images.image(0, images.voxels()[0]), tmp_path / "deep.dcm")
    nested = b"".join(
        struct.pack("<HH2sHIHHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF) for _ in range(5000)
    )
    head = path.read_bytes()
    path.write_bytes(head[: head.index(b"\x08\x00\x16\x00")] + nested)

    with pytest.raises(InputInvalid) as caught:
        read_planes(path)

    assert caught.value.code == "malformed"


def test_a_claim_of_65535_by_65535_pixels_is_refused_before_any_pixel_is_read(tmp_path):
    images.series(tmp_path, images.voxels(4), Rows=65535, Columns=65535)

    assert "too_large" in refusals(tmp_path)


def test_a_text_file_is_neither(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")

    assert "neither" in refusals(tmp_path)["not_dicom"]


def test_load_series_wants_exactly_one(tmp_path):
    images.series(tmp_path / "a")
    images.series(tmp_path / "b", SeriesInstanceUID="1.2.1.2")

    with pytest.raises(InputInvalid, match="several series"):
        load_series([tmp_path])
    volume, facts = load_series([tmp_path / "a"])
    assert volume.voxels.shape == (10, 8, 6)
    assert facts.patient_id == "4711"


def test_the_first_words_a_folder_without_dicom_hears_are_clear(tmp_path):
    with pytest.raises(InputInvalid, match="no DICOM files"):
        read_folder(tmp_path)


def test_numbers_that_are_no_numbers_are_absent(tmp_path):
    from pydicom.dataset import Dataset

    from inference.dicom.facts import number

    empty = Dataset()
    empty.EchoTime = None

    assert number(empty, "EchoTime") is None
    assert number(empty, "RepetitionTime") is None
    assert np.isclose(number({"EchoTime": ["3.5", "4"]}, "EchoTime"), 3.5)
