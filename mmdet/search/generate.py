"""Config files of the two-step search: each names its template as base and holds what was drawn."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmdet.config import load_config
from mmdet.errors import ConfigError
from mmdet.files import write_text
from mmdet.search.sample import (
    BLOCK_TYPES,
    Sampled,
    SampleSettings,
    Template,
    accept,
    num_groups,
    read_template,
)

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
    numbers = _free_numbers(group, template + 1)
    written: list[Path] = []
    for some, flops, row in accepted(model, settings, mode, seed, num_configs):
        path = group / f"{group.name}_{next(numbers)}.py"
        about = f"{flops / 1e9:.4f} GFLOPs at {settings.height}x{settings.width}; step {mode}, seed {seed}"
        write_text(path, config_text(model, some, row, mode, os.path.relpath(base, group), about))
        written.append(path)
    return written


def config_text(template: Template, some: Sampled, row: int, mode: int, base: str, about: str) -> str:
    """Return the config file of one candidate."""
    kind = BLOCK_TYPES[int(some.is_bottleneck[row])]
    blocks, planes = (values[row].tolist() for values in (some.blocks, some.planes))
    wide = 4 if some.is_bottleneck[row] else 1
    if template.family == "ResNetV1e":
        cfg = f'block="{kind}", stage_blocks={blocks}, stage_planes={planes}'
        backbone = f"base_channels={some.base[row]}, block_cfg=dict({cfg})"
    else:
        backbone = f"block_cfg=dict(stage_blocks={blocks}, stage_planes={planes})"
    neck = f"in_channels={[width * wide for width in planes[-4:]]}"
    lines = [f"    backbone=dict({backbone}),"]
    if mode == 1:
        lines.append(f"    neck=dict({neck}),")
    else:
        width, head = int(some.neck[row]), int(some.head[row])
        normed = (
            math.gcd(head, width) if template.dw_conv else head
        )  # a depthwise layer norms its input's width
        groups = f", norm_cfg=dict(num_groups={num_groups(normed)})" if template.has_groups else ""
        lines.append(f"    neck=dict({neck}, out_channels={width}),")
        head_text = f"in_channels={width}, feat_channels={head}, stacked_convs={some.depth[row]}{groups}"
        lines.append(f"    bbox_head=dict({head_text}),")
    body = "\n".join(lines)
    return f'# {about}\n_base_ = ["{base}"]\nmodel = dict(\n{body}\n)\n'


def accepted(
    template: Template, settings: SampleSettings, mode: int, seed: int, wanted: int | None = None
) -> Iterator[tuple[Sampled, int, int]]:
    """Yield (candidates, FLOPs, row) of accepted draws; the seed decides them and their order.

    Raises:
        ConfigError: settings.max_draws are used up before there are `wanted`, or before the next one.
    """
    rng = np.random.default_rng(seed)
    found = drawn = 0
    nearest = np.inf
    chunk = CHUNK // 10 if settings.guided else CHUNK
    while True:
        some, totals, all_totals = accept(template, settings, mode, rng, chunk)
        drawn += chunk
        gflops = all_totals / 1e9
        near = gflops[np.abs(gflops - settings.gflops).argmin()]
        nearest = min(nearest, near, key=lambda value: abs(value - settings.gflops))
        for row, total in enumerate(totals):
            if found == wanted:
                return
            found += 1
            yield some, int(total), row
        if drawn >= settings.max_draws and found != wanted:
            rate = f"{found} of {wanted or found + 1} candidates found in {drawn} draws ({found / drawn:.2g})"
            raise ConfigError(
                f"{rate}; the nearest total is {nearest:.4g} GFLOPs for {settings.gflops:g} +- "
                f"{settings.eps:.0%}: widen search.eps or the ranges, or set search.guided=True"
            )


def _free_numbers(group: Path, first: int) -> Iterator[int]:
    number = first
    while True:
        if not (group / f"{group.name}_{number}.py").exists():
            yield number
        number += 1
