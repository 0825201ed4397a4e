"""What can be set of the loss: the block `model.objective`.

Bounds are checked on construction, so a wrong value is an error before any weight is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from luffy_pl.bounds import bounded, check_bounds
from luffy_pl.errors import ConfigError
from luffy_pl.objective.gate import Gate
from luffy_pl.objective.kl import KlKind
from luffy_pl.objective.schedule import Schedule, schedule_factor
from luffy_pl.objective.shaping import Identity, PDivP, Shaping
from luffy_pl.objective.token_factors import EntropyWeight, SftTokenWeight


@dataclass(frozen=True)
class OnPolicyConfig:
    """Weight of a rollout token: the ratio to the policy that sampled it."""

    shaping: Shaping = field(default_factory=Identity)
    """Function applied to the ratio of a token."""
    ratio: Literal["token", "sequence"] = "token"
    """Whose ratio a token has: token, its own; sequence, that of its row, the geometric mean of its
    tokens' (GSPO)."""
    gate: Gate | None = None
    """How far the ratio may move before it stops to count: clip (PPO), detached (CISPO), soft
    (SAPO), difference (DPPO); null leaves every ratio as it is."""
    clip: tuple[float, float] | None = bounded(None, at_least=0, at_most=1e6)
    """Earlier name of `gate: {kind: clip, low, high}`, read for one more version."""
    mismatch_cap: float | None = bounded(None, above=0, at_most=1e6)
    """Cap of the ratio between the trainer's and the engine's probability, which then corrects for
    their difference (truncated importance sampling); null is off."""
    positive_weight: EntropyWeight | None = None
    """Factor of rollouts with a positive advantage (SRFT); null is 1."""

    def __post_init__(self) -> None:
        where = "model.objective.on_policy"
        check_bounds(self, where)
        if self.clip is not None:  # a composed configuration has it as a gate
            raise ConfigError(
                f"{where}.clip",
                "is now a gate",
                value=list(self.clip),
                fix="write gate: {kind: clip, low: 0.2, high: 0.2}",
            )
        if self.ratio == "sequence" and self.shaping != Identity():
            raise ConfigError(
                f"{where}.ratio",
                "is that of a row, and on_policy.shaping is a function of a token",
                value=self.ratio,
                fix="set on_policy.shaping: {kind: identity}, or ratio: token",
            )


@dataclass(frozen=True)
class OffPolicyConfig:
    """Weight of a token that somebody else wrote: a function of its probability."""

    policy_coef: float = bounded(1.0, at_least=0, at_most=1e6)
    """Factor of the policy-gradient term on these tokens; 0 leaves them to `sft`."""
    behaviour: Literal["certain", "recorded", "policy", "mixture"] = "certain"
    """What the probability is divided by. certain: 1, for a teacher of unknown probability;
    recorded: that of whoever wrote the token; policy: the policy's own before the phase, as for a
    rollout, with its gate (Prefix-RFT); mixture: (3 p_old + 1) / 4, the mean of the policy before
    the phase and of its mean with a sure teacher (RL-PLUS)."""
    rare_exponent: float | None = bounded(None, above=0, at_most=1e3)
    """k of a factor (1 - p)^k, by which tokens that the policy finds unlikely count more (RL-PLUS);
    null is 1."""
    top_entropy_share: float | None = bounded(None, above=0, at_most=1)
    """Share of these tokens of a row that is learned from, by the policy's entropy; null: all."""
    shaping: Shaping = field(default_factory=PDivP)
    """Function applied to probability / behaviour probability (LUFFY: p / (p + gamma))."""
    min_weight: float | None = bounded(None, at_least=0, at_most=1e6)
    """Lower clamp of the shaped weight; null is off."""
    max_weight: float | None = bounded(None, above=0, at_most=1e6)
    """Upper clamp of the shaped weight; null is off."""

    def __post_init__(self) -> None:
        check_bounds(self, "model.objective.off_policy")
        low, high = self.min_weight, self.max_weight
        if low is not None and high is not None and low > high:
            raise ConfigError(
                "model.objective.off_policy.min_weight",
                f"must be at most off_policy.max_weight={high}",
                value=low,
                fix="lower it, or raise max_weight",
            )


