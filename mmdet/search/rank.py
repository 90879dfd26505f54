"""Results of a study: the table, the best candidate and how certain that is, rank correlations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmdet.config import load_config
from mmdet.errors import ConfigError
from mmdet.models.plainnet.structure import Block, Structure, parse
from mmdet.search.cost import STAGES, resnet_stages
from mmdet.search.score import ddsar
from mmdet.search.study import SETTINGS

RESAMPLES = 10_000
LATE = 0.5  # evaluations after this share of the epochs count for the certainty


@dataclass
class Candidate:
    """All trainings of one candidate.

    Attributes:
        index, config: number and config file.
        flops: per part, see cost.model_flops.
        aps: of each seed: easy, medium, hard of the data that decides.
        reported: likewise of data.test.
        late: the deciding AP of each seed's evaluations in the later half of training, the last included.
    """

    index: int
    config: Path
    flops: dict[str, int]
    aps: list[dict[str, float]] = field(default_factory=list)
    reported: list[dict[str, float]] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    @property
    def gflops(self) -> float:
        """Return the total."""
        return sum(self.flops[part] for part in ("backbone", "neck", "bbox_head")) / 1e9

    def mean(self, key: str) -> float:
        """Return the mean over seeds of one AP of the data that decides."""
        return float(np.mean([aps[key] for aps in self.aps]))


def read_candidates(study: Any, select_by: str) -> list[Candidate]:
    """Return the candidates with a finished training, best first."""
    found: dict[int, Candidate] = {}
    for trial in study.get_trials(deepcopy=False):
        notes = trial.user_attrs
        if trial.state.name != "COMPLETE":
            continue
        index = notes["candidate"]
        one = found.setdefault(index, Candidate(index, Path(notes["config"]), notes["flops"]))
        one.aps.append(notes["aps"])
        one.reported.append(notes["reported"])
        last = max((epoch for epoch, _ in notes["evaluations"]), default=0)
        one.late += [aps[select_by] for epoch, aps in notes["evaluations"] if LATE * last < epoch < last]
        one.late.append(notes["aps"][select_by])
    return sorted(found.values(), key=lambda one: -one.mean(select_by))


def best_candidate(candidates: Sequence[Candidate]) -> Candidate:
    """Return the first of `read_candidates`.

    Raises:
        ConfigError: no training is finished.
    """
    if not candidates:
        raise ConfigError("the study has no finished training yet; `search.py status` says how far it is")
    return candidates[0]


def certainty(candidates: Sequence[Candidate], seed: int = 0) -> list[float] | None:
    """Return each candidate's share of bootstrap resamples in which its mean AP is the highest.

    Resampled are the values of `Candidate.late`: seeds, and evaluations of the later epochs. None if every
    candidate has only one value. Differences by the choice of images are not part of it.
    """
    if all(len(one.late) < 2 for one in candidates):
        return None
    rng = np.random.default_rng(seed)
    means = [rng.choice(one.late, (RESAMPLES, len(one.late))).mean(axis=1) for one in candidates]
    winners = np.argmax(means, axis=0)
    return [float(np.mean(winners == index)) for index in range(len(candidates))]


def table(candidates: Sequence[Candidate]) -> str:
    """Return the results as a Markdown table, best first."""
    shares = certainty(candidates)
    lines = ["| candidate | GFLOPs | stem / stages (M) | neck | head | AP easy / medium / hard | best in |"]
    lines.append("|--:|--:|---|--:|--:|---|--:|")
    for rank, one in enumerate(candidates):
        stages = " / ".join(f"{one.flops[name] / 1e6:.1f}" for name in STAGES if name in one.flops)
        parts = " | ".join(f"{one.flops[name] / 1e6:.1f}" for name in ("neck", "bbox_head"))
        aps = " / ".join(f"{one.mean(key):.4f}" for key in SETTINGS)
        share = f"{shares[rank]:.0%}" if shares else "?"
        lines.append(f"| {one.index} | {one.gflops:.4f} | {stages} | {parts} | {aps} | {share} |")
    return "\n".join(lines)


def spearman(x: Sequence[float], y: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Return the rank correlation and its 95 % bootstrap interval (percentiles over pairs).

    Args:
        x: scores.
        y: APs of the same candidates.
        seed: of the resampling.
    """
    a, b = np.asarray(x, float), np.asarray(y, float)
    rng = np.random.default_rng(seed)
    picks = rng.integers(len(a), size=(2000, len(a)))
    values = np.array([_rank_correlation(a[pick], b[pick]) for pick in picks])
    values = values[np.isfinite(values)]  # resamples of one value only have no correlation
    low, high = np.percentile(values, [2.5, 97.5]) if len(values) else (np.nan, np.nan)
    return _rank_correlation(a, b), float(low), float(high)


def correlations(candidates: Sequence[Candidate], key: str) -> list[str]:
    """Return one line per zero-cost score: its rank correlation with the trained AP, and the 95 % interval.

    Scores of backbones that are no plain nets are those of the nearest one (`nearest_structure`).
    """
    from mmdet.search.proxies import ProxySettings, naswot, score  # torch

    settings = ProxySettings(side=64, batch_size=16, num_classes=10)
    nets = [nearest_structure(load_config(one.config).model["backbone"]) for one in candidates]
    scores = {
        "ddsar": [ddsar(net) for net in nets],
        "flops": [one.gflops for one in candidates],
        naswot.__name__: [score(naswot.__name__, net, settings) for net in nets],
    }
    aps = [one.mean(key) for one in candidates]
    lines = []
    for name, values in scores.items():
        value, low, high = spearman(values, aps)
        lines.append(f"{name}: {value:+.2f} [{low:+.2f}, {high:+.2f}] over {len(aps)} candidates")
    return lines


def nearest_structure(backbone: Mapping) -> Structure:
    """Return the plain net nearest to a backbone's config: five blocks, of the same widths and depths.

    Two depthwise units become one IDW sub-layer, two bottlenecks one K1K3K1 sub-layer, a basic block one K3K3
    sub-layer; ResNetV1e's max-pool becomes the stride of its first stage.
    """
    if backbone["type"] == "MasterNet":
        return parse(backbone["plainnet_struct"])
    if backbone["type"] == "MobileNetV1":
        cfg = backbone["block_cfg"]
        blocks, (base, _, *planes), name, wide, stem = (
            cfg["stage_blocks"],
            cfg["stage_planes"],
            "IDWE1K3",
            1,
            1,
        )
    else:
        is_bottleneck, blocks, planes = resnet_stages(backbone)
        base, stem = backbone["base_channels"], 3
        name, wide = ("K1K3K1", 4) if is_bottleneck else ("K3K3", 1)
    halves = 1 if name == "K3K3" else 2
    net = [Block("SuperConvK3BNRELU", 3, base, 2, 0, stem)]
    for num_blocks, width in zip(blocks, planes, strict=True):
        depth = max(1, -(-num_blocks // halves))
        net.append(Block(f"SuperRes{name}", net[-1].out_channels, width * wide, 2, width, depth))
    return tuple(net)


def _rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    ranks = [np.searchsorted(np.sort(v), v, "left") + np.searchsorted(np.sort(v), v, "right") for v in (x, y)]
    if min(np.ptp(rank) for rank in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])
