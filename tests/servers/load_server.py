"""An OpenAI-compatible server for load and faults, as a process of its own on loopback.

``python load_server.py`` prints ``{"port": N}`` and serves until its standard input ends.
It speaks HTTP/1.1 by hand on asyncio's protocol, since a web framework would be the
bottleneck of what is measured: `wrk`-like, on one core, it sustains far more than a client
in Python asks for (``benchmarks/llm.py`` says how much).

``POST /configure`` forgets everything and sets, as one JSON object:

latency_s, jitter_s
    Seconds before each answer, and up to so many more.
seed
    Of all draws. A call's fate depends on the seed, its last message and how often that came.
rate_limited, failing, malformed, reset, half, slow
    The share of calls that get a 429 (with ``Retry-After: retry_after_s``), a 500, a 200 whose
    body is cut short, a reset connection, a body that ends early, an answer after ``slow_s``.
retry_after_s, slow_s
    See above; by default 0.05 and 5.
rpm, tpm, window_s
    The most requests and tokens per window (60 s, if not said), with ``x-ratelimit-*`` headers;
    what is beyond gets a 429 with Retry-After.
max_in_flight
    What is beyond gets a 429 without any header.
no_json_schema, no_json_object
    Whether a ``response_format`` of that type gets a 400 in OpenAI's words.
invalid
    The share of answers that are outside the schema, unless the message says what was wrong.
dead
    Whether every connection is reset.

``GET /stats``: calls, answered, in_flight, most_in_flight, refused (by status), last_path, and how often
each last message was asked (by_text) and answered (answered_by_text).
"""

from __future__ import annotations

import asyncio
import collections
import hashlib
import json
import os
import sys
import time

FAULTS = ("rate_limited", "failing", "malformed", "reset", "half", "slow")
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests"}


class State:
    """What was configured, and what was counted since."""

    def __init__(self, config: dict) -> None:
        self.config = config
        self.latency_s = config.get("latency_s", 0.0)
        self.shares = [(name, config[name]) for name in FAULTS if config.get(name)]
        self.calls = self.answered = self.in_flight = self.most_in_flight = 0
        self.refused: collections.Counter[str] = collections.Counter()
        self.by_text: collections.Counter[str] = collections.Counter()
        self.answered_by_text: collections.Counter[str] = collections.Counter()
        self.last_path = ""
        self.window_at = time.monotonic()
        self.requests = self.tokens = 0

    def draw(self, what: str, text: str) -> float:
        name = f"{self.config.get('seed', 0)} {what} {self.by_text[text]} {text}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48

    def fault(self, text: str) -> str:
        at = self.draw("fault", text) if self.shares else 1.0
        for name, share in self.shares:
            if at < share:
                return name
            at -= share
        return ""

    def limits(self, tokens: int) -> tuple[dict[str, str], float | None]:
        """Count a call; return the headers, and how long to wait if it is too much."""
        rpm, tpm = self.config.get("rpm"), self.config.get("tpm")
        if rpm is None and tpm is None:
            return {}, None
        now, span = time.monotonic(), self.config.get("window_s", 60.0)
        if now - self.window_at >= span:
            self.window_at, self.requests, self.tokens = now, 0, 0
        left = span - (now - self.window_at)
        over = (rpm is not None and self.requests + 1 > rpm) or (
            tpm is not None and self.tokens + tokens > tpm
        )
        if not over:
            self.requests += 1
            self.tokens += tokens
        headers = {}
        for name, limit, used in (
            ("requests", rpm, self.requests),
            ("tokens", tpm, self.tokens),
        ):
            if limit is not None:
                headers[f"x-ratelimit-limit-{name}"] = str(limit)
                headers[f"x-ratelimit-remaining-{name}"] = str(limit - used)
                headers[f"x-ratelimit-reset-{name}"] = f"{left:.3f}s"
        return headers, left if over else None


STATE = State({})


def error(message: str, param: str | None = None, code: str | None = None) -> bytes:
    body = {"message": message, "type": "error", "param": param, "code": code}
    return json.dumps({"error": body}).encode()


def answer(payload: dict, text: str, right: bool) -> str:
    form = payload.get("response_format")
    asked = payload["messages"][-1]["content"]
    if form and form["type"] == "json_schema":
        schema = form["json_schema"]["schema"]
    elif "JSON Schema:\n" in asked:
        schema = json.loads(asked.rpartition("JSON Schema:\n")[2])
    else:
        return text
    digest = hashlib.sha256(text.encode()).digest()
    out = {}
    for i, (name, rule) in enumerate(schema["properties"].items()):
        choices = rule.get("enum") or [rule.get("minimum", 0)]
        out[name] = choices[digest[i % 32] % len(choices)] if right else "neither"
    return json.dumps(out)


