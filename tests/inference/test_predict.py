"""The network over the whole head."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
import torch

from inference.contract import Grid, Preview, Progress, Stage
from inference.errors import Cancelled, ModelFailed, OutOfMemory
from inference.models.registry import LoadedModel
from inference.predict import predict
from inference.preprocess import Prepared
from inference.tiles import tiles_of, window_for
from inference.watch import Watch
from tests.inference.bright import Bright, bright_entry, bright_model


def prepared(shape: tuple[int, int, int], seed: int = 1) -> Prepared:
    """Noise in the shape of a head."""
    tensor = np.random.default_rng(seed).normal(size=(4, *shape)).astype(np.float32)
    return Prepared(tensor=tensor, grid=Grid(shape=shape, affine=np.diag([2.0, 2.0, 2.0, 1.0])))


def at_once(given: Prepared) -> np.ndarray:
    """What the network says when it sees the whole head in one piece."""
    with torch.inference_mode():
        return torch.sigmoid(Bright().eval()(torch.from_numpy(given.tensor)[None]))[0].numpy()


@pytest.mark.parametrize("shape", [(64, 64, 64), (70, 90, 65), (40, 100, 64), (30, 20, 10)])
def test_tiles_together_say_what_the_whole_says(shape):
    """The bright model looks at single voxels, so tiling, padding and blending must not show."""
    given = prepared(shape)

    found = predict(given, model=bright_model(), watch=Watch())

    assert found.shape == (3, *shape)
    np.testing.assert_allclose(found, at_once(given), atol=1e-5)


@pytest.mark.parametrize(
    ("overlap", "shape"), list(itertools.product([0.0, 0.25, 0.5], [(64, 64, 64), (150, 65, 200)]))
)
def test_tiles_cover_everything_with_the_overlap_asked_for(overlap, shape):
    tiles = tiles_of(shape, (64, 64, 64), overlap=overlap)

    seen = np.zeros(shape, dtype=int)
    for tile in tiles:
        seen[tile] += 1
        assert all(span.stop - span.start == 64 and span.start >= 0 for span in tile)
    assert seen.min() >= 1
    starts = sorted({tile[0].start for tile in tiles})
    assert all(later - earlier <= 64 * (1 - overlap) for earlier, later in itertools.pairwise(starts))


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((64, 64, 64), (64, 64, 64)),
        ((65, 64, 64), (72, 64, 64)),
        ((64, 66, 70), (64, 72, 72)),
        ((97, 64, 64), (64, 64, 64)),
        ((80, 80, 80), (64, 64, 64)),
    ],
)
def test_a_head_a_little_larger_than_the_window_takes_one_tile(shape, window):
    """A brain 194 mm long took two tiles of 192 mm, and twice the time."""
    found = window_for(shape, (64, 64, 64))

    assert found == window


def test_tiles_without_any_head_are_left_out():
    given = prepared((192, 64, 64))
    given.tensor[:, 64:] = 0
    calls = []
    model = bright_model(overlap=0.0)
    model.network.register_forward_hook(lambda *_: calls.append(1))

    found = predict(given, model=model, watch=Watch())

    assert len(calls) == 1
    assert not found[:, 64:].any()


def test_progress_comes_from_inside_a_tile_and_never_runs_back():
    news: list[Progress | Preview] = []
    ticks = itertools.count()
    watch = Watch(news.append, clock=lambda: float(next(ticks)))
    given = prepared((128, 64, 64))

    watch.stage(Stage.INFERENCE, predict, given, model=bright_model(overlap=0.0), watch=watch)

    fractions = [item.fraction for item in news if isinstance(item, Progress)]
    assert fractions == sorted(fractions)
    assert any(0 < fraction < 0.5 for fraction in fractions)
    assert any(0.5 < fraction < 1 for fraction in fractions)


def test_previews_are_small_and_lie_where_the_head_lies():
    news: list[Progress | Preview] = []
    given = prepared((150, 64, 64))
    given.tensor[3, 100:, :, :] = 5.0

    found = predict(given, model=bright_model(), watch=Watch(news.append))

    preview = next(item for item in news if isinstance(item, Preview))
    assert preview.labels.dtype == np.uint8
    assert max(preview.labels.shape) <= 64
    np.testing.assert_allclose(preview.grid.spacing_mm, (6.0, 6.0, 6.0))
    np.testing.assert_allclose(preview.grid.affine[:3, 3], given.grid.affine[:3, 3])
    assert found.shape == (3, 150, 64, 64)


def test_a_cancel_stops_inside_a_tile():
    calls = []
    model = bright_model()
    model.network.second.register_forward_hook(lambda *_: calls.append(1))
    watch = Watch(is_cancelled=lambda: True)

    with pytest.raises(Cancelled):
        predict(prepared((64, 64, 64)), model=model, watch=watch)

    assert calls == []


def test_hooks_are_gone_after_a_failure():
    model = bright_model()
    with pytest.raises(Cancelled):
        predict(prepared((64, 64, 64)), model=model, watch=Watch(is_cancelled=lambda: True))

    hooks = [hook for layer in model.network.modules() for hook in layer._forward_hooks]

    assert hooks == []


class Odd(torch.nn.Module):
    """A network that goes wrong."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.layer = torch.nn.Identity()

    def forward(self, scans: torch.Tensor) -> torch.Tensor:
        if self.kind == "memory":
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")
        if self.kind == "broken":
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        return self.layer(scans[:, :2] if self.kind == "shape" else scans[:, :3] * torch.nan)


@pytest.mark.parametrize(
    ("kind", "error"), [("memory", OutOfMemory), ("broken", ModelFailed), ("shape", ModelFailed), ("nan", ModelFailed)]
)
def test_a_network_that_goes_wrong_is_named(kind, error):
    model = LoadedModel(entry=bright_entry(), network=Odd(kind).eval(), device="cpu")

    with pytest.raises(error):
        predict(prepared((64, 64, 64)), model=model, watch=Watch())


class Slow(torch.nn.Module):
    """One layer that takes as long as the test wants."""

    def __init__(self, until: threading.Event) -> None:
        super().__init__()
        self.until = until
        self.layer = torch.nn.Identity()

    def forward(self, scans: torch.Tensor) -> torch.Tensor:
        self.until.wait(20.0)
        return self.layer(scans[:, :3])


def test_progress_moves_while_one_layer_takes_long():
    """At 1 mm on two old cores a single convolution takes seconds; the bar must not look dead."""
    enough = threading.Event()
    seen: list[float] = []

    def listen(news: Progress | Preview) -> None:
        if isinstance(news, Progress):
            seen.append(news.fraction)
        if len(seen) >= 3:
            enough.set()

    model = LoadedModel(entry=bright_entry(), network=Slow(enough).eval(), device="cpu")

    predict(prepared((64, 64, 64)), model=model, watch=Watch(listen))

    assert enough.is_set()
    assert seen == sorted(seen)
    assert seen[0] > 0
