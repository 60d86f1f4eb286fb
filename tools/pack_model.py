"""Carry SmolLM2 to a machine without a network: bf16 safetensors in small parts, and its text.

    python tools/pack_model.py pack FOLDER [--part-megabytes 30]     where the samples are
    python tools/pack_model.py check FOLDER                          where it arrived

`pack` writes `index.json` (configuration of the model, the parts and their SHA-256), the tokens of
the long text (`tokens.safetensors`), and `part-000.safetensors`, ... Tensors larger than a part are
cut by rows. Copy the folder, in as many steps as need be; `check` says which parts are missing or
broken. `load(folder)` there gives the model and the tokens; neither a hub nor a tokenizer is asked.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from foveal.errors import ArgumentError


def pack(folder: Path, part_bytes: int) -> list[Path]:
    """Write SmolLM2 and the long text to `folder`; return the parts.

    Raises: ArgumentError: `part_bytes` is smaller than a row of the largest matrix.
    """
    from foveal.data.texts import long_text
    from foveal.teachers import smollm2

    model, tokenizer = smollm2.load(torch.bfloat16)
    folder.mkdir(parents=True, exist_ok=True)
    ids = tokenizer(long_text(), add_special_tokens=False, verbose=False)["input_ids"]
    save_file({"tokens": torch.tensor(ids, dtype=torch.int32)}, folder / "tokens.safetensors")
    parts: list[dict[str, torch.Tensor]] = [{}]
    room = part_bytes
    kept: dict[int, str] = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() in kept:  # tied to one that is there already
            continue
        kept[tensor.data_ptr()] = name
        for at, piece in _pieces(tensor, part_bytes):
            size = piece.numel() * piece.element_size()
            if size > room:
                parts.append({})
                room = part_bytes
            parts[-1][f"{name}@{at}"] = piece.contiguous()
            room -= size
    files: list[Path] = []
    for i, tensors in enumerate(parts):
        files.append(folder / f"part-{i:03d}.safetensors")
        save_file(tensors, files[-1])
    index = {
        "config": model.config.to_dict(),
        "files": {f.name: _sha256(f) for f in [*files, folder / "tokens.safetensors"]},
    }
    (folder / "index.json").write_text(json.dumps(index, indent=1, default=str) + "\n")
    return files


def broken(folder: Path) -> list[str]:
    """Return the names of files that are missing or are not what was packed."""
    files = json.loads((folder / "index.json").read_text())["files"]
    return [
        name
        for name, digest in files.items()
        if not (folder / name).is_file() or _sha256(folder / name) != digest
    ]


def load(folder: Path, device: str = "cuda") -> tuple[Any, torch.Tensor]:
    """Return the model in eval mode on `device` and the tokens of the long text.

    Raises: ArgumentError: a part is missing or broken.
    """
    import transformers

    bad = broken(folder)
    if bad:
        raise ArgumentError(f"load: {folder} lacks or has broken {bad}, must be whole; copy them")
    index = json.loads((folder / "index.json").read_text())
    pieces: dict[str, dict[int, torch.Tensor]] = {}
    for file in sorted(folder.glob("part-*.safetensors")):
        for key, tensor in load_file(file, device=device).items():
            name, _, at = key.rpartition("@")
            pieces.setdefault(name, {})[int(at)] = tensor
    state = {name: torch.cat([x for _, x in sorted(p.items())]) for name, p in pieces.items()}
    config = transformers.LlamaConfig(**index["config"])
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    missing, unexpected = model.load_state_dict(state, strict=False)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    if set(missing) - tied or unexpected:
        raise ArgumentError(f"load: {folder} has {missing=} {unexpected=}, must fit the model")
    model.tie_weights()
    return model.eval(), load_file(folder / "tokens.safetensors")["tokens"].long()


def _pieces(tensor: torch.Tensor, part_bytes: int) -> list[tuple[int, torch.Tensor]]:
    row = tensor[0].numel() * tensor.element_size()
    rows = part_bytes // row
    if rows < 1:
        raise ArgumentError(
            f"pack: part_bytes is {part_bytes}, must be at least one row, {row}; use more"
        )
    return [(i, tensor[i : i + rows]) for i in range(0, len(tensor), rows)]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main() -> None:
    """Pack or check."""
    parser = argparse.ArgumentParser(description="SmolLM2 in small parts.")
    parser.add_argument("what", choices=["pack", "check"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part-megabytes", type=float, default=30.0)
    given = parser.parse_args()
    if given.what == "pack":
        files = pack(given.folder, int(given.part_megabytes * 1e6))
        print(f"{len(files)} parts in {given.folder}")  # noqa: T201 - a script talks
        return
    bad = broken(given.folder)
    print(f"missing or broken: {bad}" if bad else "whole")  # noqa: T201
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
