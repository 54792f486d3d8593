"""What users see: one file per group of nodes."""

from comfy_api.latest import ComfyExtension, io

from ..diptych.fit import EARLIER_FITS
from ..host import prompts
from .diptych import NO_FILE, DiptychCreate
from .early_filter import EarlyFilterSampler, EarlyFilterSamplerAdvanced
from .edit_pairs import LoadEditPairs
from .expert_usage import ExpertUsage, FlattenMoELoRA
from .grid import EditGrid, EditVariations
from .instruction import ICEFConditioning, InContextEditInstruction
from .inversion import InContextInversion
from .judges import EditJudgeCLIP, EditJudgeEndpoint, EditJudgePixels, EditJudgeVLM
from .known_tokens import ReuseKnownTokens
from .moe_lora import MoELoRALoader
from .region import RegionFromChange, RegionFromMask
from .restore import CropRightHalf, DecodeRightHalf, EditRestore
from .training import TrainMoELoRA


class ICEditExtension(ComfyExtension):
    async def on_load(self) -> None:
        prompts.fill_in("DiptychCreate", "image", NO_FILE)
        prompts.rename_values("DiptychCreate", "fit", EARLIER_FITS)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            DiptychCreate,
            InContextEditInstruction,
            ICEFConditioning,
            CropRightHalf,
            DecodeRightHalf,
            EditRestore,
            EarlyFilterSampler,
            EarlyFilterSamplerAdvanced,
            MoELoRALoader,
            ExpertUsage,
            FlattenMoELoRA,
            InContextInversion,
            ReuseKnownTokens,
            TrainMoELoRA,
            EditJudgePixels,
            EditJudgeVLM,
            EditJudgeEndpoint,
            EditJudgeCLIP,
            LoadEditPairs,
            RegionFromMask,
            RegionFromChange,
            EditVariations,
            EditGrid,
        ]
