"""What may go wrong with storage: what is worth another try, and what a user has to mend, as one clear error."""

from __future__ import annotations

import errno
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from safetensors import SafetensorError

from fishersft.data.locations import display_name, remote_errors
from fishersft.errors import InputError, StorageError

TRIES = 6
FIRST_PAUSE = 0.3  # seconds, doubled after every try: at most 10 s of pauses in all

_AGAIN = "then run again: finished artifacts are kept"
# Answers below 500 that mean: the same request may do better next time.
_TRANSIENT_CODES = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests"}
# The request was damaged on its way.
_TRANSIENT_CODES |= {"BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"}
_TRANSIENT_CODES |= {"InvalidPart", "InvalidPartOrder", "MalformedXML"}
_EXISTING_CODES = {"PreconditionFailed", "ConditionalRequestConflict"}
_CREDENTIAL_CODES = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
_TRANSIENT_ERRORS = (
    ("aiohttp", "ClientError"),
    ("botocore.exceptions", "ConnectionError"),
    ("botocore.exceptions", "FlexibleChecksumError"),
    ("botocore.exceptions", "HTTPClientError"),
    ("botocore.exceptions", "IncompleteReadError"),
    ("botocore.parsers", "ResponseParserError"),
)

Result = TypeVar("Result")


class DamagedTransfer(OSError):
    """Fewer bytes arrived than the file has, or others."""


def with_patience(what: str, action: Callable[[], Result]) -> Result:
    """What `action` returns; where the store fails for the moment, it is tried again after growing pauses.

    Args:
        what: what is read or written, for the error.
        action: may be done twice without harm.

    Raises:
        StorageError: it failed so `TRIES` times.
    """
    started = time.monotonic()
    for tried in range(1, TRIES + 1):
        try:
            return action()
        except (*remote_errors(), *_library_errors()) as error:
            if not _is_transient(error):
                raise
            if tried == TRIES:
                raise StorageError(
                    f"the object store cannot be reached for {what}: {_reason(error)}, {TRIES} times within "
                    f"{time.monotonic() - started:.0f} s; check it, its endpoint and the network, {_AGAIN}"
                ) from error
        time.sleep(FIRST_PAUSE * 2 ** (tried - 1) * random.uniform(0.5, 1))
    raise AssertionError("the last try returns or raises")


@contextmanager
def clear_storage_errors(what: str) -> Iterator[None]:
    """Turns what a user can mend while `what` is read or written into one clear error.

    Raises:
        InputError: the disk is full, access is denied, credentials or the clock are wrong, a bucket is missing, a
            file is where a folder should be, or an object store cannot be reached; a StorageError where it may be
            reached soon.
    """
    try:
        yield
    except PermissionError as error:
        raise InputError(_denied(what, error)) from error
    except (NotADirectoryError, FileExistsError) as error:
        raise InputError(f"cannot write {what}: {error.filename} is a file, not a folder; choose another") from error
    except (OSError, SafetensorError) as error:
        if _answer(error)[0] == "NoSuchBucket":
            raise InputError(f"no bucket for {what}: {_reason(error)}; create it, or correct the URL") from error
        # safetensors tells the errno in its text alone
        if getattr(error, "errno", None) != errno.ENOSPC and f"os error {errno.ENOSPC}" not in str(error):
            raise
        raise InputError(
            f"no space left on a disk of this machine while writing {what}; free some space, or choose another place "
            "for what fills it: store or output where they are folders, XDG_CACHE_HOME (for what comes from a remote "
            f"store) or TMPDIR, {_AGAIN}"
        ) from error
    except remote_errors() as error:
        kind = StorageError if _is_transient(error) else InputError
        raise kind(
            f"the object store cannot be reached for {what}: {_reason(error)}; check credentials and endpoint (such "
            f"as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL) and the network, {_AGAIN}"
        ) from error


def is_refused_as_existing(error: OSError) -> bool:
    """Whether a write on the condition that there is no such file was refused because there is one."""
    return isinstance(error, FileExistsError) or _answer(error)[0] in _EXISTING_CODES


def _denied(what: str, error: PermissionError) -> str:
    code = _answer(error)[0]
    if code == "RequestTimeTooSkewed":
        return f"the object store refuses {what}, for this machine's clock is wrong; set it, {_AGAIN}"
    if code in _CREDENTIAL_CODES:
        return f"the object store refuses the credentials for {what} ({code}); check or renew them, {_AGAIN}"
    return f"access denied for {what}: {_reason(error)}; check its permissions, your credentials, and this clock"


def _is_transient(error: BaseException) -> bool:
    code, status = _answer(error)
    if status is not None:
        return code in _TRANSIENT_CODES or status == 429 or (status >= 500 and status != 501)
    return isinstance(error, (ConnectionError, TimeoutError, DamagedTransfer, *_library_errors()))


def _answer(error: BaseException) -> tuple[str, int | None]:
    """The code and the HTTP status that an S3 store answered with; ("", None) where it is no answer of one."""
    for candidate in (error, error.__cause__):
        response = getattr(candidate, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return response.get("Error", {}).get("Code", ""), status
    return "", None


def _library_errors() -> tuple[type[Exception], ...]:
    """Errors of a connection, of the libraries behind s3fs; raised, they are imported."""
    return tuple(getattr(sys.modules[name], kind) for name, kind in _TRANSIENT_ERRORS if name in sys.modules)


def _reason(error: BaseException) -> str:
    code, status = _answer(error)
    if status is not None:
        return f"it answered {code or 'nothing more'} (HTTP {status})"
    return display_name(str(error)) or type(error).__name__
