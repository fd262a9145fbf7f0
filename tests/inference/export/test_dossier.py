"""Everything beside a mask: it says the same, refers to the same, is valid, and may be missing only by the rule."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread

from inference.contract import ModelRef, Region, Volume
from inference.dicom.reference import SourceImages
from inference.export import dossier as dossiers
from inference.export.capture import PictureRefused
from inference.export.change import Earlier, change_since
from inference.export.document import DocumentRefused
from inference.export.dossier import Case, Dossier, write_dossier
from inference.export.measures import in_directions
from inference.export.seg import SegRefused, read_back
from inference.export.segments import PARTS
from inference.export.sides import Side
from inference.export.sr import ReportRefused, read_groups
from tests.inference.dicom import images, multiframe
from tests.inference.export import results
from tests.real_data import dicom_dir
from tests.tools import require_tool

OBJECTS = ["mask.dcm", "report.dcm", "key-1.dcm", "key-2.dcm", "key-3.dcm", "summary.dcm"]
NAME = "Hong^Gildong=洪^吉洞=홍^길동"
VOLUME, LONG, SHORT = "118565006", "103339001", "103340004"


def enhanced(folder: Path) -> Path:
    """The head as one multi-frame file whose frames are in no order, with the same head again at another time."""
    folder.mkdir()
    box = results.head_box()
    order = np.random.default_rng(2).permutation(len(box))
    found = multiframe.enhanced([multiframe.frame(int(place)) for place in order], box[order])
    measures = found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = results.SPACING
    images.save(found, folder / "many.dcm")
    return folder


def mosaic(folder: Path) -> Path:
    """The head as a mosaic; its tiles are as far apart as everywhere in these tests."""
    folder.mkdir()
    images.save(multiframe.mosaic(results.head_box()), folder / "mosaic.dcm")
    return folder


def sagittal(folder: Path) -> Path:
    """A box acquired in 3D from the side, which is stored in another order of axes than it was scanned in."""
    header = {"ImageOrientationPatient": [*images.SAGITTAL], "MRAcquisitionType": "3D"}
    return images.series(folder, results.head_box(), PixelSpacing=results.SPACING, **header)


SOURCES = [results.head_files, enhanced, mosaic, sagittal]


@pytest.fixture
def out(tmp_path) -> Path:
    """An empty folder for what is written."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Case, Dossier, Path]:
    """The dossier of a classic series, with an earlier study and something to note."""
    folder = tmp_path_factory.mktemp("dossier")
    earlier = Earlier(
        date="2025-11-01", job="J0", model=ModelRef("older", "0.9", "0"), volumes_ml={Region.WT: 20.0, Region.ET: 0.0}
    )
    case = results.case_of(
        results.head_files(
            folder / "in", PatientName="Hong^Gildong=洪^吉洞=홍^길동", SpecificCharacterSet="ISO_IR 192"
        ),
        warnings=("T1 moved by 4.2 mm.",),
        change=lambda found: change_since(
            earlier,
            volumes_ml={region: one.volume_ml for region, one in found.items()},
            date="2026-01-02",
            model=results.MODEL,
        ),
    )
    (folder / "out").mkdir()
    return case, write_dossier(case, folder / "out"), folder / "out"


@pytest.mark.parametrize("source", SOURCES)
def test_every_object_is_valid_and_the_mask_lies_where_it_lay(tmp_path, out, source):
    case = results.case_of(source(tmp_path / "in"))

    found = write_dossier(case, out)

    assert [one.name for one in found.objects] == OBJECTS
    assert found.left_out == {}
    assert np.array_equal(read_back(out / "mask.dcm", case.mask.grid), case.mask.voxels)
    assert [line for name in OBJECTS for line in results.complaints(out / name)] == []


@pytest.mark.parametrize("source", SOURCES[:3])
def test_other_readers_find_the_same_voxels_in_the_same_place(tmp_path, out, source):
    case = results.case_of(source(tmp_path / "in"))

    write_dossier(case, out)

    assert segments_by_dcmqi(out) == pytest.approx(segments_of(case.mask), abs=0.02)


def segments_of(mask: Volume) -> dict[int, list[float]]:
    """How many voxels each label has, and where their middle is (RAS+ mm)."""
    found = {}
    for part in PARTS:
        places = np.argwhere(mask.voxels == int(part.label))
        middle = mask.affine @ [*places.mean(axis=0), 1.0]
        found[int(part.label)] = pytest.approx([len(places), *middle[:3]], abs=0.02)
    return found


