"""Every key of a config file against values that do not fit it; the schema and the document made from it."""

import math
import typing
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from mmdet.config import help_keys, load_config
from mmdet.config.load import resolve
from mmdet.config.pyfile import read_file
from mmdet.config.schema import REQUIRED, key, key_fields, key_name, list_keys, read
from mmdet.config.types import AdamKeys, RunConfig, SgdKeys
from mmdet.config.values import Limits, check_arguments, check_value, type_words
from mmdet.errors import ConfigError

SMALL = """
model = dict(type="SCRFD", backbone=dict(type="MobileNetV1"))
data = dict(samples_per_gpu=8, train=dict(type="D"), val=dict(type="D"))
optimizer = dict(type="SGD", lr=0.01)
lr_config = dict(policy="step", step=[2, 3])
optimizer_config = dict(grad_clip=dict(max_norm=1.0))
ema = dict(momentum=0.1)
total_epochs = 4
evaluation = dict(interval=2)
"""

# Value: the kinds of key that may take it. "number" stands for an int or float whose limits allow it.
VALUES = [
    (math.nan, ()),
    (math.inf, ()),
    (-math.inf, ()),
    (10**30, ()),
    (1e300, ()),
    ("", ()),
    ("a\0b", ()),
    ("x" * 5000, ()),
    (True, ("bool",)),
    (-7, ()),
    (-0.5, ()),
    (0, ("number",)),
    (0.5, ("float",)),
    ("no such thing", ("str",)),
    ([], ("list",)),
    ([[]], ()),
    ({"no_such_key": 1}, ("any dict",)),
    (3.0, ("float",)),
    ([2, 1], ()),
    (10**5000, ()),
]

LEGACY = {  # key: the kinds it takes
    "data.imgs_per_gpu": "int",
    "data.val.samples_per_gpu": "int",
    "fp16.loss_scale": "float or any dict",
    "amp.opt_level": "",
    "runner.max_epochs": "int",
    "runner.type": "",
    "lr_config.min_lr_ratio": "float number",
    "checkpoint_config.by_epoch": "bool",
    "log_config.hooks": "list",
    "custom_hooks": "list",
    "workflow": "",
    "momentum_config": "",
    "train_cfg.pos_weight": "",
    "optimizer.paramwise_cfg": "",
}


def leaves(schema, path=""):
    """Yield (path, kinds) of every key, as the annotation alone tells: written apart from the reader."""
    hints = typing.get_type_hints(schema)
    for item in key_fields(schema):
        about, hint = item.metadata["key"], str(hints[item.name])
        name = f"{path}.{key_name(item)}" if path else key_name(item)
        inner = about.keys
        for option in typing.get_args(hints[item.name]) or (hints[item.name],):
            inner = option if hasattr(option, "__dataclass_fields__") else inner
        if inner is not None:
            yield name, ""
            yield from leaves(inner, name)
            continue
        kinds = [kind for kind in ("bool", "int", "float") if kind in hint]
        kinds += ["list"] if "tuple" in hint else []
        kinds += ["str"] if "str" in hint and not about.limits.choices else []
        kinds += ["any dict"] if "dict" in hint or name == "amp.loss_scale" else []  # GradScaler's arguments
        yield name, " ".join(kinds)


def cases():
    for name, kinds in [*leaves(RunConfig), *leaves(AdamKeys, "optimizer"), *LEGACY.items()]:
        yield pytest.param(name, kinds, id=name)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.py"
    path.write_text(SMALL)
    return read_file(path)


@pytest.mark.parametrize(("name", "kinds"), list(cases()))
def test_a_value_that_does_not_fit_is_refused_by_the_name_of_its_key(small, name, kinds):
    base = {} if name.startswith("optimizer.") is False else {"optimizer.type": "AdamW"}
    if name in ("optimizer.momentum", "optimizer.dampening", "optimizer.nesterov"):
        base = {}
    for value, takers in VALUES:
        is_number = "number" in takers and ("int" in kinds or "float" in kinds)
        may_pass = is_number or any(taker in kinds for taker in takers)
        if isinstance(value, dict):
            options = {**base, name + ".no_such_key": 1}
        else:
            options = {**base, name: value}
        try:
            resolve(small, options, "small.py")
        except ConfigError as error:
            message = str(error)
            assert "\n" not in message and len(message) < 600
            named = [name, *(name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1))]
            assert any(part in message for part in named), (value, message)
        else:
            assert may_pass, f"{name} = {str(value)[:50]} was taken"


def test_each_key_has_a_meaning_and_stands_once():
    names = [name for name, _ in leaves(RunConfig)]
    assert len(names) == len(set(names)) > 60
    assert all(line.split("): ", 1)[1] for line in list_keys(RunConfig))
    assert {name for name, _ in leaves(SgdKeys)} == {
        "type", "lr", "momentum", "dampening", "weight_decay", "nesterov"
    }  # fmt: skip


def test_the_document_is_up_to_date(repo):
    assert (repo / "docs" / "config.md").read_text() == help_keys(), (
        "run: python tools/print_config.py --help-keys > docs/config.md"
    )


def test_the_list_of_keys_says_type_limits_default_and_meaning():
    lines = list(list_keys(RunConfig))
    assert (
        "- `model` (dict; required): detector: dict(type=..., backbone=..., neck=..., bbox_head=...)" in lines
    )
    assert "- `lr_config.gamma` (float, at least 0; default 0.1): factor of each step" in lines
    assert "- `seed` (int, at least 0): of weights and data" in lines
    assert "- `amp.loss_scale` (float or dynamic, above 0; default 128.0): static, or dynamic" in lines


