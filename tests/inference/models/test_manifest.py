"""A description is believed only where every field makes sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.models.errors import ManifestInvalid
from inference.models.manifest import document_of, entry_from, read_manifest
from inference.models.networks import ALLOWED_ARGUMENTS, NetworkSpec, build
from inference.models.registry import Registry


def document(**changes: object) -> dict[str, object]:
    return {**document_of(Registry(Path("nowhere")).find(None)), **changes}


def test_a_description_reads_back_as_it_was_written():
    entry = Registry(Path("nowhere")).find(None)

    assert entry_from(document_of(entry), folder=entry.weights.parent) == entry


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("name", "../up"),
        ("name", 7),
        ("version", "1/2"),
        ("sha256", "short"),
        ("weights", "../weights.safetensors"),
        ("weights", "weights.pt"),
        ("sequences", ["T1", "T1", "T2", "FLAIR"]),
        ("spacing_mm", 0),
        ("spacing_mm", True),
        ("output", "something"),
        ("channels", ["WT", "TC"]),
        ("window", [80, 96, 81]),
        ("window", [80, 96]),
        ("overlap", 1.0),
        ("normalisation", "magic"),
        ("memory_mb", None),
        ("licence", "two\nlines"),
    ],
)
def test_a_field_out_of_range_is_named(field: str, value: object):
    with pytest.raises(ManifestInvalid) as refused:
        entry_from(document(**{field: value}), folder=Path())

    assert refused.value.field == field


def test_a_network_must_take_the_sequences_and_give_the_channels():
    network = {"name": "SegResNet", "arguments": {"in_channels": 4, "out_channels": 4}}

    with pytest.raises(ManifestInvalid, match="out_channels"):
        entry_from(document(network=network), folder=Path())


def test_a_file_that_is_no_json_is_refused(tmp_path: Path):
    (tmp_path / "manifest.json").write_text("{")

    with pytest.raises(ManifestInvalid):
        read_manifest(tmp_path / "manifest.json")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("SegResNet", {"in_channels": 4, "out_channels": 3, "init_filters": 8, "norm": ["GROUP", {"num_groups": 4}]}),
        ("UNet", {"spatial_dims": 3, "in_channels": 4, "out_channels": 3, "channels": [4, 8], "strides": [2]}),
        (
            "DynUNet",
            {
                "spatial_dims": 3,
                "in_channels": 4,
                "out_channels": 3,
                "kernel_size": [3, 3, 3],
                "strides": [1, 2, 2],
                "upsample_kernel_size": [2, 2],
                "filters": [4, 8, 8],
            },
        ),
        ("SwinUNETR", {"in_channels": 4, "out_channels": 3, "feature_size": 12}),
    ],
)
def test_each_network_on_the_list_can_be_built(name: str, arguments: dict[str, object]):
    assert sum(value.numel() for value in build(NetworkSpec(name, arguments)).parameters()) > 0


@pytest.mark.parametrize(
    "spec",
    [
        NetworkSpec("Sequential", {}),
        NetworkSpec("SegResNet", {"act": "$x"}),
        NetworkSpec("SwinUNETR", {"norm_layer": "LayerNorm"}),
        NetworkSpec("SegResNet", {"spatial_dims": 2}),
        NetworkSpec("SegResNet", {"init_filters": 5}),
        NetworkSpec("SegResNet", {"in_channels": -1}),
        NetworkSpec("UNet", {}),
    ],
)
def test_anything_else_is_not_built(spec: NetworkSpec):
    with pytest.raises(ManifestInvalid):
        build(spec)


def test_no_argument_on_the_list_takes_a_class_or_a_function():
    arguments = {argument for allowed in ALLOWED_ARGUMENTS.values() for argument in allowed}

    assert not arguments & {"norm_layer", "downsample", "use_checkpoint"}