def segments_by_dcmqi(folder: Path) -> dict[int, list[float]]:
    """The same, as dcmqi turns the SEG into NRRD files, which SimpleITK reads."""
    program = shutil.which("segimage2itkimage", path=str(Path(sys.executable).parent)) or require_tool(
        "segimage2itkimage", package="dcmqi (a wheel)"
    )
    command = [program, "--inputDICOM", str(folder / "mask.dcm"), "--outputDirectory", str(folder), "-t", "nrrd"]
    subprocess.run(command, check=True, capture_output=True)
    told = json.loads((folder / "meta.json").read_text())["segmentAttributes"]
    found = {}
    for attributes in (one for group in told for one in group):
        number = int(attributes["labelID"])
        image = SimpleITK.ReadImage(str(folder / f"{number}.nrrd"))
        places = np.argwhere(SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0))
        middle = image.TransformContinuousIndexToPhysicalPoint([float(value) for value in places.mean(axis=0)])
        found[number] = [len(places), -middle[0], -middle[1], middle[2]]
    return found


def test_simpleitk_reads_every_frame_of_the_seg(written):
    case, _, folder = written

    frames = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(folder / "mask.dcm")))

    assert int((frames > 0).sum()) == int((case.mask.voxels > 0).sum())


def test_viewers_are_asked_to_show_our_colours(written):
    _, _, folder = written

    segments = dcmread(folder / "mask.dcm").SegmentSequence

    asked = [
        highdicom.color.CIELabColor.from_dicom_value(one.RecommendedDisplayCIELabValue).to_rgb() for one in segments
    ]
    assert np.abs(np.array(asked) - [part.rgb for part in PARTS]).max() <= 2


def test_the_report_has_the_masks_own_measures_by_region_and_segment(written):
    case, found, folder = written

    groups = {group.tracking_uid: group for group in read_groups(folder / "report.dcm")}

    seg = dcmread(folder / "mask.dcm")
    by_segment = {int(one.SegmentNumber): groups[one.TrackingUID] for one in seg.SegmentSequence}
    voxel_ml = case.mask.grid.voxel_ml
    assert len(groups) == 5
    for label, group in by_segment.items():
        assert group.numbers[VOLUME] == pytest.approx((case.mask.voxels == label).sum() * voxel_ml, abs=1e-3)
        assert group.segments == ((seg.SOPInstanceUID, label),)
    enhancing, one = by_segment[3], found.measures[Region.ET]
    assert enhancing.numbers[LONG] == pytest.approx(one.axial.length_mm, abs=1e-3)
    assert enhancing.numbers[SHORT] == pytest.approx(one.across.length_mm, abs=1e-3)
    assert enhancing.texts == (in_directions(one.centre_mm),)
    whole = next(group for group in groups.values() if len(group.segments) == 3)
    assert whole.numbers[VOLUME] == pytest.approx((case.mask.voxels > 0).sum() * voxel_ml, abs=1e-3)
    assert whole.numbers["VOLCHANGE"] == pytest.approx(whole.numbers[VOLUME] - 20.0, abs=2e-3)
    assert "VOLCHANGE-PCT" not in enhancing.numbers


def test_highdicom_reads_the_report_as_measurement_groups_with_the_side(written):
    _, found, folder = written

    report = highdicom.sr.srread(folder / "report.dcm").content

    volumetric = report.get_volumetric_roi_measurement_groups()
    assert (len(volumetric), len(report.get_image_measurement_groups())) == (3, 2)
    assert found.sides[Region.ET] is Side.RIGHT
    sites = [site for group in volumetric for site in group.finding_sites]
    assert {site.laterality.meaning for site in sites if site.laterality} == {"Right"}


def test_every_object_refers_to_the_study_and_says_which_model_made_it(written):
    _, _, folder = written

    for name in OBJECTS:
        found = dcmread(folder / name)
        text = str(found)
        assert (found.StudyInstanceUID, str(found.PatientName)) == ("1.2.1", NAME)
        assert (found.ManufacturerModelName, found.SoftwareVersions) == ("segresnet", "1.0.0")
        assert results.MODEL.sha256 in text
        assert "1.2.1.1.1" in text  # a source instance
        assert "research use only" in text.lower()
    assert len({dcmread(folder / name).SeriesInstanceUID for name in OBJECTS}) == 4
    assert len({dcmread(folder / name).SOPInstanceUID for name in OBJECTS}) == 6


def test_the_same_result_is_the_same_files_and_another_job_other_objects(written, out):
    case, _, folder = written
    other = dataclasses.replace(case, origin=dataclasses.replace(case.origin, subject="job-2"))

    write_dossier(case, out)
    same = [(out / name).read_bytes() == (folder / name).read_bytes() for name in (*OBJECTS, "summary.pdf")]
    uids = [dcmread(out / name).SOPInstanceUID for name in OBJECTS]
    write_dossier(other, out)

    assert all(same)
    assert uids == [dcmread(folder / name).SOPInstanceUID for name in OBJECTS]
    assert not set(uids) & {dcmread(out / name).SOPInstanceUID for name in OBJECTS}


