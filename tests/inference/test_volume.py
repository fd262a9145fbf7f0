"""Reading NIfTI, reordering axes and packing voxels for the wire."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.contract import Grid, PackedVolume, Volume
from inference.errors import InputInvalid
from inference.export.nifti import write_nifti
from inference.volume import from_ras, pack, pack_mask, ras_grid, read_nifti, to_ras, unpack
from tests.inference import heads
from tests.real_data import case_dir

AFFINE = np.array([[-2.0, 0, 0, 30], [0, 0, 3, -20], [0, -1.5, 0, 10], [0, 0, 0, 1]])


def stored(
    folder: Path, voxels: np.ndarray, *, name: str = "scan.nii.gz", affine: np.ndarray = AFFINE, **fields: object
) -> Path:
    """A NIfTI file of these voxels; `fields` are written over its header, whatever nibabel would think of them."""
    image = nib.Nifti1Image(voxels, affine, dtype=voxels.dtype)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    content = image.to_bytes()
    header = nib.Nifti1Header(binaryblock=content[:348], check=False)
    for field, value in fields.items():
        header[field] = value
    content = header.binaryblock + content[348:]
    (folder / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    return folder / name


def ramp(shape=(4, 5, 6), dtype=np.int16) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def refusal(path: Path) -> InputInvalid:
    """The error that reading this file ends in."""
    with pytest.raises(InputInvalid) as caught:
        read_nifti(path)
    assert path.name in str(caught.value)
    return caught.value


@st.composite
def affines(draw) -> np.ndarray:
    """Any order and direction of axes, any spacing, tilted by up to 40 degrees."""
    axes = np.eye(3)[:, draw(st.permutations(range(3)))] * draw(st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3))
    angle = np.deg2rad(draw(st.floats(-40, 40)))
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes * draw(st.tuples(*[st.floats(0.3, 6.0)] * 3))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    return affine


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_a_file_is_read_as_it_is_stored(tmp_path, name):
    path = stored(tmp_path, ramp(), name=name)

    volume = read_nifti(path)

    assert volume.voxels.dtype == np.int16
    np.testing.assert_array_equal(volume.voxels, ramp())
    np.testing.assert_allclose(volume.affine, AFFINE)


def test_the_sform_wins_where_it_is_valid(tmp_path):
    """NIfTI-1: method 3 before method 2. Two matrices in one file are common after registration."""
    moved = AFFINE.copy()
    moved[0, 3] += 7
    path = stored(tmp_path, ramp(), srow_x=moved[0])

    volume = read_nifti(path)

    np.testing.assert_allclose(volume.affine, moved)


def test_the_qform_is_used_where_the_sform_is_not_set(tmp_path):
    path = stored(tmp_path, ramp(), sform_code=0)

    volume = read_nifti(path)

    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)


def test_a_file_without_orientation_is_refused(tmp_path):
    """Guessing would be right half of the time, and the other half is the wrong side of a brain."""
    path = stored(tmp_path, ramp(), sform_code=0, qform_code=0)

    error = refusal(path)

    assert error.code == "no_orientation"


def test_stored_scaling_is_applied(tmp_path):
    path = stored(tmp_path, ramp(), scl_slope=0.5, scl_inter=3.0)

    volume = read_nifti(path)

    assert volume.voxels.dtype == np.float32
    np.testing.assert_allclose(volume.voxels, ramp() * 0.5 + 3)


def test_big_endian_files_come_out_native(tmp_path):
    image = nib.Nifti1Image(ramp(), AFFINE, nib.Nifti1Header(endianness=">"))
    image.header.set_data_dtype(np.int16)
    image.set_sform(AFFINE, code=1)
    nib.save(image, tmp_path / "big.nii")

    volume = read_nifti(tmp_path / "big.nii")

    assert volume.voxels.dtype.isnative
    np.testing.assert_array_equal(volume.voxels, ramp())


def test_a_fourth_axis_of_length_one_is_dropped(tmp_path):
    path = stored(tmp_path, ramp()[..., None])

    volume = read_nifti(path)

    assert volume.voxels.shape == (4, 5, 6)


@pytest.mark.parametrize("shape", [(4, 5, 6, 2), (4, 5)])
def test_series_over_time_and_single_images_are_refused(tmp_path, shape):
    path = stored(tmp_path, ramp(shape))

    error = refusal(path)

    assert error.code == "not_3d"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_numbers_are_refused(tmp_path, value):
    voxels = ramp(dtype=np.float32)
    voxels[1, 2, 3] = value
    path = stored(tmp_path, voxels)

    error = refusal(path)

    assert error.code == "not_finite"
    assert "1 of its voxels" in str(error)


def test_colour_images_are_refused(tmp_path):
    path = stored(tmp_path, np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]))

    error = refusal(path)

    assert error.code == "not_real"


def test_an_affine_that_squashes_the_volume_is_refused(tmp_path):
    path = stored(tmp_path, ramp(), srow_z=(0, 0, 0, 0), sform_code=1)

    error = refusal(path)

    assert error.code == "affine_singular"


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_a_file_that_ends_early_is_refused(tmp_path, name):
    path = stored(tmp_path, np.random.default_rng(1).integers(0, 999, (20, 20, 20)).astype(np.int16), name=name)
    path.write_bytes(path.read_bytes()[:-3000])

    error = refusal(path)

    assert error.code == "truncated"


@pytest.mark.parametrize("content", [b"", b"hello", gzip.compress(b"hello", mtime=0), b"\x1f\x8b broken"])
def test_what_is_no_nifti_file_is_refused(tmp_path, content):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(content)

    error = refusal(path)

    assert error.code == "not_nifti"


def test_a_file_that_is_not_there_is_named(tmp_path):
    error = refusal(tmp_path / "missing.nii.gz")

    assert error.code == "not_found"


def test_a_header_cannot_ask_for_more_memory_than_a_scan_needs(tmp_path):
    path = stored(tmp_path, ramp(), name="scan.nii", dim=(3, 30000, 30000, 30000, 1, 1, 1, 1))

    error = refusal(path)

    assert error.code == "too_large"


@given(affine=affines(), shape=st.tuples(*[st.integers(1, 6)] * 3))
def test_reordering_keeps_every_voxel_at_its_place_in_space(affine, shape):
    volume = Volume(voxels=ramp(shape), affine=affine)

    ras = to_ras(volume)

    back = np.linalg.inv(affine) @ ras.affine
    for index in np.ndindex(*ras.voxels.shape):
        i, j, k = np.rint(back @ (*index, 1))[:3].astype(int)
        assert ras.voxels[index] == volume.voxels[i, j, k]
    assert ras_grid(volume.grid).is_close_to(ras.grid)


@given(affine=affines(), shape=st.tuples(*[st.integers(1, 6)] * 3))
def test_a_mask_goes_forth_and_back_unchanged(affine, shape):
    mask = Volume(voxels=(ramp(shape) % 4).astype(np.uint8), affine=affine)

    back = from_ras(to_ras(mask).voxels, mask.grid)

    np.testing.assert_array_equal(back, mask.voxels)
    assert back.dtype == np.uint8


def test_a_mask_of_another_shape_is_not_taken_back():
    with pytest.raises(ValueError, match="shape"):
        from_ras(np.zeros((2, 2, 2)), Grid(shape=(3, 3, 3), affine=AFFINE))


@pytest.mark.parametrize("encoding", ["zstd", "gzip"])
@pytest.mark.parametrize(
    ("voxels", "dtype"),
    [
        (ramp(), "int16"),
        (ramp().astype(np.uint8), "int16"),
        (ramp().astype(np.float64), "int16"),
        (ramp().astype(np.float32) + 0.25, "float32"),
        (ramp().astype(np.uint16) + 60000, "float32"),
        (ramp().astype(np.int64) * 1000, "float32"),
        (ramp() > 50, "int16"),
    ],
)
def test_packing_loses_nothing_and_takes_the_smaller_type(tmp_path, voxels, dtype, encoding):
    volume = Volume(voxels=voxels, affine=AFFINE)

    packed = pack(volume, tmp_path / "scan", encoding=encoding)

    ras, back = to_ras(volume), unpack(tmp_path / "scan", packed)
    assert packed.dtype == dtype
    assert packed.size == (tmp_path / "scan").stat().st_size
    np.testing.assert_array_equal(back.voxels, ras.voxels)
    np.testing.assert_array_equal(back.affine, ras.affine)


def test_a_mask_is_packed_as_bytes(tmp_path):
    packed = pack_mask((ramp() % 4).astype(np.uint8), tmp_path / "mask", affine=AFFINE)

    assert packed.dtype == "uint8"
    assert unpack(tmp_path / "mask", packed).voxels.max() == 3


def test_packing_is_done_or_not_done(tmp_path):
    pack(Volume(voxels=ramp(), affine=AFFINE), tmp_path / "scan")

    assert [path.name for path in tmp_path.iterdir()] == ["scan"]


def packed_ramp(folder: Path) -> PackedVolume:
    return pack(Volume(voxels=ramp(), affine=AFFINE), folder / "scan")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"size": 7}, "size_mismatch"),
        ({"sha256": "0" * 64}, "digest_mismatch"),
        ({"shape": (4, 5, 5)}, "size_mismatch"),
        ({"shape": (4, 5, 7)}, "size_mismatch"),
        ({"shape": (40000, 50000, 6)}, "too_large"),
        ({"shape": (4, 5, -6)}, "too_large"),
        ({"dtype": "object"}, "corrupt"),
        ({"encoding": "xz"}, "corrupt"),
        ({"encoding": "gzip"}, "corrupt"),
        ({"affine": (0.0,) * 16}, "affine_singular"),
        ({"affine": (1.0,) * 9}, "affine_singular"),
    ],
)
def test_a_file_that_is_not_what_was_announced_is_refused(tmp_path, change, code):
    packed = dataclasses.replace(packed_ramp(tmp_path), **change)

    with pytest.raises(InputInvalid) as caught:
        unpack(tmp_path / "scan", packed)

    assert caught.value.code == code


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [
        ("zstd", zstandard.compress(bytes(64 << 20))),
        ("gzip", gzip.compress(bytes(64 << 20), mtime=0)),
    ],
)
def test_a_bomb_is_stopped_at_the_announced_size(tmp_path, encoding, bomb):
    (tmp_path / "scan").write_bytes(bomb)
    packed = dataclasses.replace(packed_ramp(tmp_path), size=len(bomb), encoding=encoding)
    (tmp_path / "scan").write_bytes(bomb)

    with pytest.raises(InputInvalid) as caught:
        unpack(tmp_path / "scan", packed)

    assert caught.value.code == "size_mismatch"


@given(cut=st.integers(0, 200))
@settings(max_examples=30)
def test_a_damaged_file_never_becomes_a_scan(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("packed")
    packed = packed_ramp(folder)
    content = bytearray((folder / "scan").read_bytes())
    content[cut % len(content)] ^= 0x55
    (folder / "scan").write_bytes(content)

    with pytest.raises(InputInvalid) as caught:
        unpack(folder / "scan", packed)

    assert caught.value.code in ("corrupt", "digest_mismatch", "size_mismatch")


def test_a_written_file_is_read_back_the_same(tmp_path):
    volume = Volume(voxels=ramp(), affine=AFFINE)

    write_nifti(volume, tmp_path / "scan.nii.gz")

    back = read_nifti(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(back.voxels, volume.voxels)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-5)


def test_the_same_mask_gives_the_same_bytes(tmp_path):
    """A digest of the file is compared after an upload was repeated; a time stamp in it would differ."""
    mask = Volume(voxels=(ramp() % 4).astype(np.uint8), affine=AFFINE)

    write_nifti(mask, tmp_path / "one.nii.gz", labels=True)
    write_nifti(mask, tmp_path / "two.nii.gz", labels=True)

    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()


def test_a_sheared_grid_is_written_without_a_qform(tmp_path):
    """A qform cannot say a shear; nibabel would store the closest rotation, and viewers that prefer it would be off."""
    sheared = AFFINE.copy()
    sheared[0, 2] = 1.0
    write_nifti(Volume(voxels=ramp(), affine=sheared), tmp_path / "scan.nii")

    header = nib.load(tmp_path / "scan.nii").header

    assert header["qform_code"] == 0
    np.testing.assert_allclose(header.get_sform(), sheared, atol=1e-5)


@pytest.mark.real_data
@pytest.mark.parametrize("case", ["brats_met_00110", "tcga_fg_6692/raw"])
def test_real_scans_survive_the_wire(tmp_path, case):
    volume = read_nifti(case_dir(case) / "t1ce.nii.gz")

    packed = pack(volume, tmp_path / "scan")

    back = from_ras(unpack(tmp_path / "scan", packed).voxels, volume.grid)
    np.testing.assert_array_equal(back, volume.voxels)
    assert packed.size < 0.6 * volume.voxels.nbytes


def test_heads_are_where_they_should_be():
    """The other tests stand on these."""
    ball = heads.ball(heads.grid())

    centre = heads.points_mm(heads.grid())[ball].mean(axis=0)

    np.testing.assert_allclose(centre, heads.BALL_MM, atol=0.2)


@pytest.mark.parametrize(("name", "other"), [("a.nii", "a.nii.gz"), ("a.nii.gz", "a.nii"), ("a.nii.gz", "export")])
def test_a_file_is_read_whatever_its_name_says_of_gzip(tmp_path, name, other):
    whole = stored(tmp_path, ramp(), name=name).rename(tmp_path / other)

    assert np.array_equal(read_nifti(whole).voxels, ramp())


def test_a_run_over_time_is_refused_with_the_number_of_its_volumes(tmp_path):
    assert "holds 3 volumes" in str(refusal(stored(tmp_path, ramp((4, 5, 6, 3)))))
