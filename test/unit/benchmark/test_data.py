"""The plain pipeline and the product make the same batches from the same random numbers."""

import argparse

import cv2
import numpy as np
import pytest
import torch

from benchmark import data

POINTS = [(5, 5), (15, 5), (10, 10), (6, 15), (14, 15)]


@pytest.fixture
def pictures(tmp_path):
    """Return (label file, folder): JPEG files of several shapes with faces and keypoints."""
    rng = np.random.RandomState(0)
    lines = []
    for number, (height, width) in enumerate([(96, 160), (160, 96), (120, 120)]):
        small = rng.randint(0, 256, (height // 8, width // 8, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), cv2.resize(small, (width, height)))
        lines.append(f"# {number}.jpg {width} {height}")
        for _ in range(4):
            x, y = rng.uniform(5, width - 40), rng.uniform(5, height - 40)
            points = " ".join(
                f"{x + dx} {y + dy} 1" for dx, dy in [(5, 5), (15, 5), (10, 10), (6, 15), (14, 15)]
            )
            lines.append(f"{x} {y} {x + 20} {y + 24} {points}")
    (tmp_path / "label.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "label.txt", tmp_path


@pytest.mark.parametrize("clip", [True, False])
def test_baseline_and_product_give_the_same_batch(pictures, clip):
    dataset = data.make_dataset(*pictures, data.pipeline(size=64, clip=clip))
    recipe = data.baseline_recipe(size=64, clip=clip)
    for epoch in range(12):
        ids = [(epoch, index) for index in range(3)]
        batch = data.product_batch(dataset, ids)
        images, bboxes, kps = data.baseline_batch(dataset, ids, recipe)
        assert torch.equal(batch.images, images)
        for row in range(3):
            valid = batch.gt_valid[row].numpy()
            np.testing.assert_array_equal(batch.gt_bboxes[row].numpy()[valid], bboxes[row])
            np.testing.assert_array_equal(batch.gt_kps[row].numpy()[valid], kps[row])


@pytest.mark.slow
def test_the_command_compares_all_variants(pictures, tmp_path, repo):
    label, folder = pictures
    config = tmp_path / "config.py"
    config.write_text(
        f"_base_ = {str(repo / 'configs/scrfd/scrfd_500m.py')!r}\n"
        f"data = dict(train=dict(ann_file={str(label)!r}, img_prefix={str(folder)!r}))\n"
    )
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    figures = data.run(parser.parse_args([str(config), "--images", "3", "--rounds", "1"]))
    variants = {"product", "cached", "raw", "raw_cached"}
    assert figures["equal_to_baseline"]
    assert set(figures["images_per_s_and_core"]) == {"baseline", *variants}
    assert set(figures["images_per_s_and_worker"]) == set(figures["ratio"]) == variants
    assert "PhotoMetricDistortion" in figures["ms_per_image"]["product"]
    assert "PhotoMetricDistortion" not in figures["ms_per_image"]["raw"]
    assert min(figures["images_per_s_and_worker"].values()) > 0
