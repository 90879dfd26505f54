"""SCRFD's two-step search (arXiv:2105.04714): draw arrays of candidates, keep those that meet the budget.

Step 1 draws the backbone, step 2 scales a template's backbone and draws neck and head. A step-2 candidate
must also spend its computation on the stages as the template does, relative to the stem.
"""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from mmdet.errors import ConfigError
from mmdet.search.cost import Array, Sampled, Template, measure

BLOCK_TYPES = ("BasicBlock", "Bottleneck")
ACCEPTED, TOTAL, UNBUILDABLE = 0, 5, 6  # verdicts; 1 to 4: the ratio of that stage


@dataclass(frozen=True)
class SampleSettings:
    """A search of configs/search/scrfd_*.py; the defaults are the paper's ranges, both ends included.

    Attributes:
        base: config of the template; what is not drawn stays as it is there.
        gflops, eps: total at height x width, and the relative distance from it that is accepted.
        ratio_tolerance: times eps, the relative distance of a stage's share from the template's (step 2).
        guided: give each draw all widths (step 1: of the stem; step 2: of the head) and choose one among
            those that meet the budget. Finds more, and prefers shapes that many widths fit.
        max_draws: give up after so many.
    """

    base: str
    gflops: float
    eps: float = 0.02
    height: int = 480
    width: int = 640
    block_types: tuple[str, ...] = BLOCK_TYPES
    base_channels: tuple[int, int] = (8, 64)
    stage_blocks: tuple[int, int] = (1, 10)
    stage_planes_ratio: tuple[float, float] = (1.0, 4.0)
    stage_blocks_ratio: tuple[float, float] = (0.5, 3.0)
    base_channels_ratio: tuple[float, float] = (0.5, 3.0)
    fpn_channels: tuple[int, int] = (8, 128)
    head_channels: tuple[int, int] = (8, 256)
    head_depth: tuple[int, int] = (1, 4)
    ratio_tolerance: float = 5.0
    guided: bool = False
    max_draws: int = 20_000_000

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple) and field.name != "block_types" and value[0] > value[1]:
                raise ConfigError(f"search.{field.name} = {value!r} must be (lowest, highest)")
        if self.gflops <= 0 or not 0 < self.eps < 1:
            raise ConfigError(f"search needs gflops > 0 and 0 < eps < 1, not {self.gflops} and {self.eps}")

    @property
    def size_hw(self) -> tuple[int, int]:
        """Return the input size that the budget is meant for."""
        return self.height, self.width


class BackboneDraws(NamedTuple):
    """Raw draws of step 1, (n,); blocks and ratios (n, .)."""

    is_bottleneck: Array
    base: Array
    blocks: Array
    ratios: Array


class ScaleDraws(NamedTuple):
    """Raw draws of step 2, (n,)."""

    blocks_ratio: Array
    planes_ratio: Array
    neck: Array
    head: Array
    depth: Array


def draw_backbones(
    template: Template, settings: SampleSettings, rng: np.random.Generator, n: int
) -> BackboneDraws:
    """Draw step 1: block type, stem width, blocks per stage, growth from stage to stage."""
    types = [name == "Bottleneck" for name in settings.block_types if name in BLOCK_TYPES]
    return BackboneDraws(
        np.array(types)[rng.integers(len(types), size=n)] & (template.family == "ResNetV1e"),
        _integers(settings.base_channels, rng, n),
        _integers(settings.stage_blocks, rng, (n, len(template.blocks))),
        rng.uniform(*settings.stage_planes_ratio, size=(n, num_plane_ratios(template))),
    )


def draw_scales(settings: SampleSettings, rng: np.random.Generator, n: int) -> ScaleDraws:
    """Draw step 2: one ratio for all blocks, one for all widths; neck and head."""
    ratios = (settings.stage_blocks_ratio, settings.base_channels_ratio)
    numbers = (settings.fpn_channels, settings.head_channels, settings.head_depth)
    scales = [rng.uniform(*bounds, size=n) for bounds in ratios]
    return ScaleDraws(*scales, *(_integers(bounds, rng, n) for bounds in numbers))


def round_backbones(template: Template, draws: BackboneDraws) -> Sampled:
    """Turn step-1 draws into candidates: widths are multiples of 8, each from the rounded one before."""
    base = np.maximum(8, _floor8(draws.base))
    planes = [base, base] if template.family == "MobileNetV1" else [base]
    for ratio in draws.ratios.T:
        planes.append(_floor8((planes[-1] * ratio).astype(np.int64)))
    fixed = (np.full(base.shape, value) for value in (template.neck, template.head, template.depth))
    return Sampled(draws.is_bottleneck, base, draws.blocks, np.stack(planes, axis=1), *fixed)


