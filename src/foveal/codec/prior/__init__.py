"""Entropy models of the latents: which integer table codes which symbol."""
