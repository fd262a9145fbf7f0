"""What is decided without an archive: addresses, criteria, answers, rules, pace, secrets."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from server.pacs import rules, secrets
from server.pacs.connection import in_utf8, plainer
from server.pacs.criteria import Criteria
from server.pacs.dimse import peer_of
from server.pacs.errors import SearchTooWide, SecretLost
from server.pacs.findings import is_uid, series_of, study_of
from server.pacs.pace import LONGEST_SECONDS, wait_seconds
from server.pacs.place import NoPlace, place_of
from server.pacs.rules import Facts, Pattern, check_pattern, misfit

RULE = {"modality": "MR", "study_description": "", "series_description": "", "station_name": "", "institution": ""}


def filters(**typed: str) -> dict[str, str]:
    return Criteria(**typed).filters()


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ({"patient_id": "4711"}, {"PatientID": "4711"}),
        ({"patient_id": " 4711 "}, {"PatientID": "4711"}),
        ({"patient_name": "doe"}, {"PatientName": "doe*"}),
        ({"patient_name": "doe^ja?e"}, {"PatientName": "doe?ja?e*"}),
        ({"patient_name": "*doe"}, {"PatientName": "*doe"}),
        ({"patient_name": "김"}, {"PatientName": "김*"}),
        ({"accession": "A 7*7"}, {"AccessionNumber": "A?7*7"}),
        ({"uid": "1.2.3"}, {"StudyInstanceUID": "1.2.3"}),
        ({"patient_id": "1", "date": "2026-01-31"}, {"PatientID": "1", "StudyDate": "20260131"}),
        ({"patient_id": "1", "date": "2026-01-01..2026-01-31"}, {"PatientID": "1", "StudyDate": "20260101-20260131"}),
        ({"patient_id": "1", "date": "20260101-"}, {"PatientID": "1", "StudyDate": "20260101-"}),
        ({"patient_id": "1", "date": "-20260131"}, {"PatientID": "1", "StudyDate": "-20260131"}),
    ],
)
def test_what_was_typed_becomes_a_query(typed: dict[str, str], asked: dict[str, str]) -> None:
    assert filters(**typed) == asked


@pytest.mark.parametrize(
    "typed",
    [
        {},
        {"date": "2026-01-31"},
        {"patient_name": "*"},
        {"patient_name": "do"},
        {"patient_name": "?^?*?"},
        {"patient_id": "4*"},
        {"patient_id": "47\\11"},
        {"patient_id": "4\n711"},
        {"accession": "7" * 65},
        {"uid": "1.2.*"},
        {"uid": "1..2"},
        {"patient_id": "1", "date": "yesterday"},
    ],
)
def test_what_would_match_half_of_the_archive_or_nothing_is_refused(typed: dict[str, str]) -> None:
    with pytest.raises(SearchTooWide):
        filters(**typed)


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=40))
def test_whatever_is_typed_is_refused_or_narrow(name: str, number: str, date: str) -> None:
    try:
        found = filters(patient_name=name, patient_id=number, date=date)
    except SearchTooWide:
        return

    assert found.keys() & {"PatientName", "PatientID"}
    assert all(sum(letter.isalnum() for letter in text) >= 1 or "*" not in text for text in found.values())
    assert not any("\\" in text or "\n" in text for text in found.values())


def test_a_study_is_read_from_dicom_json_with_every_writing_of_the_name() -> None:
    name = {"Alphabetic": "Hong^Gildong", "Ideographic": "洪^吉洞", "Phonetic": "홍^길동"}

    found = study_of(
        {
            "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
            "00100010": {"vr": "PN", "Value": [name]},
            "00080020": {"vr": "DA", "Value": ["20260131"]},
            "00080061": {"vr": "CS", "Value": ["MR", None, "SR"]},
            "00201206": {"vr": "IS", "Value": ["4"]},
            "00080050": {"vr": "SH"},
        }
    )

    assert found is not None
    assert (found.patient_name, found.date) == ("Hong^Gildong=洪^吉洞=홍^길동", "2026-01-31")
    assert (found.modalities, found.series_count, found.accession) == (("MR", "SR"), 4, "")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["vr", "Value", "0020000D"]), inner),
    max_leaves=12,
)


@given(JSON, JSON)
def test_an_answer_of_anything_is_read_as_something_plain(value: object, other: object) -> None:
    entry = {"0020000D": {"Value": value}, "0020000E": {"Value": other}, "00100010": value, "00201206": other}

    for answer in (entry, value):
        study, series = study_of(answer), series_of(answer)
        assert study is None or is_uid(study.uid)
        assert series is None or is_uid(series.uid)


@pytest.mark.parametrize(
    ("conditions", "why"),
    [
        ({}, ""),
        ({"modality": "CT"}, "no CT"),
        ({"study_description": "tumou?r"}, ""),
        ({"study_description": "^knee"}, "study description"),
        ({"series_description": "flair"}, ""),
        ({"station_name": "^MR2$"}, "station"),
        ({"institution": "."}, "institution"),
        ({"modality": "", "study_description": "뇌종양"}, "study description"),
    ],
)
def test_a_rule_fits_or_says_what_does_not(conditions: dict[str, str], why: str) -> None:
    facts = Facts("Brain TUMOR", ("MR", "SR"), ("T1", "AX FLAIR"), ("MR1",), ("",))

    assert misfit(SimpleNamespace(**{**RULE, **conditions}), facts) == why
    assert Facts.of(facts.plain()) == facts


def test_a_pattern_that_would_search_for_ever_is_given_up() -> None:
    """Catastrophic backtracking: an administrator's pattern over a text of whoever wrote the header."""
    rule = SimpleNamespace(**{**RULE, "study_description": r"(a|aa)+$"})

    assert misfit(rule, Facts("a" * 200 + "b", ("MR",))) == "study description"
    with pytest.raises(TimeoutError):
        regex.search(rule.study_description, "a" * 200 + "b", timeout=rules.SEARCH_SECONDS)


