"""`make setup`: virtual environment, packages, browser files and the tools that tests need. Standard library only.

Every step is skipped when its inputs have not changed since it last succeeded, so a second run takes a second.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
STAMPS = VENV / ".segwire"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
WEB = ROOT / "frontend_bridge" / "web"
WEB_OUTPUT = ROOT / "frontend_bridge" / "static"
MIN_NODE = (20, 19)
# Debian package -> the program that shows it is there; dicom3tools has dciodvfy, fonts-noto-cjk draws Korean,
# postgresql keeps its programs in a folder of its own and psql-client on the PATH.
DEBIAN_TOOLS = {
    "chromium": "chromium",
    "dicom3tools": "dciodvfy",
    "fonts-noto-cjk": "",
    "redis-server": "redis-server",
    "postgresql": "pg_ctlcluster",
    "nginx-light": "nginx",
    "orthanc": "Orthanc",
    "orthanc-dicomweb": "",
}
LANDMARKS = {
    "fonts-noto-cjk": Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"),
    "orthanc-dicomweb": Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"),
}
"""What shows that a package without a program is there."""

OHIF_VERSION = "3.13.2"
OHIF_SHA256 = "b189d3963bfc58e9394a9db8c7be75d07beb029ec211dbb126d47b62969dd3f1"
OHIF = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segwire" / f"ohif-{OHIF_VERSION}"
"""OHIF as its makers built it, for the browser tests; `dist/` below it."""
OHIF_UNUSED = ("dist/ort/", "dist/dicom-microscopy-viewer/")
"""Models to draw masks by hand, slide scanners: two thirds of the package."""


class StepFailed(Exception):
    """A command of a step ended with an error."""


def say(text: str) -> None:
    """One line for the person who waits."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
    """Run a command quietly. Raises StepFailed with the end of what it printed."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise StepFailed(f"{' '.join(str(part) for part in command)} ended with {done.returncode}:\n{tail}")


def digest_of(*paths: Path) -> str:
    """One digest over files and folders, by name and content."""
    total = hashlib.sha256(sys.version.encode())
    for path in paths:
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        for file in files:
            total.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def step(name: str, title: str, digest: str, work: Callable[[], None], *, output: Path | None = None) -> None:
    """Do `work` unless it was done for this digest, and say how long it took."""
    stamp = STAMPS / name
    if stamp.is_file() and stamp.read_text() == digest and (output is None or output.exists()):
        return
    say(f"  {title} ...")
    started = time.monotonic()
    work()
    STAMPS.mkdir(parents=True, exist_ok=True)
    stamp.write_text(digest)
    say(f"  {title}: done in {time.monotonic() - started:.0f} s")


def make_venv() -> None:
    """The virtual environment, by the Python that runs this file."""
    if PYTHON.exists() and (VENV / "pyvenv.cfg").exists():
        return
    say("  virtual environment ...")
    try:
        run(sys.executable, "-m", "venv", VENV)
    except StepFailed as error:
        raise StepFailed(f"{error}\nOn Debian or Ubuntu: apt-get install python3-venv") from error


def install_packages() -> None:
    """Torch first (its build depends on the machine), then everything else exactly as locked."""
    pip = (PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input")
    torch = next(line.split("#")[0].strip() for line in lines("requirements.txt") if line.startswith("torch=="))
    step("torch", "torch (the largest package)", digest_of() + torch, lambda: run(*pip, torch))
    lock = ROOT / "requirements.lock"
    work = lambda: run(*pip, "--no-deps", "--require-hashes", "-r", lock)  # noqa: E731
    step("packages", "Python packages", digest_of(lock), work)


def lines(name: str) -> list[str]:
    """The lines of a file in the project's root."""
    return (ROOT / name).read_text().splitlines()


def node_folder() -> Path:
    """Where a recent enough `node` is: the machine's, or the one that came as a Python package."""
    found = shutil.which("node")
    if found and shutil.which("npm"):
        version = subprocess.run([found, "--version"], text=True, capture_output=True, check=True).stdout
        numbers = tuple(int(part) for part in version.strip().lstrip("v").split(".")[:2])
        if numbers >= MIN_NODE:
            return Path(found).parent
    return PYTHON.parent


