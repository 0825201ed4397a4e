"""Settings that contradict each other, or what is here, refused before anything loads.

What one section can see of itself it checks itself, in its own `settings.py`.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch

from luffy_pl.config.trainer_checks import check_trainer
from luffy_pl.errors import ConfigError
from luffy_pl.objective.settings import frozen_models
from luffy_pl.policy.frozen import check_frozen
from luffy_pl.policy.sharding import share_of_ranks
from luffy_pl.process.ranks import count_ranks

log = logging.getLogger(__name__)

GPU_FILE = Path("/dev/nvidia0")
"""There once a driver of NVIDIA has found a GPU."""
CUDA_13_DRIVER = "CUDA 13 wants branch 580 or newer"


def check_settings(config: Any) -> None:
    """Settings of two sections that contradict each other, or Lightning's that are not used."""
    check_trainer(config)
    check_frozen(config.model.frozen, frozen_models(config.model.objective))
    check_served(config)
    rollout, optimizer = config.data.rollout, config.model.optimizer
    prompt = "data.train.max_prompt_tokens"
    limits = [config.data.train.max_prompt_tokens] if config.data.train else []
    if rollout.guidance is not None and rollout.guidance.put_back == "hinted":
        prompt = f"the larger of {prompt} and data.rollout.guidance.max_prompt_tokens"
        limits.append(rollout.guidance.max_prompt_tokens)  # rows are trained under their hints
    longest = rollout.max_response_tokens + max((n for n in limits if n), default=0)
    if optimizer.micro_batch_tokens < longest:
        raise ConfigError(
            "model.optimizer.micro_batch_tokens",
            f"is below {prompt} + data.rollout.max_response_tokens = {longest}"
            ", so the longest row would not fit",
            value=optimizer.micro_batch_tokens,
            fix=f"use at least {longest}",
        )
    if config.data.engine.max_model_len is not None and config.data.engine.max_model_len < longest:
        raise ConfigError(
            "data.engine.max_model_len",
            f"is below {prompt} + data.rollout.max_response_tokens = {longest}",
            value=config.data.engine.max_model_len,
            fix=f"use at least {longest}, or null",
        )
    if rollout.prompts_per_phase % optimizer.steps_per_phase:
        raise ConfigError(
            "data.rollout.prompts_per_phase",
            f"must be a multiple of model.optimizer.steps_per_phase={optimizer.steps_per_phase}",
            value=rollout.prompts_per_phase,
            fix="each optimizer step takes the same number of prompts",
        )
    for name, of in (("optimizer", optimizer), ("optimizer.sft", optimizer.sft)):
        decays = of and of.schedule.kind != "constant" and of.schedule.decay_steps is None
        if decays and rollout.imitation_buffer:
            raise ConfigError(
                f"model.{name}.schedule.decay_steps",
                "is not set, and with data.rollout.imitation_buffer nobody knows how many steps a "
                "run makes",
                fix="set it to the number of optimizer steps of the fall",
            )
    for name in ("sft_phases", "imitation_buffer", "routing"):
        if rollout[name] and not config.model.objective.sft.coef:
            raise ConfigError(
                "model.objective.sft.coef",
                f"is 0, so what data.rollout.{name} sends to imitation would teach nothing",
                value=config.model.objective.sft.coef,
                fix=f"use 1.0, or turn data.rollout.{name} off",
            )
    scale = getattr(config.data.advantage, "scale", None)  # a field of the kind group
    if scale == "group_std" and rollout.group_size == 1:
        raise ConfigError(
            "data.advantage.scale",
            "one response has no standard deviation: data.rollout.group_size=1",
            value="group_std",
            fix="raise data.rollout.group_size, or data.advantage.scale=none",
        )


def check_served(config: Any) -> None:
    """Refuse what a server cannot say of tokens: it scores the sampled ones, at temperature 1."""
    objective, temperature = config.model.objective, config.data.rollout.temperature
    served = {name for name, one in config.model.frozen.items() if one.is_served}
    named = sorted(served & set(frozen_models(objective).values()))
    if objective.divergence is not None and objective.divergence.model in served:
        raise ConfigError(
            "model.objective.divergence.model",
            "compares distributions over the vocabulary, and a server scores sampled tokens alone",
            value=objective.divergence.model,
            fix="use model.objective.distillation, or a teacher with weights: path",
        )
    if named and temperature != 1:
        raise ConfigError(
            "data.rollout.temperature",
            f"is not 1, at which the server of {', '.join(named)} scores tokens",
            value=temperature,
            fix="use 1.0, or a teacher with weights: path",
        )


