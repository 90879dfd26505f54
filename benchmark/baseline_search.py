"""Both searches as the published programs do them: lists of strings, and a network built for every figure."""

import itertools
import random

from mmdet.models import build_detector
from mmdet.models.flops import count_complexity
from mmdet.models.plainnet.blocks import PlainNet
from mmdet.models.plainnet.cost import block_flops
from mmdet.models.plainnet.structure import chain, count_layers, parse, split, to_string
from mmdet.search.cost import SIZE_HW
from mmdet.search.evolve import FEW, DdsarSettings
from mmdet.search.score import ddsar
from mmdet.search.space import SPACES, choices


def evolve(settings: DdsarSettings, rounds: int, seed: int) -> list[tuple[float, str]]:
    """Run DDSAR's evolution on strings; candidates are listed, kept networks are built."""
    rng = random.Random(seed)
    population: list[tuple[float, str]] = []
    for _ in range(rounds):
        if len(population) > settings.population:
            population.remove(min(population))
        few = len(population) <= FEW
        text = _mutate(
            settings.start if few else rng.choice(population)[1], settings.space, 1 if few else 2, rng
        )
        layers, flops = _count(text, settings.side)
        if layers > (settings.max_layers or layers) or flops > (settings.budget_mflops or flops) * 1e6:
            continue
        blocks = parse(text)
        if len(blocks) == 5:
            PlainNet(blocks, settings.num_classes)  # only its string is used
            population.append((ddsar(blocks, settings.side, settings.alpha), text))
    return population


def _mutate(text: str, space: str, num_draws: int, rng: random.Random) -> str:
    drawn = set()
    for _ in range(num_draws):
        blocks = list(parse(text, must_chain=False))
        index = rng.randint(1, len(blocks) - 1)
        if index not in drawn:
            drawn.add(index)
            candidates = _list_candidates(blocks[index], space)
            blocks[index] = parse(rng.choice(candidates))[0]
            text = to_string(chain(blocks))
    return to_string(split(parse(to_string(split(parse(text))))))


def _list_candidates(block, space: str) -> list[str]:  # noqa: ANN001
    """Return every candidate as a string, as often as the reference's cumulative lists hold it."""
    found = choices(block, SPACES[space])
    product = itertools.product(*found)
    return [
        f"{name}({block.in_channels},{out},{block.stride},{middle},{layers})"
        for name, out, middle, layers in product
    ]


def _count(text: str, side: int) -> tuple[int, float]:
    """Return layers and FLOPs, the latter by walking through all units of the string's blocks."""
    total, blocks = 0.0, parse(text)
    for block in blocks:
        flops, side = block_flops.__wrapped__(block, side)
        total += flops
    return count_layers(blocks), total


def count_flops(models: list[dict]) -> list[int]:
    """Return the FLOPs of configs' models by building each and counting a forward pass on shapes."""
    return [sum(count_complexity(build_detector(model), *SIZE_HW).flops.values()) for model in models]
