from dataclasses import replace

import cv2
import numpy as np
import pytest
from data_fixture import eval_transform, make_dataset, write_images

from mmdet.datasets.faces import FacesDataset
from mmdet.datasets.labels import LABEL_READERS
from mmdet.datasets.labels.labelv2 import read_labelv2
from mmdet.errors import ConfigError, DataError


@pytest.fixture
def root(tmp_path):
    write_images(tmp_path / "d", 6)
    return tmp_path / "d"


def test_a_sample_depends_on_seed_epoch_and_index_only(root):
    one, other = make_dataset(root), make_dataset(root)
    other[(0, 1)], other[(7, 2)]
    assert np.array_equal(one[(3, 4)].image, other[(3, 4)].image)
    assert np.array_equal(one[2].image, other[(0, 2)].image)
    assert not np.array_equal(one[(3, 4)].image, one[(4, 4)].image)
    assert not np.array_equal(one[(3, 4)].image, make_dataset(root, seed=1)[(3, 4)].image)


def test_fields(root):
    dataset = make_dataset(root)
    assert len(dataset) == 6 and dataset.name(3) == "3.png" and dataset.CLASSES == ("FG",)
    assert dataset.group_flags.tolist() == [0, 1, 1, 0, 1, 1]
    sample = dataset[(0, 3)]
    assert sample.image.shape == (64, 64, 3) and sample.image.dtype == np.float32
    assert sample.name == "3.png" and sample.size_hw == (80, 60) and sample.notes == ()
    assert dataset.load(3).gt_bboxes.tolist() == [[5, 10, 25, 30], [8, 10, 28, 31]]


def test_missing_file_and_folder_are_named(root):
    with pytest.raises(DataError, match="ann_file .*absent.txt does not exist"):
        FacesDataset(root / "absent.txt", root / "images", None)
    with pytest.raises(DataError, match="img_prefix .*absent does not exist"):
        FacesDataset(root / "labelv2.txt", root / "absent", None)
    (root / "empty").mkdir()
    with pytest.raises(DataError, match=r"none of the first 6 images .* expected for example .*empty/0.png"):
        FacesDataset(root / "labelv2.txt", root / "empty", None)


def test_an_unreadable_image_is_replaced_by_the_next_and_named(root):
    (root / "images" / "4.png").write_bytes(b"broken")
    dataset = make_dataset(root)
    sample = dataset[(0, 4)]
    assert sample.name == "5.png"
    [note] = sample.notes
    assert (note.kind, note.name) == ("unreadable", "4.png") and "cannot be decoded" in note.detail
    assert np.array_equal(sample.image, make_dataset(root)[(0, 4)].image)


def test_the_last_image_is_replaced_by_the_first(root):
    (root / "images" / "5.png").unlink()
    assert make_dataset(root)[(0, 5)].name == "0.png"


def test_two_unreadable_images_in_a_row_of_six_stop(root):
    (root / "images" / "4.png").unlink()
    (root / "images" / "5.png").unlink()
    with pytest.raises(
        DataError, match="2 images in a row cannot be read; the first: image .*4.png: No such file"
    ):
        make_dataset(root)[(0, 4)]


def test_in_test_mode_an_unreadable_image_is_an_error(root):
    options = root / "labelv2.txt", root / "images", eval_transform()
    dataset = FacesDataset(*options, test_mode=True)
    (root / "images" / "4.png").unlink()
    with pytest.raises(DataError, match="1 of 6 images of .*labelv2.txt are missing, the first: .*4.png"):
        FacesDataset(*options, test_mode=True)
    with pytest.raises(DataError, match="4.png"):
        dataset[4]
    with pytest.raises(ConfigError, match="min_size"):
        FacesDataset(root / "labelv2.txt", root / "images", None, test_mode=True, min_size=3)


