"""The loss of every recipe on one small group, computed by hand from its paper's formula.

Two rollouts of two tokens, the first right and the second wrong, and an expert row of three.
Below are log-probabilities now and before the phase, entropies, and what the expert recorded.
"""

import dataclasses
from math import exp, sqrt
from pathlib import Path

import pytest
import torch
from composing import fit, leaves

from luffy_pl.experience.collate import collate, plan_steps
from luffy_pl.experience.compare import compare
from luffy_pl.guidance.teacher_prompts import TeacherRequest
from luffy_pl.objective.gate import Detached
from luffy_pl.objective.normalize import count_terms
from luffy_pl.objective.terms import OptimizerStep, active_terms, micro_batch_loss
from luffy_pl.objective.tokens import Tokens
from luffy_pl.records import ExpertTrace, Group, Prompt, Response, TeacherPrompt, Verdict
from luffy_pl.registry import find

pytestmark = pytest.mark.recipes

RIGHT = {"new": (-0.1, -0.7), "old": (-0.2, -0.6), "entropy": (0.3, 0.9)}
WRONG = {"new": (-1.2, -0.4), "old": (-1.0, -0.5), "entropy": (1.1, 0.2)}
EXPERT = {"new": (-2.0, -0.05, -3.0), "old": (-2.2, -0.1, -2.5), "entropy": (1.4, 0.1, 0.6)}
RECORDED = (-0.5, 0.0, -1.25)
LENGTH = 48  # of conf/quickstart.yaml, the constant divisor
CONF = Path(__file__).parents[2] / "conf" / "recipe"


for row, teacher in ((RIGHT, (-0.4, -0.3)), (WRONG, (-0.9, -1.5)), (EXPERT, (0.0, 0.0, 0.0))):
    row["teacher"] = teacher


def response(source, tokens, correct, **given):
    verdict = Verdict(correct, "ok", "string", None, "1")
    sampled = (-1.0,) * (len(tokens) - given.get("num_given", 0))
    return Response(source, "", tokens, "stop", verdict, sampled, **given)


def group(*, expert):
    rows = [response("rollout", (4, 1), True), response("rollout", (5, 1), False)]
    if expert:
        rows.append(response("expert", (6, 7, 1), True, num_given=3, given_logprobs=RECORDED))
    rewards = tuple(float(row.verdict.correct) for row in rows)
    return Group(Prompt("a", "", (8, 9), "1"), tuple(rows), rewards)


def loss_of(found, phase=0, *, group=None, reference=None):
    """The loss of a composed recipe on the group, as the module computes it for a micro-batch."""
    rollout, objective = found.data.rollout, found.module.objective
    if group is None:
        group = make_group(expert=rollout.expert_traces_per_group > 0)
    if rollout.routing is not None:
        group = rollout.routing.route(group)
    if rollout.teacher_prompt is not None:
        group = with_teacher_prompts(group, rollout.teacher_prompt.sees)
    collated = collate(
        [group],
        phase=phase,
        temperature=1.0,
        steps=plan_steps(1, 1),
        masks_truncated=found.data.advantage.truncated == "mask",
        teacher_sees_more=rollout.teacher_prompt is not None,
    )
    experience = compare(collated, None, found.data.advantage)
    names = ("new", "old", "entropy", "teacher")
    tensors = {name: torch.zeros(experience.response_mask_NT.shape) for name in names}
    for row, numbers in enumerate((RIGHT, WRONG, EXPERT)[: len(group.responses)]):
        for name, tensor in tensors.items():
            tensor[row, 1 : 1 + len(numbers[name])] = torch.tensor(numbers[name])
    tokens = Tokens.of(
        experience,
        logprob_NT=tensors["new"],
        entropy_NT=tensors["entropy"],
        old_logprob_NT=tensors["old"],
        reference_logprob_NT=None if reference is None else tensors[reference],
        teacher_logprob_NT=tensors["teacher"],
    )
    return step_loss(tokens, experience, objective, phase)


def with_teacher_prompts(group, sees):
    """The group as its teacher's prompter leaves it: a row is taught where there is a text."""
    tell = find("teacher_prompt", sees, where="sees")
    trace = ExpertTrace("1", (6, 7, 1))
    texts = [tell(TeacherRequest(group, row, trace)) for row in range(len(group.responses))]
    rows = tuple(
        dataclasses.replace(row, teacher_prompt=TeacherPrompt((9,) if text is not None else ()))
        for row, text in zip(group.responses, texts, strict=True)
    )
    return dataclasses.replace(group, responses=rows)


