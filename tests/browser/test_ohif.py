"""The AI button in a stock OHIF: from the click to the segmentation over the lesion, with a real archive."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect
from scipy import ndimage

from inference.export.segments import PARTS
from tests.browser.conftest import DESKTOP
from tests.browser.ohif import Viewer
from tests.browser.test_viewer import Picture, as_shown, dice
from tests.system.orthanc import Orthanc, orthanc
from tests.system.services import kept_running
from tests.system.stack import PASSWORD, Stack, click, demo_files, wait_for

pytestmark = pytest.mark.browser

SECONDS = 240  # not a measure of speed: the machine may be busy with anything
NEAR = 24
"""How far a channel may be off: the outline is drawn opaque, and its edges are smoothed."""
WHOLE = {"SEG": 1, "SR": 1, "OT": 3, "DOC": 1}
"""The objects of one result by modality; OT: three key images."""
Pixels = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Site:
    """A hospital with one study in its archive, which Segwire does not know yet."""

    stack: Stack
    archive: Orthanc
    viewer: Viewer
    study_uid: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("ohif")
    with ExitStack() as running:
        archive = running.enter_context(orthanc(folder / "orthanc"))
        viewer = Viewer(folder / "viewer", archive=archive)
        stack = Stack(folder / "data", DICOMWEB_URL=archive.dicomweb_url, ALLOWED_ORIGINS=viewer.url)
        running.enter_context(stack)
        viewer.configure(stack.url)
        running.enter_context(kept_running(viewer))
        files = sorted(demo_files(stack).rglob("*.dcm"))
        archive.put(files)
        stack.start_worker(stack.enrol_worker())
        uid = str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
        yield Site(stack=stack, archive=archive, viewer=viewer, study_uid=uid)


Visit = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Visit]:
    """Opens the study in OHIF; each page must end without an error on the console or a failed script."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def opened(*, locale: str = "en-GB", is_signed_in: bool = True, forgives: tuple[str, ...] = ()) -> Page:
        def hears(said: ConsoleMessage) -> None:
            if said.type == "error" and not any(word in said.text for word in forgives):
                complaints.append(f"console: {said.text}")

        context = browser.new_context(locale=locale, viewport=DESKTOP)
        contexts.append(context)
        # OHIF's own tour and banner, which greet each new visitor; the browser's PDF page keeps nothing.
        context.add_init_script(
            "window.localStorage?.setItem('shownTours', '[\"basicViewerTour\"]');"
            "window.sessionStorage?.setItem('investigationalUseDialog', 'hidden');"
        )
        page = context.new_page()
        if is_signed_in:
            page.goto(f"{site.stack.url}/login/")
            page.locator("[name=username]").fill("doctor")
            page.locator("[name=password]").fill(PASSWORD)
            page.locator("main button[type=submit]").click()
            page.wait_for_url(f"{site.stack.url}/")
        page.on("pageerror", lambda error: complaints.append(f"script: {error}"))
        page.on("console", hears)
        page.goto(f"{site.viewer.url}/viewer?StudyInstanceUIDs={site.study_uid}")
        expect(button_of(page)).to_be_visible(timeout=60_000)
        expect(page.locator("[data-cy=viewport-pane] canvas").first).to_be_visible(timeout=60_000)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def button_of(page: Page) -> Locator:
    return page.locator("button[name=SegwireAnalysis]")


def panel_of(page: Page) -> Locator:
    return page.get_by_test_id("segwire-panel")


def watch(page: Page, *, until: str) -> list[int]:
    """The percentages that are seen until the panel is in a state."""
    seen: list[int] = []
    deadline = time.monotonic() + SECONDS
    while (state := panel_of(page).get_attribute("data-state")) != until:
        assert state not in ("failed", "sign-in", "asking"), panel_of(page).inner_text()
        assert time.monotonic() < deadline, f"{state}; percentages seen: {seen}"
        text = (page.get_by_test_id("segwire-percent").text_content() or "").strip(" %")
        if text.isdigit() and (not seen or seen[-1] != int(text)):
            seen.append(int(text))
        page.wait_for_timeout(50)
    return seen


def picture_of_viewport(page: Page) -> Pixels:
    """(height, width, 3) of the viewport, once the segmentation is painted."""
    deadline = time.monotonic() + SECONDS
    before = np.zeros((1, 1, 3), np.int16)
    while time.monotonic() < deadline:
        shot = page.locator("[data-cy=viewport-pane]").first.screenshot()
        pixels = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), dtype=np.int16)
        if painted(pixels).sum() > 500 and np.array_equal(pixels, before):
            return pixels
        before = pixels
        page.wait_for_timeout(300)
    raise AssertionError("no segmentation in the viewport")


def painted(pixels: Pixels) -> npt.NDArray[np.bool_]:
    """Where something is in colour; OHIF's own signs are bluish, and none of the parts is."""
    return (np.ptp(pixels, axis=2) > 40) & (pixels[..., 2] < pixels[..., :2].max(axis=2) - 30)


