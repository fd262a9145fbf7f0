"""Which series a study proposes for each sequence, and the correction of a person."""

from __future__ import annotations

import pytest
from django.test import Client

from inference.contract import Sequence
from server.audit.models import Entry
from server.imaging import sequences
from server.imaging.models import Series
from server.topics.selectors import events_since
from tests.server.shelf import a_series, a_study, a_user, four_series

pytestmark = pytest.mark.django_db

FLAIR_LIKE = {"edges_1": 0.95, "edges_2": 0.85, "edges_4": 0.95, "edges_5": 1.1, "folds": 0.7}
FLAIR_LIKE |= {"darkest": 0.3, "brightest": 1.25, "specks": 1.5}
T2_LIKE = {"edges_1": 0.65, "edges_2": 0.85, "edges_4": 1.6, "edges_5": 1.8, "folds": 1.9}
T2_LIKE |= {"darkest": 0.7, "brightest": 2.0, "specks": 4.0}
T1_LIKE = {"edges_1": 1.4, "edges_2": 1.2, "edges_4": 0.65, "edges_5": 0.55, "folds": 0.6}
T1_LIKE |= {"darkest": 0.4, "brightest": 1.2, "specks": 0.6}
T1CE_LIKE = {**T1_LIKE, "specks": 1.4}


@pytest.fixture
def study():
    return a_study(a_user())


def changed(series: Series, **fields) -> Series:
    """The series with other columns, stored."""
    for name, value in fields.items():
        setattr(series, name, value)
    series.save(update_fields=list(fields))
    return series


def browser_of(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_a_whole_study_is_proposed_without_a_word(study):
    four = four_series(study)

    proposal = sequences.proposal_of(four)

    assert proposal["series"] == {one.sequence: one.pk for one in four}
    assert (proposal["missing"], proposal["others"], proposal["warnings"]) == ([], [], [])


def test_what_is_missing_is_said_and_what_is_left_over_is_listed(study):
    t1, t2 = a_series(study, sequence="T1"), a_series(study, sequence="T2")
    unknown = a_series(study, sequence=None)

    proposal = sequences.proposal_of([t1, t2, unknown])

    assert proposal["missing"] == ["T1CE", "FLAIR"]
    assert proposal["others"] == [unknown.pk]


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ({"sequence_confidence": 0.3}, {"sequence_confidence": 0.6}),
        ({"shape": [256, 256, 20], "spacing_mm": [0.9, 0.9, 6.0]}, {"shape": [256, 256, 160], "spacing_mm": [1, 1, 1]}),
        ({"shape": [256, 256, 40], "spacing_mm": [0.5, 0.5, 1.0]}, {"shape": [256, 256, 26], "spacing_mm": [1, 1, 5]}),
        ({"sequence_confidence": 0.99}, {"sequence_source": "person", "sequence_confidence": 1.0}),
    ],
    ids=["doubtful", "thick slices", "a part of the head", "a person's word"],
)
def test_the_better_of_two_candidates_is_proposed(study, worse, better):
    other = changed(a_series(study, sequence="T2"), **worse)
    best = changed(a_series(study, sequence="T2"), **better)

    proposal = sequences.proposal_of([best, other])

    assert proposal["series"]["T2"] == best.pk
    assert proposal["others"] == [other.pk]


