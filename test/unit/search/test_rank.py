"""Rank correlation, certainty, the search-validation split, latency and plots."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from mmdet.config import load_config
from mmdet.datasets.labels import read_labels
from mmdet.errors import ConfigError, DataError
from mmdet.models.plainnet.structure import parse
from mmdet.search.plot import plot_errors, plot_evolution, plot_stages
from mmdet.search.rank import (
    Candidate,
    certainty,
    correlations,
    nearest_structure,
    rank_correlations,
    read_candidates,
)
from mmdet.search.split import make_split

FLOPS = {
    "stem": 4,
    "layer1": 3,
    "layer2": 2,
    "layer3": 1,
    "layer4": 1,
    "backbone": 11,
    "neck": 4,
    "bbox_head": 5,
}


def candidate(index: int, *late: float) -> Candidate:
    aps = [{"AP_easy": late[-1], "AP_medium": late[-1], "AP_hard": late[-1]}]
    return Candidate(
        index, Path("config.py"), Path("run"), {k: v * 10**8 for k, v in FLOPS.items()}, aps, aps, list(late)
    )


def test_rank_correlations_of_four_pairs():
    rho, tau = rank_correlations([1, 2, 3, 4], [10, 30, 20, 40])
    assert rho[0] == pytest.approx(0.8)  # 1 - 6 * (0 + 1 + 1 + 0) / (4 * 15)
    assert tau[0] == pytest.approx(2 / 3)  # five of six pairs in order, one not
    assert all(low < value <= high for value, low, high in (rho, tau))
    assert rank_correlations([1, 2, 3, 4, 5], [5, 4, 3, 2, 1])[:, 0] == pytest.approx(-1)
    assert rank_correlations([1, 1, 2], [3, 3, 5])[:, 0] == pytest.approx(1)  # ties share a rank
    assert np.isnan(rank_correlations([1, 1, 1], [1, 2, 3])).all()


def test_rank_correlations_are_those_of_scipy():
    x, y = np.random.default_rng(0).integers(6, size=(2, 12)).astype(float)
    expected = [stats.spearmanr(x, y).statistic, stats.kendalltau(x, y).statistic]
    assert rank_correlations(x, y)[:, 0] == pytest.approx(expected)


def test_certainty_is_the_share_of_resampled_wins():
    clear = certainty([candidate(0, 0.9, 0.92), candidate(1, 0.5, 0.52)])
    assert clear == [1, 0]
    close = certainty([candidate(0, 0.4, 0.6), candidate(1, 0.41, 0.59)])
    # means .4 .5 .6 and .41 .5 .59, with 1/4 1/2 1/4: the first wins with .6, and with .5 except against .59
    assert close is not None and close[0] == pytest.approx(1 / 4 + 1 / 2 * 3 / 4, abs=0.02)
    assert certainty([candidate(0, 0.5), candidate(1, 0.4)]) is None


def test_an_empty_study_says_so():
    with pytest.raises(ConfigError, match="no finished training"):
        read_candidates(SimpleNamespace(get_trials=lambda **_: []), "AP_hard")


def test_total_of_a_candidate():
    assert candidate(0, 0.5).gflops == pytest.approx(2.0)


def test_the_nearest_plain_net_of_a_backbone(repo):
    expected = {
        "damofd/DamoFD_0.5g": "SuperConvK3BNRELU(3,32,2,1) SuperResIDWE1K3(32,32,2,8,1) "
        "SuperResIDWE1K7(32,64,2,40,1) SuperResIDWE1K7(64,120,2,40,2) SuperResIDWE1K5(120,160,2,120,1)",
        "scrfd/scrfd_2.5g": "SuperConvK3BNRELU(3,24,2,3) SuperResK3K3(24,24,2,24,3) "
        "SuperResK3K3(24,48,2,48,5) SuperResK3K3(48,48,2,48,3) SuperResK3K3(48,80,2,80,2)",
        "scrfd/scrfd_500m": "SuperConvK3BNRELU(3,16,2,1) SuperResIDWE1K3(16,40,2,40,1) "
        "SuperResIDWE1K3(40,72,2,72,2) SuperResIDWE1K3(72,152,2,152,1) SuperResIDWE1K3(152,288,2,288,3)",
        "scrfd/scrfd_34g": "SuperConvK3BNRELU(3,56,2,3) SuperResK1K3K1(56,224,2,56,9) "
        "SuperResK1K3K1(224,224,2,56,8) SuperResK1K3K1(224,576,2,144,1) SuperResK1K3K1(576,736,2,184,4)",
    }
    for name, text in expected.items():
        backbone = load_config(repo / f"configs/{name}.py").model["backbone"]
        assert " ".join(map(str, nearest_structure(backbone))) == text


def test_correlations_name_four_scores(repo, tmp_path):
    some = [candidate(n, ap) for n, ap in enumerate((0.5, 0.4, 0.3))]
    for one, name in zip(some, ("scrfd_2.5g", "scrfd_500m", "scrfd_1g"), strict=True):
        one.config = repo / f"configs/scrfd/{name}.py"
    title, _, *rows = correlations(some, "AP_hard").splitlines()
    assert title.startswith("| score, 3 candidates |")
    assert [row.split()[1] for row in rows] == ["ddsar", "flops", "naswot", "zen"]


def test_plots_are_small_files(tmp_path):
    some = [candidate(0, 0.5, 0.6), candidate(1, 0.4, 0.5)]
    plot_stages(some, "AP_hard", tmp_path / "a.png")
    plot_errors({"one": [0.5, 0.6], "two": [0.4]}, tmp_path / "b.png")
    plot_evolution([(500, 2.0, 1.0, 10), (1000, 3.0, 2.0, 20)], tmp_path / "c.png", "ddsar")
    plot_evolution([], tmp_path / "d.png", "ddsar")
    for name in "abcd":
        assert 1000 < (tmp_path / f"{name}.png").stat().st_size < 100_000


def write_labels(path, num_images: int) -> None:
    path.write_text("".join(f"# ev/{i}.jpg 100 80\n10 10 {30 + i % 9} 60 0\n" for i in range(num_images)))


def test_split_is_fixed_disjoint_and_complete(tmp_path):
    write_labels(tmp_path / "labels.txt", 400)
    split = make_split(str(tmp_path / "labels.txt"), str(tmp_path), 0.1, tmp_path / "a")
    again = make_split(str(tmp_path / "labels.txt"), str(tmp_path), 0.1, tmp_path / "b")
    assert split.val.read_text() == again.val.read_text()
    train, val = (set(read_labels(path, train=True).names) for path in (split.train, split.val))
    assert not train & val and len(train | val) == 400 and 20 < len(val) < 65
    assert (split.gt_dir / "wider_hard_val.mat").exists()
    assert f"data.test.ann_file={split.val}" in split.options()
    with pytest.raises(DataError, match="leave one part empty"):
        make_split(str(tmp_path / "labels.txt"), str(tmp_path), 0.0, tmp_path / "c")


@pytest.mark.slow
def test_latency_grows_with_the_network(repo):
    pytest.importorskip("onnxruntime")
    from mmdet.search.latency import backbone_latency, count_params, latency_ms

    tiny = load_config(repo / "configs/toy/scrfd_tiny_toy.py").model
    assert count_params(tiny) < 50_000
    assert 0 < latency_ms(tiny, (64, 96)) < latency_ms(tiny, (480, 640))
    small = parse("SuperConvK3BNRELU(3,8,2,1)SuperResK3K3(8,16,2,8,1)")
    assert backbone_latency(small, 32) < backbone_latency(small, 256)
