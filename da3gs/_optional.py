"""Packages of others: optional ones imported where they are used, with one line where they are missing; warnings."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterator
from types import ModuleType

from da3gs.errors import MissingDependencyError

_EXTRAS = {
    "gsplat": "gpu",
    "ray": "cluster",
    "lpips": "eval",
    "torchvision": "eval",
    "skimage": "eval",
    "nerfstudio": "nerfstudio",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "tensorboard": "dev",
}


def require(module: str, *, why: str) -> ModuleType:
    """Import an optional module, or say in one line which extra brings it.

    Args:
        module: dotted name, e.g. ``"skimage.metrics"``.
        why: what needs it, as the subject of the sentence, e.g. ``"SSIM"``.

    Raises:
        MissingDependencyError: the module cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        extra = _EXTRAS.get(package)
        remedy = f"pip install 'da3gs[{extra}]'" if extra else f"pip install {package}"
        raise MissingDependencyError(
            f"{why} needs the package {package!r} ({error}); install it with: {remedy}"
        ) from error


@contextlib.contextmanager
def without_pillow_warnings() -> Iterator[None]:
    """Damaged EXIF and the like, of which Pillow warns, are passed over in silence. Filters are of the whole process:
    this goes round work that starts threads, never into them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
