"""Official weights from the Hugging Face hub into its ordinary cache on this machine, and finding them there again.

Whatever else uses that cache (the official program, other tools) finds the files too, and the other way round.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from da3gs._files import sha256
from da3gs._progress import Progress, silent
from da3gs.checkpoints.zoo import ModelCard
from da3gs.errors import BackendError, CheckpointError, Da3gsError, InputError

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
"""The files of the official layout."""
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_HEX = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_TIMEOUT = 20.0  # seconds that the hub has to answer
_SPARE = 50_000_000  # bytes of the disk that stay free


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RemoteFile:
    """A file as the hub states it."""

    name: str
    """Within the repository."""
    size: int
    """In bytes."""
    kind: Literal["sha256", "git"]
    """What the checksum is: of the content, or git's SHA-1 of a blob."""
    checksum: str
    """In hexadecimal; also the name of the blob in the cache."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RemoteModel:
    """Files to fetch."""

    card: ModelCard
    """The model."""
    revision: str
    """The commit, in hexadecimal; everything comes from it."""
    files: tuple[RemoteFile, ...]
    """Configuration and weights."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def cache_folder() -> Path:
    """Folder where Hugging Face keeps its files on this machine (HF_HOME and HF_HUB_CACHE change it)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def repository_folder(card: ModelCard) -> Path:
    """The folder of a model's repository in the cache; it need not be there.

    Raises:
        InputError: the model comes with the package.
    """
    if card.repository is None:
        raise InputError(f"{card.name} comes with da3gs; there is nothing to download")
    return cache_folder() / f"models--{card.repository.replace('/', '--')}"


def cached_folder(card: ModelCard) -> Path | None:
    """The complete folder of a model's files in the cache, or None; looks at the disk only.

    The pinned revision comes first, then the one that other programs took for the newest, then any.
    """
    if card.repository is None:
        return None
    return next((folder for folder in _snapshots(card) if _complete(folder)), None)


def _snapshots(card: ModelCard) -> Iterator[Path]:
    folder = repository_folder(card)
    snapshots = folder / "snapshots"
    if card.revision is not None:
        yield snapshots / card.revision
    try:
        newest = (folder / "refs" / "main").read_text().strip()
        others = sorted(snapshots.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    except (OSError, ValueError):
        newest, others = "", sorted(snapshots.iterdir()) if snapshots.is_dir() else []
    if _HEX.fullmatch(newest):
        yield snapshots / newest
    yield from others


def _complete(folder: Path) -> bool:
    if not (folder / CONFIG).is_file():
        return False
    if (folder / WEIGHTS).is_file():
        return True
    shards = sorted(path.name for path in folder.glob("model-*.safetensors") if path.is_file())
    return (folder / INDEX).is_file() and bool(shards) and len(shards) == int(shards[0][-17:-12])


def remote_model(card: ModelCard) -> RemoteModel:
    """Ask the hub what there is to fetch; nothing is downloaded yet.

    Raises:
        InputError: the model comes with the package.
        BackendError: the hub cannot be reached.
        CheckpointError: the hub has no such files, or others than it should have.
    """
    repository_folder(card)
    with _Hub(card) as hub:
        info = hub.api.model_info(
            hub.repository, revision=card.revision, files_metadata=True, timeout=_TIMEOUT
        )  # fmt: skip
    stated = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    names = [name for name in stated if name in (CONFIG, WEIGHTS, INDEX) or _SHARD.fullmatch(name)]
    if WEIGHTS in names:  # whole and in shards: the whole one is enough
        names = [name for name in names if name in (CONFIG, WEIGHTS)]
    files = tuple(_stated(stated[name], card) for name in sorted(names, key=lambda name: stated[name].size or 0))
    if not any(file.name.endswith(".safetensors") for file in files):
        raise CheckpointError(f"huggingface.co/{card.repository} holds no safetensors weights; is the name right?")
    revision = info.sha or card.revision
    if revision is None or not _HEX.fullmatch(revision):
        raise CheckpointError(f"the hub does not tell which commit of {card.repository} it serves; try again later")
    expected = card.sha256
    for file in files:
        if expected is not None and file.name == WEIGHTS and file.checksum != expected:
            raise CheckpointError(
                f"the hub's {WEIGHTS} of {card.name} has SHA-256 {file.checksum[:9]}..., not {expected[:9]}...; "
                "update da3gs, or download it yourself and pass the folder"
            )
    return RemoteModel(card=card, revision=revision, files=files)


def _stated(sibling: Any, card: ModelCard) -> RemoteFile:
    lfs = sibling.lfs
    checksum = sibling.blob_id if lfs is None else getattr(lfs, "sha256", None)
    size = sibling.size if lfs is None else getattr(lfs, "size", None)
    if not isinstance(checksum, str) or not _HEX.fullmatch(checksum) or not isinstance(size, int):
        raise CheckpointError(
            f"the hub states no checksum of {sibling.rfilename} of {card.repository}; try again later"
        )
    kind: Literal["sha256", "git"] = "git" if lfs is None else "sha256"
    return RemoteFile(name=sibling.rfilename, size=size, kind=kind, checksum=checksum)


def fetch_model(remote: RemoteModel, *, progress: Progress = silent) -> Path:
    """Download what is missing and check every file against the hub's checksum; returns the folder.

    A download that was broken off goes on where it stopped.

    Args:
        remote: from ``remote_model``.
        progress: told about megabytes.

    Raises:
        BackendError: the hub cannot be reached, the disk is too small, or another process downloads the same model.
        CheckpointError: a file is not what the hub states.
    """
    from filelock import FileLock, Timeout

    folder = repository_folder(remote.card)
    snapshot = folder / "snapshots" / remote.revision
    for path in (folder / "blobs", snapshot, folder.parent / ".locks" / folder.name):
        path.mkdir(parents=True, exist_ok=True)
    missing = [file for file in remote.files if not (folder / "blobs" / file.checksum).is_file()]
    _check_room(folder, sum(file.size - _begun(folder, file) for file in missing), remote.card)
    try:
        with FileLock(folder.parent / ".locks" / folder.name / "da3gs.lock", timeout=0):
            for file in remote.files:
                blob = _fetched(remote, file, folder / "blobs", progress)
                _link(blob, snapshot / file.name)
    except Timeout as error:
        raise BackendError(f"another process is downloading {remote.card.name}; wait for it to end") from error
    return snapshot


def download_model(card: ModelCard, *, progress: Progress = silent) -> Path:
    """The folder of a model's official files, fetched from the hub where the cache lacks any of them.

    Raises:
        BackendError, CheckpointError: as ``remote_model`` and ``fetch_model``.
    """
    return fetch_model(remote_model(card), progress=progress)


def _begun(folder: Path, file: RemoteFile) -> int:
    part = folder / "blobs" / f"{file.checksum}.da3gs.incomplete"
    return min(part.stat().st_size, file.size) if part.is_file() else 0


def _check_room(folder: Path, needed: int, card: ModelCard) -> None:
    free = shutil.disk_usage(folder).free
    if needed + _SPARE > free and needed:
        raise BackendError(
            f"{card.name} needs {needed / 1e6:,.0f} MB of disk and {free / 1e6:,.0f} MB are free; "
            "make room, or set HF_HOME"
        )


def _fetched(remote: RemoteModel, file: RemoteFile, blobs: Path, progress: Progress) -> Path:
    """One file of the cache, checked; what was there before is checked too."""
    blob, part = blobs / file.checksum, blobs / f"{file.checksum}.da3gs.incomplete"
    if not blob.is_file():
        _stream(remote, file, part, progress)
        _check(part, file, remote.card, progress)
        os.replace(part, blob)
    else:
        _check(blob, file, remote.card, progress)
    return blob


def _stream(remote: RemoteModel, file: RemoteFile, part: Path, progress: Progress) -> None:
    """Append to a part what it still lacks."""
    done = part.stat().st_size if part.is_file() else 0
    if done > file.size:
        part.unlink()
        done = 0
    with _Hub(remote.card) as hub, part.open("ab") as target:
        url = hub.url(file.name, remote.revision)
        hub.download(url, target, done=done, size=file.size, meter=_meter(progress, f"downloading {file.name} (MB)"))


def _check(path: Path, file: RemoteFile, card: ModelCard, progress: Progress) -> None:
    """Compare with the hub's checksum; a file that differs is deleted."""
    progress(f"checking {file.name}", 0, 1)
    found = sha256(path) if file.kind == "sha256" else git_checksum(path)
    if found != file.checksum:
        path.unlink()
        raise CheckpointError(
            f"{file.name} of {card.name} arrived damaged (checksum {found[:9]}..., not {file.checksum[:9]}...); "
            f"it was deleted, try again: da3gs models download {card.name}"
        )
    progress(f"checking {file.name}", 1, 1)


