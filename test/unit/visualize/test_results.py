"""results.csv read and written, and the plot made of it."""

import cv2
import pytest

from mmdet.errors import DataError
from mmdet.visualize.results import columns_of, draw_results, read_results, write_results

ROWS = [
    {"epoch": 1, "iter": 5, "time_s": 1.5, "lr": 0.1, "loss_cls": 2.0, "loss": 3.0},
    {"epoch": 2, "iter": 10, "time_s": 3, "lr": 0.1, "loss_cls": 1.0, "loss": 2.5, "AP_hard": 0.25},
]


def test_a_table_reads_back_and_figures_follow_the_losses(tmp_path):
    path = tmp_path / "results.csv"
    write_results(ROWS, path)
    assert path.read_text() == (
        "epoch,iter,time_s,lr,loss_cls,loss,AP_hard\n1,5,1.5,0.1,2,3,\n2,10,3,0.1,1,2.5,0.25\n"
    )
    assert read_results(path) == ROWS
    assert columns_of([{"AP": 1, "iter": 2, "loss": 3}]) == ["epoch", "iter", "time_s", "lr", "loss", "AP"]


@pytest.mark.parametrize("text", ["epoch,loss\n1,2\n", "iter\nx\n", "iter,loss\n1,2,3\n", "\x00"])
def test_another_table_is_none_of_ours(tmp_path, text):
    path = tmp_path / "results.csv"
    path.write_text(text)
    if text == "\x00":
        assert read_results(path) == []  # a header and no row
        return
    with pytest.raises(DataError, match="not a table that training wrote"):
        read_results(path)


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], [{"epoch": 0.5, "iter": 1}]])
def test_the_plot_is_an_image_whatever_is_missing(tmp_path, rows):
    draw_results(rows, ["AP_hard", "AP_none"], tmp_path / "results.png")
    assert cv2.imread(str(tmp_path / "results.png")).shape[1] == 1170
