"""Frozen models: policies that score tokens and learn nothing, each loaded once.

The reference of a KL and the teacher of a distillation are names of such models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from luffy_pl.bounds import bounded, check_bounds
from luffy_pl.errors import ConfigError, ModelError
from luffy_pl.policy.flops import ForwardCount, ModelSize, model_size
from luffy_pl.policy.lora import adapters_off
from luffy_pl.policy.policy import Policy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.registry import nearest

START = "start"
"""The name that needs no definition: the model that the run starts from."""
WHERE = "model.frozen"
NAME = re.compile(r"[A-Za-z_]\w*")
EMA_RATE = 0.05
OF_A_SERVER = ("url", "model", "timeout_s", "concurrency")


@dataclass(frozen=True)
class FrozenConfig:
    """A model that scores tokens and is not trained."""

    weights: Literal["start", "copy", "ema", "path", "server"] = "start"
    """start: those that the run starts from; under LoRA the policy with its adapters off. copy:
    those of the policy, taken again every `every_n_phases`. ema: their moving average. path: those
    of another model with the policy's tokenizer. server: those of such a model behind
    `vllm serve`, which scores sampled tokens alone and at temperature 1."""
    every_n_phases: int | None = bounded(None, at_least=1, at_most=1e9)
    """Trained phases between two looks at the policy (copy, ema); null is 1."""
    rate: float | None = bounded(None, above=0, at_most=1)
    """Share of the way to the policy that a moving average goes (ema); null is 0.05, the rate of
    SDPO (arXiv 2601.20802)."""
    path: str | None = None
    """Hugging Face folder or hub name (path)."""
    url: str | None = None
    """Address of the server, such as http://127.0.0.1:8000 (server)."""
    model: str | None = None
    """The name under which it serves the model; null: the only one that it has (server)."""
    timeout_s: float | None = bounded(None, above=0, at_most=1e9)
    """Seconds for the answer to one row, all retries included (server); null is 600."""
    concurrency: int | None = bounded(None, at_least=1, at_most=1e6)
    """Rows that a rank asks about at a time (server); null is 64."""

    def __post_init__(self) -> None:
        check_bounds(self)
        for field, kinds in (
            ("every_n_phases", ("copy", "ema")),
            ("rate", ("ema",)),
            ("path", ("path",)),
            *((name, ("server",)) for name in OF_A_SERVER),
        ):
            value = getattr(self, field)
            if value is not None and self.weights not in kinds:
                raise ConfigError(
                    field,
                    f"has no effect with weights: {self.weights}",
                    value=value,
                    fix=f"leave it out, or set weights: {kinds[0]}",
                )
        if self.weights == "path" and self.path is None:
            raise ConfigError("path", "is not set", fix="give a folder or a hub name")
        if self.weights == "server" and not (self.url or "").startswith(("http://", "https://")):
            raise ConfigError("url", "is no address", value=self.url, fix="write http://host:port")

    @property
    def follows(self) -> bool:
        """Whether it changes with the policy, and so is part of a checkpoint."""
        return self.weights in ("copy", "ema")

    @property
    def is_served(self) -> bool:
        """Whether another process scores for it; the rows come with what that says."""
        return self.weights == "server"

    @property
    def server(self) -> dict[str, Any]:
        """What is set of its server."""
        found = {name: getattr(self, name) for name in OF_A_SERVER}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def share(self) -> float:
        """Share of the way to the policy that it goes at a time."""
        return 1.0 if self.weights == "copy" else self.rate or EMA_RATE


def check_frozen(configs: Mapping[str, FrozenConfig], named: Mapping[str, str]) -> None:
    """Refuse names that lead nowhere, from either side.

    Args:
        configs: `model.frozen`.
        named: dotted setting that uses a frozen model, and the name it gives.
    """
    known = {START, *configs}
    for where, name in named.items():
        if name not in known:
            raise ConfigError(where, f"is no {WHERE}", value=name, fix=nearest(name, sorted(known)))
    for name, config in configs.items():
        if not NAME.fullmatch(name):
            raise ConfigError(
                WHERE, "a name is of letters, digits and _ alone", value=name, fix="rename it"
            )
        if name == START and config.weights != "start":
            raise ConfigError(
                f"{WHERE}.{START}.weights",
                "is what the run starts from",
                value=config.weights,
                fix="choose another name",
            )
        if name not in named.values():
            raise ConfigError(
                f"{WHERE}.{name}",
                "is used by nothing",
                value=config.weights,
                fix=f"name it in model.objective, or take it back: {WHERE}.{name}: null",
            )


