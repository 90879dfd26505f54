"""Faces without an anchor, counted in a batch whose answer is known."""

import argparse

import numpy as np
import pytest
import torch

from benchmark import unassigned
from mmdet.config import load_config
from mmdet.core.assigners import assign_ahead
from mmdet.core.structures import Batch
from mmdet.models.build import build_criterion


def batch_of(faces, assign):
    faces = torch.tensor([faces + [[0.0] * 4]])
    valid = torch.arange(faces.shape[1])[None] < faces.shape[1] - 1
    batch = Batch(
        images=torch.zeros(1, 3, 64, 64),
        gt_bboxes=faces,
        gt_labels=torch.zeros_like(valid, dtype=torch.int64),
        gt_kps=torch.zeros(1, faces.shape[1], 5, 3),
        gt_valid=valid,
        gt_ignore=~valid & False,
        valid_hw=torch.tensor([[64, 64]]),
    )
    batch.assigned = assign(batch)
    return batch


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [2, 2, 2, 0]),
        (["train_cfg.assigner.ignore_unassigned=True"], [2, 2, 0, 0]),
        (["train_cfg.assigner.min_face_px=3.0"], [2, 0, 0, 2]),
    ],
)
def test_two_faces_between_the_cells(repo, options, expected):
    cfg = load_config(repo / "configs/scrfd/scrfd_500m.py", options)
    assign = assign_ahead(build_criterion(cfg.model, cfg.train_cfg))
    counts = unassigned.count(batch_of([[17, 17, 20.5, 20.5], [41, 41, 44.5, 44.5], [8, 8, 40, 40]], assign))
    assert counts[:, 0].tolist() == expected and counts[0, 8] == 1 and counts[1, 8] == 0


def test_the_command_counts_all_faces(repo, tmp_path):
    (tmp_path / "images").mkdir()  # and stays empty
    faces = "\n".join(f"{10 * k} 10 {10 * k + 6} 16" + " 0" * 15 for k in range(1, 6))
    (tmp_path / "label.txt").write_text(f"# a.jpg 100 80\n{faces}\n")
    parser = argparse.ArgumentParser()
    unassigned.add_arguments(parser)
    data = [f"data.train.ann_file={tmp_path}/label.txt", f"data.train.img_prefix={tmp_path}/images"]
    for config in ("scrfd_500m_bnkps", "scrfd_500m_bnkps_aligned"):
        args = parser.parse_args([str(repo / f"configs/recipes/{config}.py"), "--cfg-options", *data])
        figures = unassigned.run(args)
        assert figures["images"] == 1 and figures["faces"] >= 1
        assert figures["background"] <= figures["without_anchor"]
        assert sum(row["share"] for row in figures["by_size"].values()) == pytest.approx(1)
        assert np.isfinite(figures["without_anchor"])
