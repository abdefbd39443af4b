"""An OpenAI-compatible server on loopback that answers as a test tells it to, and counts what it is asked."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """What goes over the wire; a body that is cut has fewer bytes than its header says."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def says(text: str | None) -> Answer:
    """A completion that says so; 100 tokens were read, and 2 written."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 100, "completion_tokens": 2, "total_tokens": 102}
    completion = {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "judge",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": usage,
    }
    return Answer(json.dumps(completion).encode())


def fails(status: int, message: str = "no", code: str | None = None, **headers: str) -> Answer:
    """An error as OpenAI's API tells it; header names have _ for -."""
    body = json.dumps({"error": {"message": message, "type": "error", "code": code, "param": None}}).encode()
    return Answer(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def texts_in(prompt: str) -> tuple[str, str]:
    """The two texts that a question shows."""
    found = re.search(r"<text_1>(.*)</text_1>\n<text_2>(.*)</text_2>", prompt, re.DOTALL)
    assert found is not None, prompt
    return found[1], found[2]


def prefers_longer_words(prompt: str) -> Answer:
    """A judge that goes by content: the text with the longest word, or else the second, is better."""
    first, second = (max(map(len, [*text.split(), ""])) for text in texts_in(prompt))
    return says("1" if first > second else "2")


@dataclass
class JudgeServer:
    """Answers with the `script` first, then by `answer`, and keeps what came in, header names in lower case."""

    url: str
    script: list[Answer] = field(default_factory=list)
    answer: Callable[[str], Answer] = prefers_longer_words
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict[str, object]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_answer(self, headers: dict[str, str], body: bytes) -> Answer:
        request = json.loads(body)
        prompt = request["messages"][0]["content"]
        with self.lock:
            self.asked.append(prompt)
            self.headers.append(headers)
            self.bodies.append(request)
            return self.script.pop(0) if self.script else self.answer(prompt)


@contextmanager
def running_judge_server() -> Iterator[JudgeServer]:
    """A server on a free port, ended with the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = server.next_answer({name.lower(): value for name, value in self.headers.items()}, body)
            ended.wait(answer.seconds)
            self.send_response(answer.status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(answer.body)), **answer.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)
            self.close_connection = int(headers["Content-Length"]) != len(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    ended = threading.Event()
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = JudgeServer(f"http://127.0.0.1:{http.server_port}/v1")
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        ended.set()
        http.shutdown()
        thread.join()
        http.server_close()
