import pickle
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from mmdet.datasets.labels import read_labels
from mmdet.datasets.labels.labelv2 import write_labelv2
from mmdet.errors import DataError, WriteError

POINTS = "10 11 0 20 11 0 15 15 0 11 20 0 19 20 0"


@pytest.fixture
def read(tmp_path):
    def read(text, train=True, **options):
        path = tmp_path / "label.txt"
        path.write_bytes(textwrap.dedent(text).encode())
        return read_labels(path, train=train, **options)

    return read


def test_two_images(read):
    labels = read(f"""\
        # a.jpg 160 120
        5 6 30 40 {POINTS}
        1 2 3 4 0
        # ev/b.jpg 40 50 extra fields
        7.5 8 9 10 1
        0 0 20 20 0
        """)
    assert labels.names == ("a.jpg", "ev/b.jpg")
    assert labels.offsets.tolist() == [0, 2, 4]
    a, b = labels
    assert a.size_hw == (120, 160) and b.size_hw == (50, 40)
    assert a.bboxes.tolist() == [[5, 6, 30, 40], [1, 2, 3, 4]]
    assert a.kps[0].tolist() == [[10, 11, 1], [20, 11, 1], [15, 15, 1], [11, 20, 1], [19, 20, 1]]
    assert a.kps[1].tolist() == [[0, 0, 0]] * 5
    assert b.bboxes.tolist() == [[0, 0, 20, 20]]
    assert b.bboxes_ignore.tolist() == [[7.5, 8, 9, 10]]
    assert a.bboxes.dtype == a.kps.dtype == b.bboxes_ignore.dtype == np.float32


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        ("# a.jpg 160 120\n131 0 120 9 0\n", ":2:", r"x2=120 < x1=131 in a\.jpg"),
        ("# a.jpg 160 120\n0 9 5 8 0\n", ":2:", "y2=8 < y1=9"),
        ("# a.jpg 160 120\n0 0 5 8\n", ":2:", "4 values"),
        ("# a.jpg 160 120\n0 0 5 8 0 0 0 0 0 0\n", ":2:", "10 values"),
        ("# a.jpg 160 120\n0 0 5\n", ":2:", "3 values"),
        ("# a.jpg 160 120\n0 0 5 8 0\n0 0 x5 8 0\n", ":3:", "'x5' is not a number"),
        ("# a.jpg 160 120\n0 0 5,0 8 0\n", ":2:", "'5,0' is not a number"),
        ("# a.jpg 160 120\n0 0 1_0 8 0\n", ":2:", "'1_0' is not a number"),
        ("# a.jpg 160 120\n0 0 \u0661\u0660 8 0\n", ":2:", "is not a number"),
        ("# a.jpg 160 120\n0 0 1e308 8 0\n", ":2:", r"box \[0.0, 0.0, inf, 8.0\] is not finite"),
        ("# a.jpg 160 120\n0 0 1-2 8 0\n", ":2:", "'1-2' is not a number"),
        ("# a.jpg 160 120\n0 0 nan 8 0\n", ":2:", "not finite"),
        ("# a.jpg 160 120\n0 0 5 8 0\n\n# b.jpg 1 1\n", ":3:", "blank line"),
        ("\n# a.jpg 160 120\n", ":1:", "blank line"),
        ("0 0 5 8 0\n# a.jpg 160 120\n", ":1:", "expected '# name width height' first"),
        ("# a b.jpg 160\n0 0 5 8 0\n", ":1:", "expected '# name width height'"),
        ("# a.jpg 160 99999999999\n0 0 5 8 0\n", ":1:", "expected '# name width height'"),
        ("# a.jpg 160\n", ":1:", "expected '# name width height'"),
        ("# a.jpg 160 0\n", ":1:", "positive"),
        ("#\n", ":1:", "expected '# name width height'"),
        ("# a.jpg 160 120\n0 0 9 9 " + "1 1 -1 " * 5, ":2:", "v < 0"),
        ("# a.jpg 160 120\n0 0 9 9 " + "1 nan 1 " * 5, ":2:", "nan"),
        ("", "", "is empty"),
    ],
)
def test_bad_lines_name_file_line_and_reason(read, text, where, reason):
    with pytest.raises(DataError, match=rf"label\.txt{where}.*{reason}|label\.txt {reason}"):
        read(text)


def test_the_first_of_several_bad_lines_is_named_and_the_rest_counted(read):
    with pytest.raises(DataError, match=r":3: .* in a.jpg \(1 more such lines\)"):
        read("# a.jpg 160 120\n1 1 2 2 0\n3 0 1 1 0\n4 0 1 1 0\n")


