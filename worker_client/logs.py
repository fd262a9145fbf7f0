"""The worker's log: one static sentence and its fields a line, as text or as JSON, on standard error.

Levels and ids only: no patient, path, token or voxel is ever a field.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from rich.console import Console

from worker_client.config import Logs

QUIET = Logs(level=logging.CRITICAL)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CHATTY = ("httpx", "httpcore", "websockets", "asyncio")


class TextFormatter(logging.Formatter):
    """`2026-01-31 12:00:00 INFO A job begins job=… fence=1`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback follows on its own lines."""
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        text = f"{_time(record):%Y-%m-%d %H:%M:%S} {record.levelname} {record.getMessage()}{fields}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """`{"at", "level", "logger", "message", …fields, "exception"?}`."""
        line = {
            "at": _time(record).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class ConsoleHandler(logging.Handler):
    """Writes above a live line without tearing it."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        self._console.print(self.format(record), markup=False, highlight=False)


def set_up(logs: Logs, *, console: Console | None = None) -> None:
    """Send the log of this process to standard error, or through `console` while it shows a live line."""
    handler = logging.StreamHandler() if console is None else ConsoleHandler(console)
    handler.setFormatter(JsonFormatter() if logs.as_json else TextFormatter())
    # On a terminal the live line says what goes on; only what needs a person's eye is printed above it.
    level = logs.level if console is None else max(logs.level, logging.WARNING)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _CHATTY:
        # httpx logs whole URLs at INFO, and they hold upload ids.
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, tz=UTC)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}
