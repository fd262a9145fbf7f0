"""OHIF as a hospital would put it up: its files and the archive behind nginx, with the shipped configuration."""

from __future__ import annotations

import os
import pwd
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.system.orthanc import Orthanc
from tests.system.services import Service
from tests.system.stack import ROOT
from tests.tools import require_ohif, require_tool

SERVER_BLOCK = ROOT / "deploy" / "ohif.nginx.conf"
APP_CONFIG = ROOT / "deploy" / "ohif.app-config.js"
SEGWIRE = "https://segwire.example.org"


class Viewer(Service):
    """nginx with deploy/ohif.nginx.conf; OHIF's app-config.js is deploy/ohif.app-config.js."""

    def __init__(self, folder: Path, *, archive: Orthanc) -> None:
        super().__init__("ohif", folder)
        self.program = require_tool("nginx", package="nginx-light")
        self.archive = archive
        self.url = f"http://127.0.0.1:{self.port}"
        self.files = folder / "dist"

    def configure(self, segwire_url: str) -> None:
        """Lay the files out and write the configuration; the viewer asks Segwire at this address."""
        shutil.copytree(require_ohif(), self.files, copy_function=os.link)
        app_config = self.files / "app-config.js"
        app_config.unlink()  # the cache keeps its own
        app_config.write_text(APP_CONFIG.read_text().replace(SEGWIRE, segwire_url))
        block = SERVER_BLOCK.read_text()
        block = block.replace("server 127.0.0.1:8042;", f"server 127.0.0.1:{self.archive.port};")
        block = block.replace("root /var/lib/ohif/dist;", f"root {self.files};")
        block = re.sub(r"^    listen 80;$", f"    listen 127.0.0.1:{self.port};", block, flags=re.MULTILINE)
        user = f"user {pwd.getpwuid(os.geteuid()).pw_name};" if os.geteuid() == 0 else ""
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "\n".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        (self.folder / "nginx.conf").write_text(
            f"{user}\nworker_processes 1;\npid {self.folder}/nginx.pid;\nerror_log stderr warn;\ndaemon off;\n"
            f"events {{}}\nhttp {{\ninclude /etc/nginx/mime.types;\n{temporary}\naccess_log off;\n{block}\n}}\n"
        )

    def command(self) -> Sequence[str]:
        return (self.program, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), "-e", "stderr")

    def answers(self) -> bool:
        return httpx.get(self.url, timeout=5).status_code == 200