@dataclass(frozen=True)
class NormalizerConfig:
    """What the policy term is divided by, for a whole optimizer step over all ranks."""

    mode: Literal["token", "sequence", "constant"] = "constant"
    """token: by all tokens; sequence: mean over rows of each row's mean; constant: by
    `constant_tokens` for each row (Dr. GRPO)."""
    constant_tokens: int | None = bounded(None, at_least=1, at_most=1e9)
    """Tokens a row is divided by in mode constant; null takes rollout.max_response_tokens."""
    rows: int | None = bounded(None, at_least=1, at_most=1e9)
    """Rows to divide by; null takes the rows there are. The released LUFFY divides by its number
    of ranks."""

    def __post_init__(self) -> None:
        check_bounds(self, "model.objective.normalizer")


@dataclass(frozen=True)
class SftConfig:
    """Imitation: the mean negative log-likelihood of tokens that somebody else wrote."""

    coef: float = bounded(0.0, at_least=0, at_most=1e6)
    """Factor of the term; 0 is off."""
    schedule: Schedule | None = None
    """Multiplies `coef` by a factor that changes over phases; null is 1."""
    complement: bool = False
    """The policy term gets one minus the scheduled coefficient (CHORD's mu)."""
    token_weight: SftTokenWeight = "one"
    """Factor of each token: one, probability, or p_one_minus_p (CHORD's phi)."""
    row_weight: EntropyWeight | None = None
    """Factor of each row (SRFT); null is 1."""

    def __post_init__(self) -> None:
        check_bounds(self, "model.objective.sft")
        if self.complement and self.coef > 1:
            raise ConfigError(
                "model.objective.sft.coef",
                "must be at most 1 where sft.complement takes it from the policy term",
                value=self.coef,
                fix="lower it, or set sft.complement: false",
            )

    def coefficient(self, phase: int) -> float:
        """`coef` at a phase."""
        return self.coef * schedule_factor(self.schedule, phase)


def check_one_mover(name: str, schedule: Schedule | None, target_nats: float | None) -> None:
    """Refuse a schedule of a coefficient that a controller moves."""
    if schedule is not None and target_nats is not None:
        raise ConfigError(
            f"model.objective.{name}.schedule",
            f"changes a coefficient that the controller of {name}.target_nats moves",
            fix=f"set {name}.schedule: null, or target_nats: null",
        )


@dataclass(frozen=True)
class EntropyConfig:
    """The bonus for being undecided, or a controller that holds the entropy at a target."""

    coef: float = bounded(0.001, at_least=0, at_most=1e6)
    """Factor of the mean token entropy; where a target is set, its factor at the start."""
    schedule: Schedule | None = None
    """Multiplies `coef` by a factor that changes over phases; null is 1."""
    target_nats: float | None = bounded(None, above=0, at_most=100)
    """Mean token entropy to hold by changing `coef`; null keeps `coef`."""
    controller: Literal["integral", "ratio"] = "integral"
    """integral: the logarithm of the coefficient moves by lr * (target - entropy) each optimizer
    step; ratio: the coefficient is coef * target / entropy."""
    lr: float = bounded(0.01, above=0, at_most=1e3)
    """Step size of the integral controller, per nat."""
    max_coef: float | None = bounded(None, above=0, at_most=1e6)
    """Bound of the controlled coefficient; null sets none."""

    def __post_init__(self) -> None:
        check_bounds(self, "model.objective.entropy")
        check_one_mover("entropy", self.schedule, self.target_nats)
        if self.target_nats is not None and self.coef == 0:
            raise ConfigError(
                "model.objective.entropy.coef",
                "is where the controller of entropy.target_nats starts, and it multiplies",
                value=self.coef,
                fix="use 0.001, or target_nats: null",
            )


