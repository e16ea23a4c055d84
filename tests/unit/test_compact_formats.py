"""The small splat formats: .splat, .spz and .compressed.ply, against their own precision and against other readers."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import struct
import zlib
from pathlib import Path

import gsply
import numpy as np
import pytest
import torch
import zstandard
from gsply.spz import read_spz, write_spz

from da3gs.errors import InputError
from da3gs.exports.independent import decode_splats
from da3gs.formats import (
    READ_SUFFIXES,
    WRITTEN_SUFFIXES,
    format_of_content,
    load_gaussians,
    load_splat_file,
    save_gaussians,
)
from da3gs.formats.splats.compressed_ply import morton_order
from da3gs.formats.splats.spz import save_spz
from da3gs.gaussians import Gaussians
from da3gs.geometry.rotations import quaternion_to_matrix
from da3gs.geometry.similarity import Similarity
from tests.small_scene import small_gaussians

COMPACT = (".splat", ".spz", ".compressed.ply")
FILES = tuple(suffix for suffix in WRITTEN_SUFFIXES if suffix.startswith("."))
READ = tuple(suffix for suffix in FILES if suffix in READ_SUFFIXES)
EMPTY = (".ply", ".compressed.ply", ".splat", ".spz")  # what may hold no splats at all


def turn(a: Gaussians, b: Gaussians) -> torch.Tensor:
    """The largest difference of any element of two sets of rotations."""
    return (quaternion_to_matrix(a.quaternions) - quaternion_to_matrix(b.quaternions)).abs().max()


def covariances(gaussians: Gaussians) -> torch.Tensor:
    """The shape of each splat in the world; several rotations make the same one."""
    axes = quaternion_to_matrix(gaussians.quaternions) * gaussians.scales[:, None]
    return axes @ axes.transpose(-1, -2)


def in_file_order(gaussians: Gaussians, suffix: str) -> Gaussians:
    """The splats as the file has them; only compressed PLY sorts."""
    if suffix != ".compressed.ply":
        return gaussians
    return gaussians.masked(torch.from_numpy(morton_order(gaussians.means.numpy())))


@pytest.mark.parametrize("bands", [1, 4, 9, 16])
@pytest.mark.parametrize("suffix", COMPACT)
def test_round_trip(tmp_path: Path, suffix: str, bands: int) -> None:
    splats = small_gaussians(700, bands)
    path = tmp_path / f"a{suffix}"
    save_gaussians(splats, path)
    assert format_of_content(path).suffix == suffix
    again, splats = load_gaussians(path), in_file_order(splats, suffix)
    assert len(again) == 700
    bound = {  # means, log scales, rotations, opacities, constant harmonic, other harmonics: half a step, and rounding
        ".splat": (0, 1e-6, 0.02, 0.5 / 255, 1e9, 0),
        ".spz": (0.5 / 2**20, 0.5 / 16, 0.006, 0.5 / 255, 0.5 / (0.15 * 255), 0.5 / 128),
        ".compressed.ply": (4.0 / 1023 / 2, 4.0 / 1023 / 2, 0.005, 0.5 / 255, 0.03, 0.5 / 32),
    }[suffix]
    differences = (
        (again.means - splats.means).abs().max(),
        (again.scales.log() - splats.scales.log()).abs().max(),
        turn(again, splats),
        (again.opacities - splats.opacities).abs().max(),
        (again.harmonics[:, 0] - splats.harmonics[:, 0]).abs().max(),
        (again.harmonics[:, 1:] - splats.harmonics[:, 1 : again.harmonics.shape[1]]).abs().amax()
        if again.degree
        else torch.zeros(()),
    )
    for difference, allowed in zip(differences, bound, strict=True):
        assert difference <= allowed * 1.001 + 1e-6
    assert again.harmonics.shape[1] == (1 if suffix == ".splat" else bands)


@pytest.mark.parametrize("suffix", FILES)
def test_the_same_splats_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_gaussians(small_gaussians(), tmp_path / name / f"x{suffix}")
    assert (tmp_path / "a" / f"x{suffix}").read_bytes() == (tmp_path / "b" / f"x{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", EMPTY)
@pytest.mark.parametrize("count", [0, 1, 256, 257])
def test_few_splats(tmp_path: Path, suffix: str, count: int) -> None:
    save_gaussians(small_gaussians(count), tmp_path / f"a{suffix}")
    assert len(load_gaussians(tmp_path / f"a{suffix}")) == count


@pytest.mark.parametrize("suffix", COMPACT)
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, suffix: str) -> None:
    splats = small_gaussians()
    splats.means[3, 1] = torch.nan
    with pytest.raises(InputError, match="1 numbers of these splats that are not finite"):
        save_gaussians(splats, tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", COMPACT)
def test_extreme_values_are_held_not_wrapped(tmp_path: Path, suffix: str) -> None:
    splats = small_gaussians(300)
    splats.opacities[:2] = torch.tensor([0.0, 1.0])
    splats.scales[:2] = torch.tensor([[0.0, 1e-30, 1e-9], [500.0, 1e4, 1e-3]])
    splats.harmonics[:2] = torch.tensor([-50.0, 50.0])[:, None, None]
    splats.quaternions[2] = 0
    save_gaussians(splats, tmp_path / f"a{suffix}")
    again, splats = load_gaussians(tmp_path / f"a{suffix}"), in_file_order(splats, suffix)
    for tensor in (again.means, again.scales, again.quaternions, again.opacities, again.harmonics):
        assert torch.isfinite(tensor).all()
    dark, bright = splats.opacities == 0, splats.opacities == 1
    assert again.opacities[dark] == 0
    assert again.opacities[bright] == 1
    assert (again.harmonics[dark] < 0).all()
    assert (again.harmonics[bright] > 0).all()
    assert (again.scales[dark] <= 2e-3).all()
    assert (again.scales[bright][:, :2] >= 300).all()
    null = (splats.quaternions == 0).all(-1)
    assert torch.allclose(
        torch.nn.functional.normalize(again.quaternions[null]), torch.tensor([1.0, 0, 0, 0]), atol=1e-3
    )


def test_far_splats_keep_what_24_bits_allow(tmp_path: Path) -> None:
    splats = small_gaussians()
    splats.means[0] = torch.tensor([5000.0, 0.0, -3.0])
    save_spz(splats, tmp_path / "a.spz")
    assert (
        load_gaussians(tmp_path / "a.spz").means - splats.means
    ).abs().max() <= 0.5 / 2**10  # 5000 needs 13 of 23 bits


def test_gsply_reads_spz_as_stored(tmp_path: Path) -> None:
    """It converts no axes: what it sees is our scene turned by half a turn about x."""
    splats = small_gaussians(400, 16)
    save_spz(splats, tmp_path / "a.spz", version=3)
    other = read_spz(str(tmp_path / "a.spz"))
    half_turn = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    ours = load_gaussians(tmp_path / "a.spz").transformed(
        Similarity(scale=torch.ones(()), rotation=half_turn, translation=torch.zeros(3))
    )
    theirs = Gaussians(
        means=torch.from_numpy(other.means),
        scales=torch.from_numpy(np.exp(other.scales)),
        quaternions=torch.from_numpy(other.quats),
        opacities=torch.from_numpy(1 / (1 + np.exp(-other.opacities))),
        harmonics=torch.from_numpy(np.concatenate((other.sh0[:, None], other.shN), 1)),
    )
    for name in ("means", "scales", "opacities", "harmonics"):
        torch.testing.assert_close(getattr(theirs, name), getattr(ours, name), rtol=1e-4, atol=1e-4, msg=name)
    torch.testing.assert_close(covariances(theirs), covariances(ours), rtol=0, atol=1e-6)
    assert (theirs.means * torch.tensor([1.0, -1, -1]) - splats.means).abs().max() < 1e-5


def test_what_gsply_writes_as_spz(tmp_path: Path) -> None:
    splats = small_gaussians(400, 16)
    data = gsply.GSData(
        means=splats.means.numpy(),
        scales=splats.scales.log().numpy(),
        quats=splats.quaternions.numpy(),
        opacities=torch.logit(splats.opacities).numpy(),
        sh0=splats.harmonics[:, 0].numpy().copy(),
        shN=splats.harmonics[:, 1:].numpy().copy(),
    )
    write_spz(str(tmp_path / "a.spz"), data, version=3)
    again = load_gaussians(tmp_path / "a.spz", axes="RDF")  # it stored our axes as they are
    assert (again.means - splats.means).abs().max() < 1e-3
    assert (again.scales.log() - splats.scales.log()).abs().max() < 0.04
    assert (again.opacities - splats.opacities).abs().max() < 0.005


@pytest.mark.parametrize("bands", [1, 4, 9, 16])
def test_gsply_reads_compressed_ply(tmp_path: Path, bands: int) -> None:
    save_gaussians(small_gaussians(700, bands), tmp_path / "a.compressed.ply")
    other, ours = gsply.plyread(str(tmp_path / "a.compressed.ply")), load_gaussians(tmp_path / "a.compressed.ply")
    np.testing.assert_allclose(other.means, ours.means, atol=1e-5)
    np.testing.assert_allclose(np.exp(other.scales), ours.scales, rtol=1e-4)
    np.testing.assert_allclose(1 / (1 + np.exp(-other.opacities)), ours.opacities, atol=1e-4)
    np.testing.assert_allclose(other.sh0, ours.harmonics[:, 0], atol=1e-4)
    np.testing.assert_allclose(other.quats, ours.quaternions, atol=1e-5)
    if bands > 1:
        np.testing.assert_allclose(other.shN, ours.harmonics[:, 1:], atol=1e-5)


def test_what_gsply_compresses(tmp_path: Path) -> None:
    splats = small_gaussians(700, 9)
    gsply.plywrite(
        str(tmp_path / "a.ply"),
        splats.means.numpy(),
        splats.scales.log().numpy(),
        splats.quaternions.numpy(),
        torch.logit(splats.opacities).numpy(),
        splats.harmonics[:, 0].numpy().copy(),
        splats.harmonics[:, 1:].numpy().copy(),
        compressed=True,
    )
    again = load_gaussians(tmp_path / "a.compressed.ply")
    nearest = torch.cdist(splats.means, again.means).argmin(1)
    assert (again.means[nearest] - splats.means).abs().max() < 4 / 1023
    assert (again.opacities[nearest] - splats.opacities).abs().max() < 0.01
    assert (again.harmonics[nearest] - splats.harmonics).abs().max() < 0.05


def test_older_spz(tmp_path: Path) -> None:
    """Version 2: three bytes of rotation. One splat at (1, 2, 3), turned by 90 degrees about x."""
    fields = struct.pack("<IIIBBBB", 0x5053474E, 2, 1, 0, 12, 0, 0)
    position = b"".join(int(v * 4096).to_bytes(3, "little", signed=True) for v in (1, -2, -3))
    rotation = bytes([round((0.5**0.5 + 1) * 127.5), 128, 128])
    (tmp_path / "a.spz").write_bytes(
        gzip.compress(fields + position + bytes([255, 128, 128, 128, 160, 160, 160]) + rotation)
    )
    splat = load_gaussians(tmp_path / "a.spz")
    assert splat.means.tolist() == [[1, 2, 3]]
    assert splat.scales.tolist() == [[1, 1, 1]]
    assert splat.opacities.tolist() == [1]
    assert torch.allclose(splat.quaternions, torch.tensor([[0.5**0.5, 0.5**0.5, 0, 0]]), atol=0.01)


def test_oldest_spz(tmp_path: Path) -> None:
    """Version 1: positions are half floats."""
    fields = struct.pack("<IIIBBBB", 0x5053474E, 1, 1, 0, 12, 0, 0)
    rest = bytes([255, 128, 128, 128, 160, 160, 160, 128, 128, 128])
    (tmp_path / "a.spz").write_bytes(gzip.compress(fields + np.array([1, -2, -3], "<f2").tobytes() + rest))
    assert load_gaussians(tmp_path / "a.spz").means.tolist() == [[1, 2, 3]]


def spz(
    version: int = 3, count: int = 1, degree: int = 0, bits: int = 12, magic: int = 0x5053474E, data: int = 20
) -> bytes:
    """An .spz file of zeros."""
    return gzip.compress(struct.pack("<IIIBBBB", magic, version, count, degree, bits, 0, 0) + bytes(data))


def changed(old: bytes, new: bytes) -> object:
    def make(sound: bytes) -> bytes:
        assert old in sound
        return sound.replace(old, new, 1)

    return make


ONE = [bytes([0, 16, 0] * 3), b"\xff", bytes([128] * 3), bytes([160] * 3), bytes([0, 0, 0, 192])]
"""The streams of a splat at (1, 1, 1), in units of 2^-12, without harmonics."""


def spz4(
    *,
    records: bytes = b"",
    flags: int = 2,
    count: int = 1,
    degree: int = 0,
    version: int = 4,
    streams: list[bytes] | None = None,
    sizes: list[int] | None = None,
    toc: int | None = None,
    number: int | None = None,
) -> bytes:
    """An .spz file of version 4, as the format's text has it."""
    streams = ONE if streams is None else streams
    packed = [zstandard.ZstdCompressor().compress(stream) for stream in streams]
    plain = [len(stream) for stream in streams] if sizes is None else sizes
    start = 32 + len(records) if toc is None else toc
    number = len(streams) if number is None else number
    header = struct.pack("<IIIBBBBI12x", 0x5053474E, version, count, degree, 12, flags, number, start)
    entries = b"".join(struct.pack("<QQ", len(p), n) for p, n in zip(packed, plain, strict=True))
    return header + records + entries + b"".join(packed)


