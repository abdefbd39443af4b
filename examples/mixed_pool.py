"""Write the demo's texts into demo/texts: a mixed pool, a target sample and held-out texts, drawn at random."""

from __future__ import annotations

from pathlib import Path

from fishersft.experiments.domains import domain_texts
from fishersft.steps.mixed_pools import write_mixed_domains

POOL = {"shakespeare": 200, "python-code": 400, "python-manual": 400}

if __name__ == "__main__":
    write_mixed_domains(
        domain_texts(), POOL, aim="shakespeare", target=30, held_out=200, folder=Path("demo/texts"), seed=0
    )