def round_scales(template: Template, draws: ScaleDraws) -> Sampled:
    """Turn step-2 draws into candidates; halves round to even, so blocks or widths may become 0."""
    blocks = np.rint(np.outer(draws.blocks_ratio, template.blocks)).astype(np.int64)
    planes = _floor8(np.rint(np.outer(draws.planes_ratio, template.planes)).astype(np.int64))
    kind = np.full(len(blocks), template.is_bottleneck)
    return Sampled(kind, planes[:, 0], blocks, planes, _floor8(draws.neck), _floor8(draws.head), draws.depth)


def judge(template: Template, settings: SampleSettings, some: Sampled, ratios: bool) -> tuple[Array, Array]:
    """Return a verdict per candidate (ACCEPTED, stage 1 to 4, TOTAL, UNBUILDABLE) and its FLOPs.

    Args:
        template: of step 2.
        settings: budget and tolerances.
        some: candidates.
        ratios: step 2: also compare the stages' shares with the template's.
    """
    parts, total = measure(template, some, settings.size_hw)
    verdict = np.where(within(total / 1e9, settings.gflops, settings.eps), ACCEPTED, TOTAL)
    if ratios:
        own = _shares(parts)
        wanted = _shares(measure(template, template.own, settings.size_hw)[0])
        slack = settings.ratio_tolerance * settings.eps
        fits = (own * (1 - slack) <= wanted) & (wanted <= own * (1 + slack))
        verdict = np.where(fits.all(axis=1), verdict, np.argmin(fits, axis=1))
    smallest = np.minimum.reduce([some.planes.min(axis=1), some.neck, some.head])
    return np.where(smallest < 8, UNBUILDABLE, verdict), total


def within(gflops: Any, budget: float, eps: float) -> Any:
    """Return whether a total is accepted; equality is."""
    return np.abs(gflops - budget) <= eps * budget


def accept(
    template: Template, settings: SampleSettings, mode: int, rng: np.random.Generator, n: int
) -> tuple[Sampled, Array, Array]:
    """Draw n and return those that are accepted, their FLOPs, and the FLOPs of all that were drawn."""
    draws: Any = draw_backbones(template, settings, rng, n) if mode == 1 else draw_scales(settings, rng, n)
    if settings.guided:
        some, fits, total = _in_all_widths(template, settings, mode, draws)
        rank = fits * (1 - rng.random(fits.shape))  # any of those that fit
        rows = np.flatnonzero(fits.any(axis=1))
        good = rows * fits.shape[1] + rank.argmax(axis=1)[rows]
    else:
        some = (round_backbones if mode == 1 else round_scales)(template, draws)
        verdict, total = judge(template, settings, some, mode == 2)
        good = np.flatnonzero(verdict == ACCEPTED)
    return some.take(good), total[good], total


def fit_width(template: Template, settings: SampleSettings, mode: int, draw: Any) -> tuple[Sampled, Array]:
    """Return one draw in the width nearest to its own that meets the budget, and its FLOPs.

    Where none does, no candidate and the FLOPs of all widths.
    """
    some, fits, total = _in_all_widths(template, settings, mode, draw)
    good = np.flatnonzero(fits[0])
    if not len(good):
        return some.take(good), total
    wished, widths = (draw.base, some.base) if mode == 1 else (draw.head, some.head)
    nearest = good[[np.abs(widths[good] - wished[0]).argmin()]]
    return some.take(nearest), total[nearest]


def _in_all_widths(template: Template, settings: SampleSettings, mode: int, draws: Any) -> tuple:
    """Return candidates (n * widths), which of them are accepted (n, widths), and their FLOPs."""
    low, high = settings.base_channels if mode == 1 else settings.head_channels
    widths = np.arange(max(8, low), high + 1, 8)
    spread = type(draws)(*(np.repeat(values, len(widths), axis=0) for values in draws))
    spread = spread._replace(**{"base" if mode == 1 else "head": np.tile(widths, len(draws[0]))})
    some = (round_backbones if mode == 1 else round_scales)(template, spread)
    verdict, total = judge(template, settings, some, mode == 2)
    return some, (verdict == ACCEPTED).reshape(-1, len(widths)), total


def num_plane_ratios(template: Template) -> int:
    """Return how many stages' widths step 1 draws: those after the stem, and after a ResNet's first."""
    return len(template.planes) - (2 if template.family == "MobileNetV1" else 1)


def num_groups(channels: int) -> int:
    """Return the groups of a head's GN: 8, 16, 32 or 64, doubling while it divides the channels."""
    groups = 8
    while groups < 64 and channels % (2 * groups) == 0:
        groups *= 2
    return groups


def _shares(parts: Array) -> Array:
    """Return FLOPs relative to the stem, from GFLOPs of 3 decimals in float32, as the reference has them."""
    printed = np.round(parts / 1e9, 3).astype(np.float32)
    return printed / np.maximum(printed[:, :1], np.float32(1e-3))


def _integers(bounds: tuple, rng: np.random.Generator, size: Any) -> Array:
    return rng.integers(bounds[0], bounds[1], size=size, endpoint=True)


def _floor8(values: Array) -> Array:
    return values // 8 * 8
