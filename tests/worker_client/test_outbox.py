"""Answers on disk: there entirely or not at all, whatever moment a crash chooses."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import pytest

from tests.worker_client.builders import KEY, a_failure, a_result
from worker_client import disk, outbox
from worker_client.answers import Key
from worker_client.outbox import Outbox

MASK = b"nine byte"
RESULT = a_result(sha256=hashlib.sha256(MASK).hexdigest())


class PowerCut(BaseException):
    """Everything after this moment did not happen. No `except Exception` may tidy up after it."""


@pytest.fixture
def box(tmp_path: Path) -> Outbox:
    opened = Outbox(tmp_path / "outbox")
    opened.open()
    return opened


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    path = tmp_path / "mask.packed"
    path.write_bytes(MASK)
    return path


def reopened(tmp_path: Path) -> tuple[object, ...]:
    return Outbox(tmp_path / "outbox").open()


def test_a_result_is_there_with_its_mask_after_a_restart(tmp_path, box, mask):
    box.store(RESULT, mask=mask)

    assert reopened(tmp_path) == (RESULT,)
    assert box.mask_path(KEY).read_bytes() == MASK
    assert not mask.exists()


def test_a_failure_needs_no_mask(tmp_path, box):
    box.store(a_failure())

    assert reopened(tmp_path) == (a_failure(),)


def test_a_removed_answer_is_gone_with_its_mask(tmp_path, box, mask):
    box.store(RESULT, mask=mask)

    box.remove(KEY)

    assert reopened(tmp_path) == ()
    assert list((tmp_path / "outbox").iterdir()) == []


def test_removing_what_is_gone_is_no_error(box):
    box.remove(Key("01NEVER", 1))


def test_attempts_at_one_job_lie_side_by_side(tmp_path, box):
    box.store(a_failure(Key("01JOB", 1)))
    box.store(a_failure(Key("01JOB", 2)))

    assert reopened(tmp_path) == (a_failure(Key("01JOB", 1)), a_failure(Key("01JOB", 2)))


def test_a_new_answer_takes_the_place_of_an_old_one(tmp_path, box, mask):
    box.store(RESULT, mask=mask)

    box.store(a_failure())

    assert reopened(tmp_path) == (a_failure(),)


def test_where_an_upload_was_begun_survives_a_restart(tmp_path, box, mask):
    box.store(RESULT, mask=mask)

    box.note_upload(KEY, "/api/worker/uploads/up-1")

    assert Outbox(tmp_path / "outbox").upload_of(KEY) == "/api/worker/uploads/up-1"


def test_an_upload_that_is_gone_is_forgotten(box, mask):
    box.store(RESULT, mask=mask)
    box.note_upload(KEY, "/api/worker/uploads/up-1")

    box.note_upload(KEY, None)

    assert box.upload_of(KEY) is None


def test_an_upload_noted_for_an_answer_that_is_gone_makes_no_folder(tmp_path, box):
    box.note_upload(KEY, "/api/worker/uploads/up-1")

    assert reopened(tmp_path) == ()


@pytest.mark.parametrize("job", ["../escape", "a/b", "", "a" * 65, ".new-x", "a.b"])
def test_a_job_that_is_no_plain_word_names_no_folder(box, job):
    with pytest.raises(ValueError, match="no outbox entry"):
        box.store(a_failure(Key(job, 1)))


def _steps(monkeypatch: pytest.MonkeyPatch, *, cut_at: int) -> list[str]:
    """Let the power fail at the n-th word to the disk: flushes, renames and removals all count."""
    seen: list[str] = []

    def watched(name, real):
        def call(*arguments, **options):
            seen.append(name)
            if len(seen) == cut_at:
                raise PowerCut
            return real(*arguments, **options)

        return call

    monkeypatch.setattr(disk.os, "fsync", watched("fsync", os.fsync))
    monkeypatch.setattr(Path, "replace", watched("replace", Path.replace))
    monkeypatch.setattr(outbox.shutil, "rmtree", watched("rmtree", outbox.shutil.rmtree))
    return seen


@pytest.mark.parametrize("cut_at", range(1, 14))
def test_a_power_cut_while_storing_leaves_all_of_the_answer_or_nothing(tmp_path, box, mask, monkeypatch, cut_at):
    with monkeypatch.context() as patched:
        steps = _steps(patched, cut_at=cut_at)
        try:
            box.store(RESULT, mask=mask)
            was_stored = True
        except PowerCut:
            was_stored = False

    found = reopened(tmp_path)

    assert found in ((), (RESULT,))
    assert not was_stored or found == (RESULT,)
    assert not found or box.mask_path(KEY).read_bytes() == MASK
    assert was_stored == (len(steps) < cut_at)


@pytest.mark.parametrize("cut_at", range(1, 6))
def test_a_power_cut_while_removing_leaves_all_of_the_answer_or_nothing(tmp_path, box, mask, monkeypatch, cut_at):
    box.store(RESULT, mask=mask)
    with monkeypatch.context() as patched:
        _steps(patched, cut_at=cut_at)
        with contextlib.suppress(PowerCut):
            box.remove(KEY)

    found = reopened(tmp_path)

    assert found in ((), (RESULT,))
    assert not found or box.mask_path(KEY).read_bytes() == MASK


def test_the_bytes_are_flushed_before_the_entry_has_its_name(tmp_path, box, mask, monkeypatch):
    with monkeypatch.context() as patched:
        steps = _steps(patched, cut_at=-1)
        box.store(RESULT, mask=mask)

    assert steps[-2:] == ["replace", "fsync"]
    assert steps[:-2].count("fsync") >= 4


def test_a_full_disk_leaves_no_half_entry(tmp_path, box, mask, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(disk.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            box.store(RESULT, mask=mask)

    assert list((tmp_path / "outbox").iterdir()) == []
    assert reopened(tmp_path) == ()


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / "answer.json").write_bytes(b"{"),
        lambda entry: (entry / "answer.json").unlink(),
        lambda entry: (entry / "mask.packed").unlink(),
        lambda entry: (entry / "mask.packed").write_bytes(b"short"),
        lambda entry: (entry / "mask.packed").write_bytes(b"nine bytE"),
        lambda entry: (entry / "answer.json").write_bytes(bytes(200)),
        lambda entry: entry.rename(entry.with_name("01OTHER.1")),
    ],
)
def test_a_damaged_entry_is_set_aside_and_not_announced(tmp_path, box, mask, caplog, damage):
    box.store(RESULT, mask=mask)
    damage(tmp_path / "outbox" / "01JOB.1")

    assert reopened(tmp_path) == ()
    assert [path.name.startswith("damaged.") for path in (tmp_path / "outbox").iterdir()] == [True]
    assert "set aside" in caplog.text
    assert (box.damaged(), box.waiting()) == (1, 0)


def test_what_was_set_aside_once_is_left_alone(tmp_path, box, mask):
    """Its name looked like an entry's, and every start set it aside anew under a longer one."""
    box.store(RESULT, mask=mask)
    (tmp_path / "outbox" / "01JOB.1" / "answer.json").unlink()
    reopened(tmp_path)

    reopened(tmp_path)

    assert [path.name for path in (tmp_path / "outbox").iterdir()] == ["damaged.01JOB.1"]