def build_web() -> None:
    """npm packages as locked, then the viewer and the client library."""
    inputs = [WEB / name for name in ("package.json", "package-lock.json", "tsconfig.json", "vite.config.ts")]
    env = {**os.environ, "PATH": f"{node_folder()}{os.pathsep}{os.environ.get('PATH', '')}", "npm_config_fund": "false"}
    npm = str(node_folder() / ("npm.cmd" if os.name == "nt" else "npm"))
    ci = lambda: run(npm, "ci", "--no-audit", "--loglevel=error", cwd=WEB, env=env)  # noqa: E731
    step("npm", "browser packages", digest_of(*inputs[:2]), ci, output=WEB / "node_modules")
    build = lambda: run(npm, "run", "build", cwd=WEB, env=env)  # noqa: E731
    step("web", "browser files", digest_of(*inputs, WEB / "src"), build, output=WEB_OUTPUT)


def fetch_ohif() -> None:
    """The viewer that the bridge is tested in, into the user's cache: 50 MB once."""
    if (OHIF / "dist" / "index.html").is_file():
        return
    say(f"  OHIF {OHIF_VERSION} for the tests ...")
    npm = str(node_folder() / ("npm.cmd" if os.name == "nt" else "npm"))
    env = {**os.environ, "PATH": f"{node_folder()}{os.pathsep}{os.environ.get('PATH', '')}"}
    OHIF.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OHIF.parent) as folder:
        try:
            run(npm, "pack", f"@ohif/app@{OHIF_VERSION}", "--silent", cwd=Path(folder), env=env)
            unpack_ohif(next(Path(folder).glob("*.tgz")), Path(folder) / "ohif")
        except StepFailed as error:
            if os.environ.get("REQUIRE_TOOLS"):
                raise
            say(f"  the tests of OHIF will be skipped: {error}")
            return
        (Path(folder) / "ohif").rename(OHIF)


def unpack_ohif(archive: Path, folder: Path) -> None:
    """What a browser needs of the package. Raises StepFailed when it is another one than was tried."""
    if hashlib.sha256(archive.read_bytes()).hexdigest() != OHIF_SHA256:
        raise StepFailed(f"@ohif/app {OHIF_VERSION} is not the package it was")
    filtered = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # from 3.11.4 on
    with tarfile.open(archive) as package:
        for member in package:
            member.name = member.name.removeprefix("package/")
            is_wanted = member.name.startswith("dist/") and not member.name.startswith(OHIF_UNUSED)
            if is_wanted and not member.name.endswith(".map"):
                package.extract(member, folder, **filtered)


def install_tools() -> None:
    """Chromium and the DICOM validator for the tests, where this user may install them (root on Debian)."""
    missing = [
        package
        for package, program in DEBIAN_TOOLS.items()
        if (not shutil.which(program) if program else not LANDMARKS[package].exists())
    ]
    if not missing:
        return
    command = f"apt-get install -y --no-install-recommends {' '.join(missing)}"
    if not (shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0):
        say(f"  some tests will be skipped; to run them too: sudo {command}")
        return
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    say(f"  tools for the tests ({', '.join(missing)}) ...")
    try:
        run("apt-get", "update", "-qq", env=env)
        run(*command.split(), env=env)
    except StepFailed as error:
        if os.environ.get("REQUIRE_TOOLS"):
            raise
        say(f"  some tests will be skipped: {error}")


def main() -> int:
    """Set everything up; the exit code is 1 when a step failed. `--no-tools`: without what only the tests need."""
    has_tools = "--no-tools" not in sys.argv[1:]
    if sys.version_info < (3, 11):  # noqa: UP036  (the system's python3 may be older)
        say(f"Segwire needs Python 3.11 or newer; this is {platform.python_version()}. Use make PYTHON=python3.11 ...")
        return 1
    say("Setting up Segwire")
    try:
        with ThreadPoolExecutor(max_workers=1) as beside:
            tools: Future[None] | None = beside.submit(install_tools) if has_tools else None
            make_venv()
            install_packages()
            build_web()
            if tools is not None:
                fetch_ohif()
                tools.result()
    except StepFailed as error:
        say(f"Set-up failed.\n{error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
