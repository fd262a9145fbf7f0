"""`python -m inference models list|add|remove|verify`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence as Many
from pathlib import Path

from inference.contract import Sequence
from inference.errors import InferenceError, WeightsMismatch
from inference.models.bundle import BundleChoices, add_bundle
from inference.models.errors import BundleRefused
from inference.models.networks import DEFAULT_VIEWS, VIEWS
from inference.models.registry import BUILTIN_FOLDER, ModelEntry, Registry
from inference.models.weights import digest_of

PUBLISHED = "brats17"
INTERRUPTED = 130


def main(argv: Many[str]) -> int:
    """Run one command; 0 when it did what was asked, 1 with one sentence on stderr when it could not."""
    chosen = _parser().parse_args(argv)
    registry = Registry(chosen.folder)
    commands = {"list": _list, "add": _add, "remove": _remove, "verify": _verify}
    try:
        commands[chosen.command](registry, chosen)
    except InferenceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"The machine's disk failed ({error.strerror}).\n")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m inference models", description="The models of this machine.")
    parser.add_argument("--folder", type=Path, help="where added models lie (default: the user's data folder)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="name, version, digest and terms of each model, as JSON lines")
    commands.add_parser("verify", help="compare every weights file with its pinned digest")
    remove = commands.add_parser("remove", help="remove a model that was added")
    remove.add_argument("name")
    remove.add_argument("--version")
    add = commands.add_parser("add", help="take in a MONAI bundle folder (read, never executed), or a published model")
    add.add_argument("bundle", metavar="FOLDER|brats17", help="a bundle folder, or the name of a published model")
    add.add_argument("--from", dest="source", metavar="DIR|URL", help="where the published model's files are")
    add.add_argument("--views", choices=VIEWS, help="brats17: along which axes it looks (default: all three)")
    add.add_argument("--name")
    add.add_argument("--sequences", type=_sequences, help="order of the inputs, such as T1CE,T1,T2,FLAIR")
    add.add_argument("--channels", type=_words, help="meaning of the outputs, such as TC,WT,ET")
    add.add_argument("--spacing-mm", type=float, default=1.0)
    add.add_argument("--window", type=int, nargs=3, metavar=("X", "Y", "Z"))
    add.add_argument("--weights", type=Path, help="the weights file, when it is not models/model.pt")
    return parser


def _list(registry: Registry, _: argparse.Namespace) -> None:
    for entry in registry.entries():
        line = {
            "name": entry.name,
            "version": entry.version,
            "sha256": entry.sha256,
            "network": entry.network.name,
            "intended_use": entry.intended_use,
            "licence": entry.licence,
        }
        sys.stdout.write(json.dumps(line) + "\n")


def _add(registry: Registry, chosen: argparse.Namespace) -> None:
    entry = _published(registry, chosen) if chosen.bundle == PUBLISHED else _bundle(registry, chosen)
    sys.stdout.write(f"Added {entry.name} {entry.version}, weights {entry.sha256}.\n")


def _published(registry: Registry, chosen: argparse.Namespace) -> ModelEntry:
    from inference.models.brats17.add import add_brats17
    from inference.terminal import Display

    with Display(sys.stderr) as display:
        return add_brats17(chosen.source, into=registry.folder, views=chosen.views or DEFAULT_VIEWS, tell=display.show)


def _bundle(registry: Registry, chosen: argparse.Namespace) -> ModelEntry:
    if chosen.source or chosen.views:
        raise BundleRefused(chosen.bundle, f"is a folder; --from and --views are for {PUBLISHED}")
    choices = BundleChoices(
        name=chosen.name,
        sequences=chosen.sequences,
        channels=chosen.channels,
        spacing_mm=chosen.spacing_mm,
        window=tuple(chosen.window) if chosen.window else None,
        weights=chosen.weights,
    )
    return add_bundle(Path(chosen.bundle), into=registry.folder, choices=choices)


def _remove(registry: Registry, chosen: argparse.Namespace) -> None:
    entry = registry.find(chosen.name, version=chosen.version)
    if entry.weights.parent == BUILTIN_FOLDER:
        sys.stdout.write(f"{entry.name} {entry.version} is built in and stays.\n")
        return
    shutil.rmtree(entry.weights.parent)
    sys.stdout.write(f"Removed {entry.name} {entry.version}.\n")


def _verify(registry: Registry, _: argparse.Namespace) -> None:
    for entry in registry.entries():
        found = digest_of(entry.weights) if entry.weights.is_file() else "missing"
        if found != entry.sha256:
            raise WeightsMismatch(entry.name, expected=entry.sha256, found=found)
        sys.stdout.write(f"{entry.name} {entry.version} is as pinned.\n")


def _sequences(text: str) -> tuple[Sequence, ...]:
    return tuple(Sequence(word) for word in _words(text))


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.upper().split(","))
