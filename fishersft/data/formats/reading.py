"""From a row to the example that it holds."""

from __future__ import annotations

from fishersft.config import CorpusConfig
from fishersft.data.examples import Example, TextExample
from fishersft.data.formats.alpaca import alpaca_example
from fishersft.data.formats.detection import format_of
from fishersft.data.formats.messages import conversation_of, turns_of
from fishersft.data.formats.pairs import preferred, prompt_completion
from fishersft.data.formats.prompts import prompt_of
from fishersft.data.formats.sharegpt import sharegpt_turns
from fishersft.data.formats.values import field, string
from fishersft.data.readers import Row


def example_of(row: Row, config: CorpusConfig) -> Example | None:
    """The example that a row holds; None if it is blank: nothing that the loss counts.

    It depends on the row's fields and the config alone, so a stored row gives the same example again.

    Args:
        row: as read.
        config: says the kind of example, or that it is to be found, and the names of its fields.

    Raises:
        InputError: the row fits no format, or a field is missing, of the wrong type or not understood, naming file,
            row, field and setting.
    """
    kind, name = format_of(row, config)
    if kind == "text":
        return _text(row, config.text_field)
    if kind == "prompt-completion":
        return prompt_completion(row, config)
    if kind == "prompt":
        return prompt_of(row, config, name)
    if kind == "alpaca":
        return alpaca_example(row)
    if kind == "preference":
        return preferred(row, config)
    value = field(row, name, "set corpus.messages_field to one of them")
    read = sharegpt_turns if kind == "sharegpt" else turns_of
    return conversation_of(row, read(row, value, name, config.ignore_message_keys), name)


def _text(row: Row, name: str) -> TextExample | None:
    value = field(row, name, "set corpus.text_field to one of them")
    if value is None:
        return None
    text = string(row, value, name)
    return TextExample(text) if text.strip() else None
