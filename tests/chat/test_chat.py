"""`luffy-pl chat`: turns, pieces, pipes and mistakes. Of a run: tests/model/test_export.py."""

import io
import json
import shutil

import pytest
import torch
from byte_tokenizer import byte_tokenizer
from transformers import AutoTokenizer

from luffy_pl.bundled import resolve
from luffy_pl.chat import command
from luffy_pl.chat.dialogue import ChatOptions, Dialogue, decoded, opened_by
from luffy_pl.chat.opened import Opened
from luffy_pl.errors import ConfigError, DataError

EOS = 1
GREEDY = ["--engine", "hf", "--temperature", "0"]


class Saying:
    """An engine that says what it is told, and remembers what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked, self.was_closed = list(answers), [], []

    def stream(self, request, *, sampling):
        self.asked.append(request)
        try:
            for token in self.answers.pop(0):
                if token == "Ctrl-C":
                    raise KeyboardInterrupt
                yield token
        finally:
            self.was_closed.append(True)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(resolve("bundled:base"))


@pytest.fixture
def conversation(tokenizer):
    def begin(*answers, window=96, **options):
        ids = [[*tokenizer(text, add_special_tokens=False).input_ids, *more]
               for text, *more in answers]  # fmt: skip
        model = Opened("test", Saying(*ids), tokenizer, (EOS,), None, window)
        return Dialogue(model, ChatOptions(**options))

    return begin


@pytest.fixture
def piped(command_line, monkeypatch):
    """`luffy-pl chat ARGS` with a text on standard input."""

    def run(text, *args):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        return command_line("chat", *args)

    return run


def test_the_next_prompt_holds_what_was_said(conversation, tokenizer):
    """As a trace is written: the `<think>` that the template opened belongs to the answer."""
    talk = conversation(("so27-6=21</think>21", EOS), ("so3+4=7</think>7", EOS))
    assert "".join(talk.answer("27-6=?")) == "so27-6=21</think>21"
    assert "".join(talk.answer("3+4=?")) == "so3+4=7</think>7"
    first, second = (tokenizer.decode(one.token_ids) for one in talk.model.engine.asked)
    assert first == "<user>27-6=?<assistant><think>"
    assert second == (
        "<user>27-6=?<assistant><think>so27-6=21</think>21<eos><user>3+4=?<assistant><think>"
    )
    assert not talk.was_cut
    talk.begin_again()
    assert talk.messages == []


def test_turns_have_seeds_and_room_of_their_own(conversation):
    talk = conversation(("so", EOS), ("so", EOS), window=40, seed=5, max_tokens=30)
    for _ in range(2):
        list(talk.answer("27-6=?"))
    first, second = talk.model.engine.asked
    assert (first.seeds, second.seeds) == ((5,), (7,))
    assert (first.max_tokens, second.max_tokens) == (30, 40 - len(second.token_ids))


def test_a_full_window_keeps_what_was_said_before(conversation):
    talk = conversation(("so", EOS), window=14)
    list(talk.answer("27-6=?"))
    said = list(talk.messages)
    with pytest.raises(DataError, match="more tokens than the model's window"):
        list(talk.answer("27-6=?"))
    assert talk.messages == said


def test_a_word_that_the_model_does_not_know_is_no_end(conversation):
    talk = conversation(("so27-6=21</think>21", EOS))
    with pytest.raises(DataError, match="no token for a part of the message, got 'hello'"):
        list(talk.answer("hello"))
    assert talk.messages == []
    assert "".join(talk.answer("27-6=?")) == "so27-6=21</think>21"


def test_an_answer_that_is_stopped_or_cut_stays_in_the_conversation(conversation, capsys):
    talk = conversation(("so27", "Ctrl-C"), ("so3",))
    command.answer(talk, "27-6=?")
    assert talk.messages[-1] == {"role": "assistant", "content": "<think>so27"}
    command.answer(talk, "3+4=?")
    assert talk.was_cut
    assert talk.model.engine.was_closed == [True, True]
    captured = capsys.readouterr()
    assert captured.out == "so27\nso3\n"
    assert captured.err.splitlines() == ["[the answer was cut off]"] * 2


def test_characters_of_several_tokens_come_whole():
    tokenizer = byte_tokenizer()
    text = "a é 🙂 b"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert len(ids) > len(text)

    def decode(some):
        return tokenizer.decode(some, clean_up_tokenization_spaces=False)

    assert list(decoded(iter(ids), decode)) == list(text)
    assert "".join(decoded(iter(ids[:-2]), decode)) == "a é 🙂"
    assert "".join(decoded(iter(ids[:-3]), decode)) == "a é \ufffd"


def test_what_the_template_opens():
    assert opened_by("User: 2+2\nAssistant: <think>\n") == "<think>\n"
    assert opened_by("<user>say <think> twice<assistant>") == ""


def test_model_text_moves_no_cursor(conversation, capsys, monkeypatch):
    talk = conversation(("so", EOS))
    monkeypatch.setattr(talk, "_decode", lambda ids: "\x1b[2J\rline\n" if ids else "")
    command.answer(talk, "27-6=?")
    assert capsys.readouterr().out == "\ufffd[2J\ufffdline\n\n"


def test_lines_are_messages():
    lines = ["one", "", "two\\", "lines", "  ", "end\\"]
    assert list(command.messages(iter(lines))) == ["one", "two\nlines", "end\n"]


def test_a_terminal_asks_until_it_is_left(monkeypatch, capsys):
    said = iter(["one\\", "two", KeyboardInterrupt()])
    prompts = []

    def ask(prompt):
        prompts.append(prompt)
        line = next(said)
        if isinstance(line, BaseException):
            raise line
        return line

    monkeypatch.setattr("builtins.input", ask)
    assert list(command.messages(command.lines(is_terminal=True))) == ["one\ntwo"]
    assert prompts == ["> ", "... ", "> "]


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -0.1), ("temperature", float("nan")), ("top_p", 0.0), ("seed", -1),
     ("max_tokens", 0)],
)  # fmt: skip
def test_options_have_bounds(name, value):
    with pytest.raises(ConfigError, match=f"chat.{name}"):
        ChatOptions(**{name: value})


def test_a_pipe_gets_the_answers_alone(piped):
    """The base knows one step; a new conversation forgets the first."""
    done = piped("27-6=?\n/new\n41+9-2-8+5=?\n/quit\n3+4=?\n", "bundled:base", *GREEDY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "so27-6=21</think>\\boxed{21}", "so41+9=50</think>\\boxed{50}",
    ]  # fmt: skip
    assert "bundled:base: Hf, float32; " in done.stderr


def test_a_seed_repeats_a_conversation(piped):
    wild = ["bundled:base", "--engine", "hf", "--temperature", "2", "--max-model-len", "64"]
    one, same, other = (piped("27-6=?\n", *wild, "--seed", seed) for seed in ("1", "1", "2"))
    assert one.stdout == same.stdout != other.stdout


def test_mistakes_are_one_line(piped, tmp_path):
    for args, code, says in (
        ([tmp_path], 4, "no tokenizer can be loaded"),
        ([f"{tmp_path}@best"], 2, "has no phase behind @"),
        (["bundled:bass"], 2, "did you mean bundled:base?"),
        (["bundled:base", *GREEDY, "--system", "Be kind."], 4, "cannot render the roles system"),
        (["bundled:base", *GREEDY, "--max-model-len", "5"], 3, "more tokens than"),
    ):
        done = piped("27-6=?\n", *args)
        assert (done.returncode, says in done.stderr) == (code, True), done.stderr
        assert "Traceback" not in done.stderr


def test_code_beside_the_weights_is_not_run(piped, tmp_path):
    """Neither the model's nor what a run's configuration names."""
    folder, trap = tmp_path / "model", tmp_path / "was_run"
    shutil.copytree(resolve("bundled:base"), folder)
    settings = json.loads((folder / "config.json").read_text())
    settings |= {
        "model_type": "theirs",
        "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"},
    }
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "own.py").write_text(f"open({str(trap)!r}, 'w')\n")
    done = piped("27-6=?\n", folder, *GREEDY)
    assert done.returncode == 4, done.stderr
    assert not trap.exists()


def test_weights_of_half_precision_stay_as_they_are(tmp_path):
    from transformers import AutoModelForCausalLM

    from luffy_pl.chat.opened import stored_dtype

    assert stored_dtype(resolve("bundled:base")) == "float32"
    base = AutoModelForCausalLM.from_pretrained(resolve("bundled:base"), dtype=torch.bfloat16)
    base.save_pretrained(tmp_path)
    assert stored_dtype(str(tmp_path)) == "bfloat16"