def git_checksum(path: Path) -> str:
    """Git's name of a file's content: SHA-1 of a header and the bytes."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    digest.update(path.read_bytes())
    return digest.hexdigest()


def _link(blob: Path, path: Path) -> None:
    """Let a snapshot's name point to the blob; a copy where there are no symbolic links."""
    if path.exists() and path.resolve() == blob.resolve():
        return
    path.unlink(missing_ok=True)
    try:
        path.symlink_to(os.path.relpath(blob, path.parent))
    except OSError:
        shutil.copyfile(blob, path)


def _meter(progress: Progress, stage: str) -> type:
    """What the hub's client takes for a tqdm bar, and tells our progress."""

    class Meter:
        """Progress that huggingface_hub takes for a bar of tqdm: it tells ours."""

        def __init__(self, *args: object, total: int | None = None, initial: int = 0, **kwargs: object) -> None:
            self.done, self.total = initial, total or 0

        def update(self, count: int = 1) -> None:
            """So many bytes more are there."""
            self.done += count
            progress(stage, self.done // 1_000_000, max(1, self.total // 1_000_000))

        def close(self) -> None:
            """Nothing is open."""

        def __enter__(self) -> Meter:
            return self

        def __exit__(self, *error: object) -> None:
            self.close()

    return Meter


class _Hub:
    """The hub's client; inside ``with`` whatever goes wrong with it becomes one line of ours."""

    def __init__(self, card: ModelCard) -> None:
        from huggingface_hub import HfApi

        self.card, self.repository = card, card.repository or ""
        self.api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)

    def __enter__(self) -> _Hub:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, Da3gsError):
            explained = _explained(error, self.card)
            if explained is not error:
                raise explained from error

    def url(self, name: str, revision: str) -> str:
        """Address of a file."""
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.repository, name, revision=revision, endpoint=self.api.endpoint)

    def download(self, url: str, target: Any, *, done: int, size: int, meter: type) -> None:
        """Append a file's bytes from ``done`` on."""
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        headers = build_hf_headers(library_name="da3gs")
        headers["Accept-Encoding"] = "identity"
        http_get(url, target, resume_size=done, headers=headers, expected_size=size, tqdm_class=meter)


