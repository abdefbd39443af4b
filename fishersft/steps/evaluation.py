"""Evaluating a model on the held-out examples: likelihoods, completions and a judge's verdicts as artifacts."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from fishersft.config import CurateConfig, ModelConfig
from fishersft.data.store import Draft, Store
from fishersft.errors import InputError
from fishersft.steps.embedding import examples_digest, tokenising_params
from fishersft.steps.held_out import measured_examples
from fishersft.steps.models import (
    device_of,
    loaded_model,
    loaded_tokeniser,
    most_tokens,
    prepare_model,
    prepare_trained,
    trained_config,
)
from fishersft.steps.outcome import OnProgress, Outcome, find_or_make

LIKELIHOOD_VERSION = 1
GENERATION_VERSION = 1
JUDGING_VERSION = 2


def measure_likelihood(
    store: Store, config: CurateConfig, corpus: str, trained: str | None, on_progress: OnProgress | None = None
) -> Outcome:
    """Each held-out sentence's negative log-likelihood under a model: an artifact of kind "evaluation".

    Args:
        corpus: the corpus artifact's key.
        trained: a fine-tuned model's key; None for the model that the config names.
        on_progress: called with (sentences done, in all).
    """
    config = trained_config(config)
    model = prepare_trained(store, config.model, trained)
    examples = measured_examples(store, config, corpus)[: config.evaluation.sentences]

    def write(draft: Draft) -> None:
        from fishersft.models.evaluating import sentence_nll

        tokeniser = loaded_tokeniser(model, most_tokens(model, config.model), config.model.trust_remote_code)
        sentences = [s for s in (tokeniser(example) for example in examples) if s.loss_tokens]
        if len(sentences) < 2:
            raise InputError(
                f"{len(sentences)} of {len(examples)} held-out examples have a token that the loss counts, and an "
                "interval needs 2; check corpus.example and its fields, or raise corpus.held_out_fraction"
            )
        loaded = loaded_model(model, config.model.dtype, device_of(config), config.model.trust_remote_code)
        nll = sentence_nll(loaded, sentences, config.embedding.batch_tokens, on_progress)
        tokens = [sentence.loss_tokens for sentence in sentences]
        table = pa.table({"nll": pa.array(nll, pa.float64()), "tokens": pa.array(tokens, pa.int64())})
        pq.write_table(table, draft.folder / "nll.parquet")
        draft.facts.update(sentences=len(sentences), tokens=sum(tokens))

    params = {**tokenising_params(model, config), "dtype": config.model.dtype}
    inputs = {"model": model.fingerprint, "examples": examples_digest(examples)}
    return find_or_make(
        store, "evaluation", LIKELIHOOD_VERSION, params, inputs, write, [f"corpus/{corpus}", *model.sources]
    )


def complete_prompts(
    store: Store, config: CurateConfig, corpus: str, trained: str | None, on_progress: OnProgress | None = None
) -> Outcome:
    """Completions of held-out prompts: an artifact of kind "generations", the same prompts for every model."""
    config = trained_config(config)
    base = prepare_model(store, config.model)
    model = prepare_trained(store, config.model, trained)
    examples = measured_examples(store, config, corpus)
    settings = config.evaluation

    def write(draft: Draft) -> None:
        from fishersft.models.evaluating import complete

        tokeniser = loaded_tokeniser(base, most_tokens(base, config.model), config.model.trust_remote_code)
        most = base.context - settings.new_tokens
        if most < 1:
            raise InputError(
                f"evaluation.new_tokens {settings.new_tokens} leaves no room for a prompt in the model's context of "
                f"{base.context} tokens; lower it"
            )
        candidates = (tokeniser.prompt_ids(example, settings.prompt_tokens, most) for example in examples)
        prompts = [ids for ids in candidates if ids][: settings.prompts]
        if not prompts:
            raise InputError(
                f"no held-out example is longer than {settings.prompt_tokens} tokens, so none gives a prompt; "
                "lower evaluation.prompt_tokens"
            )
        loaded = loaded_model(model, config.model.dtype, device_of(config), config.model.trust_remote_code)
        texts = complete(loaded, tokeniser.tokenizer, prompts, settings.new_tokens, on_progress=on_progress)
        shown = [tokeniser.tokenizer.decode(ids, skip_special_tokens=True) for ids in prompts]
        pq.write_table(pa.table({"prompt": shown, "completion": texts}), draft.folder / "generations.parquet")
        tokens = sum(map(len, prompts)) + sum(len(tokeniser.tokenizer(text)["input_ids"]) for text in texts)
        draft.facts.update(prompts=len(prompts), tokens=tokens)

    params = {
        **tokenising_params(base, config),
        **settings.model_dump(include={"prompts", "prompt_tokens", "new_tokens"}),
        "dtype": config.model.dtype,
    }
    inputs = {
        "model": model.fingerprint,
        "tokenizer": base.fingerprint,
        "examples": examples_digest(examples),
    }
    sources = [f"corpus/{corpus}", *model.sources, *base.sources]
    return find_or_make(store, "generations", GENERATION_VERSION, params, inputs, write, sources)


def judge_config(config: CurateConfig) -> ModelConfig:
    """The model that judges: the one that `evaluation.judge` names, or the base model."""
    if config.evaluation.judge is None:
        return trained_config(config).model
    return config.model.model_copy(update={"path": config.evaluation.judge, "revision": None, "max_tokens": None})


def judge_completions(
    store: Store, config: CurateConfig, generations: str, other: str, on_progress: OnProgress | None = None
) -> Outcome:
    """A judge compares two sets of completions in both orders: an artifact of kind "judgements".

    Its table has, for each prompt, log P("2") - log P("1") with the first set's text first, and with it second, and
    whether both texts are the same, which leaves nothing to judge. The judge sees prompt and completion as one text,
    and no method's name.
    """
    settings = judge_config(config)
    judge = prepare_model(store, settings)

    def write(draft: Draft) -> None:
        from fishersft.models.judging import LocalJudge

        tokeniser = loaded_tokeniser(judge, judge.context, settings.trust_remote_code)
        loaded = loaded_model(judge, settings.dtype, device_of(config), settings.trust_remote_code)
        first, second = _texts(store, generations), _texts(store, other)
        local_judge = LocalJudge(loaded, tokeniser.tokenizer, config.evaluation.task, judge.context)
        pairs = [*zip(first, second, strict=True), *zip(second, first, strict=True)]
        margins = local_judge.second_preferred(pairs, config.embedding.batch_tokens, on_progress)
        table = pa.table(
            {
                "margin": pa.array(margins[: len(first)]),
                "swapped_margin": pa.array(margins[len(first) :]),
                "identical": [text == other_text for text, other_text in zip(first, second, strict=True)],
            }
        )
        pq.write_table(table, draft.folder / "judgements.parquet")
        draft.facts.update(prompts=len(first), tokens=local_judge.tokens_read)

    params = {"task": config.evaluation.task, "dtype": settings.dtype}
    inputs = {"judge": judge.fingerprint, "generations": generations, "other": other}
    sources = [f"generations/{generations}", f"generations/{other}", *judge.sources]
    return find_or_make(store, "judgements", JUDGING_VERSION, params, inputs, write, sources)


def _texts(store: Store, generations: str) -> list[str]:
    columns = pq.read_table(store.fetch("generations", generations) / "generations.parquet").to_pydict()
    return [prompt + completion for prompt, completion in zip(columns["prompt"], columns["completion"], strict=True)]