def box(shape: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(shape.any(axis=1)), np.flatnonzero(shape.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def as_small_as(shape: tuple[int, ...], large: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The same picture with as many rows and columns: the pixel in the middle of each."""
    rows, columns = (((np.arange(n) + 0.5) * size / n).astype(int) for n, size in zip(shape, large.shape, strict=True))
    return large[np.ix_(rows, columns)]


def likeness(pixels: Pixels, scan: npt.NDArray[Any], mask: npt.NDArray[Any]) -> tuple[float, float]:
    """Dice of what is painted with the slice of the mask it fits best, laid over each other by the brain's outline.

    The second figure is of the picture's mirror image.
    """
    grey = (np.ptp(pixels, axis=2) <= 12) & (pixels.max(axis=2) > 24)
    pieces, _ = ndimage.label(grey | painted(pixels))  # the largest is the brain; letters and the slider are others
    brain = box(pieces == np.bincount(pieces.ravel())[1:].argmax() + 1)
    seen, best = painted(pixels)[brain], (0.0, 0.0)
    for place in np.flatnonzero((mask > 0).any(axis=(0, 1))):
        outline = box(as_shown(scan > 0, place))
        there = as_shown(mask > 0, place)[outline]
        here = as_small_as(there.shape, seen)
        best = max(best, (dice(here, there), dice(here[:, ::-1], there)))
    return best


def test_a_click_brings_the_segmentation_into_ohif_without_a_reload(
    site: Site, visit: Visit, picture: Picture, tmp_path: Path
) -> None:
    page = visit()
    page.evaluate("window.isStillThisPage = true")

    button_of(page).click()
    percentages = watch(page, until="shown")
    pixels = picture_of_viewport(page)
    picture(page, "ohif")
    with site.stack.client() as doctor:
        study = doctor.get("/api/mri/studies/", params={"uid": site.study_uid}).json()["studies"][0]
        job = doctor.get("/api/mri/segmentation/jobs/", params={"study": study["id"]}).json()["jobs"][0]
        (tmp_path / "mask.nii.gz").write_bytes(doctor.get(job["result"]["mask_url"]).content)
        scan_url = f"/api/mri/series/{study['proposal']['series']['T1CE']}/volume.nii.gz"
        (tmp_path / "t1ce.nii.gz").write_bytes(doctor.get(scan_url).content)
    mask, scan = (
        np.asarray(nib.as_closest_canonical(nib.load(tmp_path / name)).dataobj)
        for name in ("mask.nii.gz", "t1ce.nii.gz")
    )
    in_place, mirrored = likeness(pixels, scan, mask)
    outlines = {part.name: int((np.abs(pixels - part.rgb).max(axis=2) <= NEAR).sum()) for part in PARTS}

    assert page.evaluate("window.isStillThisPage"), "the page was not loaded again"
    assert len(percentages) >= 3, "the progress is seen to move"
    assert percentages == sorted(percentages), "and never backwards"
    assert in_place >= 0.9
    assert mirrored < 0.5, "right is on the left"
    assert all(count >= 50 for count in outlines.values()), outlines
    assert site.archive.sop_instances(modality="SEG", study=site.study_uid)


def have_result(site: Site) -> None:
    """Wait until a whole result is in the archive; ask for one where nobody has."""
    with site.stack.client() as doctor:
        if not site.archive.sop_instances(modality="SEG"):
            pull = doctor.post(f"/api/pacs/default/studies/{site.study_uid}/pull/").raise_for_status().json()
            where = f"/api/pacs/pulls/{pull['id']}/"
            done = wait_for(lambda: doctor.get(where).json()["study"], seconds=SECONDS, what="study")
            click(doctor, doctor.get(f"/api/mri/studies/{done}/").json()).raise_for_status()
    wait_for(lambda: kinds_in(site.archive) == WHOLE, seconds=SECONDS, what="result in the archive")


def kinds_in(archive: Orthanc) -> dict[str, int]:
    return {kind: len(archive.sop_instances(modality=kind)) for kind in WHOLE}


def test_report_key_images_and_summary_open_beside_the_segmentation(site: Site, visit: Visit) -> None:
    """What OHIF cannot open, it says on the console."""
    have_result(site)
    page = visit()
    overlay = page.locator("[data-cy=viewport-pane]").first

    page.get_by_text("Brain tumour measurements").first.dblclick()
    expect(overlay.locator("canvas")).to_have_count(0, timeout=60_000)  # OHIF draws what has a place in an image
    page.get_by_text("Brain tumour summary").first.dblclick()
    expect(overlay.locator("object, iframe, embed").first).to_be_attached(timeout=60_000)
    page.get_by_text("Brain tumour key images").first.dblclick()

    expect(overlay.get_by_text("Brain tumour key images")).to_be_visible(timeout=60_000)


def test_a_stranger_pastes_a_token_and_changes_their_mind(site: Site, visit: Visit) -> None:
    """In Korean, and without a session: the browser is refused once, and the socket is opened with a ticket."""
    page = visit(locale="ko-KR", is_signed_in=False, forgives=("401",))
    token = site.stack.manage("api_token", "doctor")

    button_of(page).click()
    expect(panel_of(page)).to_have_attribute("data-state", "sign-in", timeout=30_000)
    question = panel_of(page).inner_text()
    page.get_by_test_id("segwire-token").fill(token)
    page.get_by_test_id("segwire-use-token").click()
    expect(panel_of(page)).to_have_attribute("data-state", "running", timeout=60_000)
    page.get_by_test_id("segwire-cancel").click()
    expect(panel_of(page)).to_have_attribute("data-state", "cancelled", timeout=60_000)

    assert "로그인" in question
    assert page.get_by_test_id("segwire-title").inner_text() == "취소됨"
