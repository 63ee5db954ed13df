"""OpenAI's files and batches endpoints for tests, as a process of its own on loopback.

``python batch_server.py`` prints ``{"port": N}`` and serves until its standard input ends.

A line's answer depends on its last message alone: of the schema's first ``enum`` the value that
the message's sha256 picks, else the message itself.

``POST /configure`` forgets everything and sets, as one JSON object:

polls
    Looks at a batch until it has ended (default 1).
ends
    By the number of the batch (``"0"``, ...): ``{"status": "expired", "rows": K}`` ends it that
    way after K rows; ``{"status": "failed", "code": ..., "message": ...}`` fails it as a whole.
errors
    ``{TEXT: STATUS}``: a row whose last message contains TEXT gets that status, ``"refusal"``
    a refusal.
lag_s, lag_before_s
    By call (``upload``, ``create``, ``content``): seconds between doing it and answering, and
    between being asked and doing it.
drop
    By call: how many times the connection is cut after it was done.
torn
    How many downloads end in the middle of a line.
api_key
    Where set, other keys get 401.
queue
    The most rows in open batches; a batch beyond fails with ``token_limit_exceeded``.
max_requests, max_bytes
    A file beyond these fails (default 50,000 and 200 MB).

``GET /stats``: calls by name (upload, create, view, content), and how often each ``custom_id``
was in a batch that began (asked) and was answered (paid).
"""

from __future__ import annotations

import asyncio
import collections
import hashlib
import json
import os
import sys
import time

from aiohttp import web


