"""`fishersft store ...`: what a store holds, whether it is sound, what may go, and a copy of it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from time import sleep

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from fishersft import cli, terminal
from fishersft.data.manifest import Manifest, manifest_bytes
from fishersft.data.runs import read_runs, recorded_run
from fishersft.data.store import Store
from fishersft.errors import InputError
from tests.stores import CORPUS, EMBEDDINGS, LINEAGE, SELECTION, SHARD, publish_all, published

Run = Callable[..., str]


def invoke(words: tuple[str | Path, ...], status: int) -> str:
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == status, done.output
    return done.output


@pytest.fixture(autouse=True)
def wide_console(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "console", Console(width=200))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "store"))
    publish_all(store)
    return store


@pytest.fixture
def run(store: Store) -> Run:
    """Runs `fishersft store ...` on the store, and gives what it prints."""

    def run(*words: str, status: int = 0) -> str:
        return invoke(("store", *words, "--store", store.files.local_path()), status)

    return run


@pytest.fixture
def config_file(tmp_path: Path, tiny_model_folder: Path) -> Path:
    (tmp_path / "verses.txt").write_text("".join(f"verse {i} of {'may ' * (i % 7 + 1)}\n" for i in range(40)))
    settings = {
        "corpus": {"path": str(tmp_path / "verses.txt"), "held_out_fraction": 0.2},
        "model": {"path": str(tiny_model_folder)},
        "embedding": {"shard_rows": 12},
        "selection": {"budget": 5, "budget_unit": "sentences"},
        "store": str(tmp_path / "real-store"),
        "output": str(tmp_path / "output"),
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "run.yaml"


def snapshot(store: Store) -> dict[str, bytes]:
    """The content of all files but the clock's."""
    return {file.name: store.files.read(file.name) for file in store.files.list() if file.name != ".runs/clock"}


def row_of(printed: str, *words: str) -> list[str]:
    """The cells of the one line of a table that has these words."""
    (line,) = [line for line in printed.splitlines() if "│" in line and all(word in line for word in words)]
    return [cell.strip() for cell in line.split("│")[1:-1]]


def days_ago(store: Store, days: int) -> None:
    for path in store.files.local_path().rglob("*"):
        time = path.stat().st_mtime - 86_400 * days
        os.utime(path, (time, time))


def test_ls_lists_artifacts_by_kind_with_what_they_are(run: Run) -> None:
    printed = run("ls")
    assert re.search(r"^shard: 2, [\d.]+ kB", printed, re.MULTILINE)
    key, created, age, size, what, held_by = row_of(printed, "111111111111")
    assert (key, age, what, held_by) == ("1" * 12, "0 min", "1 rows", "")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", created) and size.endswith("bytes")
    assert "corpus: 1" in printed and "report" not in printed


def test_ls_of_a_kind_lists_that_alone(run: Run) -> None:
    printed = run("ls", "corpus")
    assert "222222222222" in printed and "111111111111" not in printed
    with pytest.raises(InputError, match="'poems' is no kind of artifact; expected one of shard, corpus"):
        run("ls", "poems")


def test_ls_says_which_runs_and_tags_hold_an_artifact(store: Store, run: Run) -> None:
    with recorded_run(store, "verses") as record:
        record.uses(EMBEDDINGS)
    run("tag", "paper", "2222")
    printed = run("ls")
    assert row_of(printed, "1" * 12)[-1] == "paper +1"
    assert row_of(printed, "2" * 12, "rows")[-1] == "paper"
    assert row_of(printed, "3" * 12)[-1] == record.id
    assert row_of(printed, "0" * 12)[-1] == ""
    assert row_of(printed, record.id, "verses")[2] == "finished"
    assert row_of(printed, "paper", CORPUS)[0] == "paper"


def test_an_empty_store_is_no_error(tmp_path: Path) -> None:
    for command in ("ls", "du", "verify"):
        invoke(("store", command, "--store", tmp_path / "none"), 0)


