"""Motion in the dark: errors by hand, the ensemble of answers, and curves learned by both."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from foveal import lowlight
from foveal.data.moving_layers import moving_layers
from foveal.data.sensor_noise import Shot, shoot
from foveal.errors import ArgumentError
from foveal.lowlight import reciprocal_curve
from foveal.lowlight.ensemble import ENSEMBLE
from foveal.lowlight.evaluate_flow import (
    BEST_FIXED,
    CEILING,
    DAYLIGHT,
    NO_MOTION,
    UNTOUCHED,
    FlowClip,
    evaluate_flow,
    in_the_dark,
)
from foveal.lowlight.flow_ensemble import (
    PseudoFlow,
    align_to_flow,
    pseudo_flow,
    pseudo_flow_loss,
)
from foveal.teachers.flow import FlowNet

TRIPLE = (0.02, 1e-6, 1e-9)


class Bright(nn.Module):
    """Says that everything moves right by ten times the brightness of the later frame."""

    size = 16

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        right = self.scale * clip[:, :, 1:].mean(1, keepdim=True)
        return torch.cat([right, torch.zeros_like(right)], 1)


def back(x: torch.Tensor) -> torch.Tensor:
    """Undo the exposure, in linear light."""
    from foveal.data.sensor_noise import linear_to_srgb, srgb_to_linear

    return linear_to_srgb((srgb_to_linear(x) / TRIPLE[0]).clamp(0, 1))


def clips(count: int, *, t: int = 2) -> list[FlowClip]:
    """Flat clips of several brightnesses; `Bright` is 1 pixel off by daylight."""
    made = []
    for i in range(count):
        level = 0.3 + 0.5 * i / count
        flow = torch.zeros(t - 1, 2, 16, 20)
        flow[:, 0] = 10 * level + 1
        valid = torch.ones(t - 1, 16, 20, dtype=torch.bool)
        made.append(FlowClip(torch.full((t, 3, 16, 20), level), flow, valid, group=i // 2))
    return made


def run(given: list[FlowClip], **options):
    options = {"triples": [TRIPLE], "draws": 2, **options}
    (table,) = evaluate_flow(Bright(), given, {"back": back}, **options)
    return {row.method: row for row in table}


def test_errors_are_those_of_the_definition() -> None:
    seen: list[int] = []
    rows = run(clips(8), on_clip=lambda triple, i: seen.append(i))
    assert seen == list(range(8))
    assert rows[DAYLIGHT].error == pytest.approx(1, abs=1e-4)
    assert rows[DAYLIGHT].departure == 0
    assert rows[DAYLIGHT].outliers == 0
    assert rows["back"].error == pytest.approx(1, abs=0.2)
    assert rows["back"].departure < 0.2
    truth = [float(x.flow[0, 0, 0, 0]) for x in clips(8)]
    assert rows[NO_MOTION].error == pytest.approx(sum(truth) / 8, rel=1e-4)
    assert rows[NO_MOTION].departure == pytest.approx(sum(truth) / 8 - 1, rel=1e-4)
    assert rows[NO_MOTION].outliers == 1
    assert rows[UNTOUCHED].gain.mean == 0
    gain = rows[UNTOUCHED].error - rows["back"].error
    assert rows["back"].gain.mean == pytest.approx(gain)
    gain = rows[UNTOUCHED].departure - rows["back"].departure
    assert rows["back"].gain_in_departure.mean == pytest.approx(gain)
    assert gain > 2
    assert rows["back"].num_items == 16
    assert rows["back"].gain.num_groups == 4
    fixed = {k: v.error for k, v in rows.items() if k.startswith("reciprocal")}
    assert len(fixed) == 9
    assert rows[BEST_FIXED].error == min(fixed.values())
    assert rows[CEILING].error < rows[BEST_FIXED].error
    assert rows["back"].against_best.mean == pytest.approx(min(fixed.values()) - 1, abs=0.2)
    assert "back" in str(rows["back"])


def test_outliers_and_valid_pixels_are_counted() -> None:
    (clip,) = clips(1)
    flow, valid = clip.flow.clone(), clip.valid.clone()
    flow[0, 1, :, :5] = 4.0  # a quarter of the pixels is 4 off, and hidden
    valid[0, :, :5] = False
    row = run([dataclasses.replace(clip, flow=flow, valid=valid)])[DAYLIGHT]
    assert row.outliers == pytest.approx(0.25)
    assert row.error == pytest.approx(0.75 + 0.25 * math.hypot(1, 4), abs=1e-4)
    assert row.error_valid == pytest.approx(1, abs=1e-4)
    none = dataclasses.replace(clip, valid=torch.zeros_like(valid))
    assert all(math.isnan(x.error_valid) for x in run([none]).values())
    both = run([none, clip])  # a clip without such pixels is no clip without errors
    assert all(x.error_valid == pytest.approx(run([clip])[k].error_valid, abs=0.02)
               for k, x in both.items() if k in (DAYLIGHT, NO_MOTION))  # fmt: skip


def test_each_frame_has_its_own_noise_and_the_clip_one_darkness() -> None:
    frames = torch.full((3, 3, 16, 16), 0.7)
    noisy = (0.1, 1e-2, 1e-4)
    dark = in_the_dark(frames, noisy, seed=7)
    for i in range(3):
        alone = shoot(frames[i : i + 1], [Shot.of_triple(noisy, seed=7 + i)])[0]
        assert torch.equal(dark[i], alone)
    assert not torch.equal(dark[0], dark[1])
    one, two, other = (
        {k: v.error for k, v in run(clips(2), triples=[noisy], seed=s).items()} for s in (0, 0, 1)
    )
    assert one == two
    assert one != other


def test_a_clip_is_brightened_by_one_curve() -> None:
    """A way that measures what it is given sees all frames at once."""
    shapes: set[tuple[int, ...]] = set()

    def way(x: torch.Tensor) -> torch.Tensor:
        shapes.add(tuple(x.shape))
        return x

    found: list[torch.Tensor] = []

    class Watch(Bright):
        def forward(self, clip: torch.Tensor) -> torch.Tensor:
            found.append(clip)
            return super().forward(clip)

    given = clips(1, t=3)
    frames = given[0].frames * torch.tensor([0.5, 1.0, 1.2])[:, None, None, None]
    given = [dataclasses.replace(given[0], frames=frames)]
    list(evaluate_flow(Watch(), given, {"way": way}, triples=[TRIPLE]))
    assert shapes == {(1, 3, 48, 20)}
    dark = in_the_dark(frames, TRIPLE, seed=0).transpose(0, 1)
    assert torch.equal(found[1][0], dark)  # the untouched clip
    assert torch.equal(found[-1][-1], dark)  # frames come back in their order


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ([], {}, "clips is empty"),
        (clips(1), {"draws": 0}, "draws is 0"),
        ([clips(1)[0], clips(1, t=3)[0]], {}, r"clips\[1\] has shapes"),
        (
            [dataclasses.replace(clips(1)[0], flow=torch.full((1, 2, 16, 20), math.nan))],
            {},
            "flow with NaN",
        ),
    ],
    ids=["none", "draws", "lengths", "nan"],
)
def test_bad_arguments_are_named(given, options, words) -> None:
    with pytest.raises(ArgumentError, match=words):
        run(given, **options)


@pytest.mark.parametrize("name", [UNTOUCHED, DAYLIGHT, BEST_FIXED, "reciprocal 0.1"])
def test_a_name_that_is_taken_is_refused(name) -> None:
    """Else a method would stand in the table as the daylight clip, or as one of the nine."""
    with pytest.raises(ArgumentError, match="methods has"):
        next(evaluate_flow(Bright(), clips(1), {name: back}))


@pytest.mark.parametrize(
    "model", [lambda clip: clip[:, :2, :1, :1], lambda clip: clip[:, :2, 1:] / 0]
)
def test_an_answer_that_is_no_flow_is_named(model) -> None:
    with pytest.raises(ArgumentError, match="model returned"):
        next(evaluate_flow(model, clips(1), {}))


def test_a_method_that_changes_the_size_is_named() -> None:
    with pytest.raises(ArgumentError, match=r"a method made \(1, 3, 32, 10\)"):
        next(evaluate_flow(Bright(), clips(1), {"halves": lambda x: x[..., ::2]}))


def test_a_clip_of_wrong_shapes_is_named() -> None:
    bad = dataclasses.replace(clips(1)[0], valid=torch.ones(1, 16, 19, dtype=torch.bool))
    with pytest.raises(ArgumentError, match=r"clips\[0\] has shapes"):
        run([bad])


def test_the_ensemble_is_the_median_where_answers_agree() -> None:
    dark = torch.rand(2, 3, 3, 8, 8) * 0.2
    dark[:, :, :, :, :4] = 0.0  # black stays black under every curve: there all agree
    model = Bright()
    found = pseudo_flow(model, dark, spread=0.5)
    answers = torch.stack([model(reciprocal_curve(dark.transpose(1, 2), a)) for a in ENSEMBLE])
    torch.testing.assert_close(found.flow, answers.sort(0).values[4])
    distance = (answers - found.flow).norm(dim=2).sort(0).values[4]
    assert torch.equal(found.keep, distance <= 0.5)
    assert found.keep[..., :4].all()
    assert not found.keep[..., 4:].all()
    with pytest.raises(ArgumentError, match="spread is 0"):
        pseudo_flow(model, dark, spread=0)
    with pytest.raises(ArgumentError, match=r"model returned \(2, 14\).*must be flow"):
        pseudo_flow(lambda clips: torch.zeros(len(clips), 14), dark)


def test_answers_that_are_no_numbers_are_not_trusted_and_spoil_no_other_pixel() -> None:
    class Odd(Bright):
        def forward(self, clip: torch.Tensor) -> torch.Tensor:
            flow = super().forward(clip)
            return torch.where(torch.arange(flow.shape[-1]) < 4, flow / 0, flow)

    targets = pseudo_flow(Odd(), 0.2 * torch.rand(1, 2, 3, 8, 8), spread=100.0)
    assert not targets.keep[..., :4].any()
    assert targets.keep[..., 4:].all()
    flow = torch.zeros(1, 2, 1, 8, 8, requires_grad=True)
    loss = pseudo_flow_loss(flow, targets)
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(flow.grad).all()


def test_the_loss_counts_trusted_pixels_only() -> None:
    targets = PseudoFlow(torch.zeros(1, 2, 1, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.bool))
    flow = torch.zeros(1, 2, 1, 4, 4)
    flow[:, 0], flow[:, 1] = 3, 4
    flow.requires_grad_()
    loss = pseudo_flow_loss(flow, targets)
    loss.backward()
    assert loss.item() == 0
    assert not flow.grad.any()
    targets.keep[0, 0, 0, 0] = True
    assert pseudo_flow_loss(flow, targets).item() == pytest.approx(5, rel=1e-5)


def test_a_curve_learns_what_most_curves_let_the_network_say() -> None:
    """`Bright` says ten times the brightness: the median is that of the middle curve."""
    model = Bright().train()
    dark = (0.02 + 0.1 * torch.rand(16, 1, 1, 1, 1)).expand(16, 2, 3, 16, 16)
    dark = (dark + 0.01 * torch.rand(16, 2, 3, 16, 16)).contiguous()
    steps: list[lowlight.AlignmentStep] = []
    options = {"dark": dark, "spread": 5.0, "num_steps": 40, "check_every": 10, "start": None}
    curve = align_to_flow(model, **options, learning_rate=3e-3, on_step=steps.append)
    assert [x.step for x in steps if x.stage == "labels"] == [8, 16]
    first = next(x for x in steps if x.stage == "curve")
    held = [x.held_out for x in steps if x.held_out is not None]
    assert min(held) < 0.5 * first.loss
    assert all(0 < x.right <= 1 for x in steps)
    assert (model.training, model.scale.requires_grad, model.scale.grad) == (True, True, None)
    assert not any(p.requires_grad for p in curve.parameters())
    short = {**options, "num_steps": 2}
    one, two, other = (align_to_flow(model, **short, seed=s).fc.weight for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_clips_on_which_the_answers_differ_are_left_out() -> None:
    dark = 0.02 + 0.2 * torch.rand(6, 2, 3, 16, 16)
    dark[2:4] = 0.0  # black: all curves agree
    asked: list[torch.Tensor] = []
    steps: list[lowlight.AlignmentStep] = []

    class Watch(Bright):
        def forward(self, clip: torch.Tensor) -> torch.Tensor:
            asked.append(clip)
            return super().forward(clip)

    align_to_flow(Watch(), dark=dark, spread=0.1, num_steps=3, batch_size=2, on_step=steps.append)
    assert [x.right for x in steps if x.stage == "labels"] == [0, 0.5, pytest.approx(1 / 3)]
    assert not any(clip.any() for clip in asked[27:])  # three times nine questions, then training


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_steps": 0}, "num_steps is 0"),
        ({"size": 8}, "size is 8"),
        ({"size": 0}, "size is 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"start": 0.0}, "start is 0"),
        ({"spread": -1.0}, "spread is -1"),
        ({"groups": [0]}, "groups has 1 numbers"),
        ({"spread": 1e-9}, "answers agree nowhere"),
        ({"dark": torch.rand(2, 3, 16, 16)}, "must be clips"),
        ({"dark": torch.rand(2, 1, 3, 16, 16)}, "must be clips"),
        ({"dark": torch.full((2, 2, 3, 16, 16), math.nan)}, "dark holds a picture"),
    ],
    ids=[
        "steps",
        "size",
        "no size",
        "rate",
        "start",
        "spread",
        "groups",
        "agree",
        "pictures",
        "one frame",
        "nan",
    ],
)
def test_bad_arguments_of_the_ensemble_are_named(options, words) -> None:
    given = {"dark": 0.1 * torch.rand(2, 2, 3, 16, 16), "size": 16, **options}
    with pytest.raises(ArgumentError, match=words):
        align_to_flow(Bright(), **given)


def upright(count: int, seed: int) -> torch.Tensor:
    """Textures that have an up and a left, so that a puzzle of them can be solved."""
    random = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*[torch.linspace(0, 1, 80)] * 2, indexing="ij")
    base = torch.stack([0.2 + 0.7 * (1 - y), 0.3 + 0.5 * x, 0.3 + 0.6 * (x - 0.5).abs()])
    bumps = torch.rand(count, 3, 6, 6, generator=random)
    bumps = nn.functional.interpolate(bumps, (80, 80), mode="bilinear")
    return (0.7 * base + 0.3 * bumps).clamp(0, 1)


@pytest.mark.parametrize("layers", [None, ("encoder.1", "encoder.2")], ids=["default", "pyramid"])
def test_the_flow_network_is_a_recogniser_that_align_can_read(layers) -> None:
    torch.manual_seed(0)
    model = FlowNet(widths=(8, 8, 8), hidden=(8,), radius=1).eval()
    state = {k: v.clone() for k, v in model.state_dict().items()}

    def moving(seed: int) -> torch.Tensor:
        textures = upright(4, seed)
        options = {"size": (64, 64), "num_frames": 3, "num_shapes": 1, "displacement": 4.0}
        return moving_layers(16, **options, textures=textures, seed=seed).frames

    dark = torch.stack(
        [in_the_dark(x, (0.02, 1e-4, 1e-7), seed=i) for i, x in enumerate(moving(1))]
    )
    steps: list[lowlight.AlignmentStep] = []
    curve = lowlight.align(
        model,
        dark=dark,
        normal=moving(0),
        method="pretext",
        layers=layers,
        size=48,
        head_steps=80,
        num_steps=2,
        batch_size=6,
        on_step=steps.append,
    )
    assert curve.predict_clip(dark[0]).shape == (1, 3, 256)
    assert {x.stage for x in steps} == {"head", "curve"}
    assert all(math.isfinite(x.loss) for x in steps)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_the_model_card_is_made_of_what_was_measured(monkeypatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "tools")
    from docs_motion_models import flow_card
    from fill_docs import table

    (found,) = evaluate_flow(Bright(), clips(4), {"back": back}, triples=[TRIPLE])
    rows = json.loads(json.dumps([dataclasses.asdict(row) for row in found]))
    day = {"displacement": 24.0, "epe": 1.234, "epe_standard_error": 0.5, "epe_valid": 0.9}
    day |= {"over_3_px": 0.125, "zero_epe": 9.5, "one_shift_epe": 7.25}
    log = {"steps": 7, "train_seconds": 90.0, "device": "some GPU", "torch": "2"}
    log["arguments"] = {"size": "256", "batch": "32", "lr": "0.1", "seed": "0"}
    log["photographs"] = {"train": 3, "cutouts": 2}
    log["held_out"] = [{**day, "scenes": 228, "photographs": 57}]
    dark = {"rows": rows, "clips": 4, "groups": 2, "failed": {"pretext": "why"}, "torch": "2"}
    dark |= {"dark_photographs": 5, "daylight_photographs": 6, "device": "some GPU"}
    dark["arguments"] = {"frames": "2", "displacement": "24.0"}
    text = flow_card(log, dark, table)
    assert "| 24 | 1.23 ± 0.50 | 0.90 | 12.5 % | 9.50 | 7.25 |" in text
    (line,) = [x for x in text.splitlines() if x.startswith("| 0.02, 1e-06, 1e-09 | back |")]
    row = next(x for x in found if x.method == "back")
    assert f"| {row.error:.2f} |" in line
    assert f"{row.gain.mean:+.2f} ({row.gain.low:+.2f} to {row.gain.high:+.2f})" in line
    assert "| reciprocal" not in text
    assert "an anecdote" in text
    assert "pretext gave no curve: why" in text
