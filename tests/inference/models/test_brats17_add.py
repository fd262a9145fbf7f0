"""The published networks are taken in from a folder or from the web, and from nothing else than their very files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.errors import WeightsMismatch
from inference.models.brats17.add import CONVERTED_SHA256, DOWNLOADS, add_brats17
from inference.models.brats17.originals import ORIGINALS
from inference.models.cli import main
from inference.models.errors import CheckpointInvalid, DownloadFailed
from inference.models.registry import Registry
from inference.predictors import predictor_of
from tests.inference.models.web import Web, served
from tests.real_data import model_dir
from worker_client.translate import model_name

pytestmark = pytest.mark.real_data


def ignore(_stage: str, _share: float) -> None:
    """Nobody waits."""


@pytest.fixture
def originals() -> Path:
    return model_dir("brats17") / "original"


@pytest.fixture
def web(originals: Path) -> Iterator[Web]:
    with served(originals) as web:
        yield web


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry folder with the model, axial only. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("models")
    add_brats17(str(model_dir("brats17") / "original"), into=folder, views="axial", tell=ignore)
    return folder


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_the_commands_add_list_verify_and_remove_it(originals: Path, tmp_path: Path, capsys):
    folder = ["--folder", str(tmp_path / "models")]

    assert main([*folder, "add", "brats17", "--from", str(originals)]) == 0
    assert main([*folder, "verify"]) == 0
    capsys.readouterr()
    assert main([*folder, "list"]) == 0
    listed = {line["name"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    entry = Registry(tmp_path / "models").find("brats17")
    lies_beside = left_in(entry.weights.parent)
    assert main([*folder, "remove", "brats17"]) == 0

    assert listed["brats17"]["sha256"] == CONVERTED_SHA256
    assert listed["brats17"]["network"] == "MSNetCascade"
    assert lies_beside == ["LICENSE.txt", "manifest.json", "weights.safetensors"]
    assert left_in(tmp_path / "models") == []


def test_a_download_that_broke_off_goes_on_and_ends_in_the_same_weights(web: Web, tmp_path: Path):
    """The line breaks in the third file, and the server is away for good in the fifth; the next call gets the rest."""
    third, fifth = ORIGINALS[2].name, ORIGINALS[4].name
    web.breaks[third] = 500
    web.instead[fifth] = b""
    told: list[tuple[str, float]] = []

    with pytest.raises(DownloadFailed):
        add_brats17(web.address, into=tmp_path, views="wt_axial", tell=ignore)
    del web.instead[fifth]
    asked_before = len(web.asked)
    entry = add_brats17(web.address, into=tmp_path, views="wt_axial", tell=lambda *news: told.append(news))

    assert entry.sha256 == CONVERTED_SHA256
    assert (third, 500) in web.asked
    assert [name for name, _ in web.asked[asked_before:]] == [original.name for original in ORIGINALS[4:]]
    fetched = [share for stage, share in told if stage == "fetch"]
    assert fetched == sorted(fetched)
    assert fetched[-1] == 1.0
    assert left_in(tmp_path) == ["brats17@1.0.0"]


def test_a_tampered_file_on_the_web_adds_nothing(web: Web, originals: Path, tmp_path: Path):
    raw = (originals / ORIGINALS[1].name).read_bytes()
    web.instead[ORIGINALS[1].name] = raw[:-1] + bytes([raw[-1] ^ 1])

    with pytest.raises(WeightsMismatch):
        add_brats17(web.address, into=tmp_path, views="wt_axial", tell=ignore)

    assert left_in(tmp_path) == [DOWNLOADS]
    assert left_in(tmp_path / DOWNLOADS / "brats17") == [ORIGINALS[0].name]


@pytest.mark.parametrize("damage", ["missing", "short", "changed"])
def test_a_folder_with_another_file_adds_nothing(originals: Path, tmp_path: Path, damage: str):
    folder = tmp_path / "original"
    folder.mkdir()
    for original in ORIGINALS:
        (folder / original.name).symlink_to(originals / original.name)
    last = folder / ORIGINALS[-1].name
    raw = last.read_bytes()
    last.unlink()
    if damage != "missing":
        last.write_bytes(raw[:-1] if damage == "short" else raw[:-1] + bytes([raw[-1] ^ 1]))

    with pytest.raises((CheckpointInvalid, WeightsMismatch)):
        add_brats17(str(folder), into=tmp_path / "models", views="wt_axial", tell=ignore)

    assert left_in(tmp_path / "models") == []


def test_it_is_loaded_as_a_cascade_with_the_views_that_were_chosen(added: Path):
    registry = Registry(added)

    model = registry.load(registry.find("brats17"), device="cpu")

    assert model.entry.kind == "cascade"
    assert model.entry.network.arguments["views"] == "axial"
    assert predictor_of(model.entry).__module__ == "inference.models.brats17.cascade"
    assert not model.network.training


def test_a_worker_offers_it_for_all_four_sequences(added: Path):
    names = [
        model_name(entry.ref, memory_mb=entry.memory_mb, sequences=entry.sequences)
        for entry in Registry(added).by_preference()
    ]

    assert [name.name for name in names] == ["segwire-compact", "brats17"]
    assert names[1].sequences == ()  # all four
    assert names[1].memory_mb > 1000


@pytest.mark.parametrize(
    "change", [{"kind": "windows"}, {"network": {"name": "MSNetCascade", "arguments": {"views": "none"}}}]
)
def test_a_description_of_no_known_kind_is_left_out(added: Path, tmp_path: Path, change: dict[str, object]):
    """Somebody edits it: a cascade that calls itself windows, or views nobody knows."""
    written = json.loads((added / "brats17@1.0.0" / "manifest.json").read_text())
    (tmp_path / "brats17@1.0.0").mkdir()

    (tmp_path / "brats17@1.0.0" / "manifest.json").write_text(json.dumps({**written, **change}))

    assert [entry.name for entry in Registry(tmp_path).entries()] == ["segwire-compact"]


def test_options_of_published_models_are_not_taken_for_a_folder(tmp_path: Path, capsys):
    assert main(["--folder", str(tmp_path), "add", str(tmp_path), "--views", "all"]) == 1

    assert "--views" in capsys.readouterr().err


def test_an_unknown_address_says_so_in_one_sentence(tmp_path: Path, capsys):
    assert main(["--folder", str(tmp_path), "add", "brats17", "--from", "ftp://127.0.0.1/x"]) == 1

    assert "https" in capsys.readouterr().err
    shutil.rmtree(tmp_path / DOWNLOADS)
