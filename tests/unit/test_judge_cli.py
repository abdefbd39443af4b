"""The command `fishersft judge`, from files to what it prints and writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from fishersft import terminal
from fishersft.cli import app
from fishersft.errors import InputError
from tests.judge_server import JudgeServer, fails, running_judge_server, says


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[JudgeServer]:
    monkeypatch.setattr(terminal.console, "width", 160)
    monkeypatch.chdir(tmp_path)
    with running_judge_server() as server:
        yield server


def jsonl(path: Path, rows: Sequence[dict[str, str]]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def texts(path: Path, values: Sequence[str]) -> str:
    return jsonl(path, [{"text": value} for value in values])


def judge(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["judge", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def printed(result: Result, figure: str) -> str:
    """The cells of a row of the printed table."""
    (line,) = (line for line in result.output.splitlines() if figure in line)
    return " ".join(line.replace("│", " ").split()).removeprefix(figure).strip()


def test_two_files_are_judged_and_a_second_time_nothing_is_asked(server: JudgeServer, tmp_path: Path) -> None:
    first = texts(tmp_path / "a.jsonl", ["longest", "y", "same", "longer"])
    second = texts(tmp_path / "b.jsonl", ["x", "longest", "same", "x"])
    options = ("--model", "judge", "--base-url", server.url, "--task", "Latin", "--output", "verdicts.parquet")
    result = judge(first, second, *options)
    assert printed(result, "pairs") == "3"
    assert printed(result, "wins, losses, ties") == "2, 1, 0"
    assert printed(result, "win rate of the first file [95%]").startswith("0.667 [")
    assert printed(result, "the text shown first was chosen [95%]").startswith("0.500 [")
    assert printed(result, "identical (not judged)") == "1"
    assert printed(result, "questions asked now") == "6"
    assert printed(result, "tokens, input and output") == "600, 12"
    assert "more fluent Latin text" in server.asked[0]
    rows = pq.read_table(tmp_path / "verdicts.parquet").to_pylist()
    assert [row["score"] for row in rows] == [1.0, 0.0, 0.5, 1.0]
    assert rows[0] == {
        "judge": f"judge at {server.url}",
        "first": "longest",
        "second": "x",
        "choice": 1,
        "swapped_choice": 2,
        "identical": False,
        "unreadable": False,
        "score": 1.0,
    }
    assert printed(judge(first, second, *options), "questions asked now") == "0"
    assert len(server.asked) == 6


def test_a_judge_is_calibrated_on_request_and_called_unfit_where_it_is(server: JudgeServer, tmp_path: Path) -> None:
    server.answer = lambda prompt: says("1")
    first, second = texts(tmp_path / "a.jsonl", ["a", "b"]), texts(tmp_path / "b.jsonl", ["c", "d"])
    (tmp_path / "real.txt").write_text("".join(f"line {n} of a real text\n" for n in range(6)))
    result = judge(first, second, "--model", "m", "--base-url", server.url, "--calibrate", "real.txt")
    assert printed(result, "real over shuffled text [95%]").startswith("0.500 [")
    assert "is unfit: it preferred real text to the same words shuffled in 50% of 6 pairs" in result.output


def test_several_judges_with_prices_come_from_a_configuration(server: JudgeServer, tmp_path: Path) -> None:
    judges = [{"model": name, "base_url": server.url, "input_price": 1, "output_price": 10} for name in ("m", "n")]
    config = {"corpus": {"path": "unused.jsonl"}, "evaluation": {"judging": {"judges": judges}}, "store": "kept"}
    (tmp_path / "run.yaml").write_text(json.dumps(config))
    first, second = texts(tmp_path / "a.jsonl", ["longest", "x"]), texts(tmp_path / "b.jsonl", ["x", "longest"])
    rubric = "Respond 2 if the second rhymes, respond 1 otherwise."
    result = judge(first, second, "--config", "run.yaml", "--rubric", rubric)
    assert printed(result, "wins, losses, ties") == "1, 1, 0 1, 1, 0"
    assert printed(result, "kappa with the first judge") == "1.00"
    assert printed(result, "cost") == "0.0005 0.0005"
    assert all(rubric in prompt for prompt in server.asked) and (tmp_path / "kept" / "verdicts").is_dir()


def test_prompts_and_completions_are_judged_together_also_from_an_artifacts_folder(
    server: JudgeServer, tmp_path: Path
) -> None:
    folder = tmp_path / "generations" / ("a" * 64) / "content"
    folder.mkdir(parents=True)
    (folder.parent / "manifest.json").write_text("{}")
    pq.write_table(pa.table({"prompt": ["Shall "], "completion": [""]}), folder / "generations.parquet")
    second = jsonl(tmp_path / "b.jsonl", [{"prompt": "Shall ", "completion": "compare"}])
    result = judge(str(folder.parent), second, "--model", "m", "--base-url", server.url)
    assert printed(result, "wins, losses, ties") == "0, 1, 0"
    assert any("<text_1>Shall </text_1>\n<text_2>Shall compare</text_2>" in prompt for prompt in server.asked)


def test_files_that_do_not_belong_together_are_refused_before_anybody_is_asked(
    server: JudgeServer, tmp_path: Path
) -> None:
    one, two = texts(tmp_path / "one.jsonl", ["a"]), texts(tmp_path / "two.jsonl", ["a", "b"])
    prompted = [jsonl(tmp_path / f"{p}.jsonl", [{"prompt": p, "completion": "x"}]) for p in ("p", "q")]
    other = jsonl(tmp_path / "other.jsonl", [{"body": "a"}])
    for first, second, message in (
        (one, two, r"one\.jsonl has 1 texts and .*two\.jsonl 2"),
        (*prompted, r"p\.jsonl:1 and .*q\.jsonl:1 have different prompts"),
        (one, other, r"other\.jsonl:1: expected a column `text`, or `prompt` and `completion`.*found body"),
        (one, str(tmp_path), "expected a file, or the folder of one generations artifact"),
    ):
        with pytest.raises(InputError, match=message):
            judge(first, second, "--model", "m", "--base-url", server.url)
    assert not server.asked


def test_a_refused_key_ends_it_with_what_to_do(server: JudgeServer, tmp_path: Path) -> None:
    server.answer = lambda prompt: fails(401)
    first, second = texts(tmp_path / "a.jsonl", ["a"]), texts(tmp_path / "b.jsonl", ["b"])
    with pytest.raises(InputError, match=r"refused the key.*environment variable MY_KEY has to hold a key"):
        judge(first, second, "--model", "m", "--base-url", server.url, "--api-key-env", "MY_KEY")


def test_options_that_name_no_whole_judge_are_refused(server: JudgeServer, tmp_path: Path) -> None:
    first = texts(tmp_path / "a.jsonl", ["a"])
    with pytest.raises(InputError, match="a judge with a base_url needs a model"):
        judge(first, first, "--base-url", server.url)
