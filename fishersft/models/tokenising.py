"""From examples to token ids and the loss positions among them: the ones that TRL's `SFTTrainer` would train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tokenizers import Encoding
from transformers import BatchEncoding, PreTrainedTokenizerBase

from fishersft.data.examples import Conversation, Example, Prompt, PromptCompletion, TextExample
from fishersft.errors import InputError
from fishersft.models.chat import ChatTemplate, Feature, Span, features_of


@dataclass(frozen=True)
class Tokenised:
    """An example as the model sees it.

    Attributes:
        input_ids: token ids, at most `max_tokens`.
        loss_mask: one a token; True where the loss counts the token. True for the first token in prompts only, where
            it is True for all of them, see `is_prompt`.
        truncated: whether tokens were cut off: the end, of a prompt without an answer the beginning.
    """

    input_ids: list[int]
    loss_mask: list[bool]
    truncated: bool

    @property
    def loss_tokens(self) -> int:
        """How many tokens the loss counts."""
        return sum(self.loss_mask)

    @property
    def is_prompt(self) -> bool:
        """Whether this is a prompt without an answer, of which every position counts.

        The state at the last one predicts the answer's first token, which nobody knows yet: so a prompt of T tokens has
        T positions, where a text of T tokens has T - 1.
        """
        return self.loss_mask[:1] == [True]

    @property
    def predicting_positions(self) -> list[int]:
        """The positions whose state predicts a loss position: one before each; of a prompt all."""
        before = 0 if self.is_prompt else 1
        return [position - before for position, counted in enumerate(self.loss_mask) if counted]

    @property
    def targets(self) -> list[int]:
        """The token that each predicting position predicts; -1 for the answer's first, which is not known."""
        if self.is_prompt:
            return [*self.input_ids[1:], -1]
        return [token for token, counted in zip(self.input_ids, self.loss_mask, strict=True) if counted]

    @property
    def labels(self) -> list[int]:
        """Token ids where the loss counts them, -100 elsewhere."""
        return [token if counted else -100 for token, counted in zip(self.input_ids, self.loss_mask, strict=True)]


@dataclass(frozen=True)
class _Rendered:
    """An example as text, and what of it the loss counts.

    Attributes:
        text: all of it.
        chat: whether a chat template wrote it, special tokens included.
        counted: the loss counts the tokens in these spans; None: all.
        prompt: text whose tokens the loss does not count, as far as both begin alike.
        left_out: spans that it does not count either.
        is_open: it is a prompt that goes on with its answer.
    """

    text: str
    chat: bool = False
    counted: list[Span] | None = None
    prompt: str | None = None
    left_out: list[Span] = field(default_factory=list)
    is_open: bool = False


