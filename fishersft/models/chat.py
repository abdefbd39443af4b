"""Conversations as text through a chat template, and which part of the text the assistant says."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from fishersft.errors import InputError
from fishersft.models.assistant_spans import Message, Span, assistant_spans

FIXED_DATE = "26 Jul 2024"  # what Llama's templates print where they know no date
_FIXED_DIRECTIVES = {
    "%Y": "2024",
    "%y": "24",
    "%m": "07",
    "%b": "Jul",
    "%B": "July",
    "%d": "26",
    "%-d": "26",
    "%e": "26",
    "%j": "208",
    "%a": "Fri",
    "%A": "Friday",
    "%H": "12",
    "%I": "12",
    "%M": "00",
    "%S": "00",
    "%p": "PM",
    "%F": "2024-07-26",
    "%D": "07/26/24",
    "%T": "12:00:00",
}
# A macro, because transformers passes no functions on to a template.
_FIXED_CLOCK = (
    "{%- macro strftime_now(format) -%}{{- format"
    + "".join(f" | replace({directive!r}, {value!r})" for directive, value in _FIXED_DIRECTIVES.items())
    + " -}}{%- endmacro -%}{{- '' }}"
)
# What a template, which may hold any expression, can raise beside Jinja's own errors.
_TEMPLATE_ERRORS = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
_PROBE = "Zebra 7"


def chat_template_text(setting: str) -> str:
    """The chat template that `corpus.chat_template` names: a file's, or one of those that TRL carries.

    Raises:
        InputError: there is no such file or name.
    """
    path = Path(setting).expanduser()
    if path.suffix in (".jinja", ".j2") or os.sep in setting:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"corpus.chat_template {setting}: cannot read the file: {error}") from error
    built_in = _built_in_templates()
    if setting not in built_in:
        raise InputError(
            f"corpus.chat_template {setting!r} is neither a .jinja file nor a built-in template; built in are: "
            f"{', '.join(sorted(built_in)) or 'none, as TRL is not installed'}"
        )
    return built_in[setting].read_text(encoding="utf-8")


def _built_in_templates() -> dict[str, Path]:
    trl = find_spec("trl")
    if trl is None or trl.origin is None:
        return {}
    return {file.stem: file for file in (Path(trl.origin).parent / "chat_templates").glob("*.jinja")}


class ChatTemplate:
    """A tokenizer's chat template, as training uses it.

    Which text the loss counts comes from the template's `{% generation %}` marks: its own, or those of the training
    variant that TRL has of it, which TRL's `SFTTrainer` would take. Where there are neither, it comes from comparing
    renderings, see `assistant_spans`. Dates are rendered as of `FIXED_DATE`, so that tokens do not change every day.

    Args:
        tokenizer: with a chat template.

    Raises:
        InputError: it has no chat template, or one that does not render a plain conversation.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.chat_template:
            raise InputError(
                "the examples are conversations, but the model's tokenizer has no chat template; set "
                "corpus.chat_template (such as qwen3, or a .jinja file), or use a chat model"
            )
        self._tokenizer: Any = tokenizer
        self._training = _training_template(tokenizer)
        self._check_shows_content()

    @property
    def prints_date(self) -> bool:
        """Whether the template asks for the date."""
        return "strftime_now" in (self._training or self._template(None, None))

    def render(
        self,
        messages: Sequence[Message],
        tools: list[dict[str, Any]] | None = None,
        variables: dict[str, Any] | None = None,
        generation_prompt: bool = False,
    ) -> str:
        """The text of a conversation through the tokenizer's own template.

        Args:
            messages: at least one.
            tools: JSON schemas of functions.
            variables: further variables of the template.
            generation_prompt: end with what makes the assistant speak.

        Raises:
            InputError: the template refuses the conversation.
        """
        return self._rendered(messages, tools, variables, None, generation_prompt)[0]

    def render_for_training(
        self, messages: Sequence[Message], tools: list[dict[str, Any]] | None, variables: dict[str, Any] | None
    ) -> tuple[str, list[Span]]:
        """The text that a model is trained on, and the spans in it that each of the assistant's messages wrote.

        Raises:
            InputError: the template refuses the conversation, or does not tell what the assistant says.
        """
        text, spans = self._rendered(messages, tools, variables, self._training, False)
        if spans is None:
            spans = self.assistant_spans(messages, tools, variables, text)
        return text, spans

    def assistant_spans(
        self,
        messages: Sequence[Message],
        tools: list[dict[str, Any]] | None,
        variables: dict[str, Any] | None,
        text: str,
    ) -> list[Span]:
        """The spans of `text`, what `render` gives, that each of the assistant's messages wrote."""

        def render(messages: Sequence[Message], generation_prompt: bool = False) -> str:
            return self.render(messages, tools, variables, generation_prompt)

        return assistant_spans(render, messages, text, self._tokenizer.eos_token)

    def _rendered(
        self,
        messages: Sequence[Message],
        tools: list[dict[str, Any]] | None,
        variables: dict[str, Any] | None,
        template: str | None,
        generation_prompt: bool,
    ) -> tuple[str, list[Span] | None]:
        template = self._template(template, tools)
        marked = not generation_prompt and _has_marks(template)
        # As `apply_chat_template` does: templates print None, or fail on it, where they handle a missing key.
        chat = [{key: value for key, value in message.items() if value is not None} for message in messages]
        try:
            rendered: Any = render_jinja_template(
                [chat],
                tools=list(tools) if tools is not None else None,
                chat_template=_FIXED_CLOCK + template if "strftime_now" in template else template,
                return_assistant_tokens_mask=marked,
                add_generation_prompt=generation_prompt,
                **{**self._tokenizer.special_tokens_map, **(variables or {})},
            )
        except _TEMPLATE_ERRORS as error:
            raise InputError(
                f"the chat template refuses the conversation that begins {_beginning(messages)}: "
                f"{_one_line(error)}; change or leave out the row, or set corpus.chat_template"
            ) from error
        texts, spans = rendered
        return texts[0], spans[0] if marked else None

    def _template(self, template: str | None, tools: list[dict[str, Any]] | None) -> str:
        """The template's text: the given one's, or the tokenizer's own (for tools it may have a variant)."""
        return self._tokenizer.get_chat_template(template, tools)

    def _check_shows_content(self) -> None:
        """Templates of vision models take lists of parts, and would drop plain text without a word."""
        probe = [{"role": "user", "content": _PROBE}, {"role": "assistant", "content": _PROBE}]
        text, _ = self._rendered(probe, None, None, self._training, False)
        if text.count(_PROBE) < len(probe):
            raise InputError(
                "the chat template leaves out a message whose content is plain text, as templates of vision models do; "
                "set corpus.chat_template to one for text"
            )


def _training_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The template with generation marks that TRL has for the tokenizer's; None if its own has them or TRL has none."""
    own: Any = tokenizer.chat_template
    if _has_marks(own["default"] if isinstance(own, dict) else own) or find_spec("trl") is None:
        return None
    from trl.chat_template_utils import get_training_chat_template

    try:
        return get_training_chat_template(tokenizer)
    except _TEMPLATE_ERRORS:  # ValueError: TRL knows no variant; else: its own trial conversations do not render
        return None


def _has_marks(template: str) -> bool:
    return re.search(r"\{%-?\s*generation\s*-?%\}", template) is not None


def _beginning(messages: Sequence[Message]) -> str:
    return f"{messages[0]['role']}: {str(messages[0].get('content') or '')[:60]!r}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
