"""Reading ground truth and prediction files, and what is said about bad ones."""

import numpy as np
import pytest
from scipy.io import savemat
from wider_fixture import image, rows

from mmdet.errors import DataError
from mmdet.evaluation import read_predictions, read_wider_gt, write_predictions
from mmdet.evaluation.widerface.files import require_images, split_name


def cell(*items):
    out = np.empty((len(items), 1), dtype=object)
    for i, item in enumerate(items):
        out[i, 0] = item
    return out


def write_gt(folder, keep=(1,), bboxes=((1, 2, 3, 4), (5, 6, 7, 8))):
    faces = cell(cell(np.array(bboxes)))
    savemat(
        folder / "wider_face_val.mat",
        {"event_list": cell("0--Parade"), "file_list": cell(cell("x_1")), "face_bbx_list": faces},
    )
    for setting in ("easy", "medium", "hard"):
        keep_cell = cell(cell(np.array(keep).reshape(-1, 1)))
        savemat(folder / f"wider_{setting}_val.mat", {"gt_list": keep_cell})


def test_reads_the_nested_cells(tmp_path):
    write_gt(tmp_path, keep=(2,))
    (found,) = read_wider_gt(tmp_path)
    assert (found.event, found.name) == ("0--Parade", "x_1")
    assert found.bboxes_xywh.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert found.kept["medium"].tolist() == [False, True]


@pytest.mark.parametrize("name", ["wider_face_val.mat", "wider_hard_val.mat"])
def test_missing_file_is_named(tmp_path, name):
    write_gt(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"{name}: no such file"):
        read_wider_gt(tmp_path)


def test_not_a_mat_file(tmp_path):
    write_gt(tmp_path)
    (tmp_path / "wider_easy_val.mat").write_text("hello")
    with pytest.raises(DataError, match=r"wider_easy_val.mat: not a readable .mat file"):
        read_wider_gt(tmp_path)


def test_files_of_different_releases(tmp_path):
    write_gt(tmp_path, keep=(3,))
    with pytest.raises(DataError, match="gt_list does not fit 0--Parade/x_1.jpg .* one release"):
        read_wider_gt(tmp_path)


def test_round_trip(tmp_path):
    written = {
        "0--Parade": {"x_1": rows([1, 2.5, 3, 4, 0.123456], [0, 0, 1, 1, 1]), "none": np.zeros((0, 5))}
    }
    write_predictions(written, tmp_path)
    text = (tmp_path / "0--Parade" / "x_1.txt").read_text()
    assert text.splitlines() == [
        "0--Parade/x_1.jpg",
        "2",
        "1.00000 2.50000 3.00000 4.00000 0.123456",
        "0.00000 0.00000 1.00000 1.00000 1",
    ]
    read = read_predictions(tmp_path)["0--Parade"]
    assert np.array_equal(read["x_1"], written["0--Parade"]["x_1"])
    assert read["none"].shape == (0, 5)


def test_trailing_blanks_are_tolerated(tmp_path):
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "jpg.txt").write_text("jpg\n1\n1 2 3 4 0.5 \n")
    assert read_predictions(tmp_path)["e"]["jpg"].tolist() == [[1, 2, 3, 4, 0.5]]


@pytest.mark.parametrize("text", ["", "name\n", "name\n2\n1 2 3 4 0.5\n", "name\n1\n1 2 x 4 0.5\n"])
def test_bad_prediction_file_is_named(tmp_path, text):
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "a.txt").write_text(text)
    with pytest.raises(DataError, match=r"e/a.txt: .*Expected: name, count"):
        read_predictions(tmp_path)


def test_empty_folder(tmp_path):
    with pytest.raises(DataError, match="no EVENT/NAME.txt"):
        read_predictions(tmp_path / "none")


def test_images_missing_from_the_labels_are_named():
    gt = [image([], name="x_1"), image([], name="x_2"), image([], name="x_3")]
    require_images(gt, ["e/x_1.jpg", "e/x_2.png", "e/x_3.jpg", "more/y.jpg"], "labelv2.txt")
    with pytest.raises(DataError, match="labelv2.txt lacks 2 of the 3 images .* the first: e/x_2"):
        require_images(gt, ["e/x_1.jpg", "f/x_2.jpg"], "labelv2.txt")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("0--Parade/x.y.jpg", ("0--Parade", "x.y")),
        ("a/b/x.jpg", ("a/b", "x")),
        ("x.jpg", ("images", "x")),
        ("e/x", ("e", "x")),
    ],
)
def test_split_name(name, parts):
    assert split_name(name) == parts