def completion(payload: dict, content: str) -> bytes:
    message = {"role": "assistant", "content": content, "refusal": None}
    asked = sum(len(m["content"].split()) for m in payload["messages"])
    said = len(content.split())
    body = {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": f"{payload['model']}-2026",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": said,
            "total_tokens": asked + said,
        },
    }
    return json.dumps(body).encode()


class Server(asyncio.Protocol):
    """One connection: one request at a time, as HTTP/1.1 clients send them."""

    def __init__(self) -> None:
        self.buffer = b""

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            path = self.buffer[: self.buffer.find(b"\r\n")].split()[1]
            self.buffer = self.buffer[end + 4 + length :]
            self.route(path.decode(), body)

    def route(self, path: str, body: bytes) -> None:
        global STATE
        if path.partition("?")[0].endswith("/chat/completions"):
            STATE.last_path = path
            self.chat(json.loads(body))
        elif path == "/configure":
            STATE = State(json.loads(body))
            self.send(200, b"{}")
        elif path == "/stats":
            names = ("calls", "answered", "in_flight", "most_in_flight", "refused", "last_path")
            counted = {name: getattr(STATE, name) for name in names}
            texts = {"by_text": STATE.by_text, "answered_by_text": STATE.answered_by_text}
            self.send(200, json.dumps({**counted, **texts}).encode())
        else:
            self.send(404, error("no such page"))

    def chat(self, payload: dict) -> None:
        state = STATE
        if not payload["messages"]:
            self.send(400, error("messages: expected at least one", "messages"))
            return
        text = payload["messages"][min(1, len(payload["messages"]) - 1)]["content"]
        text = text.partition("\n\nAnswer with one JSON")[0]
        state.calls += 1
        state.by_text[text] += 1
        state.in_flight += 1
        state.most_in_flight = max(state.most_in_flight, state.in_flight)
        if state.config.get("dead"):
            state.in_flight -= 1
            self.transport.abort()
            return
        status, body, headers, fault = self.fate(state, payload, text)
        wait = state.latency_s
        if status != 200:
            wait = min(wait, 0.005)
        elif state.config.get("jitter_s"):
            wait += state.config["jitter_s"] * state.draw("jitter", text)
        if fault == "slow":
            wait += state.config.get("slow_s", 5.0)
        asyncio.get_running_loop().call_later(
            wait, self.reply, state, text, status, body, headers, fault
        )

    def fate(self, state: State, payload: dict, text: str):
        config = state.config
        tokens = sum(len(m["content"]) for m in payload["messages"]) // 4
        headers, wait = state.limits(tokens)
        if wait is not None:
            headers = {**headers, "Retry-After": f"{wait:.3f}"}
            return 429, error("Rate limit reached", code="rate_limit_exceeded"), headers, ""
        if state.in_flight > config.get("max_in_flight", 10**9):
            return 429, error("Too many at once"), headers, ""
        form = (payload.get("response_format") or {}).get("type")
        if form and config.get(f"no_{form}"):
            words = f"Invalid parameter: 'response_format' of type '{form}' is not supported"
            return 400, error(words, "response_format"), headers, ""
        fault = state.fault(text)
        if fault == "rate_limited":
            headers = {**headers, "Retry-After": str(config.get("retry_after_s", 0.05))}
            return 429, error("Rate limit reached"), headers, fault
        if fault == "failing":
            return 500, error("The server had an error"), headers, fault
        again = payload["messages"][-1]["content"].startswith("This answer cannot be used")
        right = again or state.draw("invalid", text) >= config.get("invalid", 0)
        return 200, completion(payload, answer(payload, text, right)), headers, fault

    def reply(self, state: State, text, status, body, headers, fault) -> None:
        state.in_flight -= 1
        if status != 200:
            state.refused[str(status)] += 1
        if fault == "reset":
            self.transport.abort()
        elif fault == "malformed":
            self.send(200, body[: len(body) // 2], headers)
        elif fault == "half":
            self.send(200, body, headers, len(body) // 2)
            self.transport.close()
        elif not self.transport.is_closing():
            if status == 200:
                state.answered += 1
                state.answered_by_text[text] += 1
            self.send(status, body, headers)

    def send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        cut: int | None = None,
    ) -> None:
        lines = "".join(f"{k}: {v}\r\n" for k, v in (headers or {}).items())
        head = (
            f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
        )
        self.transport.write(head.encode() + body[:cut])


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0, backlog=2048)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    # The process ends with whoever holds its standard input, however that one ends.
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(serve())
