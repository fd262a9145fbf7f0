"""The pages: who sees them, in which language, and that no script or style stands in them."""

import re

import pytest
from django.test import Client

from tests.server.shelf import a_user

pytestmark = pytest.mark.django_db


def test_the_viewer_asks_a_stranger_to_sign_in():
    answer = Client().get("/?study=01ABC")

    assert answer.status_code == 302
    assert answer["Location"] == "/login/?next=/%3Fstudy%3D01ABC"


def test_signing_in_leads_to_where_one_wanted_to_go():
    a_user("doctor")

    answer = Client().post("/login/?next=/%3Fstudy%3D01ABC", {"username": "doctor", "password": "not-so-secret"})

    assert answer["Location"] == "/?study=01ABC"


def test_a_wrong_password_is_told_without_saying_which_part_was_wrong():
    answer = Client().post("/login/", {"username": "nobody", "password": "x"}, headers={"accept-language": "ko"})

    assert answer.status_code == 200
    assert "사용자 이름과 비밀번호가 맞지 않습니다." in answer.text


@pytest.mark.parametrize(("is_staff", "has_link"), [(False, False), (True, True)])
def test_only_staff_is_shown_the_way_to_the_administration(is_staff, has_link):
    browser = Client()
    browser.force_login(a_user(is_staff=is_staff))

    page = browser.get("/").text

    assert ("/admin/" in page) is has_link
    assert f'data-staff="{str(is_staff).lower()}"' in page


@pytest.mark.parametrize("path", ["/", "/login/"])
def test_no_script_and_no_style_stands_in_a_page(path):
    """The policy forbids them; a page that had one would break silently."""
    browser = Client()
    if path == "/":
        browser.force_login(a_user())

    answer = browser.get(path)

    assert "script-src 'self'" in answer["Content-Security-Policy"]
    assert re.findall(r"<script(?![^>]*\ssrc=)", answer.text) == []
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=", answer.text) == []


@pytest.mark.parametrize(("language", "expected"), [("ko", 'lang="ko"'), ("en-GB", 'lang="en'), ("de", 'lang="en')])
def test_the_page_speaks_the_browsers_language_or_english(language, expected):
    page = Client().get("/login/", headers={"accept-language": language}).text

    assert expected in page


def test_a_name_is_text_and_never_markup():
    doctor = a_user()
    doctor.first_name = "<img src=x onerror=alert(1)>"
    doctor.save()
    browser = Client()
    browser.force_login(doctor)

    page = browser.get("/").text

    assert "<img" not in page
    assert "&lt;img" in page


def test_the_viewer_is_not_kept_by_any_cache():
    browser = Client()
    browser.force_login(a_user())

    assert "no-store" in browser.get("/")["Cache-Control"]
