"""Films: the sound of the source, by a stand-in for ffmpeg, and that reading, finding and drawing overlap."""

import shutil
import subprocess
import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mmdet.deploy import DetectOptions, Faces
from mmdet.deploy.cli import stream
from mmdet.deploy.cli.inputs import find_inputs
from mmdet.deploy.cli.video import LoadedImage, add_sound, read_ahead, read_video, video_tasks, write_video

# Writes its arguments down; the first input, with a mark at its end, becomes the last argument.
FFMPEG = """#!/bin/sh
echo "$@" > {log}
for last; do :; done
[ -n "{fails}" ] && { echo first >&2; echo "{fails}" >&2; exit 1; }
cat "${6#file:}" > "${last#file:}"; printf sound >> "${last#file:}"
"""


@pytest.fixture
def film(tmp_path):
    """A film of five frames, 10 a second."""
    path = tmp_path / "film.mp4"
    with write_video(path, 10.0, (64, 48)) as add:
        for value in range(5):
            add(np.full((48, 64, 3), 40 * value, np.uint8))
    return path


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch):
    """Put a stand-in on the PATH; returns the file it writes its arguments to."""

    def install(fails=""):
        folder, log = tmp_path / "bin", tmp_path / "log"
        folder.mkdir(exist_ok=True)
        script = FFMPEG.replace("{log}", str(log)).replace("{fails}", fails)
        (folder / "ffmpeg").write_text(script)
        (folder / "ffmpeg").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return log

    return install


def test_the_sound_of_the_source_is_kept(film, ffmpeg, tmp_path):
    log, silent = ffmpeg(), film.read_bytes()
    assert add_sound(film, str(tmp_path / "source.mp4")) == ""
    assert film.read_bytes() == silent + b"sound"
    words = log.read_text()
    assert f"-i file:{film} -i file:{tmp_path}/source.mp4 -map 0:v -map 1:a? -c:v copy" in words
    assert "-t 0.500 " in words  # of a film cut by --max-frames the sound ends, too


def test_a_failure_leaves_the_silent_film(film, ffmpeg, tmp_path):
    ffmpeg(fails="No space left on device")
    silent = film.read_bytes()
    assert add_sound(film, "source.mp4") == f"{film} has no sound: ffmpeg: No space left on device"
    assert film.read_bytes() == silent and {path.name for path in tmp_path.iterdir()} == {
        "film.mp4",
        "bin",
        "log",
    }


@pytest.mark.parametrize("source", [0, None, "rtsp://camera/1", "moving.gif", "pages.tiff"])
def test_what_has_no_sound_is_not_asked(film, ffmpeg, source):
    log = ffmpeg(fails="never called")
    assert add_sound(film, source) == "" and not log.exists()


def test_without_ffmpeg_a_run_says_so_once(run_tool, spots, film, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "b.mp4").write_bytes(film.read_bytes())
    code, _, err = run_tool("scrfd", spots, film, tmp_path / "b.mp4", "--out", tmp_path / "out", "--draw")
    assert code == 0 and err.count("films are drawn without sound: ffmpeg is not on the PATH") == 1


def test_drawn_and_shown_films_get_their_sound(run_tool, spots, film, ffmpeg, tmp_path):
    log = ffmpeg()
    assert run_tool("scrfd", spots, film, "--out", tmp_path / "out", "--blur")[0] == 0
    assert (tmp_path / "out/film_faces.mp4").read_bytes().endswith(b"sound") and str(film) in log.read_text()
    assert run_tool("webcam_demo", spots, "--camera-id", film, "--out", tmp_path / "shown.mp4")[0] == 0
    assert (tmp_path / "shown.mp4").read_bytes().endswith(b"sound")


TIMES = [0.0, 0.04, 0.2, 0.25, 1.0]


