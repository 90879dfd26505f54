"""Label files that once misled in silence: the shared case, and another input of its kind."""

import re

import numpy as np
import pytest

from mmdet.datasets.labels import read_labels
from mmdet.datasets.labels.findings import find_oddities
from mmdet.errors import DataError

HEAD, BOX = "# ev/a.jpg 640 480\n", "100 100 170 180"
KPS = "120 130 0 150 130 0 135 150 0 122 165 0 148 165 0"
GOOD = f"{HEAD}{BOX} {KPS}\n"


@pytest.fixture
def case(shared):
    return lambda name: next((shared / "cases/train/labels").glob(f"{name}_*"))


@pytest.fixture
def own(tmp_path):
    def write(data):
        path = tmp_path / "label.txt"
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return write


def read(path, **options):
    return read_labels(path, train=True, **options)


def refused(path, message, **options):
    with pytest.raises(DataError, match=message):
        read(path, **options)


def assert_good(labels):
    assert labels.names == ("ev/a.jpg",) and labels.bboxes.tolist() == [[100, 100, 170, 180]]
    assert labels.kps[0, 0].tolist() == [120, 130, 1] and (labels.kps[..., 2] == 1).all()


def test_b01_utf16_is_read(case):
    assert_good(read(case("B01")))


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le", "utf-32", "utf-8-sig"])
def test_b01_other_unicode(own, encoding):
    mark = "\ufeff" if encoding.startswith("utf-16") else ""
    assert_good(read(own((mark + GOOD).encode(encoding))))


def test_b01_utf16_without_a_mark_and_a_broken_one(own):
    assert_good(read(own(GOOD.encode("utf-16-le"))))
    refused(own(b"\xff\xfe#\x00 \x00\x00"), "begins as UTF-16 text and is not; save it as UTF-8")
    refused(own(GOOD.replace("130", "1\x0030").encode()), r":2: holds a NUL byte")


def test_b03_normalised_boxes_stop(case):
    refused(
        case("B03"), r"1 of 1 faces have a box inside 0..1: normalised coordinates\? .*B03.*:2 in ev/a.jpg"
    )


def test_b03_a_few_are_a_warning_and_boxes_under_a_pixel_stop(own, caplog):
    labels = read(own(f"{HEAD}{BOX} 0\n{BOX} 0\n0.1 0.2 0.3 0.4 0\n"))
    assert len(labels.bboxes) == 3
    assert re.search(r"1 of 3 faces have a box inside 0..1: .*first: .*label.txt:4 in ev/a.jpg", caplog.text)
    refused(
        own(f"{HEAD}100 100 100 100 0\n5 5 5.5 5.5 0\n{BOX} 0\n"), "2 of 3 faces have a box under 1 px.*:2 in"
    )


def test_b04_points_at_zero_are_not_annotated(case, caplog):
    assert (read(case("B04")).kps[..., 2] == 0).all()
    assert "1 of 1 faces have all points at 0 0, which are taken as not annotated; first: " in caplog.text


def test_b04_one_point_at_zero_is_a_point(own, caplog):
    assert (read(own(f"# a.jpg 640 480\n0 0 70 80 0 0 0 {KPS[10:]}\n")).kps[0, :, 2] == 1).all()
    assert "0 0" not in caplog.text


def test_b06_68_points(case):
    refused(case("B06"), r":2: 208 values; .*19 \(box, 5 points\), 20 .*if it has 68 points, set num_kps")
    assert read(case("B06"), num_kps=68).kps.shape == (1, 68, 3)


@pytest.mark.parametrize("count", [6, 10, 16, 18, 22, 34])
def test_b06_other_counts(own, count):
    refused(own(HEAD + " ".join(["1"] * count) + "\n"), f"{count} values; expected 4")


def test_b08_fifth_value(case, own):
    refused(case("B08"), r":2: fifth value 2; write 0 \(a face without points\) or 1 \(an ignore box\)")
    refused(own(f"{HEAD}{BOX} 0.87\n"), "fifth value 0.87")


def test_b10_box_outside(case, own, caplog):
    read(case("B10"))
    assert "1 of 1 faces have a box wholly outside the image; first: " in caplog.text
    read(own(f"{HEAD}{BOX} 0\n{BOX} 0\n-50 10 0 20 0\n600 400 700 500 0\n"))
    assert "1 of 4 faces have a box wholly outside the image; first: " in caplog.text


def test_b11_points_normalised(case, own, caplog):
    read(case("B11"))
    assert "1 of 1 faces have points far outside their box: normalised" in caplog.text
    caplog.clear()
    read(own(f"{HEAD}{BOX} 95 130 0{KPS[9:]}\n"))  # a little outside: a turned head
    assert caplog.text == ""


def test_b12_names_with_blanks(case, own):
    assert read(case("B12")).names == ("my photos/a b.jpg",)
    text = f"# a 1 2.jpg 640 480\n{BOX} 0\n# b.jpg 640 480 1 2\n{BOX} 0\n# ev/b  c.jpg 640\t480\n{BOX} 0\n"
    labels = read(own(text))
    assert labels.names == ("a 1 2.jpg", "b.jpg", "ev/b  c.jpg")
    assert labels.sizes_hw.tolist() == [[480, 640]] * 3


def test_b13_another_format_is_named(case, own):
    refused(case("B13"), "It looks like retinaface-txt; tools/convert_labels.py retinaface-txt converts it")
    refused(own("a/b.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n"), "It looks like wider-txt")


def test_b15_carriage_returns(case, own, caplog):
    assert_good(read(case("B15")))
    assert "has no line feeds; its carriage returns are taken as line ends" in caplog.text
    refused(own(GOOD.replace("\n", " ")), "none of 1 images has a face")


def test_b41_classes_without_a_class_column(own, caplog):
    labels = read(own(GOOD), classes=("face", "mask"))
    assert labels.labels.tolist() == [0]
    assert "all 1 faces are of class 'face', none of ('mask',)" in caplog.text


def test_a_class_is_the_last_of_21_values(own):
    text = f"{GOOD}{BOX} {KPS} 0.9 1\n{BOX} 1\n"
    labels = read(own(text), classes=("face", "mask"))
    assert labels.labels.tolist() == [0, 1, 0] and labels.is_ignored.tolist() == [False, False, True]
    assert labels[0].labels.tolist() == [0, 1]
    for value in ("2", "-1", "0.5"):
        refused(
            own(f"{HEAD}{BOX} {KPS} 0.9 {value}\n"), f"class {value}, but the classes are", classes=("a", "b")
        )


def test_without_points_a_class_is_the_last_of_6_values(own):
    labels = read(own(f"{HEAD}{BOX} 0 1\n{BOX} 1 0\n{BOX} 0\n"), classes=("face", "mask"), num_kps=0)
    assert labels.kps.shape == (3, 0, 3) and labels.labels.tolist() == [1, 0, 0]
    assert labels.is_ignored.tolist() == [False, True, False]


def test_the_real_files_are_not_odd(shared):
    for path in sorted((shared / "data").glob("*/**/labelv2*.txt")):
        found = find_oddities(read_labels(path, train=False))
        assert not any(finding.is_fatal for finding in found), (path, found)
        faces = np.concatenate([np.zeros(0, int), *(finding.faces for finding in found)])
        assert len(faces) < 0.05 * max(len(read_labels(path, train=False).bboxes), 1), (path, found)
