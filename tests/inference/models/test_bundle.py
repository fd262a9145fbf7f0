"""A MONAI bundle becomes a model of ours by being read; a hostile one is refused and runs nothing."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from inference.contract import Sequence
from inference.models.bundle import BundleChoices, add_bundle
from inference.models.errors import BundleRefused, ManifestInvalid, PickleAllowed, WeightsUnfit
from inference.models.registry import Registry
from tests.inference.models.bundles import METADATA, inference_json, write_bundle


class Bomb:
    """Pickled, it is a call that makes a file: the proof that something was executed."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (_explode, (str(self.mark),))


def _explode(mark: str) -> dict[str, torch.Tensor]:
    Path(mark).touch()
    return {}


def test_a_bundle_of_the_model_zoo_becomes_a_model_with_the_same_answers(tmp_path: Path):
    state = write_bundle(tmp_path / "Brats MRI")

    entry = add_bundle(tmp_path / "Brats MRI", into=tmp_path / "models")
    model = Registry(tmp_path / "models").load(entry, device="cpu")

    assert (entry.name, entry.version, entry.channels) == ("brats-mri", "0.3.0", ("TC", "WT", "ET"))
    assert entry.sequences == (Sequence.T1CE, Sequence.T1, Sequence.T2, Sequence.FLAIR)
    assert entry.window == (32, 32, 32)
    assert all(torch.equal(model.network.state_dict()[key], value) for key, value in state.items())


def test_an_added_model_is_found_by_a_new_registry(tmp_path: Path):
    write_bundle(tmp_path / "b")

    entry = add_bundle(tmp_path / "b", into=tmp_path / "models", choices=BundleChoices(name="mine"))

    found = Registry(tmp_path / "models").find("mine", version="0.3.0", sha256=entry.sha256)
    assert found == entry


def test_adding_the_same_version_again_replaces_it_and_leaves_nothing_behind(tmp_path: Path):
    write_bundle(tmp_path / "b")

    add_bundle(tmp_path / "b", into=tmp_path / "models")
    add_bundle(tmp_path / "b", into=tmp_path / "models")

    assert [path.name for path in (tmp_path / "models").iterdir()] == ["b@0.3.0"]


def test_a_reference_to_a_plain_value_of_the_same_file_is_followed(tmp_path: Path):
    config = {**inference_json(in_channels="@channels"), "channels": 4}
    write_bundle(tmp_path / "b", config=config)

    entry = add_bundle(tmp_path / "b", into=tmp_path / "models")

    assert entry.network.arguments["in_channels"] == 4


@pytest.mark.parametrize(
    ("hostile", "place"),
    [
        ({"_target_": "os.system"}, "network_def._target_"),
        ({"_target_": "builtins.eval"}, "network_def._target_"),
        ({"_target_": "my_package.SegResNet"}, "network_def._target_"),
        ({"_target_": "$__import__('os').system('touch /x')"}, "network_def._target_"),
        ({"init_filters": "$__import__('pathlib').Path('MARK').touch()"}, "network_def.init_filters"),
        ({"init_filters": "@device"}, "network_def.init_filters"),
        ({"init_filters": "@network_def::init_filters"}, "network_def.init_filters"),
        ({"norm": ["GROUP", {"num_groups": "$open('MARK', 'w')"}]}, "network_def.norm"),
        ({"norm": ["GROUP", {"$1": 2}]}, "network_def.norm"),
        ({"act": {"_target_": "os.system", "command": "touch MARK"}}, "network_def.act"),
        ({"_requires_": "$open('MARK', 'w')"}, "network_def._requires_"),
        ({"_mode_": "debug"}, "network_def._mode_"),
        ({"init_filters": 10**9}, "network_def.init_filters"),
        ({"blocks_down": [[[[[[1]]]]]]}, "network_def.blocks_down"),
    ],
)
def test_a_hostile_network_definition_is_refused_and_runs_nothing(tmp_path: Path, monkeypatch, hostile, place):
    """MONAI's own loader evaluates these: GHSA-873f-pvrv-4x83, GHSA-x6pr-233j-x5cw."""
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path / "b", config=inference_json(**hostile))

    with pytest.raises(BundleRefused) as refused:
        add_bundle(tmp_path / "b", into=tmp_path / "models")

    assert refused.value.place == place
    assert not (tmp_path / "MARK").exists()
    assert not (tmp_path / "models").exists()


