import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from luffy_pl.objective.gate import Difference, PpoClip, Soft
from luffy_pl.objective.loss import policy_loss, probability_ceiling_mask, sft_loss
from luffy_pl.objective.normalize import token_weight
from luffy_pl.objective.shaping import Identity, Log, PDivP
from luffy_pl.objective.tokens import Tokens, Weighting

NAN, INF = math.nan, math.inf
PLAIN = {
    "on_policy_shaping": Identity(),
    "off_policy_shaping": Identity(),
    "ratio": "token",
    "gate": None,
    "behaviour": "recorded",
    "min_off_policy_weight": None,
    "max_off_policy_weight": None,
    "max_probability": None,
}
EVERYTHING = {
    "on_policy_shaping": PDivP(gamma=0.5),
    "off_policy_shaping": PDivP(gamma=0.1),
    "ratio": "token",
    "gate": PpoClip(low=0.2, high=0.3),
    "behaviour": "recorded",
    "min_off_policy_weight": 0.1,
    "max_off_policy_weight": 0.9,
    "max_probability": 0.8,
}


GSPO = PLAIN | {"ratio": "sequence", "gate": PpoClip(low=3e-4, high=4e-4)}
SAPO = PLAIN | {"gate": Soft()}
DPPO = PLAIN | {"gate": Difference()}
KINDS = {"plain": PLAIN, "everything": EVERYTHING, "gspo": GSPO, "sapo": SAPO, "dppo": DPPO}
of_each_kind = pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)


def loss_of(options: dict[str, object], **inputs: Tensor) -> Tensor:
    """`policy_loss` of inputs by name; it reads neither entropy nor the terms a row is in."""
    unread = dict.fromkeys(("entropy_NT", "in_policy_N", "in_imitation_N"), torch.tensor(NAN))
    return policy_loss(Tokens(**inputs, **unread), Weighting(**options))


def token(
    p: float,
    *,
    old: float = NAN,
    behaviour: float = NAN,
    advantage: float = 1.0,
    off: bool = False,
    **options: object,
) -> tuple[float, float]:
    """Loss of a single token and its derivative by the log-probability."""
    logprob_NT = torch.tensor([[p]], dtype=torch.float64).log().requires_grad_()
    loss_NT = loss_of(
        PLAIN | options,
        logprob_NT=logprob_NT,
        old_logprob_NT=torch.tensor([[old]], dtype=torch.float64).log(),
        behaviour_logprob_NT=torch.tensor([[behaviour]], dtype=torch.float64).log(),
        advantage_N=torch.tensor([advantage], dtype=torch.float64),
        response_mask_NT=torch.ones(1, 1),
        off_policy_mask_NT=torch.tensor([[off]]),
    )
    loss_NT.sum().backward()
    return loss_NT.item(), logprob_NT.grad.item()


def test_one_rollout_and_one_expert_token_by_hand():
    # rollout: ratio 0.6 / 0.5 = 1.2, clipped to 1.1, advantage 1.0   -> 1.10, no gradient
    # expert:  p = 0.1, 0.1 / (0.1 + 0.1) = 0.5,       advantage 0.5   -> 0.25
    #          gradient by log p: 0.5 * 0.1 * 0.1 / (0.1 + 0.1)^2 = 0.125
    logprob_NT = torch.tensor([[0.6], [0.1]]).log().requires_grad_()
    loss_NT = loss_of(
        PLAIN
        | {
            "gate": PpoClip(low=0.1, high=0.1),
            "off_policy_shaping": PDivP(gamma=0.1),
        },
        logprob_NT=logprob_NT,
        old_logprob_NT=torch.tensor([[0.5], [NAN]]).log(),  # never read for the expert
        behaviour_logprob_NT=torch.tensor([[NAN], [0.0]]),  # never read for the rollout
        advantage_N=torch.tensor([1.0, 0.5]),
        response_mask_NT=torch.ones(2, 1).bool(),
        off_policy_mask_NT=torch.tensor([[False], [True]]),
    )
    torch.testing.assert_close(loss_NT, torch.tensor([[-1.10], [-0.25]]))
    loss_NT.sum().backward()
    torch.testing.assert_close(logprob_NT.grad, torch.tensor([[0.0], [-0.125]]))


@pytest.mark.parametrize(
    ("p", "advantage", "low", "high", "loss", "gradient"),
    [
        # old is 0.4 throughout; ratio = p / 0.4; gradient by log p is -A * ratio where unclipped
        (0.6, 2.0, None, None, -3.0, -3.0),  # 1.5 * 2
        (0.6, 2.0, 0.2, 0.25, -2.5, 0.0),  # clipped to 1.25
        (0.6, 2.0, 0.2, None, -3.0, -3.0),  # the upper side is off
        (0.6, -2.0, 0.2, 0.25, 3.0, 3.0),  # worse than clipped: PPO keeps it
        (0.2, -2.0, 0.2, 0.25, 1.6, 0.0),  # 0.5 raised to 0.8
        (0.2, -2.0, None, 0.25, 1.0, 1.0),  # the lower side is off
        (0.2, 2.0, 0.2, 0.25, -1.0, -1.0),  # worse than clipped: PPO keeps it
        (0.6, 0.0, 0.2, 0.25, 0.0, 0.0),  # nothing to learn
    ],
)
def test_the_ppo_clip_by_hand(
    p: float, advantage: float, low: float, high: float, loss: float, gradient: float
):
    got = token(p, old=0.4, advantage=advantage, gate=PpoClip(low, high))
    assert got == pytest.approx((loss, gradient))


def test_the_clip_is_the_pessimistic_minimum():
    ratios, advantages = torch.linspace(-1, 3, 41), (-1.5, 0.0, 0.7)
    for ratio, advantage in itertools.product(ratios.tolist(), advantages):
        # log shaping makes any real number a weight, negative ones too
        loss, _ = token(
            math.exp(ratio),
            old=1.0,
            advantage=advantage,
            on_policy_shaping=Log(),
            gate=PpoClip(0.2, 0.3),
        )
        pessimistic = min(advantage * ratio, advantage * min(max(ratio, 0.8), 1.3))
        assert loss == pytest.approx(-pessimistic, abs=1e-6)


def test_a_recorded_behaviour_probability_is_the_denominator():
    # 0.3 / 0.6 = 0.5; shaped 0.5 / (0.5 + 0.5) = 0.5 as well, its slope 0.5 * 0.5 / 1^2 = 0.25
    assert token(0.3, behaviour=0.6, off=True) == pytest.approx((-0.5, -0.5))
    shaped = token(0.3, behaviour=0.6, off=True, off_policy_shaping=PDivP(gamma=0.5))
    assert shaped == pytest.approx((-0.5, -0.25))


def test_a_mixture_of_policies_is_the_denominator():
    # 2 * 0.3 / (0.2 + (0.2 + 1) / 2) = 0.75, and its derivative is itself.
    batch = {
        "logprob_NT": torch.tensor([[0.3]]).double().log(),
        "old_logprob_NT": torch.tensor([[0.2]]).double().log(),
        "behaviour_logprob_NT": torch.tensor([[NAN]]).double(),
        "advantage_N": torch.tensor([1.0]).double(),
        "response_mask_NT": torch.tensor([[True]]),
        "off_policy_mask_NT": torch.tensor([[True]]),
    }
    loss_NT, gradient_NT = loss_and_gradient(batch, PLAIN | {"behaviour": "mixture"})
    assert (loss_NT.item(), gradient_NT.item()) == pytest.approx((-0.75, -0.75))


def test_the_off_policy_weight_is_clamped_after_shaping_and_never_ppo_clipped():
    shaping = PDivP(gamma=0.1)
    common = {"behaviour": 1.0, "off": True, "off_policy_shaping": shaping}
    # f(0.4) = 0.8 -> 0.7; f(0.1) = 0.5 -> 0.6; 0.65 = f(13/70) stays
    bounds = {"min_off_policy_weight": 0.6, "max_off_policy_weight": 0.7}
    assert token(0.4, **common, **bounds) == pytest.approx((-0.7, 0.0))
    assert token(0.1, **common, **bounds) == pytest.approx((-0.6, 0.0))
    assert token(13 / 70, **common, **bounds)[0] == pytest.approx(-0.65)
    # unlike the PPO clip, the clamp holds for a negative advantage too
    assert token(0.4, advantage=-1.0, **common, **bounds) == pytest.approx((0.7, 0.0))
    assert token(0.4, **common, min_off_policy_weight=0.9)[0] == pytest.approx(-0.9)
    assert token(0.4, **common, gate=PpoClip(0.1, 0.1))[0] == pytest.approx(-0.8)


def test_tokens_above_the_ceiling_are_dropped():
    assert token(0.75, old=0.5, max_probability=0.7) == (0.0, 0.0)
    assert token(0.75, behaviour=1.0, off=True, max_probability=0.7) == (0.0, 0.0)
    assert token(0.75, old=0.5, max_probability=0.8) == pytest.approx((-1.5, -1.5))
    logprob_NT = torch.tensor([[0.5, 0.70, 0.71, 0.0]], dtype=torch.float64).log()
    kept_NT = probability_ceiling_mask(logprob_NT, 0.705)
    assert kept_NT.tolist() == [[True, True, False, True]]
    assert probability_ceiling_mask(torch.zeros(1, 1), 1.0).item()  # at the ceiling is not above
    assert probability_ceiling_mask(logprob_NT, None).all()


def test_sft_loss_by_hand():
    logprob_NT = torch.tensor([[-0.5, -2.0, -INF, NAN]], requires_grad=True)
    loss_NT = sft_loss(logprob_NT=logprob_NT, mask_NT=torch.tensor([[1, 1, 0, 0]]))
    assert loss_NT.tolist() == [[0.5, 2.0, 0.0, 0.0]]
    loss_NT.sum().backward()
    assert logprob_NT.grad.tolist() == [[-1.0, -1.0, 0.0, 0.0]]


def random_batch(seed: int, *, rows: int = 6, tokens: int = 9) -> dict[str, Tensor]:
    """Rows of different lengths, every second with an expert prefix; float64."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    length_N1 = torch.randint(0, tokens + 1, (rows, 1), generator=generator)
    prefix_N1 = torch.randint(0, tokens + 1, (rows, 1), generator=generator)
    prefix_N1[::2] = 0
    position_T = torch.arange(tokens)
    logprob_NT = (uniform(rows, tokens) * 0.98 + 0.01).log()
    return {
        "logprob_NT": logprob_NT,
        "old_logprob_NT": logprob_NT + 0.8 * (uniform(rows, tokens) - 0.5),
        "behaviour_logprob_NT": (uniform(rows, tokens) * 0.9 + 0.1).log(),
        "advantage_N": 2 * uniform(rows) - 1,
        "response_mask_NT": position_T < length_N1,
        "off_policy_mask_NT": (position_T < prefix_N1) & (position_T < length_N1),
    }


def loss_and_gradient(
    batch: dict[str, Tensor], options: dict[str, object], weight_NT: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    logprob_NT = batch["logprob_NT"].clone().requires_grad_()
    loss_NT = loss_of(options, **(batch | {"logprob_NT": logprob_NT}))
    (loss_NT if weight_NT is None else loss_NT * weight_NT).sum().backward()
    return loss_NT.detach(), logprob_NT.grad


@of_each_kind
@pytest.mark.parametrize("garbage", [NAN, INF, -INF, 1e30])
def test_what_is_not_to_be_read_is_not_read(options: dict[str, object], garbage: float):
    batch = random_batch(0)
    off_NT, mask_NT = batch["off_policy_mask_NT"], batch["response_mask_NT"]
    expected, expected_gradient = loss_and_gradient(batch, options)
    dirty = {
        **batch,
        "logprob_NT": batch["logprob_NT"].masked_fill(~mask_NT, garbage),
        "old_logprob_NT": batch["old_logprob_NT"].masked_fill(~mask_NT | off_NT, garbage),
        "behaviour_logprob_NT": batch["behaviour_logprob_NT"].masked_fill(
            ~mask_NT | ~off_NT, garbage
        ),
        "off_policy_mask_NT": off_NT | ~mask_NT,  # an off-policy flag on padding means nothing
    }
    loss_NT, gradient_NT = loss_and_gradient(dirty, options)
    assert mask_NT.any()
    assert (~mask_NT).any()
    torch.testing.assert_close(loss_NT, expected, rtol=0, atol=0)
    torch.testing.assert_close(gradient_NT, expected_gradient, rtol=0, atol=0)
    assert (loss_NT[~mask_NT] == 0).all()
    assert (gradient_NT[~mask_NT] == 0).all()


def test_a_masked_row_may_have_any_advantage():
    batch = random_batch(1)
    batch["response_mask_NT"][2] = False
    batch["advantage_N"][2] = NAN
    loss_NT, gradient_NT = loss_and_gradient(batch, EVERYTHING)
    assert (loss_NT[2] == 0).all()
    assert (gradient_NT[2] == 0).all()
    assert gradient_NT.isfinite().all()


def test_an_undefined_old_logprob_on_a_rollout_token_is_not_hidden():
    assert math.isnan(token(0.5, old=NAN)[0])


@of_each_kind
def test_masks_may_be_floats(options: dict[str, object]):
    batch = random_batch(2)
    floats = batch | {name: value.double() for name, value in batch.items() if "mask" in name}
    for one, other in zip(
        loss_and_gradient(batch, options), loss_and_gradient(floats, options), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_gradients_are_the_derivatives():
    batch = random_batch(3)
    del batch["logprob_NT"]
    options = EVERYTHING | {"max_probability": None}
    torch.autograd.gradcheck(
        lambda x: loss_of(options, logprob_NT=x, **batch),
        random_batch(3)["logprob_NT"].requires_grad_(),
    )


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    order=st.permutations(range(6)),
    cuts=st.lists(st.integers(0, 6), max_size=4),
    padding=st.integers(0, 3),
    mode=st.sampled_from(["token", "sequence", "constant"]),
    kind=st.sampled_from(["everything", "gspo"]),
)
def test_split_order_and_padding_change_nothing(
    seed: int, order: list[int], cuts: list[int], padding: int, mode: str, kind: str
):
    """Rows in any order, cut into micro-batches padded to any length: the same gradient."""
    batch, options = random_batch(seed), KINDS[kind]
    totals = {
        "mode": mode,
        "total_tokens": int(batch["response_mask_NT"].sum()),
        "total_rows": 6,
        "constant_tokens": 9,
    }
    whole_NT, whole_gradient_NT = loss_and_gradient(
        batch, options, token_weight(batch["response_mask_NT"].double(), **totals)
    )
    gradient_NT = torch.zeros_like(whole_gradient_NT)
    bounds = sorted([0, *cuts, 6])
    for start, stop in itertools.pairwise(bounds):
        rows = order[start:stop]
        micro = {
            name: torch.nn.functional.pad(value[rows], (0, padding)) if value.dim() == 2
            else value[rows]
            for name, value in batch.items()
        }  # fmt: skip
        weight_NT = token_weight(micro["response_mask_NT"].double(), **totals)
        loss_NT, micro_gradient_NT = loss_and_gradient(micro, options, weight_NT)
        gradient_NT[rows] = micro_gradient_NT[:, :9]
        # Not bit for bit: exp of a vector's tail differs from that of its body by one rounding.
        torch.testing.assert_close(loss_NT[:, :9], whole_NT[rows], rtol=1e-13, atol=1e-15)
        assert (micro_gradient_NT[:, 9:] == 0).all()
    torch.testing.assert_close(gradient_NT, whole_gradient_NT, rtol=1e-13, atol=1e-15)
