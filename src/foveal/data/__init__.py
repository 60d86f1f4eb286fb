"""Data: packaged samples, sensor noise, texts."""
