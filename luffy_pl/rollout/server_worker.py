"""What `luffy-pl serve` adds to the processes of a server that hold its weights.

vLLM imports `Worker` there (`--worker-extension-cls`) before it loads a model.
"""

from __future__ import annotations

from luffy_pl.rollout.vllm_defects import mend_loading

mend_loading()


class Worker:
    """Adds nothing: importing this module is enough."""
