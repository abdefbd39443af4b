"""Every verdict of a judge is kept by its content: what it was asked once, in whatever comparison, is not asked again.

Verdicts are published in artifacts of up to `CHUNK` of them, so that an interrupted run loses at most that many and a
store on S3 holds few files. An artifact's key ends with the judge's digest: those of one judge are found by listing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from fishersft.data.concurrency import at_once
from fishersft.data.keys import digest_of
from fishersft.data.manifest import Manifest
from fishersft.data.store import Store
from fishersft.models.judging import PROTOCOL_VERSION, Pair, Verdict
from fishersft.steps.judges import PreparedJudge
from fishersft.steps.outcome import OnProgress, used

VERDICTS_VERSION = 1
CHUNK = 64  # questions
_READERS = 8
_DIGITS = 32  # of a key's 64: the questions'; the rest are the judge's
_SCHEMA = pa.schema(
    {
        "question": pa.string(),
        "choice": pa.int8(),
        "input_tokens": pa.int64(),
        "output_tokens": pa.int64(),
        "reply": pa.string(),
    }
)


@dataclass
class Verdicts:
    """The verdicts on some questions, in their order; the artifacts that hold them; how many were asked for now."""

    verdicts: list[Verdict]
    sources: list[str]
    asked: int


@dataclass
class _Known:
    """Verdicts by their question's digest, each with the artifact that holds it."""

    verdicts: dict[str, tuple[Verdict, str]] = field(default_factory=dict)
    asked: int = 0


def find_or_ask(
    store: Store, judge: PreparedJudge, pairs: Sequence[Pair], on_progress: OnProgress | None = None
) -> Verdicts:
    """A judge's verdicts on pairs: found in the store, or asked for and kept there.

    Args:
        on_progress: called with (pairs done, in all).

    Raises:
        InputError: the judge fails. What it said so far is kept, and the next call goes on there.
    """
    digests = [digest_of(judge.question.about(*pair)) for pair in pairs]
    known = _Known()
    wanted = dict(zip(digests, pairs, strict=True))
    for manifest, verdicts in _kept(store, judge):
        useful = {
            digest: (verdict, f"verdicts/{manifest.key}") for digest, verdict in verdicts.items() if digest in wanted
        }
        if useful:
            used(store, manifest, hit=True)
            known.verdicts.update(useful)
    missing = {digest: pair for digest, pair in wanted.items() if digest not in known.verdicts}
    if missing:
        _ask(store, judge, missing, known, on_progress)
    return Verdicts(
        [known.verdicts[digest][0] for digest in digests],
        sorted({known.verdicts[digest][1] for digest in digests}),
        known.asked,
    )


def _ask(
    store: Store, judge: PreparedJudge, missing: dict[str, Pair], known: _Known, on_progress: OnProgress | None
) -> None:
    """Asks for verdicts chunk by chunk; each chunk is published, and what there is of one that is cut short, too."""
    asker, digests = judge.open(), list(missing)
    total = len(digests) + len(known.verdicts)
    for start in range(0, len(digests), CHUNK):
        chunk = digests[start : start + CHUNK]
        said: dict[str, Verdict] = {}
        started = time.perf_counter()
        try:
            for place, verdict in asker.answers([missing[digest] for digest in chunk]):
                said[chunk[place]] = verdict
                if on_progress:
                    on_progress(len(known.verdicts) + len(said), total)
        finally:
            if said:
                name = _publish(store, judge, said, started)
                known.verdicts.update({digest: (verdict, name) for digest, verdict in said.items()})
                known.asked += len(said)


def _publish(store: Store, judge: PreparedJudge, said: dict[str, Verdict], started: float) -> str:
    """Keeps some verdicts, asked for since `started`, as an artifact of its own; its name."""
    digests = sorted(said)
    key = digest_of(digests)[:_DIGITS] + _judge_digits(judge)
    params = {"version": VERDICTS_VERSION, "protocol": PROTOCOL_VERSION, "judge": judge.identity}
    with store.publish("verdicts", key, params, {"questions": digest_of(digests)}, judge.sources) as draft:
        draft.started = started
        rows = [{"question": digest, **asdict(said[digest])} for digest in digests]
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), draft.folder / "verdicts.parquet")
        draft.facts.update(
            judge=judge.name,
            questions=len(said),
            tokens=sum(verdict.input_tokens + verdict.output_tokens for verdict in said.values()),
        )
    used(store, store.get("verdicts", key), hit=False)
    return f"verdicts/{key}"


def _kept(store: Store, judge: PreparedJudge) -> Iterator[tuple[Manifest, dict[str, Verdict]]]:
    """All artifacts of this judge's verdicts that the store holds, with what they say."""
    digits = _judge_digits(judge)
    names = (file.name.split("/") for file in store.files.list("verdicts"))
    keys = [name[1] for name in names if name[-1] == "manifest.json" and name[1].endswith(digits)]

    def read(key: str) -> tuple[Manifest, dict[str, Verdict]] | None:
        manifest = store.find("verdicts", key)
        if manifest is None:  # removed since it was listed
            return None
        rows = pq.read_table(store.fetch("verdicts", key) / "verdicts.parquet").to_pylist()
        return manifest, {row.pop("question"): Verdict(**row) for row in rows}

    yield from filter(None, at_once(read, keys, _READERS))


def _judge_digits(judge: PreparedJudge) -> str:
    return digest_of([VERDICTS_VERSION, PROTOCOL_VERSION, judge.identity])[_DIGITS:]
