"""Where a campaign's candidates come from: files, the two-step search's draws, or an Optuna sampler."""

import glob
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmdet.config import load_config
from mmdet.errors import ConfigError
from mmdet.search import cost, sample
from mmdet.search.generate import accepted, config_text


@dataclass
class Files:
    """Ready config files, found by glob patterns."""

    patterns: tuple[str, ...]
    paths: list[Path]

    @classmethod
    def find(cls, patterns: tuple[str, ...], least: int = 1) -> "Files":
        """Return the files of glob patterns; ConfigError if they are fewer than `least`."""
        paths = sorted({Path(name) for pattern in patterns for name in glob.glob(pattern)}, key=_natural)
        if len(paths) < least:
            raise ConfigError(f"search.configs = {patterns!r} names {len(paths)} files; {least} are needed")
        return cls(patterns, paths)

    @property
    def base(self) -> str:
        """Return the first file."""
        return str(self.paths[0])

    def identity(self) -> dict[str, Any]:
        """Return what names this source."""
        return {"configs": list(self.patterns)}

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
    found: list[tuple[cost.Sampled, int]] = field(default_factory=list)

    def __post_init__(self):
        self.template = cost.read_template(load_config(self.base).model)
        self.stream = accepted(self.template, self.settings, self.mode, self.seed)

    def identity(self) -> dict[str, Any]:
        """Return what names this source: the template's file and the space."""
        space = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self.settings).items()}
        del space["base"], space["max_draws"]
        return {"template": Path(self.base).name, "space": space}

    def text(self, index: int, folder: Path) -> str:
        """Return the config of the index-th accepted candidate."""
        while len(self.found) <= index:
            self.found.append(next(self.stream))
        return self._text(*self.found[index], folder)

    def suggest(self, trial: Any, folder: Path) -> tuple[str | None, float]:
        """Return the config an Optuna trial suggests and 0; or None and how far off the budget it is.

        The width that guided sampling chooses (stem or head) is the one nearest to the suggested width.
        """
        draws = self._suggest_backbone(trial) if self.mode == 1 else self._suggest_scales(trial)
        some, totals = sample.fit_width(self.template, self.settings, self.mode, draws)
        if len(some.base) == 0:
            near = np.abs(totals / 1e9 - self.settings.gflops).min() / self.settings.gflops
            return None, float(max(near - self.settings.eps, 1e-6))
        return self._text(some.take(0), int(totals[0]), folder), 0.0

    def _text(self, one: cost.Sampled, flops: int, folder: Path) -> str:
        about = f"{flops / 1e9:.4f} GFLOPs at {self.settings.height}x{self.settings.width}"
        return config_text(self.template, one, self.mode, os.path.relpath(self.base, folder), about)

    def _suggest_backbone(self, trial: Any) -> sample.BackboneDraws:
        bounds, template = self.settings, self.template
        kind = trial.suggest_categorical("block", list(bounds.block_types)) == "Bottleneck"
        base = trial.suggest_int("base_channels", *bounds.base_channels)
        blocks = [trial.suggest_int(f"blocks{i}", *bounds.stage_blocks) for i in range(len(template.blocks))]
        count = sample.num_plane_ratios(template)
        ratios = [trial.suggest_float(f"ratio{i}", *bounds.stage_planes_ratio) for i in range(count)]
        values = (kind and template.family == "ResNetV1e", base, blocks, ratios)
        return sample.BackboneDraws(*(np.array([value]) for value in values))

    def _suggest_scales(self, trial: Any) -> sample.ScaleDraws:
        bounds = self.settings
        values = (
            trial.suggest_float("blocks_ratio", *bounds.stage_blocks_ratio),
            trial.suggest_float("channels_ratio", *bounds.base_channels_ratio),
            *(
                trial.suggest_int(f, *getattr(bounds, f))
                for f in ("fpn_channels", "head_channels", "head_depth")
            ),
        )
        return sample.ScaleDraws(*(np.array([value]) for value in values))


def _natural(path: Path) -> list:
    """Sort name_2 before name_10."""
    return [int(part) if part.isdigit() else part for part in path.stem.replace("_", " _ ").split()]
