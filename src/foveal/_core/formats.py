"""File suffixes that are taken for images and videos."""

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".webm", ".avi", ".mpg", ".mpeg", ".m4v"})


def written_video_suffix(suffix: str) -> str:
    """Return the suffix under which a video of `suffix` is written: its own, or ".mkv"."""
    return suffix.lower() if suffix.lower() in (".mp4", ".mov", ".mkv") else ".mkv"