def test_show_has_manifest_files_and_lineage_both_ways(run: Run) -> None:
    printed = run("show", "3333")
    assert f"key: '{'3' * 64}'" in printed and "from: b" in printed and "rows.txt" in printed
    came_from, made_from_it = printed.split("it came from")[1].split("made from it")
    assert "shard/111111111111 1 rows" in came_from
    assert row_of(made_from_it, "selection") == ["selection", "1", "444444444444"]
    tree = run("show", "4444").split("it came from")[1]
    assert "shard/111111111111 1 rows (see above)" in tree and "nothing was made from it" in tree
    assert "it came from no other artifact" in run("show", "0000")


def test_show_says_what_is_not_in_the_store_any_more(store: Store, run: Run) -> None:
    store.files.remove([f"{SHARD}/manifest.json"])
    assert "shard/111111111111 not in this store" in run("show", "2222")


def test_the_store_of_a_config_is_meant_by_the_config(config_file: Path) -> None:
    invoke(("select", config_file), 0)
    printed = invoke(("store", "ls", "--store", config_file), 0)
    assert "selection: 1" in printed and row_of(printed, "select-curation", "finished")
    assert "it came from" in invoke(("store", "show", row_of(printed, "5 sentences")[0], "--store", config_file), 0)


def test_du_counts_by_kind_and_what_belongs_to_no_artifact(store: Store, run: Run) -> None:
    store.files.write(f"shard/{'8' * 64}/{'a' * 32}/rows.txt", b"half")
    store.files.write(".drafts/shard-1/rows.txt", b"half a draft")
    printed = run("du")
    assert row_of(printed, "shard")[1] == "2"
    assert row_of(printed, "files without a manifest") == ["files without a manifest", "1", "4 bytes"]
    assert row_of(printed, "drafts") == ["drafts", "1", "12 bytes"]


def test_verify_finds_nothing_wrong_with_a_sound_store(run: Run) -> None:
    assert "5 artifacts checked, 0 damaged" in run("verify")
    assert "1 artifacts checked, 0 damaged" in run("verify", "1111")


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda path: path.write_text("thee"), "file rows.txt has other bytes than were written"),
        (lambda path: path.write_text("thou art"), "file rows.txt has 8 bytes, not 4"),
        (lambda path: path.unlink(), "file rows.txt is missing"),
        (lambda path: path.parents[1].joinpath("manifest.json").write_text("{"), "is not a manifest"),
    ],
)
def test_verify_names_the_damage_and_repair_takes_the_artifact_away(
    store: Store, run: Run, damage: Callable[[Path], object], fault: str
) -> None:
    (path,) = store.files.local_path(SHARD).rglob("rows.txt")
    damage(path)
    before = snapshot(store)
    printed = run("verify", status=1)
    assert fault in printed and SHARD in printed and "5 artifacts checked, 1 damaged" in printed
    assert snapshot(store) == before
    if "manifest" not in fault:
        assert "made from it: corpus/222222222222, embeddings/333333333333, selection/444444444444" in printed
    assert "1 removed" in run("verify", "--repair")
    assert published(store) == set(LINEAGE) - {SHARD}
    run("verify")


def test_what_repair_took_away_the_next_run_makes_anew(config_file: Path, tmp_path: Path) -> None:
    invoke(("embed", config_file), 0)
    file, *_ = sorted((tmp_path / "real-store" / "embeddings").rglob("*.safetensors"))
    sound = file.read_bytes()
    file.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    assert "1 damaged" in invoke(("store", "verify", "--store", config_file), 1)
    invoke(("store", "verify", "--repair", "--store", config_file), 0)
    assert invoke(("embed", config_file), 0).count("made ") == 1
    assert file.read_bytes() == sound
    invoke(("store", "verify", "--store", config_file), 0)


def test_gc_with_dry_run_says_what_would_go_and_removes_nothing(store: Store, run: Run) -> None:
    with recorded_run(store, "verses") as record:
        record.uses(CORPUS)
    before = snapshot(store)
    printed = run("gc", "--older-than", "0d", "--dry-run")
    assert [row_of(printed, kind)[1] for kind in ("shard", "embeddings", "selection")] == ["1", "1", "1"]
    assert "corpus" not in printed
    assert snapshot(store) == before


