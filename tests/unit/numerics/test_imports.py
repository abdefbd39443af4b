from __future__ import annotations

import subprocess
import sys


def test_the_numerics_import_neither_models_nor_flows_nor_the_store() -> None:
    program = (
        "import sys, fishersft.numerics\n"
        "print([m for m in ('transformers', 'prefect', 'pydantic', 'fsspec') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