@dataclass(frozen=True)
class Inner:
    count: int = key(1, "a count", least=1)


@dataclass(frozen=True)
class Outer:
    name: str = key(REQUIRED, "a name")
    deep: float | None = key(None, "a number", name="box.deep")
    inner: Inner = key(Inner(), "one")
    maybe: Inner | None = key(None, "one or none")
    filename: str = ""


def test_read_follows_the_schema():
    values = {"name": "a", "box": {"deep": 2}, "inner": {"count": 3}}
    assert read(Outer, values, filename="f") == Outer("a", 2.0, Inner(3), None, "f")
    assert read(Outer, {"name": "a", "maybe": {}}) == Outer("a", maybe=Inner())
    assert read(Outer, {"name": "a", "box": None, "inner": None}) == Outer("a")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "name is missing"),
        (
            {"name": "a", "nme": 1},
            "top-level key = 'nme' is unknown; did you mean 'name'? Known: box, inner,",
        ),
        ({"name": "a", "filename": "b"}, "top-level key = 'filename' is unknown"),
        (
            {"name": "a", "box": {"dep": 1}},
            "key of box = 'dep' is unknown; did you mean 'deep'? Known: deep.",
        ),
        ({"name": "a", "box": 3}, "box = 3 must be a dict(...)"),
        ({"name": "a", "inner": {"count": 0}}, "inner.count = 0 must be at least 1"),
        ({"name": "a", "maybe": {"cont": 0}}, "key of maybe = 'cont' is unknown; did you mean 'count'?"),
    ],
)
def test_read_names_what_is_wrong(values, message):
    with pytest.raises(ConfigError) as caught:
        read(Outer, values)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("value", "hint", "result"),
    [
        (1, float, 1.0),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, 2.5], tuple[float, float], (1.0, 2.5)),
        ("a", tuple[str, ...], ("a",)),
        (None, int | None, None),
        (2, int | str, 2),
        ("x", Literal["x", "y"], "x"),
        ({"a": 1}, dict | None, {"a": 1}),
        (3, Annotated[int, Limits(least=1)], 3),
        ([[1], [2, 3]], tuple[tuple[int, ...], ...], ((1,), (2, 3))),
    ],
)
def test_check_value_returns_what_the_hint_wants(value, hint, result):
    checked = check_value(value, hint, "a.b")
    assert checked == result and type(checked) is type(result)


@pytest.mark.parametrize(
    ("value", "hint", "message"),
    [
        (True, int, "a.b = True must be of type int"),
        (1.0, int, "a.b = 1.0 must be of type int"),
        ("1", float | None, "a.b = '1' must be of type float"),
        (math.nan, float, "a.b = nan must be a number between"),
        ([1, "2"], tuple[int, ...], "a.b.1 = '2' must be of type int"),
        ([1], tuple[int, int], "a.b = [1] must hold 2 values"),
        ("z", Literal["x", "y"], "a.b = 'z' is unknown. Known: x, y."),
        (0, Annotated[int, Limits(least=1)], "a.b = 0 must be at least 1"),
        ([0], Annotated[tuple[int, ...], Limits(least=1)], "a.b.0 = 0 must be at least 1"),
        ({1: 2}, dict, "a.b = {1: 2}: keys must be strings"),
    ],
)
def test_check_value_refuses(value, hint, message):
    with pytest.raises(ConfigError) as caught:
        check_value(value, hint, "a.b")
    assert str(caught.value).startswith(message)


def test_type_words():
    hints = {"int": int, "float or str": float | str, "list of int": tuple[int, ...], "str": str | None}
    assert {words: type_words(hint) for words, hint in hints.items()} == {words: words for words in hints}


def test_arguments_are_checked_by_the_signature():
    class Neck:
        def __init__(
            self,
            *,
            channels: Annotated[int, Limits(least=1)],
            act: "str | None" = None,
            strides: list[int] = (),
            other=None,
        ):
            pass

    check_arguments(Neck, {"channels": 3, "act": None, "other": object(), "unknown": 1}, "model.neck")
    for arguments, message in [
        ({"channels": 0}, "model.neck.channels = 0 must be at least 1"),
        ({"channels": None}, "model.neck.channels = None must be of type int"),
        ({"act": 3}, "model.neck.act = 3 must be of type str"),
        ({"strides": [8, 0]}, "model.neck.strides.1 = 0 must be above 0"),
    ]:
        with pytest.raises(ConfigError) as caught:
            check_arguments(Neck, arguments, "model.neck")
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "project"),
    [
        ("train_dataloader = dict()\noptim_wrapper = dict()\n", "mmdet 3.x"),
        ("model = dict()\nval_evaluator = dict()\n", "mmdet 3.x"),
        ("cfg_mnet = {'name': 'mobilenet0.25'}\n", "Pytorch_Retinaface"),
    ],
)
def test_a_python_file_of_another_project_is_refused_by_name(tmp_path, text, project):
    path = tmp_path / "other.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=project):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "project"),
    [
        ("path: ../coco\ntrain: images\nval: images\nnames: {0: person}\n", "ultralytics data"),
        ("nc: 80\nbackbone: []\nhead: []\n", "ultralytics model"),
        ("lr0: 0.01\nlrf: 0.01\n", "ultralytics training"),
        ("MODEL: {WEIGHTS: a}\nSOLVER: {BASE_LR: 0.1}\n", "detectron2"),
    ],
)
def test_a_yaml_file_of_another_project_is_refused_by_name(tmp_path, text, project):
    path = tmp_path / "other.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=project):
        load_config(path)