def test_gc_removes_what_is_old_and_not_needed(store: Store, run: Run) -> None:
    with recorded_run(store, "verses") as record:
        record.uses(CORPUS)
    assert "nothing to remove" in run("gc") and published(store) == set(LINEAGE)
    days_ago(store, 31)
    run("gc")
    assert published(store) == {CORPUS, SHARD}


def test_gc_says_what_stayed_because_a_run_came_to_need_it(
    store: Store, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fishersft import store_tables

    with recorded_run(store, "verses") as record:
        record.uses(CORPUS)

    def begin_a_run(*_: object) -> None:
        with recorded_run(store, "prose") as record:
            record.uses(EMBEDDINGS)

    monkeypatch.setattr(store_tables, "print_waste", begin_a_run)
    assert "1 stayed: a run has come to need them meanwhile" in run("gc", "--older-than", "0h")
    assert published(store) == {CORPUS, SHARD, EMBEDDINGS}


@pytest.mark.parametrize("age", ["30", "d", "-1d", "30 days", "1e3d", "999999d"])
def test_an_age_that_is_none_is_refused(run: Run, age: str) -> None:
    with pytest.raises(InputError, match=rf"older than {age}: expected days or hours, such as 30d or 12h"):
        run("gc", "--older-than", age)


def test_a_tag_keeps_an_artifact_or_all_of_a_run(store: Store, run: Run) -> None:
    with recorded_run(store, "verses") as record:
        record.uses(CORPUS)
    assert "paper: corpus/" in run("tag", "paper", "2222")
    assert f"best: run {record.id}, 1 artifacts" in run("tag", "best", record.id)
    for tag in ("paper", "best"):
        run("gc", "--keep-runs", "0", "--older-than", "0d")
        assert published(store) == {CORPUS, SHARD}
        run("untag", tag)
    run("gc", "--keep-runs", "0", "--older-than", "0d")
    assert published(store) == set()


def test_only_a_run_that_finished_is_tagged(store: Store, run: Run) -> None:
    with recorded_run(store, "verses") as record, pytest.raises(InputError, match="has not finished: it is running"):
        run("tag", "best", record.id)
    with pytest.raises(InputError, match=r"no run 20200101T000000\.000000Z-abcd is on record"):
        run("tag", "best", "20200101T000000.000000Z-abcd")
    with pytest.raises(InputError, match=r"'\.\./\.\./x' is no key"):
        run("tag", "best", "../../x")


def test_a_copied_store_is_found_by_a_run(config_file: Path, tmp_path: Path) -> None:
    invoke(("select", config_file), 0)
    printed = invoke(("store", "cp", config_file, tmp_path / "copy"), 0)
    assert re.search(r"^\d+ artifacts copied, 0 were there", printed, re.MULTILINE)
    again = invoke(("select", config_file, "--set", f"store={tmp_path / 'copy'}"), 0)
    assert "found" in again and "made " not in again
    assert "0 damaged" in invoke(("store", "verify", "--store", tmp_path / "copy"), 0)


def test_an_artifact_is_copied_with_all_that_it_came_from(store: Store, run: Run, tmp_path: Path) -> None:
    source, target = store.files.local_path(), tmp_path / "copy"
    assert "2 artifacts copied, 0 were there" in invoke(("store", "cp", source, target, "2222"), 0)
    assert published(Store(str(target))) == {CORPUS, SHARD}
    assert "2 artifacts copied, 2 were there" in invoke(("store", "cp", source, target, "4444"), 0)
    assert published(Store(str(target))) == {CORPUS, SHARD, EMBEDDINGS, SELECTION}
    assert "1 artifacts copied, 4 were there" in invoke(("store", "cp", source, target), 0)
    kept = {name: content for name, content in snapshot(store).items() if not name.startswith(".")}
    assert snapshot(Store(str(target))) == kept


def test_what_is_damaged_is_not_copied(store: Store, tmp_path: Path) -> None:
    (path,) = store.files.local_path(CORPUS).rglob("rows.txt")
    for damage in (lambda: path.write_text("thee"), path.unlink):
        damage()
        with pytest.raises(InputError, match=rf"{CORPUS}: file rows\.txt is missing or does not match"):
            invoke(("store", "cp", store.files.local_path(), tmp_path / "copy"), 0)
        assert CORPUS not in published(Store(str(tmp_path / "copy")))


def test_the_commands_work_on_an_object_store(
    store: Store, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    local, remote = store.files.local_path(), Store(bucket)
    assert "5 artifacts copied, 0 were there" in invoke(("store", "cp", local, bucket), 0)
    assert row_of(invoke(("store", "ls", "--store", bucket), 0), "1" * 12, "1 rows")
    assert row_of(invoke(("store", "du", "--store", bucket), 0), "shard")[1] == "2"
    assert "5 artifacts checked, 0 damaged" in invoke(("store", "verify", "--store", bucket), 0)
    invoke(("store", "cp", bucket, tmp_path / "back"), 0)
    assert snapshot(Store(str(tmp_path / "back"))) == {k: v for k, v in snapshot(store).items() if k[0] != "."}

    (file,) = (file.name for file in remote.files.list(SHARD) if file.name.endswith("rows.txt"))
    remote.files.write(file, b"thee")
    assert "file rows.txt has other bytes than were written" in invoke(("store", "verify", "--store", bucket), 1)
    invoke(("store", "verify", "--repair", "--store", bucket), 0)
    assert published(remote) == set(LINEAGE) - {SHARD}
    invoke(("store", "tag", "paper", "3333", "--store", bucket), 0)
    sleep(1.1)  # its clock has whole seconds
    invoke(("store", "gc", "--older-than", "0d", "--store", bucket), 0)
    assert published(remote) == {EMBEDDINGS}


def test_text_from_a_store_is_shown_as_text(store: Store, run: Run) -> None:
    said = store.get("shard", SHARD.partition("/")[2]).model_dump()
    said["facts"] = {"headline": "[red]x[/red] \x1b[31mred\x07", "note": "[/] \x1b]0;title\x07"}
    said["code"] = said["created"] = "[bold]\x1b[2J"
    said["params"] = {"[link=x]\x1b[0m": ["[/]\x1b"]}
    store.files.write(f"{SHARD}/manifest.json", manifest_bytes(Manifest.model_validate(said)))
    with recorded_run(store, "[red]\x1b[31m") as record:
        record.note(**{"[/]": "[/]"})
    for words in (("ls",), ("show", "1111"), ("show", "2222"), ("verify",), ("du",)):
        printed = run(*words)
        assert "\x1b" not in printed and "\x07" not in printed
    assert "[red]x[/red] [U+001B][31mred" in run("ls")
    assert "[red][U+001B][31m" in run("ls")


def test_a_record_of_a_path_removes_nothing_elsewhere(store: Store, run: Run, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("precious")
    with recorded_run(store, "verses"):
        pass
    (seen,) = read_runs(store.files)
    record = json.loads(seen.record.model_dump_json())
    name = f".runs/{seen.record.id}.json"
    store.files.write(name, json.dumps({**record, "roots": ["../../precious.txt"]}).encode())
    with pytest.raises(InputError, match=r"is no run record that this version"):
        run("gc", "--older-than", "0d")
    assert published(store) == set(LINEAGE) and (tmp_path / "precious.txt").read_text() == "precious"


def test_every_command_explains_itself() -> None:
    overview = invoke(("store", "--help"), 0)
    for command in ("ls", "show", "verify", "du", "gc", "tag", "untag", "cp"):
        assert f" {command} " in overview
        help_text = invoke(("store", command, "--help"), 0)
        assert "CONFIG.yaml" in help_text and "Usage" in help_text
