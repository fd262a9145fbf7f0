"""The network answers as its authors' does, however its slices are cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from inference.models.brats17.convert import convert_network, our_name
from inference.models.brats17.network import MSNet, MSNetCascade, slab_counts, weighted_statistics
from inference.models.errors import CheckpointInvalid
from tests.inference.models.published import theirs
from tests.real_data import model_dir

NETWORKS = [f"{stage}32{view}" for stage in ("wt", "tc", "en") for view in ("", "sg", "cr")]


@pytest.fixture(autouse=True)
def _one_thread():
    """Small convolutions on two threads wait for each other longer than they compute on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def with_chance(*, halves_early: bool) -> MSNet:
    """A network with small random weights, and statistics that are not 0 and 1."""
    network = MSNet(halves_early=halves_early).eval()
    chance = torch.Generator().manual_seed(11)
    for name, value in network.state_dict().items():
        if name.endswith("variance"):
            value.copy_(torch.rand(value.shape, generator=chance) + 0.5)
        else:
            value.copy_(torch.randn(value.shape, generator=chance) * (0.08 if value.ndim == 5 else 0.3))
    return network


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("halves_early", [True, False])
def test_a_slab_of_19_gives_11_and_the_plane_stays(halves_early: bool):
    with torch.inference_mode():
        found = with_chance(halves_early=halves_early)(noise(2, 4, 19, 24, 16))

    assert found.shape == (2, 2, 11, 24, 16)


def test_a_network_has_as_many_weights_as_was_published():
    assert sum(weight.numel() for weight in MSNet(halves_early=True).parameters()) == 214_470
    assert sum(1 for _ in MSNetCascade().children()) == 9


def test_slices_in_chunks_are_the_slices_at_once():
    """Only the four convolutions along the slices look at neighbours: four slices either way are enough."""
    network = with_chance(halves_early=True)
    slices = noise(31, 4, 24, 16)

    with torch.inference_mode():
        whole = network.over(slices)
        chunks = [network.over(slices[start : start + 16]) for start in (0, 8, 15)]

    np.testing.assert_allclose(torch.cat([chunks[0], chunks[1][:7], chunks[2]]), whole, atol=1e-4)


def test_small_pieces_do_not_change_the_answer(monkeypatch):
    network, slices = with_chance(halves_early=False), noise(30, 4, 16, 16)
    with torch.inference_mode():
        whole = network.over(slices, counts=slab_counts(30))

        monkeypatch.setattr("inference.models.brats17.network.PIECE_VOXELS", 5 * 16 * 16)
        pieces = network.over(slices, counts=slab_counts(30))

    np.testing.assert_allclose(pieces, whole, atol=1e-4)


def test_slices_are_counted_as_often_as_slabs_hold_them():
    assert slab_counts(30).tolist() == [1] * 11 + [2] * 8 + [1] * 11
    assert slab_counts(30, lost=1).tolist() == [1] * 11 + [2] * 6 + [1] * 11
    assert slab_counts(30, lost=4).tolist() == [1] * 22