@dataclass(frozen=True)
class KlConfig:
    """Distance from a reference policy."""

    coef: float = bounded(0.0, at_least=0, at_most=1e6)
    """Factor of the KL; 0 loads no reference."""
    model: str = "start"
    """The reference: a name of `model.frozen`, or `start`."""
    schedule: Schedule | None = None
    """Multiplies `coef` by a factor that changes over phases; null is 1."""
    place: Literal["loss", "reward"] = "loss"
    """loss: a term of its own, the mean over tokens; reward: the sum over a row's tokens is taken
    off its reward before rewards are compared."""
    estimator: KlKind = "k3"
    """Estimator of the KL from sampled tokens."""
    target_nats: float | None = bounded(None, above=0, at_most=1e3)
    """Mean KL per token to hold by changing `coef`; null keeps `coef` (place reward only)."""
    horizon: int = bounded(10000, at_least=1, at_most=1e12)
    """Rows over which the controller changes `coef` by at most a fifth of itself."""

    def __post_init__(self) -> None:
        check_bounds(self, "model.objective.kl")
        check_one_mover("kl", self.schedule, self.target_nats)
        if self.target_nats is not None and self.place != "reward":
            raise ConfigError(
                "model.objective.kl.target_nats",
                "is for kl.place=reward",
                value=self.target_nats,
                fix="set kl.place: reward, or target_nats: null",
            )


@dataclass(frozen=True)
class DistillationConfig:
    """What a teacher that scores the policy's own tokens adds to their advantage.

    With q, the teacher's probability of a token, and o, the policy's before the phase:
    """

    model: str = "start"
    """The teacher: a name of `model.frozen`, or `start`."""
    mode: Literal["add", "scale"] = "add"
    """add: the advantage gains coef (log q - log o), a term of the loss with the number of taught
    tokens as its divisor (OPD). scale: it is multiplied by 1 - coef + coef w, with
    w = exp(sign(A) (log q - log o)): reward gives the direction, the teacher the size (RLSD)."""
    coef: float = bounded(1.0, at_least=0, at_most=1e6)
    """Factor of the teacher's part; of mode scale at most 1."""
    schedule: Schedule | None = None
    """Multiplies `coef` by a factor that changes over phases; null is 1."""
    clip: float | None = bounded(None, above=0, at_most=1e6)
    """add: largest log q - log o, either way, in nats; scale: w lies within this distance from 1;
    null is off."""
    with_reward: bool = True
    """Whether rollouts also learn from their reward; false leaves them to the teacher (add)."""

    def __post_init__(self) -> None:
        check_bounds(self, "model.objective.distillation")
        if self.mode == "scale" and self.coef > 1:
            raise ConfigError(
                "model.objective.distillation.coef",
                "must be at most 1 with mode: scale",
                value=self.coef,
                fix="lower it, or set mode: add",
            )
        if self.mode == "scale" and not self.with_reward:
            raise ConfigError(
                "model.objective.distillation.with_reward",
                "leaves nothing to be scaled",
                value=False,
                fix="set mode: add, or with_reward: true",
            )

    def coefficient(self, phase: int) -> float:
        """`coef` at a phase."""
        return self.coef * schedule_factor(self.schedule, phase)


@dataclass(frozen=True)
class DivergenceConfig:
    """Distance from a teacher's distributions over the vocabulary, token by token (GKD)."""

    model: str = "start"
    """The teacher: a name of `model.frozen`, or `start`."""
    coef: float = bounded(1.0, above=0, at_most=1e6)
    """Factor of the mean over all tokens that are learned from."""
    schedule: Schedule | None = None
    """Multiplies `coef` by a factor that changes over phases; null is 1."""
    beta: float = bounded(0.5, at_least=0, at_most=1)
    """0: KL(teacher, policy), which covers all that the teacher does; 1: KL(policy, teacher), which
    seeks what it does most; between them: both distances from a mixture (GKD)."""
    top_k: int | None = bounded(None, at_least=1, at_most=1e6)
    """The teacher's likeliest words that are compared; null compares all."""
    tail: bool = True
    """All other words count as one; false leaves them out and lets the rest sum to 1."""
    with_reward: bool = False
    """Whether the policy term stays, so that rewards count too."""

    def __post_init__(self) -> None:
        check_bounds(self, "model.objective.divergence")

    def coefficient(self, phase: int) -> float:
        """`coef` at a phase."""
        return self.coef * schedule_factor(self.schedule, phase)


