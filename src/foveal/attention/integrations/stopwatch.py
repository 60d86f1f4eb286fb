"""Seconds spent on a device, without waiting for it."""

import time

import torch

Mark = float | torch.cuda.Event | None
"""A moment: seconds on the host, an event in a CUDA stream, or nothing (a graph is captured)."""

_MOST_PENDING = 4096


class Stopwatch:
    """Adds up time between marks by name. CUDA events are read when somebody asks for the sum."""

    def __init__(self) -> None:
        """Start at zero."""
        self._seconds: dict[str, float] = {}
        self._pending: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    def mark(self, device: torch.device) -> Mark:
        """Return this moment on `device`. Never waits; nothing while a CUDA graph is captured."""
        if device.type != "cuda":
            return time.perf_counter()
        if torch.cuda.is_current_stream_capturing():
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
        return event

    def add(self, name: str, start: Mark, end: Mark) -> None:
        """Add the time from `start` to `end` to what `name` took."""
        if isinstance(start, float) and isinstance(end, float):
            self._seconds[name] = self._seconds.get(name, 0.0) + end - start
        elif isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
            self._pending.append((name, start, end))
            if len(self._pending) > _MOST_PENDING:
                self._settle(wait=False)

    def seconds(self, name: str) -> float:
        """Return what `name` took so far, in seconds; waits for the device."""
        self._settle(wait=True)
        return self._seconds.get(name, 0.0)

    def _settle(self, *, wait: bool) -> None:
        left: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        for name, start, end in self._pending:
            if wait:
                end.synchronize()
            elif not end.query():
                left.append((name, start, end))
                continue
            self._seconds[name] = self._seconds.get(name, 0.0) + start.elapsed_time(end) / 1e3
        self._pending = left