def record(kind: int, payload: bytes) -> bytes:
    return struct.pack("<II", kind, len(payload)) + payload


@pytest.mark.parametrize(
    ("number", "axes", "means"),
    [(None, "RDF", [1, 1, 1]), (0, "RDF", [1, 1, 1]), (4, "RUB", [1, -1, -1]), (6, "RDF", [1, 1, 1]),
     (7, "LUF", [-1, -1, 1]), (8, "RUF", [1, -1, 1]), (12, "RFU", [1, -1, 1])],
)  # fmt: skip
def test_the_axes_that_a_record_states(tmp_path: Path, number: int | None, axes: str, means: list[float]) -> None:
    other = record(0xADBE0002, bytes(12))  # of another kind: skipped
    records = other if number is None else other + record(0xADBE0003, struct.pack("<I", number)) + other
    (tmp_path / "a.spz").write_bytes(spz4(records=records, flags=3))
    file = load_splat_file(tmp_path / "a.spz")
    assert (file.axes, file.stated, file.antialiased) == (axes, bool(number), True)
    assert load_gaussians(tmp_path / "a.spz").means.tolist() == [means]
    assert load_gaussians(tmp_path / "a.spz", axes="RUB").means.tolist() == [[1, -1, -1]]
    decoded = decode_splats(tmp_path / "a.spz")
    if axes == "RUF":  # left-handed: the decoder mirrors it
        assert (decoded.axes, decoded.means.tolist()) == ("LUF", [[-1, 1, 1]])
    else:
        assert (decoded.axes, decoded.means.tolist()) == (axes, [[1, 1, 1]])


