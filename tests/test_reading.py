"""Picture files as cameras, scanners and other programs write them. Without a host."""

import io
import struct
import subprocess
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from icedit.diptych.reading import read_picture, read_size
from PIL import Image, ImageCms

PACK = Path(__file__).resolve().parent.parent

# Display P3 and Adobe RGB differ from sRGB in their primaries: x, y of red, green and blue.
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
SRGB = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
WHITE = (0.3127, 0.3290)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
D50 = np.array([0.9642, 1.0, 0.8249])


def to_xyz(primaries) -> np.ndarray:
    """The matrix from linear RGB to XYZ with the white of D65."""
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([WHITE[0] / WHITE[1], 1.0, (1 - sum(WHITE)) / WHITE[1]])
    return columns * np.linalg.solve(columns, white)


def rgb_profile(primaries, gamma=2.2) -> bytes:
    """An ICC profile of version 2 with a matrix and a gamma."""
    white = to_xyz(primaries) @ np.ones(3)
    adapt = np.linalg.solve(BRADFORD, np.diag(BRADFORD @ D50 / (BRADFORD @ white)) @ BRADFORD)
    matrix = adapt @ to_xyz(primaries)
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + b"\0\0"
    tags = {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve, b"wtpt": xyz(D50)}
    tags |= {name: xyz(matrix[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return profile(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    return profile(b"GRAY", {b"kTRC": b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + b"\0\0",
                             b"wtpt": xyz(D50)})  # fmt: skip


def cmyk_profile() -> bytes:
    """Ink to Lab through a table with two steps an ink: black ink alone is not quite black, and magenta is red."""
    lab = [(40.0 if k else 100.0 - 10 * c - 30 * m - 5 * y, 0.0 if k else 60.0 * m - 30 * c, 0.0 if k else 70.0 * y)
           for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]  # fmt: skip
    table = b"".join(bytes((round(L * 2.55), round(a + 128), round(b + 128))) for L, a, b in lab)
    ramps, identity = bytes(range(256)), struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1" + struct.pack(">IBBBB", 0, 4, 3, 2, 0) + identity + ramps * 4 + table + ramps * 3
    return profile(b"CMYK", {b"A2B0": lut, b"wtpt": xyz(D50)}, kind=b"prtr", connection=b"Lab ")


def xyz(values) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def profile(space: bytes, tags: dict[bytes, bytes], kind=b"mntr", connection=b"XYZ ") -> bytes:
    text = b"test\0"
    described = b"desc" + struct.pack(">II", 0, len(text)) + text + bytes(78)
    tags = {b"desc": described, b"cprt": b"text\0\0\0\0" + text, **tags}
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">4sI4s4s4s12s4s", b"lcms", 0x02400000, kind, space, connection, bytes(12), b"acsp")
    head += bytes(28) + struct.pack(">3i", *(round(value * 65536) for value in D50))
    head = struct.pack(">I", start + len(body)) + head
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body


def expected_srgb(rgb, primaries, gamma=2.2) -> np.ndarray:
    """sRGB in 0..255 of a colour 0..255, by arithmetic."""
    linear = np.linalg.solve(to_xyz(SRGB), to_xyz(primaries) @ (np.array(rgb) / 255.0) ** gamma).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255


COLOURS = [(200, 120, 60), (60, 160, 120), (128, 128, 128), (255, 255, 255), (0, 0, 0), (240, 40, 30), (90, 60, 200)]


def saved(path, colours, icc=None, **options):
    pixels = np.array(colours, np.uint8)[None].repeat(3, axis=0)
    Image.fromarray(pixels).save(path, icc_profile=icc, **options)
    return path


class TestColourProfiles:
    @pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
    @pytest.mark.parametrize("primaries", [P3, ADOBE], ids=["P3", "Adobe"])
    def test_colours_become_srgb(self, tmp_path, primaries, suffix):
        options = {"lossless": True} if suffix == "webp" else {}
        path = saved(tmp_path / f"a.{suffix}", COLOURS, rgb_profile(primaries), **options)
        picture = read_picture(path)
        expected = [expected_srgb(colour, primaries) for colour in COLOURS]
        assert np.abs(picture.image[0, 0].numpy() * 255 - expected).max() < 3
        assert np.abs(np.array(expected) - COLOURS).max() > 20
        assert picture.notes == ()

    def test_a_photo_of_a_phone(self, tmp_path):
        path = saved(tmp_path / "a.jpg", [(200, 120, 60)] * 16, rgb_profile(P3), quality=95)
        assert np.abs(read_picture(path).image[0, 1, 8].numpy() * 255 - expected_srgb((200, 120, 60), P3)).max() < 4

    @pytest.mark.parametrize("icc", [None, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()])
    def test_srgb_keeps_its_very_pixels(self, tmp_path, icc):
        pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=icc)
        image = read_picture(tmp_path / "a.png").image
        assert np.array_equal((image[0].numpy() * 255).round().astype(np.uint8), pixels)

    def test_the_colours_under_transparency(self, tmp_path):
        picture = Image.new("RGBA", (8, 6), (200, 120, 60, 255))
        picture.putpixel((0, 0), (0, 0, 0, 0))
        picture.save(tmp_path / "a.png", icc_profile=rgb_profile(P3))
        read = read_picture(tmp_path / "a.png")
        assert np.abs(read.image[0, 3, 3].numpy() * 255 - expected_srgb((200, 120, 60), P3)).max() < 3
        assert read.image[0, 0, 0].tolist() == [1, 1, 1]

    def test_a_palette(self, tmp_path):
        picture = Image.new("P", (8, 6), 0)
        picture.putpalette([200, 120, 60])
        picture.save(tmp_path / "a.png", icc_profile=rgb_profile(P3))
        image = read_picture(tmp_path / "a.png").image
        assert np.abs(image[0, 3, 3].numpy() * 255 - expected_srgb((200, 120, 60), P3)).max() < 3

    @pytest.mark.parametrize("suffix", ["tiff", "jpg"])
    def test_inks(self, tmp_path, suffix):
        for ink, colour in (((0, 255, 0, 0), (255, 120, 174)), ((0, 0, 0, 0), (255, 255, 255))):
            Image.new("CMYK", (16, 16), ink).save(tmp_path / f"a.{suffix}", icc_profile=cmyk_profile())
            image = read_picture(tmp_path / f"a.{suffix}").image
            assert np.abs(image[0, 8, 8].numpy() * 255 - colour).max() < 6

    @pytest.mark.parametrize("deep", [False, True])
    def test_greys(self, tmp_path, deep):
        grey = np.linspace(0, 65535 if deep else 255, 300).astype(np.uint16 if deep else np.uint8)[None].repeat(2, 0)
        Image.fromarray(grey).save(tmp_path / "a.png", icc_profile=grey_profile(1.0))
        image = read_picture(tmp_path / "a.png").image[0, 0]
        linear = grey[0] / grey.max()
        srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        assert np.abs(image.numpy() - srgb[:, None])[3:].max() < 0.012
        if deep:
            assert len(image[:, 0].unique()) > 256

    def test_a_grey_picture_with_a_profile_for_colours(self, tmp_path):
        Image.new("L", (8, 6), 128).save(tmp_path / "a.png", icc_profile=rgb_profile(P3, gamma=1.0))
        image = read_picture(tmp_path / "a.png").image
        assert torch.allclose(image, torch.tensor(188 / 255), atol=0.012)

    def test_lab(self, tmp_path):
        Image.new("LAB", (8, 6), (128, 128, 128)).save(tmp_path / "a.tiff")
        assert torch.allclose(read_picture(tmp_path / "a.tiff").image, torch.tensor(119 / 255), atol=0.02)

    @pytest.mark.parametrize(
        "icc",
        [b"no profile at all", rgb_profile(P3)[:300], cmyk_profile()],
        ids=["nonsense", "cut off", "for other pictures"],
    )
    def test_a_broken_profile_loses_no_picture_and_is_told(self, tmp_path, icc):
        picture = read_picture(saved(tmp_path / "a.png", COLOURS, icc))
        assert np.allclose(picture.image[0, 0].numpy() * 255, COLOURS)
        (note,) = picture.notes
        assert "The colour profile of 'a.png' could not be used" in note


class TestFloats:
    @pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
    def test_every_range_that_programs_write(self, tmp_path, white):
        grey = np.linspace(0, 1, 200, dtype=np.float32)[None].repeat(4, 0)
        Image.fromarray(grey * np.float32(white)).save(tmp_path / "a.tiff")
        picture = read_picture(tmp_path / "a.tiff")
        assert torch.allclose(picture.image[0, :, :, 0], torch.from_numpy(grey), atol=1e-5)
        assert len(picture.notes) == (white > 1)

    def test_highlights_beyond_white(self, tmp_path):
        grey = np.full((40, 40), 0.5, np.float32)
        grey[:3] = 4.0
        Image.fromarray(grey).save(tmp_path / "a.tiff")
        image = read_picture(tmp_path / "a.tiff").image
        assert image[0, 20, 20].tolist() == [0.5] * 3
        assert image[0, 0, 0].tolist() == [1.0] * 3

    def test_no_numbers_are_black(self, tmp_path):
        grey = np.full((40, 40), 0.5, np.float32)
        grey[0, 0] = np.nan
        Image.fromarray(grey).save(tmp_path / "a.tiff")
        assert read_picture(tmp_path / "a.tiff").image[0, 0, 0].tolist() == [0.0] * 3


class TestFormats:
    def test_avif(self, tmp_path):
        Image.new("RGB", (64, 48), (200, 30, 30)).save(tmp_path / "a.avif", quality=90)
        image = read_picture(tmp_path / "a.avif").image
        assert np.abs(image[0, 20, 20].numpy() * 255 - (200, 30, 30)).max() < 8

    @pytest.mark.parametrize(("brand", "kind"), [(b"heic", "HEIC"), (b"mif1", "HEIC")])
    def test_heic_says_what_to_do(self, tmp_path, brand, kind):
        (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(200))
        with pytest.raises(ValueError, match=rf"'a\.heic' is a picture in the format {kind}.*JPEG.*pillow-heif"):
            read_picture(tmp_path / "a.heic")

    def test_heic_is_read_where_pillow_heif_is_installed(self, tmp_path, monkeypatch):
        def register():
            def read(file, _):
                return Image.open(io.BytesIO(file.read()[24:]), formats=["PNG"])

            Image.register_open("HEIF", read, lambda start: start[4:12] == b"ftypheic")
            Image.ID.insert(0, Image.ID.pop())

        plugin = types.ModuleType("pillow_heif")
        plugin.__spec__ = types.SimpleNamespace(name="pillow_heif")
        plugin.register_heif_opener = register
        monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
        monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
        monkeypatch.setattr(Image, "ID", list(Image.ID))
        content = io.BytesIO()
        Image.new("RGB", (8, 6), (1, 2, 3)).save(content, "png")
        (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic".ljust(24, b"\0") + content.getvalue())
        assert read_picture(tmp_path / "a.heic").image.shape == (1, 6, 8, 3)


def claiming(path, width, height):
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    return path


class TestLargePictures:
    def test_too_large_is_refused_unread(self, tmp_path):
        with pytest.raises(
            ValueError, match=r"'a\.png' is 60000 x 60000, 3600 megapixels, more than the 268 that can be"
        ):
            read_picture(claiming(tmp_path / "a.png", 60000, 60000))

    def test_more_than_there_is_memory_for(self, tmp_path):
        Image.new("RGB", (200, 100)).save(tmp_path / "a.jpg")
        with pytest.raises(ValueError, match="200 x 100, 0 megapixels, more than the 0 that there is memory for now"):
            read_picture(tmp_path / "a.jpg", most_pixels=19_999)
        assert read_picture(tmp_path / "a.jpg", most_pixels=20_000).image.shape == (1, 100, 200, 3)

    @pytest.mark.parametrize("suffix", ["jpg", "png"])
    def test_photos_beyond_the_limit_of_pillow(self, tmp_path, monkeypatch, suffix):
        Image.new("RGB", (200, 100), (200, 30, 30)).save(tmp_path / f"a.{suffix}")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
        monkeypatch.setattr("icedit.diptych.geometry.STRIP", 4096)
        image = read_picture(tmp_path / f"a.{suffix}").image
        assert np.abs(image[0].numpy() * 255 - (200, 30, 30)).max() < 4

    def test_strips_fit_together(self, tmp_path, monkeypatch):
        pixels = np.random.default_rng(0).integers(0, 256, (70, 50, 4), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        whole = read_picture(tmp_path / "a.png")
        monkeypatch.setattr("icedit.diptych.geometry.STRIP", 333)
        striped = read_picture(tmp_path / "a.png")
        assert torch.equal(striped.image, whole.image)
        assert torch.equal(striped.alpha, whole.alpha)

    @pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted differently elsewhere")
    def test_memory_for_a_pixel(self, tmp_path):
        """Decoded 4 bytes, turned upright 4, as float 12; and half as much again for what an allocator needs."""
        picture = Image.new("RGB", (6000, 5000), (9, 99, 199))
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(tmp_path / "a.jpg", exif=exif, icc_profile=rgb_profile(P3))
        code = f"""
import sys, types, resource
for name, path in (("icedit", {str(PACK)!r}), ("icedit.diptych", {str(PACK / "diptych")!r})):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
from icedit.diptych.reading import read_picture, read_size
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
image = read_picture({str(tmp_path / "a.jpg")!r}).image
print((peak() - before) / image[0, ..., 0].numel())
"""
        used = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert float(used.stdout) < 24


class TestSizes:
    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
    @pytest.mark.parametrize("orientation", [1, 3, 6, 8])
    def test_a_size_is_that_of_the_picture(self, tmp_path, suffix, orientation):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"a.{suffix}"
        Image.new("RGB", (60, 40), "red").save(path, exif=exif)
        size, image = read_size(path), read_picture(path).image
        assert (size.height, size.width) == tuple(image.shape[1:3]) == ((60, 40) if orientation > 4 else (40, 60))
        assert read_size("a", path.read_bytes()) == size
        assert torch.equal(read_picture("a", content=path.read_bytes()).image, image)

    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
    def test_data_that_ends_early_is_found(self, tmp_path, suffix):
        path = tmp_path / f"a.{suffix}"
        Image.effect_noise((200, 200), 90).convert("RGB").save(path)
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(ValueError, match=r"'a\..*' (could not be read|is not a picture)"):
            read_size(path)
