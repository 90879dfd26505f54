"""Values of --cfg-options as text."""

import pytest

from mmdet.config import parse_options
from mmdet.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1_0", 10),
        ("1e-3", 0.001),
        ("true", True),
        ("FALSE", False),
        ("None", None),
        ("none", "none"),
        ("", ""),
        ("abc", "abc"),
        ("'abc'", "abc"),
        ("a=b", "a=b"),
        ("1,2,3", [1, 2, 3]),
        ("[1, 2,3]", [1, 2, 3]),
        ("(640,640)", (640, 640)),
        ("[]", []),
        ("[(0.3,a),(1,b)]", [(0.3, "a"), (1, "b")]),
        ("[1,2],[3]", [[1, 2], [3]]),
        ("/data/WIDER FACE", "/data/WIDER FACE"),
    ],
)
def test_option_values(text, value):
    parsed = parse_options([f"a.b={text}"])
    assert parsed == {"a.b": value}
    assert type(parsed["a.b"]) is type(value)


@pytest.mark.parametrize("option", ["a.b", "=1", "a..b=1", "a=[1,2", "a=(1]"])
def test_malformed_option_is_named(option):
    with pytest.raises(ConfigError, match="--cfg-options") as caught:
        parse_options([option])
    assert option in str(caught.value)


@pytest.mark.parametrize("option", ["a=" + "[" * 100_000, "a=" + "[" * 50 + "]" * 50, "a." * 1000 + "a=1"])
def test_a_hostile_option_is_refused_in_one_line(option):
    with pytest.raises(ConfigError) as caught:
        parse_options([option])
    assert str(caught.value).startswith("--cfg-options ") and len(str(caught.value)) < 200
