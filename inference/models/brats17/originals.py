"""The published files: their names, sizes and digests. Nothing else is ever taken for one of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from inference.errors import WeightsMismatch
from inference.models.errors import CheckpointInvalid

PUBLISHED_AT = "https://raw.githubusercontent.com/taigw/brats17/d44297e37f4cccaf691217554980b65c2bc87990/model17"


@dataclass(frozen=True)
class Original:
    """One published file: `size` in bytes, `sha256` in hex."""

    name: str
    size: int
    sha256: str

    def check(self, path: Path) -> None:
        """Raises CheckpointInvalid when there is no such file, WeightsMismatch when it is another one."""
        try:
            raw = path.read_bytes() if path.stat().st_size == self.size else None
        except OSError as error:
            raise CheckpointInvalid(f"{self.name} is not there") from error
        if raw is None:
            raise CheckpointInvalid(f"{self.name} does not have {self.size} bytes")
        found = hashlib.sha256(raw).hexdigest()
        if found != self.sha256:
            raise WeightsMismatch(self.name, expected=self.sha256, found=found)


def index_and_values(network: str, folder: Path) -> tuple[Path, Path]:
    """The two files of a network such as `tc32sg`."""
    return folder / f"msnet_{network}_20000.ckpt.index", folder / f"msnet_{network}_20000.ckpt.data-00000-of-00001"


ORIGINALS = (
    Original("msnet_wt32_20000.ckpt.index", 21134, "4574252fe1a4d2ccea55842734b814c4a05f99955742aa527f7a21bf924dd528"),
    Original(
        "msnet_wt32_20000.ckpt.data-00000-of-00001",
        2587176,
        "393da1a13ad95ccd87a6f26045285d94554b74d2c7f0d2c2c7561b3da024b55e",
    ),
    Original(
        "msnet_wt32sg_20000.ckpt.index", 21280, "f763aa1eafc8d666e7c8ac6d75a252b8474fa78d60140fef793a81ecaf829bd7"
    ),
    Original(
        "msnet_wt32sg_20000.ckpt.data-00000-of-00001",
        2587176,
        "4eaff6d554d5bd6f01c63f0b2030c79c0963570412176c8a9bc76c81a6eb6c5c",
    ),
    Original(
        "msnet_wt32cr_20000.ckpt.index", 21280, "d79007173a669a9c360c23c66586bf0a1bc69f0573c18274ded70fb2417db2ff"
    ),
    Original(
        "msnet_wt32cr_20000.ckpt.data-00000-of-00001",
        2587176,
        "a748e1127ec7447d6c0b3d0b468d38d854aedf09bed2dddeda58969c448b150a",
    ),
    Original("msnet_tc32_20000.ckpt.index", 21134, "a1cb2d8df92084421f5e7a3c255bd84cb00e09f1231716ec08009adb773eebea"),
    Original(
        "msnet_tc32_20000.ckpt.data-00000-of-00001",
        2587176,
        "0a2763fcaef73cb394bc20aa0d8ff8554114ee2e0a3f420ea3ec558db0dce673",
    ),
    Original(
        "msnet_tc32sg_20000.ckpt.index", 21280, "6d3e82f1178e99de08e3efa9d05294939adf84f7638119a600ab253ba9d6dab1"
    ),
    Original(
        "msnet_tc32sg_20000.ckpt.data-00000-of-00001",
        2587176,
        "8ab3ea118d70f5bf118760e049f99c88b0395b5186e0dcbd7d37c89f6ff05291",
    ),
    Original(
        "msnet_tc32cr_20000.ckpt.index", 21280, "7da432ab8fd3e7997de59037c4d2ed9855a1490b7f1dbf07dd967536bb645fa5"
    ),
    Original(
        "msnet_tc32cr_20000.ckpt.data-00000-of-00001",
        2587176,
        "8a59c62db9f195a6a46730f1a6a04a5c286909d14774b843565c9cfc051b41af",
    ),
    Original("msnet_en32_20000.ckpt.index", 18475, "a33b35d20dc23e2f6f8d13f8201a9df6f8eda94476cfa6fd25c9825da563b9d0"),
    Original(
        "msnet_en32_20000.ckpt.data-00000-of-00001",
        2465520,
        "d866879ddd0550bc645f8bedb927e2da56731501c05e9aa0e1c44eb94b6dff05",
    ),
    Original(
        "msnet_en32sg_20000.ckpt.index", 18603, "91e8cfafaa6c528a76e705d945b1b49de608d7def5d66a3794b8cd0b4ec92205"
    ),
    Original(
        "msnet_en32sg_20000.ckpt.data-00000-of-00001",
        2465520,
        "5d9954f4ec8005fab91b22db501a83c5e0fd534f528dc16c535de3c3479ecba6",
    ),
    Original(
        "msnet_en32cr_20000.ckpt.index", 18603, "1aa274598fb3739ecc14c3267a42c69de711025351236dbf71515cc956fb1037"
    ),
    Original(
        "msnet_en32cr_20000.ckpt.data-00000-of-00001",
        2465520,
        "ccb54c2a7ed6d753c58b3d5e88539592b214376189d4718bf7f850dfaac385f3",
    ),
)
