"""Where the head lies in another scan of the same patient: a rigid movement, found by mutual information.

SimpleITK (Mattes et al. 2003): several starts in voxels of 6 mm, then the best of them in voxels of 1.5 mm. Thick
slices stay thick.

Flow: 6 run
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.align import apply_affine, resample
from inference.contract import Grid, Volume
from inference.likeness import BETTER, Matrix, Probe, turned
from inference.scan import Scan

if TYPE_CHECKING:
    import SimpleITK

FINE_MM = 1.5
COARSE_MM = 6.0
SEED = 7
BINS = 32
SAMPLED_SHARE = 0.4
"""With 0.2 the answer is up to 0.9 degrees off by the choice of points alone, with 0.4 up to 0.25 (seven phantoms)."""
ROUGH_ITERATIONS = 120
FINE_ITERATIONS = 10
HEAD_RADIUS_MM = 60.0
"""A turn by one radian counts as a shift by this much."""
MARGIN_MM = 6.0
"""The edge of the head says much about where it lies, so a rim of air is looked at as well."""
TURNS_DEGREES = (-25.0, 0.0, 25.0)
CANDIDATES = 2


class Reference:
    """The scan that others are registered to, averaged once for all of them."""

    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        self.probe = Probe(scan)
        self._views: dict[float, tuple[Volume, npt.NDArray[np.bool_]]] = {}

    def view(self, edge_mm: float) -> tuple[Volume, npt.NDArray[np.bool_]]:
        """The scan in voxels of at least `edge_mm`, and (X, Y, Z) the head in it with a rim of air."""
        if edge_mm not in self._views:
            volume = _averaged(self.scan.volume, edge_mm)
            self._views[edge_mm] = volume, _head(self.scan, volume.grid)
        return self._views[edge_mm]


def register(reference: Reference, other: Scan, *, threads: int, check: Callable[[], None]) -> Matrix:
    """(4, 4) rigid, RAS+ mm: points of the reference to points of `other`, starting from the headers' positions.

    The search starts where the headers lead, and from a few turns around the middles of both heads in case they lead
    nowhere (another frame of reference). The identity comes back when nothing was found that fits better than it.
    The same scans and threads give the same answer.
    `check` is called at every step and may raise; what it raises comes out here.
    """
    probe, search = reference.probe, _Search(reference, threads=threads, check=check)
    moving = _averaged(other.volume, COARSE_MM)
    rough = [search.best(moving, edge_mm=COARSE_MM, start=start) for start in _starts(probe, other, coarse=moving)]
    # The headers are the first start; another must be clearly better, or a mirrored head could win by a hair.
    start, best = rough[0], probe.likeness(moving, rough[0])
    for candidate in rough[1:]:
        if (likeness := probe.likeness(moving, candidate)) > best * BETTER:
            start, best = candidate, likeness
    moving = _averaged(other.volume, FINE_MM)
    found = search.best(moving, edge_mm=FINE_MM, start=start)
    # Threads add up in any order, which shows in the last digits; these are far below any movement that matters.
    found = np.round(found, 9)
    return max((np.eye(4), found), key=lambda matrix: probe.likeness(moving, matrix))


class _Search:
    """Runs SimpleITK, and stops it when `check` raises."""

    def __init__(self, reference: Reference, *, threads: int, check: Callable[[], None]) -> None:
        self._reference = reference
        self._threads = threads
        self._check = check
        self._raised: BaseException | None = None

    def best(self, moving: Volume, *, edge_mm: float, start: Matrix) -> Matrix:
        """The optimum next to `start`; `start` itself if the scans do not meet there."""
        import SimpleITK as sitk

        self._check()
        fixed, mask = self._reference.view(edge_mm)
        method = sitk.ImageRegistrationMethod()
        method.SetNumberOfThreads(self._threads)
        method.SetMetricAsMattesMutualInformation(BINS)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(SAMPLED_SHARE if edge_mm == FINE_MM else 1.0, SEED)
        method.SetMetricFixedMask(_image(Volume(voxels=mask.astype(np.uint8), affine=fixed.affine)))
        method.SetInterpolator(sitk.sitkLinear)
        (_finely if edge_mm == FINE_MM else _roughly)(method)
        movement = _movement(start, self._reference.probe.centre)
        method.SetInitialTransform(movement, True)  # noqa: FBT003 - inPlace has no name in this binding
        method.AddCommand(sitk.sitkIterationEvent, lambda: self._step(method))
        try:
            method.Execute(_image(fixed), _image(moving))
        except RuntimeError:
            # ITK has one exception for all; here it means that too few points of one scan lie inside the other.
            return start
        if self._raised is not None:
            raise self._raised
        return _matrix(movement)

    def _step(self, method: SimpleITK.ImageRegistrationMethod) -> None:
        """Nothing may be raised through C++; it is kept, and the search ends."""
        try:
            if self._raised is None:
                self._check()
        except BaseException as error:  # noqa: BLE001 - raised again as soon as the search has ended
            self._raised = error
        if self._raised is not None:
            method.StopRegistration()  # ends one level only, so the next one asks again


def _roughly(method: SimpleITK.ImageRegistrationMethod) -> None:
    """Two levels down the gradient: fast from afar, but it gets stuck a degree before a flat optimum."""
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0,
        minStep=0.05,
        numberOfIterations=ROUGH_ITERATIONS,
        relaxationFactor=0.6,
        gradientMagnitudeTolerance=1e-6,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()


def _finely(method: SimpleITK.ImageRegistrationMethod) -> None:
    """Powell's line searches: no gradient of a sampled metric is as exact as the metric itself."""
    method.SetOptimizerAsPowell(
        numberOfIterations=FINE_ITERATIONS,
        maximumLineIterations=20,
        stepLength=1.0,
        stepTolerance=0.05,
        valueTolerance=1e-4,
    )
    method.SetOptimizerScales([HEAD_RADIUS_MM] * 3 + [1.0] * 3)


