"""What a run shows: table, curves, sheets; they change nothing and survive resuming. Early stopping."""

import pytest
from runs import QUIET, assert_same_state, make_options, train

from mmdet.visualize.results import read_results

PICTURES = [option.replace("=False", "=True").replace("=0", "=2") for option in QUIET]


@pytest.fixture(scope="module")
def shown(repo, faces, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("shown")
    train(make_options(repo, faces, work_dir, "total_epochs=2", *PICTURES))
    return work_dir


def test_a_run_leaves_table_curves_and_sheets(shown):
    files = {str(path.relative_to(shown)) for path in shown.rglob("*.*g")}
    assert files == {
        "results.png", "train_batch_0.jpg", "train_batch_1.jpg", "val/detections.jpg", "val/pr_curves.png",
        next(shown.glob("*.log")).name}  # fmt: skip
    rows = read_results(shown / "results.csv")
    assert [(row["epoch"], row["iter"]) for row in rows] == [(1, 5), (2, 10)]
    assert all({"lr", "time_s", "loss_cls", "loss_bbox", "loss", "AP_hard"} <= row.keys() for row in rows)


def test_pictures_change_no_bit_and_a_resumed_run_continues_the_table(repo, faces, tmp_path, shown):
    train(make_options(repo, faces, tmp_path, "total_epochs=2", max_iters=7))
    assert [row["iter"] for row in read_results(tmp_path / "results.csv")] == [5, 7]
    train(make_options(repo, faces, tmp_path, "total_epochs=2", resume_from="auto"))
    assert_same_state(tmp_path / "latest.pth", shown / "latest.pth")
    rows, wanted = read_results(tmp_path / "results.csv"), read_results(shown / "results.csv")
    assert [row["iter"] for row in rows] == [5, 7, 10]
    assert rows[-1]["loss"] == pytest.approx(wanted[-1]["loss"], rel=1e-5)  # of the whole epoch
    assert not list(tmp_path.glob("*.jpg")) and not (tmp_path / "results.png").exists()


def test_training_ends_when_the_figure_does_not_rise(repo, faces, tmp_path, capsys):
    frozen = ["optimizer.lr=1e-12", "evaluation.patience=2", "total_epochs=8"]
    figures = train(make_options(repo, faces, tmp_path, *frozen))
    assert figures["epochs"] == 3  # the first is the best; two more are not better
    told = "training ends here: AP_hard has not been better for 2 evaluations (evaluation.patience)"
    assert told in capsys.readouterr().out
    assert (tmp_path / "latest.pth").exists() and len(read_results(tmp_path / "results.csv")) == 3
    figures = train(make_options(repo, faces, tmp_path, *frozen, resume_from="auto"))
    assert figures["epochs"] == 3  # resuming does not go on
