"""A short run, exported: the same logits in transformers and in vLLM, and a card that tells."""

import contextlib
import hashlib
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from recipes.small_runs import SMALL
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from luffy_pl.bundled import resolve
from luffy_pl.chat.opened import Wanted, open_model
from luffy_pl.model.card import changed, hub_data_set, license_of, on_hub
from luffy_pl.model.weights import policy_state
from luffy_pl.policy.lora import LoraConfig
from luffy_pl.policy.policy import load_policy
from luffy_pl.policy.settings import PolicyConfig


def fit_small(folder, *more):
    """Two phases of the quickstart, an evaluation of 8 problems, both checkpoints kept."""
    from luffy_pl.cli import main

    benchmark = '[{"name": "heldout", "source": {"path": "bundled:heldout.jsonl", "limit": 8}}]'
    args = [
        "fit", "--config", "conf/quickstart.yaml", *SMALL, "--data.benchmarks", benchmark,
        "--data.rollout.num_phases", "2", "--checkpoint.every_n_phases", "1",
        "--evaluation.before_training", "false", "--run_dir", folder, *more,
    ]  # fmt: skip
    assert main([str(arg) for arg in args]) == 0
    return folder


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return fit_small(tmp_path_factory.mktemp("export") / "small")


@pytest.fixture(scope="module")
def exported(run_dir, tmp_path_factory):
    return export(run_dir, tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory):
    lora = ["--config", "conf/hardware/lora.yaml", "--model.optimizer.lr", "0.01"]
    return fit_small(tmp_path_factory.mktemp("export") / "lora", *lora)


@pytest.fixture(scope="module")
def merged(lora_run, tmp_path_factory):
    return export(lora_run, tmp_path_factory.mktemp("exported") / "merged")


def export(run, out):
    from luffy_pl.cli import main

    assert main(["export", str(run), "--out", str(out)]) == 0
    return out


def logits(model):
    ids = torch.arange(5, 25)[None] % model.config.vocab_size
    with torch.inference_mode():
        return model(ids).logits


def test_the_folder_holds_the_trained_weights(run_dir, exported):
    model = AutoModelForCausalLM.from_pretrained(exported)
    trained = policy_state((run_dir / "checkpoints" / "last.ckpt").resolve())
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, trained[name]), name
    base = AutoModelForCausalLM.from_pretrained(resolve("bundled:base"))
    assert not torch.equal(logits(model), logits(base))
    base.load_state_dict(trained)
    assert torch.equal(logits(model), logits(base))


def test_others_may_read_the_weights_as_they_may_the_settings(exported):
    modes = {file.stat().st_mode for file in exported.glob("*.safetensors")}
    assert modes == {(exported / "config.json").stat().st_mode}


def test_adapters_are_merged(lora_run, merged):
    """The folder is a plain model that computes what base and adapters did."""
    assert not any("adapter" in file.name for file in merged.iterdir())
    model = AutoModelForCausalLM.from_pretrained(merged).double()
    plain = AutoModelForCausalLM.from_pretrained(resolve("bundled:base")).double()
    assert list(model.state_dict()) == list(plain.state_dict())

    lora = LoraConfig(rank=16, alpha=32.0)
    policy = load_policy(PolicyConfig("bundled:base", lora=lora), resolve("bundled:base"))
    trained = policy_state((lora_run / "checkpoints" / "last.ckpt").resolve())
    policy.language_model.load_state_dict(trained)
    policy.language_model.set_attn_implementation("sdpa")
    wanted = logits(policy.double().language_model)
    torch.testing.assert_close(logits(model), wanted, rtol=0, atol=1e-5)
    assert (wanted - logits(plain)).abs().max() > 1e-2
    assert "adapters of rank 16" in (merged / "README.md").read_text()


def test_tokenizer_template_and_ends_are_those_of_the_run(exported):
    tokenizer = AutoTokenizer.from_pretrained(exported)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "2+2=?"}], tokenize=False, add_generation_prompt=True
    )
    assert prompt == "<user>2+2=?<assistant><think>"
    assert GenerationConfig.from_pretrained(exported).eos_token_id == tokenizer.eos_token_id
    assert {"config.json", "chat_template.jinja", "curves.png", "training_config.yaml"} <= {
        file.name for file in exported.iterdir()
    }


def test_the_card_tells_results_data_and_settings(exported):
    card = (exported / "README.md").read_text()
    train = Path(resolve("bundled:train.jsonl"))
    digest = hashlib.sha256(train.read_bytes()).hexdigest()
    assert f"| training | bundled:train.jsonl | {digest} |" in card
    assert "| heldout | 8 | 1 | avg@k |" in card
    assert "| data.rollout.num_phases | 2 |" in card
    assert "of `luffy-pl fit` by recipe `luffy`" in card
    assert "| model.optimizer.lr | 0.0002 |" in card
    assert "adapters" not in card
    # A default that nobody touched, and where it ran.
    assert "max_grad_norm" not in card
    assert "run_dir |" not in card
    assert str(exported.parent) not in card


