"""The whole analysis, with a model that needs no training and with the built-in one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inference.contract import REGION_LABELS, Preview, Progress, Region, Scans, Sequence, Stage
from inference.models.registry import Registry
from inference.pipeline import segment
from inference.volume import read_nifti, to_ras
from inference.watch import Watch
from tests.inference import heads
from tests.inference.bright import bright_model
from tests.real_data import case_dir


def real_scans(name: str) -> Scans:
    """The four sequences of a real case; the mask is to lie on T1CE's grid."""
    folder = case_dir(name)
    volumes = {sequence: to_ras(read_nifti(folder / f"{sequence.lower()}.nii.gz")) for sequence in Sequence}
    return Scans(volumes=volumes, grid=volumes[Sequence.T1CE].grid)


def test_a_tumour_is_found_where_it_is():
    grid = heads.grid()
    news: list[Progress | Preview] = []

    found = segment(Scans(volumes=heads.head(grid), grid=grid), model=bright_model(), watch=Watch(news.append))

    assert heads.dice(found.labels > 0, heads.ball(grid)) > 0.9
    assert heads.dice(np.isin(found.labels, (1, 3)), heads.ball(grid, heads.CORE_RADIUS_MM)) > 0.9
    assert found.volumes_ml[Region.WT] == pytest.approx(heads.ball(grid).sum() * 0.008, rel=0.15)
    assert list(found.stage_seconds) == [Stage.PREPROCESS, Stage.INFERENCE, Stage.POSTPROCESS]
    stages = [item.stage for item in news if isinstance(item, Progress)]
    assert list(dict.fromkeys(stages)) == [Stage.PREPROCESS, Stage.INFERENCE, Stage.POSTPROCESS]


@pytest.mark.parametrize(
    "reference",
    [
        heads.grid((113, 131, 21), spacing_mm=(1.1, 1.1, 5.5), axes=np.diag([-1.0, 1.0, 1.0])),
        heads.grid((25, 140, 120), spacing_mm=(5.0, 1.0, 1.0)),
    ],
    ids=["axial LAS", "sagittal"],
)
def test_the_mask_lies_on_the_grid_that_was_asked_for(reference):
    """Clinical references: thick slices, another orientation than the other scans."""
    volumes = heads.head(heads.grid()) | {Sequence.T1CE: heads.scan(Sequence.T1CE, reference)}

    found = segment(Scans(volumes=volumes, grid=reference), model=bright_model(), watch=Watch())

    assert found.labels.shape == reference.shape
    where = heads.points_mm(reference)[found.labels > 0].mean(axis=0)
    np.testing.assert_allclose(where, heads.BALL_MM, atol=1.0)
    assert heads.dice(found.labels > 0, heads.ball(reference)) > 0.88


def test_the_same_scans_give_the_same_mask():
    grid = heads.grid()
    scans = Scans(volumes=heads.head(grid), grid=grid)

    first = segment(scans, model=bright_model(), watch=Watch())

    again = segment(scans, model=bright_model(), watch=Watch())
    np.testing.assert_array_equal(first.labels, again.labels)


def test_what_parents_import_loads_no_torch():
    """The worker's link and the web process share a machine with the analysis; torch costs 200 MB and a second."""
    modules = "inference, inference.contract, inference.isolate, inference.volume, inference.export.report"
    check = f"import sys, {modules}; sys.exit('torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", check], cwd=Path(__file__).parents[2], check=False)

    assert done.returncode == 0


@pytest.mark.real_data
def test_the_built_in_model_finds_a_real_tumour():
    scans = real_scans("tcga_fg_6692/sri24")
    registry = Registry()
    model = registry.load(registry.find(None), device="cpu")

    found = segment(scans, model=model, watch=Watch())

    truth = to_ras(read_nifti(case_dir("tcga_fg_6692/sri24") / "seg.nii.gz")).voxels
    whole = REGION_LABELS[Region.WT]
    assert heads.dice(np.isin(found.labels, whole), np.isin(truth, whole)) >= 0.75


@pytest.mark.campaign
@pytest.mark.real_data
def test_a_raw_clinical_case_on_four_grids_ends_on_the_grid_of_t1ce():
    scans = real_scans("tcga_fg_6692/raw")

    found = segment(scans, model=bright_model(), watch=Watch())

    assert found.labels.shape == scans.volumes[Sequence.T1CE].voxels.shape
    assert found.grid.is_close_to(scans.volumes[Sequence.T1CE].grid)
    assert found.volumes_ml[Region.WT] > 1.0
