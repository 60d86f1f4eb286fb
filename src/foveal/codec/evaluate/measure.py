"""All codecs on the images of a track: pixel anchors, feature anchors, labels, learned codecs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveal.codec.evaluate import feature_fitted, pixel_anchors
from foveal.codec.evaluate.curves import RESAMPLES
from foveal.codec.evaluate.feature_anchors import (
    CRFS,
    FeatureCoder,
    RawFp16,
    feature_points,
    mosaics,
)
from foveal.codec.evaluate.feature_fitted import fit_pca, fit_vq
from foveal.codec.evaluate.labels import label_points
from foveal.codec.evaluate.learned import STEPS, codec_points, match
from foveal.codec.evaluate.pixel_anchors import CODECS, Rung, grid, why_missing
from foveal.codec.evaluate.points import Point
from foveal.codec.evaluate.store import digest, folder_of, read_points, write_points
from foveal.codec.evaluate.sweep import sweep
from foveal.codec.evaluate.track import Sums, Track, features_of
from foveal.codec.evaluate.tracks import Bundle
from foveal.codec.model import FeatureCodec
from foveal.errors import ArgumentError

LEVELS = (0.9, 0.95, 0.99)
FEATURE_LABELS = ("fp16", "mosaic8+x265", "mosaic10+x265", "pca", "vq", "vq+rans")
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is compared, and how.

    Args:
        anchors: Pixel codecs.
        features: Whether feature anchors and labels are measured where networks are cut.
        models: Learned codecs by name; those that do not fit a track are left out of it.
        qualities: Of the learned codecs.
        levels: Retentions at which bytes are compared.
        rungs: Ways to code pixels. Default: the whole grid of `anchors`.
        resamples: Of the intervals.
        seed: Of the resamples.
        device: Of recognisers and transforms.
        workers: Processes that code pixels; 0: this one.
        batch: Images at once.
        folder: Where measured points are kept and read from. Default: nowhere.
    """

    anchors: tuple[str, ...] = CODECS
    features: bool = True
    models: Mapping[str, FeatureCodec] = field(default_factory=dict[str, FeatureCodec])
    qualities: tuple[int, ...] = STEPS
    levels: tuple[float, ...] = LEVELS
    rungs: tuple[Rung, ...] = ()
    resamples: int = RESAMPLES
    seed: int = 0
    device: str | torch.device = "cpu"
    workers: int = 0
    batch: int = 32
    folder: str | Path | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.levels or not all(0 < x <= 1 for x in self.levels):
            raise ArgumentError(f"Plan: levels is {self.levels}, must be within (0, 1]")
        taken = {*CODECS, *FEATURE_LABELS, "label"} & set(self.models)
        if taken:
            raise ArgumentError(
                f"Plan: models has {sorted(taken)}, which are names of anchors; rename them"
            )

    @property
    def all_rungs(self) -> tuple[Rung, ...]:
        """Ways to code pixels."""
        return self.rungs or tuple(grid(self.anchors))