def _explained(error: Exception, card: ModelCard) -> Exception:
    """An error of the hub's client in one line; those of the disk, and bugs, stay as they are."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{card.repository}"
    match error:
        case errors.GatedRepoError():
            return CheckpointError(f"{page} asks to accept its terms first; do so in a browser, then `hf auth login`")
        case errors.RevisionNotFoundError():
            return CheckpointError(f"{page} has no revision {card.revision}; update da3gs")
        case errors.RepositoryNotFoundError() | errors.EntryNotFoundError():
            return CheckpointError(f"{page} is not there, or not for everyone; look at it in a browser")
        case errors.OfflineModeIsEnabled():
            return _offline(card, "HF_HUB_OFFLINE is set")
        case errors.HfHubHTTPError():
            status = getattr(getattr(error, "response", None), "status_code", "an error")
            if status in (401, 403, 404):
                return CheckpointError(f"{page} is not there, or not for everyone; look at it in a browser")
            return BackendError(f"the Hugging Face hub answers {status} for {card.repository}; try again later")
        case OSError() if error.errno is not None and not isinstance(error, ConnectionError | TimeoutError):
            return error
    library = type(error).__module__.split(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2")
    if library and type(error).__name__.startswith(("Connect", "Proxy", "Unsupported", "Pool")):
        return _offline(card, type(error).__name__)
    if library or isinstance(error, OSError):  # a connection that broke, or too few bytes
        return BackendError(
            f"the download of {card.name} broke off ({type(error).__name__}); the same command goes on where "
            f"it stopped: da3gs models download {card.name}"
        )
    return error


def _offline(card: ModelCard, reason: str) -> BackendError:
    return BackendError(
        f"the Hugging Face hub cannot be reached ({reason}); connect this machine and try again, or download "
        f"https://huggingface.co/{card.repository} (config.json, model.safetensors) on another one and pass the folder "
        "with --model"
    )
