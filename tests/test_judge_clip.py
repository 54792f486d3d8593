import gc
import math
import shutil
import socket
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from icedit.early_filter.judge import Candidate, Question
from icedit.early_filter.judges.clip import CLIPJudge, Encoder
from support import golden, tiny_clip
from support.judges import poll
from support.pictures import photograph

WORDS = "make the cat grey"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    tiny_clip.write_clip(folder / "clip")
    tiny_clip.write_siglip(folder / "siglip")
    return folder


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args):
        raise AssertionError(f"a network call to {args}")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def load(folder) -> Encoder:
    return Encoder.load(folder, lambda _: lambda: CPU)


class Directions:
    """An encoder whose embeddings are written down; pictures are named by their first value."""

    def __init__(self, pictures, texts):
        self.of_pictures = {value: F.normalize(torch.tensor(vector), dim=0) for value, vector in pictures.items()}
        self.of_texts = F.normalize(torch.tensor(texts), dim=-1)

    def pictures(self, images, _poll):
        return torch.stack([self.of_pictures[round(float(image.flatten()[0]), 1)] for image in images])

    def texts(self, texts):
        assert texts[0] == WORDS
        return self.of_texts


SOURCE, SAME, EDITED, STRANGER = 0.0, 0.1, 0.2, 0.3
KNOWN = Directions(
    {SOURCE: (1.0, 0.0, 0.0), SAME: (1.0, 0.0, 0.0), EDITED: (1.0, 0.5, 0.0), STRANGER: (0.0, 1.0, 0.6)},
    [(0.2, 1.0, 0.3), (0.2, 0.0, 0.3)],
)


def best(**weights):
    names = (SAME, EDITED, STRANGER)
    edits = [Candidate(index, torch.full((4, 4, 3), name)) for index, name in enumerate(names)]
    question = Question(torch.full((4, 4, 3), SOURCE), WORDS)
    scores = [verdict.score for verdict in CLIPJudge(KNOWN, **weights).score(question, edits, poll)]
    return names[max(range(3), key=scores.__getitem__)], scores


def test_the_text_alone_prefers_a_stranger_and_all_terms_the_edit():
    assert best(text=1, source=0, direction=0)[0] == STRANGER
    assert best(text=0, source=1, direction=0)[0] == SAME
    assert best()[0] == EDITED


def test_no_change_has_no_direction():
    _, scores = best(text=0, source=0, direction=1)
    assert scores[0] == 0.0
    assert scores[1] > 0.5


def test_terms_add_up_by_their_weights():
    alone = [
        best(**({"text": 0, "source": 0, "direction": 0} | {term: 1}))[1] for term in ("text", "source", "direction")
    ]
    mixed = best(text=2, source=0.25, direction=3)[1]
    expected = [2 * text + 0.25 * source + 3 * direction for text, source, direction in zip(*alone, strict=True)]
    assert mixed == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "weights", [{"text": 0, "source": 0, "direction": 0}, {"source": -1}, {"text": math.nan}, {"text": math.inf}]
)
def test_senseless_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weights are"):
        CLIPJudge(KNOWN, **weights)


def test_a_preview_of_nan_is_broken_and_the_others_are_scored():
    edits = [Candidate(1, torch.full((4, 4, 3), math.nan)), Candidate(2, torch.full((4, 4, 3), EDITED))]
    broken, sound = CLIPJudge(KNOWN).score(Question(torch.zeros(4, 4, 3), WORDS), edits, poll)
    assert (broken.broken, broken.score) == (True, None)
    assert sound.score is not None
    assert len(sound.reasons) == 3


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_embeddings_are_those_of_the_models_own_pipeline(folders, no_network, kind):
    """At the model's own size nothing is scaled or cropped, and its logits are ours up to scale and bias."""
    from transformers import AutoModel, AutoProcessor

    images, texts = [photograph(seed, 32, 32) for seed in range(10)], [WORDS, "a photo of the red house"]
    model, processor = AutoModel.from_pretrained(folders / kind), AutoProcessor.from_pretrained(folders / kind)
    bytes_ = [(image * 255).round().to(torch.uint8).numpy() for image in images]
    length = model.config.text_config.max_position_embeddings
    inputs = processor(text=texts, images=bytes_, return_tensors="pt", padding="max_length", max_length=length)
    with torch.inference_mode():
        logits = model(**inputs).logits_per_image
    encoder = load(folders / kind)
    ours = encoder.pictures(images, poll) @ encoder.texts(texts).T
    ours = ours * model.logit_scale.exp() + getattr(model, "logit_bias", torch.zeros(()))
    assert golden.difference(ours, logits) <= 1e-4


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_sides_of_a_wide_picture_count(folders, kind):
    encoder = load(folders / kind)
    wide = photograph(1, 32, 96)
    changed = wide.clone()
    changed[:, :24] = 1 - changed[:, :24]
    first, second = encoder.pictures([wide, changed], poll)
    assert float(first @ second) < 0.9999


def test_texts_of_any_length_are_taken(folders):
    encoder = load(folders / "clip")
    assert encoder.texts([WORDS * 100, "a photo"]).shape == (2, 16)


def test_a_judge_of_a_real_model_ranks_the_source_first_by_source(folders):
    source = photograph(1, 48, 64)
    edits = [
        Candidate(1, photograph(2, 48, 64)),
        Candidate(2, source.clone()),
        Candidate(3, source.lerp(photograph(3, 48, 64), 0.3)),
    ]
    judge = CLIPJudge(load(folders / "clip"), text=0, source=1, direction=0)
    scores = [verdict.score for verdict in judge.score(Question(source, WORDS), edits, poll)]
    assert scores[1] == pytest.approx(1.0, abs=1e-5)
    assert scores[1] > scores[2] > scores[0]


