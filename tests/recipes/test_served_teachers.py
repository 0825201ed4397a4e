"""Recipes whose teacher is on a server: the runs of the same teacher here, and one that dies.

The server is a stand-in that computes; tests/traces/test_vllm_endpoint.py asks a real one.
"""

import pytest
import torch
from aiohttp import web
from rollout.test_server_pool import StandIn, serve  # noqa: F401  (a fixture)
from same_run import differences

from luffy_pl.bundled import resolve
from luffy_pl.data.tokenizer import load_tokenizer
from luffy_pl.policy.policy import load_policy
from luffy_pl.policy.settings import PolicyConfig
from luffy_pl.run_dir.read import read_metrics
from recipes.small_runs import SMALL

pytestmark = pytest.mark.recipes

SETTINGS = [
    *SMALL, "--data.rollout.num_phases", "3", "--data.rollout.prompts_per_phase", "4",
    "--data.rollout.group_size", "4", "--checkpoint.every_n_phases", "3",
]  # fmt: skip
ROWS = 4 * 4
"""Rows of a phase."""
# What each recipe computes of its teacher.
LOGGED = {
    "opd": ("actor/teacher_gap", "actor/distillation_loss", "actor/grad_norm"),
    "opsd": ("actor/teacher_gap", "actor/taught_rows", "actor/grad_norm"),
    "kdrl": ("actor/kl_loss", "actor/grad_norm"),
    "rlsd": ("actor/teacher_gap", "actor/taught_rows"),
}


class Teacher(StandIn):
    """`vllm serve` of the miniature's expert in small: it says what the model computes."""

    def __init__(self, path, *, window=96):
        super().__init__()
        self.policy = load_policy(PolicyConfig(path=path), path).eval()
        self.tokenizer, self.window = load_tokenizer(path), window
        self.rows_left = None

    async def handle(self, request):
        body = await request.json() if request.can_read_body else {}
        if request.path == "/v1/models":
            answer = {"data": [{"id": "expert", "max_model_len": self.window}]}
        elif request.path == "/detokenize":
            text = self.tokenizer.decode(body["tokens"], skip_special_tokens=False)
            answer = {"prompt": text}
        elif request.path == "/tokenize":
            encoded = self.tokenizer.encode(body["prompt"], add_special_tokens=False)
            answer = {"tokens": encoded}
        elif self.rows_left == 0:
            return web.Response(status=503)
        else:
            self.rows_left = None if self.rows_left is None else self.rows_left - 1
            answer = {"choices": [self.scored(body["prompt"])]}
        return web.json_response(answer)

    @torch.no_grad()
    def scored(self, ids):
        assert len(ids) < self.window
        mask_1T = torch.ones(1, len(ids) - 1, dtype=torch.bool)
        logprob_1T, _ = self.policy(
            torch.tensor([ids]), mask_1T, num_tokens=(len(ids),), temperature=1.0
        )
        scores = zip(ids[1:], logprob_1T[0].tolist(), strict=True)
        told = [None, *({str(token): {"logprob": value}} for token, value in scores)]
        return {"finish_reason": "length", "prompt_logprobs": told}


@pytest.fixture(scope="module")
def expert():
    return Teacher(resolve("bundled:expert"))


@pytest.fixture
def train(command_line, tmp_path, serve, expert):  # noqa: F811
    """Runs a recipe with the teacher here, or behind the address of a stand-in."""
    expert.rows_left = None
    [url] = serve(expert).urls

    def run(recipe, where, *more, name=None, timeout_s=60):
        teachers = {
            "here": '{weights: path, path: "bundled:expert", every_n_phases: null}',
            "server": f'{{weights: server, path: null, every_n_phases: null, url: "{url}", '
            f"timeout_s: {timeout_s}}}",
        }
        use = "kl" if recipe == "kdrl" else "distillation"
        return command_line(
            "fit", "--config", "conf/quickstart.yaml", "--config", f"conf/recipe/{recipe}.yaml",
            *SETTINGS, f"--model.objective.{use}.model", "teacher",
            "--model.frozen.teacher", teachers[where],
            "--run_dir", tmp_path / (name or where), *more,
        )  # fmt: skip

    return run


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(name, marks=[pytest.mark.long] * (name in ("opsd", "kdrl"))) for name in LOGGED],
)
def test_the_run_is_that_of_the_same_teacher_here(train, tmp_path, recipe):
    for where in ("here", "server"):
        done = train(recipe, where)
        assert done.returncode == 0, done.stderr
    assert "its FLOPs are not in ledger/model_flops" in done.stderr
    here, server = (
        read_metrics(tmp_path / where / "metrics.jsonl")[0] for where in ("here", "server")
    )
    for phase in (1, 2, 3):
        for name in LOGGED[recipe]:
            assert server[phase][name] == pytest.approx(here[phase][name], rel=2e-3, abs=1e-6)
        assert server[phase]["timing_s/ask"] > 0
        assert server[phase]["ledger/model_flops"] < here[phase]["ledger/model_flops"]
    if recipe != "rlsd":  # without a right answer there is no advantage to scale
        assert server[3]["actor/grad_norm"] > 0


@pytest.mark.parametrize("overlap", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_server_that_dies_costs_no_phase(train, tmp_path, expert, overlap):
    ahead = [
        "--config", "conf/recipe/truncated_importance_sampling.yaml",
        "--config", "conf/hardware/one_step_off.yaml",
    ] * overlap  # fmt: skip
    expert.rows_left = ROWS + 5  # in the midst of the second phase
    cut = train("opd", "server", *ahead, name="cut", timeout_s=5)  # which the run then waits
    assert cut.returncode == 5
    *_, saved, last = cut.stderr.splitlines()
    assert saved.startswith("phase 1 is saved; continue with: luffy-pl fit --resume")
    assert last.startswith("luffy-pl: error [5] model.frozen.teacher.url: no answer from http://")

    expert.rows_left = None
    assert train("opd", "server", "--resume", "true", *ahead, name="cut").returncode == 0
    if not overlap:  # else the phase after a resume is sampled from newer weights
        assert train("opd", "server", name="whole").returncode == 0
        assert differences(tmp_path / "whole", tmp_path / "cut") == []


def test_a_window_that_holds_no_row_of_the_run_is_refused(train, expert, monkeypatch):
    monkeypatch.setattr(expert, "window", 50)
    done = train("opd", "server")
    assert done.returncode == 2
    assert "expert takes rows of 49 tokens there, and the longest of the run has" in done.stderr
