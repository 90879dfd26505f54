"""Where operators run: the shipped rules, and a former commit's step that was counted by hand."""

import json
from collections import Counter
from pathlib import Path

import pytest

from mmdet.errors import ConfigError
from mmdet.testing.ascend_ops import NATIVE
from mmdet.testing.cost import assume, forecast
from mmdet.testing.placement import (
    AI_CORE,
    AI_CPU,
    CAST_FIRST,
    CHIPS,
    HOST,
    IN_FP16,
    ORDER_CHANGES,
    UNKNOWN,
    Call,
    Placement,
    TensorInfo,
    placement_of,
    read_rules,
    rules,
)

# scrfd_10g_8p, batch 32, 640 px, O2, as recorded at commit 8fecd90.
OLD_STEP = Path(__file__).parent / "scrfd_10g_8p_8fecd90.jsonl"


def call(name, *inputs, out=None, **arguments):
    tensors = tuple(TensorInfo(dtype, shape) for dtype, shape in inputs)
    outputs = tensors[:1] if out is None else (TensorInfo(out, tensors[0].shape),)
    return Call(f"aten::{name}", tensors, outputs, tuple(arguments.items()), NATIVE)


ROW, TABLE = (64,), (8, 64)


@pytest.mark.parametrize(
    ("made", "on_910a", "on_910b", "on_310p"),
    [
        (call("sort", ("float32", ROW)), ORDER_CHANGES, AI_CORE, ORDER_CHANGES),
        (call("sort", ("float16", ROW)), AI_CORE, AI_CORE, AI_CORE),
        (call("sort", ("float16", (64, 1))), AI_CPU, AI_CPU, AI_CPU),
        (call("sort", ("float16", (64, 1)), dim=0), AI_CORE, AI_CORE, AI_CORE),
        (call("sort", ("int64", ROW)), AI_CPU, AI_CPU, AI_CPU),
        (call("__lshift__.Scalar", ("int32", ROW)), AI_CPU, AI_CPU, AI_CPU),
        (call("__ior__.Tensor", ("int64", ROW), ("int64", ROW)), AI_CPU, AI_CORE, AI_CPU),
        (call("bitwise_or.Tensor", ("bool", ROW), ("bool", ROW)), AI_CORE, AI_CORE, AI_CORE),
        (call("floor_divide", ("int64", ROW)), AI_CPU, AI_CPU, AI_CPU),
        (call("remainder.Scalar", ("int64", ROW)), AI_CORE, AI_CORE, AI_CORE),
        (call("cumsum", ("int32", ROW), out="int64"), AI_CPU, AI_CPU, AI_CPU),
        (call("cumsum", ("float32", ROW)), AI_CORE, AI_CORE, AI_CORE),
        (call("sum", ("bool", ROW), out="int64"), AI_CPU, AI_CORE, AI_CORE),
        (call("_to_copy", ("int64", ROW), out="float32"), AI_CPU, AI_CORE, AI_CPU),
        (call("_to_copy", ("int64", ROW), out="int32"), AI_CORE, AI_CORE, AI_CORE),
        (call("_to_copy", ("float32", ROW), out="float64"), AI_CPU, AI_CPU, AI_CPU),
        (call("_to_copy", ("bfloat16", ROW), out="float32"), AI_CORE, AI_CORE, AI_CORE),
        (call("copy_", ("float32", ROW), ("int64", ROW)), AI_CPU, AI_CORE, AI_CPU),
        (call("div.Tensor", ("float32", ROW), ("int64", ROW)), CAST_FIRST, AI_CORE, CAST_FIRST),
        (call("div.Tensor", ("float32", ROW), ("int64", ())), AI_CORE, AI_CORE, AI_CORE),
        (call("mul.Tensor", ("float32", ROW), ("bool", ROW)), AI_CORE, AI_CORE, AI_CORE),
        (
            call("convolution", ("float32", (1, 3, 8, 8)), ("float32", (4, 3, 3, 3))),
            IN_FP16,
            AI_CORE,
            IN_FP16,
        ),
        (call("topk", ("float16", (40000,)), k=4), AI_CPU, AI_CORE, AI_CORE),
        (call("topk", ("float16", (40000,)), k=9), AI_CORE, AI_CORE, AI_CORE),
        (call("scatter_add_", ("float32", (65536,)), dim=0), AI_CORE, AI_CORE, AI_CPU),
        (call("scatter_add_", ("float32", (65537,)), dim=0), AI_CPU, AI_CORE, AI_CPU),
        (call("scatter_add_", ("float32", TABLE), dim=0), AI_CPU, AI_CORE, AI_CPU),
        (call("scatter_add_", ("float32", TABLE), dim=1), AI_CORE, AI_CORE, AI_CORE),
        (call("gather", ("float32", (768001,)), ("int64", (2001,)), dim=0), AI_CPU, AI_CPU, AI_CPU),
        (call("gather", ("float32", (768001,)), ("int64", (2000,)), dim=0), AI_CORE, AI_CORE, AI_CORE),
        (call("scatter_reduce_.two", ("float32", ROW), dim=0, reduce="amax"), HOST, HOST, HOST),
        (call("scatter_reduce_.two", ("float32", ROW), dim=0, reduce="sum"), AI_CORE, AI_CORE, AI_CPU),
        (call("scatter_reduce_.two", ("int64", ROW), dim=0, reduce="sum"), HOST, HOST, HOST),
        (call("isfinite", ("float32", ROW), out="bool"), AI_CPU, AI_CORE, AI_CORE),
        (call("_foreach_add_.List", ("float32", ROW), ("float32", ROW)), AI_CORE, AI_CORE, AI_CORE),
        (call("where.self", ("bool", ROW), ("float64", ROW), ("float64", ROW)), AI_CPU, AI_CPU, AI_CPU),
        (call("conv3d", ("float32", ROW)), UNKNOWN, UNKNOWN, UNKNOWN),
    ],
    ids=lambda value: f"{value.name} {value.inputs[0].dtype}" if isinstance(value, Call) else "",
)
def test_where_each_chip_computes_a_call(made, on_910a, on_910b, on_310p):
    found = [placement_of(made, chip) for chip in CHIPS]
    assert [placement.note or placement.unit for placement in found] == [on_910a, on_910b, on_310p]


