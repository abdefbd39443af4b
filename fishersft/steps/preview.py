"""Examples as the model will see them, with what the loss counts told apart: what people want to see before a run."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.reporting.summary import LossPreview
from fishersft.steps.corpus import CorpusIndex
from fishersft.steps.models import prepare_tokenizer, tokeniser_of
from fishersft.steps.tokens import shard_tokens, tokenise_shard

if TYPE_CHECKING:
    from fishersft.models.tokenising import Tokenised

_SHOWN_TOKENS = 400  # of an example
_EDGE_TOKENS = 60  # of a long stretch that the loss does not count, at its beginning and at its end


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
    pieces, told = _pieces(tokenizer, sentence)
    source, number = index.source_of(shard, row)
    return LossPreview(
        source=source,
        row=number,
        pieces=pieces,
        tokens=len(sentence.input_ids),
        loss_tokens=sentence.loss_tokens,
        truncated=sentence.truncated,
        not_shown=len(sentence.input_ids) - told,
    )


def _pieces(tokenizer: Any, sentence: Tokenised) -> tuple[list[tuple[str, bool]], int]:
    """Text with whether the loss counts it, and how many tokens that tells of.

    Of an example too long to be shown, a long stretch that the loss does not count, such as a system prompt or the
    tools, is cut in its middle, so that there is room for what the loss counts.
    """

    def text(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    pieces, shown, told = list[tuple[str, bool]](), 0, 0
    is_long = len(sentence.input_ids) > _SHOWN_TOKENS
    for counted, run in groupby(zip(sentence.input_ids, sentence.loss_mask, strict=True), key=lambda token: token[1]):
        ids = [token for token, _ in run]
        hidden = len(ids) - 2 * _EDGE_TOKENS
        if is_long and not counted and hidden > 0:
            pieces.append((f"{text(ids[:_EDGE_TOKENS])} … {hidden:,} tokens … {text(ids[-_EDGE_TOKENS:])}", counted))
            shown += 2 * _EDGE_TOKENS
        else:
            ids = ids[: _SHOWN_TOKENS - shown]
            pieces.append((text(ids), counted))
            shown += len(ids)
        told += len(ids)
        if shown >= _SHOWN_TOKENS:
            break
    return pieces, told
