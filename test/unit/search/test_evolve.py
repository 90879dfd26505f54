"""DDSAR: spaces, mutations, score, budgets and replays (golden G12), repeatability, resume, messages."""

import hashlib
import itertools
import json
import random
from collections import Counter
from dataclasses import replace as change

import pytest

from mmdet.errors import ConfigError
from mmdet.models.plainnet.structure import Block, count_layers, parse, split, to_string
from mmdet.search.ddsar import DdsarOptions, make_score, run_ddsar
from mmdet.search.evolve import DdsarSettings, Evolution
from mmdet.search.score import STAGE_WEIGHTS, ddsar, stage
from mmdet.search.settings import read_settings
from mmdet.search.space import SPACES, choices, draw, mutate, replace

BUDGETS = {"500M": "500m", "2.5G": "2.5g", "10G": "10g", "34G": "34g"}


@pytest.fixture(scope="module")
def numbers(shared) -> dict:
    return json.loads((shared / "golden2" / "g12_ddsar.json").read_text())


@pytest.fixture(scope="module")
def settings(repo) -> dict[str, DdsarSettings]:
    folder = repo / "configs" / "search"
    return {
        key: read_settings(str(folder / f"ddsar_{name}.py"), DdsarSettings) for key, name in BUDGETS.items()
    }


def start(settings: DdsarSettings, seed: int = 0, **options) -> Evolution:
    return Evolution(settings, ddsar, random.Random(seed), **options)


def read(text: str) -> tuple[Block, ...]:
    return parse(text, must_chain=False)


def test_scores_and_stages_equal_the_reference(numbers):
    for case in numbers["structures"].values():
        blocks = read(case["structure"])
        if len(blocks) < 5:
            with pytest.raises(ValueError, match="5 blocks"):
                ddsar(blocks)
            continue
        assert ddsar(blocks, 224) == pytest.approx(case["score_224"], abs=1e-12)
        assert ddsar(blocks, 160) == pytest.approx(case["score_160"], abs=1e-12)
        side = 224.0
        for block, expected in zip(blocks, case["stages_224"], strict=False):
            found = stage(block, side)
            assert found.information == pytest.approx(expected["A"] + expected["B"], rel=1e-12)
            assert (found.kernels, found.side) == (expected["D"], expected["h_out"])
            side = found.side
    assert sum(STAGE_WEIGHTS) == pytest.approx(1)


def test_candidates_equal_the_reference(numbers):
    for case in numbers["candidates"]:
        (block,) = read(case["block"])
        found = choices(block, SPACES[case["space"]])
        names = [
            to_string([Block(name, block.in_channels, out, block.stride, middle, layers)])
            for name, out, middle, layers in itertools.product(*found)
        ]
        distinct = sorted(set(names))
        assert (len(names), len(distinct)) == (case["total"], case["distinct"])
        assert hashlib.sha256("\n".join(distinct).encode()).hexdigest() == case["sha256_sorted_distinct"]
        assert Counter(name.split("(")[0] for name in names) == case["total_per_type"]


def test_draws_have_the_distribution_of_the_candidate_list():
    (block,) = read("SuperResK3K3(32,32,2,32,3)")
    rng, space = random.Random(0), SPACES["XXBL"]
    drawn = Counter(draw(block, space, rng).name for _ in range(16_000))
    for name, multiplicity in {
        "SuperResK1K3K1": 3,
        "SuperResK1K7K1": 2,
        "SuperResK5K5": 3,
        "SuperResK7K7": 2,
    }.items():
        assert abs(drawn[name] - 1000 * multiplicity) < 4 * (1000 * multiplicity) ** 0.5


def test_idw_also_widens_1x1_convolutions():
    (block,) = read("SuperConvK1BNRELU(64,72,1,1)")
    assert choices(block, SPACES["IDW_fixfc"]).outs == (72,)
    assert choices(block, SPACES["IDW"]).outs == (72, 88, 112, 128)  # 13.5 eights round to 14


def child_of(case: dict, ids: str, picks: str) -> tuple[Block, ...]:
    """Return the child of a golden round whose draws are given."""
    drawn = dict(zip(dict.fromkeys(case[ids]), (read(text)[0] for text in case[picks]), strict=True))
    return replace(read(case["parent"]), drawn)


def test_mutations_with_given_draws_equal_the_reference(numbers):
    for case in numbers["mutations"]:
        child = child_of(case, "block_ids", "picked")
        assert to_string(child) == case["result"]
        assert (len(child), count_layers(child)) == (case["blocks"], case["layers"])
        if len(child) == 5:
            assert ddsar(child) == pytest.approx(case["score_224"], abs=1e-12)


def test_replays_equal_the_reference_round_for_round(numbers, settings):
    seen = Counter()
    for name, replay in numbers["replay"].items():
        search = start(settings[name])
        for case in replay["rounds"]:
            child = child_of(case, "ids", "picks")
            assert to_string(child) == case["child"]
            reason = case["outcome"].split()[0]
            assert (search.exceeded(child) or "kept").split()[0] == reason
            if reason == "kept":
                assert ddsar(child) == pytest.approx(case["score"], abs=1e-12)
            elif reason == "flops":
                assert f"{search._flops(child):.5e}" == f"{float(case['outcome'][6:]):.5e}"
            seen[reason] += 1
    assert seen == {"flops": 306, "kept": 34}


