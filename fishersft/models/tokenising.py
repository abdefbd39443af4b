"""From examples to token ids and the loss positions among them, the same for embedding, training and evaluating."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from fishersft.data.examples import Conversation, Example, Message, PromptCompletion
from fishersft.errors import InputError


@dataclass(frozen=True)
class Tokenised:
    """A sentence as the model sees it.

    Attributes:
        input_ids: token ids, at most `max_tokens`.
        loss_mask: one a token; True where the loss counts the token. Never True for the first token.
        truncated: whether tokens were cut off the end.
    """

    input_ids: list[int]
    loss_mask: list[bool]
    truncated: bool

    @property
    def loss_tokens(self) -> int:
        """How many tokens the loss counts."""
        return sum(self.loss_mask)

    @property
    def predicting_positions(self) -> list[int]:
        """The positions whose state predicts a loss position: one before each."""
        return [position - 1 for position, counted in enumerate(self.loss_mask) if counted]

    @property
    def labels(self) -> list[int]:
        """Token ids where the loss counts them, -100 elsewhere."""
        return [token if counted else -100 for token, counted in zip(self.input_ids, self.loss_mask, strict=True)]


class SentenceTokeniser:
    """Tokenises examples for one model.

    Completions end with the end-of-text token, from which a model learns to stop. Plain text does not get one: its
    loss positions are its own tokens, or long texts, which are cut more often, would teach less of its end.

    Args:
        tokenizer: the model's tokenizer.
        max_tokens: longer sentences are cut to this many tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int):
        self.tokenizer: Any = tokenizer
        self.max_tokens = max_tokens

    def __call__(self, example: Example) -> Tokenised:
        """Tokenises one example.

        Raises:
            InputError: a conversation with a tokenizer that has no chat template, or a template that rewrites
                earlier turns.
        """
        if isinstance(example, Conversation):
            ids, mask = self._conversation(example.messages)
        elif isinstance(example, PromptCompletion):
            ids, mask = self._prompt_completion(example.prompt, example.completion)
        else:
            ids = self.tokenizer(example.text)["input_ids"]
            mask = [True] * len(ids)
        cut = slice(0, self.max_tokens)
        mask = [False, *mask[1:]]  # nothing predicts the first token
        return Tokenised(ids[cut], mask[cut], truncated=len(ids) > self.max_tokens)

    def prompt_ids(self, example: Example, text_prompt_tokens: int, most: int) -> list[int] | None:
        """The tokens before what a model is asked to write; None where the sentence is too short for that.

        For text: its first `text_prompt_tokens` tokens, of sentences that have more. For a prompt and completion:
        the prompt. For a conversation: all before the last assistant turn. At most the last `most` tokens of it.
        """
        if isinstance(example, Conversation):
            last = max(i for i, message in enumerate(example.messages) if message.role == "assistant")
            return self._template(example.messages[:last], add_generation_prompt=True)[-most:] or None
        if isinstance(example, PromptCompletion):
            return self.tokenizer(example.prompt)["input_ids"][-most:] or None
        ids = self.tokenizer(example.text)["input_ids"]
        return ids[:text_prompt_tokens][-most:] if len(ids) > text_prompt_tokens else None

    def _prompt_completion(self, prompt: str, completion: str) -> tuple[list[int], list[bool]]:
        encoded = self.tokenizer(prompt + completion, return_offsets_mapping=True)
        # A token belongs to the completion if it reaches beyond the prompt's last character.
        mask = [end > len(prompt) for _, end in encoded["offset_mapping"]]
        return [*encoded["input_ids"], self.tokenizer.eos_token_id], [*mask, True]

    def _conversation(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        ids = self._template(messages)
        mask = [False] * len(ids)
        for turn, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before = self._before(messages, turn)
            through = self._template(messages[: turn + 1])
            if ids[: len(before)] != before or ids[: len(through)] != through:
                raise InputError(
                    "the tokenizer's chat template rewrites earlier turns, so the assistant's tokens cannot be told "
                    f"apart in the conversation that begins {_beginning(messages)}; use a template that only appends"
                )
            mask[len(before) : len(through)] = [True] * (len(through) - len(before))
        return ids, mask

    def _before(self, messages: Sequence[Message], turn: int) -> list[int]:
        """The tokens before an assistant's content."""
        if turn:
            return self._template(messages[:turn], add_generation_prompt=True)
        # Nothing precedes the turn but what the template writes by itself: all that does not depend on the content.
        one, other = (self._template([Message("assistant", content)]) for content in ("a", "b"))
        same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
        return [token for token, _ in same]

    def _template(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> list[int]:
        if not self.tokenizer.chat_template:
            raise InputError(
                "the examples are conversations, but the model's tokenizer has no chat template; use a chat model, "
                "or examples of kind prompt-completion"
            )
        if not messages:
            return []
        try:
            return self.tokenizer.apply_chat_template(
                [asdict(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
                tokenize=True,
                return_dict=False,
            )
        except TemplateError as error:
            raise InputError(
                f"the tokenizer's chat template refuses the conversation that begins {_beginning(messages)}: {error}; "
                "leave it out or bring its roles into the order that the template wants"
            ) from error


def _beginning(messages: Sequence[Message]) -> str:
    return f"{messages[0].role}: {messages[0].content[:60]!r}"