def step_loss(tokens, experience, objective, phase):
    """The loss of an optimizer step on all rows, with the coefficients that a run starts with."""
    step = OptimizerStep(
        objective,
        terms=active_terms(
            objective,
            phase,
            entropy_coef=objective.entropy.coef,
            kl_coef=objective.kl.coef,
            foreign={},
        ),
        totals=count_terms(experience, list(range(len(tokens.advantage_N))), objective),
        max_response_tokens=LENGTH,
        phase=phase,
    )
    return micro_batch_loss(tokens, step)[0].item()


make_group = group


def ratios(row):
    return [exp(new - old) for new, old in zip(row["new"], row["old"], strict=True)]


def clipped(row, advantage, low=0.2, high=0.2):
    """PPO's pessimistic terms A * r, summed over the tokens of a row."""
    bounded = [min(max(r, 1 - low), 1 + high) for r in ratios(row)]
    return sum(min(advantage * r, advantage * b) for r, b in zip(ratios(row), bounded, strict=True))


def mean_entropy(*rows):
    values = [value for row in rows for value in row["entropy"]]
    return sum(values) / len(values)


def shaped(probability, gamma=0.1):
    return probability / (probability + gamma)


def nll(row):
    return -sum(row["new"]) / len(row["new"])


BONUS = 0.001  # of conf/quickstart.yaml


def luffy():
    policy = sum(ratios(RIGHT)) / 3 - 2 * sum(ratios(WRONG)) / 3
    policy += sum(shaped(exp(new)) for new in EXPERT["new"]) / 3
    return -policy / (3 * LENGTH) - BONUS * mean_entropy(RIGHT, WRONG, EXPERT)


def luffy_recorded_behaviour():
    policy = sum(ratios(RIGHT)) / 3 - 2 * sum(ratios(WRONG)) / 3
    policy += sum(shaped(exp(n - q)) for n, q in zip(EXPERT["new"], RECORDED, strict=True)) / 3
    return -policy / (3 * LENGTH) - BONUS * mean_entropy(RIGHT, WRONG, EXPERT)


def on_policy():
    policy = clipped(RIGHT, 0.5) + clipped(WRONG, -0.5)
    return -policy / (2 * LENGTH) - BONUS * mean_entropy(RIGHT, WRONG)


def grpo_std():
    # Unbiased deviation of (1, 0), and the mean over tokens of each row, then over rows. The KL is
    # to a reference equal to the policy before the phase: k3 = exp(-d) - 1 + d.
    advantage = 0.5 / (sqrt(0.5) + 1e-6)
    policy = (clipped(RIGHT, advantage) / 2 + clipped(WRONG, -advantage) / 2) / 2
    gaps = [n - o for row in (RIGHT, WRONG) for n, o in zip(row["new"], row["old"], strict=True)]
    return -policy + 0.04 * sum(exp(-d) - 1 + d for d in gaps) / 4


def dr_grpo():
    return -(clipped(RIGHT, 0.5) + clipped(WRONG, -0.5)) / (2 * LENGTH)


def dapo():
    advantage = 0.5 / (sqrt(0.5) + 1e-6)
    policy = clipped(RIGHT, advantage, high=0.28) + clipped(WRONG, -advantage, high=0.28)
    return -policy / 4


def rl_with_sft_loss():
    policy = sum(ratios(RIGHT)) * 0.5 - sum(ratios(WRONG)) * 0.5
    return -policy / (2 * LENGTH) - BONUS * mean_entropy(RIGHT, WRONG, EXPERT) + nll(EXPERT)


def prefix_rft():
    # All tokens by the clipped ratio; of the expert's three only the one of highest entropy counts.
    policy = clipped(RIGHT, 1 / 3) + clipped(WRONG, -2 / 3)
    first = ratios(EXPERT)[0]
    policy += min(first / 3, min(max(first, 0.8), 1.2) / 3)
    return -policy / (3 * LENGTH)


def relift():
    policy = clipped(RIGHT, 0.5, high=0.28) + clipped(WRONG, -0.5, high=0.28)
    return -policy / (2 * LENGTH) - 1e-4 * mean_entropy(RIGHT, WRONG)


