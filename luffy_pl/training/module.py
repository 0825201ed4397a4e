"""The LightningModule: one rollout phase in, a few optimizer steps, nothing else.

Manual optimization: a phase is cut into minibatches (an optimizer step each), a minibatch into
micro-batches (a forward and backward each). Every divisor is counted over all ranks before the
first forward, so no cut changes the gradient.

Shapes: N rows of this rank, n rows of a micro-batch, L tokens, T = L - 1 predictions.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from luffy_pl.experience.datamodule import LuffyDataModule
from luffy_pl.experience.sampling import StageProgress
from luffy_pl.objective.normalize import count_read, count_terms
from luffy_pl.objective.settings import ObjectiveConfig
from luffy_pl.objective.terms import OptimizerStep, active_terms, foreign_terms, logged_terms
from luffy_pl.policy.flops import ForwardCount
from luffy_pl.policy.frozen import Following, FrozenConfig, FrozenModels, check_frozen, load_frozen
from luffy_pl.policy.loading import load_on_ranks
from luffy_pl.policy.policy import Policy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.process.faults import fault
from luffy_pl.records import Experience
from luffy_pl.training.before import before_update
from luffy_pl.training.controllers import EntropyController, KlController
from luffy_pl.training.exchange import deal_rows
from luffy_pl.training.memory import is_out_of_memory, keep_freed_memory, memory_advice
from luffy_pl.training.micro_batches import (
    MicroBatch,
    learned_and_read,
    micro_batches,
    rows_by_step,
    silent,
)
from luffy_pl.training.minibatch import (
    BackwardPass,
    Before,
    Seen,
    backward_micro_batches,
    term_means,
)
from luffy_pl.training.nonfinite import LeftOut, offending_rows
from luffy_pl.training.optimizer import (
    apply_settings,
    as_list,
    build_optimizers,
    grad_norm_and_clip,
    learning_rates,
    make_moments,
    step_limits,
)
from luffy_pl.training.policy_check import check_here, check_rows, say_routers
from luffy_pl.training.policy_view import TrainedPolicyView
from luffy_pl.training.ranks import group_on_host, sharding_of
from luffy_pl.training.settings import OptimizerConfig

log = logging.getLogger(__name__)


class LuffyModule(L.LightningModule):
    """Policy, the frozen models that it is compared with, and the mixed-policy objective.

    Args:
        policy: the language model.
        objective: the loss.
        optimizer: AdamW, its schedule, and how a phase is cut.
        max_response_tokens: linked from `data.rollout`; divisor of mode constant by default.
        num_phases, sft_phases: linked from `data.rollout`: of the run, and those that imitate.
        seed: linked from `seed_everything`; initializes adapters.
        frozen: models that score tokens and are not trained, by the names that the objective gives
            them; `start`, the model that the run starts from, needs no definition.
    """

    policy: Policy
    # On the host; None for a rank that is alone.
    all_ranks: ProcessGroup | None = None

    def __init__(
        self,
        policy: PolicyConfig,
        objective: ObjectiveConfig = ObjectiveConfig(),  # noqa: B008  frozen
        optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008  frozen
        max_response_tokens: int = 8192,
        num_phases: int = 1,
        sft_phases: int = 0,
        seed: int = 0,
        frozen: dict[str, FrozenConfig] = {},  # noqa: B006  never changed
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.policy_config = policy
        self.objective = objective
        self.optimizer_config = optimizer
        self.rates = learning_rates(optimizer, num_phases=num_phases, sft_phases=sft_phases)
        self.max_response_tokens = max_response_tokens
        self.seed = seed
        self.phases_trained = 0
        self.left_out = LeftOut()
        self.token_budget = optimizer.micro_batch_tokens
        self.entropy_controller = EntropyController(objective.entropy)
        self.kl_controller = KlController(objective.kl)
        self.foreign_terms = foreign_terms(objective.terms)
        self.report_progress: StageProgress = lambda stage, done, total: None
        self.forwards = ForwardCount()
        self.frozen_configs = frozen
        check_frozen(self.frozen_configs, objective.frozen_models())
        self.use_frozen(FrozenModels({}))

    # -- Lightning hooks ---------------------------------------------------------------------

    def configure_model(self) -> None:
        """Load the weights, sharded where the strategy has a device mesh."""
        if hasattr(self, "policy"):
            return
        self.all_ranks = group_on_host(self._trainer, self.device_mesh)
        self.policy = self.load(self.policy_config)
        if self._trainer is not None and not self.trainer.training:
            return  # an evaluation compares with no other model
        say_routers(self.policy, self.objective.router.coef)
        frozen = load_frozen(
            self.frozen_configs,
            self.objective.frozen_models().values(),
            policy=self.policy,
            config=self.policy_config,
            load=self.load,
        )
        self.use_frozen(frozen)

    def use_frozen(self, frozen: FrozenModels) -> None:
        """Score with these models; those that follow the policy are saved and loaded with it."""
        self.frozen = frozen
        self.following = Following(frozen.follows)

    def load(self, config: PolicyConfig) -> Policy:
        """A policy as this run computes with it, sharded where the strategy does."""
        replicas = self.policy_config.replicas
        sharding = sharding_of(self._trainer, self.device_mesh, replicas=replicas)
        policy = load_on_ranks(config, sharding, self.all_ranks, seed=self.seed)
        policy.context = self.forward_context
        return policy

    def forward_context(self) -> AbstractContextManager[None]:
        """Autocast where the trainer's precision wants it; nothing for a module without trainer."""
        if self._trainer is None:
            return nullcontext()
        return self.trainer.precision_plugin.forward_context()

    def configure_optimizers(self) -> list[dict[str, Any]]:
        """AdamW with a schedule that counts its steps, and another for imitation if set."""
        return build_optimizers(self.policy.trained_weights(), self.optimizer_config, self.rates)

    def on_fit_start(self) -> None:
        """Allocate optimizer state, and give the data module access to the policy.

        No checkpoint is loaded yet, and Lightning has moved what an optimizer held to the device:
        moments of offloaded weights belong on the host.
        """
        # Sharded weights are left to the probe that follows the first sync.
        if self.device_mesh is None:
            check_here(self.policy, device=self.device, precision=self.trainer.precision)
        self.frozen.to_device(self.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        for optimizer in as_list(self.optimizers(use_pl_optimizer=False)):
            make_moments(optimizer)
        if isinstance(self.trainer.datamodule, LuffyDataModule):
            check_rows(self.policy, self.trainer.datamodule)
            self.trainer.datamodule.attach(policy=self.view())
            self.report_progress = self.trainer.datamodule.report_progress

    def on_train_start(self) -> None:
        """A checkpoint is loaded by now; the settings of this run replace those it holds."""
        optimizers = as_list(self.optimizers(use_pl_optimizer=False))
        apply_settings(optimizers, as_list(self.lr_schedulers()), self.optimizer_config, self.rates)

    def training_step(self, experience: Experience, batch_idx: int) -> dict[str, Any]:
        """Train on one phase; returns what callbacks read, per-token tensors [N, T] among it."""
        with memory_advice(lambda: self.token_budget):
            return self._train_phase(experience)

    def _train_phase(self, experience: Experience) -> dict[str, Any]:
        started = time.monotonic()
        self.policy.train()
        steps = experience.step_imitates
        dealt = deal_rows(
            experience,
            # Micro-batches are dealt by the tokens of packed rows.
            self.all_ranks if self.policy.packs_rows else None,
            token_budget=self.token_budget,
            shares_prompts=self.policy.shares_prompts,
        )
        experience = dealt.rows
        minibatches = rows_by_step(experience)
        before = before_update(
            experience,
            minibatches,
            policy=self.policy,
            frozen=self.frozen,
            objective=self.objective,
            terms=self._terms(experience.phase),
            forwards=self.forwards,
            cut=self.micro_batches,
        )
        seen = Seen.like(before.old_NT)
        passes, grad_norms = [], []
        for step, rows in enumerate(minibatches):
            done = self._backward_minibatch(experience, rows, before=before, seen=seen)
            passes.append(done)
            grad_norms.append(self._optimizer_step(experience, done, imitates=steps[step]))
            self.report_progress("train", step + 1, len(steps))
        self.phases_trained += 1
        self.frozen.follow(self.policy, self.phases_trained)
        names = logged_terms(self.objective, self.foreign_terms)
        means = term_means(passes, names, num_ranks=self.trainer.world_size)
        return {
            **dealt.returned({**vars(seen), **before.scores()}),
            "grad_norm": torch.stack(grad_norms).nanmean(),
            "term_means": means,
            "train_s": torch.tensor(time.monotonic() - started),
        }

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Answers arrive graded; the evaluation callback counts them."""

    test_step = validation_step

    # Answers are written by the samples callback: Lightning would try to move what is returned.
    predict_step = validation_step

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add plain values only: a checkpoint must load with weights_only=True."""
        lora = self.policy_config.lora
        checkpoint["luffy_pl"] = {
            "phases_trained": self.phases_trained,
            "policy_path": self.policy_config.path,
            "lora": None if lora is None else dataclasses.asdict(lora),
            "entropy_coef": self.entropy_controller.coef,
            "kl_coef": self.kl_controller.coef,
            "left_out": vars(self.left_out).copy(),
            "following": [name for name, one in self.frozen_configs.items() if one.follows],
            "objective": dataclasses.asdict(self.objective),
            "optimizer": dataclasses.asdict(self.optimizer_config),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the count of phases and the coefficients that controllers had reached."""
        saved = checkpoint["luffy_pl"]
        self.phases_trained = saved["phases_trained"]
        if saved["objective"]["entropy"]["target_nats"] is not None:
            self.entropy_controller.resume(saved["entropy_coef"])
        if saved["objective"]["kl"]["target_nats"] is not None:
            self.kl_controller.resume(saved["kl_coef"])
        self.left_out = LeftOut(**saved["left_out"])

    def _backward_minibatch(
        self, experience: Experience, rows: list[int], *, before: Before, seen: Seen
    ) -> BackwardPass:
        """Add the gradient of the minibatch `rows`; note in `seen` what forward passes computed.

        If memory runs out this is repeated once with smaller micro-batches; not with several ranks,
        where the others would wait.
        """
        try:
            return self._backward(experience, rows, before=before, seen=seen)
        except RuntimeError as error:
            was_halved = self.token_budget < self.optimizer_config.micro_batch_tokens
            if not is_out_of_memory(error) or was_halved or self.trainer.world_size > 1:
                raise
        # Outside of the handler: its traceback would keep the failed pass in memory.
        self.token_budget //= 2
        log.warning("out of memory: from now on %d tokens in a forward pass", self.token_budget)
        for optimizer in as_list(self.optimizers()):
            optimizer.zero_grad()
        return self._backward(experience, rows, before=before, seen=seen)

    def _backward(
        self, experience: Experience, rows: list[int], *, before: Before, seen: Seen
    ) -> BackwardPass:
        if fault("oom", self.trainer.global_step):
            raise torch.OutOfMemoryError("LUFFY_FAULT")
        if fault("nan_loss", self.trainer.global_step):
            not_finite_N = torch.full_like(experience.advantage_N, torch.nan)
            experience = dataclasses.replace(experience, advantage_N=not_finite_N)
        step, ranks = self.step_of(experience, rows), self.trainer.world_size
        done = backward_micro_batches(
            self.policy,
            learned_and_read(experience, rows, step, self.micro_batches, num_ranks=ranks),
            step=step,
            forwards=self.forwards,
            before=before,
            frozen=self.frozen,
            seen=seen,
            # FSDP2 averages gradients over ranks; our divisors already are global.
            backward=lambda loss: self.manual_backward(loss * ranks),
        )
        if self.objective.entropy.target_nats is not None:
            total = self.sum_over_ranks(done.entropy)
            self.entropy_controller.update((total / step.totals["tokens"].clamp(min=1)).item())
        return done

    def step_of(self, experience: Experience, rows: list[int]) -> OptimizerStep:
        """The optimizer step that trains `rows`: its terms, and their divisors over all ranks."""
        counts = count_terms(experience, rows, self.objective) | count_read(experience, rows)
        summed = self.sum_over_ranks(torch.stack(list(counts.values())).double())
        return OptimizerStep(
            objective=self.objective,
            terms=self._terms(experience.phase),
            totals=dict(zip(counts, summed, strict=True)),
            max_response_tokens=self.max_response_tokens,
            phase=experience.phase,
        )

    def _terms(self, phase: int) -> dict[str, Any]:
        """The terms of the loss in a phase, with the coefficients that controllers have reached."""
        return active_terms(
            self.objective,
            phase,
            entropy_coef=self.entropy_controller.at(phase),
            kl_coef=self.kl_controller.at(phase),
            foreign=self.foreign_terms,
        )

    def _optimizer_step(
        self, experience: Experience, done: BackwardPass, *, imitates: bool
    ) -> Tensor:
        """Clip, check, step; returns the global gradient norm before clipping."""
        number, limits = step_limits(self.optimizer_config, imitates=imitates)
        optimizer = as_list(self.optimizers())[number]
        norm = grad_norm_and_clip(self.policy.trained_weights(), max_norm=limits.max_grad_norm)
        norm = norm.to(self.device)  # offloaded gradients have theirs on the host
        is_bad = ~(done.losses.isfinite().all() & norm.isfinite())
        if self._max_over_ranks(int(is_bad)):
            self.left_out.add(
                self.optimizer_config.non_finite,
                experience,
                offending_rows(done.losses, done.micros),
                losses=done.losses,
                norm=norm,
                folder=Path(self.trainer.default_root_dir) / "debug",
                rank=self.trainer.global_rank,
            )
        else:
            self.left_out.in_a_row = 0
            if limits.skip_grad_norm is None or norm <= limits.skip_grad_norm:
                optimizer.step()
        optimizer.zero_grad()
        as_list(self.lr_schedulers())[number].step()
        return norm

    def view(self) -> TrainedPolicyView:
        """What the data module may ask of the policy."""
        return TrainedPolicyView(
            policy=self.policy,
            frozen=self.frozen,
            kl=self.objective.kl,
            distillation=self.objective.distillation,
            kl_controller=self.kl_controller,
            forwards=self.forwards,
            device=self.device,
            micro_batches=self.micro_batches,
            sum_over_ranks=self.sum_over_ranks,
        )

    def sum_over_ranks(self, value: Tensor) -> Tensor:
        """The sum of each rank's tensor, on this rank's device."""
        return self.trainer.strategy.reduce(value.to(self.device), reduce_op="sum")

    def micro_batches(self, experience: Experience, rows: list[int]) -> list[MicroBatch]:
        """The micro-batches of `rows`; every rank makes the same number.

        Sharded weights are gathered in each forward pass, so a rank without further rows joins with
        a row that it learns nothing from.
        """
        micros = micro_batches(
            experience,
            rows,
            token_budget=self.token_budget,
            shares_prompts=self.policy.shares_prompts,
            packs_rows=self.policy.packs_rows,
        )
        missing = self._max_over_ranks(max(1, len(micros))) - len(micros)
        return micros + missing * [silent(experience)]

    def _max_over_ranks(self, count: int) -> int:
        if self.trainer.world_size == 1:
            return count
        count_1 = torch.tensor([float(count)], device=self.device)
        return int(self.trainer.strategy.reduce(count_1, reduce_op="max").item())
