"""Every label format: read by hand-written text, written and read back, refused with file and place."""

import json

import cv2
import numpy as np
import pytest

from mmdet.datasets.labels import LABEL_READERS, read_as
from mmdet.datasets.labels.base import LabelledFace, join_records, make_record
from mmdet.datasets.labels.convert import LABEL_WRITERS, add_sizes, convert
from mmdet.datasets.labels.sniff import guess_format
from mmdet.errors import ConfigError, DataError, MMDetError

POINTS = np.array([[30, 40, 1], [50, 40, 1], [40, 50, 1], [33, 60, 1], [47.5, 60, 1]])
NAMES = ("ev/a.jpg", "ev/my photo b.png", "c.jpg")


@pytest.fixture
def images(tmp_path):
    """Three images, 200 x 100 px."""
    for name in NAMES:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((100, 200, 3), np.uint8))
    return tmp_path / "images"


def labels(has_classes=True, has_ignore=True, has_kps=True, some=True):
    kps = POINTS if has_kps else None
    partial = POINTS * (np.arange(5) != 2)[:, None] if has_kps and some else kps
    faces = [
        LabelledFace((20, 30, 60.25, 70), 0, kps),
        LabelledFace((100, 10, 130, 55), int(has_classes), partial),
    ]
    ignored = [LabelledFace((1, 2, 9, 12), is_ignored=True)] if has_ignore else []
    second = [LabelledFace((20, 30, 60, 70), 0, None)]
    records = [
        make_record(name, found, 5, (100, 200), "x")
        for name, found in zip(NAMES, (faces + ignored, second, []), strict=True)
    ]
    return join_records(records, 5, ("mask", "none") if has_classes else ("FG",))


def assert_same(got, want, atol=0.0):
    assert sorted(got.names) == sorted(want.names)
    for name in want.names:
        one, other = (x[x.names.index(name)] for x in (got, want))
        weighted = [record.kps * record.kps[..., 2:] for record in (one, other)]
        np.testing.assert_allclose(*weighted, atol=atol, err_msg=name)
        for field in ("bboxes", "labels", "bboxes_ignore"):
            np.testing.assert_allclose(getattr(one, field), getattr(other, field), atol=atol, err_msg=name)


@pytest.mark.parametrize("name", LABEL_WRITERS)
def test_round_trip(name, tmp_path, images):
    writer = LABEL_WRITERS[name]
    has = [what in writer.carries for what in ("classes", "ignore", "kps", "some kps")]
    source = tmp_path / "source.json"
    want = labels(*has)
    LABEL_WRITERS["coco"].write(want, source)
    target = tmp_path / "labels"
    written, lost = convert(("coco", source), (name, target))
    assert lost == {} and written.classes == want.classes
    known = {"classes": want.classes} if name == "labelv2" else {}  # which holds indices only
    got = add_sizes(read_as(target, name, train=False, num_kps=5, **known), images)
    assert_same(got, want, atol=1e-4)
    assert got.sizes_hw.tolist() == [[100, 200]] * 3
    if has[0]:
        assert got.classes == want.classes
    assert guess_format(target) == name
    convert((name, target), ("labelv2", tmp_path / "labelv2.txt"), images, **known)
    assert_same(
        read_as(tmp_path / "labelv2.txt", "labelv2", train=False, classes=want.classes), want, atol=1e-4
    )


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("voc", {"faces with points": 2, "faces with some of their points": 1}),
        ("yolo", {"ignore boxes": 1}),
        ("wider-txt", {"faces of classes other than the first": 1, "faces with points": 2}),
        ("cvat", {"faces with some of their points": 1}),
    ],
)
def test_what_a_format_cannot_hold_is_counted(name, lost, tmp_path):
    LABEL_WRITERS["coco"].write(labels(), tmp_path / "a.json")
    _, found = convert(("coco", tmp_path / "a.json"), (name, tmp_path / "out"))
    assert lost.items() <= found.items()