class State:
    """What was configured, and what was sent since."""

    def __init__(self, config: dict | None = None) -> None:
        self.config = config or {}
        self.files: dict[str, dict] = {}
        self.content: dict[str, bytes] = {}
        self.batches: dict[str, dict] = {}
        self.calls: collections.Counter[str] = collections.Counter()
        self.asked: collections.Counter[str] = collections.Counter()
        self.paid: collections.Counter[str] = collections.Counter()
        self.drop = dict(self.config.get("drop", {}))
        self.torn = self.config.get("torn", 0)

    def add_file(self, name: str, purpose: str, content: bytes) -> dict:
        file_id = f"file-{len(self.files)}"
        self.content[file_id] = content
        self.files[file_id] = {
            "id": file_id,
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        return self.files[file_id]


def error(status: int, message: str, code: str | None = None) -> web.Response:
    body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    return web.json_response(body, status=status)


def page(items: list[dict], request: web.Request) -> web.Response:
    limit = int(request.query.get("limit", 20))
    after = request.query.get("after")
    ids = [item["id"] for item in items]
    start = ids.index(after) + 1 if after else 0
    data = items[start : start + limit]
    more = start + limit < len(items)
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
    return web.json_response({"object": "list", "data": data, "has_more": more, **ends})


@web.middleware
async def guard(request: web.Request, handler) -> web.StreamResponse:
    state: State = request.app["box"][0]
    key = state.config.get("api_key")
    sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if request.path.startswith("/v1") and key is not None and sent != key:
        return error(401, f"Incorrect API key provided: {sent}", "invalid_api_key")
    return await handler(request)


async def before(state: State, call: str) -> None:
    await asyncio.sleep(state.config.get("lag_before_s", {}).get(call, 0))


async def after(request: web.Request, state: State, call: str, answer: web.Response):
    state.calls[call] += 1
    if state.drop.get(call, 0):
        state.drop[call] -= 1
        request.transport.abort()
    await asyncio.sleep(state.config.get("lag_s", {}).get(call, 0))
    return answer


async def upload(request: web.Request) -> web.Response:
    state: State = request.app["box"][0]
    form = await request.post()
    await before(state, "upload")
    field = form["file"]
    file = state.add_file(field.filename, form["purpose"], field.file.read())
    return await after(request, state, "upload", web.json_response(file))


async def files(request: web.Request) -> web.Response:
    state: State = request.app["box"][0]
    purpose = request.query.get("purpose")
    found = [f for f in reversed(state.files.values()) if purpose in {None, f["purpose"]}]
    return page(found, request)


async def content(request: web.Request) -> web.Response:
    state: State = request.app["box"][0]
    body = state.content.get(request.match_info["id"])
    if body is None:
        return error(404, "No such File object")
    if state.torn:
        state.torn -= 1
        body = body[:-20]
    await before(state, "content")
    answer = web.Response(body=body, content_type="application/octet-stream")
    return await after(request, state, "content", answer)


async def create(request: web.Request) -> web.Response:
    state: State = request.app["box"][0]
    asked = await request.json()
    if asked["input_file_id"] not in state.files or asked["completion_window"] != "24h":
        return error(400, "Invalid input file or window")
    await before(state, "create")
    number = len(state.batches)
    lines = state.content[asked["input_file_id"]].splitlines()
    batch = {
        "id": f"batch_{number}",
        "object": "batch",
        "endpoint": asked["endpoint"],
        "input_file_id": asked["input_file_id"],
        "completion_window": "24h",
        "status": "in_progress",
        "created_at": int(time.time()),
        "metadata": asked.get("metadata"),
        "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
        "polls": 0,
    }
    problem = validate(state, lines, state.config.get("ends", {}).get(str(number), {}))
    state.batches[batch["id"]] = batch
    if problem:
        errors = {"object": "list", "data": [{**problem, "param": None, "line": None}]}
        batch |= {"status": "failed", "errors": errors}
    else:
        state.asked.update(json.loads(line)["custom_id"] for line in lines)
    return await after(request, state, "create", web.json_response(batch))


def validate(state: State, lines: list[bytes], end: dict) -> dict | None:
    most = state.config.get("max_requests", 50_000), state.config.get("max_bytes", 200_000_000)
    if len(lines) > most[0] or sum(map(len, lines)) + len(lines) > most[1]:
        return {"code": "too_large", "message": "The file is too large"}
    models = {json.loads(line)["body"]["model"] for line in lines}
    if len(models) > 1:
        return {"code": "mismatched_model", "message": "One model per file"}
    if len({json.loads(line)["custom_id"] for line in lines}) < len(lines):
        return {"code": "duplicate_custom_id", "message": "The custom_id is not unique"}
    if end.get("status") == "failed":
        return {"code": end["code"], "message": end["message"]}
    running = [b for b in state.batches.values() if b["status"] == "in_progress"]
    queued = sum(b["request_counts"]["total"] for b in running)
    if queued + len(lines) > state.config.get("queue", 10**9):
        return {"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}
    return None


async def view(request: web.Request) -> web.Response:
    state: State = request.app["box"][0]
    batch = state.batches.get(request.match_info["id"])
    if batch is None:
        return error(404, "No batch found")
    state.calls["view"] += 1
    batch["polls"] += 1
    if batch["status"] == "in_progress" and batch["polls"] >= state.config.get("polls", 1):
        finish(state, batch)
    return web.json_response(batch)


async def batches(request: web.Request) -> web.Response:
    return page(list(reversed(request.app["box"][0].batches.values())), request)


def finish(state: State, batch: dict) -> None:
    number = batch["id"].removeprefix("batch_")
    end = state.config.get("ends", {}).get(number, {})
    lines = [json.loads(line) for line in state.content[batch["input_file_id"]].splitlines()]
    done = lines[: end.get("rows", len(lines))]
    good, bad = [], []
    for line in done:
        result = answer(state, line)
        (good if result["response"]["status_code"] == 200 else bad).append(result)
    if end.get("status") == "expired":
        expired = {"code": "batch_expired", "message": "This request could not be executed"}
        for line in lines[len(done) :]:
            bad.append({"custom_id": line["custom_id"], "response": None, "error": expired})
    batch["status"] = end.get("status", "completed")
    counts = {"total": len(lines), "completed": len(good), "failed": len(lines) - len(good)}
    batch["request_counts"] = counts
    for name, results in (("output", reversed(good)), ("error", bad)):
        text = b"".join(json.dumps(r).encode() + b"\n" for r in results)
        if text:
            file = state.add_file(f"{batch['id']}_{name}.jsonl", "batch_output", text)
            batch[f"{name}_file_id"] = file["id"]


def answer(state: State, line: dict) -> dict:
    body = line["body"]
    text = body["messages"][-1]["content"]
    fault = next((s for t, s in state.config.get("errors", {}).items() if t in text), None)
    result = {"id": f"req_{line['custom_id'][:8]}", "custom_id": line["custom_id"], "error": None}
    if isinstance(fault, int):
        problem = {"error": {"message": f"no answer to {text}", "code": None}}
        return {**result, "response": {"status_code": fault, "body": problem}}
    state.paid[line["custom_id"]] += 1
    said = text
    if "response_format" in body:
        properties = body["response_format"]["json_schema"]["schema"]["properties"]
        name, rule = next(iter(properties.items()))
        pick = hashlib.sha256(text.encode("utf-8", "replace")).digest()[0] % len(rule["enum"])
        said = json.dumps({name: rule["enum"][pick]})
    message = {"role": "assistant", "content": said, "refusal": None}
    if fault == "refusal":
        message |= {"content": None, "refusal": "I cannot."}
    completion = {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": f"{body['model']}-2026",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
    }
    return {**result, "response": {"status_code": 200, "request_id": "r", "body": completion}}


async def configure(request: web.Request) -> web.Response:
    request.app["box"][0] = State(await request.json())
    return web.json_response({})


async def stats(request: web.Request) -> web.Response:
    state: State = request.app["box"][0]
    return web.json_response({"calls": state.calls, "asked": state.asked, "paid": state.paid})


async def serve() -> None:
    app = web.Application(client_max_size=1 << 28, middlewares=[guard])
    app["box"] = [State()]
    app.router.add_post("/v1/files", upload)
    app.router.add_get("/v1/files", files)
    app.router.add_get("/v1/files/{id}/content", content)
    app.router.add_post("/v1/batches", create)
    app.router.add_get("/v1/batches", batches)
    app.router.add_get("/v1/batches/{id}", view)
    app.router.add_post("/configure", configure)
    app.router.add_get("/stats", stats)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    # The process ends with whoever holds its standard input, however that one ends.
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(serve())
