"""Own data that once misled or ended a run: cases of training (B20 to B42), and more inputs of their kind.

What concerns the reading of labels alone is in test/unit/datasets/labels/test_cases.py.
"""

import shutil

import numpy as np
import pytest
from runs import make_options, train

from mmdet.checkpoint.keys import load_weights
from mmdet.config import load_config
from mmdet.datasets.build import build_dataset
from mmdet.errors import CheckpointError, ConfigError, DataError
from mmdet.models.build import build_detector


@pytest.fixture
def own(faces, tmp_path):
    """Return a copy of the drawn faces to spoil."""
    return shutil.copytree(faces, tmp_path / "data")


def rewrite(path, change):
    """Replace the face lines of a label file: change(values, width, height) -> text."""
    lines, size = [], (1.0, 1.0)
    for line in path.read_text().splitlines():
        if line[0] == "#":
            size = tuple(float(word) for word in line.split()[-2:])
        else:
            line = change([float(word) for word in line.split()], *size)
        lines.append(line)
    path.write_text("\n".join(lines) + "\n")


def normalised(values, width, height):
    x1, y1, x2, y2 = values[:4]
    return f"{x1 / width:.5f} {y1 / height:.5f} {x2 / width:.5f} {y2 / height:.5f} 0"


@pytest.mark.parametrize(
    ("split", "where"), [("train", "train/labelv2.txt"), ("val", "--no-validate trains")]
)
def test_b26_normalised_boxes_end_a_run_before_it_begins(repo, own, tmp_path, split, where):
    rewrite(own / split / "labelv2.txt", normalised)
    with pytest.raises(DataError, match=f"normalised coordinates.*{where}"):
        train(make_options(repo, own, tmp_path / "w", max_iters=1))
    assert not (tmp_path / "w").exists()


def test_b27_points_at_zero_teach_nothing(repo, own, tmp_path, capsys):
    rewrite(own / "train/labelv2.txt", lambda v, w, h: " ".join(f"{x:g}" for x in v[:4]) + " 0 0 0" * 5)
    figures = train(make_options(repo, own, tmp_path / "w", max_iters=1, validate=False))
    printed = capsys.readouterr().out
    assert "have all points at 0 0, which are taken as not annotated" in printed
    assert "loss_kps: 0.0000" in printed and figures["loss"] > 0


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-2], lambda data: b"", lambda data: data[: len(data) // 3]]
)
def test_b28_one_bad_image_is_told_and_replaced(repo, own, tmp_path, capsys, spoil):
    dataset = build_dataset(
        load_config(repo / "configs/scrfd/scrfd_500m_bnkps.py", [f"data_root={own}"]).data.train
    )
    bad = dataset.path(0)
    bad.write_bytes(spoil(bad.read_bytes()))
    figures = train(make_options(repo, own, tmp_path / "w", "total_epochs=1", validate=False))
    assert figures["epochs"] == 1 and f"unreadable: {dataset.name(0)}" in capsys.readouterr().out


def test_b33_several_label_files(repo, own, tmp_path):
    shutil.copytree(own / "train", own / "more")
    files, folders = (
        [f"{own}/{name}/{what}" for name in ("train", "more")] for what in ("labelv2.txt", "images")
    )
    lists = [f"data.train.ann_file=[{','.join(files)}]", f"data.train.img_prefix=[{','.join(folders)}]"]
    train(make_options(repo, own, tmp_path / "w", *lists, max_iters=1, validate=False))
    with pytest.raises(ConfigError, match="3 ann_file, but 2 img_prefix"):
        three = f"data.train.ann_file=[{','.join([*files, files[0]])}]"
        train(make_options(repo, own, tmp_path / "x", three, lists[1], max_iters=1))


def test_b40_another_optimizer_is_refused_and_a_folder_named(repo, own, tmp_path):
    def run(optimizer, **others):
        kind = ["optimizer._delete_=True", f"optimizer.type={optimizer}", "optimizer.lr=0.001"]
        return train(make_options(repo, own, tmp_path / "w", *kind, validate=False, max_iters=2, **others))

    run("AdamW")
    for optimizer in ("SGD", "RMSprop", "Adagrad"):
        with pytest.raises(CheckpointError, match=f"another than this run's {optimizer}.*--load-from"):
            run(optimizer, resume_from="auto")
    assert run("AdamW", resume_from=str(tmp_path / "w"))["iters"] == 2  # a folder: its newest
    with pytest.raises(CheckpointError, match="data: a folder without latest.pth"):
        run("AdamW", resume_from=str(own))


@pytest.mark.parametrize(
    ("config", "options", "lost"),
    [
        ("scrfd_500m_bnkps", ["model.bbox_head.num_classes=2"], "6 of another shape or type"),
        ("scrfd_500m_bnkps", ["model.bbox_head.num_kps=3"], "6 of another shape or type"),
        ("scrfd_500m", [], "missing"),
    ],
)
def test_b42_published_weights_go_where_they_fit(repo, shared, config, options, lost, caplog):
    cfg = load_config(repo / f"configs/scrfd/{config}.py", options)
    (weights,) = (shared / "data/scrfd_pth").glob("*.pth")
    model = build_detector(cfg.model, cfg.train_cfg)
    with pytest.raises(CheckpointError, match="--load-fitting takes what fits"):
        load_weights(model, weights)
    report = load_weights(model, weights, strict=False)
    assert lost in report.describe() and "keys loaded" in caplog.text
    assert {key for key in model.state_dict() if key.startswith(("backbone.", "neck."))} <= set(
        report.fitting
    )
    assert all(np.isfinite(value.numpy()).all() for value in model.state_dict().values())
