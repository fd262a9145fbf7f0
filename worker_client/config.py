"""What the worker is told by its surroundings, read once. The only reader of `os.environ` on the lab PC."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_path

from worker_client.errors import SetUpError

GIB = 1024**3
MOST_SLOTS = 64
MOST_LABELS = 16
_LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")


class ConfigInvalid(SetUpError):
    """A value from outside cannot be used."""


@dataclass(frozen=True)
class Logs:
    """How the worker writes its log: `level` as in `logging`, one JSON object a line when `as_json`."""

    level: int = logging.INFO
    as_json: bool = False


@dataclass(frozen=True)
class WorkerConfig:
    """Everything that can be set. `device` is auto, cpu, cuda or cuda:N; `models_folder` None is the platform's.

    `drain_seconds` is below the ten seconds that service managers commonly wait before they kill.
    `fallback_seconds`: so long without a WebSocket, although the server answers, and HTTPS is used. `key_days`: replace
    a key older than this at the next sign-in; None leaves that to the server. `labels`: words for the scheduler.
    """

    home: Path
    device: str = "auto"
    models_folder: Path | None = None
    slots: int = 1
    cache_bytes: int = 8 * GIB
    drain_seconds: float = 8.0
    fallback_seconds: float = 60.0
    key_days: float | None = None
    labels: tuple[str, ...] = ()


def default_home() -> Path:
    """Where a worker lives when nobody says otherwise: the platform's user data folder."""
    return user_data_path("segwire-worker", appauthor=False)


def read_models_folder(environ: Mapping[str, str] | None = None) -> Path | None:
    """MODELS_DIR: where models lie that do not come with the program; None for the platform's folder."""
    folder = (os.environ if environ is None else environ).get("MODELS_DIR", "")
    return Path(folder) if folder else None


def read_logs(environ: Mapping[str, str] | None = None) -> Logs:
    """LOG_LEVEL and LOG_FORMAT. Raises ConfigInvalid with a sentence that names the wrong one."""
    environ = os.environ if environ is None else environ
    name = (environ.get("LOG_LEVEL") or "INFO").upper()
    level = logging.getLevelNamesMapping().get(name)
    if level is None:
        raise ConfigInvalid(f"LOG_LEVEL is {name!r}; it must be one of DEBUG, INFO, WARNING, ERROR.")
    form = (environ.get("LOG_FORMAT") or "console").lower()
    if form not in ("console", "text", "json"):
        raise ConfigInvalid(f"LOG_FORMAT is {form!r}; it must be console or json.")
    return Logs(level=level, as_json=form == "json")


def check_device(device: str) -> str:
    """The device as the analysis names it. Raises ConfigInvalid."""
    kind, _, number = device.partition(":")
    if device in ("auto", "cpu", "cuda") or (kind == "cuda" and number.isdecimal()):
        return device
    raise ConfigInvalid(f"--device is {device!r}; it must be auto, cpu or cuda:N.")


def check_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels, each once and in order. Raises ConfigInvalid."""
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise ConfigInvalid(f"--label is {label!r}; it must be a word of small letters, digits, '.', '_' and '-'.")
    found = tuple(dict.fromkeys(labels))
    if len(found) > MOST_LABELS:
        raise ConfigInvalid(f"--label was given {len(found)} times; at most {MOST_LABELS} labels are possible.")
    return found


def check_slots(slots: int) -> int:
    """How many jobs at a time. Raises ConfigInvalid."""
    if not 1 <= slots <= MOST_SLOTS:
        raise ConfigInvalid(f"--slots is {slots}; it must be 1 to {MOST_SLOTS}.")
    return slots


def check_number(name: str, number: float) -> float:
    """An amount that was given on the command line. Raises ConfigInvalid."""
    if not 0.0 <= number < float("inf"):
        raise ConfigInvalid(f"{name} is {number:g}; it must be 0 or more.")
    return number


def is_watched() -> bool:
    """Whether a person sits at this process's own terminal: a live line is for eyes, a log for files and services.

    A process that another one started in a session of its own writes to a terminal that is not its to redraw.
    """
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        return False
    if sys.platform == "win32":
        return True
    try:
        return os.tcgetpgrp(sys.stdout.fileno()) == os.getpgrp()
    except OSError:
        return False
