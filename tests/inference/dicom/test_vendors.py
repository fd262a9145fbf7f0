"""Series as scanners of every make write them, made up where no real ones are at hand."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from inference.dicom import load_volume, read_folder, sort_files
from inference.dicom.files import copy_file, read_dataset
from tests.inference.dicom import images
from tests.inference.dicom.multiframe import ENHANCED, LEGACY, enhanced, frame, item, mosaic, uih_grid

BOX = images.voxels()


def plain(tmp_path):
    """The volume of the same box as a plain series."""
    return load_volume(read_folder(images.series(tmp_path / "plain"))[0])


def one(tmp_path, dataset: Dataset, **how):
    """The volume of a single file."""
    folder = tmp_path / "one"
    folder.mkdir()
    images.save(dataset, folder / "file", **how)
    found = sort_files(images.named(folder))
    assert not found.refused, found.refused
    assert len(found.series) == 1
    return load_volume(found.series[0]), found.series[0].facts


def assert_same(one, other) -> None:
    assert np.array_equal(one.voxels, other.voxels)
    assert np.allclose(one.affine, other.affine, atol=1e-6)


@pytest.mark.parametrize("sop_class", [ENHANCED, LEGACY])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_multi_frame_image_is_the_same_volume_as_its_frames_one_by_one(tmp_path, sop_class, syntax):
    order = [3, 0, 5, 1, 4, 2]
    pixels = BOX[order].astype(">i2" if syntax == ExplicitVRBigEndian else "<i2")
    dataset = enhanced([frame(place) for place in order], pixels, SOPClassUID=sop_class)

    volume, facts = one(tmp_path, dataset, syntax=syntax)

    assert_same(volume, plain(tmp_path))
    assert (facts.scan.echo_ms, facts.scan.repetition_ms, facts.scan.scanning_sequence) == (12.0, 500.0, ("SE",))


def test_echoes_and_time_points_of_a_multi_frame_image_are_volumes_of_their_own(tmp_path):
    kinds = [(echo, time) for echo in (9.0, 80.0) for time in (1, 2)]
    frames = [frame(place, echo=echo, time=time) for place in range(6) for echo, time in kinds]
    pixels = np.stack([BOX[place] + 1000 * index for place in range(6) for index in range(4)])
    images.save(enhanced(frames, pixels), tmp_path / "a.dcm")

    found = sort_files(images.named(tmp_path))

    assert [series.facts.scan.echo_ms for series in found.series] == [9.0, 9.0, 80.0, 80.0]
    for index, series in enumerate(found.series):
        assert load_volume(series).voxels.min() == 1000 * index


def test_a_map_among_the_frames_is_left_out(tmp_path):
    frames = [frame(place, kind=kind) for kind in (("DIFFUSION", "NONE"), ("DIFFUSION", "ADC")) for place in range(6)]
    images.save(enhanced(frames, np.concatenate([BOX, BOX + 5])), tmp_path / "a.dcm")

    found = sort_files(images.named(tmp_path))

    assert [len(series.planes) for series in found.series] == [6]


def test_frames_that_are_announced_and_not_described_are_refused(tmp_path):
    images.save(enhanced([frame(0), frame(1)], BOX, NumberOfFrames=6), tmp_path / "a.dcm")

    assert [entry.code for entry in sort_files(images.named(tmp_path)).refused] == ["malformed"]


def test_a_missing_frame_is_refused_by_its_number(tmp_path):
    images.save(enhanced([frame(place) for place in (0, 1, 2, 4, 5)], BOX[:5]), tmp_path / "a.dcm")

    refused = sort_files(images.named(tmp_path)).refused

    assert refused[0].code == "uneven_slices"
    assert "between a.dcm (frame 3) and a.dcm (frame 4)" in refused[0].sentence


@pytest.mark.parametrize("normal", [1.0, -1.0])
def test_a_mosaic_is_the_volume_of_its_tiles(tmp_path, normal):
    box = BOX if normal > 0 else BOX[::-1]
    dataset = mosaic(box, normal=normal)
    if normal < 0:  # the first tile is the highest slice then
        step = images.BETWEEN_SLICES * (len(BOX) - 1)
        x, y, z = map(float, dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [x, y, z + step]

    assert_same(one(tmp_path, dataset)[0], plain(tmp_path))


def test_mosaics_of_two_time_points_are_two_volumes(tmp_path):
    for time in (1, 2):
        images.save(mosaic(BOX + time, SOPInstanceUID=f"1.2.{time}", AcquisitionNumber=time), tmp_path / f"{time}")

    found = sort_files(images.named(tmp_path))

    assert [load_volume(series).voxels.min() for series in found.series] == [1, 2]


def test_a_functional_run_is_set_aside(tmp_path):
    for time in range(30):
        images.save(mosaic(BOX, SOPInstanceUID=f"1.2.{time}", AcquisitionNumber=time), tmp_path / f"{time}")

    found = sort_files(images.named(tmp_path))

    assert (len(found.series), [entry.code for entry in found.aside]) == (0, ["time_series"])


def test_a_mosaic_that_does_not_say_how_many_is_refused(tmp_path):
    dataset = mosaic(BOX)
    del dataset[0x0019, 0x100A]
    images.save(dataset, tmp_path / "a")

    assert [entry.code for entry in sort_files(images.named(tmp_path)).refused] == ["mosaic_unsupported"]


def test_a_grid_of_united_imaging_is_the_volume_of_its_tiles(tmp_path):
    assert_same(one(tmp_path, uih_grid(BOX))[0], plain(tmp_path))


def test_philips_own_scale_counts_as_dcm2niix_counts_it(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for place, pixels in enumerate(BOX):
        dataset = images.image(place, pixels, Manufacturer="Philips Medical Systems", RescaleSlope=2.0)
        dataset.RescaleIntercept = 10.0
        dataset.add_new((0x2005, 0x0010), "LO", "Philips MR Imaging DD 001")
        dataset.add_new((0x2005, 0x100E), "FL", 0.5)
        images.save(dataset, folder / str(place))

    volume = load_volume(read_folder(folder)[0])

    assert volume.voxels.min() == 10.0 / (2.0 * 0.5)
    assert volume.voxels.max() == pytest.approx((BOX.max() * 2.0 + 10.0) / (2.0 * 0.5))


def test_slices_of_different_slopes_are_brought_to_one_scale(tmp_path):
    for place, pixels in enumerate(BOX):
        images.save(images.image(place, pixels, RescaleSlope=1.0 + place), tmp_path / str(place))

    volume = load_volume(read_folder(tmp_path)[0])

    assert volume.voxels[..., 5].max() == BOX[5].max() * 6.0


@pytest.mark.parametrize(
    ("maker", "tags"),
    [
        ("SIEMENS", {(0x0019, 0x100C): ("IS", str)}),
        ("GE MEDICAL SYSTEMS", {(0x0043, 0x1039): ("IS", lambda b: [1_000_000_000 + b, 0, 0, 0])}),
        ("Philips", {(0x2001, 0x1003): ("FL", float)}),
        ("UIH", {(0x0065, 0x1009): ("FD", float)}),
        ("Canon Medical Systems", {(0x0018, 0x9087): ("FD", float)}),
    ],
)
@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_each_b_value_is_a_volume(tmp_path, maker, tags, syntax):
    for b in (0, 500, 1000):
        for place, pixels in enumerate(BOX):
            dataset = images.image(place, pixels + b, Manufacturer=maker, SOPInstanceUID=f"1.2.{b}.{place}")
            for tag, (kind, value) in tags.items():
                dataset.add_new(tag, kind, value(b))
            images.save(dataset, tmp_path / f"{b}-{place}", **({} if syntax is None else {"syntax": syntax}))

    found = sort_files(images.named(tmp_path))

    assert [load_volume(series).voxels.min() for series in found.series] == [0, 500, 1000]


def test_magnitude_and_phase_of_three_echoes_are_six_volumes(tmp_path):
    for kind in ("M", "P"):
        for echo in (5.0, 10.0, 15.0):
            for place, pixels in enumerate(BOX):
                header = {"ImageType": ["ORIGINAL", "PRIMARY", kind], "EchoTime": echo}
                uid = f"1.2.{ord(kind)}.{int(echo)}.{place}"
                images.save(images.image(place, pixels, SOPInstanceUID=uid, **header), tmp_path / uid)

    found = sort_files(images.named(tmp_path))

    assert [series.facts.scan.echo_ms for series in found.series] == [5.0, 10.0, 15.0] * 2
    assert len({series.part for series in found.series}) == 6


def test_an_aborted_time_point_is_refused_and_the_whole_ones_are_read(tmp_path):
    for time, slices in ((1, 6), (2, 6), (3, 4)):
        for place in range(slices):
            uid = f"1.2.{time}.{place}"
            header = {"TemporalPositionIdentifier": time, "SOPInstanceUID": uid}
            images.save(images.image(place, BOX[place], **header), tmp_path / uid)

    found = sort_files(images.named(tmp_path))

    assert len(found.series) == 2
    assert [(entry.code, entry.name) for entry in found.refused] == [("missing_slices", "1.2.3.0")]


def test_a_sheared_stack_is_refused(tmp_path):
    for place, pixels in enumerate(BOX):
        position = images.ORIGIN + np.array([0, 1.5 * place, images.BETWEEN_SLICES * place])
        images.save(images.image(place, pixels, ImagePositionPatient=[*position]), tmp_path / str(place))

    refused = sort_files(images.named(tmp_path)).refused

    assert [entry.code for entry in refused] == ["sheared_slices"]
    assert "tilted gantry" in refused[0].sentence


@pytest.mark.parametrize("syntax", [images.ImplicitVRLittleEndian, None])
@pytest.mark.parametrize("has_meta", [True, False])
def test_files_without_the_mark_are_read_and_kept_with_it(tmp_path, syntax, has_meta):
    """Archives hand out bare data sets; some programs leave the preamble out alone."""
    whole = images.series(tmp_path / "whole")
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in whole.iterdir():
        if syntax is not None:
            images.save(read_dataset(path, stop_before_pixels=False), path, syntax=syntax)
        content = path.read_bytes()[132:]
        (bare / path.name).write_bytes(content if has_meta else content[content.index(b"\x08\x00\x08\x00") :])

    series = read_folder(bare)[0]
    copy_file(series.instances[0].path, tmp_path / "copy.dcm")

    assert_same(load_volume(series), load_volume(read_folder(whole)[0]))
    assert (tmp_path / "copy.dcm").read_bytes()[128:132] == b"DICM"
    assert read_dataset(tmp_path / "copy.dcm", stop_before_pixels=False).PixelData == BOX[0].tobytes()


def test_a_localizer_in_three_planes_is_set_aside_even_if_nobody_says_so(tmp_path):
    planes = (images.AXIAL, images.SAGITTAL, (1.0, 0.0, 0.0, 0.0, 0.0, -1.0))
    for number, orientation in enumerate(planes):
        for place in range(3):
            uid = f"1.2.{number}.{place}"
            header = {"ImageOrientationPatient": [*orientation], "SOPInstanceUID": uid}
            images.save(images.image(place, BOX[place], **header), tmp_path / uid)

    found = sort_files(images.named(tmp_path))

    assert not found.refused
    assert [(entry.code, len(entry.others)) for entry in found.aside] == [("localizer", 8)]


def test_drawings_in_unused_bits_are_not_voxels(tmp_path):
    drawn = (BOX | np.int16(1 << 14)).astype(np.int16)
    folder = images.series(tmp_path, drawn, BitsStored=12, HighBit=11, PixelRepresentation=0)

    assert load_volume(read_folder(folder)[0]).voxels.max() == BOX.max()


def test_a_contrast_agent_that_a_frame_did_not_see_does_not_count(tmp_path):
    usage = {"ContrastBolusUsageSequence": [item(ContrastBolusAgentAdministered="NO")]}
    dataset = enhanced([frame(place, **usage) for place in range(6)], BOX)
    dataset.ContrastBolusAgentSequence = [item(CodeMeaning="Gadolinium")]

    assert not one(tmp_path, dataset)[1].scan.contrast_given