def check_recipe(config: Any) -> None:
    """Refuse an objective that no row of the phases serves."""
    objective, rollout = config.model.objective, config.data.rollout
    if rollout.overlap is not None:
        check_overlap(config)
    one_step = config.model.optimizer.steps_per_phase == 1
    on_policy = objective.on_policy
    if one_step and objective.old_logprob == "trainer":
        for name, acts in (("gate", on_policy.gate), ("ratio", on_policy.ratio == "sequence")):
            if acts:
                log.warning(
                    "model.objective.on_policy.%s changes nothing: the ratio of every rollout "
                    "token is 1 with model.optimizer.steps_per_phase=1",
                    name,
                )
    compares = hasattr(config.data.advantage, "baseline")  # a built-in kind
    distillation = objective.distillation
    is_taught_alone = distillation is not None and not distillation.with_reward
    if rollout.group_size == 1 and compares and not objective.sft.coef and not is_taught_alone:
        raise ConfigError(
            "data.rollout.group_size",
            "compares a response with no other, so its advantage would be its reward",
            value=1,
            fix="use 2 or more, or imitate alone as conf/recipe/sft.yaml does",
        )
    num_guided = rollout.expert_traces_per_group
    if num_guided and config.data.train is None:
        raise ConfigError(
            "data.train",
            f"is not set, and data.rollout.expert_traces_per_group={num_guided} needs its traces",
            fix="give data.train.path, or expert_traces_per_group: 0",
        )
    imitates = num_guided or rollout.sft_phases or rollout.imitation_buffer
    if objective.sft.coef > 0 and not imitates:
        raise ConfigError(
            "model.objective.sft.coef",
            f"imitates expert rows, and there are none: data.rollout.expert_traces_per_group="
            f"{num_guided}, sft_phases=0, imitation_buffer=null",
            value=objective.sft.coef,
            fix="set expert_traces_per_group: 1, or sft.coef: 0",
        )


def check_replicas(config: Any) -> None:
    """Refuse copies of the weights that the ranks of a training run cannot hold."""
    replicas, ranks = config.model.policy.replicas, count_ranks(config.trainer)
    if replicas > 1 and not ranks.is_sharded:
        raise ConfigError(
            "model.policy.replicas",
            "counts copies of weights that ranks share, and trainer.strategy shards none",
            value=replicas,
            fix="add conf/hardware/two_nodes.yaml, or use 1",
        )
    share_of_ranks(ranks.total, replicas=replicas, cut=ranks.tensor)


def check_overlap(config: Any) -> None:
    """Refuse to sample a phase while another trains where that would be wrong without a word."""
    objective, field = config.model.objective, "data.rollout.overlap"
    value = config.data.rollout.overlap
    if objective.on_policy.mismatch_cap is None and objective.old_logprob != "sampler":
        raise ConfigError(
            field,
            "samples from older weights than it trains, and nothing in the objective corrects it",
            value=value,
            fix="set model.objective.on_policy.mismatch_cap: 2.0, or old_logprob: sampler",
        )
    if objective.kl.coef > 0 and objective.kl.place == "reward":
        raise ConfigError(
            field,
            "collects a phase while the policy trains, and model.objective.kl.place=reward asks "
            "the policy about it",
            value=value,
            fix="set kl.place: loss, or overlap: null",
        )
    if config.data.advantage.asks_ranks:
        raise ConfigError(
            field,
            "collects a phase while the policy trains, and data.advantage asks the other ranks",
            value=value,
            fix="choose another data.advantage.kind, or overlap: null",
        )
    if config.data.engine.tensor_parallel_size > 1:
        raise ConfigError(
            field,
            "samples while the policy trains, and ranks that share an engine "
            "(data.engine.tensor_parallel_size) would wait for each other in two places",
            value=value,
            fix="set data.engine.tensor_parallel_size: 1, or overlap: null",
        )
    if config.data.engine.sleep_level:
        raise ConfigError(
            field,
            "samples while the policy trains, and data.engine.sleep_level puts the engine to sleep",
            value=value,
            fix="set data.engine.sleep_level: 0, or overlap: null",
        )


def check_checkpoint(path: str | None, trainer: Any) -> None:
    """It is there, and a sharded one has the strategy that wrote it."""
    if path is not None and not Path(path).exists():
        raise ConfigError(
            "ckpt_path",
            "no such file or folder here",
            value=path,
            fix="correct the path; from a remote store it is copied first",
        )
    if path is not None and Path(path).is_dir() and not (Path(path) / "meta.pt").is_file():
        inside = Path(path) / "checkpoints" / "last.ckpt"
        fix = str(inside) if inside.exists() else "give checkpoints/last.ckpt of a run"
        raise ConfigError("ckpt_path", "is a folder without a checkpoint", value=path, fix=fix)
    if path is not None and Path(path).is_dir() and not count_ranks(trainer).is_sharded:
        raise ConfigError(
            "ckpt_path",
            "is a folder of shards, which only ModelParallelStrategy reads",
            value=path,
            fix="add the strategy it was trained with, or train with "
            "trainer.strategy.init_args.save_distributed_checkpoint=false",
        )


def check_devices(trainer: Any) -> None:
    """A GPU recipe where torch sees no GPU, said before anything is loaded, with the reason."""
    if trainer.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        what, fix = why_no_gpu()
        raise ConfigError(
            "trainer.accelerator",
            what,
            value=trainer.accelerator,
            fix=f"{fix}, or start with --config conf/quickstart.yaml, which trains on a CPU",
        )


def why_no_gpu() -> tuple[str, str]:
    """Why torch sees no CUDA GPU, and what to do about it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if torch.version.cuda is None:
        return (
            f"torch {torch.__version__} is built for CPUs and sees no CUDA GPU",
            "install the build for GPUs (docs/install.md)",
        )
    if visible is not None and visible.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={visible!r} leaves no CUDA GPU", "unset it"
    if GPU_FILE.exists():
        return (
            f"there is a GPU, but its driver is too old for CUDA {torch.version.cuda} or broken, "
            "so torch sees no CUDA GPU",
            f"update the driver, of which nvidia-smi shows the version ({CUDA_13_DRIVER})",
        )
    return "this machine has no CUDA GPU", "run it where there is one"