def test_what_is_an_offence():
    assert (
        Placement(AI_CORE).offence == Placement(AI_CORE, IN_FP16).offence == Placement(UNKNOWN).offence == ""
    )
    assert Placement(AI_CORE, ORDER_CHANGES).offence == ORDER_CHANGES
    assert Placement(AI_CPU, CAST_FIRST).offence == AI_CPU
    assert Placement(HOST).offence == HOST


def test_every_rule_names_its_source():
    assert len(rules()) > 100
    assert all(rule.source for rule in rules().values())


@pytest.mark.parametrize(
    "line", ["add | in | f16", "add | first one | f16 | = | = | | OM", "add | in | f16 | = | = | odd | OM"]
)
def test_a_bad_line_of_the_table_is_named(line, tmp_path):
    (tmp_path / "rules.txt").write_text(f"# head\n{line}\n")
    with pytest.raises(ConfigError, match=r"rules.txt:2: expected 7 columns"):
        read_rules(tmp_path / "rules.txt")


# ---- the step of a former commit ------------------------------------------------------------


@pytest.fixture(scope="module")
def old_step():
    calls = []
    for line in OLD_STEP.read_text().splitlines():
        count, name, inputs, outputs, arguments, verdict = json.loads(line)
        tensors = [tuple(TensorInfo(d, tuple(s)) for d, s in group) for group in (inputs, outputs)]
        calls += [Call(name, *tensors, tuple(arguments.items()), verdict)] * count
    return calls


def test_the_old_step_had_what_was_counted_by_hand(old_step):
    # By hand, with isfinite as the four operators torch composes it of and torch's scaler: 1,036 launches.
    assert len(old_step) == 1036 - 3 * (4 - 1) - 2
    for chip, by_hand, after_casts, isfinite in (("910A", 35, 5, 3), ("910B", 19, 0, 0)):
        found = [(c.base, placement_of(c, chip)) for c in old_step]
        assert Counter(p.unit for _, p in found)[HOST] == 1
        on_ai_cpu = [(name, p.note) for name, p in found if p.unit == AI_CPU]
        assert sum(note == CAST_FIRST for _, note in on_ai_cpu) == after_casts  # not counted by hand
        assert sum(name == "isfinite" for name, _ in on_ai_cpu) == isfinite
        assert len(on_ai_cpu) == by_hand + after_casts + isfinite
        assert {p.unit for _, p in found} == {AI_CORE, AI_CPU, HOST}


def test_the_old_step_was_estimated_at_79_to_116_ms(old_step):
    time = forecast(old_step, "910B", assume("910B"))
    parts = time.parts_ms
    assert 79 < time.device_ms < 116 and time.launch_ms < 20
    by_hand = {"layout changes": 37, "convolutions": 28, "batch norm": 19, "ReLU": 11, "adds": 6, "pools": 4}
    assert {part: parts[part] for part in by_hand} == pytest.approx(by_hand, rel=0.4)


def test_assumptions_change_the_estimate(old_step):
    slow = forecast(old_step, "910B", assume("910B", ["ai_cpu_us=1000"]))
    usual = forecast(old_step, "910B", assume("910B"))
    assert slow.parts_ms[AI_CPU] - usual.parts_ms[AI_CPU] == pytest.approx(19 * 0.8)
    private = forecast(old_step, "910B", assume("910B", ["private_format=1"]))
    assert "layout changes" not in private.parts_ms
    host_bound = forecast(old_step, "910B", assume("910B", ["launch_us=500"]))
    assert host_bound.step_ms == pytest.approx(1025 * 0.5)


def test_a_convolution_takes_its_operations():
    made = Call(
        "aten::convolution",
        (TensorInfo("float16", (1, 16, 4, 4)), TensorInfo("float16", (32, 16, 3, 3))),
        (TensorInfo("float16", (1, 32, 4, 4)),),
        (),
        NATIVE,
    )
    # 2 x 32 x 16 outputs x 16 x 9 = 147,456 operations
    time = forecast([made], "910B", assume("910B", ["cube_tflops=0.000001", "private_format=1"]))
    assert time.parts_ms == {"convolutions": pytest.approx(147.456)}
