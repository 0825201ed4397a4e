import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from luffy_pl.callbacks.samples import Samples, append_groups, group_table, write_groups
from luffy_pl.errors import printable
from luffy_pl.evaluation.answers import drop_incomplete
from luffy_pl.records import Group, Prompt, Response, Verdict
from luffy_pl.run_dir.read import read_lines


def group():
    def response(source, text, correct):
        verdict = Verdict(correct, "ok", "string", "3", "3")
        return Response(source, text, (1, 2), "stop", verdict)

    prompt = Prompt(id="a", text="1+2=?", token_ids=(1,), ground_truth="3")
    evil = "\x1b]8;;http://x\x07[red]no[/red]\x1b[2J"
    rows = (response("rollout", evil, False), response("expert", "so 3", True))
    return Group(prompt, rows, (0.0, 1.0))


def test_control_characters_and_markup_of_the_model_stay_text():
    console = Console(width=120, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(group_table(group(), phase=1))
    shown = capture.get()
    assert "\x1b" not in shown
    assert "[red]no[/red]" in shown
    assert "expert" in shown


def test_newlines_are_kept():
    assert (
        printable("a\nb\tc\x00", keep="\n")
        == "a\nb\N{REPLACEMENT CHARACTER}c\N{REPLACEMENT CHARACTER}"
    )


def test_one_line_per_response_with_its_advantage(tmp_path):
    write_groups(tmp_path / "p.jsonl", [group()], [{"advantage": -0.5}, {"advantage": 0.5}])
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [(x["source"], x["reward"], x["advantage"]) for x in lines] == [
        ("rollout", 0.0, -0.5),
        ("expert", 1.0, 0.5),
    ]
    assert lines[0]["verdict"]["status"] == "ok"


def drop_none(path, groups):
    """Written with a third answer cut off, and written again without it."""
    append_groups(path, groups)
    drop_incomplete(path, samples=2)


@pytest.mark.parametrize("write", [write_groups, append_groups, drop_none])
def test_half_a_surrogate_pair_is_written_as_json_spells_it(tmp_path, write):
    whole = group()
    texts = ("a\ud800b \\ud800 \N{GRINNING FACE}", "so 3")
    responses = [
        dataclasses.replace(response, text=text)
        for response, text in zip(whole.responses, texts, strict=True)
    ]
    path = tmp_path / "p.jsonl"
    write(path, [dataclasses.replace(whole, responses=tuple(responses))])
    path.read_bytes().decode("utf-8")
    assert tuple(line["response"] for line in read_lines(path)) == texts


def test_a_prompt_may_hold_console_markup():
    named = dataclasses.replace(group().prompt, text="[/red] is [b]bold[/b]?")
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(group_table(dataclasses.replace(group(), prompt=named), phase=1))
    assert "phase 1: [/red] is [b]bold[/b]?" in capture.get()


def test_files_and_tables_are_named_by_the_phases_trained(tmp_path, capsys):
    trainer = SimpleNamespace(is_global_zero=True, default_root_dir=tmp_path)
    experience = SimpleNamespace(phase=6, groups=(group(),), advantage_N=torch.tensor([-0.5, 0.5]))
    module = SimpleNamespace(phases_trained=7)
    samples = Samples(show_every_n_phases=7, token_values=False)
    samples.on_train_batch_end(trainer, module, {}, experience, 6)
    assert [path.name for path in (tmp_path / "rollouts").iterdir()] == ["phase-000007.jsonl"]
    assert "phase 7: 1+2=?" in capsys.readouterr().out
