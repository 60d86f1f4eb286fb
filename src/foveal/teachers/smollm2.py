"""SmolLM2-135M-Instruct, read once from a packaged GGUF file and kept as safetensors."""

import contextlib
import io
import shutil
import tempfile
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch

from foveal._core.files import cache_dir, ensure_dir
from foveal._core.lazy import require
from foveal.data import samples

_FEATURE = "SmolLM2"


def load(dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Return (model, tokenizer): `LlamaForCausalLM` in eval mode on the CPU, and its tokenizer.

    30 layers, 9 query and 3 key heads of width 64, 8192 positions. The weights come from a 4-bit
    file (Q4_1) and are de-quantised once to bf16, so this is the reference for comparisons, not
    the original model. No model hub is asked; the packaged file is fetched once if need be.

    Args:
        dtype: Type of the weights in memory.

    Raises:
        MissingExtraError: transformers or gguf is not installed.
        MediaError: the packaged file cannot be fetched.

    Cost: first call about 30 s and 270 MB of cache; then 5 to 8 s, and 540 MB of memory in fp32.
    """
    transformers = require("transformers", "llm", _FEATURE)
    folder = cache_dir() / "teachers" / "smollm2-135m-instruct-q4_1-bf16"
    with _quiet(transformers):
        if not folder.exists():
            _convert(transformers, folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True
        )
    return model.eval(), tokenizer


def _convert(transformers: Any, folder: Path) -> None:
    """De-quantise the GGUF file into `folder`, which appears only once it is complete."""
    require("gguf", "llm", _FEATURE)
    from transformers.utils.quantization_config import GgufConfig

    gguf = samples.path("smollm2-gguf")
    ensure_dir(folder.parent)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".smollm2-"))
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
        )
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        with contextlib.suppress(OSError):  # another process was first: its folder serves as well
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _quiet(transformers: Any) -> Generator[None, None, None]:
    """Silence the warnings and progress bars of transformers, and put them back."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # The de-quantiser writes its own progress bar straight to stderr.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
