"""Where the time of a phase goes."""

from __future__ import annotations

import time
from typing import Any

import lightning as L

from luffy_pl.callbacks.logging import log_phase, mean_over_ranks, single
from luffy_pl.callbacks.work import sampled_tokens, stage_seconds
from luffy_pl.records import Experience
from luffy_pl.training.module import LuffyModule


class Throughput(L.Callback):
    """Seconds for generating, scoring and training, and tokens per second of two of them.

    timing_s/phase is a whole phase with what stands between its stages, timing_s/phase_cpu the CPU
        time that this process took for it, on all its threads.
    """

    def __init__(self) -> None:
        self.phase_ended = self.cpu_ended = 0.0

    def on_train_start(self, trainer: L.Trainer, module: LuffyModule) -> None:
        """Start the clock."""
        self.phase_ended, self.cpu_ended = time.monotonic(), time.process_time()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: LuffyModule, outputs: Any, batch: Experience, index: int
    ) -> None:
        """One line of metrics per phase; means over ranks."""
        now, cpu, device = time.monotonic(), time.process_time(), batch.reward_N.device
        seconds = {
            **stage_seconds(outputs, batch),
            "phase": now - self.phase_ended,
            "phase_cpu": cpu - self.cpu_ended,
        }
        self.phase_ended, self.cpu_ended = now, cpu
        pairs = {f"timing_s/{name}": single(value, device) for name, value in seconds.items()}
        pairs["throughput/generated_tokens"] = single(sampled_tokens(batch), device)
        pairs["throughput/trained_tokens"] = single(batch.num_tokens_N.sum(), device)
        values = mean_over_ranks(trainer, pairs)
        for verb, stage in (("generated", "generate"), ("trained", "train")):
            tokens, took = values[f"throughput/{verb}_tokens"], values[f"timing_s/{stage}"]
            values[f"throughput/{verb}_tokens_per_s"] = tokens / max(took, 1e-9)
        log_phase(trainer, values, phase=module.phases_trained)