def test_spz_without_a_record_is_read_as_its_writers_write_it(tmp_path: Path) -> None:
    (tmp_path / "a.spz").write_bytes(spz4(flags=0))
    file = load_splat_file(tmp_path / "a.spz")
    assert (file.axes, file.stated, file.antialiased) == ("RDF", False, False)
    assert "without a record" in file.reason


def test_degree_4_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    harmonics = np.arange(128, 200, dtype=np.uint8).tobytes()
    (tmp_path / "a.spz").write_bytes(spz4(degree=4, streams=[*ONE, harmonics]))
    again = load_gaussians(tmp_path / "a.spz")
    assert torch.equal(again.harmonics[0, 1:].flatten(), torch.arange(45) / 128)
    assert "degree 4" in caplog.text
    np.testing.assert_allclose(decode_splats(tmp_path / "a.spz").harmonics, again.harmonics, atol=1e-6)


def test_versions_hold_the_same_numbers(tmp_path: Path) -> None:
    splats = small_gaussians(500, 16)
    for version in (3, 4):
        save_spz(splats, tmp_path / f"{version}.spz", version=version)
    three, four = (load_gaussians(tmp_path / f"{version}.spz") for version in (3, 4))
    for name in ("means", "scales", "opacities"):
        assert torch.equal(getattr(three, name), getattr(four, name))
    assert (three.harmonics - four.harmonics).abs().max() <= 1 / 128
    assert (tmp_path / "4.spz").read_bytes()[:8] == b"NGSP" + bytes([4, 0, 0, 0])


