"""YAML from strangers: plain values, bounded."""

import pytest

from mmdet.plain_yaml import load_yaml


def test_plain_values_with_aliases_and_merge_keys():
    text = "a: &a {x: 1}\nb: [*a, *a]\nc: {<<: *a, y: .5}\n"
    assert load_yaml(text) == {"a": {"x": 1}, "b": [{"x": 1}, {"x": 1}], "c": {"x": 1, "y": 0.5}}
    assert load_yaml("") is None and load_yaml("7") == 7


@pytest.mark.parametrize("form", ["{0}: &{0} [{1}]", "{0}: &{0} {{<<: [{1}]}}"])
def test_bombs_are_refused(form):
    """Nine levels, each ten times the one before: a thousand million values, or pairs of merge keys."""
    lines = ["a0: &a0 {k: v}"]
    for level in range(1, 10):
        lines.append(form.format(f"a{level}", ", ".join([f"*a{level - 1}"] * 10)))
    with pytest.raises(ValueError, match="more than 200000 values"):
        load_yaml("\n".join(lines))


@pytest.mark.parametrize(
    "text", ["a: &a [*a]", "a: [", "!!python/object/apply:os.system [x]", "{[a]: 1}: 2", "[" * 100_000]
)
def test_what_is_no_plain_document_is_named(text):
    with pytest.raises(ValueError):
        load_yaml(text)
