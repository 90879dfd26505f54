"""tools/test_widerface.py from end to end, on a handful of drawn images."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from mmdet.apis import init_detector
from mmdet.datasets.toy.faces import write_toy_faces
from mmdet.errors import CheckpointError, ConfigError, DataError, MMDetError
from mmdet.evaluation import read_predictions, wider_evaluation
from mmdet.evaluation.run import evaluate_checkpoint

CONFIG = "configs/scrfd/scrfd_500m_bnkps.py"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    write_toy_faces(folder, train=0, val=5, size=(96, 128))
    return folder


@pytest.fixture(scope="module")
def checkpoint(repo, tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "latest.pth"
    torch.save({"meta": {}, "state_dict": init_detector(repo / CONFIG, device="cpu").state_dict()}, path)
    return path


@pytest.fixture
def run(repo, toy, checkpoint, tmp_path):
    def call(folder=toy, weights=checkpoint, **kwargs):
        options = {"mode": 128, "score_thr": 0.001, "workers": 0, "device": "cpu", **kwargs}
        options["cfg_options"] = [f"data_root={folder}/", *options.get("cfg_options", ())]
        return evaluate_checkpoint(repo / CONFIG, weights, tmp_path / "out", **options)

    return call


def test_prints_and_writes(run, toy, tmp_path, capsys):
    result = run(save_preds=True)
    assert capsys.readouterr().out.startswith("APS: [")
    out = tmp_path / "out"
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["AP_hard"] == result["AP_hard"] and metrics["num_images"] == 5 and metrics["mode"] == 128
    assert metrics["num_detections"] > 0 and (out / "pr_curves.png").stat().st_size > 5000
    written = read_predictions(out)
    assert sum(len(images) for images in written.values()) == 5
    assert wider_evaluation(written, toy / "val" / "gt") == pytest.approx(
        [result[f"AP_{name}"] for name in ("easy", "medium", "hard")], abs=0.02, nan_ok=True
    )


def test_figures_do_not_depend_on_the_batch_size(run):
    one, many = run(mode=2), run(mode=2, batch_size=3)
    assert one["num_detections"] == many["num_detections"]


def test_metrics_are_those_asked_for(run, tmp_path, capsys):
    figures = run(metrics=("mAP",))
    assert set(figures) == {"mAP", "AP50", "AP75", "AP50:95", "AR50:95"}
    assert capsys.readouterr().out.startswith("mAP ")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"metrics.json", "pr_curves_mAP.png"}
    with pytest.raises(
        ConfigError, match="metric = 'map' is unknown. Known: heights, mAP, retinaface, wider"
    ):
        run(metrics=("map",))


def test_without_gt_the_labels_give_the_same_figures(run, toy, tmp_path, caplog):
    want = run()
    assert run(broken_copy(toy, tmp_path, "gt")) == pytest.approx(want, nan_ok=True)
    assert "no ground truth in" in caplog.text


def broken_copy(toy, tmp_path, name):
    folder = tmp_path / "broken"
    shutil.copytree(toy, folder)
    path = folder / "val" / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gt/wider_face_val.mat", "wider_face_val.mat: no such file"),
        ("images", "img_prefix"),
        ("labelv2.txt", "ann_file"),
    ],
)
def test_what_the_data_folder_lacks_is_named(run, toy, tmp_path, name, message):
    with pytest.raises(DataError, match=message):
        run(broken_copy(toy, tmp_path, name))
    assert not (tmp_path / "out").exists()


def test_gt_of_another_data_set(run, toy, tmp_path):
    write_toy_faces(tmp_path / "other", train=0, val=7, size=(96, 128))
    with pytest.raises(DataError, match="labelv2.txt lacks 2 of the 7 images"):
        run(gt_dir=tmp_path / "other" / "val" / "gt")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"mode": 7}, ConfigError),
        ({"batch_size": 0}, ConfigError),
        ({"weights": "/none.pth"}, CheckpointError),
        ({"cfg_options": ["data.test.tpye=1"]}, MMDetError),
    ],
)
def test_mistakes_write_nothing(run, tmp_path, change, error):
    with pytest.raises(error):
        run(**change)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_command_line(repo, tmp_path):
    tool = [sys.executable, str(repo / "tools" / "test_widerface.py")]
    answer = subprocess.run([*tool, "--help"], capture_output=True, text=True, check=True)
    assert "--save-preds" in answer.stdout
    answer = subprocess.run([*tool, "none.py", "none.pth"], capture_output=True, text=True, cwd=tmp_path)
    assert answer.returncode == 2 and "Traceback" not in answer.stderr
    assert answer.stderr.startswith("ConfigError: ") and not (tmp_path / "wouts").exists()
