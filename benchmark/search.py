"""Architecture search: rounds of DDSAR's evolution and FLOPs of candidates, against plain versions."""

import argparse
import random
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmark import baseline_search
from benchmark.measure import Timing, alternate
from mmdet.cli import add_shared
from mmdet.config import load_config
from mmdet.models.plainnet.cost import block_flops, block_size
from mmdet.models.plainnet.structure import units
from mmdet.search.cost import measure, read_template, total_flops
from mmdet.search.evolve import DdsarSettings, Evolution
from mmdet.search.generate import accepted
from mmdet.search.sample import SampleSettings, accept, draw_backbones, round_backbones
from mmdet.search.score import ddsar, stage
from mmdet.search.settings import read_settings
from mmdet.search.space import choices

SEARCHES = Path(__file__).resolve().parents[1] / "configs/search"
DRAWS = 200_000
# The published program: CPU seconds of 1,000 rounds, and of `_loop_seconds`, where they were measured.
REFERENCE_S, REFERENCE_LOOP_S = {"500m": 32.467, "2.5g": 33.586}, 0.763
CACHES = (block_flops, block_size, units, stage, choices)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tools/benchmark.py search`."""
    add_shared(parser, "--rounds")
    parser.add_argument("--mutations", type=int, default=300, metavar="N", help="of the plain evolution")
    parser.add_argument(
        "--candidates", type=int, default=10, metavar="N", help="that the plain search counts"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure both searches; the evolution of ours runs 96,000 rounds from empty caches."""
    loop_s = _loop_seconds()
    figures: dict[str, Any] = {"python_loop_s": loop_s}
    for name in ("500m", "2.5g"):
        evolution = read_settings(str(SEARCHES / f"ddsar_{name}.py"), DdsarSettings)
        found = _evolution(evolution, args)
        published = 1000 / (REFERENCE_S[name] * loop_s / REFERENCE_LOOP_S)  # rounds/s, were it run here
        found["rounds_per_cpu_s"]["published"] = published
        found["ratio_to_published"] = found["rounds_per_cpu_s"]["product"] / published
        figures[f"ddsar_{name}"] = found
    settings = read_settings(str(SEARCHES / "scrfd_2.5g.py"), SampleSettings)
    figures["flops_per_candidate"] = _candidates(settings, args)
    template = read_template(load_config(settings.base).model)
    for mode in (1, 2):
        begin = time.process_time()
        list(accepted(template, settings, mode, seed=0, wanted=64))
        figures[f"64_candidates_step_{mode}_cpu_s"] = time.process_time() - begin
        totals = [
            accept(template, settings, mode, np.random.default_rng(seed), DRAWS)[1] for seed in range(5)
        ]
        figures[f"acceptance_step_{mode}"] = [len(found) / DRAWS for found in totals]
    return figures


def _evolution(settings: DdsarSettings, args: argparse.Namespace) -> dict[str, Any]:
    searches: list[Evolution] = []

    def product() -> None:
        for cache in CACHES:
            cache.cache_clear()
        searches.append(Evolution(settings, ddsar, random.Random(0)))
        searches[-1].run(settings.rounds)

    def baseline() -> None:
        baseline_search.evolve(settings, args.mutations, seed=0)

    times = alternate({"baseline": baseline, "product": product}, rounds=args.rounds, warmup=0)
    rates = {
        "baseline": args.mutations / times["baseline"].cpu_s,
        "product": settings.rounds / times["product"].cpu_s,
    }
    return {
        "rounds_per_cpu_s": rates,
        "ratio": rates["product"] / rates["baseline"],
        "96000_rounds": vars(times["product"]),
        "best": searches[-1].best().score,
    }


def _candidates(settings: SampleSettings, args: argparse.Namespace) -> dict[str, Any]:
    """Time the FLOPs of one candidate, and compare the formula with the counter on the same models."""
    model = load_config(settings.base).model
    template = read_template(model)
    draws = round_backbones(template, draw_backbones(template, settings, np.random.default_rng(0), 50_000))
    models = []
    for row in range(args.candidates):
        cfg = dict(
            block=("BasicBlock", "Bottleneck")[int(draws.is_bottleneck[row])],
            stage_blocks=draws.blocks[row].tolist(),
            stage_planes=draws.planes[row].tolist(),
        )
        backbone = {**model["backbone"], "block_cfg": cfg, "base_channels": int(draws.base[row])}
        wide = [width * (4 if draws.is_bottleneck[row] else 1) for width in cfg["stage_planes"]]
        models.append({**model, "backbone": backbone, "neck": {**model["neck"], "in_channels": wide}})
    counted: dict[str, Any] = {}

    def baseline() -> None:
        counted["baseline"] = baseline_search.count_flops(models)

    def product() -> None:
        counted["product"] = measure(template, draws, settings.size_hw)[1][: args.candidates]

    times: dict[str, Timing] = alternate({"baseline": baseline, "product": product}, rounds=args.rounds)
    per = {
        "baseline": times["baseline"].cpu_s / args.candidates,
        "product": times["product"].cpu_s / len(draws.base),
    }
    assert [total_flops(one) for one in models] == counted["baseline"]
    return {
        "cpu_s": per,
        "ratio": per["baseline"] / per["product"],
        "largest_difference": int(np.abs(counted["product"] - np.array(counted["baseline"])).max()),
    }


def _loop_seconds() -> float:
    """Return the time of a plain Python loop, to scale figures of another machine."""
    times = []
    for _ in range(3):
        begin, x = time.process_time(), 0
        for i in range(10**7):
            x += i * i
        times.append(time.process_time() - begin)
    return statistics.median(times)
