"""SCRFD's two-step search (arXiv:2105.04714): draw arrays of candidates, keep those that meet the budget.

Step 1 draws the backbone, step 2 scales a template's backbone and draws neck and head. A step-2 candidate
must also spend its computation on the stages as the template does, relative to the stem.
"""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from mmdet.errors import ConfigError
from mmdet.search import cost

Array = Any  # numpy
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
            if isinstance(value, tuple) and field.name != "block_types":
                if value[0] > value[1]:
                    raise ConfigError(f"search.{field.name} = {value!r} must be (lowest, highest)")
        if self.gflops <= 0 or not 0 < self.eps < 1:
            raise ConfigError(f"search needs gflops > 0 and 0 < eps < 1, not {self.gflops} and {self.eps}")


@dataclass(frozen=True)
class Template:
    """What a search takes from its template's config.

    Attributes:
        family: type of the backbone.
        is_bottleneck, base, blocks, planes: of the backbone; MobileNetV1 has two planes before its stages'.
        neck, head, depth: out_channels, feat_channels, stacked_convs.
        outputs: channels of all predictors.
        dw_conv, num_levels: of the head.
        has_groups: the head's norm is GN.
    """

    family: str
    is_bottleneck: bool
    base: int
    blocks: tuple[int, ...]
    planes: tuple[int, ...]
    neck: int
    head: int
    depth: int
    outputs: int
    dw_conv: bool
    num_levels: int
    has_groups: bool


class Sampled(NamedTuple):
    """Arrays of n candidates: (n,), blocks and planes (n, stages)."""

    is_bottleneck: Array
    base: Array
    blocks: Array
    planes: Array
    neck: Array
    head: Array
    depth: Array

    def take(self, index: Any) -> "Sampled":
        """Return the candidates of an index array or mask."""
        return Sampled(*(values[index] for values in self))


class BackboneDraws(NamedTuple):
    """Raw draws of step 1."""

    is_bottleneck: Array
    base: Array
    blocks: Array
    ratios: Array


class ScaleDraws(NamedTuple):
    """Raw draws of step 2."""

    blocks_ratio: Array
    planes_ratio: Array
    neck: Array
    head: Array
    depth: Array


def read_template(model: dict) -> Template:
    """Return the template of a config's `model`.

    Raises:
        ConfigError: its parts are not those the formulas know.
    """
    cost.model_flops(model)  # checks the parts
    backbone, neck, head = model["backbone"], model["neck"], model["bbox_head"]
    is_bottleneck, base = False, 0
    if backbone["type"] == "ResNetV1e":
        is_bottleneck, blocks, planes = cost.resnet_stages(backbone)
        base = backbone["base_channels"]
    elif backbone["type"] == "MobileNetV1":
        blocks, planes = backbone["block_cfg"]["stage_blocks"], backbone["block_cfg"]["stage_planes"]
        base = planes[0]
    else:
        raise ConfigError(f"the two-step search knows ResNetV1e and MobileNetV1, not {backbone['type']}")
    return Template(
        family=backbone["type"],
        is_bottleneck=is_bottleneck,
        base=base,
        blocks=tuple(blocks),
        planes=tuple(planes),
        neck=neck["out_channels"],
        head=head["feat_channels"],
        depth=head["stacked_convs"],
        outputs=cost.predictor_channels(head),
        dw_conv=bool(head.get("dw_conv")),
        num_levels=len(head["anchor_generator"]["strides"]),
        has_groups=head["norm_cfg"]["type"] == "GN",
    )


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
    return ScaleDraws(
        rng.uniform(*settings.stage_blocks_ratio, size=n),
        rng.uniform(*settings.base_channels_ratio, size=n),
        _integers(settings.fpn_channels, rng, n),
        _integers(settings.head_channels, rng, n),
        _integers(settings.head_depth, rng, n),
    )


