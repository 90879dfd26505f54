"""The plain versions of both searches give what the fast ones give."""

import argparse
import random

import pytest

from benchmark import baseline_search, search
from mmdet.config import load_config
from mmdet.models.plainnet.structure import parse
from mmdet.search.cost import total_flops
from mmdet.search.evolve import DdsarSettings, Evolution
from mmdet.search.score import ddsar
from mmdet.search.settings import read_settings


@pytest.mark.slow
def test_the_plain_evolution_keeps_the_same_kind_of_structures():
    settings = read_settings(str(search.SEARCHES / "ddsar_500m.py"), DdsarSettings)
    population = baseline_search.evolve(settings, 150, seed=0)
    judge = Evolution(settings, ddsar, random.Random(0))
    assert 3 < len(population) < 40
    for score, text in population:
        assert judge.exceeded(parse(text)) is None and ddsar(parse(text)) == score


def test_the_plain_count_equals_the_formula(repo):
    model = load_config(repo / "configs/toy/scrfd_tiny_toy.py").model
    assert baseline_search.count_flops([model]) == [total_flops(model)]


@pytest.mark.slow
def test_the_benchmark_runs_and_agrees():
    figures = search.run(argparse.Namespace(rounds=1, mutations=20, candidates=2))
    assert figures["flops_per_candidate"]["largest_difference"] == 0
    assert figures["ddsar_500m"]["ratio_to_published"] > 50
