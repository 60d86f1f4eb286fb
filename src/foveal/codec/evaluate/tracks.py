"""Tracks by name, what chooses for them, and what anchors are fitted to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from foveal.codec.evaluate.reality_boxes import centernet_track, faces_track, person_mask_track
from foveal.codec.evaluate.reality_tracks import lite0_track, stereo_track, words_track
from foveal.codec.evaluate.taskworld_track import constant_answers, taskworld_track
from foveal.codec.evaluate.track import Track, features_of
from foveal.errors import ArgumentError

REALITY = ("efficientnet-lite0", "words", "faces", "person-mask", "centernet", "stereo")
DRAWN = ("taskworld", "taskworld-shift")
NAMES = (*REALITY, *DRAWN)
"""Names of tracks, those of real pictures first."""
TASKS = ("scene", "segmentation", "normal", "reshading")
CHOOSING = 200
"""Images of another split that choose, of drawn tracks."""
TRAINING = 2000
"""Images that anchors are fitted to, at most."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A track with what it needs to be judged fairly.

    Args:
        judge: The track.
        choose: Images of another split by which codecs choose their settings; None: every other
            group of the track chooses, and the rest judges.
        training: Gives the features of training images, by task; None if no task is cut.
        fitted: What the training images are, in words that change with them.
    """

    judge: Track
    choose: Track | None = None
    training: Callable[[], dict[str, Tensor]] | None = None
    fitted: str = ""


def make(
    name: str,
    *,
    images: int | None = None,
    choosing: int = CHOOSING,
    tasks: Sequence[str] = TASKS,
    arch: str = "residual",
    source: str | None = None,
    training: int = TRAINING,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> Bundle:
    """Return a track by name.

    Args:
        name: One of `NAMES`.
        images: How many, at most. Default: the track's own number.
        choosing: Images of another split that choose, of the drawn tracks.
        tasks: Of the drawn tracks.
        arch: Of the drawn tracks' networks.
        source: File of these networks, in place of the packaged one.
        training: Images that anchors are fitted to, at most.
        device: Where images are drawn and recognisers run.
        seed: Of the lines of words.

    Raises:
        ArgumentError: no such track, or a bad number.
        MediaError: a package cannot be fetched.
        MissingExtraError: scikit-image is missing, for "stereo".
    """
    if name not in NAMES:
        raise ArgumentError(f"make: track is {name!r}, must be one of {', '.join(NAMES)}")
    if (images is not None and images < 1) or min(choosing, training) < 1:
        raise ArgumentError(
            f"make: images, choosing, training are {images}, {choosing}, {training}, must be at "
            "least 1; leave them out"
        )
    if name in DRAWN:
        numbers = (images or 500, choosing, training)
        return _drawn(name, numbers, tasks, arch, source, device)
    if name == "efficientnet-lite0":
        track = lite0_track(images=images or 200, device=device)
        what = f"{training} squares of training photographs"
        return Bundle(track, None, partial(_lite0_training, training, device), what)
    if name == "words":
        return Bundle(words_track(images=images or 200, device=device, seed=seed))
    if name == "stereo":
        return Bundle(stereo_track(images=images or 5, device=device))
    makers = {
        "faces": faces_track,
        "person-mask": person_mask_track,
        "centernet": centernet_track,
    }
    return Bundle(makers[name](images=images or 100, device=device))


def _lite0_training(images: int, device: str | torch.device) -> dict[str, Tensor]:
    track = lite0_track(images=images, device=device, training=True)
    return {name: features_of(track, name, device=device) for name in track.tasks}


def _drawn(
    name: str,
    numbers: tuple[int, int, int],
    tasks: Sequence[str],
    arch: str,
    source: str | None,
    device: str | torch.device,
) -> Bundle:
    from foveal.teachers.task_network import ARCHITECTURES, TaskBank

    if arch not in ARCHITECTURES:
        raise ArgumentError(f"make: arch is {arch!r}, must be one of {list(ARCHITECTURES)}")
    bank = TaskBank.load(tasks, cast(Any, arch), source=source)
    images, choosing, training = numbers
    constants = constant_answers(tasks, images=min(512, training), device=device)
    split = "shift" if name == "taskworld-shift" else "test"
    judge, choose = (
        taskworld_track(bank, split=part, images=n, constants=constants, device=device)
        for part, n in ((split, images), ("val", choosing))
    )

    def train() -> dict[str, Tensor]:
        track = taskworld_track(
            bank, split="train", images=training, constants=constants, device=device
        )
        return {task: features_of(track, task, device=device) for task in track.tasks}

    return Bundle(judge, choose, train, f"{training} drawn images, split train")
