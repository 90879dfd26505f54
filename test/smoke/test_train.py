"""Whole runs on the CPU: figures, files, speed measurement, what happens when something is wrong."""

import json
import re
import shutil

import pytest
import torch
from runs import EXPLODES, make_options, train

from mmdet.apis import init_detector
from mmdet.checkpoint import files as checkpoint
from mmdet.errors import CheckpointError, ConfigError, DataError, TrainError


def logged_losses(work_dir):
    (path,) = work_dir.glob("*.log.json")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {"env_info", "config", "seed", "exp_name"} <= lines[0].keys()
    return [line["loss"] for line in lines if line.get("mode") == "train"]


def test_loss_falls_on_a_few_drawn_images(repo, faces, tmp_path):
    fixed = ["data.train.pipeline.2.crop_choice=[1.0]", "data.train.pipeline.4.flip_ratio=0.0"]
    adam = ["optimizer._delete_=True", "optimizer.type=AdamW", "optimizer.lr=0.003"]
    epochs = ["data.samples_per_gpu=4", "total_epochs=10", "log_config.interval=100"]
    figures = train(make_options(repo, faces, tmp_path, *fixed, *adam, *epochs, validate=False))
    losses = logged_losses(tmp_path)
    assert len(losses) == figures["epochs"] == 10  # a line at the end of each epoch
    assert sum(losses[-3:]) / 3 < 0.8 * losses[0], losses


def test_a_run_leaves_its_files_and_figures(repo, faces, tmp_path, capsys):
    figures = train(
        make_options(repo, faces, tmp_path, "total_epochs=2", "checkpoint_config.max_keep_ckpts=1")
    )
    names = {path.name for path in tmp_path.iterdir()}
    assert {"epoch_2.pth", "latest.pth", "metrics.json", "scrfd_500m_bnkps.py"} <= names
    assert "epoch_1.pth" not in names
    assert json.loads((tmp_path / "metrics.json").read_text()) == figures
    assert figures["AP_hard"] is not None and figures["fps"] > 0 and figures["loss"] > 0
    assert figures["batch_size"] == 2 and figures["world_size"] == 1 and figures["device"] == "cpu"
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if "Epoch [1][2/" in line)
    words = line.split()
    assert words[13] == "time:" and float(words[14].rstrip(",")) > 0  # awk '{print $15}'
    assert words[-4] == "loss:" and float(words[-3].rstrip(",")) > 0  # awk '{print $(NF-2)}'
    assert "scale" not in line
    assert re.search(r" \* FPS@all [\d.]+, TIME@all [\d.]+", printed)
    assert "Epoch(val) [2]" in printed and "AP_easy" in printed


def test_the_checkpoint_is_one_for_users(repo, faces, tmp_path):
    train(make_options(repo, faces, tmp_path, "total_epochs=1", validate=False))
    content = checkpoint.load(tmp_path / "latest.pth")
    assert content["meta"]["epoch"] == 1 and content["meta"]["iter"] == content["position"]["iter"]
    assert content["meta"]["CLASSES"] == ("FG",) and "model = dict(" in content["meta"]["config"]
    assert all(v.dtype in (torch.float32, torch.int64) for v in content["state_dict"].values())
    model = init_detector(repo / "configs/scrfd/scrfd_500m_bnkps.py", tmp_path / "latest.pth", "cpu")
    assert set(model.state_dict()) == set(content["state_dict"])


def test_perf_measures_and_saves_nothing(repo, faces, tmp_path):
    figures = train(make_options(repo, faces, tmp_path, perf=True, max_iters=9))
    assert figures["iters"] == 9 and figures["fps_iters"] == 4  # without the first 5
    assert figures["fps"] == pytest.approx(figures["fps_per_rank"]) and figures["AP_hard"] is None
    assert not list(tmp_path.glob("*.pth"))


def test_a_schedule_that_does_not_fit_is_told_and_auto_fits(repo, faces, tmp_path, capsys):
    short = dict(validate=False, max_iters=1)
    train(make_options(repo, faces, tmp_path / "a", "total_epochs=1", **short))
    told = "this run ends at iter 5, but the rate first falls at iter 2200; --epochs N scales a recipe"
    assert capsys.readouterr().out.count(told) == 1
    train(make_options(repo, faces, tmp_path / "b", epochs=20, **short))
    train(make_options(repo, faces, tmp_path / "c", epochs=100, schedule="auto", **short))
    assert "this run ends" not in capsys.readouterr().out
    (path,) = (tmp_path / "c").glob("*.log.json")
    line = next(row for row in map(json.loads, path.read_text().splitlines()) if row.get("mode") == "train")
    assert line["lr"] == pytest.approx(0.01 * 2 / 64 * 0.1)  # for 2 images per step; the warm-up's start


