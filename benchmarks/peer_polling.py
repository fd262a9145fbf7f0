"""The old way: ask for open requests, sleep, ask again."""

from __future__ import annotations

import os
import time

import httpx

from benchmarks import peer_bell


def main() -> None:
    """Poll until ended."""
    seen: set[str] = set()
    headers = {"Authorization": f"Bearer {os.environ['PEER_TOKEN']}"}
    with httpx.Client(base_url=os.environ["PEER_URL"], headers=headers, timeout=30) as client:
        while True:
            answer = client.get("/api/mri/segmentation/pending-requests/").raise_for_status()
            new = {one["request_id"] for one in answer.json()["requests"]} - seen
            for _ in new:
                peer_bell.ring()
            seen |= new
            time.sleep(float(os.environ["PEER_PAUSE"]))


if __name__ == "__main__":
    main()