def chord_mu():
    # In phase 50 of a rise over 200 to 0.9.
    mu, advantage = 0.9 * 50 / 200, 0.5 / (sqrt(0.5) + 1e-6)
    policy = clipped(RIGHT, advantage) + clipped(WRONG, -advantage)
    return -(1 - mu) * policy / 4 + mu * nll(EXPERT)


def chord_phi():
    advantage = 0.5 / (sqrt(0.5) + 1e-6)
    policy = clipped(RIGHT, advantage) + clipped(WRONG, -advantage)
    imitation = -sum(exp(n) * (1 - exp(n)) * n for n in EXPERT["new"]) / 3
    return -0.9 * policy / 4 + 0.1 * imitation


def srft():
    # log ratio as weight: its value is small, its gradient that of the log-likelihood.
    def log_ratio(row):
        return sum(n - o for n, o in zip(row["new"], row["old"], strict=True))

    deviation = sqrt(((1 / 3) ** 2 * 2 + (2 / 3) ** 2) / 2)
    expert = (1 / 3) / (deviation + 1e-6) * sum(exp(n) for n in EXPERT["new"])
    own = 0.1 * exp(mean_entropy(RIGHT)) * log_ratio(RIGHT) - log_ratio(WRONG)
    return -(expert + own) / 7 + 0.5 * exp(-mean_entropy(EXPERT)) * nll(EXPERT)


def hpt():
    # One rollout is right, above the gate: rollouts alone.
    policy = clipped(RIGHT, 0.5) + clipped(WRONG, -0.5)
    return -policy / (2 * LENGTH) - BONUS * mean_entropy(RIGHT, WRONG)


def adaptive_entropy():
    return luffy()


def kl_in_loss():
    gaps = [n - o for row in (RIGHT, WRONG, EXPERT)
            for n, o in zip(row["new"], row["old"], strict=True)]  # fmt: skip
    return luffy() + 0.001 * sum(exp(-d) - 1 + d for d in gaps) / 7


def kl_in_reward():
    return luffy()  # the penalty is in the advantage: test_controllers.py


def truncated_importance_sampling():
    # The engine said -1 for every sampled token; the trainer's own are in "old".
    def term(row):
        return sum(
            r * min(exp(old + 1.0), 2.0) for r, old in zip(ratios(row), row["old"], strict=True)
        )

    policy = term(RIGHT) / 3 - 2 * term(WRONG) / 3
    policy += sum(shaped(exp(new)) for new in EXPERT["new"]) / 3
    return -policy / (3 * LENGTH) - BONUS * mean_entropy(RIGHT, WRONG, EXPERT)


def ghpo():
    # The group under the hint is an ordinary one: GRPO with its deviation, mean over tokens.
    advantage = 0.5 / (sqrt(0.5) + 1e-6)
    return -(clipped(RIGHT, advantage) + clipped(WRONG, -advantage)) / 4


def pope():
    return dr_grpo()


def begun():
    """The group whose third row an expert began: one of its three tokens is given."""
    solved = make_group(expert=True)
    row = response("prefix", (6, 7, 1), True, num_given=1)
    return Group(solved.prompt, (*solved.responses[:2], row), solved.rewards)


def clipped_rest(row, advantage):
    """`clipped`, without the first token of the row."""
    rest = {name: values[1:] for name, values in row.items()}
    return clipped(rest, advantage)


def gspo():
    # One ratio for a row, exp(mean gap): 1.0 for the first here, exp(-0.05) for the second.
    advantage = 0.5 / (sqrt(0.5) + 1e-6)
    right, wrong = (
        exp(sum(n - o for n, o in zip(row["new"], row["old"], strict=True)) / 2)
        for row in (RIGHT, WRONG)
    )
    first = min(advantage * right, advantage * min(max(right, 1 - 3e-4), 1 + 4e-4))
    second = min(-advantage * wrong, -advantage * min(max(wrong, 1 - 3e-4), 1 + 4e-4))
    return -(first + second) / 2


def cispo():
    # The value is that of the weight; the gradient is in tests/objective/test_gate.py.
    advantage = 0.5 / (sqrt(0.5) + 1e-6)
    return -advantage * (sum(ratios(RIGHT)) - sum(ratios(WRONG))) / 4


def sapo():
    advantage = 0.5 / (sqrt(0.5) + 1e-6)
    right = [4 / (1 + exp(-(r - 1))) for r in ratios(RIGHT)]
    wrong = [4 / 1.05 / (1 + exp(-1.05 * (r - 1))) for r in ratios(WRONG)]
    return -advantage * (sum(right) / 2 - sum(wrong) / 2) / 2


