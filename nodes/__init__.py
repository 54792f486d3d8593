"""What users see: one file per group of nodes."""

from comfy_api.latest import ComfyExtension, io
from typing_extensions import override

from .diptych import CropRightHalf, DiptychCreate
from .instruction import ICEFConditioning, InContextEditInstruction
from .judges import EditJudgePixels, EditJudgeVLM
from .moe_lora import MoELoRALoader


class ICEditExtension(ComfyExtension):
    @override
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            DiptychCreate,
            InContextEditInstruction,
            ICEFConditioning,
            CropRightHalf,
            MoELoRALoader,
            EditJudgePixels,
            EditJudgeVLM,
        ]
