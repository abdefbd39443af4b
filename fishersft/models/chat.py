"""Conversations as text through a chat template, and which part of the text the assistant says."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Literal, NamedTuple

from jinja2 import TemplateError, TemplateSyntaxError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from fishersft.errors import InputError
from fishersft.models.assistant_spans import REASONING, Message, Span, assistant_spans
from fishersft.models.fixed_date import asks_for_date, with_fixed_date

Feature = Literal["reasoning_content", "tool_calls", "tools"]

# What a template, which may hold any expression, can raise beside Jinja's own errors.
_TEMPLATE_ERRORS = (
    TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
)
_TRAINING = "_training"  # variants with marks, which TRL gives for the plain ones
_PROBE = "Zebra 7"
_CALL = "zebra_7"
_MARKING = Lock()  # transformers tracks marks in the compiled template, which threads share


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
    files = (Path(trl.origin).parent / "chat_templates").glob("*.jinja")
    return {file.stem: file for file in files if not file.stem.endswith(_TRAINING)}


class _Source(NamedTuple):
    """A template's text with dates fixed, whether it marks what the assistant says, the special tokens it asks for."""

    text: str
    marked: bool
    special_tokens: dict[str, Any]


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
        self._end_token: Any = tokenizer.eos_token
        self._sources = _sources(tokenizer)
        self._dropped: dict[tuple[Feature, bool], bool] = {}
        self._check_shows_content()

    @property
    def prints_date(self) -> bool:
        """Whether the template asks for the date."""
        return any(asks_for_date(source.text) for source in self._sources.values())

    def drops(self, feature: Feature, training: bool = True) -> bool:
        """Whether the template leaves something of a conversation out without a word.

        It is tried out once, on a conversation of two messages. What a template refuses, it does not drop.

        Args:
            feature: "reasoning_content": what the assistant thinks, under that or another name; "tool_calls": its calls
                of functions; "tools": their schemas.
            training: ask of the template that `render_for_training` uses, rather than of the one of `render`.
        """
        known = feature, training
        if known not in self._dropped:
            self._dropped[known] = self._tried_out(feature, training)
        return self._dropped[known]

    def render(
        self,
        messages: Sequence[Message],
        tools: list[dict[str, Any]] | None = None,
        variables: dict[str, Any] | None = None,
        generation_prompt: bool = False,
        training: bool = False,
    ) -> str:
        """The text of a conversation through the tokenizer's own template.

        Args:
            messages: at least one.
            tools: JSON schemas of functions.
            variables: further variables of the template.
            generation_prompt: end with what makes the assistant speak.
            training: through the template that `render_for_training` uses.

        Raises:
            InputError: the template refuses the conversation.
        """
        return self._rendered(messages, tools, variables, training, generation_prompt)[0]

    def render_for_training(
        self, messages: Sequence[Message], tools: list[dict[str, Any]] | None, variables: dict[str, Any] | None
    ) -> tuple[str, list[Span]]:
        """The text that a model is trained on, and the spans in it that the loss counts.

        They are the template's marks, of which a message may have several, or else a span for each of the assistant's.

        Raises:
            InputError: the template refuses the conversation, or does not tell what the assistant says.
        """
        text, spans = self._rendered(messages, tools, variables, training=True, marks=True)
        if spans is None:
            spans = self.assistant_spans(messages, tools, variables, text, training=True)
        return text, spans

    def assistant_spans(
        self,
        messages: Sequence[Message],
        tools: list[dict[str, Any]] | None,
        variables: dict[str, Any] | None,
        text: str,
        training: bool = False,
    ) -> list[Span]:
        """The spans of `text`, what `render` gives, that each of the assistant's messages wrote."""

        def render(messages: Sequence[Message], generation_prompt: bool = False) -> str:
            return self.render(messages, tools, variables, generation_prompt, training)

        return assistant_spans(render, messages, text, self._end_token)

    def _rendered(
        self,
        messages: Sequence[Message],
        tools: list[dict[str, Any]] | None,
        variables: dict[str, Any] | None,
        training: bool,
        generation_prompt: bool = False,
        marks: bool = False,
    ) -> tuple[str, list[Span] | None]:
        source = self._sources[training, tools is not None]
        schemas: Any = tools
        marks = marks and source.marked
        # As `apply_chat_template` does: templates print None, or fail on it, where they handle a missing key.
        chat = [{key: value for key, value in message.items() if value is not None} for message in messages]
        try:
            with _MARKING if marks else nullcontext():
                rendered: Any = render_jinja_template(
                    [chat],
                    tools=schemas,
                    chat_template=source.text,
                    return_assistant_tokens_mask=marks,
                    add_generation_prompt=generation_prompt,
                    **{**source.special_tokens, **(variables or {})},
                )
        except TemplateSyntaxError as error:
            raise InputError(
                f"the chat template has a syntax error in line {error.lineno}: {_one_line(error)}; mend it, or set "
                "corpus.chat_template to another"
            ) from error
        except _TEMPLATE_ERRORS as error:
            raise InputError(
                f"the chat template refuses the conversation that begins {_beginning(messages)}: "
                f"{_one_line(error)}; change or leave out the row, or set corpus.chat_template"
            ) from error
        texts, spans = rendered
        return texts[0], spans[0] if marks else None

    def _check_shows_content(self) -> None:
        """Templates of vision models take lists of parts, and would drop plain text without a word."""
        probe = [{"role": "user", "content": _PROBE}, {"role": "assistant", "content": _PROBE}]
        try:
            text = self.render(probe, training=True)
        except InputError as error:
            if error.__cause__ is None or isinstance(error.__cause__, TemplateSyntaxError):
                raise
            raise InputError(
                f"the chat template does not render a conversation of plain text: {_one_line(error.__cause__)}; set "
                "corpus.chat_template to one for text"
            ) from error
        if text.count(_PROBE) < len(probe):
            raise InputError(
                "the chat template leaves out a message whose content is plain text, as templates of vision models do; "
                "set corpus.chat_template to one for text"
            )

    def _tried_out(self, feature: Feature, training: bool) -> bool:
        function = {"name": _CALL, "parameters": {"type": "object", "properties": {}}}
        tools = [{"type": "function", "function": {**function, "description": _CALL}}] if feature == "tools" else None
        asked = {"role": "user", "content": "What is it?"}
        if feature == "tool_calls":
            calls: list[Message] = [{"name": _CALL, "arguments": {}}, {"name": _CALL, "arguments": "{}"}]
            called = [[{"type": "function", "function": call}] for call in calls]
            probes: list[Message] = [{"role": "assistant", "content": "", "tool_calls": call} for call in called]
        else:
            thought = {"reasoning_content": _CALL} if feature == "reasoning_content" else {}
            probes = [{"role": "assistant", "content": "A zebra.", **thought}]
        for probe in probes:  # some templates take the arguments of a call as an object, some as a string
            try:
                return _CALL not in self.render([asked, probe], tools, training=training)
            except InputError:
                continue
        return False