class WholeModel(nn.Module):
    """A model with weights of its own."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy.requires_grad_(False)

    def scoring(self) -> AbstractContextManager[Policy]:
        """The policy that scores."""
        return nullcontext(self.policy)

    def size(self) -> ModelSize:
        """What a token costs."""
        return model_size(self.policy.language_model)

    def follow(self, policy: Policy, share: float) -> None:
        """Go a share of the way to the weights of the policy."""
        if isinstance(self.policy, FSDPModule):
            # Embedding and head stay gathered after a forward pass without a backward one, and
            # what is written into gathered weights is lost.
            self.policy.reshard()
        blend(self.policy.parameters(), policy.parameters(), share)


class WithoutAdapters:
    """The start of a policy with adapters: its own weights alone."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    @contextmanager
    def scoring(self) -> Iterator[Policy]:
        """The policy that scores; the trained one must not be used meanwhile."""
        with adapters_off(self.policy.language_model):
            yield self.policy

    def size(self) -> ModelSize:
        """What a token costs."""
        size = model_size(self.policy.language_model)
        adapters = sum(weight.numel() for weight in self.policy.trained_weights())
        return replace(size, parameters=size.parameters - adapters)


class OtherAdapters(nn.Module):
    """The policy with other values in its adapters, which are all that is kept here."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.of = (policy,)  # in a tuple, so that its weights are not this module's too
        kept = [weight.detach().clone() for weight in policy.trained_weights()]
        self.kept = nn.ParameterList(nn.Parameter(w, requires_grad=False) for w in kept)

    @contextmanager
    def scoring(self) -> Iterator[Policy]:
        """The policy that scores; the trained one must not be used meanwhile."""
        (policy,) = self.of
        own = [local(weight).clone() for weight in policy.trained_weights()]
        blend(policy.trained_weights(), self.kept, 1.0)
        try:
            yield policy
        finally:
            blend(policy.trained_weights(), own, 1.0)

    def size(self) -> ModelSize:
        """What a token costs."""
        return model_size(self.of[0].language_model)

    def follow(self, policy: Policy, share: float) -> None:
        """Go a share of the way to the adapters of the policy."""
        blend(self.kept, policy.trained_weights(), share)


FrozenModel = WholeModel | WithoutAdapters | OtherAdapters


class FrozenModels:
    """The frozen models of a run, by name; two names of the same weights share one.

    Attributes:
        follows: by name, those that change with the policy: the part of a checkpoint.
    """

    def __init__(
        self,
        models: Mapping[str, FrozenModel],
        configs: Mapping[str, FrozenConfig] | None = None,
    ) -> None:
        self._models = dict(models)
        self._configs = dict(configs or {})
        self._forwards = {id(model): ForwardCount() for model in models.values()}
        self.follows: dict[str, WholeModel | OtherAdapters] = {}
        for name, config in self._configs.items():
            if config.is_served:
                continue
            model = self._models[name]
            if config.follows and model not in self.follows.values():
                assert not isinstance(model, WithoutAdapters)
                self.follows[name] = model

    def is_served(self, name: str) -> bool:
        """Whether rows come with the scores of this model, which is not here."""
        return name in self._configs and self._configs[name].is_served

    def scoring(self, name: str) -> AbstractContextManager[Policy]:
        """The policy that scores; the trained one must not be used meanwhile."""
        return self._models[name].scoring()

    def forwards(self, name: str) -> ForwardCount:
        """The count of its passes."""
        return self._forwards[id(self._models[name])]

    def take_flops(self) -> float:
        """FLOPs of all passes since the last call."""
        models = {id(model): model for model in self._models.values()}
        return sum(
            model.size().forward_flops(*self._forwards[key].take(trained=False))
            for key, model in models.items()
        )

    def follow(self, policy: Policy, phases_trained: int) -> None:
        """Let those that follow the policy do so, after a phase."""
        for name, model in self.follows.items():
            config = self._configs[name]
            if phases_trained % (config.every_n_phases or 1) == 0:
                model.follow(policy, config.share)

    def to_device(self, device: torch.device) -> None:
        """Move what Lightning does not: models that are no part of its module."""
        for model in self._models.values():
            if isinstance(model, WholeModel) and model not in self.follows.values():
                is_sharded = isinstance(model.policy, FSDPModule)
                move_buffers(model, device) if is_sharded else model.to(device)


class Following(nn.ModuleDict):
    """The models of a checkpoint that change with the policy.

    An evaluation has none of them and loads a checkpoint without them. Weights are left out where
    they are loaded: sharded ranks load theirs before any hook of Lightning sees the checkpoint.
    """

    def __init__(self, models: Mapping[str, WholeModel | OtherAdapters]) -> None:
        super().__init__(models)
        if not models:
            self.register_load_state_dict_pre_hook(leave_out)


def leave_out(module: nn.Module, weights: dict[str, Any], prefix: str, *_: Any) -> None:
    """Load nothing of what a checkpoint holds for this module."""
    for name in [name for name in weights if name.startswith(prefix)]:
        del weights[name]


def load_frozen(
    configs: Mapping[str, FrozenConfig],
    names: Iterable[str],
    *,
    policy: Policy,
    config: PolicyConfig,
    load: Callable[[PolicyConfig], Policy],
) -> FrozenModels:
    """Load what is named, but what a server has.

    Args:
        configs: `model.frozen`.
        names: of the models that are used.
        policy: the trained one, with the weights that the run starts from.
        config: its settings.
        load: loads a policy as the run computes with it, sharded or not.
    """
    known = {START: FrozenConfig(), **configs}
    loaded: dict[FrozenConfig, FrozenModel] = {}
    models: dict[str, FrozenModel] = {}
    names = dict.fromkeys(names)
    for name in names:
        wanted = known[name]
        if wanted.is_served:
            continue
        if wanted not in loaded:
            loaded[wanted] = load_one(name, wanted, policy=policy, config=config, load=load)
        models[name] = loaded[wanted]
    return FrozenModels(models, {name: known[name] for name in names})


def load_one(
    name: str,
    frozen: FrozenConfig,
    *,
    policy: Policy,
    config: PolicyConfig,
    load: Callable[[PolicyConfig], Policy],
) -> FrozenModel:
    """Load one model; adapters are frozen beside the policy's own weights, which they share."""
    if config.lora is not None and frozen.weights == "start":
        return WithoutAdapters(policy)
    if config.lora is not None and frozen.follows:
        return OtherAdapters(policy)
    own = replace(config, lora=None)
    if frozen.weights == "ema":  # bfloat16 would round a small step away
        own = replace(own, dtype="float32")
    if frozen.path is not None:
        own = replace(own, path=frozen.path, remote_code=None)
    try:
        return WholeModel(load(own))
    except ModelError as error:
        where = error.where if frozen.path is None else f"{WHERE}.{name}.path"
        raise ModelError(where, error.what, value=error.value, fix=error.fix) from error


def blend(into: Iterable[Tensor], of: Iterable[Tensor], share: float) -> None:
    """Move each tensor a share of the way to another, in place; of a sharded one its own shard."""
    with torch.no_grad():
        for mine, theirs in zip(into, of, strict=True):
            target = local(theirs)
            if share == 1.0:
                local(mine).copy_(target)
            else:
                local(mine).lerp_(target.to(mine.dtype), share)


def local(tensor: Tensor) -> Tensor:
    """This rank's shard of it, or all of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach()


def move_buffers(module: nn.Module, device: torch.device) -> None:
    """Move what is no weight; sharded weights stay where they are."""
    for inner in module.modules():
        for name, buffer in inner.named_buffers(recurse=False):
            setattr(inner, name, buffer.to(device))