@pytest.mark.parametrize(
    ("times", "want"),
    [
        (TIMES, TIMES),
        ([5 + time for time in TIMES], TIMES),
        ([0, 0.101, 0.199, 0.3, 0.402], [0, 0.1, 0.2, 0.3, 0.4]),  # a container's rounding
        ([0, 0, 0, 0, 0], [0, 0.1, 0.2, 0.3, 0.4]),  # pages, a camera
        ([None] * 5, [0, 0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_frames_are_written_with_their_own_times(tmp_path, times, want):
    path = tmp_path / "a.mp4"
    with write_video(path, 10.0, (64, 48)) as add:
        for value, time in enumerate(times):
            add(np.full((48, 64, 3), 40 * value, np.uint8), time)
    frames = list(read_video(str(path)))
    np.testing.assert_allclose([frame.time_s for frame in frames], want, atol=1e-3)
    assert [round(float(frame.image.mean()) / 40) for frame in frames] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("size_wh", [(65, 48), (64, 49), (33, 47), (1, 48)])
def test_a_film_of_odd_sides_loses_nothing(tmp_path, size_wh):
    frame = np.full((size_wh[1], size_wh[0], 3), 60, np.uint8)
    frame[-16:, -16:] = 200
    with write_video(tmp_path / "a.mp4", 10.0, size_wh) as add:
        add(frame)
    (read,) = read_video(str(tmp_path / "a.mp4"))
    assert read.image.shape[:2] == (size_wh[1] + size_wh[1] % 2, size_wh[0] + size_wh[0] % 2)
    assert np.abs(read.image[: size_wh[1], : size_wh[0]].astype(int) - frame)[-12:, -12:].mean() < 10


@pytest.mark.parametrize("right", [".gif", ".png", ".webp", ".avif"])
@pytest.mark.parametrize("wrong", [".jpg", ".png", ".gif"])
def test_an_animation_with_a_wrong_suffix_gives_all_frames(tmp_path, right, wrong):
    animation = cv2.Animation()
    animation.frames = [np.full((48, 64, 3), gray, np.uint8) for gray in (0, 120, 240)]
    animation.durations = [100] * 3
    assert cv2.imwriteanimation(str(tmp_path / f"a{right}"), animation)
    path = (tmp_path / f"a{right}").rename(tmp_path / f"b{wrong}")
    assert find_inputs([str(path)]).videos == [(str(path), path.name)]
    assert [round(loaded.image.mean() / 120) for loaded in read_video(str(path))] == [0, 1, 2]


def test_a_drawn_film_of_variable_rate_keeps_its_times(run_tool, spots, tmp_path):
    """Through both tools, and through ffmpeg where it is on the PATH."""
    source = tmp_path / "film.mp4"
    with write_video(source, 10.0, (64, 48)) as add:
        for time in TIMES:
            add(np.zeros((48, 64, 3), np.uint8), time)
    assert run_tool("scrfd", spots, source, "--out", tmp_path / "out", "--draw")[0] == 0
    assert run_tool("webcam_demo", spots, "--camera-id", source, "--out", tmp_path / "shown.mp4")[0] == 0
    for drawn in (tmp_path / "out/film_faces.mp4", tmp_path / "shown.mp4"):
        np.testing.assert_allclose([f.time_s for f in read_video(str(drawn))], TIMES, atol=2e-3)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_a_film_of_variable_rate_made_by_ffmpeg_keeps_times_and_sound(run_tool, spots, tmp_path):
    """Ten frames, then ten at a fifth of the rate, in Matroska, with a tone."""
    source, drawn = tmp_path / "film.mkv", tmp_path / "out/film_faces.mp4"
    late = "setpts='if(lt(N,10),N,10+(N-10)*5)/(25*TB)'"
    make = ["-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=0.8", "-f", "lavfi", "-i", "sine=d=2.4", "-vf", late]
    subprocess.run(["ffmpeg", "-v", "error", *make, "-fps_mode", "vfr", source], check=True)
    want = [frame.time_s for frame in read_video(str(source))]
    assert len(want) == 20 and want[19] == pytest.approx(2.2, abs=0.05)
    assert run_tool("scrfd", spots, source, "--out", tmp_path / "out", "--draw")[0] == 0
    np.testing.assert_allclose([f.time_s for f in read_video(str(drawn))], want, atol=2e-3)
    told = subprocess.run(["ffmpeg", "-i", drawn], capture_output=True, text=True).stderr
    assert "Audio: aac" in told


def test_frames_read_ahead_are_the_same_in_order(film):
    frames = [read() for _, read in video_tasks(str(film))]
    assert [frame.frame for frame in frames] == [0, 1, 2, 3, 4]
    for ahead, plain in zip(frames, read_video(str(film)), strict=True):
        assert np.array_equal(ahead.image, plain.image) and ahead.time_s == plain.time_s
    assert len(list(video_tasks(str(film), max_frames=2))) == 2


def test_read_ahead_passes_errors_on_and_stops_when_closed():
    taken = []

    def numbers():
        for number in range(100):
            taken.append(number)
            yield number
            if number == 5:
                raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(read_ahead(numbers(), 3))
    taken.clear()
    some = read_ahead(numbers(), 3)
    assert next(some) == 0
    some.close()
    assert len(taken) <= 4


@pytest.mark.parametrize(("has_pool", "num_read"), [(True, 8), (False, 12)])
def test_reading_finding_and_drawing_happen_at_the_same_time(has_pool, num_read):
    """They meet at a barrier that none of them passes alone; one after the other, it would break.

    num_read: of 4 frames at most in hand, and 4 read ahead, some stay before the barrier.
    """
    meeting = threading.Barrier(3)
    met = set()

    def meet(who):
        if who not in met:
            met.add(who)
            meeting.wait(20)

    def frames():
        for number in range(40):
            if number >= num_read:
                meet("reader")
            yield LoadedImage(np.zeros((8, 8, 3), np.uint8), "film", "film", number, 0.0)

    class Detector:
        model = SimpleNamespace(takes_single=has_pool, num_cores=2)
        numbers = 0

        def find(self, images, options):
            self.numbers += len(images)
            if self.numbers >= 5:
                meet("finder")
            return [Faces(np.zeros((0, 5), np.float32), None, np.zeros(0, np.int64))] * len(images)

    pool = stream.ThreadPoolExecutor(1) if has_pool else None
    Detector.model.start_pool = lambda: pool
    tasks = (("film", lambda loaded=loaded: loaded) for loaded in read_ahead(frames(), 4))
    for loaded, _ in stream.detect_stream(Detector(), tasks, {}, DetectOptions(batch_size=4)):
        if loaded.frame >= 1:
            meet("drawer")
    assert met == {"reader", "finder", "drawer"}
