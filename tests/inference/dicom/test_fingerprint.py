"""What the voxels say of a sequence, whatever the scanner made of them."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from inference.appearance import are_swapped, evidence, is_after_agent, looks, shows_agent, weigh
from inference.contract import Sequence, Volume
from inference.dicom.fingerprint import fingerprint
from inference.dicom.recognise import judge
from tests.inference.dicom.template import head
from tests.real_data import case_dir

pytest.importorskip("nilearn", reason="the template is in nilearn: pip install -r requirements-demo.txt")

KIND = {**{sequence: sequence for sequence in Sequence}, Sequence.T1CE: Sequence.T1}


def likely(volume: Volume) -> Sequence:
    found = looks(fingerprint(volume))
    return max(found, key=lambda sequence: found[sequence])


@pytest.mark.parametrize(
    ("sequence", "has_skull"),
    [*((sequence, False) for sequence in Sequence), (Sequence.T1, True), (Sequence.T2, True), (Sequence.FLAIR, True)],
)
def test_a_head_is_known_by_its_contrast(sequence, has_skull):
    found = looks(fingerprint(head(sequence, has_skull=has_skull)))

    assert found[KIND[sequence]] > 0.9


@pytest.mark.parametrize("sequence", [Sequence.T1, Sequence.T2, Sequence.FLAIR])
def test_slices_may_be_thick_and_stored_in_any_order_and_scale(sequence):
    scan = head(sequence, has_skull=True)
    thick = scan.voxels[:, :, ::3]
    turned = np.ascontiguousarray(thick.transpose(2, 0, 1)[::-1])
    swapped = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [-1, 0, 0, thick.shape[2] - 1], [0, 0, 0, 1]], float)
    affine = scan.affine @ np.diag([1.0, 1.0, 3.0, 1.0]) @ swapped

    assert likely(Volume(voxels=(turned * 417 + 30).astype(np.int16), affine=affine)) is sequence


def test_air_that_the_scanner_set_to_zero_does_not_make_a_head_a_brain():
    scan = head(Sequence.T2, has_skull=True)
    rim = np.indices(scan.voxels.shape).T - np.array(scan.voxels.shape) / 2
    zeroed = np.where(np.linalg.norm(rim / np.array(scan.voxels.shape) * 2, axis=-1).T > 1.02, 0.0, scan.voxels)

    found = fingerprint(Volume(voxels=zeroed, affine=scan.affine))

    assert np.mean(zeroed == 0) > 0.3
    assert found["is_stripped"] == 0.0
    assert looks(found)[Sequence.T2] > 0.9


def test_two_scans_of_one_patient_are_told_apart_by_their_vessels():
    before, after = fingerprint(head(Sequence.T1)), fingerprint(head(Sequence.T1CE))

    assert is_after_agent(after, beside=before)
    assert not is_after_agent(before, beside=after)
    assert not is_after_agent(before, beside=before)
    assert shows_agent(after) > shows_agent(before)
    assert are_swapped((Sequence.T1CE, before), (Sequence.T1, after))


def test_scans_given_in_each_others_place_are_noticed_as_a_pair():
    t2, flair = fingerprint(head(Sequence.T2)), fingerprint(head(Sequence.FLAIR))

    assert are_swapped((Sequence.T2, flair), (Sequence.FLAIR, t2))
    assert not are_swapped((Sequence.T2, t2), (Sequence.FLAIR, flair))
    assert not are_swapped((Sequence.T2, {}), (Sequence.FLAIR, t2))


@pytest.mark.parametrize(
    "voxels",
    [
        np.zeros((60, 60, 60), np.int16),
        np.full((60, 60, 60), 7.5, np.float32),
        np.ones((512, 512, 4), np.int16),
        np.pad(np.ones((4, 4, 4), np.uint8), 30),
    ],
    ids=["empty", "constant", "slab", "speck"],
)
def test_what_shows_no_head_has_no_fingerprint(voxels):
    assert fingerprint(Volume(voxels=voxels, affine=np.diag([2.0, 2.0, 2.0, 1.0]))) == {}


def test_noise_says_nothing_for_sure():
    noise = np.random.default_rng(1).rayleigh(50, (90, 100, 80)).astype(np.int16)

    verdict = judge(None, "x.nii.gz", fingerprint(Volume(voxels=noise, affine=np.diag([2.0, 2.0, 2.0, 1.0]))))

    assert verdict.sequence is None or verdict.confidence < 1.0


def test_what_was_given_is_weighed_and_not_replaced():
    flair = evidence(fingerprint(head(Sequence.FLAIR)))

    as_named = weigh(Sequence.FLAIR, 0.8, flair)
    misnamed = weigh(Sequence.T2, 0.8, flair)

    assert as_named[Sequence.FLAIR] > 0.95
    assert misnamed[Sequence.T2] < 0.2 < misnamed[Sequence.FLAIR]
    assert sum(misnamed.values()) == pytest.approx(1.0)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["t1", "t1ce", "t2", "flair"])
def test_a_clinical_scan_with_skull_and_thick_slices_is_known(name):
    image = nibabel.load(case_dir("tcga_fg_6692/raw") / f"{name}.nii.gz")
    scan = Volume(voxels=np.asanyarray(image.dataobj), affine=image.affine)

    verdict = judge(None, f"{name}.nii.gz", fingerprint(scan))

    assert (verdict.sequence, verdict.reason) == (Sequence(name.upper()), "")
    assert verdict.confidence > 0.85
