"""Data sets: what they hold, that nothing but the published files is taken for them, batches."""

import gzip
import hashlib
import io
import os
import re
import struct
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from adversarial_lab import data
from adversarial_lab.data import Batches, crop_flip, load
from tools import pack_cifar10

FULL = os.environ.get(data.VARIABLE)
MINI = {  # sha256 of the decoded bytes: images (n, c, h, w), then labels
    ("mnist", "train"): "95d85e11b2d2a0c8dbe9c4d58cb7ed30815729bec83b36c769d57aad68214912",
    ("mnist", "test"): "433b45373ea5854af220ecaa5779542557e32a893fbaf90aa26d1e31123335de",
    ("cifar-10", "train"): "a0f1bdbe35012e84defde2f42c202e89354f233fec0924c032368a7d87b43bae",
    ("cifar-10", "test"): "082ff66c83b994bd05ae3dc38c1481ae8d1b8f0355b29bdf7bb4bf0829285f48",
}


# --- the embedded subsets -------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "split"), MINI)
def test_mini_sets_decode_to_the_recorded_bytes(name, split):
    x, y = load(f"{name}-mini", split)
    pixels = (x * 255).round().to(torch.uint8).numpy()
    digest = hashlib.sha256(pixels.tobytes() + y.to(torch.uint8).numpy().tobytes()).hexdigest()
    assert digest == MINI[name, split]
    assert torch.equal(x, torch.from_numpy(pixels).float() / 255)  # exactly k / 255
    assert x.dtype == torch.float32 and y.dtype == torch.int64
    assert x.shape[1:] == {"mnist": (1, 28, 28), "cifar-10": (3, 32, 32)}[name]


@pytest.mark.skipif(not FULL, reason=f"needs the full data sets in {data.VARIABLE}")
@pytest.mark.parametrize(("name", "split"), MINI)
def test_mini_sets_are_the_first_rows_of_the_full_ones(name, split):
    mini = load(f"{name}-mini", split)
    full = load(name, split, len(mini.x))
    assert torch.equal(mini.x, full.x) and torch.equal(mini.y, full.y)


@pytest.mark.skipif(not FULL, reason=f"needs the full data sets in {data.VARIABLE}")
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar-10"])
def test_the_full_sets_have_their_published_sizes(name):
    x, y = load(name, "test")
    assert len(x) == len(y) == 10_000
    assert y.bincount().min() >= 892 and len(y.bincount()) == 10  # the rarest is MNIST's 5


def test_the_embedded_files_are_small_and_tell_their_terms():
    folder = Path(data.__file__).parent / "_data"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2_500_000
    assert "CC BY-SA 3.0" in (folder / "README.md").read_text()


# --- load -----------------------------------------------------------------------------------------


def test_load_takes_the_first_n_unpacks_and_says_what_it_is():
    whole, part = load("mnist-mini", "test"), load("mnist-mini", "test", n=7)
    x, y = part
    assert torch.equal(x, whole.x[:7]) and torch.equal(y, whole.y[:7])
    assert (part.name, part.split, str(part)) == ("mnist-mini", "test", "mnist-mini test, 7 images")
    assert y.tolist() == [7, 2, 1, 0, 4, 1, 4]  # as everyone knows


@pytest.mark.parametrize(
    ("name", "split", "n", "says"),
    [
        ("mnits", "train", None, "name must be one of .*'mnist-mini'.*got 'mnits'"),
        ("mnist-mini", "val", None, "split must be one of .*'test'.*got 'val'"),
        ("mnist-mini", "test", 0, "n must be .*>= 1.*got 0"),
        ("mnist-mini", "test", -3, "n must be .*>= 1.*got -3"),
        ("mnist-mini", "test", 2.5, "n must be a whole number.*got 2.5"),
        ("mnist-mini", "test", True, "n must be a whole number.*got True"),
        ("mnist-mini", "test", 1001, "n must be at most 1000, the size of mnist-mini test.*1001"),
    ],
)
def test_load_names_the_argument_its_value_and_the_choices(name, split, n, says, unchecked):
    with pytest.raises(ValueError, match=says):
        load(name, split, n)


