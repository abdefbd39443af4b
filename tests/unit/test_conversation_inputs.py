"""Inputs of people's own data, through `fishersft select`: each gives the loss tokens that TRL's SFTTrainer gives.

They are the ones of issue 16 that once went wrong. With `-s` each prints a line: the input, and what comes now.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from fishersft.errors import InputError
from tests.chat_models import chat_tokenizer, differing, save_model, template_text, trl_trains_on
from tests.selected import Chosen, now, numbers, select, write_rows


def turns(*contents: str) -> list[dict[str, Any]]:
    """User and assistant in turn."""
    roles = ("user", "assistant")
    return [{"role": roles[place % 2], "content": content} for place, content in enumerate(contents)]


def chosen_as_trl(tmp_path: Path, template: str, messages: list[list[dict[str, Any]]]) -> Chosen:
    """What is selected from conversations, once its loss tokens are TRL's."""
    folder = save_model(tmp_path / template, chat_tokenizer(template, bos_token="<s>"))
    rows = [{"messages": conversation} for conversation in messages]
    chosen = select(tmp_path, folder, write_rows(tmp_path / "d.jsonl", rows))
    assert not differing(chosen.tokens, trl_trains_on(folder, rows, tmp_path / "trl", assistant_only_loss=True))
    return chosen


@pytest.mark.parametrize("template", ["qwen3", "phi3", "gptoss"])
def test_both_answers_of_two_turns_are_counted(tmp_path: Path, template: str) -> None:
    chosen = chosen_as_trl(tmp_path, template, [turns(f"a {n}", f"b {n}", "c", f"d {n}") for n in numbers()])
    assert all(f"b {n}" in text and f"d {n}" in text for n, text in enumerate(chosen.counted))
    now("user, assistant, user, assistant", template, f"counted as TRL does: {chosen.counted[0]!r}")


@pytest.mark.parametrize("template", ["deepseek_r1_distill", "qwen3_5_think"])
def test_the_answer_is_counted_where_the_generation_prompt_begins_a_thought(tmp_path: Path, template: str) -> None:
    chosen = chosen_as_trl(tmp_path, template, [turns(f"a {n}", f"b {n}") for n in numbers()])
    assert all(f"b {n}" in text for n, text in enumerate(chosen.counted))
    now("user, assistant", template, f"counted as TRL does: {chosen.counted[0]!r}")


def test_an_answer_that_begins_with_newlines_is_counted_from_its_first_character(tmp_path: Path) -> None:
    chosen = chosen_as_trl(tmp_path, "qwen2_5", [turns(f"Why {n}?", "\n\nBecause it is.") for n in numbers()])
    assert all("\n\nBecause it is.<|im_end|>" in text for text in chosen.counted)
    now(r'assistant content "\n\nBecause it is."', "qwen2_5", f"counted as TRL does: {chosen.counted[0]!r}")


def smollm2(tmp_path: Path) -> Path:
    return save_model(tmp_path / "SmolLM2", chat_tokenizer("SmolLM2"))


def test_the_same_where_trl_has_no_training_template(tmp_path: Path) -> None:
    folder = smollm2(tmp_path)
    rows = [{"messages": turns(f"Why {n}?", "\n\nBecause it is.")} for n in numbers()]
    chosen = select(tmp_path, folder, write_rows(tmp_path / "d.jsonl", rows))
    # TRL refuses this template; with marks set by hand it counts these tokens.
    content = "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    header, answer = "{{'<|im_start|>' + message['role'] + '\n'}}", "{{message['content'] + '<|im_end|>' + '\n'}}"
    marked = template_text("SmolLM2").replace(
        content,
        f"{{% if message['role'] == 'assistant' %}}{header}{{% generation %}}{answer}{{% endgeneration %}}"
        f"{{% else %}}{content}{{% endif %}}",
    )
    (folder / "chat_template.jinja").write_text(marked)
    assert not differing(chosen.tokens, trl_trains_on(folder, rows, tmp_path / "trl", assistant_only_loss=True))
    now(r'assistant content "\n\nBecause it is."', "SmolLM2", f"counted as TRL would: {chosen.counted[0]!r}")


def test_one_such_row_that_is_held_out_among_21_works(tmp_path: Path) -> None:
    rows = [{"messages": turns(f"Why {n}?", "Because it is.")} for n in range(20)]
    rows.append({"messages": turns("Why?", "\n\nBecause it is.")})
    chosen = select(tmp_path, smollm2(tmp_path), write_rows(tmp_path / "d.jsonl", rows), held_out_row=21)
    assert "Because it is.<|im_end|>" in chosen.counted[20]
    now("one such row among 21, held out", "SmolLM2", f"works: {chosen.counted[20]!r} is counted")