def test_a_size_other_than_the_label_says_is_noted(root):
    cv2.imwrite(str(root / "images" / "1.png"), np.zeros((30, 30, 3), np.uint8))
    [note] = make_dataset(root)[1].notes
    assert note.kind == "wrong size" and "30x30 px, the label file says 80x60" in note.detail


def test_test_sample_maps_back_to_the_file(root):
    dataset = FacesDataset(root / "labelv2.txt", root / "images", eval_transform(), test_mode=True)
    sample = dataset[0]
    assert sample.image.shape == (64, 64, 3) and sample.size_hw == (80, 60)
    assert sample.scale_xy == pytest.approx((48 / 60, 64 / 80))
    assert (sample.image[:, 48:] == 0).all()


def test_sizes_that_the_format_lacks_come_from_the_images(root, monkeypatch):
    def read_without_sizes(path, **options):
        labels = read_labelv2(path, **options)
        return replace(labels, sizes_hw=labels.sizes_hw * 0)

    want = make_dataset(root).group_flags.tolist()
    monkeypatch.setitem(LABEL_READERS, "sizeless", read_without_sizes)
    (root / "images" / "5.png").unlink()
    dataset = make_dataset(root, label_format="sizeless")
    assert dataset.sizes_hw.tolist() == [[80, 60], [60, 80], [60, 80], [80, 60], [60, 80], [0, 0]]
    assert dataset.group_flags.tolist() == [*want[:5], 0]
    assert dataset[3].notes == () and dataset[3].size_hw == (80, 60)


def resize_all(root, count):
    for i in range(count):
        cv2.imwrite(str(root / "images" / f"{i}.png"), np.zeros((30, 30, 3), np.uint8))


@pytest.mark.parametrize("test_mode", [True, False])
def test_labels_of_images_of_another_size_are_refused(root, test_mode, caplog):
    """B20 of the shared cases is the evaluation of images that are half as large as their labels say."""
    options = root / "labelv2.txt", root / "images", eval_transform()
    resize_all(root, 3)
    FacesDataset(*options, test_mode=test_mode)
    assert "wrong size: 3 of 6 probed images of " in caplog.text and "the boxes may not fit" in caplog.text
    resize_all(root, 4)
    with pytest.raises(
        DataError, match="wrong size: 4 of 6 .* 0.png has 30x30 px, the label file says 60x80"
    ):
        FacesDataset(*options, test_mode=test_mode)


def test_an_empty_validation_image_is_named_before_it_is_needed(root):
    (root / "images" / "5.png").write_bytes(b"")
    with pytest.raises(DataError, match="5.png is empty; .*labelv2.txt lists it"):
        FacesDataset(root / "labelv2.txt", root / "images", eval_transform(), test_mode=True)


def test_several_label_files_are_joined(root, tmp_path):
    write_images(tmp_path / "other", 3, faces_per_image=1)
    files, folders = (
        [folder / name for folder in (root, tmp_path / "other")] for name in ("labelv2.txt", "images")
    )
    dataset = FacesDataset(files, folders, eval_transform())
    assert len(dataset) == 9 and dataset.path(7) == tmp_path / "other/images/1.png"
    assert len(dataset.load(0).gt_bboxes) == 2 and len(dataset.load(7).gt_bboxes) == 1
    with pytest.raises(DataError, match="share image names"):
        FacesDataset(files, folders, eval_transform(), test_mode=True)
    with pytest.raises(ConfigError, match="2 ann_file, but 3 img_prefix"):
        FacesDataset(files, [*folders, root], eval_transform())
    assert len(FacesDataset(files[:1], folders[:1], eval_transform())) == 6


def test_a_class_reaches_the_sample(root):
    text = (root / "labelv2.txt").read_text().replace(" 0\n", f"{' -1' * 15} 0.5 1\n")
    (root / "labelv2.txt").write_text(text)
    dataset = make_dataset(root, classes=("mask", "none"))
    assert dataset.load(0).gt_labels.tolist() == [1, 1] and dataset.CLASSES == ("mask", "none")
