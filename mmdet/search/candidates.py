"""Where a campaign's candidates come from: files, the two-step search's draws, or an Optuna sampler."""

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmdet.config import load_config
from mmdet.errors import ConfigError
from mmdet.search import sample
from mmdet.search.generate import accepted, config_text

MAX_ASKS = 2000  # suggestions of an adaptive sampler for one candidate


@dataclass
class Files:
    """Ready config files."""

    paths: list[Path]

    @classmethod
    def find(cls, patterns: tuple[str, ...]) -> "Files":
        """Return the files of glob patterns.

        Raises:
            ConfigError: there is none.
        """
        paths = sorted({Path(name) for pattern in patterns for name in glob.glob(pattern)}, key=_natural)
        if not paths:
            raise ConfigError(f"search.configs = {patterns!r} names no file")
        return cls(paths)

    def text(self, index: int, folder: Path) -> str:
        """Return a config for `folder` that is the index-th file."""
        return f'_base_ = ["{os.path.relpath(self.paths[index], folder)}"]\n'


@dataclass
class Draws:
    """Accepted draws of the two-step search, in an order that the seed alone decides."""

    settings: sample.SampleSettings
    mode: int
    base: str
    seed: int
    found: list[tuple] = field(default_factory=list)

    def __post_init__(self):
        self.template = sample.read_template(load_config(self.base).model)
        self.stream: Iterator[tuple] = accepted(self.template, self.settings, self.mode, self.seed)

    def text(self, index: int, folder: Path) -> str:
        """Return the config of the index-th accepted candidate."""
        while len(self.found) <= index:
            some, flops, row = next(self.stream)
            self.found.append((some.take(slice(row, row + 1)), flops))
        some, flops = self.found[index]
        return self._text(some, flops, folder)

    def suggest(self, trial: Any, folder: Path) -> tuple[str | None, float]:
        """Return the config an Optuna trial suggests and 0; or None and how far off the budget it is.

        The width that guided sampling chooses (stem or head) is the one nearest to the suggested width.
        """
        draws = self._suggest_backbone(trial) if self.mode == 1 else self._suggest_scales(trial)
        some, totals = sample.fit_width(self.template, self.settings, self.mode, draws)
        if len(some.base) == 0:
            near = np.abs(totals / 1e9 - self.settings.gflops).min() / self.settings.gflops
            return None, float(max(near - self.settings.eps, 1e-6))
        return self._text(some, int(totals[0]), folder), 0.0

    def _text(self, some: sample.Sampled, flops: int, folder: Path) -> str:
        about = f"{flops / 1e9:.4f} GFLOPs at {self.settings.height}x{self.settings.width}"
        return config_text(self.template, some, 0, self.mode, os.path.relpath(self.base, folder), about)

    def _suggest_backbone(self, trial: Any) -> sample.BackboneDraws:
        bounds, template = self.settings, self.template
        kind = trial.suggest_categorical("block", list(bounds.block_types)) == "Bottleneck"
        base = trial.suggest_int("base_channels", *bounds.base_channels)
        blocks = [trial.suggest_int(f"blocks{i}", *bounds.stage_blocks) for i in range(len(template.blocks))]
        count = sample.num_plane_ratios(template)
        ratios = [trial.suggest_float(f"ratio{i}", *bounds.stage_planes_ratio) for i in range(count)]
        is_bottleneck = kind and template.family == "ResNetV1e"
        return sample.BackboneDraws(*(np.array([value]) for value in (is_bottleneck, base, blocks, ratios)))

    def _suggest_scales(self, trial: Any) -> sample.ScaleDraws:
        bounds = self.settings
        values = (
            trial.suggest_float("blocks_ratio", *bounds.stage_blocks_ratio),
            trial.suggest_float("channels_ratio", *bounds.base_channels_ratio),
            trial.suggest_int("fpn_channels", *bounds.fpn_channels),
            trial.suggest_int("head_channels", *bounds.head_channels),
            trial.suggest_int("head_depth", *bounds.head_depth),
        )
        return sample.ScaleDraws(*(np.array([value]) for value in values))


def _natural(path: Path) -> list:
    """Sort name_2 before name_10."""
    return [int(part) if part.isdigit() else part for part in path.stem.replace("_", " _ ").split()]
