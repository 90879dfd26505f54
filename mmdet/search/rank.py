"""Results of a study: the table, the best candidate and how certain that is, rank correlations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmdet.config import load_config
from mmdet.errors import ConfigError
from mmdet.models.plainnet.structure import Block, Structure, parse
from mmdet.search.cost import STAGES, resnet_stages, total
from mmdet.search.score import ddsar
from mmdet.search.study import SETTINGS

RESAMPLES = 10_000
LATE = 0.5  # evaluations after this share of the epochs count for the certainty


@dataclass
class Candidate:
    """All trainings of one candidate.

    Attributes:
        index, config, run: number, config file, work_dir of its first training.
        flops: per part, see cost.model_flops.
        aps: of each seed: easy, medium, hard of the data that decides.
        reported: likewise of data.test.
        late: the deciding AP of each seed's evaluations in the later half of training, the last included.
    """

    index: int
    config: Path
    run: Path
    flops: dict[str, int]
    aps: list[dict[str, float]] = field(default_factory=list)
    reported: list[dict[str, float]] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    @property
    def gflops(self) -> float:
        """Return the total."""
        return total(self.flops) / 1e9

    def mean(self, key: str) -> float:
        """Return the mean over seeds of one AP of the data that decides."""
        return float(np.mean([aps[key] for aps in self.aps]))


def read_candidates(study: Any, select_by: str) -> list[Candidate]:
    """Return the candidates with a finished training, best first.

    Raises:
        ConfigError: no training is finished.
    """
    found: dict[int, Candidate] = {}
    for notes in (t.user_attrs for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"):
        index, run = notes["candidate"], Path(notes["run"])
        one = found.setdefault(index, Candidate(index, Path(notes["config"]), run, notes["flops"]))
        one.aps.append(notes["aps"])
        one.reported.append(notes["reported"])
        last = max((epoch for epoch, _ in notes["evaluations"]), default=0)
        one.late += [aps[select_by] for epoch, aps in notes["evaluations"] if LATE * last < epoch < last]
        one.late.append(notes["aps"][select_by])
    if not found:
        raise ConfigError("the study has no finished training yet; `search.py status` says how far it is")
    return sorted(found.values(), key=lambda one: -one.mean(select_by))


def certainty(candidates: Sequence[Candidate], seed: int = 0) -> list[float] | None:
    """Return each candidate's share of bootstrap resamples in which its mean AP is the highest.

    Resampled are the values of `Candidate.late`: seeds, and evaluations of the later epochs. None if every
    candidate has only one value. Differences by the choice of images are not part of it.
    """
    if all(len(one.late) < 2 for one in candidates):
        return None
    rng = np.random.default_rng(seed)
    means = [rng.choice(one.late, (RESAMPLES, len(one.late))).mean(axis=1) for one in candidates]
    return [float(share) for share in np.bincount(np.argmax(means, axis=0), minlength=len(means)) / RESAMPLES]


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


def rank_correlations(x: Sequence[float], y: Sequence[float], seed: int = 0) -> np.ndarray:
    """Return Spearman's rho and Kendall's tau-b of pairs with their 95 % bootstrap intervals.

    Args:
        x: scores.
        y: APs of the same candidates.
        seed: of the resampling of pairs.

    Returns:
        (2, 3): value, 2.5 % and 97.5 % of the resamples; nan where all scores or all APs are equal.
    """
    rng = np.random.default_rng(seed)
    picks = np.concatenate([[np.arange(len(x))], rng.integers(len(x), size=(RESAMPLES, len(x)))])
    # Signs of all differences: their sums are the centred ranks (ties share one), times 2.
    a, b = (np.sign(v[picks][:, :, None] - v[picks][:, None]) for v in (np.asarray(x), np.asarray(y)))
    values = np.stack([_cosine(a.sum(2), b.sum(2)), _cosine(a.reshape(len(a), -1), b.reshape(len(b), -1))])
    if np.isnan(values[:, 0]).any():
        return np.full((2, 3), np.nan)
    return np.column_stack([values[:, 0], *np.nanpercentile(values, [2.5, 97.5], axis=1)])


def correlations(candidates: Sequence[Candidate], key: str) -> str:
    """Return a Markdown table of zero-cost scores: their rank correlation with the trained AP.

    Scores of backbones that are no plain nets are those of the nearest one (`nearest_structure`).
    """
    from mmdet.search.proxies import ProxySettings, score  # torch

    settings = ProxySettings(side=64, batch_size=16, num_classes=10)
    nets = [nearest_structure(load_config(one.config).model["backbone"]) for one in candidates]
    scores = {"ddsar": [ddsar(net) for net in nets], "flops": [one.gflops for one in candidates]}
    for name in ("naswot", "zen"):
        scores[name] = [score(name, net, settings) for net in nets]
    lines = [f"| score, {len(nets)} candidates | Spearman, 95 % interval | Kendall |", "|---|---|---|"]
    for name, values in scores.items():
        found = rank_correlations(values, [one.mean(key) for one in candidates])
        cells = [f"{value:+.2f} [{low:+.2f}, {high:+.2f}]" for value, low, high in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def nearest_structure(backbone: Mapping) -> Structure:
    """Return the plain net nearest to a backbone's config: five blocks, of the same widths and depths.

    Two depthwise units become one IDW sub-layer, two bottlenecks one K1K3K1 sub-layer, a basic block one K3K3
    sub-layer; ResNetV1e's max-pool becomes the stride of its first stage.
    """
    if backbone["type"] == "MasterNet":
        return parse(backbone["plainnet_struct"])
    if backbone["type"] == "MobileNetV1":
        blocks, (base, _, *planes) = (backbone["block_cfg"][key] for key in ("stage_blocks", "stage_planes"))
        name, wide, stem = "IDWE1K3", 1, 1
    else:
        is_bottleneck, blocks, planes = resnet_stages(backbone)
        base, stem = backbone["base_channels"], 3
        name, wide = ("K1K3K1", 4) if is_bottleneck else ("K3K3", 1)
    net = [Block("SuperConvK3BNRELU", 3, base, 2, 0, stem)]
    for num_blocks, width in zip(blocks, planes, strict=True):
        depth = max(1, num_blocks if name == "K3K3" else -(-num_blocks // 2))
        net.append(Block(f"SuperRes{name}", net[-1].out_channels, width * wide, 2, width, depth))
    return tuple(net)


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows; nan where a row is 0."""
    with np.errstate(invalid="ignore"):
        return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
