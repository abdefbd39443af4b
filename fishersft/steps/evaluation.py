"""Evaluating a model on the held-out examples: likelihoods, completions and a judge's verdicts as artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import SecretStr

from fishersft.config import CurateConfig
from fishersft.data.examples import Conversation, Example, PromptCompletion, as_text
from fishersft.data.keys import digest_of
from fishersft.data.store import Draft, Store
from fishersft.errors import InputError
from fishersft.models.sampling import Sampling
from fishersft.steps.harness import harness_work
from fishersft.steps.held_out import evaluated_examples
from fishersft.steps.judges import PreparedJudge, prepare_judge
from fishersft.steps.judging import calibrate_on, judge_pairs
from fishersft.steps.models import (
    device_of,
    identity_of,
    loaded_model,
    prepare_model,
    prepare_tokenizer,
    prepare_trained,
    tokeniser_of,
    trained_config,
)
from fishersft.steps.outcome import OnProgress, Outcome, Work
from fishersft.steps.tokens import tokenised, tokens_digest

if TYPE_CHECKING:
    from fishersft.models.tokenising import Tokeniser

LIKELIHOOD_VERSION = 2
GENERATION_VERSION = 2


def measure_likelihood(
    store: Store, config: CurateConfig, corpus: str, trained: str | None, on_progress: OnProgress | None = None
) -> Outcome:
    """Each held-out sentence's negative log-likelihood under a model: an artifact of kind "evaluation".

    Args:
        corpus: the corpus artifact's key.
        trained: a training's key; None for the model that the config names.
        on_progress: called with (sentences done, in all).

    Raises:
        InputError: fewer than two held-out examples have a token that counts, or the training's weights are gone.
    """
    return _likelihood(store, config, corpus, trained, on_progress).done(store)


def is_measured(store: Store, config: CurateConfig, corpus: str, trained: str, written: bool = True) -> bool:
    """Whether all that a config measures of a training is in the store, so that its weights are not needed.

    Args:
        corpus: the corpus artifact's key.
        trained: the training's key.
        written: whether completions are wanted.
    """
    works = [_likelihood(store, config, corpus, trained)]
    if written:
        works.append(_completions(store, config, corpus, trained))
    if config.evaluation.harness_tasks:
        works.append(harness_work(store, config, trained))
    return all(work.is_done(store) for work in works)


def measured_places(store: Store, config: CurateConfig, corpus: str) -> list[int]:
    """The rows whose likelihood is measured, in the order of the evaluation's table, by their places as of `HeldOut`.

    Args:
        corpus: the corpus artifact's key.
    """
    config = trained_config(config)
    held_out = evaluated_examples(store, config, corpus)
    examples = held_out.examples[: config.evaluation.sentences]
    sentences = tokenised(prepare_tokenizer(store, config.model), config, examples)
    return [place for place, sentence in zip(held_out.places, sentences, strict=False) if sentence.loss_tokens]


def _likelihood(
    store: Store, config: CurateConfig, corpus: str, trained: str | None, on_progress: OnProgress | None = None
) -> Work:
    config = trained_config(config)
    base = prepare_model(store, config.model)
    fingerprint, sources = identity_of(base, trained)
    held_out = evaluated_examples(store, config, corpus)
    examples = held_out.examples[: config.evaluation.sentences]
    sentences = [sentence for sentence in tokenised(base, config, examples) if sentence.loss_tokens]

    def write(draft: Draft) -> None:
        from fishersft.models.evaluating import sentence_nll

        if len(sentences) < 2:
            raise InputError(
                f"{len(sentences)} of {len(examples)} held-out examples have a token that the loss counts, and an "
                "interval needs 2; check corpus.example and its fields, or raise corpus.held_out_fraction"
            )
        model = prepare_trained(store, config.model, trained)
        loaded = loaded_model(model, config.model.dtype, device_of(config), config.model.trust_remote_code)
        nll = sentence_nll(loaded, sentences, config.embedding.batch_tokens, on_progress)
        tokens = [sentence.loss_tokens for sentence in sentences]
        table = pa.table({"nll": pa.array(nll, pa.float64()), "tokens": pa.array(tokens, pa.int64())})
        pq.write_table(table, draft.folder / "nll.parquet")
        draft.facts.update(sentences=len(sentences), tokens=sum(tokens))

    params = {"dtype": config.model.dtype}
    inputs = {"model": fingerprint, "tokens": tokens_digest(sentences)}
    return Work("evaluation", LIKELIHOOD_VERSION, params, inputs, write, [*held_out.sources, *sources])


def complete_prompts(
    store: Store, config: CurateConfig, corpus: str, trained: str | None, on_progress: OnProgress | None = None
) -> Outcome:
    """Completions of held-out prompts: an artifact of kind "generations", the same prompts for every model.

    With a temperature every prompt has the same luck with every model, see `Sampling`.

    Args:
        corpus, trained: as for `measure_likelihood`.
        on_progress: called with (prompts done, in all).

    Raises:
        InputError: no held-out example gives a prompt, or the training's weights are gone.
    """
    return _completions(store, config, corpus, trained, on_progress).done(store)


def _completions(
    store: Store, config: CurateConfig, corpus: str, trained: str | None, on_progress: OnProgress | None = None
) -> Work:
    config = trained_config(config)
    base = prepare_model(store, config.model)
    fingerprint, sources = identity_of(base, trained)
    held_out = evaluated_examples(store, config, corpus)
    settings = config.evaluation
    sampling = Sampling(settings.temperature, settings.top_p, config.seed) if settings.temperature else None

    tokeniser = tokeniser_of(base, config)
    prompts = _prompts(tokeniser, base.context - settings.new_tokens, config, held_out.examples)

    def write(draft: Draft) -> None:
        from fishersft.models.evaluating import complete

        model = prepare_trained(store, config.model, trained)
        loaded = loaded_model(model, config.model.dtype, device_of(config), config.model.trust_remote_code)
        texts = complete(loaded, tokeniser.tokenizer, prompts, settings.new_tokens, sampling, on_progress=on_progress)
        shown = [tokeniser.tokenizer.decode(ids, skip_special_tokens=True) for ids in prompts]
        pq.write_table(pa.table({"prompt": shown, "completion": texts}), draft.folder / "generations.parquet")
        tokens = sum(map(len, prompts)) + sum(len(tokeniser.tokenizer(text)["input_ids"]) for text in texts)
        draft.facts.update(prompts=len(prompts), tokens=tokens)

    params: dict[str, Any] = {
        "new_tokens": settings.new_tokens,
        "dtype": config.model.dtype,
    }
    if sampling is not None:
        params["sampling"] = asdict(sampling)
    inputs = {
        "model": fingerprint,
        "tokenizer": base.tokenizer,
        "prompts": digest_of(prompts),
    }
    sources = (*held_out.sources, *sources, *base.sources)
    return Work("generations", GENERATION_VERSION, params, inputs, write, sources)


def _prompts(tokeniser: Tokeniser, most: int, config: CurateConfig, examples: Sequence[Example]) -> list[list[int]]:
    """The token ids of the first prompts that the examples give, at most so many tokens each.

    Raises:
        InputError: there is none, or no room for one.
    """
    settings = config.evaluation
    if most < 1:
        raise InputError(
            f"evaluation.new_tokens {settings.new_tokens} leaves no room for a prompt in the model's context of "
            f"{most + settings.new_tokens} tokens; lower it"
        )
    candidates = (_prompt(tokeniser, example, settings.prompt_tokens, most) for example in examples)
    prompts = list(islice((ids for ids in candidates if ids), settings.prompts))
    if not prompts:
        raise InputError(
            f"no held-out example is longer than {settings.prompt_tokens} tokens, so none gives a prompt; "
            "lower evaluation.prompt_tokens"
        )
    return prompts


def _prompt(tokeniser: Tokeniser, example: Example, text_tokens: int, most: int) -> list[int] | None:
    """The prompt that an example gives; None too where the chat template refuses it.

    A row that it refuses was skipped, as `corpus.on_bad_row` says, or the run had ended when its rows were checked. Of
    a conversation that it takes, it may refuse the beginning.
    """
    try:
        return tokeniser.prompt_ids(example, text_tokens, most)
    except InputError:
        return None


def judge_completions(
    store: Store,
    config: CurateConfig,
    generations: str,
    other: str,
    on_progress: OnProgress | None = None,
    judge: int = 0,
    api_key: SecretStr | None = None,
) -> Outcome:
    """A judge compares two sets of completions in both orders: an artifact of kind "judgements".

    It is as `judge_pairs` has it. The judge sees prompt and completion as one text, and no method's name.

    Args:
        generations, other: keys of generations of the same prompts.
        judge: its place in `evaluation.judging.judges`.
        api_key: the key of a judge behind an endpoint; None: from the environment.
    """
    return judge_pairs(
        store,
        _prepared_judge(store, config, judge, api_key),
        {"generations": generations, "other": other},
        lambda: list(zip(_texts(store, generations), _texts(store, other), strict=True)),
        on_progress,
        [f"generations/{generations}", f"generations/{other}"],
    )


def calibrate_judge(
    store: Store,
    config: CurateConfig,
    corpus: str,
    on_progress: OnProgress | None = None,
    judge: int = 0,
    api_key: SecretStr | None = None,
) -> Outcome:
    """A judge compares held-out texts with the same words shuffled: an artifact of kind "judgements".

    Args:
        corpus: the corpus artifact's key.
        judge, api_key: as for `judge_completions`.
    """
    return calibrate_on(
        store,
        _prepared_judge(store, config, judge, api_key),
        [_plain_text(example) for example in evaluated_examples(store, config, corpus).examples],
        config.evaluation.judging.calibration_pairs,
        config.seed,
        on_progress,
        [f"corpus/{corpus}"],
    )


def _prepared_judge(store: Store, config: CurateConfig, judge: int, api_key: SecretStr | None) -> PreparedJudge:
    return prepare_judge(
        store,
        config.evaluation.judging,
        trained_config(config).model,
        number=judge,
        device=device_of(config),
        batch_tokens=config.embedding.batch_tokens,
        api_key=api_key,
    )


def _plain_text(example: Example) -> str:
    """An example as the text that a judge sees: of a prompt and its completion both, of a conversation all turns."""
    if isinstance(example, Conversation):
        return "\n".join(message.get("content") or "" for message in example.messages)
    return example.prompt + example.completion if isinstance(example, PromptCompletion) else as_text(example)


def _texts(store: Store, generations: str) -> list[str]:
    columns = pq.read_table(store.fetch("generations", generations) / "generations.parquet").to_pydict()
    return [prompt + completion for prompt, completion in zip(columns["prompt"], columns["completion"], strict=True)]