def test_a_held_out_row_that_the_template_refuses_is_named_before_any_work(tmp_path: Path) -> None:
    rows = [{"messages": turns(f"Why {n}?", "Because it is.")} for n in range(20)]
    rows.append({"messages": [{"role": "user", "content": "a"}, *turns("b", "c")]})
    folder = save_model(tmp_path / "gemma", chat_tokenizer("gemma", bos_token="<s>"))
    file = write_rows(tmp_path / "d.jsonl", rows)
    with pytest.raises(InputError, match=r"d\.jsonl:21: the chat template refuses .*must alternate") as error:
        select(tmp_path, folder, file, held_out_row=21)
    assert not (tmp_path / "store" / "embeddings").exists()
    now("two users in a row, held out", "gemma", f"error before embedding: {error.value}")


def test_an_answer_of_weight_0_is_not_counted(tmp_path: Path) -> None:
    conversations = [turns(f"a {n}", f"WRONG {n}", "Again.", f"right {n}") for n in numbers()]
    weighted = [[one, {**two, "weight": 0}, three, {**four, "weight": 1}] for one, two, three, four in conversations]
    folder = save_model(tmp_path / "model", chat_tokenizer("qwen2_5"))
    chosen = select(tmp_path, folder, write_rows(tmp_path / "d.jsonl", [{"messages": row} for row in weighted]))
    whole = trl_trains_on(
        folder, [{"messages": row} for row in conversations], tmp_path / "trl", assistant_only_loss=True
    )
    for number, (ours, theirs) in enumerate(zip(chosen.tokens, whole, strict=True)):
        assert ours.ids == theirs.ids
        assert chosen.counted[number].strip() == f"right {number}<|im_end|>"
        first = theirs.mask.index(False, theirs.mask.index(True))  # where TRL's first counted turn ends
        assert ours.mask == [False] * first + theirs.mask[first:]
    now('"content": "WRONG", "weight": 0', "qwen2_5", f"not counted; counted is {chosen.counted[0]!r}")


def test_reasoning_content_stands_in_the_thought_and_is_counted(tmp_path: Path) -> None:
    rows = [[turns(f"a {n}")[0], {**turns("", f"x {n}")[1], "reasoning_content": f"long {n}"}] for n in numbers()]
    chosen = chosen_as_trl(tmp_path, "qwen3", rows)
    assert all(f"<think>\nlong {n}\n</think>\n\nx {n}" in text for n, text in enumerate(chosen.counted))
    now('"reasoning_content": "long thought"', "qwen3", f"counted as TRL does: {chosen.counted[0]!r}")


@pytest.mark.parametrize("settings", [{"prompt_field": "instruction", "completion_field": "output"}, {}])
def test_the_input_of_an_alpaca_row_is_in_the_prompt(tmp_path: Path, settings: dict[str, Any]) -> None:
    rows = [{"instruction": "Summarise.", "input": f"TEXT {n}", "output": f"T{n}"} for n in numbers()]
    folder = save_model(tmp_path / "model", chat_tokenizer("qwen2_5"))
    chosen = select(tmp_path, folder, write_rows(tmp_path / "d.jsonl", rows), **settings)
    prompts = [f"Summarise.\n\n{row['input']}" for row in rows]
    pairs: list[dict[str, Any]]
    if settings:
        pairs = [{"prompt": text, "completion": row["output"]} for text, row in zip(prompts, rows, strict=True)]
    else:
        pairs = [
            {"prompt": turns(text), "completion": turns("", row["output"])[1:]}
            for text, row in zip(prompts, rows, strict=True)
        ]
    assert not differing(chosen.tokens, trl_trains_on(folder, pairs, tmp_path / "trl"))
    assert "T0" in chosen.counted[0] and "TEXT 0" not in chosen.counted[0] and "TEXT 0" in chosen.texts[0]
    now("instruction, input, output", str(settings or "no setting"), f"TEXT is in the prompt: {chosen.texts[0]!r}")


def test_ndjson_is_json(tmp_path: Path) -> None:
    rows = [{"id": n, "text": f"x {n}"} for n in numbers()]
    folder = save_model(tmp_path / "model", chat_tokenizer(None))
    chosen = select(tmp_path, folder, write_rows(tmp_path / "d.ndjson", rows))
    assert chosen.texts == [f"x {n}</s>" for n in numbers()]
    now("d.ndjson", "no setting", f"the text is {chosen.texts[0]!r}")