def _starts(probe: Probe, other: Scan, *, coarse: Volume) -> list[Matrix]:
    """The headers' position, then the most promising of the others."""
    middle = np.eye(4)
    middle[:3, 3] = _middle(other) - probe.centre
    candidates = []
    for degrees in itertools.product(TURNS_DEGREES, repeat=3):
        turn = turned(np.array(degrees), about=probe.centre)
        candidates += [turn, middle @ turn]
    ranked = sorted(candidates, key=lambda matrix: -probe.likeness(coarse, matrix))
    return [np.eye(4), *ranked[:CANDIDATES]]


def _middle(scan: Scan) -> npt.NDArray[np.float64]:
    step = tuple(slice(None, None, max(1, length // 64)) for length in scan.volume.voxels.shape)
    index = np.argwhere(scan.seen[step]) * np.array([part.step for part in step])
    return np.asarray(apply_affine(scan.volume.affine, index.astype(np.float64)).mean(axis=0))


def _head(scan: Scan, grid: Grid) -> npt.NDArray[np.bool_]:
    """(X, Y, Z) on `grid`: the head of `scan` and a rim of air around it."""
    seen = resample(Volume(voxels=scan.seen.astype(np.float32), affine=scan.volume.affine), grid) > 0.5
    reach = [2 * int(np.ceil(MARGIN_MM / edge)) + 1 for edge in grid.spacing_mm]
    return np.asarray(ndimage.maximum_filter(seen, size=reach))


def _averaged(volume: Volume, edge_mm: float) -> Volume:
    """The scan in voxels of at least `edge_mm` an axis along its own axes, any shear taken out: float32."""
    own = np.asarray(volume.grid.spacing_mm)
    edges = np.maximum(own, edge_mm)
    left, _, right = np.linalg.svd(volume.affine[:3, :3] / own)
    affine = np.eye(4)
    affine[:3, :3] = left @ right * edges
    corner = apply_affine(volume.affine, np.full((1, 3), -0.5))[0]
    affine[:3, 3] = corner + affine[:3, :3] @ np.full(3, 0.5)
    x, y, z = (int(length) for length in np.maximum(1, np.ceil(np.asarray(volume.grid.shape) * own / edges - 1e-3)))
    return Volume(voxels=resample(volume, Grid(shape=(x, y, z), affine=affine)), affine=affine)


def _image(volume: Volume) -> SimpleITK.Image:
    """The volume for SimpleITK. Its world is left in RAS+ millimetres: nothing here asks where left is."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.voxels.T))
    spacing = np.asarray(volume.grid.spacing_mm)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    image.SetDirection((volume.affine[:3, :3] / spacing).ravel().tolist())
    return image


def _movement(matrix: Matrix, centre: npt.NDArray[np.float64]) -> SimpleITK.Euler3DTransform:
    import SimpleITK as sitk

    movement = sitk.Euler3DTransform()
    movement.SetCenter(centre.tolist())
    movement.SetMatrix(matrix[:3, :3].ravel().tolist(), 1e-6)
    movement.SetTranslation((apply_affine(matrix, centre[None])[0] - centre).tolist())
    return movement


def _matrix(movement: SimpleITK.Euler3DTransform) -> Matrix:
    centre, turn = np.asarray(movement.GetCenter()), np.asarray(movement.GetMatrix()).reshape(3, 3)
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = np.asarray(movement.GetTranslation()) + centre - turn @ centre
    return matrix