def round_backbones(template: Template, draws: BackboneDraws) -> Sampled:
    """Turn step-1 draws into candidates: widths are multiples of 8, each from the rounded one before."""
    base = np.maximum(8, _floor8(draws.base))
    planes = [base, base] if template.family == "MobileNetV1" else [base]
    for ratio in draws.ratios.T:
        planes.append(_floor8((planes[-1] * ratio).astype(np.int64)))
    like = np.ones_like(base)
    fixed = (like * template.neck, like * template.head, like * template.depth)
    return Sampled(draws.is_bottleneck, base, draws.blocks, np.stack(planes, axis=1), *fixed)


def round_scales(template: Template, draws: ScaleDraws) -> Sampled:
    """Turn step-2 draws into candidates; halves round to even, so blocks or widths may become 0."""
    blocks = np.rint(np.outer(draws.blocks_ratio, template.blocks)).astype(np.int64)
    planes = _floor8(np.rint(np.outer(draws.planes_ratio, template.planes)).astype(np.int64))
    kind = np.full(len(blocks), template.is_bottleneck)
    return Sampled(kind, planes[:, 0], blocks, planes, _floor8(draws.neck), _floor8(draws.head), draws.depth)


def measure(template: Template, settings: SampleSettings, some: Sampled) -> tuple[Array, Array]:
    """Return FLOPs of the stem and stages (n, 5), and of the whole detector (n,)."""
    size_hw = (settings.height, settings.width)
    blocks, planes = list(some.blocks.T), list(some.planes.T)
    if template.family == "ResNetV1e":
        parts = cost.resnet_parts(some.is_bottleneck, some.base, blocks, planes, size_hw)
        pool = cost.resnet_pool(some.base, size_hw)
    else:
        parts, pool = cost.mobilenet_parts(blocks, planes, size_hw), 0
    areas = cost.level_pixels(size_hw, template.num_levels, template.family == "ResNetV1e")
    wide = np.where(some.is_bottleneck, 4, 1)
    neck = cost.pafpn_flops([channels * wide for channels in planes[-3:]], some.neck, areas)
    head = cost.head_flops(some.neck, some.head, some.depth, template.outputs, areas, template.dw_conv)
    return np.stack(parts, axis=1), sum(parts) + pool + neck + head


def judge(template: Template, settings: SampleSettings, some: Sampled, ratios: bool) -> tuple[Array, Array]:
    """Return a verdict per candidate (ACCEPTED, stage 1 to 4, TOTAL, UNBUILDABLE) and its FLOPs.

    Args:
        template: of step 2.
        settings: budget and tolerances.
        some: candidates.
        ratios: step 2: also compare the stages' shares with the template's.
    """
    parts, total = measure(template, settings, some)
    verdict = np.where(within(total / 1e9, settings.gflops, settings.eps), ACCEPTED, TOTAL)
    if ratios:
        own, wanted = _shares(parts), _shares(_template_parts(template, settings))
        slack = settings.ratio_tolerance * settings.eps
        fits = (own * (1 - slack) <= wanted) & (wanted <= own * (1 + slack))
        failing = np.argmin(fits, axis=1)
        verdict = np.where(fits.all(axis=1), verdict, failing)
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
    nearest = good[np.abs(widths[good] - wished[0]).argmin()]
    return some.take([nearest]), total[[nearest]]


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


def _template_parts(template: Template, settings: SampleSettings) -> Array:
    one = Sampled(
        *(
            np.array([value])
            for value in (
                template.is_bottleneck, template.base, template.blocks, template.planes,
                template.neck, template.head, template.depth,
            )
        )
    )  # fmt: skip
    return measure(template, settings, one)[0]


def _shares(parts: Array) -> Array:
    """Return FLOPs relative to the stem, from GFLOPs of 3 decimals in float32, as the reference has them."""
    printed = np.round(parts / 1e9, 3).astype(np.float32)
    return printed / np.maximum(printed[:, :1], np.float32(1e-3))


def _integers(bounds: tuple, rng: np.random.Generator, size: Any) -> Array:
    return rng.integers(bounds[0], bounds[1], size=size, endpoint=True)


def _floor8(values: Array) -> Array:
    return values // 8 * 8
