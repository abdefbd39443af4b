"""What a selection has to beat: other ways to choose sentences under the same budget.

Each takes what it knows of every sentence, the sentences' lengths and a budget, and gives the chosen positions in
order: `name(..., lengths, budget, *, budget_unit="sentences", seed=0)`. Two rules hold for all of them.

* Each is an order of the sentences that the budget cuts. In sentences it is a prefix of that many; in tokens the
  prefix (of at least one sentence) whose total is nearest to the budget, the shorter of two equally near. So the
  total strays by at most half a sentence's length (but for a first sentence longer than the budget), up or down
  alike, and no sentence is passed over for being long, as it would be by filling up what remains.
* Sentences of zero tokens are never chosen, and nothing is asked of their embeddings or scores.

Only `repeated` chooses a sentence more than once.
"""

from fishersft.baselines.clusters import clustering
from fishersft.baselines.coverage import facility_location
from fishersft.baselines.dsir import dsir, ngram_log_ratios
from fishersft.baselines.herding import herding, mismatch
from fishersft.baselines.influence import influences, less
from fishersft.baselines.near_copies import deduplicated, near_copies
from fishersft.baselines.perfect_filter import perfect_filter
from fishersft.baselines.propensity import density, density_scores
from fishersft.baselines.random_order import uniform
from fishersft.baselines.ranked import ask_llm, cross_entropy_difference, longest, perplexity
from fishersft.baselines.repeated import repeated
from fishersft.baselines.representations import cosine_similarities, rds_plus
from fishersft.baselines.round_robin import round_robin
from fishersft.baselines.sentence_design import mean_embeddings, sentence_d_optimal
from fishersft.baselines.strata import balanced, stratified

__all__ = [
    "ask_llm",
    "balanced",
    "clustering",
    "cosine_similarities",
    "cross_entropy_difference",
    "deduplicated",
    "density",
    "density_scores",
    "dsir",
    "facility_location",
    "herding",
    "influences",
    "less",
    "longest",
    "mean_embeddings",
    "mismatch",
    "near_copies",
    "ngram_log_ratios",
    "perfect_filter",
    "perplexity",
    "rds_plus",
    "repeated",
    "round_robin",
    "sentence_d_optimal",
    "stratified",
    "uniform",
]