def test_max_iters_ends_inside_an_epoch_with_everything_saved(repo, faces, tmp_path):
    figures = train(make_options(repo, faces, tmp_path, "total_epochs=9", max_iters=3))
    assert figures["iters"] == 3 and figures["epochs"] == 0 and figures["AP_easy"] is not None
    assert checkpoint.load(tmp_path / "latest.pth")["position"]["iter"] == 3


def test_load_from_starts_at_the_weights_but_not_at_the_iteration(repo, faces, tmp_path):
    train(make_options(repo, faces, tmp_path / "a", "total_epochs=1", validate=False))
    still = ["optimizer.lr=1e-12", "optimizer.weight_decay=0.0"]
    train(
        make_options(
            repo,
            faces,
            tmp_path / "b",
            *still,
            validate=False,
            max_iters=1,
            load_from=str(tmp_path / "a/latest.pth"),
        )
    )
    one, two = (checkpoint.load(tmp_path / name / "latest.pth") for name in "ab")
    assert two["position"]["iter"] == 1
    for name, value in one["state_dict"].items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(value, two["state_dict"][name], atol=1e-6, rtol=0)


def test_a_loss_that_is_not_finite_ends_the_run(repo, faces, tmp_path):
    options = make_options(repo, faces, tmp_path, *EXPLODES, "total_epochs=5", validate=False)
    with pytest.raises(
        TrainError, match=r"loss_\w+ is (nan|inf).* at iter \d+, rank 0 .*(No|Last) checkpoint"
    ):
        train(options)
    for path in tmp_path.glob("*.pth"):  # whatever was saved is good
        state = checkpoint.load(path)["state_dict"]
        assert all(torch.isfinite(v).all() for v in state.values())


@pytest.mark.parametrize("amp", ["O0", "O1", "O2"])
def test_every_precision_trains(repo, faces, tmp_path, amp):
    options = make_options(
        repo, faces, tmp_path, "amp.dtype=bfloat16", "ema.warm_up=10", amp=amp, max_iters=3, validate=False
    )
    assert train(options)["amp"].startswith(amp)
    content = checkpoint.load(tmp_path / "latest.pth")
    assert all(v.dtype in (torch.float32, torch.int64) for v in content["state_dict"].values())
    assert content["ema"]["num_updates"] == 3


def test_without_gt_the_labels_say_which_faces_are_easy(repo, faces, tmp_path, capsys):
    data = tmp_path / "own"
    shutil.copytree(faces, data)
    shutil.rmtree(data / "val/gt")
    options = make_options(repo, data, tmp_path / "out", "total_epochs=1")
    assert train(options)["AP_hard"] is not None
    assert "no ground truth in" in capsys.readouterr().out


def refused(options, error, match, work_dir):
    with pytest.raises(error, match=match):
        train(options)
    assert not work_dir.exists(), "nothing is written"


def test_bad_input_is_refused_before_anything_is_written(repo, faces, tmp_path):
    out = tmp_path / "out"
    refused(make_options(repo, tmp_path / "nowhere", out), DataError, "does not exist", out)
    no_val = make_options(repo, faces, out, f"data.val.ann_file={tmp_path}/no.txt")
    refused(no_val, DataError, "no.txt does not exist", out)
    no_gt = make_options(repo, faces, out, f"evaluation.gt_dir={tmp_path}")
    refused(no_gt, DataError, str(tmp_path), out)
    best = make_options(repo, faces, out, "evaluation.save_best=AP_hrad")
    refused(best, ConfigError, "evaluation.save_best = 'AP_hrad' is unknown; did you mean 'AP_hard'", out)
    weights = make_options(repo, faces, out, load_from=str(tmp_path / "no.pth"))
    refused(weights, CheckpointError, "no.pth.* [Nn]o such file", out)
    resume = make_options(repo, faces, out, resume_from=str(tmp_path / "no.pth"))
    refused(resume, CheckpointError, "no.pth.* [Nn]o such file", out)
    scale = make_options(repo, faces, out, "auto_scale_lr=None", auto_scale_lr=True)
    refused(scale, ConfigError, "base_batch_size", out)


def test_work_dir_that_cannot_be_one_is_refused(repo, faces, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file is a file; choose another --work-dir"):
        train(make_options(repo, faces, tmp_path / "file/below"))