def features_of(messages: Sequence[Message], tools: list[dict[str, Any]] | None) -> list[Feature]:
    """What a conversation has beside content that a chat template may drop."""
    features: list[Feature] = []
    if any(message.get(name) for message in messages for name in REASONING):
        features.append("reasoning_content")
    if any(message.get("tool_calls") for message in messages):
        features.append("tool_calls")
    return [*features, "tools"] if tools else features


def _sources(tokenizer: Any) -> dict[tuple[bool, bool], _Source]:
    """The templates by whether they are for training, and for conversations with tools."""
    trained = _training_template(tokenizer)
    texts = {}
    try:
        for tools in (False, True):
            own = tokenizer.get_chat_template(None, [] if tools else None)
            texts[False, tools], texts[True, tools] = own, own if trained is None else trained
    except ValueError as error:
        raise InputError(f"{_one_line(error)}; set corpus.chat_template to the template to use") from error
    special = tokenizer.special_tokens_map
    return {
        use: _Source(with_fixed_date(text), _has_marks(text), {name: special[name] for name in special if name in text})
        for use, text in texts.items()
    }


def _training_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The template with generation marks that TRL has for the tokenizer's; None if its own has them or TRL has none."""
    own: Any = tokenizer.chat_template
    text = own.get("default", "") if isinstance(own, dict) else own
    if not text or _has_marks(text) or find_spec("trl") is None:
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


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