def dppo():
    # No probability has moved by 0.2: the largest step is exp(-0.1) - exp(-0.2) = 0.086.
    return cispo()


def rl_plus():
    # Who wrote a token: the mean of the old policy, and of its mean with a sure teacher.
    policy = sum(ratios(RIGHT)) / 3 - 2 * sum(ratios(WRONG)) / 3
    for new, old in zip(EXPERT["new"], EXPERT["old"], strict=True):
        ratio = 2 * exp(new) / (exp(old) + (exp(old) + 1) / 2)
        policy += ratio * (1 - exp(new)) ** 0.5 / 3
    return -policy / (3 * LENGTH) - BONUS * mean_entropy(RIGHT, WRONG, EXPERT)


def max_rl():
    # Rewards 1 and 0 with mean 1/2: advantages 1 and -1.
    return -(sum(ratios(RIGHT)) - sum(ratios(WRONG))) / (2 * LENGTH)


def gaps(row):
    """What the teacher says above the policy before the phase, of each token."""
    return [q - o for q, o in zip(row["teacher"], row["old"], strict=True)]


def opd():
    terms = [
        r * gap for row in (RIGHT, WRONG) for r, gap in zip(ratios(row), gaps(row), strict=True)
    ]
    return -sum(terms) / 4


def opsd():
    return opd()


def sdft():
    return opd()


def kdrl():
    advantage = 0.5 / (sqrt(0.5) + 1e-6)
    pairs = zip(RIGHT["new"] + WRONG["new"], RIGHT["teacher"] + WRONG["teacher"], strict=True)
    policy = advantage * (sum(ratios(RIGHT)) - sum(ratios(WRONG))) / 4
    return -policy + 0.005 * sum(0.5 * (n - q) ** 2 for n, q in pairs) / 4


def rlsd():
    # In phase 25 of a fall over 50: lambda is a quarter. No ratio leaves its clip.
    total = 0.0
    for row, advantage in ((RIGHT, 0.5 / (sqrt(0.5) + 1e-6)), (WRONG, -0.5 / (sqrt(0.5) + 1e-6))):
        sign = 1 if advantage > 0 else -1
        for ratio, gap in zip(ratios(row), gaps(row), strict=True):
            weight = min(max(exp(sign * gap), 0.8), 1.2)
            assert 0.8 < ratio < 1.2
            total += ratio * advantage * (0.75 + 0.25 * weight)
    return -total / 4


def sdpo():
    # The right row has no other success to look at, so the wrong one alone is taught.
    return -sum(min(r, 2) * gap for r, gap in zip(ratios(WRONG), gaps(WRONG), strict=True)) / 2


PHASE = {"chord_mu": 50, "rlsd": 25}
REFERENCE = {"grpo_std": "old", "kl_in_loss": "old", "kdrl": "teacher"}
BY_HAND = [
    luffy, luffy_recorded_behaviour, on_policy, grpo_std, dr_grpo, dapo, rl_with_sft_loss,
    prefix_rft, relift, chord_mu, chord_phi, srft, hpt, adaptive_entropy, kl_in_loss, kl_in_reward,
    truncated_importance_sampling, gspo, cispo, sapo, dppo,
    rl_plus, max_rl, ghpo, pope, opd, kdrl, opsd, rlsd, sdft, sdpo,
]  # fmt: skip


@pytest.mark.parametrize("by_hand", BY_HAND, ids=lambda function: function.__name__)
def test_the_loss_is_the_formula(recipe, by_hand):
    name = by_hand.__name__
    found = loss_of(recipe(name), PHASE.get(name, 0), reference=REFERENCE.get(name))
    assert found == pytest.approx(by_hand(), rel=1e-5)


def expert_only(role="both"):
    row = response("expert", (6, 7, 1), True, num_given=3, role=role)
    return Group(Prompt("a", "", (8, 9), "1"), (row,), (1.0,))


def expert_loss(found, role):
    """The loss of a group of one expert row."""
    collated = collate([expert_only(role)], phase=0, temperature=1.0, steps=plan_steps(1, 1))
    experience = compare(collated, None, found.data.advantage)
    new, entropy = torch.zeros(1, 4), torch.zeros(1, 4)
    new[0, 1:], entropy[0, 1:] = torch.tensor(EXPERT["new"]), torch.tensor(EXPERT["entropy"])
    tokens = Tokens.of(experience, logprob_NT=new, entropy_NT=entropy, old_logprob_NT=new)
    return step_loss(tokens, experience, found.module.objective, 0)


