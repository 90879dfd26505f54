"""What a user may point at, and which files are refused."""

import cv2
import numpy as np
import pytest

from mmdet.deploy.cli.inputs import (
    decode_complete,
    find_inputs,
    image_tasks,
    is_truncated_jpeg,
    read_complete,
)
from mmdet.deploy.cli.video import LoadedImage, read_video, video_rate, video_tasks
from mmdet.errors import DataError
from mmdet.images import UnreadableImageError


def write(path, height=20, width=30):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype(np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path


def names(found):
    return [name for _, name in found.files]


def test_folder_with_all_below(tmp_path):
    for name in ("b.jpg", "a.PNG", "sub/c.webp", "film.MP4", "notes.txt", "sub/none"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_inputs([str(tmp_path)])
    assert names(found) == ["a.PNG", "b.jpg", "sub/c.webp"]
    assert found.videos == [(str(tmp_path / "film.MP4"), "film.MP4")]
    assert sorted(found.skipped) == [str(tmp_path / "notes.txt"), str(tmp_path / "sub/none")]
    assert found.skipped[str(tmp_path / "notes.txt")] == "neither a picture nor a video by its name"


def test_files_patterns_and_cameras(tmp_path):
    for name in ("x/1.jpg", "x/2.jpg", "x/deep/3.jpg", "x/4.txt", "5.data"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(find_inputs([f"{tmp_path}/x/*.jpg"])) == ["1.jpg", "2.jpg"]
    assert names(find_inputs([f"{tmp_path}/**/*.jpg"])) == ["x/1.jpg", "x/2.jpg", "x/deep/3.jpg"]
    assert names(find_inputs([str(tmp_path / "5.data")])) == ["5.data"]  # named by the user: tried
    found = find_inputs(["0", "12", f"{tmp_path}/x/?.txt", str(tmp_path / "x/1.jpg")])
    assert (
        [path for path, _ in found.videos] == [0, 12]
        and names(found) == ["1.jpg"]
        and len(found.skipped) == 1
    )


def test_a_file_whose_name_looks_like_a_pattern_or_a_camera(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a[1].jpg", "7"):
        (tmp_path / name).touch()
    found = find_inputs(["a[1].jpg", "7"])
    assert names(found) == ["a[1].jpg", "7"] and found.videos == []


def test_equal_names_are_told_apart_by_their_folders(tmp_path):
    for name in ("x/1.jpg", "y/1.jpg"):
        write(tmp_path / name)
    found = find_inputs([str(tmp_path / "x"), str(tmp_path / "y"), str(tmp_path / "x/1.jpg")])
    assert names(found) == ["x/1.jpg", "y/1.jpg"]  # given twice: once


def test_a_file_given_twice_under_two_names_counts_once(tmp_path, monkeypatch):
    write(tmp_path / "x/1.jpg")
    (tmp_path / "x/film.mp4").touch()
    monkeypatch.chdir(tmp_path)
    found = find_inputs(["x", "x/1.jpg", str(tmp_path / "x"), "x/../x/film.mp4", "x/*.jpg", "0", "0"])
    assert found.files == [("x/1.jpg", "1.jpg")]
    assert found.videos == [("x/film.mp4", "film.mp4"), (0, "camera 0")]


def test_what_lies_below_the_results_is_left_out(tmp_path):
    for name in ("a.jpg", "out/b.jpg", "out/sub/film.mp4", "out/notes.txt", "outer/c.jpg"):
        write(tmp_path / name) if name.endswith("jpg") else None
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    out = tmp_path / "out"
    for argument in (str(tmp_path), f"{tmp_path}/**/*"):
        found = find_inputs([argument], out)
        assert names(found) == ["a.jpg", "outer/c.jpg"] and not found.videos and not found.skipped
        assert found.num_left_out == 2
    assert names(find_inputs([str(out / "b.jpg")], out)) == ["b.jpg"]  # named by the user
    assert names(find_inputs([str(out)], out)) == ["b.jpg"]  # no drawing


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.jpg"], "none.jpg: no such file or folder"),
        (["empty"], r"empty: no picture and no video \(.jpg, .jpeg, .jpe, .png, .bmp, ...\)$"),
        (["texts"], "texts: no picture and no video .*; 1 other files there"),
        (["²"], "²: no such file or folder"),  # a digit to str.isdigit, not to int
        (["٣"], "٣: no such file or folder"),
        (["*.gif"], r"\*.gif: no picture and no video"),
        ([""], "an input is empty; give . for this folder"),  # of a shell variable that is not set
        (["99999999999999999999"], "99999999999999999999: no such file"),  # no number of a camera
        (["http://[::1/a.jpg"], r"//\[::1/a.jpg: Invalid IPv6 URL"),
    ],
)
def test_nothing_to_do(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").touch()
    with pytest.raises(DataError, match=message):
        find_inputs(arguments)


def test_every_cut_of_a_jpeg_is_seen(tmp_path):
    data = write(tmp_path / "a.jpg", 40, 40).read_bytes()
    assert not is_truncated_jpeg(data)
    assert all(is_truncated_jpeg(data[:end]) for end in range(2, len(data)))


def test_what_follows_a_jpeg_does_not_matter(tmp_path):
    """Phones append films; some programs pad with zeros; an embedded preview has an end of its own."""
    data = write(tmp_path / "a.jpg", 40, 40).read_bytes()
    assert not is_truncated_jpeg(data + b"\0" * 7) and not is_truncated_jpeg(data + b"\xff\xd8 more")
    preview = b"\xff\xe1" + (len(data) + 2).to_bytes(2, "big") + data
    assert not is_truncated_jpeg(data[:2] + preview + data[2:])
    assert is_truncated_jpeg((data[:2] + preview + data[2:])[:-30])
    filled = data[:2] + b"\xff\xff" + data[2:] + b"\n"  # any number of these bytes may precede a marker
    assert not is_truncated_jpeg(filled) and is_truncated_jpeg(filled[:-30])


def test_progressive_and_restart_markers(tmp_path):
    image = np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2]
    data = cv2.imencode(".jpg", image, options)[1].tobytes()
    assert not is_truncated_jpeg(data + b"\n") and is_truncated_jpeg(data[: len(data) // 2])


def test_a_list_as_editors_write_it(tmp_path):
    """With a byte order mark, CRLF, an indented remark and blanks around names."""
    for name in ("a.jpg", "b c.jpg"):
        write(tmp_path / name)
    (tmp_path / "l.txt").write_bytes(b"\xef\xbb\xbfa.jpg\r\n  # remark\r\n\r\n b c.jpg \r\n")
    assert names(find_inputs([str(tmp_path / "l.txt")])) == ["a.jpg", "b c.jpg"]


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x89PNG....", b"text"])
def test_other_data_is_no_truncated_jpeg(data):
    assert not is_truncated_jpeg(data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"no picture", "cannot be decoded"),
        (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer, not the file: fetch it"),
        (b"<!DOCTYPE html><html>", "is a web page, not the file"),
        (b"\xff\xd8\xff\xe0\0\x04ab", "is a JPEG cut off before its end"),
        (b"\x89PNG\r\n\x1a\n", "cannot be decoded"),
    ],
)
def test_files_that_are_no_picture(tmp_path, content, message):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UnreadableImageError, match=rf"image .*a.jpg {message}"):
        read_complete(tmp_path / "a.jpg")


def test_missing_file_and_bytes(tmp_path):
    with pytest.raises(UnreadableImageError, match="none.jpg: No such file"):
        read_complete(tmp_path / "none.jpg")
    data = write(tmp_path / "a.png").read_bytes()
    np.testing.assert_array_equal(decode_complete(data, "upload"), read_complete(tmp_path / "a.png"))


def test_tasks_read_pictures(tmp_path):
    write(tmp_path / "sub/a.png")
    (tmp_path / "b.png").touch()
    (_, broken), (path, read) = image_tasks(find_inputs([str(tmp_path)]))
    found = read()
    assert isinstance(found, LoadedImage) and found.image.shape == (20, 30, 3) and found.frame is None
    assert (found.path, found.name) == (path, "sub/a.png")
    with pytest.raises(UnreadableImageError):
        broken()


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Return a film of 7 gray frames, each lighter than the one before."""
    path = tmp_path_factory.mktemp("film") / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write video")
    for number in range(7):
        writer.write(np.full((48, 64, 3), 30 * number, np.uint8))
    writer.release()
    return path


def test_frames_in_order(film):
    pictures = list(read_video(str(film)))
    assert [picture.frame for picture in pictures] == list(range(7))
    assert [round(picture.image.mean() / 30) for picture in pictures] == list(range(7))
    assert pictures[0].name == "film.avi" and pictures[0].path == str(film)
    assert [read().frame for _, read in video_tasks(str(film), max_frames=3)] == [0, 1, 2]
    assert video_rate(str(film)) == pytest.approx(10.0)


def test_what_is_no_video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no film")
    with pytest.raises(UnreadableImageError, match="a.mp4: cannot be opened"):
        list(read_video(str(tmp_path / "a.mp4")))
    with pytest.raises(DataError, match="camera 99: cannot be opened"):
        list(read_video(99))
    assert video_rate(str(tmp_path / "a.mp4")) == 25.0
