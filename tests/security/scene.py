"""One of everything with a right to it, and everybody who may try: real rows, real tokens, real signatures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from http.cookies import SimpleCookie
from typing import Any

from django.contrib.auth.models import Group, User
from django.core import signing
from django.core.cache import cache
from django.db import transaction
from django.test import Client
from django.utils import timezone

from server.accounts.models import ApiToken
from server.accounts.services import issue_api_token
from server.core.events import Faltered, Finished
from server.core.reconcile import Hold
from server.dispatch import keys
from server.dispatch.models import Worker
from server.imaging import storage, tus
from server.imaging.models import Mask, Series, Study, Upload, UploadBatch
from server.jobs import services
from server.jobs.models import Job
from server.jobs.requests import Wish, request_segmentation
from server.pacs.models import Pull, Server
from tests.server.dispatch.scenes import a_worker, running
from tests.server.shelf import a_study, a_user, four_series

FOREIGN = "https://elsewhere.example"
NOBODY = "http://127.0.0.1:9/dicom-web"
"""Where no archive answers."""
CONTENT = b"0123456789" * 10
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = b'{"the bytes": "of a file"}'


@dataclass(frozen=True)
class Visitor:
    """Somebody who tries: with a session's cookie or a bearer token. Only our `is_own_page` knows the CSRF token."""

    name: str
    user: User | None = None
    bearer: str = ""
    cookies: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    is_own_page: bool = True

    def ask(self, method: str, path: str, **request: Any) -> Any:
        """The answer, with everything that the request did taken back."""
        cache.clear()
        client = Client(enforce_csrf_checks=not self.is_own_page)
        client.cookies = SimpleCookie(self.cookies)
        headers = {**request.pop("headers", {}), **self.headers}
        if self.bearer:
            headers["Authorization"] = f"Bearer {self.bearer}"
        with transaction.atomic():
            answer = client.generic(method, path, headers=headers, **request)
            transaction.set_rollback(True)
        return answer


@dataclass(frozen=True)
class Scene:
    """What there is, and who is there."""

    study: Study
    series: Series
    done: Job
    held: Job
    upload: Upload
    batch: UploadBatch
    mask_upload: Upload
    hold: Hold
    pull: Pull
    visitors: dict[str, Visitor]

    @property
    def names(self) -> dict[str, str]:
        """What stands in a path, by its name there."""
        return {
            "study_id": self.study.pk,
            "series_id": self.series.pk,
            "job_id": self.done.pk,
            "batch": self.batch.uuid,
            "upload_id": self.upload.pk,
            "artifact_id": self.series.artifact_id,
            "pull_id": self.pull.pk,
            "name": self.pull.server.name,
            "uid": self.pull.study_uid,
            "number": "1",
        }


def a_scene() -> Scene:
    """Owner's study, shared with a group; one finished job, and one that a worker runs in its second attempt."""
    owner, member, other = a_user("owner"), a_user("member"), a_user("other")
    staff = a_user("chief", is_staff=True)
    study = a_study(owner)
    group = Group.objects.create(name="ward")
    study.groups.add(group)
    member.groups.add(group)
    other.groups.add(Group.objects.create(name="another ward"))
    four = four_series(study)
    sha256 = _on_disk(f"{four[1].folder}/volume.nii.gz")
    Series.objects.filter(study=study).update(volume_sha256=sha256, volume_size=len(FILE))
    worker = a_worker("lab-1", credits=0)
    done = _finished(a_job_of(owner, four), worker)
    held = a_job_of(owner, four, use_local=True)
    old = running(held, worker)
    services.record(held.pk, Faltered(at=timezone.now(), fence=old.fence, worker_id=worker.pk, code="oom"))
    hold = running(held, worker)
    elsewhere = _elsewhere()
    return Scene(
        study=study,
        series=four[1],
        done=done,
        held=Job.objects.get(pk=held.pk),
        upload=tus.create(length=10, max_bytes=100, owner=owner, metadata={"filename": "a.nii"}),
        batch=UploadBatch.objects.create(owner=owner, uuid="b-1", count=2),
        mask_upload=tus.create(length=len(CONTENT), max_bytes=1000, job_id=held.pk, fence=hold.fence, sha256=SHA256),
        hold=hold,
        pull=Pull.objects.create(
            server=Server.objects.create(name="attic", url=NOBODY), owner=owner, study_uid="1.2.9"
        ),
        visitors={
            one.name: one
            for one in (
                *_people(owner=owner, member=member, other=other, staff=staff),
                *_programs(owner),
                *_workers(hold, worker, old=old, elsewhere=elsewhere),
            )
        },
    )


def a_job_of(user: User, four: list[Series], **wish: Any) -> Job:
    """A queued job."""
    asked = Wish(series_ref=four[1].pk, sequence_refs=tuple(one.pk for one in four), **{"use_local": True, **wish})
    return Job.objects.get(pk=request_segmentation(user=user, wish=asked)["id"])


def claim_of(hold: Hold, worker: Worker, **changes: Any) -> keys.DataClaim:
    """What the server would sign for this attempt."""
    series = Series.objects.filter(pk__in=Job.objects.get(pk=hold.job_id).sequence_series_ids)
    artifacts = tuple(series.values_list("artifact_id", flat=True))
    return keys.DataClaim(job=hold.job_id, fence=hold.fence, worker=worker.pk, artifacts=artifacts, **changes)


