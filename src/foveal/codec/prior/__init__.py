"""Entropy models of the latents: which integer table codes which symbol."""

from foveal.codec.prior.codebook_global import CodebookGlobalPrior, IntegerPrior

__all__ = ["CodebookGlobalPrior", "IntegerPrior"]
