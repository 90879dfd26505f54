import cv2
import numpy as np
from data_fixture import eval_transform, make_dataset, write_images

from mmdet.datasets.draw import draw_sample, write_samples
from mmdet.datasets.faces import FacesDataset
from mmdet.datasets.transforms import make_sample


def test_faces_are_green_ignore_boxes_gray_and_known_points_red():
    sample = make_sample(np.zeros((40, 40, 3), np.uint8)).replace(
        gt_bboxes=np.array([[5, 5, 15, 15]], np.float32),
        gt_bboxes_ignore=np.array([[20, 20, 30, 30]], np.float32),
        gt_kps=np.array([[[10, 10, 1], [35, 35, 0]]], np.float32),
    )
    drawn = draw_sample(sample)
    assert drawn[5, 10].tolist() == [0, 255, 0]
    assert drawn[20, 25].tolist() == [160, 160, 160]
    assert drawn[10, 10].tolist() == [0, 0, 255]
    assert drawn[35, 35].tolist() == [0, 0, 0] and (sample.image == 0).all()


def test_drawns_of_both_splits(tmp_path):
    write_images(tmp_path / "d", 5)
    files = write_samples(make_dataset(tmp_path / "d"), tmp_path / "out", num=3)
    assert [f.name for f in files] == ["0000_0.jpg", "0001_2.jpg", "0002_4.jpg"]
    assert cv2.imread(str(files[1])).std() > 20
    paths = tmp_path / "d" / "labelv2.txt", tmp_path / "d" / "images"
    val = FacesDataset(*paths, eval_transform(), test_mode=True)
    assert len(write_samples(val, tmp_path / "val", num=99)) == 5
