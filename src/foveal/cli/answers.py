"""What networks answer to decoded features, as JSON, as a line and as pictures."""

from pathlib import Path
from typing import Any

_AT_ONCE = 16
_BEST = 5


def answers(
    model: Any, decoded: dict[str, Any], networks: dict[str, Any], pictures: Path | None
) -> list[dict[str, Any]]:
    """Let the rest of each network answer; return a row for each image."""
    import torch

    count = len(next(iter(decoded.values()))) if decoded else 0
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    for task, value in decoded.items():
        source, part = model.config.source_map[task], networks.get(task)
        if part is None:
            continue
        for start in range(0, count, _AT_ONCE):
            with torch.no_grad():
                found = part.decode(value[start : start + _AT_ONCE])
            for i, answer in enumerate(found, start):
                rows[i][task] = _said(source, answer, pictures, i)
    return rows


def line(row: dict[str, Any]) -> str:
    """Return the answers to one image in a few words."""
    return "; ".join(f"{task} {_short(said)}" for task, said in row.items())


def _said(source: Any, answer: Any, pictures: Path | None, number: int) -> dict[str, Any]:
    """Return what a network says of one image; maps become a picture."""
    if answer.ndim == 1:
        best = answer.softmax(-1).topk(min(_BEST, len(answer)))
        labels = best.indices.tolist()
        return {
            "classes": labels,
            "names": [_name(source, label) for label in labels],
            "probabilities": [round(p, 6) for p in best.values.tolist()],
        }
    said: dict[str, Any] = {"shape": list(answer.shape)}
    if pictures is not None:
        from foveal._core.media import write_image

        path = pictures / f"{number:04d}-{source.name}.png"
        write_image(path, picture_of(source.name, answer))
        said["picture"] = str(path)
    return said


def _name(source: Any, label: int) -> str:
    from foveal.data import taskworld

    of_scenes = source.teacher.startswith("tasks-") and source.teacher.endswith("/scene")
    return taskworld.SCENES[label] if of_scenes else str(label)


def _short(said: dict[str, Any]) -> str:
    if "classes" in said:
        return f"{said['names'][0]} ({said['probabilities'][0]:.1%})"
    return said.get("picture") or "x".join(map(str, said["shape"]))


def picture_of(task: str, answer: Any) -> Any:
    """Return an answer that is a map as a picture [3, h, w] in [0, 1].

    Classes get a color each, three channels are mapped from [-1, 1], others are grey.
    """
    import torch

    if task == "segmentation":
        label = answer.argmax(0)
        turns = torch.arange(len(answer), dtype=torch.float32) * 2.399963
        palette = 0.5 + 0.45 * torch.stack([torch.cos(turns + k) for k in (0.0, 2.1, 4.2)])
        return palette[:, label.cpu()]
    if len(answer) == 3:
        return ((answer + 1) / 2).clamp(0, 1).cpu()
    return answer[:1].clamp(0, 1).expand(3, -1, -1).cpu()
