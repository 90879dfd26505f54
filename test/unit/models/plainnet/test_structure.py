"""Structure strings: reading, printing, messages, splitting; and their cost (golden G12)."""

import json
import random
import subprocess
import sys

import pytest

from mmdet.errors import ConfigError
from mmdet.models.plainnet.cost import Variant, count_flops, count_size, receptive_field
from mmdet.models.plainnet.structure import (
    KINDS,
    Block,
    chain,
    count_layers,
    parse,
    round8,
    split,
    to_string,
    units,
)

STEM = "SuperConvK3BNRELU(3,32,2,1)"
# What the reference reads and we do not: a network of no layers, an argument that is dropped silently,
# layers that no published structure has.
STRICTER = ("conv_with_five_arguments", "zero_sub_layers", "elementary")


@pytest.fixture(scope="module")
def numbers(shared) -> dict:
    return json.loads((shared / "golden2" / "g12_ddsar.json").read_text())


def test_golden_strings_parse_or_are_refused_as_in_the_reference(numbers):
    for case in numbers["parsing"]:
        if "printed" in case and case["case"] not in STRICTER:
            blocks = parse(case["string"], must_chain=False)
            assert (to_string(blocks), len(blocks)) == (case["printed"], case["blocks"])
        else:
            with pytest.raises(ConfigError, match="structure string, position"):
                parse(case["string"])


def test_golden_costs(numbers):
    variants = {
        "no_reslink": Variant(shortcut=False),
        "no_BN": Variant(norm=False),
        "use_se": Variant(squeeze=True),
    }
    for case in numbers["structures"].values():
        blocks = parse(case["structure"], must_chain=False)
        assert to_string(blocks) == case["printed"]
        assert count_layers(blocks) == case["layers"]
        assert count_size(blocks) == case["size"]
        assert {side: count_flops(blocks, int(side)) for side in case["flops"]} == case["flops"]
        assert to_string(split(blocks)) == case["split6"]
        for name, variant in variants.items():
            found = {"size": count_size(blocks, variant), "flops_224": count_flops(blocks, 224, variant)}
            assert found == case[name]


def test_golden_rounding(numbers):
    assert {key: round8(float(key)) for key in numbers["round8"]} == numbers["round8"]


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("", 0, "the name of a super block"),
        (STEM + " SuperResK3K3(32,48,2,16,2)", 27, "the name of a super block"),
        (STEM + ";", 27, "the name of a super block"),
        (STEM + "SuperResK3K5(32,48,2,16,2)", 27, "did you mean 'SuperRes"),
        ("SuperConvK3BNRELU[3]", 17, "'('"),
        ("SuperConvK3BNRELU(3,x,2,1)", 20, "out of SuperConvK3BNRELU(in, out, stride, sub_layers)"),
        ("SuperConvK3BNRELU(3,32,2", 24, "',' after stride"),
        ("SuperConvK3BNRELU(3,32,2,1", 26, "')' after sub_layers"),
        (STEM + "SuperResK3K3(32,48,2,16,0)", 51, "a number of at least 1"),
        (STEM + "SuperResK3K3(16,48,2,16,1)", 27, "in_channels 32"),
    ],
)
def test_messages_point_into_the_string(text, position, expected):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert f"structure string, position {position} " in str(caught.value)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_labels_and_blanks_inside_parentheses_are_dropped():
    text = "SuperConvK3BNRELU(stem| 3, 32 ,2,1)SuperResK3K3(32,48,2,16,2)"
    assert to_string(parse(text)) == STEM + "SuperResK3K3(32,48,2,16,2)"


def random_structure(rng: random.Random) -> tuple[Block, ...]:
    blocks, channels = [], rng.randint(1, 64)
    for _ in range(rng.randint(1, 8)):
        name = rng.choice(list(KINDS))
        middle = 0 if KINDS[name].family == "conv" else rng.randint(1, 99)
        out = rng.randint(1, 999)
        blocks.append(Block(name, channels, out, rng.randint(1, 2), middle, rng.randint(1, 9)))
        channels = out
    return tuple(blocks)


def test_printing_and_parsing_are_inverse():
    rng = random.Random(0)
    for _ in range(500):
        blocks = random_structure(rng)
        assert parse(to_string(blocks)) == blocks


def test_damaged_strings_parse_or_are_refused_by_position():
    rng, refused = random.Random(1), 0
    for _ in range(3000):
        text = to_string(random_structure(rng))
        at = rng.randrange(len(text) + 1)
        damaged = (
            text[:at] + rng.choice(["", ",", ")", "(", "|", ";", "x", "0", " ", "-1", "É"]) + text[at + 1 :]
        )
        try:
            parse(damaged)
        except ConfigError as error:
            refused += 1
            position = int(str(error).split("position ")[1].split()[0])
            assert 0 <= position <= len(damaged)
    assert 1000 < refused < 3000


def test_chain_repairs_in_channels_only():
    blocks = parse(STEM + "SuperResK3K3(8,48,2,16,2)SuperResK3K3(48,64,2,16,2)", must_chain=False)
    assert to_string(chain(blocks)) == STEM + "SuperResK3K3(32,48,2,16,2)SuperResK3K3(48,64,2,16,2)"


def test_split_twice_makes_nine_sub_layers_three_blocks():
    nine = split(split(parse(STEM + "SuperResK3K3(32,48,2,16,9)")))
    tail = "SuperResK3K3(32,48,2,16,3)SuperResK3K3(48,48,1,16,3)SuperResK3K3(48,48,1,16,3)"
    assert to_string(nine) == STEM + tail
    assert len(split(parse("SuperConvK3BNRELU(3,32,2,9)"))) == 1  # convolutions stay whole


def test_only_the_first_unit_or_changed_channels_need_a_projection():
    (block,) = parse("SuperResK1K3K1(32,32,2,8,2)")
    steps = [(unit.stride, unit.has_projection) for unit in units(block)]
    assert steps == [(2, True), (1, False), (1, False), (1, False)]
    (block,) = parse("SuperResIDWE2K3(32,40,1,12,1)")
    first, second = units(block)
    assert [conv.out_channels for conv in first.convs] == [24, 24, 12]
    assert [conv.out_channels for conv in second.convs] == [80, 80, 40] and second.has_projection


def test_receptive_field_of_two_strided_convolutions():
    assert receptive_field(parse("SuperConvK3BNRELU(3,8,2,1)SuperConvK5BNRELU(8,8,2,1)")) == 3 + 4 * 2


def test_structures_load_no_torch():
    code = "import sys, mmdet.models.plainnet.cost; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr
