"""A published checkpoint is read without its framework; a hostile one is refused before it costs anything."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from inference.models.brats17.checkpoint import MAX_INDEX_BYTES, crc32c, read_checkpoint, read_index
from inference.models.brats17.originals import index_and_values
from inference.models.errors import CheckpointInvalid
from tests.inference.models.checkpoints import bundle_entry, checkpoint, field, table, varint
from tests.real_data import model_dir

TENSORS = {
    "net/block/conv/w": np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4),
    "net/block/conv/w/Adam": np.zeros(3, np.float32),
    "net/power": np.float32(0.5).reshape(()),
}


def written(folder: Path, index: bytes, values: bytes) -> tuple[Path, Path]:
    (folder / "c.index").write_bytes(index)
    (folder / "c.data").write_bytes(values)
    return folder / "c.index", folder / "c.data"


def read(folder: Path, index: bytes, values: bytes) -> dict[str, np.ndarray]:
    return read_checkpoint(*written(folder, index, values), wanted=lambda _: True)


def test_tensors_come_back_as_they_were_written(tmp_path: Path):
    found = read_checkpoint(*written(tmp_path, *checkpoint(TENSORS)), wanted=lambda name: not name.endswith("Adam"))

    assert set(found) == {"net/block/conv/w", "net/power"}
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor, TENSORS[name])


def test_the_checksum_is_the_one_of_the_standard():
    assert crc32c(b"123456789") == 0xE3069283


def one_entry(value: bytes, header: bytes = b"") -> bytes:
    return table({b"": header, b"t": value})


HUGE = 1 << 62


@pytest.mark.parametrize(
    "index",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(checkpoint(TENSORS)[0][:-1], id="cut off"),
        pytest.param(b"\0" * 200, id="no table"),
        pytest.param(b"\0" * (MAX_INDEX_BYTES + 1), id="too large"),
        pytest.param(table({}, compression=1), id="compressed"),
        pytest.param(
            one_entry(bundle_entry((HUGE,), offset=0, size=HUGE * 4, crc=0)), id="a tensor larger than memory"
        ),
        pytest.param(one_entry(bundle_entry((65536,) * 8, offset=0, size=4, crc=0)), id="a product larger than memory"),
        pytest.param(one_entry(bundle_entry((2,), offset=HUGE, size=8, crc=0)), id="beyond the end of the file"),
        pytest.param(one_entry(bundle_entry((3,), offset=0, size=8, crc=0)), id="size and shape disagree"),
        pytest.param(one_entry(bundle_entry((2,), offset=0, size=8, crc=1)), id="wrong checksum"),
        pytest.param(one_entry(bundle_entry((2,), offset=0, size=8, crc=0, dtype=2)), id="another type"),
        pytest.param(one_entry(bundle_entry((1,) * 9, offset=0, size=4, crc=0)), id="nine axes"),
        pytest.param(one_entry(field(7, b"")), id="slices"),
        pytest.param(one_entry(field(2, b"")[:1] + varint(HUGE)), id="a field longer than the message"),
        pytest.param(one_entry(b"\xff" * 11), id="an endless number"),
        pytest.param(one_entry(b"", header=field(1, 2)), id="two data files"),
        pytest.param(one_entry(b"", header=field(2, 1)), id="big endian"),
        pytest.param(table({b"k" * 2000: b""}), id="a long key"),
    ],
)
def test_a_broken_or_hostile_checkpoint_is_refused(tmp_path: Path, index: bytes):
    with pytest.raises(CheckpointInvalid):
        read(tmp_path, index, b"\0" * 64)


def test_a_table_that_points_at_itself_beyond_its_end_is_refused():
    raw = bytearray(checkpoint(TENSORS)[0])
    raw[-48:-8] = (varint(0) * 2 + varint(HUGE) + varint(HUGE)).ljust(40, b"\0")

    with pytest.raises(CheckpointInvalid):
        read_index(bytes(raw))


def test_no_damage_of_an_entry_does_more_than_be_refused():
    """Behind a checksum that fits, so that the damage reaches the parser: any other error would fail the test."""
    entry = bundle_entry((2, 3), offset=0, size=24, crc=0)
    chance = random.Random(7)
    refused = 0

    for _ in range(300):
        raw = bytearray(entry)
        for _ in range(chance.randint(1, 4)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        try:
            read_index(one_entry(bytes(raw)))
        except CheckpointInvalid:
            refused += 1

    assert 50 < refused < 300


def test_a_byte_changed_in_the_values_is_noticed(tmp_path: Path):
    index, values = checkpoint(TENSORS)

    with pytest.raises(CheckpointInvalid, match="checksum"):
        read(tmp_path, index, bytes([values[0] ^ 1]) + values[1:])


def test_missing_files_are_refused(tmp_path: Path):
    with pytest.raises(CheckpointInvalid):
        read_checkpoint(tmp_path / "no.index", tmp_path / "no.data", wanted=lambda _: True)


@pytest.mark.real_data
def test_a_published_index_names_what_the_network_needs():
    index, _ = index_and_values("wt32", model_dir("brats17") / "original")

    found = read_index(index.read_bytes())

    assert found["MSNet_WT32/block1_1/conv_0/w"].shape == (1, 3, 3, 4, 32)
    assert len(found) > 187