def test_missing_file_and_binary_file(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_labels(tmp_path / "absent.txt", train=True)
    (tmp_path / "bin").write_bytes(b"# \xff\xfe.jpg 100 100\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_labels(tmp_path / "bin", train=True)


def test_zero_size_faces_are_legal_and_min_size_makes_them_ignore_boxes(read):
    text = "# a.jpg 160 120\n5 6 5 6 0\n1 1 11 11 0\n1 1 11 10.9 0\n"
    assert len(read(text)[0].bboxes) == 3
    record = read(text, min_size=10)[0]
    assert record.bboxes.tolist() == [[1, 1, 11, 11]]
    assert len(record.bboxes_ignore) == 2


def test_images_without_faces_and_narrow_images(read, caplog):
    text = (
        "# a.jpg 160 120\n# b.jpg 160 120\n1 1 9 9 0\n# c.jpg 31 500\n1 1 9 9 0\n# d.jpg 32 500\n1 1 9 9 1\n"
    )
    assert read(text).names == ("b.jpg", "d.jpg")
    assert "1 images narrower than 32 px are not trained on (c.jpg)" in caplog.text
    assert read(text, filter_empty_gt=False).names == ("a.jpg", "b.jpg", "d.jpg")
    assert read(text, train=False).names == ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
    with pytest.raises(DataError, match="none of 1 images has a face"):
        read("# a.jpg 160 120\n")


def test_the_last_block_of_a_repeated_name_counts(read, caplog):
    labels = read("# a.jpg 99 99\n1 1 2 2 0\n# b.jpg 88 88\n3 3 4 4 0\n# a.jpg 77 77\n5 5 6 6 0\n7 7 8 8 0\n")
    assert labels.names == ("a.jpg", "b.jpg")
    assert labels[0].bboxes.tolist() == [[5, 5, 6, 6], [7, 7, 8, 8]]
    assert labels[0].size_hw == (77, 77)
    assert labels[1].bboxes.tolist() == [[3, 3, 4, 4]]
    assert "1 images are listed more than once" in caplog.text


def test_windows_line_ends_byte_order_mark_and_names_beyond_ascii(read):
    [record] = read("\ufeff# 聚会/é.jpg 160 120\r\n1 1\t2  2 0\r\n\r\n")
    assert record.name == "聚会/é.jpg"
    assert record.bboxes.tolist() == [[1, 1, 2, 2]]


def test_pickles(read):
    labels = read("# a.jpg 160 120\n1 1 2 2 0\n")
    copy = pickle.loads(pickle.dumps(labels))
    assert copy.names == labels.names and copy[0].bboxes.tolist() == [[1, 1, 2, 2]]


def test_writes_what_it_reads(read, tmp_path):
    labels = read(
        f"# a.jpg 160 120\n0.1 6 30.123457 40 {POINTS}\n1 2 3 4 0\n5 6 7 8 1\n"
        "# ev/b.jpg 40 50\n7.5 8 9 10 -1 -1 -1 20.25 11 1 -1 -1 -1 -1 -1 -1 19 20 0\n# c.jpg 33 44\n",
        filter_empty_gt=False,
    )
    write_labelv2(labels, tmp_path / "out.txt")
    text = (tmp_path / "out.txt").read_text()
    assert text.startswith(f"# a.jpg 160 120\n0.1 6 30.123457 40 {POINTS}\n1 2 3 4 0\n5 6 7 8 1\n# ev/b.jpg")
    again = read_labels(tmp_path / "out.txt", train=True, filter_empty_gt=False)
    assert again.names == labels.names and again.sizes_hw.tolist() == labels.sizes_hw.tolist()
    np.testing.assert_array_equal(again.bboxes, labels.bboxes)
    np.testing.assert_array_equal(again.is_ignored, labels.is_ignored)
    np.testing.assert_array_equal(again.kps[..., 2], labels.kps[..., 2])
    is_annotated = labels.kps[..., 2] > 0
    np.testing.assert_array_equal(again.kps[is_annotated], labels.kps[is_annotated])


def test_an_unknown_size_or_folder_is_not_written(read, tmp_path):
    labels = read("# a.jpg 160 120\n1 1 2 2 0\n")
    with pytest.raises(WriteError, match="none/out.txt cannot be written"):
        write_labelv2(labels, tmp_path / "none" / "out.txt")
    with pytest.raises(DataError, match="size of a.jpg is unknown"):
        write_labelv2(replace(labels, sizes_hw=labels.sizes_hw * 0), tmp_path / "out.txt")


@pytest.mark.parametrize("num_kps", [3, 7])
def test_points_other_than_five(read, num_kps):
    labels = read(f"# a.jpg 160 120\n1 1 9 9 {'2 3 1 ' * num_kps}\n1 1 9 9 0\n", num_kps=num_kps)
    assert labels.kps.shape == (2, num_kps, 3)
    assert labels.kps[0].tolist() == [[2, 3, 1]] * num_kps
    with pytest.raises(DataError, match=rf"6 values; expected .* {4 + 3 * num_kps} \(box, {num_kps} points"):
        read("# a.jpg 160 120\n1 1 9 9 0 0\n", num_kps=num_kps)
