"""Every changed bit of a checkpoint is noticed; what states more than it has is refused."""

import pickle
import random
import re
import zipfile

import pytest
import torch

from mmdet.checkpoint.files import load, save
from mmdet.checkpoint.foreign import read_foreign
from mmdet.checkpoint.integrity import COMMENT_BYTES, MARK
from mmdet.errors import CheckpointError

CONTENT = {"meta": {"epoch": 3}, "state_dict": {"w": torch.arange(3000.0), "b": torch.ones(7)}}


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_every_flipped_bit_is_named(tmp_path):
    save(tmp_path / "a.pth", CONTENT)
    whole = (tmp_path / "a.pth").read_bytes()
    num, choose = 8 * len(whole), random.Random(0)
    end = 8 * (len(whole) - COMMENT_BYTES - 22)
    bits = [choose.randrange(num) for _ in range(200)] + list(range(64)) + list(range(end, num, 3))
    for bit in bits:
        (tmp_path / "a.pth").write_bytes(whole)
        flip(tmp_path / "a.pth", bit)
        with pytest.raises(CheckpointError, match="a.pth is damaged") as error:
            load(tmp_path / "a.pth")
        assert "\n" not in str(error.value), bit


def test_a_file_that_was_cut_off_or_lengthened_is_named(tmp_path):
    save(tmp_path / "a.pth", CONTENT)
    whole = (tmp_path / "a.pth").read_bytes()
    for data in (whole[:-1], whole[:-70], whole[: -COMMENT_BYTES - 1], whole[: len(whole) // 2], whole[1:]):
        (tmp_path / "a.pth").write_bytes(data)
        with pytest.raises(CheckpointError, match="a.pth is damaged"):
            load(tmp_path / "a.pth")


def test_a_checkpoint_of_torch_alone_is_checked_by_its_checksums(tmp_path):
    torch.save(CONTENT, tmp_path / "t.pth")
    assert torch.equal(load(tmp_path / "t.pth")["state_dict"]["w"], CONTENT["state_dict"]["w"])
    data = (tmp_path / "t.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "t.pth") as archive:
        (entry,) = [e for e in archive.infolist() if e.filename.endswith("data/0")]
    assert not data.endswith(b"0" * 64) and MARK not in data
    flip(tmp_path / "t.pth", 8 * (entry.header_offset + 4000))
    with pytest.raises(
        CheckpointError, match=r"t.pth is damaged: the checksum of its entry \S+data/0 is wrong"
    ):
        load(tmp_path / "t.pth")


def test_our_files_are_zip_files_that_torch_and_others_read(tmp_path):
    save(tmp_path / "a.pth", CONTENT)
    assert torch.load(tmp_path / "a.pth", weights_only=True)["meta"] == {"epoch": 3}
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        assert archive.testzip() is None and re.fullmatch(
            rb"scrfd-trainer sha256 [0-9a-f]{64}", archive.comment
        )


def test_a_packed_file_is_refused_before_it_is_unpacked(tmp_path):
    torch.save({"state_dict": {"w": torch.zeros(1_000_000)}}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as source:
        with zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as target:
            for name in source.namelist():
                target.writestr(name, source.read(name))
    with pytest.raises(CheckpointError, match="b.pth is refused: it is packed"):
        read_foreign(tmp_path / "b.pth")


def test_entries_of_the_same_name_are_refused(tmp_path):
    torch.save(CONTENT, tmp_path / "a.pth")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "a.pth", "a") as archive:
        archive.writestr(archive.namelist()[0], b"another")
    with pytest.raises(CheckpointError, match="repeat"):
        load(tmp_path / "a.pth")


def test_a_tensor_whose_values_overlap_is_refused(tmp_path):
    torch.save({"w": torch.zeros(12).as_strided((3, 4), (1, 1))}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"shape \(3, 4\) repeats its values"):
        load(tmp_path / "a.pth")
    torch.save({"w": torch.zeros(4, 3).t(), "e": torch.zeros(0, 3)}, tmp_path / "a.pth")
    assert load(tmp_path / "a.pth")["w"].shape == (3, 4)


@pytest.mark.slow
def test_values_that_take_no_bytes_are_refused(tmp_path):
    circle: dict = {}
    circle["meta"] = circle
    bomb: list = []
    for _ in range(30):
        bomb = [bomb, bomb]
    repeated = torch.zeros(1).expand(10**12)
    for content, reason in (
        (circle, "more than 50 levels"),
        ({"meta": bomb}, "or 1000000 values"),
        ({"w": repeated}, "repeats"),
    ):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match=f"a.pth is refused: .*{reason}"):
            read_foreign(tmp_path / "a.pth")


@pytest.mark.parametrize("num", [0, 1, 21, 22, 80, 120])
def test_short_files(tmp_path, num):
    for data in (bytes(num), b"PK\x03\x04"[:num] + bytes(max(num - 4, 0)), pickle.dumps({})[:num]):
        (tmp_path / "a.pth").write_bytes(data)
        with pytest.raises(CheckpointError, match="a.pth"):
            load(tmp_path / "a.pth")
