"""Keys of judges, from Prefect's Secret blocks to a step's argument: they are no parameter of any task or flow."""

from __future__ import annotations

from prefect.blocks.system import Secret
from pydantic import SecretStr

from fishersft.config import CurateConfig
from fishersft.errors import InputError


def api_key(config: CurateConfig, judge: int) -> SecretStr | None:
    """The key of the judge in that place, from the Secret block that the config names; None where it names none.

    Raises:
        InputError: there is no such block, or it holds no text.
    """
    block = config.evaluation.judging.judges[judge].api_key_secret
    if block is None:
        return None
    try:
        value = Secret.load(block).get()  # type: ignore[union-attr]  # not awaited, as no task here is async
    except ValueError as error:
        raise InputError(
            f"judge {judge} wants the Prefect Secret block {block!r}, and there is none that can be read; create it in "
            "the UI under Blocks, or take api_key_secret out and set the environment variable"
        ) from error
    if not isinstance(value, str) or not value:
        raise InputError(f"the Prefect Secret block {block!r} holds no text; put the endpoint's key into it")
    return SecretStr(value)
