"""A judge's key comes from a Prefect Secret block, and stays secret."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fishersft.data.store import Store
from tests.judge_server import running_judge_server
from tests.prefect_server import PrefectServer

KEY = "sk-test-block-4f1b"
PROGRAM = """
import json, sys
from prefect import flow
from prefect.blocks.system import Secret
from fishersft.config import CurateConfig
from tasks import curation

config = CurateConfig.model_validate(json.loads(sys.argv[1]))
if sys.argv[2]:
    Secret(value=sys.argv[2]).save("judge-key", overwrite=True)

@flow
def judge():
    curation.check_models(config)
    print(curation.judge_completions(config, "a" * 64, "b" * 64, "one", "two").facts["asked"], "asked")

judge()
"""


@pytest.mark.server
def test_a_key_in_a_secret_block_reaches_the_endpoint_and_nothing_else(
    prefect_server: PrefectServer, tmp_path: Path
) -> None:
    store = Store(str(tmp_path / "store"))
    for key, completion in (("a", "longest"), ("b", "x")):
        with store.publish("generations", key * 64, {}, {}) as draft:
            pq.write_table(pa.table({"prompt": [""], "completion": [completion]}), draft.folder / "generations.parquet")
    with running_judge_server() as server:
        endpoint = {"model": "judge", "base_url": server.url, "api_key_secret": "judge-key"}
        config = {
            "corpus": {"path": "unused.jsonl"},
            "evaluation": {"judging": {"judges": [endpoint]}},
            "store": str(tmp_path / "store"),
        }

        def run(key: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-c", PROGRAM, json.dumps(config), key]
            return subprocess.run(
                command, env=prefect_server.environment, capture_output=True, text=True, timeout=120, check=False
            )

        without = run("")
        assert without.returncode != 0
        assert "wants the Prefect Secret block 'judge-key', and there is none" in without.stdout + without.stderr
        done = run(KEY)
        assert "2 asked" in done.stdout, done.stdout + done.stderr
        assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    assert KEY not in done.stdout + done.stderr
    for file in (file for folder in (prefect_server.home, tmp_path) for file in folder.rglob("*") if file.is_file()):
        assert KEY.encode() not in file.read_bytes(), file
