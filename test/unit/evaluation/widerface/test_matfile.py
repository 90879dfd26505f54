"""Our reader of .mat files against scipy's on good files, and alone on damaged ones."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from mmdet.errors import DataError
from mmdet.evaluation import read_wider_gt
from mmdet.evaluation.widerface import matfile
from mmdet.evaluation.widerface.matfile import read_mat

NAMES = ("event_list", "file_list", "face_bbx_list", "gt_list")


def plain(value):
    """Return what `read_mat` gives for a value of scipy."""
    if value.dtype == object:
        return [plain(item) for item in value.ravel(order="F")]
    return (
        str(value[0]) if value.dtype.kind == "U" and value.size else "" if value.dtype.kind == "U" else value
    )


def assert_same(one, two):
    assert type(one) is type(two)
    if isinstance(one, list):
        assert len(one) == len(two)
        for pair in zip(one, two, strict=True):
            assert_same(*pair)
    elif isinstance(one, str):
        assert one == two
    else:
        assert one.shape == two.shape and np.array_equal(one, two)


@pytest.mark.parametrize(
    "folder", ["data/wider_gt", "data/wider_val_native52/gt", "golden/g6_wider_synth"], ids=lambda f: f[:16]
)
def test_the_known_files_read_as_scipy_reads_them(shared, folder):
    files = sorted((shared / folder).glob("*.mat"))
    assert len(files) == 4
    for file in files:
        theirs = loadmat(file, variable_names=NAMES)
        ours = read_mat(file, NAMES)
        assert set(ours) == set(NAMES) & set(theirs)
        for name, value in ours.items():
            assert_same(value, plain(theirs[name]))


@pytest.mark.parametrize("is_packed", [True, False])
def test_every_kind_of_number_and_text(tmp_path, is_packed):
    cells = np.empty((3, 1), object)
    cells[:, 0] = ["", "Grüße", np.zeros((0, 4))]
    values = {f"v{n}": np.arange(6).reshape(2, 3).astype(t) for n, t in enumerate("bBhHiIqQfd?")}
    savemat(tmp_path / "a.mat", {**values, "cells": cells}, do_compression=is_packed)
    theirs, ours = loadmat(tmp_path / "a.mat"), read_mat(tmp_path / "a.mat", [*values, "cells"])
    assert len(ours) == len(values) + 1
    for name in values:
        assert_same(ours[name], theirs[name])
    assert ours["cells"][:2] == ["", "Grüße"] and ours["cells"][2].shape == (0, 4)


def packed(tmp_path, body):
    """Write a file of one packed variable with these bytes."""
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    data = zlib.compress(body)
    (tmp_path / "a.mat").write_bytes(head + struct.pack("<II", 15, len(data)) + data)
    return tmp_path / "a.mat"


def matrix(array_class, shape, name=b"x", data=b"", size=None):
    name_bytes = struct.pack("<II", 1, len(name)) + name + bytes(-len(name) % 8)
    dims = struct.pack(f"<II{len(shape)}i", 5, 4 * len(shape), *shape) + bytes(4 * len(shape) % 8)
    body = struct.pack("<IIII", 6, 8, array_class, 0) + dims + name_bytes + data
    return struct.pack("<II", 14, len(body) if size is None else size) + body


def test_lengths_that_the_file_does_not_have(tmp_path):
    huge = struct.pack("<II", 9, 8)
    for body, reason in (
        (matrix(1, (2**31 - 1, 2**31 - 1)), "cells in 0 bytes"),
        (matrix(6, (2**31 - 1, 1), data=huge + bytes(8)), "8 bytes for 2147483647 numbers"),
        (matrix(6, (1, 1), size=2**32 - 1), "4294967295 bytes where"),
        (matrix(1, (1, 1), data=matrix(1, (1, 1), data=matrix(1, (1, 1)))), "at most 3 levels"),
        (matrix(2, (1, 1)), "array of class 2"),
        (matrix(6, (-1, 1)), "shape"),
        (matrix(6, (1, 1), data=struct.pack("<II", 99, 0)), "numbers of type 99"),
    ):
        with pytest.raises(DataError, match=f"a.mat: not a readable .mat file .*{reason}"):
            read_mat(packed(tmp_path, body), ("x",))


def test_what_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(matfile, "MAX_VARIABLE_BYTES", 10_000)
    zeros = struct.pack("<II", 9, 80_000) + bytes(80_000)
    with pytest.raises(DataError, match="more than 10000 bytes"):
        read_mat(packed(tmp_path, matrix(6, (10_000, 1), data=zeros)), ("x",))
    assert read_mat(packed(tmp_path, matrix(6, (10_000, 1), data=zeros)), ("y",)) == {}
    monkeypatch.setattr(matfile, "MAX_FILE_BYTES", 10)
    with pytest.raises(DataError, match="at most 10 are read"):
        read_mat(tmp_path / "a.mat", ("x",))


@pytest.mark.slow
def test_damaged_files_are_errors_of_ours(tmp_path):
    """2000 files with wrong bytes, cut off or lengthened; in each the reader answers or refuses."""
    buffer, choose = io.BytesIO(), random.Random(0)
    cells = np.empty((2, 1), object)
    cells[:, 0] = [np.arange(8).reshape(2, 4), "text"]
    savemat(buffer, {"x": cells, "y": np.eye(3)})
    whole = buffer.getvalue()
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(choose.randint(1, 4)):
            data[choose.randrange(124, len(data))] = choose.choice((0, 1, 255, choose.randrange(256)))
        (tmp_path / "a.mat").write_bytes(data[: choose.choice((len(data), choose.randrange(len(data))))])
        try:
            read_mat(tmp_path / "a.mat", ("x", "y"))
        except DataError as error:
            assert "a.mat: not a readable .mat file" in str(error)


@pytest.mark.parametrize("case", ["05_mat_segfault", "06_mat_nesting_line47", "06_mat_nesting_line51"])
def test_files_that_ended_the_process_or_the_tool(shared, tmp_path, case):
    (path,) = (shared / "cases/attack").glob(f"{case}__*.mat")
    for file in (shared / "golden/g6_wider_synth").glob("*.mat"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / path.name.partition("__")[2]).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match=path.name.partition("__")[2]):
        read_wider_gt(tmp_path)


def test_a_variable_that_is_there_twice_is_refused(tmp_path):
    buffer = io.BytesIO()
    savemat(buffer, {"gt_list": np.ones((2, 2))}, do_compression=True)
    data = buffer.getvalue()
    (tmp_path / "a.mat").write_bytes(data + data[128:])
    with pytest.raises(DataError, match="the variable gt_list is there twice"):
        read_mat(tmp_path / "a.mat", NAMES)