def test_a_folder_is_read_whole_and_says_what_it_passed_over(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": f"row {n}"}) + "\n" for n in range(10))
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.jsonl").write_text(lines)
    (data / "b.jsonl.gz").write_bytes(gzip.compress(lines.replace("row", "other").encode()))
    (data / "c.pdf").write_bytes(b"%PDF")
    chosen = select(tmp_path, save_model(tmp_path / "model", chat_tokenizer(None)), data)
    lines_printed = chosen.printed.splitlines()
    assert "20 rows read as text (text)" in lines_printed
    assert any(line.startswith("Not read, as their format is unknown: ") and "c.pdf" in line for line in lines_printed)
    now("a folder with a.jsonl, b.jsonl.gz and c.pdf", "no setting", "20 rows read; c.pdf is named as not read")


@pytest.mark.parametrize("name", ["d.jsonl.gz", "d.jsonl.zst"])
def test_compressed_files_are_read(tmp_path: Path, name: str) -> None:
    file = write_rows(tmp_path / name, [{"text": f"x {n}"} for n in numbers()])
    chosen = select(tmp_path, save_model(tmp_path / "model", chat_tokenizer(None)), file)
    assert chosen.texts == [f"x {n}</s>" for n in numbers()]
    now(name, "no setting", f"{len(chosen.texts)} rows read")


def test_prompts_that_leave_no_room_for_a_completion_are_told(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n} " + "word " * (200 if n < 30 else 2), "completion": "x"} for n in numbers()]
    folder = save_model(tmp_path / "model", chat_tokenizer(None))
    chosen = select(tmp_path, folder, write_rows(tmp_path / "d.jsonl", rows), max_tokens=64, budget=40)
    lost = sum(not any(chosen.tokens[number].mask) for number in chosen.pool)
    line = f"{lost} rows cut at 64 tokens; {lost} of them lost every token to learn from and cannot be chosen"
    assert lost > 20 and line in chosen.printed and "all of it was chosen" not in chosen.printed
    assert "The budget covers every example that has a token to learn from." in chosen.printed
    now("prompt of 200 words, completion x", "max_tokens 64", line)


def bare_model(tmp_path: Path, around: str | None = None) -> Path:
    """A model whose tokenizer puts special tokens around every text."""
    tokenizer = chat_tokenizer(None, bos_token="<s>")
    if around is not None:
        special = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(around, None, special)
    return save_model(tmp_path / "bare", tokenizer)


def test_a_completion_that_ends_in_eos_gets_no_second(tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{n}:", "completion": " x</s>"} for n in numbers()]
    folder = bare_model(tmp_path)
    chosen = select(tmp_path, folder, write_rows(tmp_path / "d.jsonl", rows))
    assert not differing(chosen.tokens, trl_trains_on(folder, rows, tmp_path / "trl"))
    assert set(chosen.counted) == {" x</s>"}
    now('prompt "Q:", completion " x</s>"', "a tokenizer with </s>", f"counted as TRL does: {chosen.counted[0]!r}")


def test_of_two_eos_tokens_the_one_after_the_text_is_counted(tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{n}:", "completion": " x"} for n in numbers()]
    chosen = select(tmp_path, bare_model(tmp_path, "$A </s>"), write_rows(tmp_path / "d.jsonl", rows))
    assert set(chosen.counted) == {" x</s>"}
    assert chosen.texts == [f"Q{n}: x</s>" for n in numbers()]
    now('prompt "Q:", completion " x"', "a tokenizer that adds EOS", f"one EOS, counted: {chosen.texts[0]!r}")


def test_a_text_that_begins_with_bos_gets_no_second(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer("llama3", bos_token="<|begin_of_text|>")
    begin = [("<|begin_of_text|>", tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<|begin_of_text|> $A", None, begin)
    folder = save_model(tmp_path / "llama3", tokenizer)
    rows = [{"text": f"<|begin_of_text|>x {n}"} for n in numbers()]
    chosen = select(tmp_path, folder, write_rows(tmp_path / "d.jsonl", rows))
    assert chosen.texts == [f"<|begin_of_text|>x {n}</s>" for n in numbers()]
    plain = trl_trains_on(folder, [{"text": f"x {n}"} for n in numbers()], tmp_path / "trl")
    assert not differing(chosen.tokens, plain)
    now("text beginning with <|begin_of_text|>", "llama3", f"one BOS, as TRL has it without: {chosen.texts[0]!r}")
