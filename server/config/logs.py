"""Logs: structlog, one static sentence and ids as fields; a line for people or JSON for machines."""

from __future__ import annotations

import logging
import logging.config
import re

import structlog

_SECRETS = (
    (re.compile(r"\b(seg[a-z]_)[\w-]{6,}"), r"\1…"),  # API, enrolment and socket tokens
    (re.compile(r"[\w-]{20,}:[\w-]{6,10}:[\w-]{43}"), "…"),  # data tokens, as django.core.signing writes them
    (re.compile(r"(?i)\b(bearer\s+)[^\s'\",]+"), r"\1…"),
    (re.compile(r"(?i)\b((?:__host-)?(?:sessionid|csrftoken)=)[^\s;'\"]+"), r"\1…"),
    (re.compile(r"(?i)((?:x-amz-)?(?:signature|credential|security-token)=)[^\s&'\"]+"), r"\1…"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s/@]+@"), r"\1…@"),  # a password in an address
)


def redacted(text: str) -> str:
    """The text without what looks like a secret: a second door, for no line should hold one."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


class Redacting(structlog.stdlib.ProcessorFormatter):
    """The last thing before a line is written, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def logging_config(*, level: str, style: str) -> None:
    """Send everything, the libraries' lines too, through one formatter on stderr."""
    shared = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # plain_traceback: the default one prints local variables, and with them names and tokens.
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "all": {
                    "()": Redacting,
                    "foreign_pre_chain": shared,
                    "processors": [
                        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                        structlog.processors.format_exc_info,
                        renderer,
                    ]
                    if style == "json"
                    else [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
                }
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "all"}},
            "root": {"handlers": ["stderr"], "level": level},
            "loggers": {
                "daphne": {"level": "WARNING"},
                "twisted": {"level": "WARNING"},
                "httpx": {"level": "WARNING"},
                # They would write down what an archive is searched for: names and numbers of patients.
                "urllib3": {"level": "WARNING"},
                "dicomweb_client": {"level": "ERROR"},
                "retrying": {"level": "CRITICAL"},
                "pynetdicom": {"level": "CRITICAL"},
                "django.channels.server": {"level": "WARNING"},
            },
        }
    )
