"""The prompt templates of conf/template, letter by letter."""

from pathlib import Path

import pytest

from luffy_pl.data.chat import render_prompt, with_chat_template

FOLDER = Path(__file__).parents[2] / "conf" / "template"
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]

RENDERED = {
    "qwen": (
        "<|im_start|>system\n"
        "Please reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
        "<|im_start|>user\n2+2?<|im_end|>\n"
        "<|im_start|>assistant\n"
    ),
    "simplerl": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n2+2?\n"
        "Please reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
        "<|im_start|>assistant\n"
    ),
    "prime": (
        "A conversation between User and Assistant. The user asks a question, and the Assistant "
        "solves it. The assistant first thinks about the reasoning process in the mind and then "
        "provides the user with the answer. The reasoning process and answer are enclosed within "
        "<think> </think> and <answer> </answer> tags, respectively, i.e., <think> reasoning "
        "process here </think> <answer> answer here </answer>. User: 2+2?\n\n"
        "Present the answer in LaTex format: \\boxed{Your answer}. Assistant:"
    ),
    "prime_sft": (
        "<|im_start|>user\n2+2?\n\n"
        "Present the answer in LaTex format: \\boxed{Your answer}<|im_end|>\n"
        "<|im_start|>assistant\n"
    ),
    "none": "2+2?",
    "think": "Be brief.\nUser: This is the problem:\n2+2?\nAssistant: <think>\n",
    "step_by_step": "Be brief.\n2+2?\nAnswer: Let's think step by step.",
}


def test_every_template_has_its_rendering_here():
    assert {file.stem for file in FOLDER.iterdir()} == set(RENDERED)


@pytest.mark.parametrize("name", RENDERED)
def test_template(tokenizer, name):
    templated = with_chat_template(tokenizer, str(FOLDER / f"{name}.jinja"))
    assert render_prompt(templated, MESSAGES) == RENDERED[name]