def test_of_equals_the_axial_one_is_proposed(study):
    sagittal = [[0.0, 0.0, 6.0, 0.0], [0.9, 0.0, 0.0, 0.0], [0.0, 0.9, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    like = {"shape": [256, 256, 24], "spacing_mm": [0.9, 0.9, 6.0]}
    other = changed(a_series(study, sequence="T1"), affine=sagittal, **like)
    axial = changed(a_series(study, sequence="T1"), **like)

    assert sequences.proposal_of([other, axial])["series"]["T1"] == axial.pk


def test_a_doubt_is_told_and_a_persons_word_ends_it(study):
    sentence = "The series given as T2 looks like FLAIR: fluid is dark."
    doubted = changed(a_series(study, sequence="T2"), sequence_confidence=0.1, sequence_reason=sentence)

    before = sequences.proposal_of([doubted])
    sequences.correct(series=doubted, sequence=Sequence.T2, by=study.owner)
    after = sequences.proposal_of([doubted])

    assert before["warnings"] == [sentence]
    assert (after["series"]["T2"], after["warnings"]) == (doubted.pk, [])


def test_a_swapped_pair_is_told_once(study):
    t2 = changed(a_series(study, sequence="T2"), fingerprint=FLAIR_LIKE, sequence_confidence=0.1, sequence_reason="x")
    flair = changed(a_series(study, sequence="FLAIR"), fingerprint=T2_LIKE, sequence_confidence=0.1)

    warnings = sequences.proposal_of([t2, flair])["warnings"]

    assert len(warnings) == 1
    assert warnings[0].startswith("The series given as T2 looks like FLAIR, and the one given as FLAIR like T2")


def test_swapped_t1_and_t1ce_are_told_by_their_vessels(study):
    t1 = changed(a_series(study, sequence="T1"), fingerprint=T1CE_LIKE)
    t1ce = changed(a_series(study, sequence="T1CE"), fingerprint=T1_LIKE)

    assert "they are probably swapped" in sequences.proposal_of([t1, t1ce])["warnings"][0]


def test_two_unnamed_t1_are_told_apart_and_the_doctor_is_asked_to_look(study):
    after = changed(a_series(study, sequence=None), fingerprint=T1CE_LIKE)
    before = changed(a_series(study, sequence=None), fingerprint=T1_LIKE)

    proposal = sequences.proposal_of([after, before])

    assert (proposal["series"]["T1"], proposal["series"]["T1CE"]) == (before.pk, after.pk)
    assert "please check" in proposal["warnings"][0]


def test_two_unnamed_t1_with_equal_vessels_are_nobodys(study):
    pair = [changed(a_series(study, sequence=None), fingerprint=T1_LIKE) for _ in range(2)]

    assert sequences.proposal_of(pair)["missing"] == ["T1", "T1CE", "T2", "FLAIR"]


def test_a_correction_is_answered_audited_and_announced(study):
    series = changed(a_series(study, sequence="T2"), sequence_reason="doubt", sequence_confidence=0.2)
    browser = browser_of(study.owner)

    answer = browser.patch(f"/api/mri/series/{series.pk}/", {"sequence": "FLAIR"}, content_type="application/json")

    told = {name: answer.json()[name] for name in ("sequence", "sequence_confidence", "sequence_source")}
    assert told == {"sequence": "FLAIR", "sequence_confidence": 1.0, "sequence_source": "person"}
    assert answer.json()["sequence_reason"] == ""
    assert browser.get(f"/api/mri/studies/{study.pk}/").json()["proposal"]["series"]["FLAIR"] == series.pk
    assert [event.kind for event in events_since(f"study:{study.pk}", 0)] == ["series.changed"]
    assert Entry.objects.filter(action="series.sequence").count() == 1


def test_a_person_may_say_that_it_is_none_of_the_four(study):
    series = changed(a_series(study, sequence=None), fingerprint=T1_LIKE)

    sequences.correct(series=series, sequence=None, by=study.owner)

    series.refresh_from_db()
    assert (series.sequence, series.sequence_source) == (None, "person")
    assert sequences.proposal_of([series])["others"] == [series.pk]


@pytest.mark.parametrize("body", [{"sequence": "T3"}, {}, {"sequence": 1}, []])
def test_anything_else_is_refused(study, body):
    series = a_series(study, sequence="T2")

    answer = browser_of(study.owner).patch(f"/api/mri/series/{series.pk}/", body, content_type="application/json")

    assert answer.status_code == 422
    assert Series.objects.get(pk=series.pk).sequence == "T2"


def test_nobody_corrects_what_they_may_not_see(study):
    series = a_series(study, sequence="T2")
    stranger = browser_of(a_user("stranger"))

    answer = stranger.patch(f"/api/mri/series/{series.pk}/", {"sequence": "T1"}, content_type="application/json")

    assert answer.status_code == 404


def test_a_new_revision_keeps_what_a_person_said(study):
    before = a_series(study, sequence="T2")
    sequences.correct(series=before, sequence=Sequence.FLAIR, by=study.owner)
    after = a_series(study, sequence="T2")

    sequences.keep_correction(before, after)

    after.refresh_from_db()
    assert (after.sequence, after.sequence_source, after.sequence_confidence) == ("FLAIR", "person", 1.0)