def test_sft_is_the_mean_negative_log_likelihood(recipe):
    assert expert_loss(recipe("sft"), "both") == pytest.approx(nll(EXPERT))


def test_dft_weighs_imitation_by_the_probability(recipe):
    expected = -sum(exp(new) * new for new in EXPERT["new"]) / 3
    assert expert_loss(recipe("dft"), "both") == pytest.approx(expected)


def test_what_the_value_of_a_loss_does_not_show(recipe):
    """A clipped token's gradient, whose probability is the denominator, which side is compared."""
    objectives = {name: recipe(name).module.objective for name in ("cispo", "dppo", "gkd")}
    assert isinstance(objectives["cispo"].on_policy.gate, Detached)
    assert objectives["dppo"].old_logprob == "sampler"
    assert objectives["gkd"].divergence.beta == 0.5


def test_gkd_is_the_mean_divergence_of_all_tokens(recipe):
    # Rewards play no part: the policy term has coefficient 0.
    rows = compare(
        collate([make_group(expert=True)], phase=0, temperature=1.0, steps=plan_steps(1, 1)),
        None,
        recipe("gkd").data.advantage,
    )
    zeros = torch.zeros(rows.response_mask_NT.shape)
    divergence = torch.arange(zeros.numel()).view(zeros.shape).float() * rows.response_mask_NT
    tokens = Tokens.of(
        rows,
        logprob_NT=zeros - 1,
        old_logprob_NT=zeros,
        entropy_NT=zeros,
        divergence_NT=divergence,
    )
    found = step_loss(tokens, rows, recipe("gkd").module.objective, 0)
    assert found == pytest.approx(divergence.sum().item() / 7)


@pytest.mark.parametrize("name", ["sft_then_rl", "relift", "hpt"])
def test_a_row_that_is_only_imitated(recipe, name):
    found = recipe(name)
    bonus = found.module.objective.entropy.coef * mean_entropy(EXPERT)
    assert expert_loss(found, "imitation") == pytest.approx(nll(EXPERT) - bonus)


def test_hpt_imitates_what_no_rollout_solves(recipe):
    solved = make_group(expert=True)
    wrong = response("rollout", (4, 1), False)
    unsolved = Group(solved.prompt, (wrong, wrong, solved.responses[2]), (0.0, 0.0, 1.0))
    bonus = BONUS * mean_entropy(EXPERT)
    assert loss_of(recipe("hpt"), group=unsolved) == pytest.approx(nll(EXPERT) - bonus)


def test_a_shown_prefix_weighs_as_luffys_trace_and_the_rest_as_a_rollout(recipe):
    solved = make_group(expert=True)
    begun = response("prefix", (6, 7, 1), True, num_given=1)
    mixed = Group(solved.prompt, (*solved.responses[:2], begun), solved.rewards)
    policy = sum(ratios(RIGHT)) / 3 - 2 * sum(ratios(WRONG)) / 3
    policy += (shaped(exp(EXPERT["new"][0])) + sum(ratios(EXPERT)[1:])) / 3
    expected = -policy / (3 * LENGTH) - BONUS * mean_entropy(RIGHT, WRONG, EXPERT)
    assert loss_of(recipe("prefix_guidance"), group=mixed) == pytest.approx(expected)


def test_exgrpo_weighs_a_replayed_token_by_its_recorded_probability(recipe):
    solved = make_group(expert=True)
    replayed = response("replay", (6, 7, 1), True, num_given=3, given_logprobs=RECORDED)
    mixed = Group(solved.prompt, (*solved.responses[:2], replayed), solved.rewards)
    expected = luffy_recorded_behaviour()
    assert loss_of(recipe("exgrpo"), group=mixed) == pytest.approx(expected)


def put_back():
    """The group whose third row was sampled under a hint, with the engine's log-probabilities."""
    solved = make_group(expert=True)
    row = response(
        "hinted", (6, 7, 1), True, num_given=3, given_logprobs=RECORDED, role="policy"
    )  # fmt: skip
    return Group(solved.prompt, (*solved.responses[:2], row), solved.rewards)


