"""Label-free alignment: it helps, it leaves the model alone, it goes on where it stopped."""

import copy
import warnings

import pytest
import torch
from torch import nn

from foveal import lowlight
from foveal.errors import ArgumentError
from foveal.lowlight.ensemble import PseudoLabels, pseudo_loss
from foveal.lowlight.frozen import activation_of, answer_of, as_map, choose_layers, frozen, size_of


class Brightness(nn.Module):
    """Two classes: does the mean lie above 0.4? A recogniser that darkness fools."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(30.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = self.scale * (x.flatten(1).mean(1) - 0.4)
        return torch.stack([-score, score], 1)


class Small(nn.Module):
    """A convolutional net with batch normalisation."""

    def __init__(self, kind: str = "tensor") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.body = nn.Sequential(
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(16, 5)
        self.register_buffer("calls", torch.zeros(()))
        self.kind = kind

    def forward(self, x: torch.Tensor):
        self.calls += 1  # some models count
        logits = self.head(self.drop(self.body(self.stem(x)).mean((2, 3))))
        return {"out": logits, "aux": 0} if self.kind == "dict" else logits


def scenes(n: int, size: int, light: float, seed: int = 0) -> torch.Tensor:
    """Pictures that have an up, a left and a middle."""
    random = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*[torch.linspace(0, 1, size)] * 2, indexing="ij")
    base = torch.stack([0.2 + 0.7 * (1 - y), 0.3 + 0.5 * x, 0.3 + 0.6 * (x - 0.5).abs()])
    bumps = torch.rand(n, 3, 6, 6, generator=random)
    bumps = nn.functional.interpolate(bumps, (size, size), mode="bilinear")
    return ((0.7 * base + 0.3 * bumps) * light).clamp(0, 1)


def test_the_ensemble_helps_a_recogniser_and_leaves_it_alone() -> None:
    recogniser = Brightness().train()
    dark = torch.rand(16, 3, 16, 16) * 0.1
    before = recogniser.scale.item()
    steps: list[lowlight.AlignmentStep] = []
    curve = lowlight.align(
        recogniser,
        dark=dark,
        size=32,
        num_steps=60,
        learning_rate=3e-3,
        start=None,
        on_step=steps.append,
    )
    assert [s.step for s in steps if s.stage == "labels"] == [8, 16]
    assert all(s.right == 1 for s in steps if s.stage == "labels")
    losses = [s.loss for s in steps if s.stage == "curve"]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    held = [s.held_out for s in steps if s.held_out is not None]
    assert min(held) < losses[0]
    assert {s.stage for s in steps} == {"labels", "curve"}
    assert (recogniser.scale.item(), recogniser.training) == (before, True)
    assert recogniser.scale.requires_grad
    assert recogniser.scale.grad is None
    assert not any(p.requires_grad for p in curve.parameters())


@pytest.mark.parametrize("method", ["ensemble", "pretext"])
def test_the_same_seed_gives_the_same_curve(method) -> None:
    model, options = Small(), {"num_steps": 2, "head_steps": 60, "size": 48, "confidence": 0.0}
    pictures = {"dark": scenes(8, 64, 0.1), "normal": scenes(16, 64, 1.0)}
    one = lowlight.align(model, **pictures, method=method, seed=1, **options)
    two = lowlight.align(model, **pictures, method=method, seed=1, **options)
    other = lowlight.align(model, **pictures, method=method, seed=2, **options)
    assert torch.equal(one.fc.weight, two.fc.weight)
    assert not torch.equal(one.fc.weight, other.fc.weight)


def test_the_pretext_makes_dark_pictures_readable_to_a_head_that_knows_day() -> None:
    model, steps = Small(), []
    state = copy.deepcopy(model.state_dict())
    model.stem[1].eval()
    model.body[0].weight.requires_grad_(False)
    lowlight.align(
        model,
        normal=scenes(32, 64, 1.0),
        dark=scenes(32, 64, 0.04, seed=1),
        method="pretext",
        size=48,
        head_steps=200,
        num_steps=40,
        check_every=10,
        start=None,
        learning_rate=3e-3,
        on_step=steps.append,
    )
    # Nothing of the model changed: weights, statistics, counters, modes, flags.
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert (model.training, model.stem[1].training, model.body[1].training) == (True, False, True)
    assert not model.body[0].weight.requires_grad
    assert model.head.weight.requires_grad
    head = [s for s in steps if s.stage == "head"]
    curve = [s for s in steps if s.stage == "curve"]
    assert head[-1].right > 0.15
    assert sum(s.loss for s in curve[-8:]) < 0.97 * sum(s.loss for s in curve[:8])


def test_clips_have_one_curve_each() -> None:
    class Video(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv3d(3, 16, 3, padding=1, stride=(2, 3, 3))
            self.head = nn.Linear(16, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[1:3] == (3, 4)
            return self.head(self.conv(x).relu().mean((2, 3, 4)))

    clips = scenes(24, 48, 0.1)[:, None].repeat(1, 4, 1, 1, 1)
    for method in ("ensemble", "pretext"):
        curve = lowlight.align(
            Video(),
            dark=clips,
            normal=(clips * 9).clamp(0, 1),
            method=method,
            size=48,
            num_steps=2,
            head_steps=200,
            confidence=0.0,
        )
        assert curve.predict_clip(clips[0]).shape == (1, 3, 256)


@pytest.mark.parametrize("method", ["ensemble", "pretext"])
def test_a_broken_training_goes_on_to_the_same_curve(tmp_path, method) -> None:
    model = Small()
    options = {
        "dark": scenes(16, 64, 0.1),
        "normal": scenes(16, 64, 1.0),
        "method": method,
        "size": 48,
        "head_steps": 60,
        "num_steps": 12,
        "check_every": 4,
        "confidence": 0.0,
    }
    every: list[lowlight.AlignmentStep] = []
    whole = lowlight.align(model, **options, on_step=every.append)

    def stop(step: lowlight.AlignmentStep) -> None:
        if step.stage == "curve" and step.step == 6:
            raise KeyboardInterrupt

    file = tmp_path / "training.safetensors"
    with pytest.raises(KeyboardInterrupt):
        lowlight.align(model, **options, checkpoint=file, on_step=stop)
    seen: list[lowlight.AlignmentStep] = []
    again = lowlight.align(model, **options, checkpoint=file, on_step=seen.append)
    assert [s.step for s in seen if s.stage == "curve"] == list(range(5, 13))
    assert not any(s.stage == "head" for s in seen)
    assert [s for s in seen if s.stage == "curve"] == [s for s in every if s.stage == "curve"][4:]
    assert torch.equal(whole.fc.weight, again.fc.weight)
    others = [{"num_steps": 13}, {"sharpen": 2.0}, {"start": None}, {"coupled": True}]
    for other in [*others, {"dark": scenes(16, 64, 0.2)}]:
        with pytest.raises(ArgumentError, match="other settings"):
            lowlight.align(model, **{**options, **other}, checkpoint=file)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ArgumentError, match="SHA-256"):
        lowlight.align(model, **options, checkpoint=file)


def test_pictures_come_from_files_of_any_size(tmp_path) -> None:
    files = []
    for i in range(4):
        files.append(tmp_path / f"{i}.png")
        lowlight.write_image(files[-1], scenes(1, 40, 0.1, seed=i)[0][:, : 30 + i])
    mixed = [*files, scenes(1, 33, 0.2)[0]]
    curve = lowlight.align(Small("dict"), dark=mixed, size=32, num_steps=2, confidence=0.0)
    assert curve.predict(scenes(1, 20, 0.1)).shape == (1, 3, 256)


def test_a_preprocessing_step_is_used_and_gradients_pass_it() -> None:
    seen: list[float] = []

    def normalise(x: torch.Tensor) -> torch.Tensor:
        seen.append(float(x.detach().max()))
        return (x - 0.5) / 0.25

    class Shifted(Brightness):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x * 0.25 + 0.5)

    options = {"dark": torch.rand(9, 3, 16, 16) * 0.1, "size": 32, "num_steps": 5}
    one = lowlight.align(Shifted(), **options, preprocess=normalise)
    two = lowlight.align(Brightness(), **options)
    assert max(seen) <= 1
    torch.testing.assert_close(one.fc.weight, two.fc.weight, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dark": torch.full((4, 3, 16, 16), float("nan"))}, "dark holds a picture of"),
        ({"dark": torch.rand(4, 3, 16, 16) * 255}, "divide 8-bit"),
        ({"dark": torch.zeros(4, 3, 16, 16, dtype=torch.uint8)}, "floating point"),
        ({"dark": torch.rand(4, 1, 16, 16)}, r"shape \(1, 16, 16\)"),
        ({"dark": []}, "dark is"),
        ({"dark": "night.png"}, "dark is 'night.png'"),
        ({"dark": [torch.rand(3, 9, 9), torch.rand(2, 3, 9, 9)]}, "clips of one length"),
        ({"method": "pretext"}, "normal is None"),
        ({"normal": torch.rand(4, 3, 16, 16) * 0.01}, "swapped"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"confidence": 1.5}, "confidence is 1.5"),
        ({"confidence": 1.0}, "for none of 4 pictures"),
        ({"sharpen": 0.0}, "sharpen is 0"),
        ({"start": -1.0}, "start is -1"),
        ({"checkpoint": "x.bin"}, "must end in .safetensors"),
        ({"size": 8}, "size is 8"),
        ({"start": float("inf")}, "start is inf"),
        ({"learning_rate": -1.0}, "learning_rate is -1"),
        ({"answer": lambda x: x[:, 0]}, r"shape \(4,\), must be"),
        ({"answer": lambda x: x[:, :1]}, "pass activation='sigmoid'"),
        ({"answer": lambda x: x - torch.tensor([0.0, float("inf")])}, "loss .* is nan"),
    ],
    ids=lambda x: x if isinstance(x, str) else "-".join(x),
)
def test_bad_arguments_are_named(change, words) -> None:
    options = {"dark": torch.rand(4, 3, 16, 16) * 0.1, "size": 32, "num_steps": 2, **change}
    model = Brightness()
    with pytest.raises(ArgumentError, match=words):
        lowlight.align(model, **options)
    assert model.scale.requires_grad


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(ArgumentError, match="method is 'magic'"):
        lowlight.align(Brightness(), dark=torch.rand(4, 3, 16, 16) * 0.1, method="magic")
    with pytest.raises(ArgumentError, match="activation is 'Softmax'"):
        lowlight.align(Brightness(), dark=torch.rand(4, 3, 16, 16) * 0.1, activation="Softmax")


def test_what_the_pretext_cannot_use_is_named() -> None:
    day, dark = scenes(8, 64, 1.0), scenes(8, 64, 0.1)
    options = {"dark": dark, "normal": day, "method": "pretext", "size": 48, "num_steps": 1}
    with pytest.raises(ArgumentError, match="no module whose output is a feature map"):
        lowlight.align(Brightness(), **options)
    with pytest.raises(ArgumentError, match="layers has 'neck'"):
        lowlight.align(Small(), **options, layers=["neck"])
    with pytest.raises(ArgumentError, match="no feature map"):
        lowlight.align(Small(), **options, layers=["head"])
    with pytest.raises(ArgumentError, match="head_steps is 1"):
        lowlight.align(Small(), **options, head_steps=1)


def test_pseudo_labels_keep_only_the_confident() -> None:
    dark = torch.rand(4, 3, 8, 8) * 0.2
    labels = lowlight.pseudo_labels(Brightness(), dark, confidence=0.0)
    assert labels.keep.all()
    assert labels.kept_fraction == 1
    assert torch.allclose(labels.probabilities.sum(1), torch.ones(4))
    sharp = lowlight.pseudo_labels(Brightness(), dark, sharpen=2.0)
    assert (sharp.probabilities.amax(1) >= labels.probabilities.amax(1)).all()
    none = lowlight.pseudo_labels(Brightness(), dark, confidence=1.0)
    loss = lowlight.alignment_loss(lowlight.ConcaveCurve(), Brightness(), dark, confidence=1.0)
    assert not none.keep.any()
    assert loss.item() == 0


def test_scores_of_a_detector_are_kept_where_they_are_sure() -> None:
    p = torch.tensor([[[0.9, 0.05, 0.2]], [[0.2, 0.1, 0.01]]])  # (b, classes, positions)
    logits = torch.logit(p)

    def detector(x: torch.Tensor) -> torch.Tensor:
        return logits

    labels = lowlight.pseudo_labels(detector, torch.rand(2, 3, 4, 4), activation="sigmoid")
    assert labels.keep.tolist() == [[[True, True, False]], [[False, False, False]]]
    right = pseudo_loss(logits, labels)
    worse = pseudo_loss(-logits, labels)
    unsure = logits.clone()
    unsure[0, 0, 2] = 9.0
    assert right < worse
    assert pseudo_loss(unsure, labels) == right  # what is unsure does not count


def test_only_trusted_images_teach() -> None:
    p = torch.tensor([[0.9, 0.1], [0.5, 0.5]])
    labels = PseudoLabels(p, torch.tensor([True, False]), "softmax")
    logits = torch.tensor([[0.0, 0.0], [5.0, -5.0]], requires_grad=True)
    loss = pseudo_loss(logits, labels)
    loss.backward()
    assert loss.item() == pytest.approx(torch.tensor(2.0).log().item(), abs=1e-6)
    assert logits.grad[1].abs().max() == 0
    assert logits.grad[0].abs().max() > 0


def test_answers_are_found_under_usual_names() -> None:
    x = torch.rand(2, 3)

    class Output:
        logits = x

    assert answer_of(x) is x
    assert answer_of({"loss": 0, "logits": x}) is x
    assert answer_of(Output()) is x
    with pytest.raises(ArgumentError, match=r"returned \['boxes'\]"):
        answer_of({"boxes": x})
    with pytest.raises(ArgumentError, match="pass answer="):  # (b, queries, classes): which axis?
        answer_of({"pred_logits": torch.rand(2, 4, 3)})


def test_features_of_every_kind_become_maps() -> None:
    assert as_map(torch.rand(2, 5, 7, 8)).shape == (2, 5, 7, 8)
    assert as_map(torch.rand(2, 5, 4, 7, 8)).shape == (2, 5, 7, 8)
    tokens = torch.arange(2 * 17 * 3.0).view(2, 17, 3)
    found = as_map(tokens)  # a class token, then 4 x 4
    assert found.shape == (2, 3, 4, 4)
    assert torch.equal(found[1, :, 2, 3], tokens[1, 1 + 2 * 4 + 3])
    assert as_map(torch.rand(2, 12, 3)) is None
    assert as_map((torch.rand(2, 5, 7, 8),)) is None


def test_layers_are_chosen_at_the_coarsest_sizes_that_serve() -> None:
    model = Small().eval()
    x = torch.rand(1, 3, 32, 32)
    assert choose_layers(model, lambda: model(x)) == ["stem", "body"]
    small = torch.rand(1, 3, 20, 20)  # 10 x 10 and 5 x 5
    assert choose_layers(model, lambda: model(small)) == ["stem"]


def test_frozen_puts_back_after_an_exception() -> None:
    model = Small()
    with pytest.raises(RuntimeError), frozen(model):
        assert not model.training
        model(torch.rand(2, 3, 16, 16))
        raise RuntimeError
    assert model.training
    assert model.calls == 0
    assert all(p.requires_grad for p in model.parameters())


def test_pictures_without_a_trusted_answer_are_left_out() -> None:
    class Unsure(Brightness):
        """Is sure of pictures whose red is more than their green; asked only about these later."""

        def __init__(self) -> None:
            super().__init__()
            self.batches: list[int] = []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.batches.append(len(x))
            sure = (x[:, 0].mean((1, 2)) > x[:, 1].mean((1, 2))).float() * self.scale
            return torch.stack([sure, -sure], 1) * x.mean((1, 2, 3))[:, None].clamp_min(0.1)

    dark = torch.rand(16, 3, 16, 16) * 0.05
    dark[:, 0] = dark[:, 1] * torch.tensor([0.5, 2.0]).repeat(8)[:, None, None]
    model, steps = Unsure(), []
    lowlight.align(model, dark=dark, size=32, num_steps=2, confidence=0.9, on_step=steps.append)
    assert [s.right for s in steps if s.stage == "labels"] == [0.5, 0.5]
    assert model.batches[:18] == [8] * 18  # two batches, nine curves
    assert model.batches[18:] == [1, 7, 7, 1]  # one is kept for judging, at the start and the end


def test_a_models_own_names_for_other_things_do_not_count() -> None:
    class Odd(Brightness):
        size = (32, 32)

        def __init__(self) -> None:
            super().__init__()
            self.activation = nn.ReLU()

    assert activation_of("align", Odd(), None) == "softmax"
    assert size_of(Odd(), 192) == 192
    options = {"dark": torch.rand(9, 3, 16, 16) * 0.1, "num_steps": 3}
    one = lowlight.align(Odd(), **options)
    two = lowlight.align(Brightness(), **options, activation="softmax")
    assert torch.equal(one.fc.weight, two.fc.weight)
    Odd.size = 64
    assert size_of(Odd(), 192) == 64
    one.activation = "sigmoid"
    assert activation_of("align", one, None) == "sigmoid"


def test_a_buffer_that_the_model_replaces_is_put_back() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.register_buffer("last", None)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls = self.calls + 1
            self.last = x
            return x

    class Always(Counts):
        """Normalises by the batch in evaluation too."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(3))
            self.register_buffer("variance", torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = super().forward(x)
            return nn.functional.batch_norm(x, self.mean, self.variance, training=True)

    model = Always()
    calls = model.calls
    with frozen(model):
        model(torch.rand(2, 3, 4, 4))
        assert model.mean.any()
    assert not model.mean.any()
    assert (model.variance == 1).all()
    assert model.calls is calls
    assert model.calls == 0
    assert model.last is None


class Counted(nn.Module):
    """For scripts, whose buffers are no dictionary."""

    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.BatchNorm2d(4))
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("sums", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls = self.calls + 1
        self.sums.add_(1)
        return self.body(x).mean((2, 3))


@pytest.mark.parametrize("how", ["script", "trace"])
def test_scripts_of_models_are_held_still(how) -> None:
    x = torch.rand(2, 3, 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that scripts will go away, and shapes that are fixed
        model = Counted()
        if how == "trace":
            model = torch.jit.trace(model.body, x, check_trace=False)
        else:
            model = torch.jit.script(model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with frozen(model):
        model(x)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training


def test_a_checkpoint_of_another_model_is_refused(tmp_path) -> None:
    options = {"dark": torch.rand(9, 3, 16, 16) * 0.1, "size": 32, "num_steps": 2}
    options["checkpoint"] = tmp_path / "training.safetensors"
    lowlight.align(Brightness(), **options)
    lowlight.align(Brightness(), **options)
    other = Brightness()
    with torch.no_grad():
        other.scale.fill_(20.0)
    with pytest.raises(ArgumentError, match="must be of this one"):
        lowlight.align(other, **options)
