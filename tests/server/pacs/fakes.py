"""An archive in memory that does what it is told, and fails as it is told; and results that are to be sent there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.utils import timezone

from server.core.events import Finished
from server.imaging import storage
from server.imaging.models import Mask
from server.jobs import services as jobs
from server.jobs.models import Job
from server.jobs.requests import Wish, request_segmentation
from server.pacs.archives import Allowance, Parcel
from server.pacs.criteria import Criteria
from server.pacs.errors import NotInArchive
from server.pacs.findings import FoundSeries, FoundStudy
from server.pacs.models import Server
from tests.server.dispatch.scenes import a_worker, running
from tests.server.shelf import a_study, four_series


@dataclass
class FakeArchive:
    """`server.pacs.archives.Archive`; `files` are its series by (study, series), `failures` come first, one a call."""

    studies: dict[str, FoundStudy] = field(default_factory=dict)
    series: dict[str, list[FoundSeries]] = field(default_factory=dict)
    files: dict[str, list[Path]] = field(default_factory=dict)
    failures: list[Exception] = field(default_factory=list)
    stored: list[bytes] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    changes: tuple[list[str], int] = ((), 0)  # type: ignore[assignment]
    on_store: Callable[[], None] = lambda: None

    def opener(self, server: Server, **_: Any) -> FakeArchive:
        """In the place of `archives.open_archive`."""
        return self

    def __enter__(self) -> FakeArchive:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def test(self) -> str:
        self._fail()
        return "It answers."

    def search(self, criteria: Criteria, *, limit: int) -> list[FoundStudy]:
        criteria.filters()
        self._fail()
        return list(self.studies.values())[:limit]

    def new_studies(self, *, since: str, limit: int) -> list[FoundStudy]:
        self._fail()
        return list(self.studies.values())[:limit]

    def changed_studies(self, *, after: int) -> tuple[list[str], int]:
        return self.changes

    def study(self, study_uid: str) -> FoundStudy | None:
        return self.studies.get(study_uid)

    def series_of(self, study_uid: str) -> list[FoundSeries]:
        self._fail()
        if study_uid not in self.series:
            raise NotInArchive
        return self.series[study_uid]

    def fetch(self, study_uid: str, series_uid: str, *, into: Path, allowance: Allowance) -> int:
        self._fail()
        self.fetched.append(series_uid)
        files = self.files[series_uid]
        for number, file in enumerate(files):
            (into / f"{number}.dcm").write_bytes(file.read_bytes())
        return len(files)

    def store(self, parcel: Parcel) -> None:
        self.on_store()
        self._fail()
        self.stored.append(parcel.content)

    def hold(self, uid: str, files: list[Path], *, description: str = "BRAIN") -> None:
        """Have a study made by `patients.dicom_patient`, its files named by their sequence."""
        by_sequence: dict[str, list[Path]] = {}
        for file in files:
            by_sequence.setdefault(file.name.partition("-")[0], []).append(file)
        self.series[uid] = []
        for number, (sequence, members) in enumerate(by_sequence.items(), start=1):
            series_uid = f"{uid}.{number}"
            found = FoundSeries(series_uid, modality="MR", description=sequence, image_count=len(members))
            self.series[uid].append(found)
            self.files[series_uid] = members
        self.studies[uid] = FoundStudy(uid, description=description, modalities=("MR",), image_count=len(files))

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


def an_archive(name: str = "attic", **columns: Any) -> Server:
    """A row that sends results."""
    return Server.objects.create(name=name, url="http://127.0.0.1:9/dicom-web", **{"sends_results": True, **columns})


def a_result(owner: Any, *, uid: str = "1.2.3", names: tuple[str, ...] = ("mask.dcm", "report.dcm")) -> Job:
    """A job that has succeeded, with these DICOM objects on the shelf."""
    four = four_series(a_study(owner, uid=uid))
    wish = Wish(series_ref=four[1].pk, sequence_refs=tuple(one.pk for one in four), use_local=True)
    job = Job.objects.get(pk=request_segmentation(user=owner, wish=wish)["id"])
    hold = running(job, a_worker(f"lab {uid}", credits=0))
    folder = f"masks/{job.pk}-x"
    storage.path_of(folder).mkdir(parents=True)
    objects = []
    for name, kind in zip(names, ("seg", "sr", "key", "pdf"), strict=False):
        content = f"{name} of {job.pk}".encode()
        storage.path_of(f"{folder}/{name}").write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        objects.append({"kind": kind, "name": name, "sha256": sha256, "sop_instance_uid": f"{uid}.{name}"})

    def store() -> None:
        Mask.objects.create(
            job_id=job.pk,
            series=four[1],
            nii_path=f"{folder}/mask.nii.gz",
            seg_path=f"{folder}/mask.dcm" if names else None,
            report_path=f"{folder}/report.json",
            sha256="0" * 64,
            size=1,
            volumes_ml={},
            dicom_objects=objects,
        )

    finished = Finished(
        at=timezone.now(), fence=hold.fence, worker_id=Job.objects.get(pk=job.pk).worker_id, result_id="r"
    )
    jobs.record(job.pk, finished, together_with=store)
    return Job.objects.get(pk=job.pk)
