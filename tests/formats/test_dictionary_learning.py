"""dictionary_learning's files: each class lays its tensors out in its own way."""

import collections
import json
import pickle
import zipfile

import pytest
import torch

from latent_assay.errors import FormatError
from latent_assay.formats import load, read
from latent_assay.formats.torch_file import torch_file

from .foreign import (
    D,
    W,
    X,
    dictionaries,
    dictionary_learning,
    dictionary_output,
    draw,
    linear,
)

CLASSES = sorted(dictionaries())


@pytest.mark.parametrize("kind", CLASSES)
def test_what_each_class_computes(kind, tmp_path):
    folder, t = dictionary_learning(tmp_path / "trainer_0", kind)
    z, x_hat = dictionary_output(kind, t, X)
    (reading,) = read(folder)
    assert (z == 0).any()
    with torch.no_grad():
        torch.testing.assert_close(reading.sae.encode(X)[0], z, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(reading.sae(X)[0], x_hat, rtol=1e-4, atol=1e-5)
    assert (reading.architecture, reading.model) == (kind, "pythia")
    assert (reading.hook_point, reading.metadata["hook_layer"]) == ("resid_3", 3)


@pytest.mark.parametrize("kind", [k for k in CLASSES if k not in ("AutoEncoderTopK",)])
def test_without_its_configuration(kind, tmp_path):
    folder, _ = dictionary_learning(tmp_path / "trainer_0", kind)
    (folder / "config.json").unlink()
    if kind == "BatchTopKSAE":
        with pytest.raises(FormatError, match="AutoEncoderTopK and BatchTopKSAE hold the same"):
            load(folder)
    else:
        assert read(folder)[0].architecture == kind


def test_a_checkpoint_finds_the_configuration_one_folder_up(tmp_path):
    folder, t = dictionary_learning(tmp_path / "trainer_0", "BatchTopKSAE")
    (folder / "checkpoints").mkdir()
    torch.save(t, folder / "checkpoints" / "ae_100.pt")
    assert read(folder / "checkpoints" / "ae_100.pt")[0].architecture == "BatchTopKSAE"


def test_rows_of_length_one_are_left_alone(tmp_path):
    t = linear(bias=draw(D, seed=4))
    t["decoder.weight"] = torch.nn.functional.normalize(t["decoder.weight"], dim=0)
    (reading,) = read(dictionary_learning(tmp_path / "sae", "AutoEncoder", t)[0])
    assert reading.notes == ()
    assert torch.equal(reading.sae.W_enc[0], t["encoder.weight"])


def test_a_row_of_zeros_stays_one(tmp_path):
    t = linear(bias=draw(D, seed=4))
    t["decoder.weight"][:, 2] = 0
    sae = load(dictionary_learning(tmp_path / "sae", "AutoEncoder", t)[0])
    assert not sae.W_dec[0, 2].any()
    assert sae.W_enc.isfinite().all()


def test_a_threshold_that_was_never_set(tmp_path):
    t = dictionaries()["BatchTopKSAE"] | {"threshold": torch.tensor(-1.0)}
    (reading,) = read(dictionary_learning(tmp_path / "sae", "BatchTopKSAE", t)[0])
    assert "never set" in reading.notes[0]
    pre = (X - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]
    torch.testing.assert_close(reading.sae.encode(X)[0], pre.relu())


def test_a_layer_without_its_place(tmp_path):
    folder, _ = dictionary_learning(tmp_path / "sae", "AutoEncoder", submodule_name=None)
    assert "layer 3, place in it not named" in read(folder)[0].notes[-1]


@pytest.mark.parametrize("wrap", [dict, collections.OrderedDict, torch.nn.ParameterDict])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_containers_and_types(wrap, dtype, tmp_path):
    t = {name: each.to(dtype) for name, each in linear(bias=draw(D, seed=4)).items()}
    if wrap is torch.nn.ParameterDict:
        t = {name: torch.nn.Parameter(each) for name, each in t.items()}
        module = torch.nn.Linear(2, 2)  # a state_dict has attributes, which are set on it
        state = module.state_dict()
        state.update(t)
    else:
        state = wrap(t)
    torch.save(state, tmp_path / "ae.pt")
    for name, stored in torch_file(tmp_path / "ae.pt").items():
        if name in t:
            assert torch.equal(stored.read(), t[name].data)
            assert stored.dtype == str(dtype).removeprefix("torch.")


def test_views_are_read_as_what_they_show(tmp_path):
    whole = draw(D, W, seed=1)
    torch.save({"t": whole.T, "part": whole[1:, 2:], "one": torch.tensor(3.0)}, tmp_path / "a.pt")
    found = {name: each.read() for name, each in torch_file(tmp_path / "a.pt").items()}
    assert torch.equal(found["t"], whole.T)
    assert torch.equal(found["part"], whole[1:, 2:])
    assert found["one"] == 3


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("kind", "changes", "trainer", "message"),
    [
        (
            "AutoEncoder",
            {},
            {"dict_class": "CrossCoder"},
            "of class 'CrossCoder'; Latent Assay rea",
        ),
        ("AutoEncoder", {}, {"dict_class": [1]}, r"of class \[1\]"),
        ("AutoEncoder", {"bias": None}, {}, "lacks bias; it has"),
        ("AutoEncoder", {"encoder.weight": None}, {}, "lacks a matrix encoder.weight"),
        ("AutoEncoder", {"decoder.weight": draw(W, D)}, {}, r"`decoder.weight` in .*\[4, 6\]"),
        ("AutoEncoderTopK", {"k": torch.tensor(0)}, {}, "has k = 0; expected"),
        ("AutoEncoderTopK", {"k": torch.tensor(1.5)}, {}, "has k = 1.5; expected"),
        ("AutoEncoderTopK", {"k": None}, {"k": "many"}, "has k = 'many'"),
        ("BatchTopKSAE", {"threshold": None}, {}, "lacks threshold"),
        ("BatchTopKSAE", {"threshold": torch.tensor(float("nan"))}, {}, "must hold finite numbers"),
        ("BatchTopKSAE", {"threshold": draw(W)}, {}, "one threshold serves all latents"),
    ],
)
def test_files_that_do_not_fit(kind, changes, trainer, message, tmp_path):
    t = dictionaries()[kind] | changes
    t = {name: each for name, each in t.items() if each is not None}
    folder, _ = dictionary_learning(tmp_path / "sae", kind, t, **trainer)
    with pytest.raises(FormatError, match=message):
        load(folder)