def blocks(card, language):
    """Blocks of code of a card."""
    return re.findall(rf"^```{language}\n(.*?)^```", card, re.MULTILINE | re.DOTALL)


@pytest.fixture
def chat(command_line, monkeypatch):
    """Answers of `luffy-pl chat ARGS` to a text on standard input."""

    def ask(text, *args):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        done = command_line("chat", *args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return ask


def test_the_front_matter_is_what_the_hub_reads(exported):
    _, front, _ = (exported / "README.md").read_text().split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["license"] == "apache-2.0"
    assert front["pipeline_tag"] == "text-generation"
    # A name that is none of the hub's would be refused there.
    assert not {"base_model", "datasets"} & front.keys()


def test_names_of_the_hub_and_licenses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local" / "base").mkdir(parents=True)
    assert [on_hub(name) for name in ("Qwen/Qwen2.5-Math-7B", "local/base", "bundled:base")] == [
        True, False, False,
    ]  # fmt: skip
    assert hub_data_set("openai/gsm8k:main") == "openai/gsm8k"
    assert hub_data_set("data/train.jsonl.of.mine/x") is None
    card = tmp_path / "local" / "base" / "README.md"
    for text, license in (
        ("---\nlicense: mit\nlanguage: en\n---\n# Base", "mit"),
        ("---\nlicense: [a, b]\n---\n", "unknown"),
        ("---\nlicense: 'a\n  base_model: evil'\n---\n", "unknown"),
        ("# Base", "unknown"),
    ):
        card.write_text(text)
        assert license_of("local/base") == license, text


def test_a_cell_of_the_settings_holds_one_value(exported):
    table = (exported / "README.md").read_text().partition("## Settings")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert "| entropy.watched.opener | so, then, now, next |" in rows
    assert not any(sign in row for row in rows for sign in ("{'", "'}", "[", "]"))
    # Neither of Lightning, nor of sections, nor lists: defaults are no rows.
    names = [row.split()[1] for row in rows]
    assert "data.train.path" in names
    assert not {"trainer.max_steps", "trainer.num_sanity_val_steps", "data.advantage.kind",
                "data.train.schema", "data.reward.forms", "loggers"} & set(names)  # fmt: skip
    assert list(changed({"a": [1, 2]}, {"a": (1, 2)})) == []
    nested = {"a": {"b": [{"name": "x", "of": {"c": [1, 2]}}, {"name": "y"}], "d": []}}
    assert list(changed(nested, {"a.d": None})) == [
        ("a.b[0].name", "x"), ("a.b[0].of.c", "1, 2"), ("a.b[1].name", "y"), ("a.d", "none"),
    ]  # fmt: skip


def test_the_commands_of_the_card_work(exported, command_line, chat, monkeypatch):
    """In the folder, as it says; that the server answers: traces/test_vllm_endpoint.py."""
    from luffy_pl.rollout import serve

    card = (exported / "README.md").read_text()
    question, prompt = "2+3=?", "<user>2+3=?<assistant><think>"
    assert re.findall(r"~~~~text\n(.*?)\n~~~~", card, re.DOTALL) == [prompt]
    assert f'"content": "{question}"' in card
    talk, serving, again = "".join(blocks(card, "bash")).splitlines()
    said = chat(
        f"{question}\n", *in_folder(talk, exported)[1:], "--engine", "hf", "--temperature", "0"
    )
    [program] = blocks(card, "python")
    monkeypatch.chdir(exported)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(program, {})
    assert printed.getvalue().removesuffix("\n").removesuffix("<eos>") == said.removesuffix("\n")
    execs = []
    monkeypatch.setattr(serve.os, "execv", lambda *args: execs.append(args))
    monkeypatch.setattr(serve, "check_vllm", lambda where: None)
    monkeypatch.setattr(serve, "environment", lambda args: {})
    command_line(*in_folder(serving, exported))
    [(_, words)] = execs
    assert words[words.index("--model") + 1] == str(exported)
    done = command_line(*in_folder(again, exported), "--dry_run", "true")
    assert done.returncode == 0, done.stderr


def in_folder(command, folder):
    """Arguments of a command that is given in a folder, for one that is given elsewhere."""
    program, *words = shlex.split(command)
    assert program == "luffy-pl"
    return [str(folder / word) if (folder / word).exists() else word for word in words]


@pytest.mark.parametrize(("run", "model"), [("run_dir", "exported"), ("lora_run", "merged")])
def test_a_run_and_its_export_talk_alike(request, chat, run, model):
    """As it was trained, and not as its base."""
    run, model = (request.getfixturevalue(name) for name in (run, model))
    one, other, base = (
        open_model(str(of), Wanted(kind="hf")) for of in (run, model, "bundled:base")
    )
    assert {name: weight.dtype for name, weight in weights(one).items()} == {
        name: weight.dtype for name, weight in weights(other).items()
    }
    for name, weight in weights(one).items():
        torch.testing.assert_close(weight, weights(other)[name], rtol=0, atol=1e-6)
    assert not all(
        torch.equal(weight, weights(base)[name]) for name, weight in weights(one).items()
    )
    assert one.stop_token_ids == other.stop_token_ids
    assert one.tokenizer.chat_template == other.tokenizer.chat_template
    assert (one.max_model_len, other.max_model_len) == (96, 256)
    asked = ["27-6=?\n3+4=?\n", "--engine", "hf", "--temperature", "2", "--max-model-len", "96"]
    of_run, of_model = (chat(asked[0], of, *asked[1:]).splitlines()[-2:] for of in (run, model))
    assert of_run == of_model


def weights(opened):
    return opened.engine.model.state_dict()


def test_an_earlier_phase_talks(run_dir):
    first, last, newest = (
        weights(open_model(f"{run_dir}{at}", Wanted(kind="hf"))) for at in ("@1", "@2", "")
    )
    assert all(torch.equal(weight, newest[name]) for name, weight in last.items())
    assert not all(torch.equal(weight, newest[name]) for name, weight in first.items())


def test_a_base_that_has_changed_is_named(run_dir, tmp_path, command_line, byte_model):
    moved = tmp_path / "run"
    shutil.copytree(run_dir, moved, symlinks=True)
    config = yaml.safe_load((moved / "config.yaml").read_text())
    config["model"]["policy"]["path"] = str(byte_model)
    (moved / "config.yaml").write_text(yaml.safe_dump(config))
    done = command_line("chat", moved, "--engine", "hf")
    assert done.returncode == 4
    assert "the run's base model has changed since" in done.stderr


def test_an_earlier_phase(run_dir, command_line, tmp_path):
    done = command_line("export", f"{run_dir}@1", "--out", tmp_path / "one", "--dtype", "bfloat16")
    assert done.returncode == 0, done.stderr
    assert "phase 1 of" in done.stdout
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    assert model.dtype == torch.bfloat16
    done = command_line("export", f"{run_dir}@7", "--out", tmp_path / "seven")
    assert done.returncode == 8
    assert "no checkpoint of phase 7" in done.stderr
    assert "phase-000001, phase-000002" in done.stderr


def test_shards_are_put_together(run_dir, tmp_path):
    from torch.distributed import checkpoint as dcp

    file = (run_dir / "checkpoints" / "last.ckpt").resolve()
    state = torch.load(file, weights_only=True)["state_dict"]
    optimizer = {"state": {"0": torch.ones(3)}}
    dcp.save({"state_dict": state, "optimizer_0": optimizer}, checkpoint_id=tmp_path / "shards")
    whole, shards = policy_state(file), policy_state(tmp_path / "shards")
    assert whole.keys() == shards.keys()
    assert all(torch.equal(whole[name], shards[name]) for name in whole)


def test_push_uploads_the_folder(run_dir, command_line, tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    class Api:
        def create_repo(self, repository, **more):
            asked.append((repository, more))

        def upload_folder(self, *, folder_path, repo_id):
            asked.append(sorted(file.name for file in folder_path.iterdir()))
            return f"https://hub/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    done = command_line("export", run_dir, "--out", tmp_path / "out", "--push", "me/small")
    assert done.stdout.endswith("https://hub/me/small\n")
    assert asked[0] == ("me/small", {"private": True, "exist_ok": True})
    assert "model.safetensors" in asked[1]


def test_mistakes_are_one_line(run_dir, command_line, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for args, says in (
        ((tmp_path, "--out", tmp_path / "x"), "has no usable config.yaml"),
        ((f"{run_dir}@best", "--out", tmp_path / "x"), "has no phase behind @"),
        ((run_dir, "--out", tmp_path / "full"), "is not empty"),
    ):
        done = command_line("export", *args)
        assert done.returncode in (2, 8)
        assert says in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("which", ["exported", pytest.param("merged", marks=pytest.mark.long)])
def test_vllm_gives_the_same_logprobs(which, request):
    exported = request.getfixturevalue(which)
    from luffy_pl.rollout.engine import EngineConfig
    from luffy_pl.rollout.probe import probe_completions
    from luffy_pl.rollout.vllm_engine import VllmEngine

    tokenizer = AutoTokenizer.from_pretrained(exported)
    prompt = tokenizer("<user>2+3-1=?<assistant><think>", add_special_tokens=False).input_ids
    engine = VllmEngine(
        str(exported), EngineConfig(max_model_len=96), stop_token_ids=[tokenizer.eos_token_id]
    )
    model = AutoModelForCausalLM.from_pretrained(exported)
    for sample in probe_completions(engine, prompt, temperature=1.0, seed=0):
        ids = torch.tensor([[*prompt, *sample.token_ids]])
        found = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        expected = found.gather(-1, ids[0, len(prompt) :, None])[:, 0]
        assert sample.logprobs == pytest.approx(expected.tolist(), abs=1e-5)