class Tokeniser:
    """Tokenises examples for one model, as `SFTTrainer` prepares its dataset (trl/trainer/sft_trainer.py).

    - Text and completions end with the end-of-text token, unless they do already. The completion begins where the
      tokens of the prompt alone and of both differ.
    - Of a conversation the loss counts the assistant's turns (`assistant_only_loss=True`), or all that follows the
      prompt where its row has prompt and completion.
    - A prompt without an answer is what the model sees when it is to answer: messages through the chat template with
      `add_generation_prompt=True`, a text as before its completion. All its positions count, the last one too. A longer
      one keeps its last tokens, as where a model answers it.
    - Unlike `SFTTrainer` it never doubles a special token that the text has already, leaves out turns that the row says
      not to train on, and renders dates as of a fixed day.

    Args:
        tokenizer: the model's tokenizer.
        max_tokens: longer examples are cut to this many tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int):
        self.tokenizer: Any = tokenizer
        self.max_tokens = max_tokens

    def __call__(self, example: Example) -> Tokenised:
        """Tokenises one example.

        Raises:
            InputError: a conversation with a tokenizer that has no chat template, or one that refuses it.
        """
        (tokenised,) = self.many([example])
        if isinstance(tokenised, InputError):
            raise tokenised
        return tokenised

    def many(self, examples: Sequence[Example]) -> list[Tokenised | InputError]:
        """Tokenises examples, faster than one at a time; an error in the place of one that cannot be."""
        rendered = [self._rendered_or_error(example) for example in examples]
        tokenised = iter(self._tokenised([item for item in rendered if isinstance(item, _Rendered)]))
        return [item if isinstance(item, InputError) else next(tokenised) for item in rendered]

    @property
    def chat(self) -> ChatTemplate:
        """The chat template.

        Raises:
            InputError: the tokenizer has none that renders a conversation.
        """
        self.check_chat_template()
        assert isinstance(self._chat, ChatTemplate), "checked just now"
        return self._chat

    def check_chat_template(self) -> None:
        """Raises InputError where the tokenizer has no chat template, or one that renders no conversation at all."""
        if isinstance(self._chat, InputError):
            raise self._chat

    @property
    def prints_date(self) -> bool:
        """Whether the chat template prints the date."""
        return isinstance(self._chat, ChatTemplate) and self._chat.prints_date

    @cached_property
    def _chat(self) -> ChatTemplate | InputError:
        try:
            return ChatTemplate(self.tokenizer)
        except InputError as error:
            return error

    def left_out(self, example: Example) -> tuple[Feature, ...]:
        """What an example has that the chat template does not show the model: reasoning, tool calls, tools."""
        if isinstance(example, TextExample | PromptCompletion) or isinstance(self._chat, InputError):
            return ()
        messages = example.messages if isinstance(example, Conversation) else example.prompt
        if isinstance(messages, str):
            return ()
        training = isinstance(example, Conversation) and example.prompt_turns is None
        features = features_of(messages, example.tools)
        return tuple(feature for feature in features if self._chat.drops(feature, training))

    def prompt_ids(self, example: Example, text_prompt_tokens: int, most: int) -> list[int] | None:
        """The tokens before what a model is asked to write; None where the example is too short for that.

        For text: its first `text_prompt_tokens` tokens, of texts that have more. For a prompt and completion: the
        prompt. For a conversation: all before the last assistant turn. At most the last `most` tokens of it.
        """
        if isinstance(example, Conversation):
            last = max(i for i, message in enumerate(example.messages) if message["role"] == "assistant")
            ids = self._ids([self._prompt_of(example, last)], chat=True)["input_ids"][0] if last else []
        elif isinstance(example, PromptCompletion):
            ids = self._open_ids(example.prompt)
        else:
            assert isinstance(example, TextExample), "prompts without answers are never completed"
            ids = self._open_ids(example.text)
            ids = ids[:text_prompt_tokens] if len(ids) > text_prompt_tokens else []
        return ids[-most:] or None

    def _rendered_or_error(self, example: Example) -> _Rendered | InputError:
        try:
            if isinstance(example, Prompt):
                return self._prompt(example)
            return self._conversation(example) if isinstance(example, Conversation) else self._text(example)
        except InputError as error:
            return error

    def _prompt(self, example: Prompt) -> _Rendered:
        if isinstance(example.prompt, str):
            return _Rendered(example.prompt, is_open=True)
        text = self.chat.render(example.prompt, example.tools, example.template_kwargs, generation_prompt=True)
        return _Rendered(text, chat=True, is_open=True)

    def _text(self, example: TextExample | PromptCompletion) -> _Rendered:
        prompt = example.prompt if isinstance(example, PromptCompletion) else None
        text = example.prompt + example.completion if isinstance(example, PromptCompletion) else example.text
        return _Rendered(text if text.endswith(self._end_text) else text + self._end_text, prompt=prompt)

    def _conversation(self, example: Conversation) -> _Rendered:
        of_chat = example.messages, example.tools, example.template_kwargs
        if example.prompt_turns is None:
            text, marks = self.chat.render_for_training(*of_chat)
            left_out = self._uncounted(example, text, marks)
            return _Rendered(text, chat=True, counted=marks, left_out=left_out)
        text = self.chat.render(*of_chat)
        prompt = self._prompt_of(example, example.prompt_turns) if example.prompt_turns else ""
        return _Rendered(text, chat=True, prompt=prompt, left_out=self._uncounted(example, text))

    def _uncounted(self, example: Conversation, text: str, marks: Sequence[Span] = ()) -> list[Span]:
        """The spans of the messages that the row says not to train on: their marks, where each message has one."""
        if not example.uncounted:
            return []
        turns = [place for place, message in enumerate(example.messages) if message["role"] == "assistant"]
        if len(marks) != len(turns):
            of_chat = example.messages, example.tools, example.template_kwargs
            marks = self.chat.assistant_spans(*of_chat, text, training=example.prompt_turns is None)
        return [span for turn, span in zip(turns, marks, strict=True) if turn in example.uncounted]

    def _prompt_of(self, example: Conversation, turns: int) -> str:
        """The first messages, ending with what makes the assistant speak."""
        return self.chat.render(example.messages[:turns], example.tools, example.template_kwargs, True)

    def _tokenised(self, rendered: Sequence[_Rendered]) -> list[Tokenised]:
        result: dict[int, Tokenised] = {}
        for chat in (True, False):
            places = [place for place, item in enumerate(rendered) if item.chat == chat]
            items = [rendered[place] for place in places]
            encoded = self._ids([item.text for item in items], chat)
            prompted = [item for item in items if item.prompt is not None]
            prompts = iter(self._ids([item.prompt for item in prompted if item.prompt is not None], chat)["input_ids"])
            for number, (place, item) in enumerate(zip(places, items, strict=True)):
                ids = encoded["input_ids"][number]
                mask = _mask(encoded, number, item, next(prompts) if item.prompt is not None else None)
                result[place] = self._open(ids, chat) if item.is_open else self._cut(ids, mask, chat)
        return [result[place] for place in range(len(rendered))]

    def _open(self, ids: list[int], chat: bool) -> Tokenised:
        """A prompt, of which all positions count and the last ones stay."""
        ids = ids if chat else self._without_end(ids)
        kept = ids[-self.max_tokens :]
        return Tokenised(kept, [True] * len(kept), truncated=len(kept) < len(ids))

    def _cut(self, ids: list[int], mask: list[bool], chat: bool) -> Tokenised:
        if not chat:
            doubled = len(ids) - len(self._begun_once(ids))
            ids, mask = ids[doubled:], mask[doubled:]
            extra = self._doubled_ends(ids)
            ids, mask = ids[: len(ids) - extra], mask[: len(mask) - extra]
        mask = [False, *mask[1:]] if mask else []  # nothing predicts the first token
        return Tokenised(ids[: self.max_tokens], mask[: self.max_tokens], truncated=len(ids) > self.max_tokens)

    def _ids(self, texts: list[str], chat: bool) -> BatchEncoding:
        """Token ids of texts, with the special tokens that the tokenizer adds unless a chat template wrote them."""
        if not texts:
            return BatchEncoding({"input_ids": []})
        return self.tokenizer(texts, add_special_tokens=not chat, return_attention_mask=False)

    def _open_ids(self, text: str) -> list[int]:
        """Token ids of a text that goes on."""
        return self._without_end(self._ids([text], chat=False)["input_ids"][0])

    def _without_end(self, ids: list[int]) -> list[int]:
        """Begun once, and without the end that the tokenizer may add."""
        ids = self._begun_once(ids)
        return ids[:-1] if self._adds_end else ids

    def _begun_once(self, ids: list[int]) -> list[int]:
        """Without a second beginning-of-text token, where the text has one and the tokenizer adds another."""
        return ids[1:] if self._adds_begin and ids[:2] == [self._begin, self._begin] else ids

    def _doubled_ends(self, ids: list[int]) -> int:
        """How many end-of-text tokens at the end are one too many, where the tokenizer adds them itself."""
        return 1 if self._adds_end and ids[-2:] == [self._end, self._end] else 0

    # transformers looks these up on every access: 20 seconds a million rows.
    @cached_property
    def _begin(self) -> int | None:
        return self.tokenizer.bos_token_id

    @cached_property
    def _end(self) -> int:
        return self.tokenizer.eos_token_id

    @cached_property
    def _end_text(self) -> str:
        return self.tokenizer.eos_token

    @cached_property
    def _adds_begin(self) -> bool:
        return self.tokenizer("a")["input_ids"][:1] == [self._begin]

    @cached_property
    def _adds_end(self) -> bool:
        return self.tokenizer("a")["input_ids"][-1:] == [self._end]


def _mask(encoded: BatchEncoding, number: int, item: _Rendered, prompt: list[int] | None) -> list[bool]:
    """Which tokens the loss counts."""
    ids = encoded["input_ids"][number]
    mask = [item.counted is None] * len(ids)
    for span in item.counted or ():
        _set(mask, encoded[number], span, True)
    if prompt is not None:
        same = next((place for place, (a, b) in enumerate(zip(prompt, ids, strict=False)) if a != b), None)
        same = min(len(prompt), len(ids)) if same is None else same
        mask[:same] = [False] * same
    for span in item.left_out:
        _set(mask, encoded[number], span, False)
    return mask


def _set(mask: list[bool], encoding: Encoding, span: Span, value: bool) -> None:
    """Sets the tokens from the one that has the span's first character to the one that has its last."""
    begin, end = span
    first = next((token for at in range(begin, end) if (token := encoding.char_to_token(at)) is not None), None)
    last = next((token for at in range(end - 1, begin - 1, -1) if (token := encoding.char_to_token(at)) is not None), 0)
    if first is not None:
        mask[first : last + 1] = [value] * (last + 1 - first)
