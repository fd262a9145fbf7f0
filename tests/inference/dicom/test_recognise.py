"""Which sequence a series is."""

from __future__ import annotations

import pytest

from inference.contract import Sequence
from inference.dicom import ScanFacts, from_file_name, recognise
from inference.dicom.recognise import judge
from inference.dicom.words import read_words

SPIN_ECHO_T1 = {"repetition_ms": 500.0, "echo_ms": 12.0, "scanning_sequence": ("SE",)}
MPRAGE = {"repetition_ms": 2300.0, "echo_ms": 2.9, "inversion_ms": 900.0, "scanning_sequence": ("GR", "IR")}
FSPGR = {"repetition_ms": 8.9, "echo_ms": 3.2, "inversion_ms": 450.0, "scanning_sequence": ("GR",)}
TURBO_T2 = {"repetition_ms": 4451.0, "echo_ms": 100.0, "scanning_sequence": ("SE",)}
DARK_FLUID = {"repetition_ms": 9000.0, "echo_ms": 110.0, "inversion_ms": 2500.0, "scanning_sequence": ("IR",)}
SPACE_FLAIR = {"repetition_ms": 6000.0, "echo_ms": 394.0, "inversion_ms": 2200.0, "scanning_sequence": ("SE", "IR")}
# As a simulated FLAIR and T1 have them.
LIKE_FLAIR = {"edges_1": 0.95, "edges_2": 0.85, "edges_4": 0.95, "edges_5": 1.1, "folds": 0.7}
LIKE_FLAIR |= {"darkest": 0.3, "brightest": 1.25, "specks": 1.5}
LIKE_T1 = {"edges_1": 1.4, "edges_2": 1.2, "edges_4": 0.65, "edges_5": 0.55, "folds": 0.6}
LIKE_T1 |= {"darkest": 0.4, "brightest": 1.2, "specks": 0.85}


@pytest.mark.parametrize("scan", [SPIN_ECHO_T1, MPRAGE, FSPGR])
def test_short_times_are_t1_and_with_an_agent_t1ce(scan):
    assert recognise(ScanFacts(**scan))[0] is Sequence.T1

    assert recognise(ScanFacts(**scan, contrast_agent="Gadovist"))[0] is Sequence.T1CE


def test_long_times_are_t2_and_with_a_long_inversion_flair():
    assert recognise(ScanFacts(**TURBO_T2))[0] is Sequence.T2

    assert recognise(ScanFacts(**DARK_FLUID))[0] is Sequence.FLAIR
    assert recognise(ScanFacts(**SPACE_FLAIR))[0] is Sequence.FLAIR


def test_an_agent_does_not_turn_t2_or_flair_into_t1ce():
    assert recognise(ScanFacts(**TURBO_T2, contrast_agent="Dotarem"))[0] is Sequence.T2
    assert recognise(ScanFacts(**DARK_FLUID, contrast_agent="Dotarem"))[0] is Sequence.FLAIR


def test_two_witnesses_who_agree_are_believed_more_than_one():
    both = recognise(ScanFacts(**TURBO_T2, descriptions=("sT2/TSE/T",)))[1]
    physics = recognise(ScanFacts(**TURBO_T2))[1]
    words = recognise(ScanFacts(descriptions=("AX T2 TSE",)))[1]

    assert both > physics > words > 0.5


def test_a_description_against_the_scan_parameters_is_nobodys_word():
    assert recognise(ScanFacts(**TURBO_T2, descriptions=("T1 SE",))) == (None, 0.0)


def test_the_agent_of_the_examination_copied_into_the_scan_before_it_does_not_count():
    found, confidence = recognise(ScanFacts(**SPIN_ECHO_T1, descriptions=("T1 SE ohne KM",), contrast_agent="Gadovist"))

    assert found is Sequence.T1
    assert confidence <= 0.6


@pytest.mark.parametrize("agent", ["NONE", "no", "N", " "])
def test_an_agent_called_none_is_none(agent):
    assert recognise(ScanFacts(**SPIN_ECHO_T1, contrast_agent=agent))[0] is Sequence.T1


@pytest.mark.parametrize(
    "description",
    [
        "FLAIR_ROI",
        "DWI b1000",
        "ep2d_diff_ADC",
        "SWI",
        "T2* GRE",
        "t2star",
        "TOF MRA",
        "localizer",
        "PD FSE",
        "CISS 3D",
    ],
)
def test_what_is_no_anatomical_scan_stays_unnamed(description):
    assert recognise(ScanFacts(**TURBO_T2, descriptions=(description,))) == (None, 0.0)


def test_a_phase_image_an_echo_planar_and_a_proton_density_scan_stay_unnamed():
    phase = ScanFacts(**MPRAGE, image_type=("ORIGINAL", "PRIMARY", "P"))
    functional = ScanFacts(repetition_ms=3000.0, echo_ms=30.0, scanning_sequence=("EP",))
    density = ScanFacts(repetition_ms=4000.0, echo_ms=12.0, scanning_sequence=("SE",))

    assert [recognise(facts)[0] for facts in (phase, functional, density)] == [None, None, None]


