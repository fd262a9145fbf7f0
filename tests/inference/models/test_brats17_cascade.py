"""From prepared scans to nested regions, with networks that need no training: bright means tumour."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from inference.contract import Grid, Label, Preview, Progress, Sequence, Stage
from inference.errors import Cancelled, ModelFailed, OutOfMemory
from inference.models.brats17.cascade import predict, settled, whole_tumour
from inference.models.brats17.network import HALO
from inference.models.brats17.views import AXES, LEAST_PLANE, as_trained, box_around, lay, with_noise
from inference.models.manifest import ModelEntry
from inference.models.networks import NetworkSpec
from inference.models.registry import LoadedModel
from inference.postprocess import labels_of
from inference.predictors import predictor_of
from inference.preprocess import Prepared
from inference.watch import Watch
from tests.inference.bright import bright_entry

SHAPE = (70, 60, 54)
RADII = (10.0, 7.5, 5.0)
CENTRE = np.array([25, 36, 22])
STEPS = {"wt": 3.0, "tc": 5.0, "en": 7.0}
"""FLAIR above this is the region."""


class Brightness:
    """One network: the region is where FLAIR exceeds its step. `seen` gets the shapes it was given."""

    def __init__(self, stage: str, *, seen: list[tuple[str, tuple[int, ...], bool]], view: str) -> None:
        self._stage, self._view, self._seen = stage, view, seen

    def over(self, slices: torch.Tensor, *, counts: torch.Tensor | None, tick: Callable[[float], None]) -> torch.Tensor:
        self._seen.append((f"{self._stage} {self._view}", tuple(slices.shape), counts is not None))
        tick(0.5)
        flair = slices[HALO:-HALO, 0]
        tick(1.0)
        return torch.stack([torch.zeros_like(flair), (flair - STEPS[self._stage]) * 10], dim=1)


class Cascade(torch.nn.Module):
    """Stands where the nine networks stand."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[int, ...], bool]] = []

    def network(self, stage: str, view: str) -> Brightness:
        return Brightness(stage, seen=self.seen, view=view)


def cascade_model(views: str = "wt_axial", network: torch.nn.Module | None = None) -> LoadedModel:
    facts = {"sequences": (Sequence.FLAIR, Sequence.T1, Sequence.T1CE, Sequence.T2), "spacing_mm": 1.0}
    spec = NetworkSpec("MSNetCascade", {"in_channels": 4, "out_channels": 3, "views": views})
    entry: ModelEntry = bright_entry(kind="cascade", window=(0, 0, 0), overlap=0.0, network=spec, **facts)
    return LoadedModel(entry=entry, network=Cascade() if network is None else network, device="cpu")


@cache
def distances() -> np.ndarray:
    """From the centre of the ball, in voxels."""
    return np.linalg.norm(np.stack(np.indices(SHAPE), axis=-1) - CENTRE, axis=-1)


def head() -> Prepared:
    """The same head for every test, theirs to change."""
    return Prepared(tensor=_scans().copy(), grid=Grid(shape=SHAPE, affine=np.eye(4)))


@cache
def _scans() -> np.ndarray:
    """A brain with a bright ball in it, off the middle along every axis, brighter towards its centre in three steps."""
    far = distances()
    brain = (
        np.linalg.norm((np.stack(np.indices(SHAPE), axis=-1) - np.array(SHAPE) / 2) / np.array(SHAPE), axis=-1) < 0.45
    )
    chance = np.random.default_rng(4)
    tensor = chance.normal(scale=0.3, size=(4, *SHAPE)).astype(np.float32)
    for radius, brighter in zip(RADII, (9.0, 3.0, 3.0), strict=True):
        tensor[0][far < radius] += brighter
    tensor *= brain
    scored = [(image - image[brain].mean()) / image[brain].std() * brain for image in tensor]
    return np.stack(scored).astype(np.float32)


@pytest.fixture(autouse=True)
def _steps_of_this_head(monkeypatch) -> None:
    """Halfway between the four levels of brightness, as the z-score leaves them."""
    flair = head().tensor[0]
    far = distances()
    shells = itertools.pairwise((99.0, *RADII, 0.0))
    levels = [float(np.median(flair[(far < outer) & (far >= inner) & (flair != 0)])) for outer, inner in shells]
    for stage, (low, high) in zip(STEPS, itertools.pairwise(levels), strict=True):
        monkeypatch.setitem(STEPS, stage, (low + high) / 2)


@pytest.mark.parametrize("views", ["axial", "wt_axial", "all"])
def test_each_region_is_found_where_it_is_in_every_view(views: str):
    """A ball off the middle along every axis: one axis turned wrongly would put it elsewhere."""
    given = head()

    found = predict(given, model=cascade_model(views), watch=Watch())

    far = distances()
    for channel, radius in zip(found, RADII, strict=True):
        here, there = channel >= 0.5, far < radius
        assert 2 * (here & there).sum() / (here.sum() + there.sum()) > 0.97
    labels = labels_of(found, cascade_model().entry)
    assert labels[tuple(CENTRE)] == Label.ENHANCING_TUMOUR


def test_a_model_that_is_a_cascade_is_predicted_as_one():
    assert predictor_of(cascade_model().entry) is predict


def test_the_first_stage_sees_the_brain_and_the_next_ones_the_box_before_them():
    model = cascade_model()

    predict(head(), model=model, watch=Watch())

    seen = model.network.seen
    assert [name for name, _, _ in seen] == [
        *["wt axial"] * 2, "tc axial", "tc sagittal", "tc coronal", "en axial", "en sagittal", "en coronal",
    ]  # fmt: skip
    assert [own for *_, own in seen] == [False] * 2 + [True] * 6
    assert seen[0][1] == (33 + 8, 4, 180, 160)
    assert all(shape[1:] == (4, 96, 96) and (shape[0] - 8) % 11 == 0 for _, shape, _ in seen[2:])


