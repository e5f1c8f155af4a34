"""Readers: from a file of any known format to a plane of integers, whatever its name."""

from samling.data.readers.plane import ImagePlane, read_any

__all__ = ["ImagePlane", "read_any"]