def test_what_is_no_pattern_is_said_before_it_is_stored() -> None:
    check_pattern("brain|head")

    with pytest.raises(Pattern):
        check_pattern("(brain")


def test_waits_grow_and_stay_bounded_and_apart() -> None:
    least = [wait_seconds(failures, spread=0.0) for failures in range(40)]
    most = [wait_seconds(failures, spread=1.0) for failures in range(40)]

    assert most == sorted(most)
    assert most[1] == 2.0
    assert most[-1] == LONGEST_SECONDS
    assert all(low == high / 2 for low, high in zip(least, most, strict=True))


def test_a_secret_is_sealed_and_opens_under_the_same_key_only(settings) -> None:
    sealed = secrets.seal("hunter2")

    assert "hunter2" not in sealed
    assert sealed != secrets.seal("hunter2")
    assert (secrets.unseal(sealed), secrets.unseal("")) == ("hunter2", "")
    settings.SECRET_KEY = "another"
    with pytest.raises(SecretLost):
        secrets.unseal(sealed)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://localhost:8042/dicom-web/", "http://localhost:8042/dicom-web"),
        ("https://[2001:db8::1]/dicom", "https://[2001:db8::1]/dicom"),
        ("https://archive.example.org", "https://archive.example.org"),
    ],
)
def test_an_address_loses_its_last_slash_and_nothing_else(url: str, place: str) -> None:
    found = place_of(url)

    assert found is not None
    assert found.url == place


def test_a_dicom_address_has_a_title_a_host_and_a_port() -> None:
    peer = peer_of("dicom://OLD%20PACS@10.0.0.7:104")

    assert (peer.aet, peer.host, peer.port) == ("OLD PACS", "10.0.0.7", 104)


@pytest.mark.parametrize(
    "url",
    [
        "dicom://10.0.0.7:104",
        "dicom://PACS@10.0.0.7",
        "dicom://PACS@:104",
        "dicom://SEVENTEEN-LETTERS@h:1",
        "http://a@b:1",
    ],
)
def test_what_is_no_dicom_address_is_refused(url: str) -> None:
    with pytest.raises(NoPlace):
        peer_of(url)


def test_letters_that_may_stand_in_a_query_are_left_as_they_are() -> None:
    """Orthanc's DICOMweb does not undo %2A, and finds nobody."""
    assert plainer("http://a%2Ab/studies?PatientName=DOE%2A&x=%26") == "http://a%2Ab/studies?PatientName=DOE*&x=%26"


def test_json_in_another_character_set_is_read_as_it_says() -> None:
    assert in_utf8('["洪"]'.encode("euc-kr"), "application/json; charset=euc-kr") == '["洪"]'.encode()
    assert in_utf8('["ü"]'.encode("latin-1"), "application/json") == '["ü"]'.encode()
    assert in_utf8('["ü"]'.encode("latin-1"), "application/json; charset=nonsense") == '["ü"]'.encode()
