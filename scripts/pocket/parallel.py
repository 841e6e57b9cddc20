"""Training by several threads with a copy of the network each, a piece of the batch at a time, on fp32 master weights.

Inside each thread operations run on one core. On a machine that other programs use too this beats threads inside an operation, which
wait for the slowest at the end of every one: whoever is held up simply takes fewer pieces. On a GPU there is one worker.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)


class Workers(Generic[Net]):
    """Copies of a network, and the threads that use them."""

    def __init__(self, network: Net, count: int) -> None:
        self.networks: list[Net] = [network, *(copy.deepcopy(network) for _ in range(count - 1))]
        threads = 1 if count > 1 else torch.get_num_threads()
        self.pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(threads,))

    def gradients(self, batch: Sequence[Tensor], piece: int, loss_of: Callable[..., Tensor]) -> float:
        """Adds to the networks' gradients; `loss_of(network, *rows of batch)` is a mean over rows. Returns the whole mean."""
        total = len(batch[0])
        size = total if len(self.networks) == 1 else piece
        pieces: SimpleQueue[slice] = SimpleQueue()
        for first in range(0, total, size):
            pieces.put(slice(first, first + size))

        def work(network: Net) -> float:
            sum_of_losses = 0.0
            while True:
                try:
                    rows = pieces.get_nowait()
                except Empty:
                    return sum_of_losses
                part = [tensor[rows] for tensor in batch]
                loss = loss_of(network, *part) * (len(part[0]) / total)
                loss.backward()
                sum_of_losses += loss.item()

        return sum(self.pool.map(work, self.networks))


class Shard:
    """Some of the parameters: fp32 masters, their AdamW and their average."""

    def __init__(self, names: list[str], masters: list[Tensor]) -> None:
        self.names, self.masters = names, masters
        self.average = [master.clone() for master in masters]
        self.adam = torch.optim.AdamW(masters, betas=(0.9, 0.99), weight_decay=0.01, fused=True)

    @torch.no_grad()
    def gather(self, networks: Sequence[dict[str, nn.Parameter]]) -> float:
        """Sum the networks' gradients into the masters' and clear them; returns the squared norm."""
        for name, master in zip(self.names, self.masters, strict=True):
            first, *rest = (network[name] for network in networks if network[name].grad is not None)
            assert first.grad is not None
            master.grad = first.grad.float()
            for other in rest:
                if other.grad is not None:
                    master.grad += other.grad
            for network in networks:
                network[name].grad = None
        grads = [master.grad for master in self.masters if master.grad is not None]
        return float(torch.stack(torch._foreach_norm(grads)).square().sum())

    @torch.no_grad()
    def step(self, networks: Sequence[dict[str, nn.Parameter]], scale: float, rate: float, decay: float) -> None:
        if scale < 1:
            torch._foreach_mul_([master.grad for master in self.masters if master.grad is not None], scale)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        torch._foreach_lerp_(self.average, self.masters, 1 - decay)
        for network in networks:
            torch._foreach_copy_([network[name] for name in self.names], self.masters)


class Optimizer:
    """AdamW and an average on fp32 master weights; the networks themselves may work in bf16. Each thread has its shard."""

    def __init__(self, workers: Workers[Any], average: float) -> None:
        self.pool, self.average = workers.pool, average
        self.networks = [dict(network.named_parameters()) for network in workers.networks]
        parts: list[list[str]] = [[] for _ in self.networks]
        loads = [0] * len(parts)
        for name, parameter in self.networks[0].items():
            least = loads.index(min(loads))
            parts[least].append(name)
            loads[least] += parameter.numel()
        self.shards = [Shard(part, [self.networks[0][n].detach().float().clone() for n in part]) for part in parts]

    def step(self, count: int, rate: float, clip: float = 1.0) -> None:
        """Use the sum of the networks' gradients and clear them; `count` steps were made before."""
        decay = min(self.average, (1 + count) / (10 + count))  # the first random weights are soon forgotten
        norm = math.sqrt(sum(self.pool.map(lambda shard: shard.gather(self.networks), self.shards)))
        scale = clip / max(norm, 1e-6)
        list(self.pool.map(lambda shard: shard.step(self.networks, scale, rate, decay), self.shards))

    def state(self) -> dict[str, Any]:
        """For a checkpoint: "model", "ema" and "adam", by parameter name."""
        out: dict[str, Any] = {"model": {}, "ema": {}, "adam": {}}
        for shard in self.shards:
            for name, master, average in zip(shard.names, shard.masters, shard.average, strict=True):
                out["model"][name], out["ema"][name], out["adam"][name] = master, average, shard.adam.state[master]
        return out

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Take up a checkpoint, whatever the number of threads that wrote it."""
        for shard in self.shards:
            for name, master, average in zip(shard.names, shard.masters, shard.average, strict=True):
                master.copy_(state["model"][name])
                average.copy_(state["ema"][name])
                shard.adam.state[master] = state["adam"][name]
                for network in self.networks:
                    network[name].copy_(master)