class Measurement:
    """Measures tracks of one bundle; what is fitted to training images is fitted once.

    Args:
        bundle: The track, and what chooses and trains for it.
        plan: What is compared.
        progress: Called with what is done, how many and in all.
    """

    def __init__(self, bundle: Bundle, plan: Plan, progress: Progress | None = None) -> None:
        """Measure nothing yet."""
        self.bundle, self.plan, self._progress = bundle, plan, progress
        self.skipped = {c: r for c in plan.anchors if (r := why_missing(c)) is not None}
        self.not_fitting: dict[str, str] = {}
        self._training: dict[str, Tensor] | None = None
        self._coders: dict[str, list[FeatureCoder]] = {}

    def points(
        self,
        track: Track,
        full: Mapping[str, Sums],
        tasks: Sequence[str],
        rungs: Sequence[Rung] | None = None,
    ) -> list[Point]:
        """Return the points of every codec on a track.

        Args:
            track: Of this bundle.
            full: Sums of its uncompressed images.
            tasks: Those of which features are coded, if they are cut.
            rungs: Ways to code pixels. Default: the plan's.
        """
        plan = self.plan
        found = sweep(
            track,
            plan.all_rungs if rungs is None else rungs,
            device=plan.device,
            workers=plan.workers,
            batch=plan.batch,
            folder=plan.folder,
            progress=self._tell(f"{track.name}: pixels"),
        )
        cut = [t for t in tasks if track.tasks[t].cut is not None]
        fitting = self._fitting(track) if cut else {}
        if not cut or not (plan.features or fitting):
            return found.points
        features = {t: features_of(track, t, device=plan.device, batch=plan.batch) for t in cut}
        return [
            *found.points,
            *(self._anchors(track, full, features) if plan.features else []),
            *self._learned(track, features, fitting),
        ]

    def _tell(self, what: str) -> Callable[[int, int | None], None]:
        def show(done: int, total: int | None) -> None:
            if self._progress is not None:
                self._progress(what, done, total)

        return show

    def _fitting(self, track: Track) -> dict[str, FeatureCodec]:
        out: dict[str, FeatureCodec] = {}
        for name, model in self.plan.models.items():
            try:
                match(model, track)
                out[name] = model
            except ArgumentError as error:
                self.not_fitting[name] = str(error)
        return out

    def _learned(
        self, track: Track, features: Mapping[str, Tensor], models: Mapping[str, FeatureCodec]
    ) -> list[Point]:
        out: list[Point] = []
        for name, model in models.items():
            own = {source: features[task] for source, task in match(model, track).items()}
            out += codec_points(
                track,
                model,
                own,
                label=name,
                qualities=self.plan.qualities,
                device=self.plan.device,
                progress=self._tell(f"{track.name}: {name}"),
            )
        return out

    # Anchors of features.

    def _anchors(
        self, track: Track, full: Mapping[str, Sums], features: Mapping[str, Tensor]
    ) -> list[Point]:
        plan = self.plan
        out: list[Point] = []
        for family in ("fp16", "mosaic", "pca", "vq", "label"):
            path = None
            if plan.folder is not None:
                path = self._path(Path(plan.folder), track, family, list(features))
            if path is not None and path.exists():
                out += read_points(path)
                continue
            if family == "label":
                points = self._labels(track, full, list(features))
            else:
                points = feature_points(
                    track,
                    features,
                    self._fitted(family, list(features)),
                    device=plan.device,
                    progress=self._tell(f"{track.name}: {family}"),
                )
            if path is not None:
                write_points(path, points)
            out += points
        return out

    def _path(self, folder: Path, track: Track, family: str, tasks: list[str]) -> Path:
        settings = {
            "mosaic": [CRFS, pixel_anchors.versions()],
            "pca": [feature_fitted.COMPONENTS, feature_fitted.STEPS],
            "vq": [feature_fitted.BLOCKS, feature_fitted.CODEWORDS],
        }
        learned = family in ("pca", "vq", "label")
        about: list[Any] = [settings.get(family), tasks, self.bundle.fitted if learned else ""]
        return folder_of(folder, track, "features") / f"{family}-{digest(about)}.npz"

    def _train(self, tasks: Sequence[str]) -> dict[str, Tensor]:
        if self.bundle.training is None:
            return {}
        if self._training is None:
            self._training = self.bundle.training()
        return {task: self._training[task] for task in tasks}

    def _fitted(self, family: str, tasks: list[str]) -> list[FeatureCoder]:
        if family == "fp16":
            return [RawFp16()]
        if family == "mosaic":
            workers = max(1, self.plan.workers)
            return [] if why_missing("x265") else mosaics(workers=workers)
        if family not in self._coders:
            training = self._train(tasks)
            fit = {"pca": fit_pca, "vq": fit_vq}[family]
            self._coders[family] = fit(training, device=self.plan.device) if training else []
        return self._coders[family]

    @torch.no_grad()
    def _labels(self, track: Track, full: Mapping[str, Sums], tasks: list[str]) -> list[Point]:
        named = [task for task in tasks if track.tasks[task].classes]
        counts: dict[str, list[int]] = {}
        for name, x in self._train(named).items():
            task = track.tasks[name]
            if task.cut is not None:
                parts = [task.cut.answer(p.to(self.plan.device)).argmax(1) for p in x.split(256)]
                found = torch.cat(parts).bincount(minlength=task.classes)
                counts[name] = found.cpu().tolist()
        known = counts if len(counts) == len(named) else None
        return label_points(track, full, counts=known, tasks=named, device=self.plan.device)
