"""What looks like a secret is not written, wherever it stands in a line."""

from __future__ import annotations

import logging
import logging.config

import pytest
import structlog
from django.core import signing

from server.accounts import tickets
from server.accounts.services import PREFIX
from server.config.logs import logging_config, redacted
from server.dispatch.keys import new_enrol_token

SECRETS = {
    "API token": PREFIX + "x4" * 22,
    "ticket": tickets.PREFIX + "x4" * 22,
    "enrolment token": new_enrol_token(),
    "data token": signing.dumps({"job": "J", "fence": 1}, salt="x", key="k" * 50),
}


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("line", ["refused {}", "{{'Authorization': 'Bearer {}'}}", "GET /x?token={}&a=1", '"{}"'])
def test_a_secret_is_taken_out_of_a_line(kind: str, line: str) -> None:
    secret = SECRETS[kind]

    written = redacted(line.format(secret))

    assert secret not in written
    assert secret[-20:] not in written


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("postgres://segwire:hunter2@db:5432/segwire", "postgres://segwire:…@db:5432/segwire"),
        ("cookie: sessionid=abc123; a=b", "cookie: sessionid=…; a=b"),
        ("cookie: __Host-sessionid=abc123", "cookie: __Host-sessionid=…"),
        ("https://s3/x?X-Amz-Signature=ab12&x=1", "https://s3/x?X-Amz-Signature=…&x=1"),
        ("job=01M82A7CY3XA83E6EMERXXSJDH at 2026-11-22T19:12:51.123456Z", None),
        ("GET http://127.0.0.1:8000/api/mri/studies/ took 3 ms", None),
    ],
)
def test_the_rest_of_the_line_stays(line: str, written: str | None) -> None:
    assert redacted(line) == (written or line)


@pytest.mark.parametrize("style", ["console", "json"])
def test_tracebacks_and_fields_are_covered_too(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    token = SECRETS["API token"]
    before = structlog.get_config()
    try:
        logging_config(level="INFO", style=style)
        try:
            raise ValueError(f"not for {token}")  # noqa: TRY301
        except ValueError:
            logging.getLogger("a.library").exception("it failed with %s", token)
            structlog.get_logger("ours").error("it failed", given=token)
        written = capsys.readouterr().err
    finally:
        structlog.configure(**before)
        logging_config(level="WARNING", style="console")

    assert "ValueError: not for sega_…" in written
    assert token not in written
