"""Config files of the two-step search: each names its template as base and holds what was drawn."""

import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmdet.config import load_config
from mmdet.errors import ConfigError
from mmdet.files import write_text
from mmdet.search.cost import Sampled, Template, read_template
from mmdet.search.sample import BLOCK_TYPES, SampleSettings, accept, num_groups

CHUNK = 50_000  # draws at once; 5,000 with guided sampling, which makes several candidates of each


def generate(
    settings: SampleSettings, mode: int, group: Path, num_configs: int, template: int, seed: int
) -> list[Path]:
    """Draw until num_configs candidates are accepted and write them to group/NAME_1.py, NAME_2.py, ...

    Args:
        settings: budget and ranges.
        mode: 1 draws the backbone, 2 scales a template's and draws neck and head.
        group: folder; its name is the files' prefix. Existing files are never overwritten.
        num_configs: files to write.
        template: number of the template among the files; 0 for settings.base.
        seed: decides all draws.

    Raises:
        ConfigError: settings.max_draws did not give as many; those found are written.
    """
    base = group / f"{group.name}_{template}.py" if template else Path(settings.base)
    model = read_template(load_config(base).model)
    group.mkdir(parents=True, exist_ok=True)
    paths = (group / f"{group.name}_{number}.py" for number in itertools.count(template + 1))
    free = (path for path in paths if not path.exists())
    written: list[Path] = []
    for one, flops in accepted(model, settings, mode, seed, num_configs):
        written.append(next(free))
        about = f"{flops / 1e9:.4f} GFLOPs at {settings.height}x{settings.width}; step {mode}, seed {seed}"
        write_text(written[-1], config_text(model, one, mode, os.path.relpath(base, group), about))
    return written


def config_text(template: Template, one: Sampled, mode: int, base: str, about: str) -> str:
    """Return the config file of one candidate, a `Sampled` of numbers."""
    blocks, planes = one.blocks.tolist(), one.planes.tolist()
    backbone = f"block_cfg=dict(stage_blocks={blocks}, stage_planes={planes})"
    if template.family == "ResNetV1e":
        kind = f'block="{BLOCK_TYPES[int(one.is_bottleneck)]}", '
        backbone = f"base_channels={one.base}, {backbone.replace('dict(', f'dict({kind}')}"
    neck = f"in_channels={[width * (4 if one.is_bottleneck else 1) for width in planes[-4:]]}"
    head = ""
    if mode == 2:
        neck += f", out_channels={one.neck}"
        head = f"in_channels={one.neck}, feat_channels={one.head}, stacked_convs={one.depth}"
        if template.has_groups:  # a depthwise layer norms its input's width
            normed = math.gcd(int(one.head), int(one.neck)) if template.dw_conv else one.head
            head += f", norm_cfg=dict(num_groups={num_groups(normed)})"
    parts = {"backbone": backbone, "neck": neck, "bbox_head": head}
    body = "".join(f"    {name}=dict({text}),\n" for name, text in parts.items() if text)
    return f'# {about}\n_base_ = ["{base}"]\nmodel = dict(\n{body})\n'


def accepted(
    template: Template, settings: SampleSettings, mode: int, seed: int, wanted: int | None = None
) -> Iterator[tuple[Sampled, int]]:
    """Yield accepted draws (`Sampled` of numbers) and their FLOPs; the seed decides them and their order.

    Raises:
        ConfigError: settings.max_draws are used up before there are `wanted`, or before the next one; or the
            two-step search does not know the template's backbone.
    """
    if template.family not in ("ResNetV1e", "MobileNetV1"):
        raise ConfigError(f"the two-step search knows ResNetV1e and MobileNetV1, not {template.family}")
    rng = np.random.default_rng(seed)
    found = drawn = 0
    nearest = np.inf
    chunk = CHUNK // 10 if settings.guided else CHUNK
    while found != wanted:
        if drawn >= settings.max_draws:
            rate = f"{found} of {wanted or found + 1} candidates found in {drawn} draws ({found / drawn:.2g})"
            raise ConfigError(
                f"{rate}; the nearest total is {nearest:.4g} GFLOPs for {settings.gflops:g} +- "
                f"{settings.eps:.0%}: widen search.eps or the ranges, or set search.guided=True"
            )
        some, totals, all_totals = accept(template, settings, mode, rng, chunk)
        drawn += chunk
        gflops = np.append(all_totals / 1e9, nearest)
        nearest = gflops[np.abs(gflops - settings.gflops).argmin()]
        for row, total in enumerate(totals[: None if wanted is None else wanted - found]):
            found += 1
            yield some.take(row), int(total)
