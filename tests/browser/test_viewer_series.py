"""Which series is which, what was left out, what was measured and where it went, as the doctor sees it."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import Open
from tests.browser.test_viewer import Picture
from tests.system.faults.patients import make_patient
from tests.system.stack import Stack, upload

pytestmark = pytest.mark.browser

SMALL = {"width": 390, "height": 844}
SWAP = "The series given as T2 looks like FLAIR: fluid is dark and grey matter is brighter than white matter."
ARCHIVE = {"name": "default", "is_default": True, "can_search": True, "sends_results": True}
ARCHIVED = {
    "uid": "1.2.3.4",
    "patient_name": "SIMULATED^DEMO PATIENT=모의^환자",
    "patient_id": "SIMULATED-1",
    "date": "2026-01-01",
    "description": "Brain tumour follow-up",
    "accession": "A-77",
    "modalities": ["MR"],
    "series_count": 6,
    "study": None,
}
FAILED = {
    "id": "D1",
    "server": "default",
    "kind": "seg",
    "state": "failed",
    "attempts": 8,
    "sent_at": None,
    "error": {"code": "archive_busy", "message": "The archive is full."},
}
ASIDE = [
    {"filename": "loc/IM0001", "code": "localizer", "detail": "It is a localizer.", "files": 3},
    {"filename": "adc/IM0001", "code": "derived_map", "detail": "It is a map computed from other images.", "files": 24},
]


@pytest.fixture(scope="module")
def doctor(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


@pytest.fixture(scope="module")
def study(doctor: httpx.Client) -> dict[str, Any]:
    """The demo patient's, which no test here changes."""
    studies = doctor.get("/api/mri/studies/?limit=500").json()["studies"]
    return next(one for one in studies if one["patient_id"] == "SIMULATED-1")