def test_a_head_without_tumour_is_looked_at_once(monkeypatch):
    monkeypatch.setitem(STEPS, "wt", 6.0)
    given = head()
    given.tensor[0] = np.where(given.tensor[0] != 0, given.tensor[1], 0)
    model = cascade_model()

    found = predict(given, model=model, watch=Watch())

    assert not (found >= 0.5).any()
    assert {name for name, _, _ in model.network.seen} == {"wt axial"}


def test_the_same_head_gives_the_same_answer():
    first = predict(head(), model=cascade_model(), watch=Watch())

    np.testing.assert_array_equal(first, predict(head(), model=cascade_model(), watch=Watch()))


def test_progress_runs_forward_to_the_end_and_previews_show_the_labels_so_far():
    news: list[Progress | Preview] = []
    ticks = iter(range(10_000))
    watch = Watch(news.append, clock=lambda: float(next(ticks)))

    watch.stage(Stage.INFERENCE, predict, head(), model=cascade_model(), watch=watch)

    fractions = [item.fraction for item in news if isinstance(item, Progress)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len(fractions) > 10
    previews = [item for item in news if isinstance(item, Preview)]
    assert max(previews[0].labels.shape) <= 64
    assert previews[-1].labels.max() == Label.ENHANCING_TUMOUR


def test_a_cancelled_analysis_stops_between_two_layers():
    asked: list[int] = []

    def is_cancelled() -> bool:
        asked.append(1)
        return len(asked) > 3

    model = cascade_model()
    with pytest.raises(Cancelled):
        predict(head(), model=model, watch=Watch(is_cancelled=is_cancelled))

    assert len(model.network.seen) <= 2


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (RuntimeError("can't allocate memory"), OutOfMemory),
        (RuntimeError("shapes"), ModelFailed),
        (MemoryError(), OutOfMemory),
    ],
)
def test_a_failing_network_is_told_from_memory_that_ran_out(failure: Exception, told: type[Exception], monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(Brightness, "over", fail)

    with pytest.raises(told):
        predict(head(), model=cascade_model(), watch=Watch())


def test_an_answer_that_is_no_number_is_a_failure(monkeypatch):
    monkeypatch.setattr(Brightness, "over", lambda _, slices, **__: torch.full((len(slices) - 8, 2, 180, 160), np.nan))

    with pytest.raises(ModelFailed):
        predict(head(), model=cascade_model(), watch=Watch())


def test_arrays_are_laid_as_another_library_stores_an_lps_volume(tmp_path: Path):
    """nibabel, asked for the LPS order of the same file and with its axes reversed, is the judge."""
    ras = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    image = nibabel.Nifti1Image(ras, np.eye(4))
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(image.affine), nibabel.orientations.axcodes2ornt("LPS")
    )

    found = as_trained(ras[None])[0]

    np.testing.assert_array_equal(found, np.asarray(image.as_reoriented(turn).dataobj).transpose(2, 1, 0))


@pytest.mark.parametrize("view", AXES)
@pytest.mark.parametrize("whole_slabs", [True, False])
def test_a_laid_box_is_found_again_inside_its_noise(view: str, whole_slabs: bool):
    box = np.random.default_rng(1).normal(size=(4, 13, 22, 31)).astype(np.float32)

    laid = lay(box, view, least=LEAST_PLANE[view], rng=np.random.default_rng(2), whole_slabs=whole_slabs)

    answered = laid.slices[HALO:-HALO].swapaxes(0, 1)[(slice(None), *laid.inner)]
    np.testing.assert_array_equal(answered, box.transpose(0, *(1 + axis for axis in AXES[view])))
    assert laid.slices.shape[2] % 4 == laid.slices.shape[3] % 4 == 0
    assert (len(laid.slices) - 2 * HALO) % 11 == 0 or not whole_slabs
    assert laid.slices[: HALO - 1].std() == pytest.approx(1.0, abs=0.02)


def test_scores_of_scores_are_those_of_the_raw_scan():
    raw = np.zeros((1, 20, 20, 20), np.float32)
    raw[0, 5:15, 5:15, 5:15] = np.random.default_rng(3).uniform(100, 900, size=(10, 10, 10))
    scored = np.where(raw > 0, (raw - 400) / 77, 0).astype(np.float32)

    one, other = (with_noise(scan, np.random.default_rng(1)) for scan in (raw, scored))

    np.testing.assert_allclose(one, other, atol=1e-4)
    assert one[0, 5:15, 5:15, 5:15].mean() == pytest.approx(0.0, abs=1e-4)
    assert one[raw == 0].std() == pytest.approx(1.0, abs=0.03)


def test_small_pieces_of_whole_tumour_are_dropped_and_gaps_closed():
    mask = np.zeros((50, 50, 50), dtype=bool)
    mask[10:30, 10:30, 10:30] = True
    mask[20, 20, 20] = False
    mask[40:45, 40:45, 40:45] = True

    kept = whole_tumour(mask)

    assert kept[20, 20, 20]
    assert not kept[40:45, 40:45, 40:45].any()


def test_settled_probabilities_say_exactly_what_is_kept():
    found = np.array([0.1, 0.4, 0.6, 0.9], np.float32)

    kept = settled(found, np.array([False, True, False, True]))

    assert (kept >= 0.5).tolist() == [False, True, False, True]
    assert kept[[0, 3]].tolist() == found[[0, 3]].tolist()


def test_the_box_of_nothing_is_everything():
    assert box_around(np.zeros((4, 5, 6), dtype=bool)) == (slice(0, 4), slice(0, 5), slice(0, 6))
