"""Trains the mini models from nothing: `nox -s train`. The same command resumes it; a stop loses at most 200 steps."""

import argparse
import logging
import os
from pathlib import Path

import torch

from . import adapters, export, stages, text_to_image
from .dataset import Sentences
from .text import Tokenizers

log = logging.getLogger(__name__)

MODELS = Path(__file__).parent / "models"


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options.work.mkdir(parents=True, exist_ok=True)
    train(options.work, options.models, options.host, stages.Steps(), torch.device(options.device))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mini.train", description="Train the mini models.")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints; a stopped training goes on")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder for the trained files (%(default)s)")
    parser.add_argument("--host", type=Path, default=os.environ.get("ICEDIT_HOST"), help="a ComfyUI tree")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def train(
    work: Path, models: Path, host: Path, steps: stages.Steps, device: torch.device, compiled: bool = True
) -> None:
    """Run every stage, with checkpoints in `work`, and write the host's files into `models`."""
    tokenizers = Tokenizers(host)
    encoders = stages.train_text(work / "text.pt", steps.text, tokenizers)
    export.write_text_encoders(encoders, tokenizers, models)
    autoencoder = stages.train_autoencoder(work / "autoencoder.pt", steps.autoencoder, steps.pictures, device)
    data = stages.encoded_chunks(work / "edits", steps, autoencoder)
    autoencoder = stages.refine_decoder(work / "decoder.pt", steps.decoder, steps.pictures, autoencoder, device)
    export.write_autoencoder(autoencoder, models)
    setup = stages.DiffusionSetup(data, Sentences(encoders, tokenizers), device, compiled)
    base = stages.train_base(work / "base.pt", steps.base, setup)
    export.write_base(base, models)
    adapters.load_host(host, device)
    edits = [edit for chunk in data for edit in chunk.edits][: steps.pairs]
    training = adapters.AdapterTraining(work, models, edits)
    for routed, count in ((False, steps.lora), (True, steps.moe)):
        export.write_adapter(training.train(count, routed), models, routed)
    captioned = text_to_image.CaptionedSetup(data, encoders, tokenizers, device, compiled)
    dev = text_to_image.train_text_to_image(work / "dev.pt", steps.text_to_image, base, captioned)
    export.write_text_to_image(dev, models)
    log.info("Written to %s", models)


if __name__ == "__main__":
    main()
