"""Models are found by name, and loaded only with the digest their name stands for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from inference.errors import DeviceUnavailable, ModelMissing, WeightsMismatch
from inference.models.bundle import BundleChoices, add_bundle
from inference.models.cli import main
from inference.models.errors import PickleAllowed
from inference.models.registry import BUILTIN_FOLDER, DEFAULT_MODEL, MANIFEST, Registry
from inference.models.weights import read_foreign
from tests.inference.models.bundles import METADATA, write_bundle
from tests.real_data import model_dir


def with_model(tmp_path: Path, *, name: str = "mine", version: str = "1.0.0") -> Registry:
    bundle = tmp_path / f"bundle-{name}-{version}"
    write_bundle(bundle, metadata={**METADATA, "version": version})
    add_bundle(bundle, into=tmp_path / "models", choices=BundleChoices(name=name))
    return Registry(tmp_path / "models")


def test_the_built_in_model_is_the_default_and_answers(tmp_path: Path):
    registry = Registry(tmp_path)

    entry = registry.find(None)
    model = registry.load(entry, device="cpu")
    with torch.inference_mode():
        logits = model.network(torch.zeros(1, 4, 32, 32, 32))

    assert entry.name == DEFAULT_MODEL
    assert logits.shape == (1, len(entry.channels), 32, 32, 32)
    assert not model.network.training


def test_the_built_in_weights_are_as_small_as_the_repository_wants_them():
    assert sum(path.stat().st_size for path in BUILTIN_FOLDER.iterdir()) <= 10_000_000


def test_finding_a_model_loads_no_torch():
    """The worker's parent process lists models in every hello; torch would cost it 200 MB."""
    script = (
        "import sys; from inference.models.registry import Registry; Registry().find(None); "
        "sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", script], check=False)

    assert done.returncode == 0


def test_the_newest_version_wins_unless_one_is_asked_for(tmp_path: Path):
    with_model(tmp_path, version="1.9.0")
    registry = with_model(tmp_path, version="1.10.0")

    assert registry.find("mine").version == "1.10.0"
    assert registry.find("mine", version="1.9.0").version == "1.9.0"


@pytest.mark.parametrize(
    "wanted", [{"name": "nobody"}, {"name": "mine", "version": "9"}, {"name": "mine", "sha256": "0"}]
)
def test_a_model_that_is_not_here_is_missing(tmp_path: Path, wanted: dict[str, str]):
    registry = with_model(tmp_path)

    with pytest.raises(ModelMissing):
        registry.find(**wanted)


def test_weights_that_changed_by_one_byte_are_not_loaded(tmp_path: Path):
    registry = with_model(tmp_path)
    entry = registry.find("mine")
    raw = bytearray(entry.weights.read_bytes())
    raw[-1] ^= 1
    entry.weights.write_bytes(bytes(raw))

    with pytest.raises(WeightsMismatch):
        registry.load(entry, device="cpu")


def test_nothing_is_loaded_while_pickle_is_allowed(tmp_path: Path, monkeypatch):
    registry = Registry(tmp_path)
    monkeypatch.setenv("MONAI_ALLOW_PICKLE", "1")

    with pytest.raises(PickleAllowed):
        registry.load(registry.find(None), device="cpu")


def test_a_broken_description_does_not_take_the_other_models_away(tmp_path: Path):
    registry = with_model(tmp_path)
    broken = tmp_path / "models" / "broken"
    broken.mkdir()
    (broken / MANIFEST).write_text('{"format": 1}')

    assert [entry.name for entry in registry.entries()] == [DEFAULT_MODEL, "mine"]


def test_a_user_cannot_put_another_model_in_the_place_of_the_built_in_one(tmp_path: Path):
    builtin = Registry(tmp_path / "none").find(None)
    registry = with_model(tmp_path, name=DEFAULT_MODEL, version=builtin.version)

    assert registry.find(None, version=builtin.version) == builtin


def test_a_device_that_is_not_there_is_named(tmp_path: Path):
    registry = with_model(tmp_path)

    with pytest.raises(DeviceUnavailable):
        registry.load(registry.find("mine"), device="cuda:99")


def test_real_published_weights_are_read_as_tensors_only():
    """Nine state dicts in one file, as a research group left them."""
    found = torch.load(model_dir("brats17") / "msnet_brats17_calib.pt", map_location="cpu", weights_only=True)

    assert set(found) >= {"wt32", "tc32", "en32"}
    assert all(isinstance(value, torch.Tensor) for value in found["wt32"].values())


def test_a_checkpoint_may_wrap_its_weights(tmp_path: Path):
    torch.save({"epoch": 3, "state_dict": {"module.conv.weight": torch.ones(2)}}, tmp_path / "a.pt")

    assert list(read_foreign(tmp_path / "a.pt")) == ["conv.weight"]


def test_the_commands_add_list_verify_and_remove(tmp_path: Path, capsys):
    write_bundle(tmp_path / "b")
    folder = ["--folder", str(tmp_path / "models")]

    assert main([*folder, "add", str(tmp_path / "b"), "--name", "mine"]) == 0
    assert main([*folder, "verify"]) == 0
    capsys.readouterr()
    assert main([*folder, "list"]) == 0
    listed = [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
    assert main([*folder, "remove", "mine"]) == 0

    assert listed == [DEFAULT_MODEL, "mine"]
    assert [entry.name for entry in Registry(tmp_path / "models").entries()] == [DEFAULT_MODEL]


def test_a_refused_command_says_why_in_one_sentence(tmp_path: Path, capsys):
    assert main(["--folder", str(tmp_path), "add", str(tmp_path)]) == 1

    assert capsys.readouterr().err.count("\n") == 1


def test_verify_finds_missing_weights(tmp_path: Path, capsys):
    registry = with_model(tmp_path)
    registry.find("mine").weights.unlink()

    assert main(["--folder", str(tmp_path / "models"), "verify"]) == 1
    assert "mine" in capsys.readouterr().err
