"""The messages of errors."""

from mmdet.errors import MMDetError, unknown_name


def test_an_unknown_name_is_told_with_the_nearest_known_one():
    known = ["json", "txt"]
    assert unknown_name("--format", "jsn", known) == (
        "--format = 'jsn' is unknown; did you mean 'json'? Known: json, txt."
    )
    assert unknown_name("--format", "pdf", known) == "--format = 'pdf' is unknown. Known: json, txt."


def test_a_message_is_one_line_whatever_a_file_put_into_it():
    assert (
        str(MMDetError("a.pth holds no weights (its keys: x\ny\r\nz)"))
        == "a.pth holds no weights (its keys: x y z)"
    )
    assert str(MMDetError()) == ""