WIDER = """\
0--Parade/my a.jpg
3
449 330 122 149 0 0 0 0 0 0
10 20 30 40 2 0 0 0 0 0
10 20 30 40 0 0 0 1 2 0
0--Parade/none.jpg
0
0 0 0 0 0 0 0 0 0 0
1--E/b.jpg
2
5 5 0 0 0 0 0 0 0 0
1 2 3 4 0 0 0 0 2 1
"""


def test_wider_txt(tmp_path):
    path = tmp_path / "bbx_gt.txt"
    path.write_text(WIDER)
    read = read_as(path, "wider-txt", train=True)
    assert read.names == ("0--Parade/my a.jpg", "0--Parade/none.jpg", "1--E/b.jpg")
    a, none, b = read
    assert a.bboxes.tolist() == [[449, 330, 571, 479], [10, 20, 40, 60]]
    assert a.bboxes_ignore.tolist() == [[10, 20, 40, 60]] and len(none.bboxes) == 0
    assert b.bboxes.tolist() == [[1, 2, 4, 6]] and read.not_carried == {"faces without a size": 1}
    blurred = read_as(path, "wider-txt", train=True, ignore=("blur=2", "occlusion=2"))
    assert blurred.is_ignored.tolist() == [False, True, True, True]
    with pytest.raises(ConfigError, match="ignore = 'blurr=2'"):
        read_as(path, "wider-txt", train=True, ignore=("blurr=2",))


def test_the_official_wider_file_equals_the_mat(shared):
    from mmdet.evaluation.widerface.files import read_wider_gt

    path = shared / "data/wider_gt/wider_face_val_bbx_gt.txt"
    if not path.is_file():
        pytest.skip("no wider_face_val_bbx_gt.txt")
    read = read_as(path, "wider-txt", train=False, ignore=())
    assert len(read) == 3226 and len(read.bboxes) + read.not_carried["faces without a size"] == 39708
    gt = {f"{image.event}/{image.name}.jpg": image for image in read_wider_gt(path.parent)}
    for record in read:
        want = gt[record.name].bboxes_xywh
        want = want[want[:, 2:].min(1, initial=1) > 0] if len(want) else want
        np.testing.assert_allclose(record.bboxes[:, :2], want[:, :2])


@pytest.mark.parametrize(
    "row",
    [
        "0.2 0.5 0.2 0.4 0.15 0.4 0.25 0.4 0.2 0.5 0.165 0.6 0.2375 0.6",  # 14: no class
        "0 0.2 0.5 0.2 0.4 0.15 0.4 0.25 0.4 0.2 0.5 0.165 0.6 0.2375 0.6",  # 15
        "0 0.2 0.5 0.2 0.4 0.15 0.4 2 0.25 0.4 2 0.2 0.5 1 0.165 0.6 2 0.2375 0.6 2",  # 20
    ],
)
def test_yolo_rows_with_points(row, tmp_path, images):
    path = tmp_path / "labels" / "ev" / "a.txt"
    path.parent.mkdir(parents=True)
    path.write_text(f"{row}\n0 0.5 0.5 0.1 0.2\n")
    [record] = read_as(tmp_path / "labels", "yolo", train=True)
    np.testing.assert_allclose(record.bboxes, [[20, 30, 60, 70], [90, 40, 110, 60]], rtol=1e-5)
    np.testing.assert_allclose(record.kps[0], POINTS, rtol=1e-5)
    assert (record.kps[1] == 0).all() and record.name == "ev/a.jpg"


def test_yolo_points_that_are_not_labelled(tmp_path, images):
    path = tmp_path / "labels" / "c.txt"
    path.parent.mkdir()
    path.write_text("1 0.2 0.5 0.2 0.4" + " -1 -1" * 5 + "\n" + "1 0.2 0.5 0.2 0.4" + " 0 0 0" * 5 + "\n")
    (tmp_path / "data.yaml").write_text("nc: 2\nnames: [mask, 'no mask']\n")
    read = read_as(tmp_path / "labels", "yolo", train=True)
    assert (read.kps == 0).all() and read.labels.tolist() == [1, 1] and read.classes == ("mask", "no mask")


VOC = """<annotation><filename>a b.jpg</filename><size><width>200</width><height>100</height></size>
<object><name>mask</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3.5</xmax><ymax>4</ymax>
</bndbox><part><name>nose</name></part></object>
<object><name>none</name><difficult>1</difficult><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>7</xmax><ymax>8</ymax>
</bndbox></object></annotation>"""


