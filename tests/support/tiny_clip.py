"""Tiny CLIP and SigLIP models with random weights, saved by transformers itself with tokenizer and preprocessor."""

import os
from pathlib import Path

import torch

WORDS = ("make", "the", "cat", "grey", "a", "photo", "of", "red", "house")
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = TEXT | {"image_size": 32, "patch_size": 8}


def write_clip(folder: Path, seed: int = 0) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    torch.manual_seed(seed)
    config = CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=16)
    # The host ships CLIP's tokenizer.
    tokenizer = CLIPTokenizer.from_pretrained(str(Path(os.environ["ICEDIT_HOST"]) / "comfy" / "sd1_tokenizer"))
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPModel(config).save_pretrained(folder)
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def write_siglip(folder: Path) -> Path:
    """With a tokenizer of whole words in tokenizer.json, as SigLIP 2 has one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

    torch.manual_seed(0)
    vocabulary = {word: index for index, word in enumerate(["<pad>", "<eos>", "<unk>", *dict.fromkeys(WORDS)])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_input_names=["input_ids"]
    )
    config = SiglipConfig(text_config=TEXT | {"vocab_size": 100, "max_position_embeddings": 16}, vision_config=VISION)
    SiglipModel(config).save_pretrained(folder)
    SiglipProcessor(SiglipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder
