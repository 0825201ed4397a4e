"""Our objective against the values of the released LUFFY code, within 1e-6.

Where the released number is a defect, the test names theirs, ours, and why.
"""

import pytest
import torch
from torch import Tensor

from .adapter import (
    run_reference_advantage,
    run_reference_case,
    run_reference_kl,
    run_reference_policy_loss,
    run_reference_sft,
)

BATCHES = ["s11_full", "s12_partial", "s13_none"]
CASES = [
    "luffy",
    "no_shaping",
    "clip_on",
    "clip_on_upper_1.5",
    "token_mean",
    "off_logp",
    "off_p_logp",
    "off_square_root",
    "off_p_div_p_0.3",
    "off_p_div_p_0.5",
    "off_pow",
    "on_logp",
    "on_p_logp",
    "on_square_root",
    "on_p_div_p_0.1",
    "on_p_div_p_0.5",
    "on_pow",
    "off_max_clip",
    "off_min_clip",
    "off_both_clip_shaped",
    "all_max_clip",
    "all_max_clip_token_mean",
    "behaviour_prob",
    "behaviour_prob_max_clip",
]
INPUTS = [
    "log_prob",
    "old_log_prob",
    "ref_log_prob",
    "response_mask",
    "off_policy_mask",
    "reward",
    "group",
    "behaviour_prob",
]
# Where theirs is wrong, so that equality is not asked for; the tests below say what ours is.
DEFECTIVE = {"on_pg_clipfrac"}


def close(ours: float, theirs: float) -> bool:
    return ours == pytest.approx(theirs, abs=1e-6, rel=0)


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