def test_budgets_equal_the_reference(numbers, settings):
    for case in numbers["budgets"]:
        numbers_of = numbers["structures"][case["structure"]]
        blocks, budget = read(numbers_of["structure"]), case["budget"]
        if budget in settings:
            limits = settings[budget]
        else:
            what, how = budget.split("_", 1)
            value = {
                "flops": numbers_of["flops"]["224"],
                "size": numbers_of["size"],
                "layers": numbers_of["layers"],
            }
            field = {"layers": "max_layers", "size": "budget_size", "flops": "budget_mflops"}[what]
            limit = (value[what] - (how == "minus_1")) * (1e-6 if what == "flops" else 1)
            none = {"budget_mflops": None, "max_layers": None}
            limits = change(settings["500M"], **{**none, field: limit})
        assert (start(limits).exceeded(split(split(blocks))) is None) == case["accepted"], case


def test_flops_and_params_scores_leave_the_shortcuts_out(numbers, settings, tmp_path):
    for name, cases in numbers["main_other_scores"].items():
        score = make_score(DdsarOptions("x", tmp_path, score=name.lower()), settings["500M"])
        for key, expected in cases.items():
            assert score(read(numbers["structures"][key]["structure"])) == expected


def test_500m_statistics_are_those_of_the_reference(settings):
    best = []
    for seed in range(5):
        search = start(settings["500M"], seed, reference_rules=True)
        search.run(2000)
        assert 100 <= len(search.members) <= 260 and 0.89 < search.outcomes["flops"] / 2000 < 0.95
        best.append(search.best().score)
    assert min(best) >= 9.40 and abs(sum(best) / 5 - 9.460) < 0.04


def test_one_seed_gives_one_result_and_no_structure_twice(settings):
    runs = [start(settings["2.5G"], seed) for seed in (3, 3, 4)]
    for search in runs:
        search.run(1500)
    assert runs[0].state() == runs[1].state() != runs[2].state()
    structures = [member.structure for member in runs[0].members]
    assert len(set(structures)) == len(structures) and runs[0].outcomes["repeat"] > 0


def test_the_population_keeps_its_limit_and_the_best(settings):
    search = start(change(settings["2.5G"], population=20))
    search.run(2000)
    assert len(search.members) == 20
    assert search.best().score == max(entry[1] for entry in [*search.history, (0, search.best().score)])


def test_resume_continues_exactly(settings, tmp_path):
    limits = change(settings["500M"], rounds=3000)
    whole = run_ddsar(limits, DdsarOptions("a", tmp_path / "whole"))
    run_ddsar(change(limits, rounds=1200), DdsarOptions("a", tmp_path / "parts"))
    parts = run_ddsar(limits, DdsarOptions("a", tmp_path / "parts", resume=True))
    assert parts.state() == whole.state()
    for name in ("best_structure.txt", "population.csv", "evolution_search.log"):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "parts" / name).read_text()


def test_another_search_in_the_folder_is_refused(settings, tmp_path):
    limits = change(settings["500M"], rounds=300)
    run_ddsar(limits, DdsarOptions("a", tmp_path))
    with pytest.raises(ConfigError, match="holds a search; continue it with --resume"):
        run_ddsar(limits, DdsarOptions("a", tmp_path))
    with pytest.raises(ConfigError, match="space = 'IDW_fixfc', not 'XXBL'"):
        run_ddsar(change(limits, space="XXBL"), DdsarOptions("a", tmp_path, resume=True))


def test_a_budget_nobody_meets_names_the_nearest(settings, tmp_path):
    limits = change(settings["500M"], rounds=200, budget_mflops=1)
    with pytest.raises(
        ConfigError, match=r"0 of 200 children .*the nearest has 4\d\.\d MFLOPs.*SuperConvK3BNRELU"
    ):
        run_ddsar(limits, DdsarOptions("a", tmp_path))


def test_unknown_names_are_refused(settings, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'ddsar'"):
        make_score(DdsarOptions("x", tmp_path, score="dsar"), settings["500M"])
    with pytest.raises(ConfigError, match="search.space"):
        change(settings["500M"], space="IDW_fix")


def test_settings_are_checked(repo, tmp_path):
    path = tmp_path / "a.py"
    path.write_text("search = dict(base='x.py', space='IDW', start=3)")
    with pytest.raises(ConfigError, match="search.start = 3 must be of type str"):
        read_settings(str(path), DdsarSettings)
    path.write_text("search = dict(base='x.py', space='IDW', strat='')")
    with pytest.raises(ConfigError, match="did you mean 'start'"):
        read_settings(str(path), DdsarSettings)
    path.write_text("search = dict(base='x.py', space='IDW')")
    with pytest.raises(ConfigError, match="search.start is missing"):
        read_settings(str(path), DdsarSettings)


def test_mutation_never_touches_the_stem():
    parent = read("SuperConvK3BNRELU(3,32,2,1)SuperResK3K3(32,32,2,32,3)SuperResK3K3(32,48,2,16,1)")
    rng = random.Random(0)
    children = [mutate(parent, SPACES["XXBL"], 2, rng) for _ in range(200)]
    assert all(child[0] == parent[0] for child in children)
    assert len(set(children)) > 150
