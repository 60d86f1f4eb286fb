"""What `attach` yields: the receipt, the density and the chosen cells of the attached model."""

import math
from collections import Counter

import torch
from jaxtyping import Bool
from torch import Tensor

from foveal._core.gpu import has_fp8
from foveal.attention.integrations.ledger import Ledger, Totals
from foveal.attention.integrations.site import Plan
from foveal.errors import ArgumentError
from foveal.receipt import Receipt


class Handle:
    """What an attached model computed so far. Made by `attach`; readable during and after it.

    Reading a property waits for the device; a forward pass never does. A CUDA graph that was
    captured inside `attach` adds to the cells, densities and losses whenever it is replayed;
    calls, implementations, reasons and seconds are those of the calls that Python made. With
    gradient checkpointing a call that runs again is counted again.
    """

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        """Read from `ledger`."""
        self._plan = plan
        self._ledger = ledger

    @property
    def receipt(self) -> Receipt:
        """Block products spent and full, and the measured loss, over all prefills so far.

        A block product is QK or PV of one 64 x 64 cell of one head. Calls with one query
        (decoding) are dense and not in `spent` and `full`. `details` holds the density and loss
        per layer (by index, or by module name where several modules have the same), the cost of
        choosing cells in the same unit, the calls that went dense by reason, seconds (those of
        the measurement as "measure_seconds", outside `seconds`), and under "impl" how many
        prefills each implementation ran: "cpu" is plain torch on any device (see "device"),
        "triton" is our kernel on GPUs, "dense" is torch SDPA; "quantized (triton)" and "quantized
        (cpu)" run the formats of `precision`, and "emulated" says of each format that the hardware
        lacks how its numbers were made.

        Raises: ArgumentError: no prefill ran, or a measured loss is not finite; names the layers.
        """
        ledger, plan = self._ledger, self._plan
        layers = _by_layer(ledger.totals())
        if not any(x.full for x in layers.values()):
            raise ArgumentError(
                "Handle.receipt: no prefill was counted, must be at least one; run the model on "
                "more than one token first"
            )
        losses = {name: x.loss for name, x in layers.items() if x.loss is not None}
        if wrong := [name for name, x in losses.items() if not math.isfinite(x)]:
            raise ArgumentError(
                f"Handle.receipt: loss of {wrong} is not finite, must be; look for NaN or inf in "
                "what these layers are given, or attach with loss_rows=0 for a receipt without it"
            )
        loss = sum(losses.values()) / len(losses) if losses else None
        # A shorter prompt has fewer rows; where everything went dense, none was looked at.
        looked = ledger.rows or {plan.loss_rows}
        rows = " to ".join(str(x) for x in sorted({min(looked), max(looked)}))
        metric = f"relative L2 error of {rows} sampled query rows"
        seconds = {f"{x}_seconds": ledger.watch.seconds(x) for x in ("select", "attend", "measure")}
        return Receipt(
            stage="attention",
            unit="block products",
            spent=2.0 * sum(x.kept for x in layers.values()),
            full=2.0 * sum(x.full for x in layers.values()),
            loss=loss,
            loss_metric="" if loss is None else metric,
            seconds=seconds["select_seconds"] + seconds["attend_seconds"],
            details={
                "policy": repr(plan.policy),
                "precision": repr(plan.precision),
                "impl": dict(ledger.impls),
                "emulated": self._emulated(),
                "device": ledger.device,
                "min_tokens": plan.least_keys(ledger.device),
                "density_per_layer": {name: x.density for name, x in layers.items()},
                "loss_per_layer": losses,
                "scoring_block_products": sum(x.scoring for x in layers.values()),
                "dense_calls": dict(ledger.dense),
                "calls": ledger.calls,
                **seconds,
            },
        )

    def _emulated(self) -> dict[str, str]:
        precision, device = self._plan.precision, torch.device(self._ledger.device)
        ran = [name for name in self._ledger.impls if name.startswith("quantized")]
        if precision is None or not ran:
            return {}
        if "quantized (cpu)" in ran:
            return precision.emulated_by("cpu")
        return precision.emulated_by("triton", has_fp8=has_fp8(device))

    @property
    def density(self) -> float:
        """Kept fraction of token pairs, averaged over layers and prefills, in [0, 1]."""
        layers = self._ledger.totals().values()
        prefills = sum(x.prefills for x in layers)
        return sum(x.density * x.prefills for x in layers) / prefills if prefills else 1.0

    @property
    def step(self) -> int | None:
        """Denoising step, counted from 0, that policies are asked for by `for_step`.

        None, as at first, asks for none. Set it before every step of a diffusion model.

        Raises: ArgumentError: it is set to something else than None or a number >= 0.
        """
        return self._plan.step

    @step.setter
    def step(self, value: int | None) -> None:
        if value is not None and (type(value) is not int or value < 0):
            raise ArgumentError(
                f"Handle.step: step is {value!r}, must be None or an int >= 0; count from 0"
            )
        self._plan.step = value

    def layouts(self, layer: int | str, *, head: int = 0) -> Bool[Tensor, "n m"]:
        """Return the cells kept in the newest prefill of one layer and query head.

        Args:
            layer: Index of the layer, or the name of its attention module.
            head: Index of the query head of the first sequence.

        Raises: ArgumentError: that layer was not reached, is not one alone, or has no such head.
        """
        layout = self._ledger.newest(layer)
        if not 0 <= head < layout.shape[1]:
            raise ArgumentError(
                f"Handle.layouts: head is {head}, must be in [0, {layout.shape[1]}); pick another"
            )
        return layout.to_bool()[0, head]


def _by_layer(totals: dict[str, Totals]) -> dict[str, Totals]:
    """Rename modules to the index of their layer where no other has it, in the order of layers."""
    times = Counter(x.layer for x in totals.values())
    ordered = sorted(totals.items(), key=lambda item: item[1].layer)
    return {str(x.layer) if times[x.layer] == 1 else name: x for name, x in ordered}
