"""Files are written whole or not at all, and never where they must not be."""

import errno
import json
import math
import os

import pytest

from mmdet import files
from mmdet.errors import ConfigError, DataError, WriteError
from mmdet.files import atomic_write, check_outputs, inside, write_bytes, write_json, write_text


def test_a_file_gets_its_name_at_the_end(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with atomic_write(path) as part:
        part.write_text("new")
        assert path.read_text() == "old" and part.parent == tmp_path and part.suffix == ".txt"
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["a.txt"]


def test_forms(tmp_path):
    write_bytes(tmp_path / "b", memoryview(b"12"))
    write_json(tmp_path / "new/folder/c.json", {"a": [1]}, parents=True)
    write_text(tmp_path / "d.txt", "\udcff\n")  # a byte of a file name that is no UTF-8
    assert (tmp_path / "b").read_bytes() == b"12"
    assert (tmp_path / "new/folder/c.json").read_text() == '{\n  "a": [\n    1\n  ]\n}\n'
    assert (tmp_path / "d.txt").read_bytes() == b"\xff\n"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_block_leaves_the_old_file_alone(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    expected = WriteError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught, atomic_write(path) as part:
        part.write_text("half")
        raise error
    if expected is WriteError:
        assert str(caught.value) == f"{path} cannot be written: No space left on device"
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_disk_that_is_full_when_synced_is_the_same_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(WriteError, match="a.bin cannot be written: No space left"):
        write_bytes(tmp_path / "a.bin", b"1")
    assert os.listdir(tmp_path) == []
    write_bytes(tmp_path / "a.bin", b"1", durable=False)


def test_a_really_full_device_is_the_same_error(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    with pytest.raises(WriteError, match="No space left"), atomic_write(tmp_path / "a") as part:
        os.symlink("/dev/full", part)
        part.write_bytes(b"x" * 100_000)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [("no/a", "No such file or directory"), ("folder", "Is a directory"), ("file/a", "Not a directory")],
)
def test_what_cannot_be_written_is_named(tmp_path, name, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=f"{name} cannot be written: {reason}"):
        write_text(tmp_path / name, "x")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_an_interrupted_run_may_keep_its_part_but_a_full_disk_keeps_nothing(tmp_path):
    for error, left in ((KeyboardInterrupt(), ["a.part.mp4"]), (OSError(28, "full"), [])):
        with (
            pytest.raises((KeyboardInterrupt, WriteError)),
            atomic_write(tmp_path / "a.mp4", keep_part=True) as part,
        ):
            part.write_text("half")
            raise error
        assert os.listdir(tmp_path) == left


def test_devices_and_pipes_are_written_directly():
    write_text("/dev/null", "x")
    assert not os.path.isfile("/dev/null")


def test_a_link_is_replaced_and_its_target_kept(tmp_path):
    (tmp_path / "epoch_1").write_text("one")
    (tmp_path / "latest").symlink_to("epoch_1")
    write_text(tmp_path / "latest", "two")
    assert (tmp_path / "epoch_1").read_text() == "one" and (tmp_path / "latest").read_text() == "two"


def test_long_names_and_writers_side_by_side(tmp_path):
    name = "ä" * 125 + ".txt"  # 254 bytes
    with atomic_write(tmp_path / name, is_shared=True) as part:
        part.write_text("x")
        assert str(os.getpid()) in part.name
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["a.jpg", "b/../c.jpg", "b/c/d.jpg", "..a/x"])
def test_names_inside(tmp_path, name):
    assert inside(tmp_path / "new", name) == tmp_path / "new" / name


@pytest.mark.parametrize("name", ["../a.jpg", "b/../../a", "/etc/passwd", "link/a", ".", "a\0b"])
def test_names_that_lead_out(tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link").symlink_to(tmp_path)
    with pytest.raises(DataError, match="leads out of the folder"):
        inside(tmp_path / "in", name)


def test_outputs_are_checked_before_work(tmp_path):
    source, other = tmp_path / "in.mp4", tmp_path / "out.mp4"
    source.write_text("film")
    check_outputs([other, "/dev/null"], [source])
    (tmp_path / "soft.mp4").symlink_to(source)
    os.link(source, tmp_path / "hard.mp4")
    for name in ("in.mp4", "soft.mp4", "hard.mp4", "./in.mp4"):
        for overwrite in (False, True):
            with pytest.raises(ConfigError, match="would overwrite the input .*in.mp4"):
                check_outputs([f"{tmp_path}/{name}"], [source], overwrite)
    other.write_text("older")
    with pytest.raises(ConfigError, match="out.mp4 exists; give another name, or --overwrite"):
        check_outputs([other], [source])
    check_outputs([other], [source], overwrite=True)
    with pytest.raises(ConfigError, match="is a folder"):
        check_outputs([tmp_path], overwrite=True)


def test_nothing_here_needs_more_than_the_standard_library():
    assert not {"torch", "numpy", "cv2"} & set(vars(files))


def test_write_json_replaces_in_one_step(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"fps": 1.5, "AP_easy": math.nan, "iters": 3})
    assert json.loads(path.read_text()) == {"fps": 1.5, "AP_easy": None, "iters": 3}
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]