def test_statistics_are_those_of_all_slabs_together():
    x = noise(30, 5, 8, 12) * 3 + 2
    slabs = torch.cat([x[:19], x[11:]])

    mean, variance = weighted_statistics(x, slab_counts(30))

    np.testing.assert_allclose(mean, slabs.mean(dim=(0, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(variance, slabs.var(dim=(0, 2, 3), correction=0), rtol=1e-5)


@pytest.mark.parametrize("halves_early", [True, False])
def test_a_case_normalised_by_itself_is_a_batch_of_its_slabs(halves_early: bool):
    """Two slabs in one batch with batch statistics, in three-dimensional convolutions: the way of the paper."""
    network = with_chance(halves_early=halves_early)
    slices = noise(30, 4, 16, 24)
    batch = torch.stack([slices[:19].transpose(0, 1), slices[11:].transpose(0, 1)])

    with torch.inference_mode():
        expected = in_batches(dict(network.state_dict()), batch, halves_early=halves_early)
        found = network.over(slices, counts=slab_counts(30))

    np.testing.assert_allclose(found, torch.cat([one.transpose(0, 1) for one in expected]), atol=2e-3)


def in_batches(  # noqa: C901 - small functions side by side, read against a drawing
    weights: dict[str, torch.Tensor], x: torch.Tensor, *, halves_early: bool
) -> torch.Tensor:
    """The network written down again as the paper draws it, batch statistics throughout."""

    def norm_slope(x: torch.Tensor, norm: str, slope: str) -> torch.Tensor:
        scaled = F.batch_norm(x, None, None, weights[f"{norm}.gamma"], weights[f"{norm}.beta"], training=True)
        return F.prelu(scaled, weights[f"{slope}.alpha"])

    def conv(x: torch.Tensor, name: str, dilation: int = 1) -> torch.Tensor:
        return F.conv3d(x, weights[f"{name}.weight"], padding=(0, dilation, dilation), dilation=(1, dilation, dilation))

    def block(x: torch.Tensor, name: str, dilation: int = 1) -> torch.Tensor:
        y = x
        for index in (0, 1):
            y = conv(norm_slope(y, f"{name}.norm_{index}", f"{name}.slope_{index}"), f"{name}.conv_{index}", dilation)
        side = (y.shape[1] - x.shape[1]) // 2
        return y + F.pad(x, (0, 0, 0, 0, 0, 0, side, side))

    def fuse(x: torch.Tensor, name: str) -> torch.Tensor:
        return norm_slope(F.conv3d(x, weights[f"{name}.conv.weight"]), f"{name}.norm", f"{name}.slope")

    def down(x: torch.Tensor, name: str) -> torch.Tensor:
        halved = F.conv3d(F.pad(x, (0, 1, 0, 1)), weights[f"{name}.conv.weight"], stride=(1, 2, 2))
        return norm_slope(halved, f"{name}.norm", f"{name}.slope")

    def up(x: torch.Tensor, name: str) -> torch.Tensor:
        doubled = F.conv_transpose3d(x, weights[f"{name}.conv.weight"], stride=(1, 2, 2))
        doubled = doubled[..., : 2 * x.shape[-2], : 2 * x.shape[-1]]
        return norm_slope(doubled, f"{name}.norm", f"{name}.slope")

    x = fuse(block(block(x, "block1_1"), "block1_2"), "fuse1")
    x = down(x, "downsample1") if halves_early else x
    first = fuse(block(block(x, "block2_1"), "block2_2"), "fuse2")
    x = down(first, "downsample2")
    second = fuse(block(block(block(x, "block3_1"), "block3_2", 2), "block3_3", 3), "fuse3")
    third = fuse(block(block(block(second, "block4_1", 3), "block4_2", 2), "block4_3"), "fuse4")
    first, second = first[:, :, 2:-2], second[:, :, 1:-1]
    if halves_early:
        heads = [up(first, "pred_up1"), up(up(second, "pred_up2_1"), "pred_up2_2")]
        heads.append(up(up(third, "pred_up3_1"), "pred_up3_2"))
    else:
        heads = [conv(first, "pred1"), up(second, "pred_up2_1"), up(third, "pred_up3_1")]
    return conv(torch.cat(heads, dim=1), "final_pred")


@pytest.mark.parametrize("name", ["WT32/block1_1/bn_0/beta", "MSNet_WT32", ""])
def test_a_name_of_no_network_is_refused(name: str):
    with pytest.raises(CheckpointInvalid):
        our_name(name)


@pytest.mark.real_data
@pytest.mark.parametrize("network", NETWORKS)
def test_converted_weights_are_the_published_ones_tensor_by_tensor(network: str):
    expected = theirs(network)

    found = convert_network(network, model_dir("brats17") / "original")

    assert set(found) == set(expected)
    for name, value in found.items():
        if name.endswith((".mean", ".variance")):  # never updated in training, calibrated over there
            assert torch.equal(value, torch.full_like(value, float(name.endswith(".variance"))))
        else:
            assert torch.equal(value, expected[name]), name


@pytest.mark.real_data
def test_the_whole_tumour_network_agrees_with_its_export():
    """The export gives logits, and has statistics of its own."""
    runtime = pytest.importorskip("onnxruntime")
    network = MSNet(halves_early=True).eval()
    network.load_state_dict(theirs("wt32"))
    scans = noise(2, 4, 19, 64, 48)

    with torch.inference_mode():
        found = network(scans)

    session = runtime.InferenceSession(str(model_dir("brats17") / "wt32.onnx"))
    (expected,) = session.run(None, {"x": scans.numpy()})
    assert np.abs(found.numpy() - expected).max() <= 1e-4
