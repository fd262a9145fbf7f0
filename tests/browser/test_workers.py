"""The administrator's live table of workers, in a real browser and in both languages."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.test_viewer import Picture
from tests.system.stack import Stack

pytestmark = pytest.mark.browser

# Written as enrolling, connecting and suspending leave them.
ROWS = """
from datetime import timedelta
from django.utils import timezone
from server.dispatch.models import Worker, WorkerSession
now = timezone.now()
rows = [
    ("behind-a-proxy", "active", "https", False, ["a100"], True),
    ("draining", "active", "websocket", True, [], True),
    ("on-hold", "suspended", "websocket", False, [], True),
    ("newcomer", "pending", "websocket", False, ["<b>new</b>"], False),
    ("at-home", "active", "websocket", False, [], False),
]
for name, state, transport, draining, labels, connected in rows:
    worker = Worker.objects.create(name=name, public_key=name, state=state, labels=labels, last_seen=now)
    WorkerSession.objects.create(
        worker=worker, session=1, boot_id="b", node="elsewhere", channel_name="c", transport=transport,
        is_draining=draining, lease_until=now + timedelta(hours=1), closed_at=None if connected else now,
        device="cuda:0", slots=2, credits=1, rtt_ms=2.5,
    )
"""
SAID = {
    "en-GB": {
        "behind-a-proxy": ("Connected", "HTTPS fall-back"),
        "draining": ("Draining: no new jobs", "WebSocket"),
        "on-hold": ("Suspended: no new jobs", "WebSocket"),
        "newcomer": ("Waiting for approval", ""),
        "at-home": ("Not connected", ""),
    },
    "ko-KR": {
        "behind-a-proxy": ("연결됨", "HTTPS 대체 연결"),
        "draining": ("종료 준비 중: 새 작업 없음", "WebSocket"),
        "on-hold": ("일시 중지: 새 작업 없음", "WebSocket"),
        "newcomer": ("승인 대기 중", ""),
        "at-home": ("연결 안 됨", ""),
    },
}


def said_of(page: Page, worker: str) -> tuple[str, str]:
    """What the cell of its connection says: state and way."""
    row = page.get_by_test_id("worker-row").filter(has=page.get_by_role("link", name=worker, exact=True))
    expect(row).to_have_count(1, timeout=15_000)
    cell = row.get_by_test_id("worker-state")
    way = cell.locator(".way")
    return cell.locator(".dot").inner_text(), way.inner_text() if way.count() else ""


@pytest.fixture
def crowd(stack: Stack) -> None:
    stack.manage("shell", "--verbosity", "0", "-c", ROWS)


def test_the_table_says_who_may_work_and_by_which_way(open_page: Open, crowd: None, picture: Picture) -> None:
    told = {}
    for locale, expected in SAID.items():
        page = open_page("/admin/dispatch/worker/", locale=locale)
        told[locale] = {worker: said_of(page, worker) for worker in expected}
        picture(page, f"admin-workers-many.{locale[:2]}")
        labels = page.get_by_test_id("worker-label").all_inner_texts()

    assert told == SAID
    assert sorted(labels) == ["<b>new</b>", "a100"], "an administrator's words are text, never markup"
