"""The settings of fine-tuning."""

from __future__ import annotations

from typing import Literal

from fishersft.config.fields import Section, described
from fishersft.config.model import ModelConfig


class FinetuneConfig(Section):
    """How the model is fine-tuned: on the selection, and on an equal-token uniform selection."""

    method: Literal["full", "lora"] = described(
        "full", 0, "Method", "Train all weights, or LoRA adapters (merged after)."
    )
    epochs: int = described(2, 1, "Epochs", "Passes over the chosen examples.", ge=1)
    learning_rate: float = described(3e-5, 2, "Learning rate", "AdamW's peak learning rate.", gt=0)
    batch_tokens: int = described(
        256, 3, "Tokens a step", "Loss tokens in an optimiser step; equal tokens then take equal steps.", ge=1
    )
    lora_rank: int = described(16, 4, "LoRA rank", "Used with method lora.", ge=1)
    model: ModelConfig | None = described(
        None,
        5,
        "Model",
        "Another model to train, such as a larger one, on what `model` chose: the same sentences, in the tokens of its "
        "own tokenizer. Empty: the model that chose.",
    )
    early_stopping: int | None = described(
        None,
        6,
        "Early stopping",
        "End when the loss on held-out examples has not improved for this many epochs, and keep the best epoch's "
        "weights. Those examples are set aside: the outcome is measured on others. Empty: train all epochs.",
        ge=1,
    )
    packing: bool = described(
        False,
        7,
        "Packing",
        "Lay the sentences of a pass end to end in one row, without padding; each still sees itself only. Faster where "
        "lengths differ much; the steps are the same.",
    )
    passes_a_step: int = described(
        1,
        8,
        "Passes a step",
        "Compute a step's tokens in this many parts, whose gradients add up to that of the whole: less memory, the "
        "same steps.",
        ge=1,
    )
    gradient_checkpointing: bool = described(
        False,
        9,
        "Gradient checkpointing",
        "Keep only some activations and compute the others again: less memory, about a third slower, the same steps.",
    )
    keep_weights: bool = described(
        False,
        10,
        "Keep the weights",
        "Keep the weights of every training in the store. Off: of those that the run publishes only; of others the "
        "record and the measurements stay, and a new measurement trains again.",
    )
