"""A real Chromium on the real programs. Screenshots go to SCREENSHOTS (default: test-results/)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, sync_playwright

from tests.system.stack import PASSWORD, ROOT, Stack, demo_patient
from tests.tools import require_tool

FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"width": 1280, "height": 800}


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Iterator[Browser]:
    require_tool("chromium", package="chromium")
    chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
    yield chromium
    chromium.close()


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server with one lab worker and the simulated patient."""
    with Stack(tmp_path_factory.mktemp("browser") / "data") as running:
        demo_patient(running)
        running.start_worker(running.enrol_worker())
        yield running


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, stack: Stack) -> Iterator[Open]:
    """Opens signed-in pages; each must end without a broken policy, an error on the console or a failed script."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def signed_in(
        path: str = "/",
        *,
        locale: str = "en-GB",
        size: dict[str, int] | None = None,
        forgives: tuple[str, ...] = (),
        **more: Any,
    ) -> Page:
        def hears(said: ConsoleMessage) -> None:
            if said.type == "error" and not any(word in said.text for word in forgives):
                complaints.append(f"console: {said.text}")

        context = browser.new_context(locale=locale, viewport=size or DESKTOP, **more)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"script: {error}"))
        page.on("console", hears)
        page.goto(f"{stack.url}/login/?next={quote(path)}")
        page.locator("[name=username]").fill("doctor")
        page.locator("[name=password]").fill(PASSWORD)
        page.locator("main button[type=submit]").click()
        page.wait_for_url(f"{stack.url}{path}")
        return page

    yield signed_in
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def picture() -> Callable[[Page, str], Path]:
    """Takes a screenshot under a name."""
    folder = Path(os.environ.get("SCREENSHOTS", ROOT / "test-results"))
    folder.mkdir(parents=True, exist_ok=True)

    def take(page: Page, name: str) -> Path:
        file = folder / f"{name}.png"
        page.screenshot(path=file)
        return file

    return take
