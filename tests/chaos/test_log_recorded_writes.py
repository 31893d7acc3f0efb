"""Crash images rebuilt from the writes that a real process made, in its log and in LMDB."""

import random
from pathlib import Path

import pytest

from engine.exit_codes import EngineStopped
from tests.chaos.log_check import check
from tests.chaos.log_children import LogProcess
from tests.chaos.log_process import NO_SYNC, Answer
from tests.chaos.recorded_writes import Recording, build_recorder

IMAGES = 60
ANSWERS = 700


def recorded(tmp_path: Path, *fault: str, killed: bool = True) -> tuple[Recording, list[Answer]]:
    recorder, folder = build_recorder(tmp_path), tmp_path / "data"
    folder.mkdir()
    process = LogProcess(folder, 1, *fault, environment=recorder.environment(folder))
    process.wait_for_answers(ANSWERS)
    if killed:
        process.kill()
    else:
        process.end()
    return recorder.read(process.process_id, folder), process.answers()


def check_images(recording: Recording, answers: list[Answer], folder: Path) -> None:
    """Crash at random moments while answers were given; what was told by then must be there."""
    source = random.Random(3)
    for number in range(IMAGES):
        cut = source.randint(answers[0].told_ns, recording.ended_ns)
        image = folder / f"image-{number}"
        recording.rebuild(image, cut, seed=number)
        check(image, [answer for answer in answers if answer.told_ns <= cut])


def test_every_answer_is_in_every_image_of_a_crash_after_it(tmp_path: Path) -> None:
    recording, answers = recorded(tmp_path)
    check_images(recording, answers, tmp_path)


def test_answers_without_a_sync_are_found_missing(tmp_path: Path) -> None:
    recording, answers = recorded(tmp_path, NO_SYNC)
    with pytest.raises((AssertionError, EngineStopped)):
        check_images(recording, answers, tmp_path)


def test_an_image_with_nothing_lost_is_what_the_process_left(tmp_path: Path) -> None:
    recording, _ = recorded(tmp_path, killed=False)
    recording.rebuild_choosing(tmp_path / "image", recording.ended_ns + 1, lambda _: True)
    left = {path.relative_to(tmp_path / "data"): path for path in (tmp_path / "data").rglob("*") if path.is_file()}
    data = {name: path.read_bytes() for name, path in left.items() if name.name not in {"lock", "lock.mdb"}}
    rebuilt = {name: (tmp_path / "image" / name).read_bytes() for name in data}
    assert rebuilt == data