@pytest.fixture
def own_study(doctor: httpx.Client, tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Four small series for one test alone, which may change what they are."""
    return upload(doctor, make_patient(tmp_path, seed=zlib.crc32(request.node.name.encode())))


def series_of(study: dict[str, Any], sequence: str) -> dict[str, Any]:
    return next(one for one in study["series"] if one["sequence"] == sequence)


def menu(page: Page, series: dict[str, Any]) -> Locator:
    """The menu of one series in the list of all."""
    return page.locator(f'[data-series="{series["id"]}"]').get_by_test_id("series-sequence")


def enter(control: Locator) -> None:
    """By keyboard; a key on what is not seen yet would be lost."""
    expect(control).to_be_visible()
    control.press("Enter")


def answers(page: Page, path: str, content: Any, *, status: int = 200) -> None:
    """Let the page hear something else from the server."""

    def answer(route: Route) -> None:
        route.fulfill(status=status, content_type="application/json", body=json.dumps(content))

    page.route(path, answer)


def test_what_a_person_says_of_a_series_counts_at_once_and_after_a_reload(
    open_page: Open, own_study: dict[str, Any]
) -> None:
    page = open_page(f"/?engine=canvas&study={own_study['id']}")
    t2 = series_of(own_study, "T2")
    page.get_by_test_id("sequences").get_by_text("All series (4)").click()

    menu(page, t2).select_option("")
    expect(page.get_by_test_id("slots-hint")).to_contain_text("T2")
    expect(page.get_by_test_id("analyse")).to_have_text("AI analysis without T2")
    page.reload()
    page.get_by_test_id("sequences").get_by_text("All series (4)").click()

    expect(page.get_by_test_id("slot-T2")).to_have_value("")
    expect(page.locator(f'[data-series="{t2["id"]}"]').get_by_test_id("series-source")).to_have_text("set by a person")


def test_a_sequence_that_no_model_does_without_is_named_and_the_slot_gives_it_back(
    open_page: Open, doctor: httpx.Client, own_study: dict[str, Any]
) -> None:
    page = open_page(f"/?engine=canvas&study={own_study['id']}", forgives=("422",))
    t2 = series_of(own_study, "T2")
    expect(page.get_by_test_id("slot-T2")).to_have_value(t2["id"])

    # Said somewhere else: this page hears of it.
    doctor.patch(f"/api/mri/series/{t2['id']}/", json={"sequence": None}).raise_for_status()
    expect(page.get_by_test_id("slot-T2")).to_have_value("")
    enter(page.get_by_test_id("analyse"))
    expect(page.get_by_test_id("reason")).to_contain_text("T2 is missing")
    expect(page.get_by_test_id("analyse")).to_be_disabled()
    page.get_by_test_id("slot-T2").select_option(t2["id"])

    expect(page.get_by_test_id("analyse")).to_be_enabled()
    expect(page.get_by_test_id("analyse")).to_have_text("AI analysis")
    expect(page.locator(f'[data-series="{t2["id"]}"]')).to_have_attribute("data-sequence", "T2")


@pytest.mark.parametrize(("locale", "size"), [("en-GB", None), ("ko-KR", SMALL)])
def test_a_swap_is_explained_and_put_right_by_one_click(
    open_page: Open, study: dict[str, Any], locale: str, size: dict[str, int] | None
) -> None:
    page = open_page("/", locale=locale, size=size)
    t2 = series_of(study, "T2")
    corrected: list[Any] = []

    def study_now(route: Route) -> None:
        route.fulfill(json=study if corrected else doubted(study, t2))

    def correct(route: Route) -> None:
        corrected.append(route.request.post_data_json)
        route.fulfill(json={**t2, "sequence": "FLAIR", "sequence_source": "person"})

    page.route(f"**/api/mri/studies/{study['id']}/", study_now)
    page.route(f"**/api/mri/series/{t2['id']}/", correct)
    answers(page, "**/api/mri/studies/?limit=500", {"studies": [doubted(study, t2)]})
    page.goto(f"{page.url}?engine=canvas&study={study['id']}")

    expect(page.get_by_test_id("doubt")).to_contain_text("T2로" if locale == "ko-KR" else "T2 looks like FLAIR")
    enter(page.get_by_test_id("set-aside").locator("summary"))
    expect(page.get_by_test_id("set-aside").locator("li")).to_have_count(2)
    enter(page.locator(".all-series").locator("xpath=..").locator("summary"))
    page.get_by_test_id("sequences").scroll_into_view_if_needed()
    enter(page.get_by_test_id("doubt-set"))
    expect(page.get_by_test_id("doubts")).to_be_hidden()

    assert corrected == [{"sequence": "FLAIR"}]
    assert page.evaluate("document.documentElement.scrollWidth") <= (size or {"width": 1280})["width"]


def doubted(study: dict[str, Any], doubtful: dict[str, Any]) -> dict[str, Any]:
    """The same study with a swap in it, and files that were set aside."""
    change = {"sequence_confidence": 0.4, "sequence_source": "voxels", "sequence_reason": SWAP}
    series = [{**one, **(change if one["id"] == doubtful["id"] else {})} for one in study["series"]]
    proposal = {"series": {one["sequence"]: one["id"] for one in series}, "missing": [], "others": []}
    return {**study, "series": series, "proposal": {**proposal, "warnings": [SWAP]}, "set_aside": ASIDE}


@pytest.mark.parametrize(("locale", "size"), [("en-GB", None), ("ko-KR", SMALL)])
def test_a_study_is_found_in_an_archive_and_fetched(
    open_page: Open, study: dict[str, Any], picture: Picture, locale: str, size: dict[str, int] | None
) -> None:
    page = open_page("/", locale=locale, size=size)
    pulls = iter([("running", 2), ("running", 5), ("done", 6)])

    def pulled(route: Route) -> None:
        state, done = next(pulls) if route.request.method == "GET" else ("queued", 0)
        found = study["id"] if state == "done" else None
        content = {"id": "P1", "state": state, "done": done, "total": 6, "study": found, "error": None}
        route.fulfill(status=200 if route.request.method == "GET" else 202, json=content)

    answers(page, "**/api/pacs/", {"servers": [ARCHIVE, {**ARCHIVE, "name": "ward", "is_default": False}]})
    answers(page, "**/api/pacs/default/studies/?*", {"studies": [ARCHIVED], "is_complete": True})
    page.route("**/api/pacs/default/studies/*/pull/", pulled)
    page.route("**/api/pacs/pulls/P1/", pulled)
    page.goto(f"{page.url}?engine=canvas")

    enter(page.get_by_test_id("archive-open"))
    page.get_by_test_id("archive-patient_id").fill("SIMULATED-1")
    enter(page.get_by_test_id("archive-patient_id"))
    expect(page.get_by_test_id("archive-study")).to_contain_text("SIMULATED DEMO PATIENT")
    enter(page.get_by_test_id("archive-fetch"))
    expect(page.get_by_test_id("archive-study")).to_have_attribute("data-state", "running")
    picture(page, f"archive.{locale[:2]}")

    expect(page.get_by_test_id("archive")).to_be_hidden()
    expect(page.get_by_test_id("sequences")).to_be_visible()
    assert f"study={study['id']}" in page.url


REPORT = {
    "volumes_ml": {"WT": 84.2, "TC": 31.5, "ET": 12.1},
    "measurements": {
        "WT": {"largest_axial_diameter_mm": 52.4, "perpendicular_diameter_mm": 38.0, "largest_diameter_mm": 61.2},
        "TC": {"largest_axial_diameter_mm": 33.1, "perpendicular_diameter_mm": 24.9, "largest_diameter_mm": 35.0},
        "ET": {"largest_axial_diameter_mm": None, "perpendicular_diameter_mm": None, "largest_diameter_mm": None},
    },
    "alignment": [
        {"sequence": "T1", "method": "rigid", "rotation_degrees": 2.4, "shift_mm": 3.1, "similarity": 0.93},
        {"sequence": "T1CE", "method": "none", "rotation_degrees": 0, "shift_mm": 0, "similarity": None},
    ],
    "brain": {"method": "network", "volume_ml": 1312.4},
    "warnings": ["T1 was turned by 12 degrees and moved by 31 mm to fit the series the mask is for."],
    "change": {
        "since": "2026-03-02",
        "regions": {"WT": {"before_ml": 78.9, "after_ml": 84.2, "ml": 5.3, "percent": 6.7}},
        "note": "",
    },
}


@pytest.mark.parametrize(("locale", "size"), [("en-GB", None), ("ko-KR", SMALL)])
def test_a_result_says_how_large_what_changed_and_where_it_was_sent(
    open_page: Open,
    stack: Stack,
    study: dict[str, Any],
    picture: Picture,
    locale: str,
    size: dict[str, int] | None,
) -> None:
    page = open_page("/", locale=locale, size=size)
    mask = next((stack.data_dir / "demo").rglob("truth.nii.gz")).read_bytes()
    job = finished_job(study, sha256=hashlib.sha256(mask).hexdigest())
    answers(page, "**/api/pacs/", {"servers": [ARCHIVE]})
    answers(page, "**/api/pacs/deliveries/?job=J1", {"deliveries": [FAILED]})
    answers(page, "**/api/mri/segmentation/jobs/?study=*", {"jobs": [job]})
    answers(page, "**/api/mri/segmentation/jobs/J1/", job)
    answers(page, "**/report.json", REPORT)
    page.route("**/jobs/J1/mask.nii.gz", lambda route: route.fulfill(body=mask))
    # Without its socket the page asks for everything by HTTP, where the made-up job is.
    page.route_web_socket("**/ws/segmentation/", lambda socket: socket.close())
    page.goto(f"{page.url}?engine=canvas&study={study['id']}")

    expect(page.get_by_test_id("diameters-WT")).to_contain_text("52.4")
    enter(page.get_by_test_id("how").locator("summary"))
    expect(page.get_by_test_id("alignment")).to_contain_text("3.1 mm")
    expect(page.get_by_test_id("change-WT")).to_contain_text("+5.3 mL (+7 %)")
    expect(page.get_by_test_id("delivery")).to_have_attribute("data-state", "failed")
    expect(page.locator("[data-mask=shown]")).to_be_attached()
    page.get_by_test_id("downloads").scroll_into_view_if_needed()
    picture(page, f"viewer-result.{locale[:2]}")
    links = page.get_by_test_id("downloads").locator("a")

    assert links.count() == 7
    expect(page.get_by_test_id("send")).to_be_enabled()
    assert page.evaluate("document.documentElement.scrollWidth") <= (size or {"width": 1280})["width"]


def finished_job(study: dict[str, Any], *, sha256: str) -> dict[str, Any]:
    root = "/api/mri/segmentation/jobs/J1/"
    ids = [one["id"] for one in study["series"]]
    return {
        "id": "J1",
        "state": "succeeded",
        "route": "lab",
        "stage": None,
        "progress": 1.0,
        "attempt": 1,
        "eta_seconds": None,
        "queue_position": None,
        "waiting_reason": None,
        "worker": "lab",
        "error": None,
        "model": "demo",
        "model_version": "1",
        "series_id": ids[0],
        "sequence_series_ids": ids,
        "epoch": "e",
        **{f"{name}_at": "2026-11-01T10:00:00+00:00" for name in ("created", "started", "finished")},
        "seq": 3,
        "result": {
            "mask_url": f"{root}mask.nii.gz",
            "seg_url": f"{root}mask.dcm",
            "report_url": f"{root}report.json",
            "sr_url": f"{root}report.dcm",
            "pdf_url": f"{root}summary.pdf",
            "sha256": sha256,
            "key_image_urls": [f"{root}key/1.dcm", f"{root}key/2.dcm"],
            "volumes_ml": {"WT": 84.2, "TC": 31.5, "ET": 12.1},
        },
    }
