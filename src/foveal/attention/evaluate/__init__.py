"""What sparse attention costs a model in quality, measured."""

from foveal.attention.evaluate.language import LanguageComparison, compare_language

__all__ = ["LanguageComparison", "compare_language"]