@pytest.mark.slow
def test_importing_costs_little_beyond_torch():
    heavy = ["PIL", "pooch", "requests", "scipy", "matplotlib"]
    check = "import sys, adversarial_lab.data; print([m for m in sys.argv[1:] if m in sys.modules])"
    here = Path(data.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", check, *heavy], cwd=here, capture_output=True)
    assert done.stdout.strip() == b"[]", done.stderr.decode()


# --- the public files, read from small ones of the same formats -----------------------------------


def idx_files(n, offset):
    pixels = (np.arange(n * 784) * 7 + offset).astype(np.uint8)
    digits = (np.arange(n) * 3 + offset).astype(np.uint8) % 10
    images = struct.pack(">IIII", 0x803, n, 28, 28) + pixels.tobytes()
    return images, struct.pack(">II", 0x801, n) + digits.tobytes()


def cifar_file(n, offset):
    rows = (np.arange(n * 3073).reshape(n, 3073) * 11 + offset).astype(np.uint8)
    rows[:, 0] = (np.arange(n) + offset) % 10
    return rows.tobytes()


@pytest.fixture
def files(monkeypatch, tmp_path):
    """Small files of the public formats, with their sums in place of the published ones."""
    made = {}
    for folder, shift in (("mnist", 0), ("fashion-mnist", 5)):
        for part, n in (("train", 6), ("t10k", 4)):
            images, labels = idx_files(n, n + shift)
            made[f"{folder}/{part}-images-idx3-ubyte"] = images
            made[f"{folder}/{part}-labels-idx1-ubyte"] = labels
    for i, base in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        made[f"cifar-10-batches-bin/{base}.bin"] = cifar_file(3, i)
    assert set(made) == set(data._published()) and len(made) == 14
    sums = {file: hashlib.sha256(content).hexdigest() for file, content in made.items()}
    monkeypatch.setattr(data, "_published", lambda: sums)
    monkeypatch.setattr(data, "_cache", lambda: tmp_path / "cache")
    monkeypatch.delenv(data.VARIABLE, raising=False)
    return made


def lay_down(root, files, packed=False):
    for file, content in files.items():
        path = root / (f"{file}.gz" if packed else file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("packed", [False, True])
def test_public_files_are_read_from_the_readers_folder(files, monkeypatch, tmp_path, packed):
    lay_down(tmp_path / "own", files, packed)
    monkeypatch.setenv(data.VARIABLE, str(tmp_path / "own"))
    monkeypatch.setattr(data, "_cache", None)  # nor pooch, which knows where it is
    x, y = load("fashion-mnist", "test")
    assert x.shape == (4, 1, 28, 28) and y.tolist() == [(3 * i + 9) % 10 for i in range(4)]
    assert round(x[1, 0, 2, 3].item() * 255) == ((784 + 2 * 28 + 3) * 7 + 9) % 256
    x, y = load("cifar-10", "train")
    assert x.shape == (15, 3, 32, 32) and y.tolist() == [
        (i + k) % 10 for k in range(5) for i in (0, 1, 2)
    ]
    position = (
        1 * 3073 + 1 + 2 * 1024 + 5 * 32 + 6
    )  # image 1 of data_batch_3, blue, row 5, column 6
    assert round(x[7, 2, 5, 6].item() * 255) == (position * 11 + 2) % 256
    assert load("cifar-10", "test").y.tolist() == [5, 6, 7]
    assert load("mnist", "train", 2).x.shape == (2, 1, 28, 28)


@pytest.mark.parametrize(
    "damage",
    [lambda c: c[:-1], lambda c: c + b"\0", lambda c: b"\1" + c[1:]],
    ids=["cut", "longer", "changed"],
)
def test_a_file_with_other_content_is_refused_by_name(files, monkeypatch, tmp_path, damage):
    file = "mnist/t10k-images-idx3-ubyte"
    lay_down(tmp_path, files | {file: damage(files[file])})
    monkeypatch.setenv(data.VARIABLE, str(tmp_path))
    with pytest.raises(ValueError, match=f"{tmp_path / file}: not the published {file} .*delete"):
        load("mnist", "test")


def test_a_cut_gz_is_refused_by_name(files, monkeypatch, tmp_path):
    lay_down(tmp_path, files, packed=True)
    path = tmp_path / "mnist/t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    monkeypatch.setenv(data.VARIABLE, str(tmp_path))
    with pytest.raises(ValueError, match=re.escape(str(path))):
        load("mnist", "test")


@pytest.fixture
def pictures(monkeypatch, tmp_path):
    """CIFAR-10 of six files of 25 images, packed; only the pictures and their labels are there."""
    names = [file for file in data._published() if file.startswith("cifar-10")]
    made = {file: cifar_file(25, i) for i, file in enumerate(names)}
    sums = {file: hashlib.sha256(content).hexdigest() for file, content in made.items()}
    monkeypatch.setattr(data, "_published", lambda: sums)
    monkeypatch.setattr(data, "_cache", lambda: tmp_path / "cache")
    lay_down(tmp_path / "cache", made)
    monkeypatch.delenv(data.VARIABLE, raising=False)
    for _ in range(2):  # the second time there is nothing to do
        pack_cifar10.main([str(tmp_path / "packed")])
    monkeypatch.setattr(data, "_cache", None)
    monkeypatch.setenv(data.VARIABLE, str(tmp_path / "packed"))
    return made


def test_packed_cifar_is_the_public_files_again(pictures, tmp_path):
    folder = tmp_path / "packed/cifar-10-batches-bin"
    assert {p.suffix for p in folder.iterdir()} == {".webp", ".txt"}
    assert all(data.content(file) == content for file, content in pictures.items())
    x, y = load("cifar-10", "test")
    raw = np.frombuffer(pictures["cifar-10-batches-bin/test_batch.bin"], np.uint8).reshape(25, -1)
    assert torch.equal((x * 255).round().flatten(1), torch.from_numpy(raw[:, 1:].copy()).float())
    assert y.tolist() == raw[:, 0].tolist()


@pytest.mark.parametrize("part", ["test_batch.webp", "test_batch.txt"])
@pytest.mark.parametrize(
    "damage", [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: c[:-2] + b"00"]
)
def test_a_damaged_picture_is_refused_by_name(pictures, tmp_path, part, damage):
    path = tmp_path / "packed/cifar-10-batches-bin" / part
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="test_batch.webp: .*; delete or replace it"):
        load("cifar-10", "test")


def test_a_picture_without_its_labels_is_refused_by_name(pictures, tmp_path):
    (tmp_path / "packed/cifar-10-batches-bin/test_batch.txt").unlink()
    with pytest.raises(ValueError, match="test_batch.webp: .*test_batch.txt"):
        load("cifar-10", "test")


def test_a_variable_that_names_no_folder_is_an_error(files, monkeypatch, tmp_path):
    monkeypatch.setenv(data.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=f"{data.VARIABLE} is .*nowhere.*not a folder"):
        load("mnist", "test")
    assert len(load("mnist-mini", "test", 1).x) == 1  # which needs no folder


# --- downloads, from a server on this machine -----------------------------------------------------


class Home:
    """A server of archives: `serve` maps a path to its bytes; `cut` closes the line half-way."""

    def __init__(self):
        self.serve, self.cut, self.asked = {}, set(), []
        home = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                home.asked.append(self.path)
                body = home.serve.get(self.path)
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                body = body or b""
                self.wfile.write(body[: len(body) // 2] if self.path in home.cut else body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def home(files, monkeypatch):
    home = Home()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for folder in ("mnist", "fashion-mnist"):
        monkeypatch.setitem(data.HOMES, folder, (f"{home.url}/{folder}/{{file}}.gz",))
    cifar = "cifar-10-batches-bin"
    monkeypatch.setitem(data.HOMES, cifar, (f"{home.url}/cifar-10-binary.tar.gz",))
    home.serve |= {f"/{f}.gz": gzip.compress(c) for f, c in files.items()}
    home.serve["/cifar-10-binary.tar.gz"] = archive(files)
    yield home
    home.close()


def archive(files):
    """As the public one: a folder, the six files, a page and a list of names."""
    buffer = io.BytesIO()
    extras = {
        "cifar-10-batches-bin/readme.html": b"<p>",
        "cifar-10-batches-bin/batches.meta.txt": b"",
    }
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        folder = tarfile.TarInfo("cifar-10-batches-bin")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for file, content in (files | extras).items():
            if file.startswith("cifar"):
                info = tarfile.TarInfo(file)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def kept(tmp_path):
    root = tmp_path / "cache"
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def test_a_download_is_kept_and_made_once(home, tmp_path, capfd):
    first = load("mnist", "test")
    assert len(home.asked) == 2 and len(kept(tmp_path)) == 2
    assert f"Downloading {home.url}/mnist/t10k-images-idx3-ubyte.gz" in capfd.readouterr().err
    again = load("mnist", "test")
    assert len(home.asked) == 2 and torch.equal(first.x, again.x) and first.x.shape[0] == 4
    assert not list((tmp_path / "cache").glob("download-*"))


def test_one_archive_gives_all_of_cifar(home, tmp_path):
    assert load("cifar-10", "test").y.tolist() == [5, 6, 7]
    assert len(load("cifar-10", "train").x) == 15
    assert home.asked == ["/cifar-10-binary.tar.gz"] and len(kept(tmp_path)) == 6


def test_the_readers_folder_comes_before_the_cache_and_the_network(
    home, files, monkeypatch, tmp_path
):
    mnist = {f: c for f, c in files.items() if f.startswith("mnist")}
    lay_down(tmp_path / "own", mnist)
    lay_down(tmp_path / "cache", {f: b"not this" for f in mnist})
    monkeypatch.setenv(data.VARIABLE, str(tmp_path / "own"))
    assert len(load("mnist", "test").x) == 4
    assert home.asked == []
    load("fashion-mnist", "test")  # which the reader's folder lacks
    assert len(home.asked) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda body: gzip.compress(b"\0" * 20),
        lambda body: b"<html>please log in</html>",
        lambda body: b"",
        lambda body: body[: len(body) // 2],
        lambda body: body[:40] + bytes([body[40] ^ 0xFF]) + body[41:],
        lambda body: body[:10] + b"\xff" + body[11:],  # no such kind of block
        lambda body: None,  # 404
    ],
    ids=["other", "login page", "empty", "cut", "flipped", "damaged", "404"],
)
@pytest.mark.parametrize(
    ("name", "path"),
    [("mnist", "/mnist/t10k-images-idx3-ubyte.gz"), ("cifar-10", "/cifar-10-binary.tar.gz")],
)
def test_a_wrong_download_is_refused_and_nothing_wrong_is_kept(
    home, files, tmp_path, name, path, change
):
    home.serve[path] = change(home.serve[path])
    with pytest.raises(FileNotFoundError, match="of what came instead, nothing was kept"):
        load(name, "test")
    for file in kept(tmp_path):  # members of an archive cut later on may be whole
        assert (tmp_path / "cache" / file).read_bytes() == files[file]
    assert not any("images" in file or "test_batch" in file for file in kept(tmp_path))


@pytest.mark.parametrize("name", ["mnist", "cifar-10"])
def test_a_wrong_archive_member_is_refused(home, files, tmp_path, name):
    bad = {f: bytes(len(c)) for f, c in files.items()}
    home.serve["/cifar-10-binary.tar.gz"] = archive(bad)
    home.serve |= {f"/{f}.gz": gzip.compress(c) for f, c in bad.items()}
    with pytest.raises(FileNotFoundError, match=r"not the published .* \(sha256"):
        load(name, "test")
    assert kept(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("mnist", "/mnist/t10k-images-idx3-ubyte.gz"),
        ("cifar-10", "/cifar-10-binary.tar.gz"),
    ],
)
def test_an_interrupted_download_is_not_taken_for_whole(home, tmp_path, name, path):
    home.cut.add(path)
    with pytest.raises(FileNotFoundError, match=home.url):
        load(name, "test")
    assert not any("test_batch" in f or "images" in f for f in kept(tmp_path))
    home.cut.clear()
    assert len(load(name, "test").x) in (3, 4)  # and the next try succeeds


def test_ctrl_c_while_downloading_leaves_nothing(home, monkeypatch, tmp_path):
    import pooch

    def half(self, url, output_file, pooch, check_only=False):
        Path(output_file).write_bytes(home.serve["/mnist/t10k-images-idx3-ubyte.gz"][:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", half)
    with pytest.raises(KeyboardInterrupt):
        load("mnist", "test")
    assert kept(tmp_path) == []


def test_a_file_appears_in_the_cache_in_one_step(home, monkeypatch, tmp_path):
    def ctrl_c(source, target):
        assert Path(source).read_bytes() and not Path(target).exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        load("mnist", "test")
    assert kept(tmp_path) == []


def test_an_archive_without_the_file_is_refused(home, files):
    home.serve["/cifar-10-binary.tar.gz"] = archive(
        {f: c for f, c in files.items() if "test_batch" not in f}
    )
    with pytest.raises(FileNotFoundError, match="has no cifar-10-batches-bin/test_batch.bin"):
        load("cifar-10", "test")


def test_the_second_home_is_asked_when_the_first_fails(home, monkeypatch):
    good = data.HOMES["mnist"][0]
    monkeypatch.setitem(data.HOMES, "mnist", (f"{home.url}/gone/{{file}}.gz", good))
    assert len(load("mnist", "test").x) == 4
    assert home.asked[:2] == ["/gone/t10k-images-idx3-ubyte.gz", "/mnist/t10k-images-idx3-ubyte.gz"]


def test_without_network_the_error_says_what_to_do(home):
    home.close()
    with pytest.raises(FileNotFoundError) as caught:
        load("fashion-mnist", "train")
    home.__init__()  # for the fixture to close
    message = str(caught.value)
    for part in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"):
        assert f"  fashion-mnist/{part}\n" in message
    assert f"set the variable {data.VARIABLE} (now None)" in message
    assert '"mnist-mini"' in message and "need no download" in message
    assert "/fashion-mnist/train-images-idx3-ubyte.gz: " in message


# --- batches --------------------------------------------------------------------------------------


def numbered(n):
    """Image i is filled with i, and so is label i."""
    return torch.arange(n).float().view(n, 1, 1, 1).expand(n, 1, 2, 2), torch.arange(n)


@given(n=st.integers(1, 40), size=st.integers(1, 45), drop=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_an_epoch_holds_every_row_once_with_its_label(n, size, drop, seed):
    if drop and size > n:
        return
    batches = Batches(*numbered(n), size, torch.Generator().manual_seed(seed), drop_last=drop)
    got = list(batches)
    assert len(got) == len(batches) == (n // size if drop else -(-n // size))
    assert all(len(x) == size for x, _ in got[:-1]) and (len(got[-1][0]) == size or not drop)
    x, y = torch.cat([x for x, _ in got]), torch.cat([y for _, y in got])
    assert torch.equal(x[:, 0, 0, 0], y.float())
    assert len(set(y.tolist())) == len(y) == (n - n % size if drop else n)


def test_the_order_is_the_generators_and_new_in_each_epoch(rng):
    batches = Batches(
        *numbered(50), 8, rng, augment=lambda x, g: x + torch.rand(len(x), 1, 1, 1, generator=g)
    )
    state, everywhere = rng.get_state(), torch.get_rng_state()
    first, second = list(batches), list(batches)
    rng.set_state(state)
    again = list(batches)
    assert all(
        torch.equal(a, b)
        for p, q in zip(first, again, strict=True)
        for a, b in zip(p, q, strict=True)
    )
    assert any(not torch.equal(p[1], q[1]) for p, q in zip(first, second, strict=True))
    assert torch.equal(everywhere, torch.get_rng_state())


def test_batches_move_to_the_device(rng):
    x, y = next(iter(Batches(*numbered(3), 2, rng, device="meta")))
    assert x.device.type == y.device.type == "meta"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"y": torch.arange(4)}, "one length >= 1, got 5 and 4"),
        ({"x": torch.zeros(0, 1, 2, 2), "y": torch.arange(0)}, "got 0 and 0"),
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"batch_size": 6, "drop_last": True}, r"batch_size must be 1\.\.5, got 6"),
        ({"rng": None}, "rng must be a torch.Generator.*got None"),
    ],
)
def test_batches_refuse_what_cannot_be_an_epoch(change, says, rng, unchecked):
    x, y = numbered(5)
    with pytest.raises(ValueError, match=says):
        Batches(**({"x": x, "y": y, "batch_size": 2, "rng": rng} | change))


