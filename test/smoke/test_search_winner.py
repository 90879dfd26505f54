"""The winner of a 500M DDSAR search trains 50 steps, exports, and detects from both files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from runs import make_options, train

from mmdet.apis import detect, init_detector
from mmdet.deploy.export.export_onnx import ExportOptions, export_checkpoint
from mmdet.deploy.runtime.session import open_model

REPO = Path(__file__).resolve().parents[2]
FAST = ["optimizer.type=AdamW", "optimizer.lr=0.002", "optimizer.momentum=None", "total_epochs=20"]
FAST += ["data.train.pipeline.3.img_scale=(64,64)"]


@pytest.mark.slow
def test_the_winner_of_a_500m_search_trains_exports_and_detects(faces, tmp_path):
    command = [sys.executable, "tools/ddsar_search.py", "configs/search/ddsar_500m.py", "--rounds", "2000"]
    done = subprocess.run([*command, "--out", tmp_path / "ddsar"], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    config = tmp_path / "ddsar" / "ddsar_500m_seed0.py"
    structure = (tmp_path / "ddsar" / "best_structure.txt").read_text().strip()
    assert structure in done.stdout

    options = make_options(REPO, faces, tmp_path / "run", *FAST, max_iters=50, no_validate=True)
    figures = train(type(options)(**{**vars(options), "config": str(config)}))
    assert figures["iters"] == 50 and np.isfinite(figures["loss"])

    model = init_detector(config, tmp_path / "run/latest.pth", device="cpu")
    assert model.backbone.out_indices
    image = np.full((128, 160, 3), 90, np.uint8)
    (found,) = detect(model, [image])
    exported = export_checkpoint(config, tmp_path / "run/latest.pth", tmp_path / "a.onnx", ExportOptions())
    del exported
    print(len(found), open_model(tmp_path / "a.onnx"))