def test_scripts_and_expressions_elsewhere_in_a_bundle_are_never_run(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = {**inference_json(), "initialize": ["$open('MARK', 'w')"], "run": ["$__import__('scripts.evil')"]}
    write_bundle(tmp_path / "b", config=config)
    (tmp_path / "b" / "scripts").mkdir()
    (tmp_path / "b" / "scripts" / "__init__.py").write_text("open('MARK', 'w')")

    add_bundle(tmp_path / "b", into=tmp_path / "models")

    assert not (tmp_path / "MARK").exists()


def test_weights_with_code_in_them_are_refused_unread(tmp_path: Path):
    write_bundle(tmp_path / "b")
    mark = tmp_path / "exploded"
    torch.save({"model": Bomb(mark)}, tmp_path / "b" / "models" / "model.pt")

    with pytest.raises(WeightsUnfit):
        add_bundle(tmp_path / "b", into=tmp_path / "models")

    assert not mark.exists()


def test_a_bare_pickle_is_refused_unread(tmp_path: Path):
    write_bundle(tmp_path / "b")
    mark = tmp_path / "exploded"
    (tmp_path / "b" / "models" / "model.pt").write_bytes(pickle.dumps(Bomb(mark), protocol=2))

    with pytest.raises(WeightsUnfit):
        add_bundle(tmp_path / "b", into=tmp_path / "models")

    assert not mark.exists()


def test_weights_of_another_network_are_refused_and_nothing_is_added(tmp_path: Path):
    write_bundle(tmp_path / "b", config=inference_json(init_filters=16))

    with pytest.raises(WeightsUnfit):
        add_bundle(tmp_path / "b", into=tmp_path / "models")

    assert not (tmp_path / "models").exists()


def test_a_bundle_that_does_not_name_its_channels_needs_them_named(tmp_path: Path):
    write_bundle(tmp_path / "b", metadata={"version": "1"})
    named = BundleChoices(sequences=tuple(Sequence), channels=("WT", "TC", "ET"))

    with pytest.raises(BundleRefused, match="name them"):
        add_bundle(tmp_path / "b", into=tmp_path / "models")

    assert add_bundle(tmp_path / "b", into=tmp_path / "models", choices=named).channels == ("WT", "TC", "ET")


def test_a_version_cannot_lead_out_of_the_models_folder(tmp_path: Path):
    write_bundle(tmp_path / "b", metadata={**METADATA, "version": "../../evil"})

    with pytest.raises(ManifestInvalid):
        add_bundle(tmp_path / "b", into=tmp_path / "models")


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path):
    with pytest.raises(BundleRefused, match="network_def"):
        add_bundle(tmp_path, into=tmp_path / "models")


def test_nothing_is_added_while_pickle_is_allowed(tmp_path: Path, monkeypatch):
    write_bundle(tmp_path / "b")
    monkeypatch.setenv("MONAI_ALLOW_PICKLE", "0")

    with pytest.raises(PickleAllowed):
        add_bundle(tmp_path / "b", into=tmp_path / "models")


def test_channel_numbers_that_are_no_numbers_are_refused(tmp_path: Path):
    """`"²".isdigit()` is true, and int() of it raises."""
    formats = {"inputs": {"image": {"channel_def": {"²": "T1"}}}, "outputs": {}}
    write_bundle(tmp_path / "b", metadata={"network_data_format": formats})

    with pytest.raises(BundleRefused):
        add_bundle(tmp_path / "b", into=tmp_path / "models")