# --- augmentation ---------------------------------------------------------------------------------


def slow_crop_flip(x, rng, pad):
    """One image at a time, as one would say it."""
    tops, lefts = (torch.randint(2 * pad + 1, (len(x),), generator=rng) for _ in range(2))
    mirrors = torch.randint(2, (len(x),), generator=rng)
    out = []
    for image, top, left, mirror in zip(x, tops, lefts, mirrors, strict=True):
        h, w = image.shape[1:]
        image = F.pad(image, [pad] * 4)[:, top : top + h, left : left + w]
        out.append(image.flip(2) if mirror else image)
    return torch.stack(out)


@given(
    shape=st.tuples(*(st.integers(1, k) for k in (9, 3, 7, 8))),
    pad=st.integers(0, 5),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=100, deadline=None)
def test_crop_flip_equals_the_loop(shape, pad, seed):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    one, two = (torch.Generator().manual_seed(seed) for _ in range(2))
    assert torch.equal(crop_flip(x, one, pad), slow_crop_flip(x, two, pad))
    assert torch.equal(one.get_state(), two.get_state())


def test_crop_flip_is_uniform_over_its_162_outcomes(rng):
    n = 16_200
    x = torch.arange(1.0, 26).view(1, 1, 5, 5).expand(n, 1, 5, 5)
    counts = crop_flip(x, rng).flatten(1).unique(dim=0, return_counts=True)[1]
    assert len(counts) <= 162 and counts.sum() == n
    big = torch.arange(1.0, 101).view(1, 1, 10, 10).expand(n, 1, 10, 10)
    counts = crop_flip(big, rng).flatten(1).unique(dim=0, return_counts=True)[1].double()
    assert len(counts) == 9 * 9 * 2
    assert ((counts - 100) ** 2 / 100).sum() < 240  # chi-squared, 161 degrees: p about 5e-5


def test_crop_flip_leaves_its_input_and_the_global_generator_alone(rng):
    x = torch.rand(4, 3, 32, 32, generator=rng)
    copy, everywhere = x.clone(), torch.get_rng_state()
    crop_flip(x, rng)
    assert torch.equal(x, copy) and torch.equal(everywhere, torch.get_rng_state())
