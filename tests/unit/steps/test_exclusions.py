"""Examples that are never chosen, by the ids that people are shown; what is proposed for approval, and changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.reporting.proposal import Proposal, proposal_markdown
from fishersft.steps.choosing import settings_in_words
from fishersft.steps.corpus import read_corpus
from fishersft.steps.embedding import embed_shard
from fishersft.steps.outcome import Outcome
from fishersft.steps.picks import load_picks, picked_examples
from fishersft.steps.proposal import changed_choice, propose
from fishersft.steps.selection import select_informative, select_uniform


class Pool:
    """A small corpus, embedded, from which several settings choose."""

    def __init__(self, config: CurateConfig) -> None:
        self.config, self.store = config, Store(config.store)
        self.corpus = read_corpus(self.store, config)
        self.embedded = [embed_shard(self.store, config, shard) for shard in self.corpus.facts["shard_keys"]]

    def with_selection(self, **changes: Any) -> CurateConfig:
        values = self.config.model_dump()
        values["selection"].update(changes)
        return CurateConfig.model_validate(values)

    def chosen(self, config: CurateConfig) -> Outcome:
        return select_informative(self.store, config, self.corpus.key, [outcome.key for outcome in self.embedded])

    def drawn(self, config: CurateConfig, tokens: int) -> Outcome:
        return select_uniform(self.store, config, self.corpus.key, [outcome.key for outcome in self.embedded], tokens)

    def proposed(self, config: CurateConfig) -> Proposal:
        return propose(self.store, config, self.corpus.key, self.embedded, self.chosen(config).key)

    def ids(self, selection: Outcome) -> list[str]:
        picks = load_picks(self.store, selection.key)
        return [example.id for example in picked_examples(self.store, self.config.corpus, picks)]


@pytest.fixture
def pool(tmp_path: Path, tiny_model_folder: Path) -> Pool:
    verses = tmp_path / "verses.txt"
    verses.write_text("".join(f"verse {n} of {'may ' * (n % 5 + 1)}and {n * n}\n" for n in range(30)))
    return Pool(
        CurateConfig.model_validate(
            {
                "corpus": {"path": str(verses)},
                "model": {"path": str(tiny_model_folder)},
                "embedding": {"shard_rows": 8},
                "selection": {"budget": 5, "budget_unit": "sentences"},
                "finetune": {"epochs": 2, "batch_tokens": 40},
                "store": str(tmp_path / "store"),
            }
        )
    )


def test_an_excluded_example_is_not_chosen_and_the_next_best_takes_its_place(pool: Pool) -> None:
    before = pool.ids(pool.chosen(pool.config))
    config = pool.with_selection(exclude=[before[0]])
    selection = pool.chosen(config)
    after = pool.ids(selection)
    assert before[0] not in after and len(after) == len(before) == 5
    assert settings_in_words(config.selection, selection.facts)["Never chosen"] == "1 excluded examples"


def test_the_uniform_choice_leaves_excluded_examples_out_too(pool: Pool) -> None:
    everything = pool.drawn(pool.config, tokens=10_000)
    (unwanted, *others) = pool.ids(everything)
    left = pool.drawn(pool.with_selection(exclude=[unwanted]), tokens=10_000)
    assert sorted(pool.ids(left)) == sorted(others)


def test_a_key_holds_exclusions_only_where_there_are_some_in_whatever_order_and_form(pool: Pool) -> None:
    plain = pool.chosen(pool.config)
    assert "exclude" not in pool.store.get("selection", plain.key).params
    assert "exclude" not in pool.store.get("selection", pool.drawn(pool.config, 60).key).params
    one, other, *_ = pool.ids(plain)
    first = pool.chosen(pool.with_selection(exclude=[one, other]))
    again = pool.chosen(pool.with_selection(exclude=[other, one + "0" * 52, one]))
    assert again.hit and again.key == first.key != plain.key


def test_an_id_of_no_example_is_named(pool: Pool) -> None:
    with pytest.raises(InputError, match=r"selection\.exclude: no example of the pool has the id 0123456789ab"):
        pool.chosen(pool.with_selection(exclude=["0123456789ab"]))


def test_excluding_the_whole_pool_is_refused(pool: Pool) -> None:
    everything = pool.ids(pool.drawn(pool.config, tokens=10_000))
    with pytest.raises(InputError, match=r"selection\.exclude leaves no example of the pool"):
        pool.chosen(pool.with_selection(exclude=everything))


def test_what_is_not_an_id_is_refused_before_any_work(pool: Pool) -> None:
    with pytest.raises(ValueError, match="should match pattern"):
        pool.with_selection(exclude=["7"])


def test_a_proposal_says_what_would_be_trained_on_and_what_that_costs(pool: Pool) -> None:
    values = {**pool.config.model_dump(), "approval": {"wanted": True, "price_per_hour": 3600}}
    proposal = pool.proposed(CurateConfig.model_validate(values))
    assert proposal.ids == pool.ids(pool.chosen(pool.config)) == [row.id for row in proposal.rows]
    assert proposal.steps == 2 * round(proposal.tokens / 40)
    embedding = sum(outcome.seconds for outcome in pool.embedded)
    share = proposal.tokens / sum(outcome.facts["tokens"] for outcome in pool.embedded)
    assert proposal.seconds == pytest.approx(2 * 3 * 2 * share * embedding)
    assert proposal.money == pytest.approx(proposal.seconds)
    told = proposal_markdown(proposal)
    assert f"5 sentences, {proposal.tokens} tokens" in told and "They cost about" in told


def test_no_time_is_told_for_a_model_of_which_nothing_is_known(pool: Pool) -> None:
    values = pool.config.model_dump()
    values["finetune"]["model"] = values["model"]
    proposal = pool.proposed(CurateConfig.model_validate(values))
    assert proposal.seconds is None and "not known" in proposal_markdown(proposal)


def test_an_answer_changes_the_budget_and_excludes_by_rank_or_id(pool: Pool) -> None:
    ids = [f"{n:012x}" for n in range(20, 25)]
    changed = changed_choice(pool.with_selection(exclude=["f" * 12]), ids, 3, ["2", f" {ids[4].upper()} ", "2"])
    assert (changed.selection.budget, changed.selection.exclude) == (3, ["f" * 12, ids[1], ids[4]])
    assert changed_choice(pool.config, ids, 5, []) == pool.config


@pytest.mark.parametrize("name", ["0", "6", "-1", "first", "a" * 12])
def test_what_an_answer_names_must_be_among_what_was_chosen(pool: Pool, name: str) -> None:
    with pytest.raises(InputError, match=r"neither the id of a chosen example nor a rank from 1 to 5"):
        changed_choice(pool.config, [f"{n:012x}" for n in range(20, 25)], 5, [name])
