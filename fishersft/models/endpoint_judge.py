"""A model behind an OpenAI-compatible endpoint as judge, asked several questions at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from fishersft.errors import InputError
from fishersft.models.endpoint import Endpoint, QuestionRefused, Stopped
from fishersft.models.judging import Pair, Question, Verdict, read_choice

_PROBE = ("It rains.", "Rains it does of.")


class EndpointJudge:
    """Asks an endpoint the `Question` about pairs of texts, each pair in a conversation of its own.

    Args:
        endpoint: whom to ask.
        question: what it is asked about every pair.
        concurrency: how many questions it has at once.
    """

    def __init__(self, endpoint: Endpoint, question: Question, concurrency: int):
        self._endpoint = endpoint
        self._question = question
        self._concurrency = concurrency
        self._probing = threading.Lock()
        self._answers_others = False

    def answers(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Verdict]]:
        """Each pair's index and verdict as they come; after a failure those that were under way, then its error.

        Raises:
            InputError: as `Endpoint.ask` has it.
        """
        stopped, failure = threading.Event(), None
        with ThreadPoolExecutor(self._concurrency) as threads:
            futures: dict[Future[Verdict], int] = {
                threads.submit(self._verdict, pair, stopped): i for i, pair in enumerate(pairs)
            }
            try:
                for future in as_completed(futures):
                    error = future.exception()
                    if error is None:
                        yield futures[future], future.result()
                    elif not isinstance(error, Stopped):
                        failure = failure or error
            finally:
                stopped.set()  # so that nothing is asked for a caller who has gone
        if failure is not None:
            raise failure

    def _verdict(self, pair: Pair, stopped: threading.Event) -> Verdict:
        try:
            return self._answer(pair, stopped)
        except InputError:
            stopped.set()  # at once, so that nobody asks what has to fail
            raise

    def _answer(self, pair: Pair, stopped: threading.Event) -> Verdict:
        try:
            reply = self._endpoint.ask(self._question.about(*pair), stopped)
        except QuestionRefused as refusal:
            self._check_that_others_are_answered(refusal, stopped)
            return Verdict(0, 0, 0, "")
        self._answers_others = True
        return Verdict(read_choice(reply.text), reply.input_tokens, reply.output_tokens, reply.text)

    def _check_that_others_are_answered(self, refusal: QuestionRefused, stopped: threading.Event) -> None:
        """A refused question is that pair's own fault only where a plain one is answered."""
        with self._probing:
            if self._answers_others:
                return
            try:
                self._endpoint.ask(self._question.about(*_PROBE), stopped)
            except QuestionRefused:
                raise InputError(
                    f"the judge {self._endpoint.name} takes no question of this form; it said: {refusal}"
                ) from refusal
            self._answers_others = True
