"""The viewer where the network is against it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.proxy import BlockingProxy
from tests.browser.test_viewer import MASK_SECONDS, Picture, open_first_study, watch

pytestmark = pytest.mark.browser

RUNNING = re.compile("queued|leased|running")


def has_mask(page: Page) -> None:
    """Wait for the mask over the pictures and the figures beside them."""
    expect(page.locator("[data-mask=shown]")).to_be_attached(timeout=MASK_SECONDS * 1000)
    expect(page.get_by_test_id("result")).to_be_visible()


def test_blocked_here_and_offline_there_the_mask_arrives_on_both_screens(open_page: Open, picture: Picture) -> None:
    """One screen is behind a proxy that blocks WebSocket, the other loses its network in the middle of the analysis."""
    with BlockingProxy() as proxy:
        blocked = open_page(
            "/?engine=canvas",
            proxy={"server": proxy.url, "bypass": "<-loopback>"},
            forgives=("WebSocket connection to",),
        )
        other = open_page("/?engine=canvas", forgives=("ERR_INTERNET_DISCONNECTED",))
        for page in (blocked, other):
            open_first_study(page)
        slow = blocked.get_by_test_id("connection")
        expect(slow).to_be_visible(timeout=30_000)

        blocked.get_by_test_id("analyse").click()
        expect(other.get_by_test_id("job")).to_have_attribute("data-state", RUNNING, timeout=30_000)
        other.context.set_offline(True)
        other.get_by_test_id("cancel").click()
        expect(other.get_by_test_id("reason")).to_contain_text("cannot be reached", timeout=15_000)
        picture(other, "viewer-offline")
        other.context.set_offline(False)
        percentages = watch(blocked)
        has_mask(other)
        picture(blocked, "viewer-slow-mode")
        refused, proxy.is_blocking = proxy.refused, False

        expect(slow).to_be_hidden(timeout=60_000)
        expect(blocked.locator("body")).to_have_attribute("data-connection", "open")
        blocked.close()

    assert refused > 0, "the browser did try"
    assert percentages == sorted(percentages)
    assert len(percentages) >= 2, "the progress is seen to move"