def test_guide_weighs_a_row_by_its_probability_under_the_hint(recipe):
    policy = clipped(RIGHT, 1 / 3) + clipped(WRONG, -2 / 3)
    ratio = [exp(n - h) for n, h in zip(EXPERT["new"], RECORDED, strict=True)]
    policy += sum(min(one, 1.2) for one in ratio) / 3
    expected = -policy / (3 * LENGTH)
    assert loss_of(recipe("guide"), group=put_back()) == pytest.approx(expected)


def test_critique_weighs_a_refinement_as_luffy_weighs_a_trace(recipe):
    assert loss_of(recipe("critique"), group=put_back()) == pytest.approx(luffy())


DEVIATION = sqrt(((1 / 3) ** 2 * 2 + (2 / 3) ** 2) / 2) + 1e-6


def test_uft_reinforces_what_the_policy_wrote_and_imitates_what_was_shown(recipe):
    policy = clipped(RIGHT, 1 / 3 / DEVIATION) + clipped(WRONG, -2 / 3 / DEVIATION)
    policy += clipped_rest(EXPERT, 1 / 3 / DEVIATION)
    rows = (RIGHT, WRONG, EXPERT)
    gaps = [n - o for row in rows for n, o in zip(row["new"], row["old"], strict=True)]
    # Six tokens are the policy's own, one was shown.
    expected = -policy / 6 - 0.001 * mean_entropy(*rows) + 0.001 * 2.0
    expected += 0.001 * sum(exp(-d) - 1 + d for d in gaps) / 7
    found = loss_of(recipe("uft"), group=begun(), reference="old")
    assert found == pytest.approx(expected, rel=1e-5)


def test_bread_reinforces_the_branch_alone(recipe):
    policy = clipped(RIGHT, 1 / 3 / DEVIATION) + clipped(WRONG, -2 / 3 / DEVIATION)
    policy += clipped_rest(EXPERT, 1 / 3 / DEVIATION)
    expected = -policy / (3 * LENGTH)
    assert loss_of(recipe("bread"), group=begun()) == pytest.approx(expected, rel=1e-5)


def test_dapo_masks_a_row_that_ran_into_the_limit(recipe):
    solved = make_group(expert=False)
    cut = Response(**{**vars(solved.responses[1]), "finish_reason": "length"})
    mixed = Group(solved.prompt, (solved.responses[0], cut), solved.rewards)
    advantage = 0.5 / (sqrt(0.5) + 1e-6)  # its reward still counts in the group
    expected = -clipped(RIGHT, advantage, high=0.28) / 2
    assert loss_of(recipe("dapo"), group=mixed) == pytest.approx(expected)


def test_dapo_pays_half_of_what_its_paper_does(recipe):
    # Equation 13 at limit 48: no penalty up to 38.4 tokens, then down to -1. The paper adds it to 1
    # or -1; half of that and a constant, which advantages divided by the deviation do not see.
    reward_of = recipe("dapo").data.reward_of
    for correct, tokens, paper in [(True, 20, 1.0), (False, 20, -1.0), (True, 48, 0.0),
                                   (False, 48, -2.0), (True, 43, 1 - 4.6 / 9.6)]:  # fmt: skip
        row = response("rollout", (1,) * tokens, correct)
        assert reward_of(Prompt("a", "", (8, 9), "1"), [row]) == pytest.approx([(paper + 1) / 2])


def test_every_recipe_has_its_formula_here_and_names_its_source():
    tested = {function.__name__ for function in BY_HAND}
    tested |= {"gkd", "sft", "dft", "sft_then_rl", "prefix_guidance", "exgrpo"}
    tested |= {"guide", "critique", "uft", "bread"}
    assert {file.stem for file in CONF.glob("*.yaml")} == tested
    for file in CONF.glob("*.yaml"):
        header = file.read_text().partition("\nmodel:")[0]
        assert "arXiv" in header or "2025" in header, file


def test_every_recipe_changes_the_base_but_the_one_that_it_follows():
    base = "conf/quickstart.yaml"
    files = {file.stem: f"conf/recipe/{file.name}" for file in CONF.glob("*.yaml")}
    same = [name for name, file in files.items() if leaves(fit(base, file)) == leaves(fit(base))]
    assert same == ["luffy"]


def test_every_recipe_is_in_the_table():
    table = (CONF.parents[1] / "docs" / "recipes.md").read_text()
    assert [file.stem for file in CONF.glob("*.yaml") if f"`{file.stem}`" not in table] == []