BROKEN = {
    "spz4 version": (".spz", lambda data: spz4(version=5), "version 5; da3gs reads 1 to 4"),
    "spz4 header": (".spz", lambda data: spz4()[:30], "damaged or cut short"),
    "spz4 table": (".spz", lambda data: spz4()[:60], "damaged or cut short"),
    "spz4 streams": (".spz", lambda data: spz4(number=6), "6 streams from byte 32"),
    "spz4 place": (".spz", lambda data: spz4(toc=9), "streams from byte 9"),
    "spz4 far place": (".spz", lambda data: spz4(toc=2**32 - 1), "streams from byte 4294967295"),
    "spz4 degree": (".spz", lambda data: spz4(degree=7), "degree 7"),
    "spz4 count": (".spz", lambda data: spz4(count=2**32 - 1), "4294967295 splats do not fit"),
    "spz4 sizes": (".spz", lambda data: spz4(sizes=[2**60, 1, 3, 3, 4]), "a stream of 1152921504606846976 bytes"),
    "spz4 bomb": (
        ".spz",
        lambda data: spz4(streams=[bytes(1 << 26), *ONE[1:]], sizes=[9, 1, 3, 3, 4]),
        "more bytes than its 1",
    ),
    "spz4 short": (
        ".spz",
        lambda data: spz4(streams=[ONE[0][:-1], *ONE[1:]], sizes=[9, 1, 3, 3, 4]),
        "fewer bytes than its 1",
    ),
    "spz4 garbled": (".spz", lambda data: spz4().replace(b"\x28\xb5\x2f\xfd", b"oops"), "damaged or cut short"),
    "spz4 axes": (".spz", lambda data: spz4(records=record(0xADBE0003, b"\x11\0\0\0")), "axes number 17"),
    "spz4 axes cut": (".spz", lambda data: spz4(records=record(0xADBE0003, b"\6")), "axes number 6"),
    "spz4 record cut": (".spz", lambda data: spz4(records=b"abc"), "reaches beyond its place"),
    "spz4 record long": (".spz", lambda data: spz4(records=struct.pack("<II", 1, 2**32 - 1)), "beyond its place"),
    "splat cut": (".splat", lambda data: data[:-1], "not a splat file"),
    "spz cut": (".spz", lambda data: data[:-20], "damaged or cut short|bytes than"),
    "spz garbled": (".spz", lambda data: data[:160] + bytes(20) + data[180:], "damaged|bytes than"),
    "spz only gzip": (".spz", lambda data: gzip.compress(b"hello"), "header is another one"),
    "spz magic": (".spz", lambda data: spz(magic=1), "header is another one"),
    "spz version": (".spz", lambda data: spz(version=4), "version 4 in a gzip stream; da3gs reads 1, 2 and 3"),
    "spz degree": (".spz", lambda data: spz(degree=9), "degree 9"),
    "spz bits": (".spz", lambda data: spz(bits=200), "200 fraction bits"),
    "spz short": (".spz", lambda data: spz(count=2), "fewer bytes than its 2 splats"),
    "spz long": (".spz", lambda data: spz(data=21), "more bytes than its 1 splats"),
    "spz huge": (".spz", lambda data: spz(count=2**32 - 1), "4294967295 splats do not fit"),
    "spz bomb": (".spz", lambda data: spz(count=1, data=50_000_000), "more bytes than its 1 splats"),
    "page cut": (".html", lambda data: data[: len(data) // 3], "splats are missing"),
    "page garbled": (".html", lambda data: data.replace(b'id="splats">\n', b'id="splats">\nab-'), "splats are missing"),
    "page odd": (".html", lambda data: data.replace(b'id="splats">\n', b'id="splats">\na'), "not base64|not a zip"),
    "page of others": (".html", lambda data: data.replace(b"da3gs splat page", b"another"), "not a splat file"),
    "compressed cut": (".compressed.ply", lambda data: data[:-1], "cut short"),
    "compressed longer": (".compressed.ply", lambda data: data + b"1", "longer than it should be"),
    "compressed count": (".compressed.ply", changed(b"vertex 300", b"vertex 900"), "900 splats in 2 chunks"),
    "compressed huge": (
        ".compressed.ply",
        lambda data: (
            data.replace(b"chunk 2", b"chunk 3906250000")
            .replace(b"vertex 300", b"vertex 999999999999")
            .replace(b"sh 300", b"sh 999999999999")
        ),
        "cut short",
    ),
    "compressed lacks": (".compressed.ply", changed(b"packed_scale", b"packed_scalp"), "lack properties"),
    "compressed type": (".compressed.ply", changed(b"uint packed_scale", b"float packed_scale"), "lack"),
    "compressed harmonics": (".compressed.ply", changed(b"f_rest_3", b"f_rast_3"), "harmonics do not fit"),
    "compressed ascii": (".compressed.ply", changed(b"binary_little_endian", b"ascii"), "binary elements"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_give_one_line(tmp_path: Path, name: str) -> None:
    suffix, damage, message = BROKEN[name]
    path = tmp_path / f"a{suffix}"
    save_gaussians(small_gaussians(300), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=message) as caught:
        load_gaussians(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", FILES)
def test_flipped_bytes_are_told_or_harmless(tmp_path: Path, suffix: str) -> None:
    """Whatever single bytes are changed to: splats, or one line; both readers."""
    generator = np.random.default_rng(0)
    path = tmp_path / f"a{suffix}"
    save_gaussians(small_gaussians(40, 4), path)
    sound = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(60):
        data = sound.copy()
        place = generator.integers(min(len(data), 1200), size=2)
        data[place] = generator.integers(256, size=2)
        path.write_bytes(data.tobytes())
        for read in (load_gaussians, decode_splats):
            with contextlib.suppress(InputError):
                read(path)


@pytest.mark.parametrize("suffix", COMPACT)
def test_an_existing_file_stays(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        save_gaussians(small_gaussians(), path)
    assert path.read_text() == "mine"


def test_other_dtypes(tmp_path: Path) -> None:
    splats = small_gaussians().to(dtype=torch.float64)
    for suffix in COMPACT:
        path = tmp_path / f"a{suffix}"
        save_gaussians(splats, path)
        before = path.read_bytes()
        save_gaussians(dataclasses.replace(splats, harmonics=splats.harmonics.requires_grad_()), path, overwrite=True)
        assert path.read_bytes() == before


@pytest.mark.parametrize("spread", [0.0, 1.0], ids=["harmonics that repeat", "harmonics of noise"])
def test_spz_3_is_one_gzip_stream_no_larger_than_with_matches(tmp_path: Path, spread: float) -> None:
    generator = torch.Generator().manual_seed(0)
    splats = Gaussians(
        means=torch.rand(4000, 3, generator=generator),
        scales=torch.full((4000, 3), 0.01),
        quaternions=torch.nn.functional.normalize(torch.randn(4000, 4, generator=generator), dim=-1),
        opacities=torch.rand(4000, generator=generator),
        harmonics=0.2 * spread * torch.randn(4000, 16, 3, generator=generator),
    )
    save_spz(splats, tmp_path / "a.spz", version=3)
    data = (tmp_path / "a.spz").read_bytes()
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    content = stream.decompress(data)
    assert stream.eof, "the checksum holds"
    assert not stream.unused_data, "one member"
    assert len(content) == 16 + 4000 * (9 + 1 + 3 + 3 + 4 + 45)
    assert len(data) < 1.02 * len(gzip.compress(content, 4))
