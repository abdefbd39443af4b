"""Examples as the model will see them, with what the loss counts told apart: what people want to see before a run."""

from __future__ import annotations

from itertools import groupby

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.reporting.summary import LossPreview
from fishersft.steps.corpus import CorpusIndex
from fishersft.steps.models import prepare_tokenizer, tokeniser_of
from fishersft.steps.tokens import shard_tokens, tokenise_shard

_SHOWN_TOKENS = 400  # of an example


def previews(store: Store, config: CurateConfig, index: CorpusIndex, most: int = 3) -> list[LossPreview]:
    """Some examples of the pool, from its beginning, its middle and its end, token by token as they are trained on.

    Args:
        index: of the corpus.
        most: how many.
    """
    rows = [(shard, row) for shard, rows in zip(index.shards, index.rows, strict=False) for row in range(rows)]
    places = [(len(rows) - 1) * number // max(most - 1, 1) for number in range(most)]
    return [_preview(store, config, index, *rows[place]) for place in dict.fromkeys(places)]


def _preview(store: Store, config: CurateConfig, index: CorpusIndex, shard: str, row: int) -> LossPreview:
    sentence = shard_tokens(store, tokenise_shard(store, config, shard))[row]
    tokenizer = tokeniser_of(prepare_tokenizer(store, config.model), config).tokenizer
    shown = list(zip(sentence.input_ids, sentence.loss_mask, strict=True))[:_SHOWN_TOKENS]
    pieces = [
        (tokenizer.decode([token for token, _ in run], clean_up_tokenization_spaces=False), counted)
        for counted, run in groupby(shown, key=lambda token: token[1])
    ]
    source, number = index.source_of(shard, row)
    return LossPreview(
        source=source,
        row=number,
        pieces=pieces,
        tokens=len(sentence.input_ids),
        loss_tokens=sentence.loss_tokens,
        truncated=sentence.truncated,
        not_shown=max(0, len(sentence.input_ids) - _SHOWN_TOKENS),
    )
