"""An OpenAI-compatible server for tests, as a process of its own on loopback.

``python openai_server.py`` prints ``{"port": N}`` and serves until it is killed.

It answers ``POST /v1/chat/completions`` by the request's JSON schema: of each
``enum`` the value that the last message's sha256 picks, of each number its
minimum; without a schema it echoes the last message.

``POST /configure`` sets, as one JSON object:

latency_s
    Seconds before each answer.
api_key, models
    Where set, other keys get 401 and other models 404.
lean
    Where set and asked for, answers have log-probabilities: those of the first choice times
    so much, of the value said times 3, but for texts that say nothing.
rules
    A list of ``{"contains": TEXT, "do": [FAULT, ...]}``. Calls whose last
    message contains TEXT get one fault after the other; the last one stays
    where ``"forever": true``. Faults: a status (429, 500, ...; with
    ``retry_after`` beside it), ``"malformed"``, ``"half"``, ``"reset"``,
    ``"slow:SECONDS"``, ``"refusal"``, ``"no_choices"``, ``"ok"``, or
    ``{"status": N, "error": {...}}``.

It also sets all counters back. ``GET /stats`` returns them: calls, answered,
in_flight, most_in_flight, and calls by last message.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import hashlib
import json
import math
import os
import sys
import time

from aiohttp import web

WORDS = {
    401: ("Incorrect API key provided", "invalid_api_key"),
    404: ("The model does not exist", "model_not_found"),
    429: ("Rate limit reached", "rate_limit_exceeded"),
    500: ("The server had an error", None),
    503: ("Overloaded", None),
}


class State:
    """What was configured, and what was counted since."""

    def __init__(self, config: dict | None = None) -> None:
        config = config or {}
        self.latency_s = config.get("latency_s", 0.0)
        self.api_key = config.get("api_key")
        self.models = config.get("models")
        self.lean = config.get("lean")
        self.rules = [{**rule, "do": list(rule["do"])} for rule in config.get("rules", [])]
        self.calls = self.answered = self.in_flight = self.most_in_flight = 0
        self.by_text: collections.Counter[str] = collections.Counter()
        self.last: dict = {}

    def fault(self, text: str):
        for rule in self.rules:
            if rule["contains"] in text and rule["do"]:
                keep = rule.get("forever") and len(rule["do"]) == 1
                return (rule["do"][0] if keep else rule["do"].pop(0)), rule
        return "ok", {}


def error(status: int, body: dict | None = None, retry_after: float | None = None) -> web.Response:
    message, code = WORDS.get(status, ("Something is wrong", None))
    body = body or {"message": message, "type": "error", "param": None, "code": code}
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return web.json_response({"error": body}, status=status, headers=headers)


def answer(payload: dict, text: str) -> str:
    format_ = payload.get("response_format")
    if not format_:
        return text
    digest = hashlib.sha256(text.encode()).digest()
    out = {}
    properties = format_["json_schema"]["schema"]["properties"]
    for i, (name, rule) in enumerate(properties.items()):
        if "enum" in rule:
            out[name] = rule["enum"][digest[i % 32] % len(rule["enum"])]
        else:
            out[name] = rule.get("minimum", {"string": "", "boolean": False}.get(rule["type"], 0))
    return json.dumps(out)


def tokens(payload: dict, content: str, lean: float | None) -> list[dict] | None:
    """The answer in three tokens, the middle one its first value; it leans to the first choice."""
    form = payload.get("response_format")
    if lean is None or not form:
        return None
    choices = next(iter(form["json_schema"]["schema"]["properties"].values()))["enum"]
    said = next(iter(json.loads(content).values()))
    weights = {c: lean if i == 0 else 1.0 for i, c in enumerate(choices)}
    if payload["messages"][-1]["content"] not in ("N/A", "[MASK]", ""):
        weights[said] *= 3
    top = [{"token": c, "logprob": math.log(w / sum(weights.values()))} for c, w in weights.items()]
    before, _, after = content.partition(said)
    return [
        {"token": before, "logprob": 0.0, "top_logprobs": []},
        {**next(t for t in top if t["token"] == said), "top_logprobs": top},
        {"token": after, "logprob": 0.0, "top_logprobs": []},
    ]


def completion(payload: dict, text: str, lean: float | None = None, **message) -> dict:
    content = answer(payload, text)
    body = {"role": "assistant", "content": content, "refusal": None, **message}
    logprobs = {"content": tokens(payload, content, lean)} if payload.get("logprobs") else None
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": f"{payload['model']}-2026",
        "choices": [{"index": 0, "message": body, "finish_reason": "stop", "logprobs": logprobs}],
        "usage": {
            "prompt_tokens": sum(len(m["content"].split()) for m in payload["messages"]),
            "completion_tokens": len(content.split()),
        },
    }


async def chat(request: web.Request) -> web.StreamResponse:
    state: State = request.app["box"][0]
    payload = await request.json()
    text = payload["messages"][-1]["content"]
    state.calls += 1
    state.by_text[text] += 1
    state.last = payload
    state.in_flight += 1
    state.most_in_flight = max(state.most_in_flight, state.in_flight)
    try:
        if state.latency_s:
            await asyncio.sleep(state.latency_s)
        return await reply(request, state, payload, text)
    finally:
        state.in_flight -= 1


def turned_away(request: web.Request, state: State, payload: dict) -> web.Response | None:
    sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if state.api_key is not None and sent != state.api_key:
        words = f"Incorrect API key provided: {sent}. You can find yours in your settings."
        return error(401, {"message": words, "type": "auth", "code": "invalid_api_key"})
    if state.models is not None and payload["model"] not in state.models:
        return error(404)
    return None


async def reply(request, state: State, payload: dict, text: str) -> web.StreamResponse:
    refused = turned_away(request, state, payload)
    if refused is not None:
        return refused
    fault, rule = state.fault(text)
    if isinstance(fault, dict):
        return error(fault["status"], fault["error"])
    if isinstance(fault, int):
        return error(fault, retry_after=rule.get("retry_after"))
    if fault == "malformed":
        return web.Response(text='{"choices": [{"mess', content_type="application/json")
    if fault == "no_choices":
        return web.json_response({"object": "chat.completion", "choices": []})
    if fault == "reset":
        request.transport.abort()
        return web.Response()
    if fault == "half":
        return await half(request, completion(payload, text, state.lean))
    if fault.startswith("slow:"):
        await asyncio.sleep(float(fault.removeprefix("slow:")))
    state.answered += 1
    message = {"content": None, "refusal": "I cannot."} if fault == "refusal" else {}
    return web.json_response(completion(payload, text, state.lean, **message))


async def half(request: web.Request, body: dict) -> web.StreamResponse:
    """Promise a whole body and hang up in its middle."""
    data = json.dumps(body).encode()
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(data)
    await response.prepare(request)
    await response.write(data[: len(data) // 2])
    request.transport.close()
    return response


async def configure(request: web.Request) -> web.Response:
    request.app["box"][0] = State(await request.json())
    return web.json_response({})


async def stats(request: web.Request) -> web.Response:
    state: State = request.app["box"][0]
    counters = ("calls", "answered", "in_flight", "most_in_flight", "last", "by_text")
    return web.json_response({name: getattr(state, name) for name in counters})


async def serve(port: int) -> None:
    app = web.Application(client_max_size=1 << 26)
    app["box"] = [State()]
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_post("/configure", configure)
    app.router.add_get("/stats", stats)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    # The process ends with whoever holds its standard input, however that one ends.
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # at once, whatever slow answer is under way


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(serve(parser.parse_args().port))
