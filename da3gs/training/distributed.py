"""Distributed runs over processes that ``torchrun`` started: ranks, shared weights and gradients."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import warnings
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from da3gs.errors import BackendError
from da3gs.network.attention import Block
from da3gs.training.config import TrainConfig
from da3gs.training.step import Objective, whole

_PATIENCE = datetime.timedelta(minutes=10)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """The processes of a run."""

    rank: int = 0
    """Which one this is."""
    count: int = 1
    """How many there are."""

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all."""
        if self.count > 1:
            dist.barrier()

    def any(self, flag: bool) -> bool:
        """Whether any process says yes."""
        if self.count == 1:
            return flag
        value = torch.tensor(int(flag))
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return bool(value)


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The processes of a run under ``torchrun``; one alone without it.

    Raises:
        BackendError: another process was lost.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        yield Ranks()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Ranks(rank=dist.get_rank(), count=count)
    except RuntimeError as error:
        if isinstance(error, BackendError) or not _lost(str(error)):
            raise
        raise BackendError(
            "another process of the run was lost; the last checkpoint is intact: start torchrun again with --resume"
        ) from error
    finally:
        dist.destroy_process_group()


def _lost(message: str) -> bool:
    words = ("connection", "gloo", "nccl", "peer", "socket", "timed out", "timeout")
    return any(word in message.lower() for word in words)


def local_device(name: str) -> torch.device:
    """The device of this process; ``auto`` takes CUDA where there is one.

    Raises:
        BackendError: it is not there.
    """
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise BackendError("device='cuda' but no CUDA device is there; leave --device out")
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        return device
    if kind != "cpu":
        raise BackendError(f"device={name!r}: training runs on the CPU or on CUDA; leave --device out")
    return torch.device("cpu")


def shared(objective: Objective, config: TrainConfig, ranks: Ranks, device: torch.device) -> nn.Module:
    """The objective with its gradients (DDP), or its weights as well (FSDP2), shared by all processes.

    Sharding replaces the parameters: the optimiser has to be made afterwards.
    """
    if ranks.count == 1:
        return objective
    if config.parallel == "fsdp":
        _shard(objective.model, device)
        return objective
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(objective, device_ids=ids, find_unused_parameters=True)


def _shard(model: nn.Module, device: torch.device) -> None:
    """Spread a network's weights: every block by itself, the rest together."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    # about views that heads return and nobody changes in place
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module", category=UserWarning)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for module in model.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "raw")


def shard_like(average: nn.Module, config: TrainConfig, ranks: Ranks, device: torch.device) -> None:
    """Spread the averaged weights as those that learn are."""
    if ranks.count > 1 and config.parallel == "fsdp":
        _shard(average, device)


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """All weights of a network that may be spread, on the CPU; every process has to ask."""
    return {name: whole(value.detach()).cpu() for name, value in module.state_dict().items()}


def spread_like(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor spread, and lying in memory, as a parameter is."""
    if not hasattr(parameter, "device_mesh"):
        return torch.empty_like(parameter.detach(), dtype=value.dtype).copy_(value)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, parameter.device_mesh, parameter.placements)
