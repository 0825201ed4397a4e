"""An engine: that of transformers, which also says how fast it was."""

import logging
import time
from collections.abc import Sequence

from luffy_pl.registry import register
from luffy_pl.rollout.engine import EngineConfig, RolloutEngine
from luffy_pl.rollout.hf_engine import HfEngine

log = logging.getLogger("luffy_pl.timed_engine")


class TimedEngine(HfEngine):
    """Samples as HfEngine does."""

    def generate(self, *request, **options):
        """Sample, then write one line."""
        start = time.monotonic()
        completions = super().generate(*request, **options)
        tokens = sum(len(one.token_ids) for own in completions for one in own)
        log.info("sampled %d tokens in %.1f s", tokens, time.monotonic() - start)
        return completions


@register("engine", "timed_hf")
def timed_hf(model: str, config: EngineConfig, stop_token_ids: Sequence[int]) -> RolloutEngine:
    """The engine, its weights loaded."""
    return TimedEngine(model, config, stop_token_ids=stop_token_ids)