def spring(*_: object) -> None:
    raise AssertionError("unpickled")


class Trap:
    def __reduce__(self):
        return (spring, ("unpickled",))


def archive(path, program: bytes, **members: bytes):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", program)
        for name, content in members.items():
            file.writestr(f"archive/data/{name.removeprefix('n')}", content)
    return path


def tensor_program(size: int, count: int = 24, stride: int = 1) -> bytes:
    """{"w": a tensor} as torch would write it, with sizes of one's choice."""

    class Storage:
        pass

    import io

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            if isinstance(thing, Storage):
                return ("storage", torch.FloatStorage, "0", "cpu", count)
            return None

    class View:
        def __reduce__(self):
            arguments = (Storage(), 0, (size,), (stride,), False, collections.OrderedDict())
            return (torch._utils._rebuild_tensor_v2, arguments)

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump({"w": View()})
    return buffer.getvalue()


def test_the_program_that_the_next_tests_bend(tmp_path):
    path = archive(tmp_path / "a.pt", tensor_program(6), n0=bytes(24))
    assert torch_file(path)["w"].read().tolist() == [0.0] * 6


@pytest.mark.parametrize(
    ("program", "numbers"),
    [
        (tensor_program(7), 24),  # one number too many
        (tensor_program(10**12), 24),  # a terabyte
        (tensor_program(6, stride=10**6), 24),
        (tensor_program(6, stride=0), 4),  # one number shown six times
        (tensor_program(6, stride=-1), 24),
        (tensor_program(6), 23),
        (b"\x80\x02}q\x00.", 24),  # nothing in it: no error here, but no SAE either
    ],
)
def test_sizes_are_checked_before_anything_is_allocated(program, numbers, tmp_path):
    path = archive(tmp_path / "ae.pt", program, n0=bytes(numbers))
    with pytest.raises(FormatError):
        load(path)


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
        b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02}X\x01\x00\x00\x00acos\nsystem\n)R" + b"s.",
        pickle.dumps(Trap()),
        pickle.dumps({"a": Trap()}, protocol=2),
        pickle.dumps([1, 2]),
        b"\x80\x02" + b"\x85" * 100_000 + b".",
        b"\x80\x02)" + b"\x85" * 200_000 + b"}q\x00",
        b"}" + b")" + b"\x85" * 200_000 + b"K\x01s.",  # a key nested so deep that hashing overflows
        b"",
        b".",
        b"\x80\x02(",
        b"\x8a\xff" + b"\xff" * 255 + b".",
    ],
)
def test_programs_that_do_anything_else(program, tmp_path):
    with pytest.raises(FormatError):
        torch_file(archive(tmp_path / "ae.pt", program, n0=bytes(24)))


def test_nothing_is_unpickled(tmp_path):
    torch.save(Trap(), tmp_path / "ae.pt")
    with pytest.raises(FormatError, match=r"a call of .*spring, which is never made"):
        load(tmp_path)
    torch.save({"encoder.weight": draw(W, D), "x": Trap()}, tmp_path / "ae.pt")
    with pytest.raises(FormatError, match="never made"):
        load(tmp_path)


def test_the_format_before_archives_is_refused(tmp_path):
    torch.save(linear(), tmp_path / "ae.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(FormatError, match="does not begin as one does"):
        load(tmp_path)


def test_a_whole_module_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 3), tmp_path / "ae.pt")
    with pytest.raises(FormatError, match=r"which is never made|no dictionary of tensors needs"):
        load(tmp_path)


def test_tensors_alone_are_no_dictionary(tmp_path):
    torch.save(draw(3), tmp_path / "ae.pt")
    with pytest.raises(FormatError, match="holds View; expected a dictionary of tensors"):
        load(tmp_path)


def test_big_endian_numbers_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "ae.pt", "w") as file:
        file.writestr("archive/data.pkl", tensor_program(6))
        file.writestr("archive/data/0", bytes(24))
        file.writestr("archive/byteorder", "big")
    with pytest.raises(FormatError, match="big-endian"):
        load(tmp_path)


def test_the_configuration_only_informs_where_classes_differ(tmp_path):
    folder, _ = dictionary_learning(tmp_path / "sae", "AutoEncoder")
    (folder / "config.json").write_text(json.dumps({"trainer": 3}))
    assert read(folder)[0].architecture == "AutoEncoder"
