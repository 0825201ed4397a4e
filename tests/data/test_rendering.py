"""Chat templates are rendered in a process that can be killed, exactly as transformers does it."""

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from byte_tokenizer import CHATML, byte_tokenizer

from luffy_pl.data import rendering
from luffy_pl.data.chat import Rendering, check_template_kwargs, with_template_defaults
from luffy_pl.data.rendering import RENDERER
from luffy_pl.errors import ConfigError, ModelError

TEMPLATES = Path(__file__).parents[2] / "conf" / "template"
SYSTEM = {"role": "system", "content": "Be <b>brief</b>."}
USER = {"role": "user", "content": "2+2?\n\tÄ 😀 {{ x }}"}
ASSISTANT = {"role": "assistant", "content": "4"}
CONVERSATIONS = [[USER], [SYSTEM, USER], [SYSTEM, USER, ASSISTANT, USER]]
OPENED = "{% if add_generation_prompt %}A:{% endif %}"
# The released form of Mistral: the user's turn ends with what opens the answer.
INST = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "[INST] {{ message['content'] }}[/INST]{% else %} {{ message['content'] }}{{ eos_token }}"
    "{% endif %}{% endfor %}"
)
# As Qwen3: an empty thought where thinking is turned off.
THINKING = (
    CHATML.removesuffix("{% endif %}")
    + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)

ALIKE = {
    "blocks": "  {% for m in messages %}\n    {{ m.role }}\n\n  {% endfor %}\n" + OPENED,
    "tojson": "{{ messages | tojson }}{{ messages | tojson(indent=2) }}" + OPENED,
    "tojson options": "{{ {'b': '<ä>', 'a': 1} | tojson(ensure_ascii=true, sort_keys=true) }}"
    + OPENED,
    "loop controls": "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}"
    "{{ m.content }}{% endfor %}" + OPENED,
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% endfor %}" + OPENED,
    "macro": "{% macro turn(m) %}[{{ m['role'] }}]{{ m.content | trim }}{% endmacro %}"
    "{% for m in messages %}{{ turn(m) }}{% endfor %}" + OPENED,
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
    "{% endfor %}{{ ns.n }}{{ messages[::-1][0].content }}" + OPENED,
    "nothing is given": "{{ tools is none }}{{ documents is none }}{{ absent is defined }}"
    "{{ absent }}" + OPENED,
    "special tokens": "{{ bos_token }}{{ eos_token }}{{ pad_token }}" + OPENED,
    "date": "{{ date_string }}{{ strftime_now('%%') }}" + OPENED,
    "split": "{{ messages[0].content.split('+')[0].strip() | upper }}" + OPENED,
    **{file.name: file.read_text() for file in sorted(TEMPLATES.iterdir())},
}


@pytest.mark.parametrize("name", ALIKE)
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_a_text_is_that_of_transformers(name, add_generation_prompt):
    tokenizer = byte_tokenizer(ALIKE[name])
    texts = Rendering(tokenizer).texts(CONVERSATIONS, add_generation_prompt=add_generation_prompt)
    assert texts == [
        tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            date_string="26 Jul 2024",
        )
        for messages in CONVERSATIONS
    ]


def test_a_template_among_several_is_the_default_one():
    tokenizer = byte_tokenizer({"tool_use": "x", "default": CHATML})
    assert Rendering(tokenizer).prompts([[USER]])[0].startswith("<|im_start|>user")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
        ("{{ 'x' * (10**10) }}", "more than 1 GiB of memory"),
        ("{% set ns = namespace(x='x') %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}"
         "{% endfor %}", "more than 1 GiB of memory"),
        ("{{ 'x' * 20000000 }}", "it writes 20000002 characters"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ messages[99].content.x }}", "list object has no element 99"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{{ raise_exception('Roles must alternate\nhere') }}", "Roles must alternate"),
        ("{% if %}", "Expected an expression"),
    ],
)  # fmt: skip
def test_a_template_that_fails_is_one_line(template, reason):
    with pytest.raises(ModelError) as caught:
        Rendering(byte_tokenizer(template + OPENED)).prompts([[SYSTEM, USER]], places=["a.json:1"])
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 4
    assert "cannot render the roles system, user (" in message
    assert reason in message
    assert "got 'a.json:1'" in message


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}x",
        # One operation in C, which no handler of Python's could interrupt.
        pytest.param("{{ (10 ** (10 ** 9)) % 7 }}", marks=pytest.mark.long),
    ],
)
@pytest.mark.runs
def test_a_template_that_does_not_end_is_stopped(monkeypatch, template):
    begun = time.process_time()
    with pytest.raises(ModelError, match=r"it takes more than 5 s of CPU time\)"):
        Rendering(byte_tokenizer(template + OPENED)).prompts([[USER]])
    assert time.process_time() - begun < 2  # not in this process
    assert Rendering(byte_tokenizer()).prompts([[USER]])  # and the next one is rendered


