"""File formats, one module each; those of splats have a row in ``registry`` too, which chooses among them."""

from __future__ import annotations

from da3gs.formats.registry import (
    FORMATS,
    READ_SUFFIXES,
    WRITTEN_SUFFIXES,
    format_of_content,
    format_of_name,
    load_gaussians,
    load_splat_file,
    save_gaussians,
)

__all__ = [
    "FORMATS",
    "READ_SUFFIXES",
    "WRITTEN_SUFFIXES",
    "format_of_content",
    "format_of_name",
    "load_gaussians",
    "load_splat_file",
    "save_gaussians",
]
