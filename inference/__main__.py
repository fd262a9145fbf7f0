"""`python -m inference T1 T1CE T2 FLAIR --out DIR`: the same analysis as behind the server, from files to files.

The mask lies on the grid of T1CE, or of another input by --reference. A sequence that is missing is given as `-`;
then a model is used that is made for the others.
Exit status: 0 done, 2 wrong words, 3 the scans cannot be analysed, 4 the model cannot be used, 5 this machine
cannot do it (memory, device), 1 anything else, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import threading
from collections.abc import Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass
from pathlib import Path

from inference.contract import Grid, InputFile, ModelRef, Order, Outcome, Region, Sequence, Volume
from inference.errors import InferenceError, InputInvalid
from inference.export.nifti import write_nifti
from inference.export.report import report, write_report
from inference.isolate import Sandbox
from inference.sources import Source, read_source
from inference.terminal import Display
from inference.volume import from_ras, pack, ras_grid, unpack

EXIT_BY_FAMILY = {"input_invalid": 3, "model_error": 4, "oom": 5}
EXIT_BY_CODE = {"device_unavailable": 5}
INTERRUPTED = 130
MISSING = Path("-")


@dataclass(frozen=True)
class Written:
    """What lies in the output folder."""

    files: tuple[Path, ...]
    volumes_ml: dict[Region, float]
    warnings: tuple[str, ...]


def main(words: Several[str] | None = None) -> int:
    """Run one command and answer its exit status."""
    given = list(sys.argv[1:] if words is None else words)
    if given[:1] == ["models"]:
        from inference.models.cli import main as models

        return models(given[1:])
    if given[:1] == ["evaluate"]:
        from inference.evaluate import main as evaluate

        return evaluate(given[1:])
    options = _parser().parse_args(given)
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    try:
        written = analyse(options)
    except InferenceError as error:
        sys.stderr.write(f"{error} ({error.code})\n")
        return EXIT_BY_CODE.get(error.code, EXIT_BY_FAMILY.get(error.family, 1))
    except KeyboardInterrupt:
        return INTERRUPTED
    for warning in written.warnings:
        sys.stderr.write(f"Note: {warning}\n")
    sys.stdout.write("  ".join(f"{region} {written.volumes_ml[region]:.1f} mL" for region in Region) + "\n")
    sys.stdout.writelines(f"{path}\n" for path in written.files)
    return 0


def analyse(options: argparse.Namespace) -> Written:
    """Files in, files out. Raises InferenceError."""
    sandbox = Sandbox(device=options.device, models_folder=options.models_folder, threads=options.threads)
    try:
        # The child imports torch while this process reads the scans.
        threading.Thread(target=_start_early, args=(sandbox,), daemon=True).start()
        with Display(sys.stderr) as display, tempfile.TemporaryDirectory(prefix="segwire-") as folder:
            model = _model(options)
            sources = _read_all(_given(options), display)
            reference = _reference(sources, options.reference)
            order = _order(sources, ras_grid(reference.volume.grid), model=model, folder=Path(folder))
            display.show("start", 0.0)
            outcome = sandbox.segment(order, display.news)
            display.show("write", 0.0)
            mask = _on_reference(unpack(order.output, outcome.mask), reference)
            written = _write(mask, outcome, sources, reference, folder=options.out)
            display.show("write", 1.0)
            return written
    finally:
        sandbox.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inference",
        description="Find a brain tumour in four MRI sequences. Research use only, not for clinical use.",
        epilog="`python -m inference models`: the models of this machine; `… evaluate`: how good they are.",
    )
    for sequence in Sequence:
        parser.add_argument(
            sequence.lower(), type=Path, metavar=str(sequence), help="NIfTI file or DICOM folder; - if missing"
        )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the mask and the report")
    parser.add_argument("--model", metavar="NAME", help="a model of `models list` (default: the built-in one)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N (default: auto)")
    parser.add_argument(
        "--reference",
        choices=[str(sequence) for sequence in Sequence],
        help="the input on whose grid the mask lies (default: T1CE, or the first where that is missing)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    parser.add_argument("--models-folder", type=Path, metavar="DIR", help="where added models lie")
    return parser


def _start_early(sandbox: Sandbox) -> None:
    try:
        sandbox.start()
    except InferenceError:
        logging.getLogger(__name__).debug("the order will meet the same failure, and report it")


def _model(options: argparse.Namespace) -> ModelRef | None:
    if options.model is None:
        return None
    from inference.models.registry import Registry

    return Registry(options.models_folder).find(options.model).ref


def _given(options: argparse.Namespace) -> dict[Sequence, Path]:
    paths = {sequence: getattr(options, sequence.lower()) for sequence in Sequence}
    given = {sequence: path for sequence, path in paths.items() if path != MISSING}
    if not given:
        raise InputInvalid("sequence_missing", "All four sequences are missing.")
    return given


def _reference(sources: dict[Sequence, Source], named: str | None) -> Source:
    wanted = Sequence(named) if named else next(one for one in (Sequence.T1CE, *sources) if one in sources)
    if wanted not in sources:
        raise InputInvalid("sequence_missing", "The mask is to lie on its grid, and it was not given.", subject=wanted)
    return sources[wanted]


def _read_all(paths: Mapping[Sequence, Path], display: Display) -> dict[Sequence, Source]:
    sources = {}
    for index, (sequence, path) in enumerate(paths.items()):
        display.show("read", index / len(paths))
        sources[sequence] = read_source(path, sequence)
    return sources


def _order(sources: dict[Sequence, Source], grid: Grid, *, model: ModelRef | None, folder: Path) -> Order:
    inputs = []
    for sequence, source in sources.items():
        path = folder / f"{sequence}.zst"
        inputs.append(InputFile(role=sequence, path=path, packed=pack(source.volume, path)))
    return Order(id="files", inputs=tuple(inputs), grid=grid, model=model, output=folder / "mask.zst")


def _on_reference(mask: Volume, reference: Source) -> Volume:
    """The mask in the axis order of the reference as it is stored."""
    return Volume(voxels=from_ras(mask.voxels, reference.volume.grid), affine=reference.volume.affine)


def _write(
    mask: Volume, outcome: Outcome, sources: dict[Sequence, Source], reference: Source, *, folder: Path
) -> Written:
    folder.mkdir(parents=True, exist_ok=True)
    warnings = (*_without(sources), *outcome.warnings, *(doubt for one in sources.values() for doubt in one.doubts))
    files = [folder / "mask.nii.gz"]
    write_nifti(mask, files[0], labels=True)
    if reference.originals and mask.voxels.any():
        files.append(folder / "mask.dcm")
        _write_seg(mask, reference, files[-1], model=outcome.model)
    elif reference.originals:
        warnings = (*warnings, "No tumour was found, so there is no DICOM SEG: it cannot be empty.")
    content = report(
        mask.voxels.astype("u1"),
        mask.grid,
        model=outcome.model,
        inputs={sequence: source.sha256 for sequence, source in sources.items()},
        stage_seconds=outcome.stage_seconds,
        warnings=warnings,
    )
    write_report(content, folder / "report.json")
    return Written((*files, folder / "report.json"), dict(outcome.volumes_ml), warnings)


def _without(sources: dict[Sequence, Source]) -> tuple[str, ...]:
    missing = [str(sequence) for sequence in Sequence if sequence not in sources]
    return (f"Analysed without {', '.join(missing)}, by a model made for that.",) if missing else ()


def _write_seg(mask: Volume, reference: Source, path: Path, *, model: ModelRef) -> None:
    from inference.export.seg import prove_seg, write_seg

    write_seg(mask, reference.originals, path, model=model, subject=reference.sha256)
    prove_seg(path, mask)


if __name__ == "__main__":
    sys.exit(main())