def test_the_conversation_that_fails_is_named():
    template = "{% if messages[0].content == 'no' %}{{ raise_exception('No') }}{% endif %}" + CHATML
    rows = [[USER], [USER], [{"role": "user", "content": "no"}], [USER]]
    with pytest.raises(ModelError, match=r"\(No\), got 'c'"):
        Rendering(byte_tokenizer(template)).prompts(rows, places="abcd")


def test_one_worker_renders_everything_and_is_replaced_when_it_dies():
    def workers():
        return {
            child.pid
            for child in psutil.Process().children()
            if child.status() != psutil.STATUS_ZOMBIE
            and "multiprocessing.spawn" in " ".join(child.cmdline())
        }

    RENDERER.close()
    others = workers()
    for _ in range(3):
        Rendering(byte_tokenizer()).prompts([[USER]] * 600)
    (worker,) = workers() - others
    os.kill(worker, signal.SIGKILL)
    with contextlib.suppress(psutil.NoSuchProcess):  # the pool has waited for it already
        while psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
    assert Rendering(byte_tokenizer()).prompts([[USER]])
    assert workers() - others != {worker}
    RENDERER.close()
    assert workers() == others


def test_a_worker_has_no_secrets(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "canary")
    RENDERER.close()
    Rendering(byte_tokenizer()).prompts([[USER]])
    assert RENDERER._pool.schedule(os.getenv, args=("HF_TOKEN",)).result() is None
    RENDERER.close()


def test_long_conversations_are_sent_in_parts(monkeypatch):
    monkeypatch.setattr(rendering, "CHARACTERS_PER_TASK", 10)
    whole = Rendering(byte_tokenizer()).prompts(CONVERSATIONS)
    monkeypatch.undo()
    assert whole == Rendering(byte_tokenizer()).prompts(CONVERSATIONS)
    assert Rendering(byte_tokenizer()).prompts([]) == []


@pytest.mark.parametrize(
    ("template", "opened"),
    [
        (INST, "[/INST]"),
        # A prompt for one turn, without any for the answer.
        ("Question: {{ messages[-1].content }}\nAnswer:", "Answer:"),
        ("{{ bos_token }}{% for m in messages if m.role == 'user' %}Q: {{ m.content }}\nA:"
         "{% endfor %}", "\nA:"),
    ],
)  # fmt: skip
def test_a_users_turn_may_open_the_answer(template, opened):
    (text,) = Rendering(byte_tokenizer(template)).prompts([[USER]])
    assert text.endswith(opened)


@pytest.mark.parametrize(
    "template",
    [
        # The finished turn has a header that the prompt lacks.
        CHATML.partition("{% if add_generation_prompt")[0],
        # Nothing behind the question.
        "{% for m in messages %}{{ m.content }}{% endfor %}",
        # The question is closed, and no answer shown.
        "{{ messages[0].content }}<|endoftext|>",
    ],
)
def test_a_template_in_which_nothing_opens_the_answer(template):
    with pytest.raises(ModelError, match="ignores add_generation_prompt"):
        Rendering(byte_tokenizer(template)).prompts([[USER]])


def test_kwargs_reach_the_template_and_have_to_be_read_by_it():
    tokenizer = byte_tokenizer(THINKING)
    off = {"enable_thinking": False}
    (text,) = Rendering(tokenizer, off).prompts([[USER]])
    assert text.endswith("assistant\n<think>\n\n</think>\n\n")
    assert text == tokenizer.apply_chat_template(
        [USER], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert Rendering(tokenizer).prompts([[USER]])[0].endswith("assistant\n")
    check_template_kwargs(tokenizer, off, where="here")
    with pytest.raises(ConfigError) as caught:
        check_template_kwargs(tokenizer, {**off, "thinking": True}, where="here")
    assert str(caught.value).startswith(
        "here: names something that the chat template does not read"
    )
    assert "got 'thinking'" in str(caught.value)
    assert "the template reads enable_thinking" in str(caught.value)
    with pytest.raises(ConfigError, match="every rendering brings"):
        check_template_kwargs(tokenizer, {"messages": []}, where="here")


def test_a_template_for_others_assumes_the_kwargs_of_the_run():
    tokenizer = byte_tokenizer("\n  {% if true %}\nx{% endif %}" + THINKING)
    kwargs = {"enable_thinking": False, "more": {"a": [None, "q'\n"]}}
    changed = with_template_defaults(tokenizer, kwargs)

    def text(one, **given):
        return one.apply_chat_template([USER], tokenize=False, add_generation_prompt=True, **given)

    assert text(changed) == text(tokenizer, **kwargs)
    assert text(changed, enable_thinking=True) == text(tokenizer)
    assert with_template_defaults(tokenizer, None) is tokenizer