@pytest.mark.parametrize(
    ("description", "has_contrast"),
    [
        ("T1 AX POST GAD", True),
        ("T1W+C", True),
        ("t1_mprage_sag_KM", True),
        ("T1 après injection", True),
        ("AX T1 mdc", True),
        ("T1 조영증강", True),
        ("T1 造影後", True),
        ("T1 增强", True),
        ("T1 SE", None),
        ("T1 pre Gd", False),
        ("T1 w/o contrast", False),
        ("T1 o. KM", False),
        ("T1 sans injection", False),
        ("T1 senza mdc", False),
        ("T1 조영전", False),
        ("T1 平扫", False),
    ],
)
def test_contrast_is_read_in_several_languages(description, has_contrast):
    words = read_words((description,))

    assert words.weighting is Sequence.T1
    assert words.has_contrast is has_contrast


@pytest.mark.parametrize(
    ("description", "weighting"),
    [
        ("sT2W/FLAIR SENSE", Sequence.FLAIR),
        ("t2_tirm_tra_dark-fluid", Sequence.FLAIR),
        ("T1 FLAIR", Sequence.T1),
        ("T1강조 축상", Sequence.T1),
        ("pondéré en T2", Sequence.T2),
        ("MPRAGE", Sequence.T1),
        ("T1 T2 map", None),
        ("T10 spine", None),
    ],
)
def test_weighting_is_read_from_words(description, weighting):
    assert read_words((description,)).weighting is weighting


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("t1.nii.gz", Sequence.T1),
        ("BraTS-GLI-00001-000-t1n.nii.gz", Sequence.T1),
        ("T1CE.nii", Sequence.T1CE),
        ("BraTS-GLI-00001-000-t1c.nii.gz", Sequence.T1CE),
        ("patient_t1gd.nii.gz", Sequence.T1CE),
        ("x_t1post.nii.gz", Sequence.T1CE),
        ("sub-01_ce-gadolinium_T1w.nii.gz", Sequence.T1CE),
        ("t2.nii.gz", Sequence.T2),
        ("case.t2w.nii", Sequence.T2),
        ("flair.nii.gz", Sequence.FLAIR),
        ("p1_fla.nii.gz", Sequence.FLAIR),
        ("t2f.nii.gz", Sequence.FLAIR),
        ("t2_flair.nii.gz", Sequence.FLAIR),
        ("scan.nii.gz", None),
        ("t1_t2.nii.gz", None),
        ("t1_seg.nii.gz", None),
    ],
)
def test_a_nifti_file_is_known_by_its_name(name, expected):
    assert from_file_name(name)[0] is expected


def test_a_file_name_that_the_voxels_contradict_is_kept_and_doubted():
    verdict = judge(None, "t2.nii.gz", LIKE_FLAIR)

    assert (verdict.sequence, verdict.source) == (Sequence.T2, "name")
    assert verdict.confidence < 0.3
    assert verdict.reason.startswith("The series given as T2 looks like FLAIR: fluid is dark")


def test_a_header_that_the_voxels_contradict_loses_its_confidence():
    facts = ScanFacts(**TURBO_T2, descriptions=("T2 TSE",))

    alone, beside = judge(facts, "", {}), judge(facts, "", LIKE_FLAIR)

    assert (alone.confidence, alone.reason) == (0.97, "")
    assert beside.sequence is Sequence.T2
    assert beside.confidence < 0.5
    assert "looks like FLAIR" in beside.reason


def test_voxels_that_agree_make_it_surer():
    facts = ScanFacts(**DARK_FLUID)

    assert judge(facts, "", LIKE_FLAIR).confidence > judge(facts, "", {}).confidence


def test_voxels_speak_alone_where_header_and_name_are_silent():
    verdict = judge(ScanFacts(), "", LIKE_FLAIR)

    assert (verdict.sequence, verdict.source) == (Sequence.FLAIR, "voxels")
    assert judge(None, "scan.nii.gz", LIKE_FLAIR).sequence is Sequence.FLAIR


def test_whether_an_agent_was_given_is_asked_unless_the_header_says_it():
    assert judge(None, "scan.nii.gz", LIKE_T1).sequence is None
    assert "after contrast agent" in judge(None, "scan.nii.gz", LIKE_T1).reason

    assert judge(ScanFacts(contrast_agent="Gadovist"), "", LIKE_T1).sequence is Sequence.T1CE
    assert judge(ScanFacts(descriptions=("ohne KM",)), "", LIKE_T1).sequence is Sequence.T1


def test_voxels_do_not_make_a_scan_of_a_map():
    assert judge(ScanFacts(image_type=("DERIVED", "PRIMARY", "ADC")), "", LIKE_FLAIR).sequence is None
    assert judge(None, "unknown.nii.gz", {}).sequence is None
