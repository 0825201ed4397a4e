r"""Memory of all ranks together while a policy is loaded and sharded over them.

    python experiments/learner/loading.py [--ranks 2] [--dtype float32] [--whole true]

A Qwen2 of 0.2 B random weights is written to a temporary folder in `--dtype`, and loaded in float32
by ranks that talk over gloo. Each reads its proportional set size (Pss of /proc/self/smaps_rollup)
every few milliseconds; the sums over ranks are compared with those of the same processes before
loading. One copy is the weights in float32. Pages of a file that is mapped count too, though the
kernel takes them back whenever it needs them: `anonymous` leaves them out. `--whole true` loads a
whole model on every rank and shards it then.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

SIZES = {
    "vocab_size": 64000, "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 14,
    "num_attention_heads": 16, "num_key_value_heads": 4, "tie_word_embeddings": False,
}  # fmt: skip
MIB = 1 << 20


class Watch(threading.Thread):
    """Notes when this process had how much memory, in bytes: Pss and its anonymous part."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: list[tuple[float, int, int]] = []
        self._ends = threading.Event()

    def run(self) -> None:
        """Until `end`."""
        while not self._ends.wait(0.004):
            self.look()

    def look(self) -> None:
        """Note it now."""
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
        kib = {
            name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)
        }
        self.seen.append((time.monotonic(), 1024 * kib["Pss"], 1024 * kib["Pss_Anon"]))

    def end(self) -> None:
        """Note it a last time."""
        self._ends.set()
        self.join()
        self.look()


def main() -> None:
    """Write the model, start the ranks, print what the first says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--whole", choices=("true", "false"), default="false")
    parser.add_argument("--folder", help="of a rank")
    args = parser.parse_args()
    if args.folder:
        rank_main(args.folder, whole=args.whole == "true")
        return
    with tempfile.TemporaryDirectory() as folder:
        write_model(folder, args.dtype)
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        places = {"WORLD_SIZE": args.ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        common = {**os.environ, "OMP_NUM_THREADS": "1", **{k: str(v) for k, v in places.items()}}
        command = [sys.executable, __file__, "--folder", folder, "--whole", args.whole]
        ranks = [
            subprocess.Popen(command, env={**common, "RANK": str(rank)})
            for rank in range(args.ranks)
        ]
        sys.exit(max(rank.wait() for rank in ranks))


def write_model(folder: str, dtype: str) -> None:
    """A model of random weights."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    torch.set_num_threads(1)
    Qwen2ForCausalLM(Qwen2Config(**SIZES)).to(getattr(torch, dtype)).save_pretrained(folder)


def rank_main(folder: str, *, whole: bool) -> None:
    """Load, and print the sums over ranks as one line of JSON."""
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from transformers import Qwen2ForCausalLM  # noqa: F401  its modules are part of a bare process

    from luffy_pl.policy.loading import load_sharded
    from luffy_pl.policy.policy import load_policy
    from luffy_pl.policy.settings import PolicyConfig
    from luffy_pl.policy.sharding import Sharding, meshes, shard_policy
    from luffy_pl.process.neighbours import neighbours

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    names = ("data_parallel", "tensor_parallel")
    mesh = init_device_mesh("cpu", (dist.get_world_size(), 1), mesh_dim_names=names)
    sharding = Sharding(meshes(mesh, replicas=1), torch.device("cpu"), torch.float32)
    group, config = neighbours(dist.get_world_size()), PolicyConfig(folder)
    dist.barrier()
    watch = Watch()
    watch.look()
    watch.start()
    began = time.monotonic()
    if whole:
        policy = load_policy(config, folder)
        shard_policy(policy, sharding)
    else:
        policy = load_sharded(config, folder, sharding, group)
    took_s = time.monotonic() - began
    dist.barrier()
    watch.end()
    every: list[list[tuple[float, int, int]]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(every, watch.seen)
    copy = sum(4 * weight.numel() for weight in policy.parameters())
    if dist.get_rank() == 0:
        report = {"copy_mib": copy // MIB, "loading_s": round(took_s, 1), **copies(every, copy)}
        sys.stdout.write(json.dumps(report) + "\n")
    dist.destroy_process_group()


def copies(every: list[list[tuple[float, int, int]]], copy: int) -> dict[str, float]:
    """Sums over ranks above what they had at first, in copies: at most, and in the end."""
    found = {}
    for kind, name in ((1, "pss"), (2, "anonymous")):
        bare = sum(seen[0][kind] for seen in every)
        moments = sorted((at[0], rank, at[kind]) for rank, seen in enumerate(every) for at in seen)
        now = [seen[0][kind] for seen in every]
        most = 0
        for _, rank, size in moments:
            now[rank] = size
            most = max(most, sum(now) - bare)
        found[f"{name}_peak"] = round(most / copy, 3)
        found[f"{name}_after"] = round((sum(now) - bare) / copy, 3)
    return found


if __name__ == "__main__":
    main()
