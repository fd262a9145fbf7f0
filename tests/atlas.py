"""The check of a result in scanner space against a reference in atlas space: an affine registration of two T1CE.

It is made for the check alone: the product knows no atlas.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from inference.align import resample
from inference.contract import REGION_LABELS, Grid, Label, Region, Volume
from inference.register import _image as image_of

SEED = 3


def to_scanner(atlas: Volume, scan: Volume) -> npt.NDArray[np.float64]:
    """(4, 4), RAS+ mm: points of the atlas-space copy to points of the scan, both skull-stripped."""
    fixed, moving = image_of(_floating(atlas)), image_of(_floating(scan))
    rigid = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    _method(rigid).Execute(fixed, moving)
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    affine.SetCenter(rigid.GetCenter())
    _method(affine).Execute(fixed, moving)
    centre, turn = np.asarray(affine.GetCenter()), np.asarray(affine.GetMatrix()).reshape(3, 3)
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = np.asarray(affine.GetTranslation()) + centre - turn @ centre
    return matrix


def carried(mask: Volume, matrix: npt.NDArray[np.float64], *, grid: Grid) -> npt.NDArray[np.uint8]:
    """The label mask in atlas space: (X, Y, Z) uint8 of Label on `grid`. Each region is carried on its own."""
    affine = np.linalg.inv(matrix) @ mask.affine
    found = {
        region: resample(Volume(np.isin(mask.voxels, REGION_LABELS[region]).astype(np.float32), affine), grid) >= 0.5
        for region in Region
    }
    labels = np.zeros(grid.shape, dtype=np.uint8)
    labels[found[Region.WT]] = Label.OEDEMA
    labels[found[Region.WT] & found[Region.TC]] = Label.NECROTIC_CORE
    labels[found[Region.WT] & found[Region.TC] & found[Region.ET]] = Label.ENHANCING_TUMOUR
    return labels


def dice_by_region(found: npt.NDArray[np.generic], truth: npt.NDArray[np.generic]) -> dict[Region, float]:
    """Overlap of each region, 0 to 1; 1 where neither has any."""
    scores = {}
    for region in Region:
        one, other = (np.isin(labels, REGION_LABELS[region]) for labels in (found, truth))
        size = int(one.sum() + other.sum())
        scores[region] = float(2 * (one & other).sum() / size) if size else 1.0
    return scores


def _floating(volume: Volume) -> Volume:
    return Volume(voxels=volume.voxels.astype(np.float32), affine=volume.affine)


def _method(transform: sitk.Transform) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.1, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescentLineSearch(1.0, 200, 1e-6, 10)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([4, 2, 1])
    method.SetInitialTransform(transform, True)
    return method
