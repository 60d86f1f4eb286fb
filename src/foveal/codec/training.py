"""Training of a feature codec against frozen networks, without labels.

Per image, with quality q drawn anew for every image and step:

    loss = bits / sqrt(w(q)) + sqrt(w(q)) * sum_t (alpha * mse_t + beta * distance_t / unit_t),

where mse_t is the squared error of the normalised features, distance_t how far the frozen rest of
the network answers from its own answer to the uncompressed features, and w(q) rises from the
lowest to the highest quality. Dividing by sqrt(w) keeps both ends of the rates alive.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from foveal.codec.model import FeatureCodec
from foveal.codec.training_loop import Loop, TrainLog
from foveal.codec.training_loss import (
    ANSWER,
    Batch,
    Objective,
    TrainOptions,
    draw_orders,
    draw_qualities,
    rate_task_loss,
    weight_of,
)


def train(
    model: FeatureCodec,
    batches: Callable[[int, torch.Generator], Batch],
    objectives: Mapping[str, Objective],
    options: TrainOptions | None = None,
    *,
    tasks: tuple[str, ...] | None = None,
    trainable: Callable[[str], bool] | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    checkpoint: str | Path | None = None,
) -> TrainLog:
    """Train a codec in place; it must be finalised afterwards.

    Args:
        model: The codec, on its device, with its normalisation fitted.
        batches: (number of images, generator) -> features of all sources, on that device.
        objectives: What each task's features are for.
        options: Settings.
        tasks: Heads that count. Default: all.
        trainable: Which parameters to train, by name. Default: all.
        progress: Called with steps done and in all.
        checkpoint: File (.safetensors) to go on from, and to write before the first step, then
            every 500 steps or, where these take longer, every minute. A finished one of this very
            training gives its weights again (`TrainLog.trained` is 0). If it can be written no
            more, a warning says so and the training goes on.

    Returns: The log.

    Raises:
        ArgumentError: the loss is no longer finite; the checkpoint cannot be written at the start,
            or is that of another model, or of another training and leaves nothing to do.
    """
    o = options or TrainOptions()
    return Loop(model, batches, objectives, o, tasks, trainable, progress, checkpoint).run()


__all__ = [
    "ANSWER",
    "Batch",
    "Objective",
    "TrainLog",
    "TrainOptions",
    "draw_orders",
    "draw_qualities",
    "rate_task_loss",
    "train",
    "weight_of",
]
