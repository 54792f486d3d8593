"""Pictures with the statistics of photographs, and what previews do to them."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def photograph(seed: int, height: int = 512, width: int = 512) -> Tensor:
    """`h w 3`: noise whose amplitude falls with frequency as in photographs, channels alike but not the same."""
    generator = torch.Generator().manual_seed(seed)
    frequency = (torch.fft.fftfreq(height)[:, None] ** 2 + torch.fft.fftfreq(width)[None] ** 2).sqrt()
    spectrum = torch.fft.fft2(torch.randn(4, height, width, generator=generator)) / (frequency + 1 / width) ** 1.3
    planes = torch.fft.ifft2(spectrum).real
    planes = (planes - planes.mean(dim=(1, 2), keepdim=True)) / planes.std(dim=(1, 2), keepdim=True)
    picture = 0.9 * planes[:1] + 0.4 * planes[1:]
    return (0.5 + 0.18 * picture).clamp(0, 1).permute(1, 2, 0).contiguous()


def preview(picture: Tensor, seed: int = 0, blur: float = 4.0, noise: float = 0.03, shift: float = 0.02) -> Tensor:
    """A picture as an early x0 prediction shows it after the VAE: blurred, noisy, a little off in colour."""
    reach = int(3 * blur)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / blur) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    planes = F.pad(picture.permute(2, 0, 1)[None], (reach,) * 4, mode="reflect")
    planes = F.conv2d(F.conv2d(planes, kernel[:, :, None, :], groups=3), kernel[:, :, :, None], groups=3)[0]
    grain = torch.randn(picture.shape, generator=torch.Generator().manual_seed(seed)) * noise
    tint = torch.tensor([1.0, -0.5, 0.7]) * shift
    return (planes.permute(1, 2, 0) + grain + tint).clamp(0, 1)


def with_object(picture: Tensor, top: int, left: int, size: int, contrast: float = 0.4) -> Tensor:
    """The picture with a square whose colours differ by `contrast`, up where there is room, else down."""
    edited = picture.clone()
    patch = edited[top : top + size, left : left + size]
    patch += contrast if float(patch.mean()) < 0.5 else -contrast
    return edited.clamp(0, 1)