def test_a_mask_without_tumour_has_a_report_of_zeros_and_a_summary(tmp_path, out):
    folder = results.head_files(tmp_path / "in")
    labels = np.zeros_like(results.case_of(folder).labels)

    found = write_dossier(results.case_of(folder, labels=labels), out)

    assert [one.name for one in found.objects] == ["report.dcm", "summary.dcm"]
    assert {value for group in read_groups(out / "report.dcm") for value in group.numbers.values()} == {0.0}
    assert [results.complaints(out / one.name) for one in found.objects] == [[], []]


def test_a_nifti_result_has_a_summary_alone(tmp_path, out):
    case = dataclasses.replace(results.case_of(results.head_files(tmp_path / "in")), originals=())

    found = write_dossier(case, out)

    assert [path.name for path in out.iterdir()] == ["summary.pdf"]
    assert (found.objects, found.has_pdf) == ([], True)


@pytest.mark.parametrize(
    ("name", "kind", "lost"),
    [
        ("draw_summary", "pdf", {"summary.dcm"}),
        ("draw_pictures", "key", {"key-1.dcm", "key-2.dcm", "key-3.dcm"}),
        ("save_report", "sr", {"report.dcm"}),
        ("save_document", "pdf", {"summary.dcm"}),
    ],
)
@pytest.mark.parametrize("error", [MemoryError(), ValueError("a header that will not go in")])
def test_what_cannot_be_made_is_left_out_with_a_reason_and_the_mask_stays(
    written, out, monkeypatch, name, kind, lost, error
):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(dossiers, name, fail)

    found = write_dossier(written[0], out)

    assert {one.name for one in found.objects} == set(OBJECTS) - lost
    assert kind in found.left_out


def test_a_full_disk_is_no_reason_to_leave_something_out(written, out, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dossiers, "draw_summary", fail)

    with pytest.raises(OSError, match="No space"):
        write_dossier(written[0], out)


def test_a_report_that_says_something_else_is_a_failure(written, out, monkeypatch):
    save = dossiers.save_report

    def lie(findings: dossiers.Findings, *args: object, **kwargs: object) -> object:
        measures = {
            region: dataclasses.replace(one, volume_ml=one.volume_ml + 1) for region, one in findings.measures.items()
        }
        return save(dataclasses.replace(findings, measures=measures), *args, **kwargs)

    monkeypatch.setattr(dossiers, "save_report", lie)

    with pytest.raises(ReportRefused, match="same as the mask"):
        write_dossier(written[0], out)


def test_a_report_of_another_seg_is_a_failure(written, out, monkeypatch):
    save = dossiers.save_report

    def mislead(*args: object, seg: highdicom.seg.Segmentation, **kwargs: object) -> object:
        seg.SOPInstanceUID = "1.2.3"
        return save(*args, seg=seg, **kwargs)

    prove = dossiers.prove_report
    monkeypatch.setattr(dossiers, "save_report", mislead)
    monkeypatch.setattr(
        dossiers, "prove_report", lambda *args, **kwargs: prove(*args, **{**kwargs, "seg_uid": "2.25.1"})
    )

    with pytest.raises(ReportRefused, match="segments"):
        write_dossier(written[0], out)


@pytest.mark.parametrize(
    ("name", "refused", "share"),
    [("save_picture", PictureRefused, 0.5), ("save_document", DocumentRefused, 0.5), ("save_seg", SegRefused, 0.995)],
)
def test_a_file_that_is_not_what_was_made_is_a_failure(written, out, monkeypatch, name, refused, share):
    save = getattr(dossiers, name)

    def spoil(first: object, source: SourceImages, path: Path, **kwargs: object) -> object:
        made = save(first, source, path, **kwargs)
        content = bytearray(path.read_bytes())
        content[int(len(content) * share)] ^= 1
        path.write_bytes(content)
        return made

    monkeypatch.setattr(dossiers, name, spoil)

    with pytest.raises(refused):
        write_dossier(written[0], out)


@pytest.mark.real_data
@pytest.mark.parametrize(
    "case",
    [
        "brainix_philips_tumour/BRAINIX/DICOM/FLAIR",
        "dicom2nifti_vendors/ge/anatomical/001",
        "dicom2nifti_vendors/hitachi/anatomical/001",
        "dicom2nifti_vendors/philips_enhanced/anatomical/001",
        "siemens_xa30_enhanced_t1",
    ],
)
def test_the_dossier_of_a_real_study_is_valid(out, case):
    found = results.case_of(dicom_dir(case))

    made = write_dossier(found, out)

    assert made.left_out == {}
    assert [line for one in made.objects for line in results.complaints(out / one.name)] == []
    assert np.array_equal(read_back(out / "mask.dcm", found.mask.grid), found.mask.voxels)
