"""File suffixes that are taken for images and videos."""

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff"})
ALPHA_SUFFIXES = frozenset({".png", ".webp", ".avif", ".tif", ".tiff"})
"""Images that are written with alpha."""
DEEP_SUFFIXES = frozenset({".png", ".tif", ".tiff"})
"""Images that are written with 16 bits."""
VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".webm", ".avi", ".mpg", ".mpeg", ".m4v"})
WRITTEN_VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov")


def written_video_suffix(suffix: str) -> str:
    """Return the suffix under which a video of `suffix` is written: its own, or ".mkv"."""
    return suffix.lower() if suffix.lower() in WRITTEN_VIDEO_SUFFIXES else ".mkv"