@dataclass(frozen=True)
class RouterConfig:
    """Load balancing of a mixture of experts: the auxiliary loss of its routers."""

    coef: float = bounded(0.0, at_least=0, at_most=1e6)
    """Factor of the loss, which is the number of a token's experts where all are used alike and
    grows as the router prefers some; 0 is off. The model's own `router_aux_loss_coef` is not read.
    It is refused for a model without routers."""

    def __post_init__(self) -> None:
        check_bounds(self, "model.objective.router")


@dataclass(frozen=True)
class ObjectiveConfig:
    """The loss."""

    on_policy: OnPolicyConfig = field(default_factory=OnPolicyConfig)
    """Rollout tokens."""
    off_policy: OffPolicyConfig = field(default_factory=OffPolicyConfig)
    """Expert tokens."""
    normalizer: NormalizerConfig = field(default_factory=NormalizerConfig)
    """Divisor of the policy term."""
    max_probability: float | None = bounded(None, above=0, at_most=1)
    """Tokens more likely than this are not trained on; null is off."""
    entropy: EntropyConfig = field(default_factory=EntropyConfig)
    """Bonus for entropy, over all tokens learned from."""
    sft: SftConfig = field(default_factory=SftConfig)
    """Imitation of expert tokens."""
    kl: KlConfig = field(default_factory=KlConfig)
    """Distance from the reference."""
    distillation: DistillationConfig | None = None
    """Advantages by a teacher, token by token; null is off."""
    divergence: DivergenceConfig | None = None
    """Distance from a teacher's distributions; null is off."""
    router: RouterConfig = field(default_factory=RouterConfig)
    """Load balancing of a mixture of experts."""
    terms: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Further terms, each the name of a registered `loss_term` with its settings, such as
    {mine: {coef: 0.1}}. Later files change single settings; `mine: null` takes a term back."""
    old_logprob: Literal["trainer", "sampler"] = "trainer"
    """Whose log-probability of a rollout token is the denominator of its ratio: recomputed by
    the trainer where a phase has several optimizer steps, or the engine's as sampled."""

    def frozen_models(self) -> dict[str, str]:
        """The frozen models that the loss needs: setting that names one, and the name."""
        return frozen_models(self)

    def __post_init__(self) -> None:
        check_bounds(self, "model.objective")
        if self.on_policy.mismatch_cap is not None and self.old_logprob == "sampler":
            raise ConfigError(
                "model.objective.on_policy.mismatch_cap",
                "corrects the trainer's old log-probability, and old_logprob=sampler takes the "
                "engine's",
                value=self.on_policy.mismatch_cap,
                fix="set old_logprob: trainer, or mismatch_cap: null",
            )
        of_the_policy = self.off_policy.behaviour in ("policy", "mixture")
        if of_the_policy and self.old_logprob == "sampler":
            raise ConfigError(
                "model.objective.off_policy.behaviour",
                "needs the policy's own log-probability of given tokens, which old_logprob=sampler "
                "has only of sampled ones",
                value=self.off_policy.behaviour,
                fix="set old_logprob: trainer, or behaviour: certain",
            )


def frozen_models(objective: Any) -> dict[str, str]:
    """The frozen models that an objective needs, built or parsed: setting, and the name in it."""
    found = {}
    if objective.kl.coef > 0:
        found["model.objective.kl.model"] = objective.kl.model
    if objective.distillation is not None:
        found["model.objective.distillation.model"] = objective.distillation.model
    if objective.divergence is not None:
        found["model.objective.divergence.model"] = objective.divergence.model
    return found