def data_token(hold: Hold, worker: Worker, **changes: Any) -> str:
    """What opens one attempt's bytes."""
    return keys.data_token(claim_of(hold, worker, **changes))


def _people(*, owner: User, member: User, other: User, staff: User) -> list[Visitor]:
    page = _at_the_page("owner", owner)
    foreign = {"Origin": FOREIGN, "Sec-Fetch-Site": "cross-site"}
    return [
        Visitor("anonymous"),
        page,
        _at_the_page("member", member),
        _at_the_page("other", other),
        _at_the_page("staff", staff),
        replace(page, name="owner without CSRF", is_own_page=False),
        replace(page, name="owner on a foreign page", headers=foreign, is_own_page=False),
    ]


def _at_the_page(name: str, user: User) -> Visitor:
    browser = Client()
    browser.force_login(user)
    return Visitor(name, user=user, cookies={key: morsel.value for key, morsel in browser.cookies.items()})


def _programs(owner: User) -> list[Visitor]:
    revoked, expired = issue_api_token(user=owner), issue_api_token(user=owner)
    ApiToken.objects.filter(prefix=revoked[:11]).update(revoked_at=timezone.now())
    ApiToken.objects.filter(prefix=expired[:11]).update(expires_at=timezone.now())
    left = User.objects.create_user("left", is_active=False)
    return [
        Visitor("owner's program", bearer=issue_api_token(user=owner)),
        Visitor("revoked API token", bearer=revoked),
        Visitor("expired API token", bearer=expired),
        Visitor("API token of one who left", bearer=issue_api_token(user=left)),
        Visitor("made-up API token", bearer="sega_made-up"),
    ]


def _workers(hold: Hold, worker: Worker, *, old: Hold, elsewhere: tuple[Hold, Worker]) -> list[Visitor]:
    stolen = a_worker("lab-3", credits=0)
    Worker.objects.filter(pk=stolen.pk).update(state=Worker.State.REVOKED)
    good = data_token(hold, worker)
    return [
        Visitor("worker", bearer=good),
        Visitor("worker that may only fetch", bearer=data_token(hold, worker, ops=(keys.FETCH,))),
        Visitor("worker with the last attempt's token", bearer=data_token(old, worker)),
        Visitor("other worker", bearer=data_token(*elsewhere)),
        Visitor("other worker for this job", bearer=data_token(hold, elsewhere[1])),
        Visitor("revoked worker", bearer=data_token(hold, stolen)),
        Visitor("expired data token", bearer=_aged(hold, worker)),
        Visitor("forged data token", bearer=good[:-1] + ("A" if good[-1] != "A" else "B")),
        Visitor("data token of another key", bearer=_signed(hold, worker, key="x" * 50)),
    ]


def _elsewhere() -> tuple[Hold, Worker]:
    stranger, worker = a_user("stranger"), a_worker("lab-2", credits=0)
    return running(a_job_of(stranger, four_series(a_study(stranger, uid="9.8.7"))), worker), worker


def _finished(job: Job, worker: Worker) -> Job:
    hold = running(job, worker)
    beside = {"report.dcm": "sr", "key-1.dcm": "key", "summary.dcm": "pdf"}
    names = ("mask.nii.gz", "mask.dcm", "report.json", "summary.pdf", *beside)
    paths = {name: f"masks/{job.pk}/{name}" for name in names}
    digests = {name: _on_disk(path) for name, path in paths.items()}

    def store() -> None:
        Mask.objects.create(
            job_id=job.pk,
            series_id=job.series_id,
            nii_path=paths["mask.nii.gz"],
            seg_path=paths["mask.dcm"],
            report_path=paths["report.json"],
            sha256=digests["mask.nii.gz"],
            seg_sha256=digests["mask.dcm"],
            report_sha256=digests["report.json"],
            pdf_sha256=digests["summary.pdf"],
            dicom_objects=[{"kind": kind, "name": name, "sha256": digests[name]} for name, kind in beside.items()],
            size=len(FILE),
            volumes_ml={"WT": 3.0, "TC": 2.0, "ET": 1.0},
        )

    done = Finished(at=timezone.now(), worker_id=worker.pk, fence=hold.fence, result_id="r1")
    services.record(job.pk, done, together_with=store)
    return Job.objects.get(pk=job.pk)


def _on_disk(name: str) -> str:
    file = storage.path_of(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(FILE)
    return hashlib.sha256(FILE).hexdigest()


def _aged(hold: Hold, worker: Worker) -> str:
    """A token that was made an hour ago, with the right key."""
    return _with_clock(timezone.now() - timedelta(hours=1), lambda: data_token(hold, worker))


def _with_clock(at: Any, make: Callable[[], str]) -> str:
    real = signing.time.time
    signing.time.time = at.timestamp
    try:
        return make()
    finally:
        signing.time.time = real


def _signed(hold: Hold, worker: Worker, *, key: str) -> str:
    return signing.dumps(asdict(claim_of(hold, worker)), salt=keys.SALT, key=key)