def test_voc(tmp_path):
    (tmp_path / "x" / "ev").mkdir(parents=True)
    (tmp_path / "x" / "ev" / "1.xml").write_text(VOC)
    read = read_as(tmp_path / "x", "voc", train=True)
    [record] = read
    assert record.name == "ev/a b.jpg" and record.size_hw == (100, 200) and read.classes == ("mask", "none")
    assert record.bboxes.tolist() == [[1, 2, 3.5, 4]] and record.bboxes_ignore.tolist() == [[5, 6, 7, 8]]
    assert read.not_carried == {"parts of objects": 1}
    only = read_as(tmp_path / "x", "voc", train=True, classes=("none",))
    assert len(only[0].bboxes) == 0 and only.not_carried["objects of other classes"] == 1


@pytest.mark.parametrize("encoding", ["gb2312", "utf-16", "utf-8"])
@pytest.mark.parametrize("said", ["gb2312", "utf-16", "no-such-encoding"])
def test_an_xml_file_may_say_its_encoding(encoding, said, tmp_path):
    text = f'<?xml version="1.0" encoding="{said}"?>' + VOC.replace("<name>mask", "<name>\u8138")
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    if encoding == "gb2312" and said != "gb2312":
        with pytest.raises(DataError, match=r"a.xml:\d+: not UTF-8 text"):
            read_as(tmp_path, "voc", train=False)
    else:
        assert "\u8138" in read_as(tmp_path, "voc", train=False).classes


