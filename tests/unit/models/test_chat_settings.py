"""`corpus.chat_template`, dates in templates, templates that fail, and what a template drops."""

from __future__ import annotations

import datetime
import locale
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fishersft.data.examples import Conversation
from fishersft.errors import InputError
from fishersft.models import chat
from fishersft.models.chat import ChatTemplate, chat_template_text
from fishersft.models.fixed_date import DIRECTIVES
from fishersft.models.tokenising import Tokeniser
from tests.unit.models.reference import byte_tokenizer, freeze, loss_text, ours, template
from tests.unit.models.test_chat_templates import CALLS, TOOLS, conversation, says, user

PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
GENERATING = "{% if add_generation_prompt %}<assistant>{% endif %}"


def test_the_setting_names_a_file_or_a_built_in_template(tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text(PLAIN)
    assert chat_template_text(str(tmp_path / "mine.jinja")) == PLAIN
    assert chat_template_text("qwen3") == template("qwen3")


def test_an_unknown_name_lists_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r"'qwen33' is neither .* built in are: cohere, .*qwen3, .*smolvlm"):
        chat_template_text("qwen33")


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jinja: cannot read the file: .*No such file"):
        chat_template_text(str(tmp_path / "none.jinja"))
    (tmp_path / "bytes.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot read the file: 'utf-8' codec"):
        chat_template_text(str(tmp_path / "bytes.jinja"))


def test_without_trl_turns_are_found_by_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "find_spec", lambda name: None)
    tokenise = Tokeniser(byte_tokenizer(template("llama3")), 1000)
    assert loss_text(tokenise, conversation("several turns")) == "b<|eot_id|>|d<|eot_id|>"
    with pytest.raises(InputError, match="built in are: none, as TRL is not installed"):
        chat_template_text("qwen3")


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        (
            "{% for i in range(10 ** 12) %}{{ i }}{% endfor %}",
            "does not render a conversation of plain text: .*Range too big",
        ),
        ("{{ ''.__class__.__mro__ }}", "does not render a conversation of plain text: .*__class__.* unsafe"),
        ("{{ messages[0].content.no.such }}", "does not render a conversation of plain text: .*has no attribute 'no'"),
        ("{{ 1 // 0 }}", "does not render a conversation of plain text: .*division.* by zero"),
        ("{{ 'a' * 10 ** 15 }}", "does not render a conversation of plain text: .*MemoryError"),
        ("{{ cycler() }}", "does not render a conversation of plain text: .*at least one item"),
        (
            "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
            "does not render a conversation of plain text: .*recursion",
        ),
        ("{% include 'other' %}", "does not render a conversation of plain text: .*no loader"),
        (
            "{{ raise_exception('roles must alternate') }}",
            "does not render a conversation of plain text: .*roles must alternate",
        ),
        ("one\n{% for m in messages %}", "has a syntax error in line 2: .*endfor"),
        ("{{ 'constant' }}", "leaves out a message whose content is plain text"),
    ],
)
def test_a_template_that_fails_says_why(hostile: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Tokeniser(byte_tokenizer(hostile), 100)(conversation("single turn"))


def test_a_tokenizer_with_several_templates_needs_a_default_one() -> None:
    tokenizer = byte_tokenizer(PLAIN + GENERATING)
    tokenizer.chat_template = {"default": PLAIN + GENERATING, "tool_use": "TOOLS " + PLAIN + GENERATING}
    tokenise = Tokeniser(tokenizer, 100)
    assert tokenise.chat.render([user("a")]) == "<user>a<end>"
    assert tokenise.chat.render([user("a")], TOOLS) == "TOOLS <user>a<end>"
    assert loss_text(tokenise, Conversation((user("a"), says("b")), TOOLS)) == "b<end>"
    tokenizer.chat_template = {"rag": PLAIN}
    with pytest.raises(InputError, match=r"multiple chat templates with no default.*set corpus.chat_template"):
        Tokeniser(tokenizer, 100)(conversation("single turn"))


@pytest.mark.parametrize("name", ["gptoss", "llama3_1", "llama3_2", "muse_glimmer"])
def test_tokens_are_the_same_on_two_days(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = []
    for day in ((2025, 1, 2), (2031, 11, 30)):
        freeze(monkeypatch, *day)
        tokens.append(ours(Tokeniser(byte_tokenizer(template(name)), 10_000), conversation("several turns")))
    assert tokens[0] == tokens[1]


def test_every_directive_prints_what_it_would_at_noon_of_the_fixed_day(monkeypatch: pytest.MonkeyPatch) -> None:
    assert locale.setlocale(locale.LC_TIME) in ("C", "C.UTF-8", "en_US.UTF-8")
    noon = datetime.datetime(2024, 7, 26, 12)
    freeze(monkeypatch, 2031, 11, 30)
    for form in [*DIRECTIVES, "%d %b %Y", "%Y-%m-%d", "%A, %-d. %B %Y at %H:%M", "no directive"]:
        dated = ChatTemplate(byte_tokenizer("{{ strftime_now('" + form + "') }}|" + PLAIN))
        assert dated.render([user("a")]) == f"{noon.strftime(form)}|<user>a<end>"


def test_a_template_that_prints_the_date_is_told_from_one_that_does_not() -> None:
    dated = {name for name in ("gptoss", "llama3_2", "llama3_1", "qwen3") if _prints_date(name)}
    assert dated == {"gptoss", "llama3_2"}


def _prints_date(name: str) -> bool:
    return Tokeniser(byte_tokenizer(template(name)), 100).prints_date


def test_threads_render_the_same_template_at_once() -> None:
    tokenise = Tokeniser(byte_tokenizer(template("qwen3")), 1000)
    examples = [conversation("several turns")] * 200
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(tokenise.many, [examples] * 8))
    assert results == [[tokenise(examples[0])] * 200] * 8


REASONED = Conversation((user("a"), says("b", reasoning_content="hm")))
CALLED = Conversation((user("a"), says("", tool_calls=CALLS)), TOOLS)


@pytest.mark.parametrize(
    ("name", "example", "left_out"),
    [
        ("qwen2_5", REASONED, ("reasoning_content",)),
        ("qwen3", REASONED, ()),
        ("qwen2_5", Conversation((user("a"), says("b", thinking="hm"))), ("reasoning_content",)),
        ("llama3", CALLED, ("tool_calls", "tools")),
        ("lfm2", CALLED, ("tool_calls",)),
        ("qwen2_5", CALLED, ()),
        ("deepseekv3", CALLED, ("tools",)),
        ("llama3", conversation("single turn"), ()),
    ],
)
def test_what_a_template_drops_is_said(name: str, example: Conversation, left_out: tuple[str, ...]) -> None:
    tokenise = Tokeniser(byte_tokenizer(template(name)), 1000)
    assert tokenise.left_out(example) == left_out