def test_interrupts_come_through_between_batches(folders):
    calls = []

    def interrupt():
        calls.append(None)
        if len(calls) == 2:
            raise InterruptedError

    edits = [Candidate(seed, photograph(seed, 32, 32)) for seed in range(20)]
    with pytest.raises(InterruptedError):
        CLIPJudge(load(folders / "clip")).score(Question(edits[0].panel, WORDS), edits, interrupt)
    assert len(calls) == 2


def test_only_safetensors_are_read(folders, tmp_path):
    folder = shutil.copytree(folders / "clip", tmp_path / "clip")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no \*\.safetensors file"):
        load(folder)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "processor_config.json"])
def test_incomplete_folders_are_an_error_with_a_way_out(folders, tmp_path, no_network, file):
    folder = shutil.copytree(folders / "clip", tmp_path / "clip")
    (folder / file).write_bytes(b"{not json")
    with pytest.raises(ValueError, match="Download the whole folder again"):
        load(folder)


def test_missing_weights_are_never_made_up(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folders / "clip", tmp_path / "clip")
    weights = load_file(folder / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 of its weights, for example text_projection\.weight"):
        load(folder)


def test_code_in_the_folder_is_never_run(folders, tmp_path, no_network):
    import json

    folder = shutil.copytree(folders / "clip", tmp_path / "clip")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Model: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "evil.Model", "AutoProcessor": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    assert load(folder).texts([WORDS]).shape == (1, 16)
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def clip_vision(host, folders, tmp_path):
    """The host's clip_vision folder with both models, one of them in a download cache, and things that are no model."""
    import folder_paths

    shutil.copytree(folders / "siglip", tmp_path / "google" / "siglip")
    cached = tmp_path / "models--openai--tiny-clip"
    shutil.copytree(folders / "clip", cached / "snapshots" / "abc123")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc123")
    (tmp_path / "models--half--done" / "refs").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    kept = list(folder_paths.folder_names_and_paths["clip_vision"][0])
    folder_paths.add_model_folder_path("clip_vision", str(tmp_path))
    yield tmp_path
    folder_paths.folder_names_and_paths["clip_vision"][0][:] = kept


def models(host):
    import nodes

    return nodes.NODE_CLASS_MAPPINGS["EditJudgeCLIP"].execute.__globals__["clip"]


WEIGHTS = {"text_weight": 1.0, "source_weight": 0.5, "direction_weight": 0.5}


@pytest.mark.host
def test_models_of_the_host_are_found_by_folder_and_by_cache(host, clip_vision, no_network):
    assert models(host).model_names() == ["google/siglip", "openai/tiny-clip"]
    for name in models(host).model_names():
        (judge,) = host.call("EditJudgeCLIP", model_name=name, **WEIGHTS)
        assert name in judge.name
        edits = [Candidate(seed, photograph(seed, 32, 48)) for seed in (1, 2)]
        verdicts = judge.score(Question(photograph(3, 32, 48), WORDS), edits, poll)
        assert len({verdict.score for verdict in verdicts}) == 2
        assert all(np.isfinite(verdict.score) for verdict in verdicts)


@pytest.mark.host
def test_a_model_is_read_once_and_given_back(host, clip_vision):
    (judge,) = host.call("EditJudgeCLIP", model_name="google/siglip", **WEIGHTS)
    (again,) = host.call("EditJudgeCLIP", model_name="google/siglip", **(WEIGHTS | {"text_weight": 0.3}))
    assert again.encoder is judge.encoder
    held = weakref.ref(judge.encoder)
    judge.score(Question(photograph(1, 32, 32), WORDS), [Candidate(1, photograph(2, 32, 32))], poll)
    del judge, again
    gc.collect()
    assert held() is None


@pytest.mark.host
def test_the_host_manages_its_memory(host, clip_vision):
    import comfy.model_management

    (judge,) = host.call("EditJudgeCLIP", model_name="google/siglip", **WEIGHTS)
    judge.score(Question(photograph(1, 32, 32), WORDS), [Candidate(1, photograph(2, 32, 32))], poll)
    patchers = [loaded.model for loaded in comfy.model_management.current_loaded_models]
    held = [getattr(patcher.model, "model", None) for patcher in patchers if patcher is not None]
    assert any(model is judge.encoder.model for model in held)
    comfy.model_management.unload_all_models()
    (verdict,) = judge.score(Question(photograph(1, 32, 32), WORDS), [Candidate(1, photograph(2, 32, 32))], poll)
    assert verdict.score is not None


@pytest.mark.host
@pytest.mark.parametrize("name", ["missing", "../../etc", "None found in models/clip_vision"])
def test_unknown_models_are_refused(host, clip_vision, name):
    with pytest.raises(ValueError, match=r"Found are: google/siglip, openai/tiny-clip\..*models/clip_vision"):
        host.call("EditJudgeCLIP", model_name=name, **WEIGHTS)


@pytest.mark.host
def test_the_docs_say_what_a_bare_score_is_worth(host):
    import nodes

    description = nodes.NODE_CLASS_MAPPINGS["EditJudgeCLIP"].GET_SCHEMA().description
    assert "worse than no filter" in description