@pytest.fixture(params=BATCHES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def batch(golden: tuple, name: str) -> dict[str, Tensor]:
    return {key: golden[0][f"{name}.{key}"] for key in INPUTS}


@pytest.fixture
def released(golden: tuple, name: str) -> dict[str, dict]:
    """The cases of one batch by name."""
    return {case["case"]: case for case in golden[1] if case["batch"] == name}


def test_the_list_of_cases_is_complete(released: dict[str, dict]):
    assert list(released) == CASES


@pytest.mark.parametrize("case", CASES)
def test_loss_gradient_and_scalars(
    golden: tuple, batch: dict[str, Tensor], name: str, case: str, released: dict[str, dict]
):
    theirs = released[case]["outputs"]
    ours = run_reference_case(batch, released[case]["options"])
    assert close(ours["pg_loss"], theirs["pg_loss"])
    assert_close(ours["grad"], golden[0][f"{name}.mixed.{case}.grad"])
    assert ours.keys() - {"grad"} == theirs.keys()
    for key in theirs.keys() - DEFECTIVE:
        # Theirs is NaN (null) for a clip fraction of no off-policy tokens; ours is 0.
        assert close(ours[key], 0.0 if theirs[key] is None else theirs[key]), key


def test_released_nans_are_only_clip_fractions_of_no_tokens(name: str, released: dict[str, dict]):
    nans = {
        (case, key)
        for case, row in released.items()
        for key, value in row["outputs"].items()
        if value is None
    }
    expected = {
        ("off_max_clip", "off_ratio_max_clip_frac"),
        ("off_min_clip", "off_ratio_min_clip_frac"),
        ("off_both_clip_shaped", "off_ratio_max_clip_frac"),
        ("off_both_clip_shaped", "off_ratio_min_clip_frac"),
        ("behaviour_prob_max_clip", "off_ratio_max_clip_frac"),
    }
    assert nans == (expected if name == "s13_none" else set())


@pytest.mark.parametrize("case", ["clip_on", "clip_on_upper_1.5", "all_max_clip_token_mean"])
def test_the_clip_fraction_counts_rollout_tokens_only(
    batch: dict[str, Tensor], case: str, released: dict[str, dict]
):
    """Theirs also counts expert tokens, which are never clipped, with a ratio never used.

    They take the share over all response tokens; a metric named on_pg_clipfrac is a share of
    the on-policy ones.
    """
    upper = released[case]["options"]["clip_upper_bound"]
    ratio_NT = (batch["log_prob"] - batch["old_log_prob"]).exp()
    advantage_NT = run_reference_advantage(batch, use_std=False, split=False)
    clipped_NT = ratio_NT.clamp(0.8, max(1.2, upper))
    is_clipped_NT = -advantage_NT * clipped_NT > -advantage_NT * ratio_NT
    mask_NT, off_NT = batch["response_mask"].bool(), batch["off_policy_mask"]
    theirs = is_clipped_NT[mask_NT].float().mean().item()
    ours = is_clipped_NT[mask_NT & ~off_NT].float().mean().item()

    assert close(released[case]["outputs"]["on_pg_clipfrac"], theirs)
    assert close(run_reference_case(batch, released[case]["options"])["on_pg_clipfrac"], ours)
    assert (ours == theirs) == (not off_NT.any())


@pytest.mark.parametrize("case", ["luffy", "token_mean", "on_p_div_p_0.1"])
def test_the_clip_fraction_is_zero_where_the_clip_is_off(
    batch: dict[str, Tensor], case: str, released: dict[str, dict]
):
    assert released[case]["outputs"]["on_pg_clipfrac"] == 0
    assert run_reference_case(batch, released[case]["options"])["on_pg_clipfrac"] == 0


@pytest.mark.parametrize("use_std", [False, True])
@pytest.mark.parametrize("split", [False, True])
def test_advantage(golden: tuple, batch: dict[str, Tensor], name: str, use_std: bool, split: bool):
    ours_NT = run_reference_advantage(batch, use_std=use_std, split=split)
    assert_close(ours_NT, golden[0][f"{name}.advantage.std{use_std:d}.split{split:d}"])


@pytest.mark.parametrize("kind", ["kl", "abs", "mse", "low_var_kl"])
def test_kl(golden: tuple, batch: dict[str, Tensor], name: str, kind: str):
    assert_close(run_reference_kl(batch, kind), golden[0][f"{name}.kl.{kind}"])


def test_sft_loss(golden: tuple, batch: dict[str, Tensor], name: str):
    """The released mean has no value without off-policy rows (0 / 0); ours is 0."""
    theirs = golden[0].get(f"{name}.sft_loss", torch.zeros(1))
    assert (name == "s13_none") == (f"{name}.sft_loss" not in golden[0])
    assert close(run_reference_sft(batch).item(), theirs.item())


@pytest.mark.parametrize("token_mean_removed", [False, True])
@pytest.mark.parametrize("clip_removed", [False, True])
def test_policy_loss(
    golden: tuple,
    batch: dict[str, Tensor],
    name: str,
    token_mean_removed: bool,
    clip_removed: bool,
):
    key = f"{name}.policy_loss.tm{token_mean_removed:d}.rc{clip_removed:d}"
    loss, _, ppo_kl = golden[0][key].tolist()
    ours = run_reference_policy_loss(batch, token_mean_removed, clip_removed)
    assert close(ours["loss"], loss)
    assert close(ours["ppo_kl"], ppo_kl)
    assert_close(ours["grad"], golden[0][f"{key}.grad"])


def test_policy_loss_clip_fraction_is_the_other_way_round(
    golden: tuple, batch: dict[str, Tensor], name: str
):
    """Theirs compares after taking the maximum: always 0 with the clip on, non-zero with it off.

    Ours is non-zero with the clip on, and the number they report with it off.
    """
    key = f"{name}.policy_loss.tm0"
    theirs_on, theirs_off = (golden[0][f"{key}.rc{off}"][1].item() for off in (0, 1))
    ours_on, ours_off = (
        run_reference_policy_loss(batch, False, bool(off))["clipfrac"] for off in (0, 1)
    )
    assert theirs_on == ours_off == 0
    assert theirs_off > 0
    assert close(ours_on, theirs_off)


def test_an_advantage_per_token_is_the_same_as_one_per_row(
    batch: dict[str, Tensor], released: dict[str, dict]
):
    options = released["clip_on"]["options"]
    advantage_NT = run_reference_advantage(batch, use_std=False, split=False)
    per_row = run_reference_case(batch, options)
    per_token = run_reference_case(batch | {"advantage": advantage_NT}, options)
    assert_close(per_token.pop("grad"), per_row.pop("grad"))
    assert per_token == pytest.approx(per_row, abs=1e-6)