def test_a_document_type_is_refused(tmp_path):
    (tmp_path / "a.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]>' + VOC)
    with pytest.raises(DataError, match="holds a document type"):
        read_as(tmp_path, "voc", train=True)


def test_labelme_polygons_and_stray_points(tmp_path):
    shapes = [
        {"label": "face", "points": [[1, 2], [5, 1], [4, 9]], "shape_type": "polygon"},
        {"label": "eye", "points": [[1, 2]], "shape_type": "point"},
        {"label": "face", "points": [[9, 9], [4, 3]], "shape_type": "rectangle", "group_id": 7},
        {"label": "eye", "points": [[5, 5]], "shape_type": "point", "group_id": 7},
        {"label": "line", "points": [[1, 2], [3, 4]], "shape_type": "line"},
    ]
    content = {"imagePath": "..\\images\\a.jpg", "shapes": shapes, "imageHeight": 10, "imageWidth": 20}
    (tmp_path / "a.json").write_text(json.dumps(content))
    read = read_as(tmp_path, "labelme", train=True)
    assert read.names == ("a.jpg",) and read.bboxes.tolist() == [[1, 1, 5, 9], [4, 3, 9, 9]]
    assert read.not_carried == {
        "polygons, taken as the box around them": 1,
        "points without a group": 1,
        "shapes of type line": 1,
        "faces with other than 5 points": 1,
    }


def test_labelme_flags_that_are_no_object_are_named(tmp_path):
    shape = {"label": "face", "points": [[9, 9], [4, 3]], "shape_type": "rectangle", "flags": "ignore"}
    (tmp_path / "a.json").write_text(json.dumps({"imagePath": "a.jpg", "shapes": [shape]}))
    with pytest.raises(DataError, match=r'shapes\[0\]: "flags" is no object'):
        read_as(tmp_path, "labelme", train=True)


def test_csv_with_other_names_and_columns(tmp_path):
    (tmp_path / "a.csv").write_text('filename,x,y,w,h,mood\n"b, c.jpg",1,2,3,4,glad\nd.jpg,,,,,\n')
    read = read_as(tmp_path / "a.csv", "csv", train=True)
    assert read.names == ("b, c.jpg", "d.jpg") and read.bboxes.tolist() == [[1, 2, 4, 6]]
    assert read.not_carried == {"column mood": 1} and len(read[1].bboxes) == 0


BAD = {
    "coco": ('{"images": 3}', "expected a dict with lists"),
    "csv": ("image,x1,y1,x2,y2\na.jpg,1,2,x,4\n", r":2: x2 = 'x' is not a number"),
    "cvat": (
        "<annotations><image name='a.jpg'><box xtl='q'/></image></annotations>",
        "xtl: expected a number",
    ),
    "wider-txt": ("a.jpg\n2\n1 2 3 4 0 0 0 0 0 0\n", ":4: expected x y w h and six flags, got the end"),
    "ternaus-json": ('[{"file_name": 3}]', "file_name"),
    "retinaface-txt": ("# a.jpg\n1 2\n", ":2: 2 values"),
    "labelv2": ("# a.jpg 10 10\n1 2\n", ":2: 2 values"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named(name, tmp_path):
    (tmp_path / "labels").write_text(BAD[name][0])
    with pytest.raises(DataError, match=BAD[name][1]):
        read_as(tmp_path / "labels", name, train=False)


@pytest.mark.parametrize("name", LABEL_READERS)
@pytest.mark.parametrize("missing", ["absent", "empty"])
def test_missing_and_empty_sources(name, missing, tmp_path):
    (tmp_path / "empty").write_text("")
    with pytest.raises(DataError, match=missing):
        read_as(tmp_path / missing, name, train=False)


def test_a_wrong_format_is_told_by_its_look(tmp_path):
    for name, writer in LABEL_WRITERS.items():
        if not writer.is_folder:
            writer.write(labels(), tmp_path / name)
            wrong = "coco" if name != "coco" else "labelv2"
            with pytest.raises(DataError, match=f"It looks like {name}; tools/convert_labels.py {name}"):
                read_as(tmp_path / name, wrong, train=False)


def test_names_that_leave_the_folder_or_collide_write_nothing(tmp_path):
    for names in (("../a.jpg", "b.jpg", "c.jpg"), ("a.jpg", "a.png", "c.jpg")):
        found = [make_record(name, [], 5, (9, 9), "") for name in names]
        LABEL_WRITERS["coco"].write(join_records(found, 5), tmp_path / "a.json")
        with pytest.raises(MMDetError, match="a.jpg|suffix"):
            convert(("coco", tmp_path / "a.json"), ("voc", tmp_path / "out"))
        assert not (tmp_path / "out").exists()


def test_an_unknown_size_is_named_and_nothing_written(tmp_path):
    (tmp_path / "gt.txt").write_text(WIDER)
    with pytest.raises(DataError, match="size of 0--Parade/my a.jpg is unknown; labelv2 needs it"):
        convert(("wider-txt", tmp_path / "gt.txt"), ("labelv2", tmp_path / "out.txt"))
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="size of 0--Parade/my a.jpg is unknown: image .*No such file"):
        convert(("wider-txt", tmp_path / "gt.txt"), ("labelv2", tmp_path / "out.txt"), tmp_path / "none")
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", LABEL_READERS)
def test_damaged_files_give_named_errors_only(name, tmp_path, images):
    """Bytes are changed, removed and repeated; nothing but errors of ours may come out."""
    writer = LABEL_WRITERS[name]
    writer.write(labels(), tmp_path / "labels")
    files = sorted(tmp_path.glob("labels/**/*.*")) or [tmp_path / "labels"]
    rng = np.random.RandomState(0)
    for _ in range(300):
        file = files[rng.randint(len(files))]
        good = file.read_bytes()
        file.write_bytes(damage(good, rng))
        try:
            read_as(tmp_path / "labels", name, train=bool(rng.randint(2)))
        except MMDetError:
            pass
        file.write_bytes(good)


def damage(data, rng):
    """Change, remove or repeat a few bytes."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, size = rng.randint(len(data) + 1), rng.randint(1, 9)
        kind = rng.randint(4)
        if kind == 0:
            data[at : at + size] = bytes(rng.randint(0, 256, size).astype(np.uint8))
        elif kind == 1:
            del data[at : at + size]
        elif kind == 2:
            data[at:at] = rng.choice(
                [b"-", b"nan", b"1e999", b'"', b"{", b"<", b"\n", b" ", b",", b"null", b"\0"]
            )
        else:
            data[at:at] = data[max(at - 40, 0) : at]
    return bytes(data)
