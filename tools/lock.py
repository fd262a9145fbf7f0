"""`make lock`: write requirements.lock, every package with its hashes, torch and its CUDA parts excepted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OF_TORCH = re.compile(r"^(torch|triton|nvidia-(?!ml-py)[a-z0-9-]+|cuda-[a-z0-9-]+)==", re.MULTILINE)


def compiled(*extra: str) -> str:
    """What uv resolves."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    form = ["--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
    done = subprocess.run(
        [*command, *form, *extra, "requirements-dev.txt"], cwd=ROOT, text=True, capture_output=True, check=True
    )
    return done.stdout


def main() -> None:
    """Resolve twice: once to learn what belongs to torch, once without it."""
    left_out = OF_TORCH.findall(compiled())
    flags = [part for name in left_out for part in ("--no-emit-package", name)]
    (ROOT / "requirements.lock").write_text(compiled(*flags))


if __name__ == "__main__":
    main()
