"""What the doctor sees, in a real browser: the click, the progress, the mask on the lesion."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.real_data import case_dir
from tests.system.stack import Stack

pytestmark = pytest.mark.browser

DEMO = "SIMULATED DEMO PATIENT"
SEQUENCES = ("T1", "T1CE", "T2", "FLAIR")
MASK_SECONDS = 240  # not a measure of speed: the machine may be busy with anything
Picture = Callable[[Page, str], Path]


def open_first_study(page: Page, *, named: str = DEMO) -> None:
    """Choose the newest study of that name and wait for four pictures."""
    page.get_by_test_id("study").filter(has_text=named).first.click()
    for sequence in SEQUENCES:
        expect(page.get_by_test_id(f"pane-{sequence}")).to_have_attribute("data-state", "ready", timeout=30_000)


def analyse(page: Page) -> list[int]:
    """Click and watch until the mask is over the pictures. The percentages that were seen on the way."""
    page.get_by_test_id("analyse").click()
    return watch(page)


def watch(page: Page) -> list[int]:
    """The percentages that are seen until the mask is over the pictures."""
    seen: list[int] = []
    deadline = time.monotonic() + MASK_SECONDS
    while page.locator("[data-mask=shown]").count() == 0 or page.get_by_test_id("result").is_hidden():
        assert time.monotonic() < deadline, f"no mask; percentages seen: {seen}"
        text = (page.get_by_test_id("percent").text_content() or "").strip(" %")
        if text.isdigit() and (not seen or seen[-1] != int(text)):
            seen.append(int(text))
        page.wait_for_timeout(50)
    return seen


def coloured(page: Page, sequence: str) -> tuple[np.ndarray, int]:
    """Which pixels of a pane's canvas carry a colour (height, width), and the slice that is shown."""
    canvas = page.get_by_test_id(f"pane-{sequence}").get_by_test_id("slice")
    width, height, slice_number, values = canvas.evaluate(
        "c => [c.width, c.height, Number(c.dataset.slice),"
        " Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]"
    )
    pixels = np.asarray(values, dtype=np.int16).reshape(height, width, 4)[..., :3]
    return np.ptp(pixels, axis=2) > 8, slice_number


def as_shown(truth: np.ndarray, slice_number: int) -> np.ndarray:
    """A slice of a RAS+ volume in radiological convention: right on the left, anterior up. (height, width)."""
    return truth[::-1, ::-1, slice_number].T


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2.0 * np.logical_and(one, other).sum() / max(1, one.sum() + other.sum())


def truth_of_demo(stack: Stack) -> np.ndarray:
    file = next((stack.data_dir / "demo").rglob("truth.nii.gz"))
    return np.asarray(nib.as_closest_canonical(nib.load(file)).dataobj) > 0


@pytest.mark.parametrize("locale", ["en-GB", "ko-KR"])
def test_a_click_shows_progress_and_then_the_mask_on_the_lesion(
    open_page: Open, stack: Stack, picture: Picture, locale: str
) -> None:
    page = open_page("/?engine=canvas", locale=locale)
    open_first_study(page)

    percentages = analyse(page)
    page.get_by_test_id("show-lesion").first.click()
    page.wait_for_timeout(300)
    picture(page, "viewer" if locale == "en-GB" else "viewer.ko")
    shown, slice_number = coloured(page, "T1CE")
    truth = as_shown(truth_of_demo(stack), slice_number)

    assert len(percentages) >= 3, "the progress is seen to move"
    assert percentages == sorted(percentages), "and never backwards"
    assert page.evaluate("document.documentElement.lang") == locale[:2]
    assert truth.any(), "the button jumps to the lesion"
    assert dice(shown, truth) >= 0.8
    assert dice(shown[:, ::-1], truth) < dice(shown, truth), "right is on the left"
    assert all(coloured(page, sequence)[0].any() for sequence in SEQUENCES)


def test_a_reload_in_the_middle_goes_on(open_page: Open) -> None:
    page = open_page("/?engine=canvas")
    open_first_study(page)
    page.get_by_test_id("analyse").click()
    expect(page.get_by_test_id("cancel")).to_be_visible()

    page.reload()
    open_first_study(page)

    expect(page.locator("[data-mask=shown]")).to_be_attached(timeout=MASK_SECONDS * 1000)
    expect(page.get_by_test_id("result")).to_be_visible()


def test_the_crosshair_is_linked(open_page: Open) -> None:
    page = open_page("/?engine=canvas")
    open_first_study(page)
    before = [page.get_by_test_id(f"pane-{name}").get_attribute("data-slice") for name in SEQUENCES]

    page.get_by_test_id("pane-T2").focus()
    page.keyboard.press("ArrowUp")
    after = [page.get_by_test_id(f"pane-{name}").get_attribute("data-slice") for name in SEQUENCES]

    assert [int(late) - int(early) for early, late in zip(before, after, strict=True)] == [1, 1, 1, 1]


def test_a_small_screen_keeps_everything_in_reach(open_page: Open, picture: Picture) -> None:
    page = open_page("/?engine=canvas", size={"width": 390, "height": 844})
    open_first_study(page)

    picture(page, "viewer-small")

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.get_by_test_id("analyse")).to_be_visible()


def test_the_webgl_engine_shows_the_four_sequences_too(open_page: Open, picture: Picture) -> None:
    """Chromium renders in software here, so it gets time; a PC with a graphics card is quick."""
    page = open_page("/?engine=niivue")
    page.get_by_test_id("study").filter(has_text=DEMO).first.click()
    for sequence in SEQUENCES:
        expect(page.get_by_test_id(f"pane-{sequence}")).to_have_attribute("data-state", "ready", timeout=120_000)

    picture(page, "viewer-webgl")

    assert page.get_by_test_id("webgl").count() == 4


@pytest.mark.real_data
def test_a_real_case_uploaded_through_the_page_gets_its_mask(open_page: Open, picture: Picture) -> None:
    folder = case_dir("modelhub_brats18_p1")
    page = open_page("/?engine=canvas")
    before = page.get_by_test_id("study").count()

    page.get_by_test_id("file-input").set_input_files([folder / f"{name.lower()}.nii.gz" for name in SEQUENCES])
    expect(page.get_by_test_id("study")).to_have_count(before + 1, timeout=60_000)
    open_first_study(page, named="")
    analyse(page)
    page.get_by_test_id("show-lesion").first.click()
    page.wait_for_timeout(300)
    picture(page, "viewer-real-case")

    assert coloured(page, "FLAIR")[0].sum() > 100


def test_the_admin_sees_the_worker_live(open_page: Open, stack: Stack, picture: Picture) -> None:
    page = open_page("/admin/dispatch/worker/")
    row = page.get_by_test_id("worker-row").filter(has_text="lab")
    expect(row).to_have_attribute("data-connected", "yes", timeout=15_000)

    picture(page, "admin-workers")
    stack.stop("lab")

    expect(row).to_have_attribute("data-connected", "no", timeout=15_000)
