"""D-optimal design with one vector a sentence: what selection by information gain was before token blocks."""

from __future__ import annotations

import numpy as np
import torch

from fishersft.baselines.budgets import Array, Budgeted
from fishersft.numerics.blocks import Blocks, TokenBlocks
from fishersft.numerics.greedy import BudgetUnit
from fishersft.numerics.selection import select


def mean_embeddings(blocks: Blocks) -> np.ndarray:
    """The mean of each token block's rows: (n, dim), float32; zero for a block without tokens.

        e_i = (1 / tokens_i) sum over j of x_ij, added up in float64

    Cost: O(tokens dim) time, one block of memory beside the result.

    Example:
        >>> mean_embeddings(TokenBlocks.from_sequence([[[1.0, 3.0], [3.0, 5.0]]])).tolist()
        [[2.0, 4.0]]
    """
    means = np.zeros((len(blocks), blocks.dim), dtype=np.float32)
    for i in range(len(blocks)):
        block = blocks[i]
        if len(block):
            means[i] = block.mean(dim=0, dtype=torch.float64).cpu().numpy()
    return means


def sentence_d_optimal(
    embeddings: Array,
    lengths: Array,
    budget: int,
    *,
    budget_unit: BudgetUnit = "sentences",
    regularization: float = 1.0,
    device: torch.device | str | None = None,
    seed: int = 0,
) -> np.ndarray:
    """D-optimal design with one vector a sentence, chosen greedily by `fishersft.select`.

        maximise log det(lambda I + sum over chosen i of e_i e_i^T)

    The vectors count and not the tokens: a long sentence gains nothing by its length. With a budget in tokens the
    same greedy order is cut where its tokens come nearest to the budget.

    Args:
        embeddings: (n, dim), numbers; one vector a sentence, such as `mean_embeddings(blocks)`.
        lengths: (n,), integers; tokens in each sentence.
        budget: >= 1, in sentences or tokens. More than there are: all sentences.
        budget_unit: "sentences" or "tokens".
        regularization: lambda > 0, in the units of the squared embeddings.
        device: where to compute, as torch names it; None: a GPU if there is one.
        seed: has no effect; it is there so that all baselines are called alike.

    Returns:
        (k,), int64; positions in `embeddings`, in the order chosen.

    Raises:
        InputError: an argument out of its range, shapes that differ, an embedding that is not finite, or no
            sentence holds a token.

    Cost: that of `fishersft.select` on n blocks of one row.
    Source: Deb et al. (2025), arXiv:2505.14826 compare with such a design; Kiefer and Wolfowitz (1960).

    Example:
        >>> vectors = np.array([[2.0, 0.0], [3.0, 0.0], [0.0, 1.0]])
        >>> sentence_d_optimal(vectors, np.array([5, 5, 5]), 2).tolist()
        [1, 2]
    """
    budgeted = Budgeted.checked(lengths, budget, budget_unit, seed)
    vectors = torch.from_numpy(budgeted.vectors_of_candidates(embeddings))
    blocks = TokenBlocks(vectors, torch.arange(len(vectors) + 1))
    chosen = select(blocks, budgeted.most, regularization=regularization, device=device)
    return budgeted.prefix(budgeted.candidates[chosen.indices])
