"""A real Orthanc with DICOMweb on 127.0.0.1, on free ports and in a folder of its own: to be stopped and started."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.services import Service, kept_running
from tests.system.stack import free_port
from tests.tools import require_tool

PLUGINS = (Path("/usr/share/orthanc/plugins"), Path("/usr/lib/orthanc/plugins"))
DICOMWEB = "libOrthancDicomWeb.so"


class Orthanc(Service):
    """An archive that keeps what it was given while it is stopped."""

    def __init__(
        self, folder: Path, *, has_dicom: bool = False, modalities: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        super().__init__("orthanc", folder)
        self.program = require_tool("Orthanc", package="orthanc")
        self.aet = "ORTHANC"
        self.dicom_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.dicomweb_url = f"{self.url}/dicom-web"
        self._settings = {
            "Name": "Archive of the tests",
            "StorageDirectory": str(folder / "stored"),
            "IndexDirectory": str(folder / "stored"),
            "Plugins": [str(require_dicomweb())],
            "HttpPort": self.port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomServerEnabled": has_dicom,
            "DicomPort": self.dicom_port,
            "DicomAet": self.aet,
            "DicomAlwaysAllowStore": True,
            "DicomModalities": dict(modalities or {}),
            "StableAge": 1,
            "LimitFindResults": 0,
            "ConcurrentJobs": 2,
            "SaveJobs": False,
            "StorageAccessOnFind": "Never",
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False, "StudiesMetadata": "Full"},
            **options,
        }

    def configure(self) -> None:
        """Write its settings."""
        (self.folder / "orthanc.json").write_text(json.dumps(self._settings))

    def command(self) -> Sequence[str]:
        return (self.program, str(self.folder / "orthanc.json"))

    def answers(self) -> bool:
        return httpx.get(f"{self.url}/system", timeout=5).status_code == 200

    def put(self, files: Iterable[Path]) -> None:
        """Store DICOM files."""
        with httpx.Client(base_url=self.url, timeout=60) as client:
            for file in files:
                client.post("/instances", content=file.read_bytes()).raise_for_status()

    def ask(self, path: str) -> Any:
        """The JSON at a path of its own interface, for instance `/statistics`."""
        return httpx.get(f"{self.url}{path}", timeout=30).raise_for_status().json()

    def tell(self, path: str, body: Any) -> Any:
        """The answer to JSON posted to a path of its own interface, for instance `/modalities/NAME/store`."""
        return httpx.post(f"{self.url}{path}", json=body, timeout=60).raise_for_status().json()

    def sop_instances(self, *, modality: str = "", study: str = "") -> list[str]:
        """SOPInstanceUIDs of what is stored, of one modality and one StudyInstanceUID if named."""
        query = {"Modality": modality, "StudyInstanceUID": study}
        asked = {"Level": "Instance", "Expand": True, "Query": {name: value for name, value in query.items() if value}}
        return sorted(found["MainDicomTags"]["SOPInstanceUID"] for found in self.tell("/tools/find", asked))

    def file_of(self, sop_instance_uid: str) -> bytes:
        """A stored object as the DICOM file it is."""
        found = self.path_of(sop_instance_uid)
        return httpx.get(f"{self.url}{found}/file", timeout=60).raise_for_status().content

    def forget(self, uid: str) -> None:
        """Delete a study, series or object."""
        httpx.delete(f"{self.url}{self.path_of(uid)}", timeout=60).raise_for_status()

    def path_of(self, uid: str) -> str:
        """Where its own interface has a study, series or object: `/instances/<its own id>`."""
        answer = httpx.post(f"{self.url}/tools/lookup", content=uid, timeout=30).raise_for_status().json()
        return str(answer[0]["Path"])


@contextmanager
def orthanc(
    folder: Path, *, has_dicom: bool = False, modalities: Mapping[str, Any] | None = None, **options: Any
) -> Iterator[Orthanc]:
    """An Orthanc that answers; `.stop()` and `.start()` let it be away in the middle.

    `has_dicom`: whether it listens for C-STORE on `dicom_port` too. `modalities` are those it sends to, as in its
    settings: `{"segwire": ["AET", "127.0.0.1", port]}`. Other `options` go into its settings as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    service = Orthanc(folder, has_dicom=has_dicom, modalities=modalities, **options)
    service.configure()
    with kept_running(service) as archive:
        yield archive


def require_dicomweb() -> Path:
    """Where the DICOMweb plugin is. With REQUIRE_TOOLS=1 a missing one is a failure, elsewhere the test skips."""
    found = next((folder / DICOMWEB for folder in PLUGINS if (folder / DICOMWEB).exists()), None)
    if found is not None:
        return found
    reason = f"{DICOMWEB} is not installed; on Debian: apt-get install orthanc-dicomweb"
    if os.environ.get("REQUIRE_TOOLS"):
        pytest.fail(reason)
    pytest.skip(reason)
