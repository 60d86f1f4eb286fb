"""What sparse attention costs a model in quality, measured."""

from foveal.attention.evaluate.language import (
    Distance,
    LanguageComparison,
    compare_language,
    compare_states,
    read_states,
)

__all__ = ["Distance", "LanguageComparison", "compare_language", "compare_states", "read_states"]
