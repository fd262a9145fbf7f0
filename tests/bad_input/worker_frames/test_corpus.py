"""Broken frames: each is answered with its code, nothing of it is stored, and nobody else notices."""

import json

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from server.dispatch.models import Worker, WorkerSession
from server.jobs.models import Job, JobEvent
from tests.bad_input.worker_frames import corpus
from tests.bad_input.worker_frames.corpus import Case
from tests.protocol.samples import BOTH_SAMPLES, WORKER_SAMPLES
from tests.server.dispatch.fakes import Machine, Talk
from tests.server.dispatch.polls import Poll
from tests.server.dispatch.scenes import a_job, reread
from tests.server.dispatch.talks import at_work, in_db, settled, taken
from worker_client.protocol import messages as m
from worker_client.protocol.codec import decode_from_worker, encode
from worker_client.protocol.errors import BadFrame, FrameTooLarge, ProtocolError, UnknownType

SOCKET_CASES = [*corpus.texts(), *corpus.binaries(), *list(corpus.strangers())[:4], *list(corpus.maimed())[::12]]


def stored() -> list[object]:
    """Everything that a worker's frame could have changed, apart from when it was last heard, and its credits."""
    workers = list(Worker.objects.order_by("pk").values("state", "public_key", "labels", "is_drain_wanted"))
    sessions = list(WorkerSession.objects.order_by("pk").values("is_draining", "models_offered", "device"))
    jobs = list(Job.objects.order_by("pk").values("state", "fence", "attempt", "worker_id", "stage", "result_id"))
    return [workers, sessions, jobs, JobEvent.objects.count()]


async def answered(talk: Talk) -> str:
    """The code of what the worker hears next."""
    heard = await talk.hear()
    return str(heard.code) if isinstance(heard, (m.Bye, m.Error)) else type(heard).__name__


READ_CASES = [case for case in corpus.everything() if isinstance(case.frame, str) or "utf-8" in case.name]


@pytest.mark.parametrize("case", READ_CASES, ids=str)
def test_the_codec_reads_no_broken_frame_and_names_what_is_wrong(case: Case) -> None:
    expected = UnknownType if case.answer == corpus.UNKNOWN else (BadFrame, FrameTooLarge)

    with pytest.raises(expected):
        decode_from_worker(case.frame)


@pytest.mark.django_db(transaction=True)
async def test_each_broken_frame_has_its_code_and_leaves_nothing_behind(settings):
    """One worker sends them, each on a connection of its own; another one works on all the while."""
    settings.LIMITS = type(settings.LIMITS)(socket_messages_per_second=1e6, socket_messages_burst=10**6)
    machine, other = Machine(), Machine()
    worker, bystander = await in_db(machine.enrolled)(), await in_db(other.enrolled)(name="lab-2")
    job = await in_db(a_job)()
    working = await at_work(other, bystander)
    offer = await taken(working)
    found, kept = {}, {}

    for case in SOCKET_CASES:
        talk = await at_work(machine, worker)
        before = await in_db(stored)()
        field = "bytes" if isinstance(case.frame, bytes) else "text"
        await talk.socket.send_input({"type": "websocket.receive", field: case.frame})
        found[case.name] = await answered(talk)
        kept[case.name] = await in_db(stored)() == before
        await talk.hang_up()
        await working.say(m.JobProgress(job=offer.job, fence=1, pseq=1, stage="fetch", pct=1.0))
        await settled(working)

    assert found == {case.name: case.answer for case in SOCKET_CASES}
    assert [name for name, is_unchanged in kept.items() if not is_unchanged] == []
    assert (await in_db(reread)(job)).state == "running"
    await working.hang_up()


@pytest.mark.django_db(transaction=True)
async def test_a_broken_frame_has_the_same_code_over_the_fall_back():
    machine = Machine()
    worker = await in_db(machine.enrolled)()
    cases = [*list(corpus.strangers())[:2], *list(corpus.maimed())[::25]]
    found = {}

    for case in cases:
        poll = Poll(machine)
        await poll.sign_in(worker.pk)
        poll._unsaid.append({**json.loads(case.frame), "id": 99})
        found[case.name] = str((await poll.hear()).code)

    assert found == {case.name: case.answer for case in cases}


@pytest.mark.django_db(transaction=True)
async def test_words_that_no_row_can_hold_are_stored_as_far_as_they_can_be(machine, enrolled):
    """PostgreSQL takes no NUL and no text longer than its column; a worker's name for its device may be both."""
    caps = m.Capabilities(device="GPU\x00" * 100, vram_mb=10**30, labels=("a\x00b", "x" * 1000), models=(BIG_MODEL,))
    software = m.Software(version="1\x00", driver="d" * 5000)
    talk = await Talk(machine).open()

    welcome = await talk.sign_in(enrolled.pk, caps=caps, software=software)
    await talk.say(m.Ready(credits=64, free_mb=10**30, cached=("\x00" * 40,)))
    await settled(talk)

    row = await in_db(WorkerSession.objects.get)(worker=enrolled)
    assert isinstance(welcome, m.Welcome)
    assert (len(row.device), "\x00" in row.device, row.vram_mb, row.free_mb) == (128, False, 2**31 - 1, 2**31 - 1)
    assert (row.labels, row.cached) == (["ab", "x" * 64], [""])
    await talk.hang_up()


BIG_MODEL = m.ModelName(name="compact", version="1.0", sha256="a" * 64, memory_mb=10**30)


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def enrolled(transactional_db, machine):
    return machine.enrolled()


@given(st.sampled_from([*WORKER_SAMPLES, *BOTH_SAMPLES]))
def test_what_is_written_is_read_as_it_was(sample):
    assert decode_from_worker(encode(sample)) == sample


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    sample=st.sampled_from([*WORKER_SAMPLES, *BOTH_SAMPLES]),
    changes=st.dictionaries(st.integers(min_value=0, max_value=20), VALUES, max_size=3),
)
def test_a_message_with_odd_fields_is_a_message_or_a_named_error(sample, changes):
    """Whatever a field holds: the codec answers with a message that it can write again, or with its own error."""
    frame = json.loads(encode(sample))
    names = sorted(frame)
    odd = {**frame, **{names[at % len(names)]: value for at, value in changes.items()}}

    try:
        message = decode_from_worker(json.dumps(odd))
    except (BadFrame, UnknownType):
        return
    assert decode_from_worker(encode(message)) == message


@given(st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
@example(b"\xef\xbb\xbf{}")
def test_any_bytes_are_a_message_or_a_named_error(octets):
    try:
        message = decode_from_worker(octets)
    except ProtocolError:
        return
    assert decode_from_worker(encode(message)) == message
