"""ONNX export of a network: depth, confidence and predicted cameras of views of a fixed number and size."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from da3gs._files import atomic_file
from da3gs._optional import require
from da3gs.errors import InputError
from da3gs.views import Views

OUTPUTS = ("depth", "confidence", "sky", "world_to_cam", "intrinsics")
"""What the file may give: those of them that the network has, in this order."""

_MOST_BYTES = 2 * 10**9  # what one protobuf file holds


def export_onnx(
    network: nn.Module, path: Path | str, *, views: int, height: int, width: int, overwrite: bool = False
) -> dict[str, object]:
    """Write a network without its splat head as one ``.onnx`` file.

    The input ``images`` is ``V 3 H W``, sRGB in [0, 1], as ``Views.images``; the outputs are those of ``Prediction`` in
    the network's own frame and scale: ``depth`` and ``confidence`` ``V H W``, ``world_to_cam`` ``V 4 4``,
    ``intrinsics`` ``V 3 3`` in pixels; of monocular networks ``depth`` and ``sky``.

    Args:
        network: with its weights, float32.
        path: the file.
        views: how many at once.
        height: of each in pixels, a multiple of 14.
        width: the same across.
        overwrite: replace an existing file.

    Returns:
        Names and shapes of inputs and outputs, and the size in megabytes.

    Raises:
        InputError: the network is too large for one file, a size is none, or ``path`` is taken.
        MissingDependencyError: the packages onnx and onnxscript are not there.
    """
    path = Path(path)
    check_onnx_output(path, overwrite=overwrite)
    if height % 14 or width % 14 or min(height, width, views) < 1:
        raise InputError(f"the network sees sides that are multiples of 14, got {width}x{height}")
    size = sum(p.numel() * p.element_size() for p in network.parameters())
    if size > _MOST_BYTES:
        raise InputError(
            f"{size / 1e9:.1f} GB of weights are more than one .onnx file holds (2 GB); take a smaller model"
        )
    require("onnx", why="models export")
    require("onnxscript", why="models export")
    images = torch.rand(views, 3, height, width, generator=torch.Generator().manual_seed(0))
    wrapped = _Outputs(network).eval()
    with torch.inference_mode():
        names = wrapped.names(images)
    with _quiet():
        program = torch.onnx.export(wrapped, (images,), dynamo=True, input_names=["images"], output_names=names)
    assert program is not None
    with atomic_file(path, overwrite=overwrite) as temporary:
        program.save(temporary)
        megabytes = round(temporary.stat().st_size / 1e6, 1)
    return {"input": {"images": [views, 3, height, width]}, "outputs": names, "megabytes": megabytes}


def check_onnx_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output before a network is loaded.

    Raises:
        InputError: another suffix, or ``path`` is taken.
    """
    if path.suffix.lower() != ".onnx":
        raise InputError(f"an ONNX file ends in .onnx, got {path.name}")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists; give another name, or --overwrite")


class _Outputs(nn.Module):
    """A network from a tensor of images to a tuple of tensors."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "V 3 H W"]) -> tuple[Tensor, ...]:
        """The values of ``names``, in their order."""
        return tuple(self._found(images).values())

    def names(self, images: Float[Tensor, "V 3 H W"]) -> list[str]:
        """Of what comes out."""
        return list(self._found(images))

    def _found(self, images: Float[Tensor, "V 3 H W"]) -> dict[str, Tensor]:
        told = self.network(Views(images=images, names=tuple(map(str, range(len(images))))))
        cameras = told.cameras
        values = (told.depth, told.confidence, told.sky)
        values += (None, None) if cameras is None else (cameras.world_to_cam, cameras.intrinsics)
        return {name: value for name, value in zip(OUTPUTS, values, strict=True) if value is not None}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's own lines on stdout and in the log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
