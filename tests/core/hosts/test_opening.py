"""Hosts in every form, and each way in which one cannot be opened."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import pickle
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import surgeon
from surgeon.blame import line_of
from surgeon.checkpoints import fingerprint
from surgeon.errors import CheckpointError, HostError, InputError
from surgeon.hosts import guess_inputs, load, open_host, spatial_axes, try_inputs

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, channels=1):
        super().__init__()
        self.conv = nn.Conv2d(channels, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
    def forward(self, x):
        return self.norm(self.conv(x))

class Silent(Net):
    def train(self, mode=True):
        super().train(mode)

ready = Net()
number = 3

def returns_a_string():
    return "net"

def fails():
    raise RuntimeError("out of order")
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path / 'net.py'}:Net"


def test_an_installed_factory_is_called_with_its_arguments() -> None:
    host = load("torch.nn:Conv2d", arguments={"in_channels": 3, "out_channels": 2, "kernel_size": 1})
    assert isinstance(host, nn.Conv2d)
    assert not host.training


def test_a_file_names_its_factory(net: str) -> None:
    host = open_host(net, arguments={"channels": 3})
    assert host.name == "Net"
    assert not host.module.training
    assert guess_inputs(host.module)[0].shape == (1, 3, 64, 64)
    assert isinstance(surgeon.load(net), nn.Module)


def test_a_file_may_hold_a_network_itself(net: str) -> None:
    assert load(net.replace(":Net", ":ready")).conv.in_channels == 1


def test_a_network_whose_train_returns_nothing_is_opened_in_evaluation_mode(net: str) -> None:
    assert not load(net.replace(":Net", ":Silent")).training


def test_weights_are_loaded_with_prefixes_taken_off_and_reported(net: str, tmp_path: Path) -> None:
    module = load(net)
    nn.init.constant_(module.conv.weight, 0.5)
    content = {"state_dict": {f"module.{key}": value for key, value in module.state_dict().items()}}
    torch.save(content, tmp_path / "w.ckpt")
    host = open_host(net, tmp_path / "w.ckpt")
    assert fingerprint(host.module) == fingerprint(module)
    assert host.report == ("weights found under 'state_dict'", "prefix 'module.' taken off every name")


def test_a_checkpoint_of_another_network_is_refused(net: str, tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "w.pt")
    text = "of another network: missing conv.weight, .* and 2 more; unexpected weight, bias"
    with pytest.raises(CheckpointError, match=text):
        load(net, tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("nothing.of_this_name:Net", "no module named 'nothing'"),
        ("torch.nn:Konv2d", "torch.nn has no 'Konv2d'"),
        ("nowhere/net.py:Net", "no such file"),
        ("nowhere/net.pt2", "no such file"),
        ("nowhere/at/all", "no such file or folder"),
        ("unet", "no host is named so"),
        ("net.py", "the factory in the file is not named"),
        ("torch.nn:__name__", "'__name__' cannot be called"),
    ],
)
def test_a_host_that_is_not_there_gets_one_clear_error(spec: str, text: str) -> None:
    with pytest.raises(HostError, match=text) as caught:
        load(spec)
    assert caught.value.exit_code == 2
    assert caught.value.where


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Nett", "has no 'Nett'"),
        ("number", "'number' cannot be called"),
        ("returns_a_string", "the factory returned a str, no torch.nn.Module"),
        ("fails", "the factory failed: RuntimeError: out of order"),
    ],
)
def test_a_factory_that_makes_no_network_is_refused(net: str, name: str, text: str) -> None:
    with pytest.raises(HostError, match=text):
        load(net.replace(":Net", f":{name}"))


def test_arguments_that_the_factory_does_not_take_are_shown_with_those_it_takes(net: str) -> None:
    with pytest.raises(HostError, match="does not take these arguments: got an unexpected") as caught:
        load(net, arguments={"chanels": 3})
    assert "(channels=1)" in caught.value.fix


def test_a_file_whose_imports_are_missing_or_that_fails_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import a_library_nobody_has\n")
    with pytest.raises(
        HostError, match="no module named 'a_library_nobody_has', which the host's code imports"
    ):
        load(f"{tmp_path / 'a.py'}:Net")
    (tmp_path / "b.py").write_text("1 / 0\n")
    with pytest.raises(HostError, match="importing the host's code failed: ZeroDivisionError") as caught:
        load(f"{tmp_path / 'b.py'}:Net")
    assert caught.value.where.endswith("b.py:1")
    (tmp_path / "c.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(HostError, match="importing the host's code failed: SystemExit: 3"):
        load(f"{tmp_path / 'c.py'}:Net")


@pytest.mark.parametrize(
    ("line", "text", "fix"),
    [
        ("assert number > 3", "AssertionError", "or mend that line"),
        ("import a_library_nobody_has", "ModuleNotFoundError", "install what it imports"),
        ("open('nowhere.pth')", "FileNotFoundError", "--checkpoint gives the weights"),
    ],
)
def test_the_line_is_named_at_which_a_factory_fails(tmp_path: Path, line: str, text: str, fix: str) -> None:
    (tmp_path / "parts.py").write_text(f"def make(number):\n    {line}\n")
    (tmp_path / "net.py").write_text("from parts import make\ndef build():\n    return make(2)\n")
    with pytest.raises(HostError, match=f"the factory failed: {text}") as caught:
        load(f"{tmp_path / 'net.py'}:build")
    assert caught.value.where.endswith("parts.py:2")
    assert fix in caught.value.fix


def test_a_package_whose_name_begins_as_torchs_does_is_somebodys_code() -> None:
    file = f"{Path(torch.__file__).parent}seg/net.py"
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile("1 / 0", file, "exec"), {})
    assert line_of(caught.value) == f"{file}:1"


def test_a_file_that_cannot_be_read_as_python_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import torch\ndef build(:\n")
    with pytest.raises(HostError, match="importing the host's code failed: SyntaxError") as caught:
        load(f"{tmp_path / 'net.py'}:build")
    assert caught.value.where.endswith("net.py:2")


def test_a_file_of_weights_is_no_network(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "w.pth")
    with pytest.raises(HostError, match="a file of weights is no network") as caught:
        load(str(tmp_path / "w.pth"))
    assert "--checkpoint" in caught.value.fix


REPOSITORY = {
    "net.py": "import utils\nimport export as exporting\n"
    "from search import depth\nfrom models.blocks import Block\n"
    "import models.blocks\nfrom torch import nn\n"
    "class Net(nn.Module):\n"
    "    def __init__(self):\n"
    "        super().__init__()\n"
    "        self.block = Block(utils.width, depth)\n"
    "    def forward(self, x):\n"
    "        from late import double\n"
    "        import models.blocks as again\n"
    "        assert again.Block is Block and models.blocks.Block is Block\n"
    "        return double(self.block(x))\n",
    "utils.py": "width = 5\n",
    "export.py": "import surgeon.errors\nname = 'theirs'\n",
    "search.py": "from utils import width\ndepth = width - 2\n",
    "late.py": "def double(x):\n    return 2 * x\n",
    "models/blocks.py": "from torch import nn\nimport utils\n"
    "class Block(nn.Conv2d):\n    def __init__(self, a, b):\n        super().__init__(a, b, 1)\n",
}


def write_repository(root: Path, **changes: str) -> str:
    for name, text in {**REPOSITORY, **changes}.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return f"{root / 'net.py'}:Net"


def test_a_repositorys_own_modules_are_found_and_leave_nothing_behind(tmp_path: Path) -> None:
    path, modules, finders = list(sys.path), set(sys.modules), list(sys.meta_path)
    module = load(write_repository(tmp_path))
    assert (module.block.in_channels, module.block.out_channels) == (5, 3)
    assert sys.path == path
    assert sys.meta_path == finders
    new = {name for name in set(sys.modules) - modules if not name.startswith("surgeon_host_")}
    assert not new & {"utils", "search", "export", "late", "models", "net"}


def test_imports_that_run_later_still_find_the_repository(tmp_path: Path) -> None:
    module = load(write_repository(tmp_path))
    assert module(torch.rand(1, 5, 4, 4)).shape == (1, 3, 4, 4)
    assert copy.deepcopy(module)(torch.rand(1, 5, 4, 4)).shape == (1, 3, 4, 4)


def test_two_repositories_with_modules_of_one_name_do_not_mix(tmp_path: Path) -> None:
    first = load(write_repository(tmp_path / "first"))
    second = load(write_repository(tmp_path / "second", **{"utils.py": "width = 9\n"}))
    assert (first.block.in_channels, second.block.in_channels) == (5, 9)
    assert first(torch.rand(1, 5, 4, 4)).shape[1] == 3


def test_ours_are_not_hidden_by_theirs_nor_theirs_by_ours(tmp_path: Path) -> None:
    load(write_repository(tmp_path))
    assert importlib.import_module("surgeon.search").__name__ == "surgeon.search"
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("late")


def run_from_its_root(root: Path) -> Path:
    """Write a network that imports as it does where its repository's root is the working directory."""
    (root / "models").mkdir(parents=True)
    (root / "utils.py").write_text("CHANNELS = 5\n")
    (root / "models" / "parts.py").write_text("import utils\nfrom torch import nn\nPart = nn.Conv2d\n")
    (root / "models" / "net.py").write_text(
        "from models.parts import Part, utils\ndef build():\n    return Part(utils.CHANNELS, 1, 1)\n"
    )
    return root


def test_a_file_may_import_from_the_folders_above_it(tmp_path: Path) -> None:
    path = list(sys.path)
    root = run_from_its_root(tmp_path / "repository")
    assert load(f"{root / 'models' / 'net.py'}:build").in_channels == 5
    assert sys.path == path
    (root / "models" / "lost.py").write_text("import no_such_thing\n")
    with pytest.raises(HostError, match="no module named 'no_such_thing', which the host's code imports"):
        load(f"{root / 'models' / 'lost.py'}:build")


BY_NAME = {
    "module": "importlib.import_module('models.parts')",
    "function": "import_module('models.parts')",
    "relative": "importlib.import_module('.parts', package='models')",
    "package": "importlib.import_module('models').parts",
    "standard": "importlib.import_module('collections').abc and models.parts",
    "elsewhere": "pkgutil.resolve_name('lone') and models.parts",
}


def ask_by_name(root: Path, how: str) -> str:
    """Write a factory that asks for a module of its repository by name; return its spec."""
    run_from_its_root(root)
    (root / "lone.py").write_text("VALUE = 7\n")
    (root / "by_name.py").write_text(
        "import importlib, pkgutil, importlib.util, models.parts\nfrom importlib import import_module\n"
        f"def build():\n    assert {how} is models.parts\n    return models.parts.Part(7, 1, 1)\n"
    )
    return f"{root / 'by_name.py'}:build"


@pytest.mark.parametrize("how", BY_NAME.values(), ids=BY_NAME)
def test_a_factory_may_import_by_name(tmp_path: Path, how: str) -> None:
    spec = ask_by_name(tmp_path / "repository", how)
    before = set(sys.modules)
    assert load(spec).in_channels == 7
    assert not {"lone", "by_name", "models.parts"} & (set(sys.modules) - before)
    assert importlib.util.find_spec("lone") is None


def test_what_is_missing_by_name_is_called_by_that_name(tmp_path: Path) -> None:
    root = run_from_its_root(tmp_path / "repository")
    (root / "lost.py").write_text(
        "import importlib\ndef build():\n    importlib.import_module('models.gone')\n"
    )
    with pytest.raises(HostError, match=r"No module named 'models\.gone'") as caught:
        load(f"{root / 'lost.py'}:build")
    assert "install" in caught.value.fix


@pytest.fixture(params=["installed folder", "installed package", "imported package"])
def namesake(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Put another package called `models` where Python finds it, as onnxruntime does on `sys.path`."""
    other = tmp_path / "other" / "models"
    other.mkdir(parents=True)
    (other / "theirs.py").write_text("name = 'theirs'\n")
    if request.param != "installed folder":
        (other / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(other.parent)
    if request.param == "imported package":
        importlib.import_module("models")
    yield
    sys.modules.pop("models", None)


@pytest.mark.usefixtures("namesake")
def test_what_it_imports_by_name_is_not_hidden_by_a_package_of_that_name(tmp_path: Path) -> None:
    assert load(ask_by_name(tmp_path / "repository", BY_NAME["module"])).in_channels == 7


@pytest.mark.usefixtures("namesake")
@pytest.mark.parametrize("is_package", [False, True])
def test_a_repositorys_package_is_found_before_another_of_its_name(
    is_package: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = run_from_its_root(tmp_path / "repository")
    if is_package:
        (root / "models" / "__init__.py").write_text("")
    (root / "tools").mkdir()
    (root / "tools" / "start.py").write_text("from models.net import build\n")
    assert load(f"{root / 'tools' / 'start.py'}:build").in_channels == 5
    assert load(f"{root / 'models' / 'net.py'}:build").in_channels == 5
    monkeypatch.chdir(root)
    assert load("models.net:build").in_channels == 5
    assert not any(name.startswith("models.") for name in sys.modules)


def test_what_another_folder_of_a_name_alone_holds_is_taken_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other" / "spread").mkdir(parents=True)
    (tmp_path / "other" / "spread" / "part.py").write_text("channels = 7\n")
    monkeypatch.syspath_prepend(tmp_path / "other")
    (tmp_path / "repository" / "spread").mkdir(parents=True)
    (tmp_path / "repository" / "nets").mkdir()
    (tmp_path / "repository" / "nets" / "net.py").write_text(
        "from spread import part\nfrom torch import nn\n"
        "def build():\n    return nn.Conv2d(part.channels, 1, 1)\n"
    )
    assert load(f"{tmp_path / 'repository' / 'nets' / 'net.py'}:build").in_channels == 7
    monkeypatch.delitem(sys.modules, "spread.part")
    monkeypatch.delitem(sys.modules, "spread")


def test_folders_above_the_root_of_a_repository_are_not_searched(tmp_path: Path) -> None:
    (tmp_path / "stray.py").write_text("")
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    (tmp_path / "repository" / "nets").mkdir()
    (tmp_path / "repository" / "nets" / "net.py").write_text("import stray\n")
    with pytest.raises(HostError, match="no module named 'stray'"):
        load(f"{tmp_path / 'repository' / 'nets' / 'net.py'}:build")


def test_a_module_below_the_working_directory_is_found_and_remembered_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from surgeon.cli.hosting import HostRequest

    root = run_from_its_root(tmp_path / "repository")
    monkeypatch.chdir(root)
    path = list(sys.path)
    assert load("models.net:build").in_channels == 5
    assert sys.path == path
    assert "models" not in sys.modules
    known = HostRequest("models.net:build").to_dict()["spec"]
    assert known == f"{root / 'models' / 'net.py'}:build"
    monkeypatch.chdir(tmp_path)
    assert load(known).in_channels == 5
    assert HostRequest("torch.nn:Conv2d").to_dict()["spec"] == "torch.nn:Conv2d"


def test_a_file_in_a_package_may_import_relatively(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text("from torch import nn\nPart = nn.Conv2d\n")
    (package / "net.py").write_text(
        "from .parts import Part\nfrom package import parts\ndef build():\n    return Part(1, 1, 1)\n"
    )
    assert isinstance(load(f"{package / 'net.py'}:build"), nn.Conv2d)


def test_a_file_that_changes_sys_path_leaves_it_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import sys\nsys.path.insert(0, '/nowhere')\n" + NET)
    load(f"{tmp_path / 'net.py'}:Net")
    assert "/nowhere" not in sys.path


def test_what_a_file_put_on_sys_path_is_found_by_its_functions_as_well(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "lib_of_parts"
    elsewhere.mkdir(parents=True)
    (elsewhere / "__init__.py").write_text("")
    (elsewhere / "net.py").write_text(NET)
    (tmp_path / "net.py").write_text(
        f"import sys\nsys.path.insert(0, {str(elsewhere.parent)!r})\n"
        "def build():\n    from lib_of_parts.net import Net\n    return Net()\n"
    )
    assert isinstance(load(f"{tmp_path / 'net.py'}:build"), nn.Module)
    assert str(elsewhere.parent) not in sys.path
    assert "lib_of_parts" not in sys.modules


def test_packages_of_a_folder_that_pip_installed_into_keep_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "vendor" / "lib_of_names"
    package.mkdir(parents=True)
    (tmp_path / "vendor" / "lib_of_names-1.5.dist-info").mkdir()
    (package / "net.py").write_text(NET)
    # Compiled modules and lazy packages look themselves up in sys.modules.
    (package / "__init__.py").write_text("import sys\nsys.modules['lib_of_names'].found = True\n")
    (tmp_path / "net.py").write_text(
        f"import sys\nsys.path.insert(0, {str(package.parent)!r})\n"
        "def build():\n    from lib_of_names.net import Net\n    return Net()\n"
    )
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", list(before))
    try:
        assert type(load(f"{tmp_path / 'net.py'}:build")).__module__ == "lib_of_names.net"
        assert sys.path == [*before, str(package.parent)]
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "lib_of_names"]:
            del sys.modules[name]


def test_a_compiled_module_beside_a_file_is_found(tmp_path: Path) -> None:
    compiled = pytest.importorskip("markupsafe._speedups").__file__
    shutil.copy(compiled, tmp_path)
    (tmp_path / "net.py").write_text("import _speedups\n" + NET)
    assert isinstance(load(f"{tmp_path / 'net.py'}:Net"), nn.Module)


def test_a_package_in_a_folder_on_sys_path_tells_its_version(tmp_path: Path) -> None:
    parts = tmp_path / "vendor" / "lib_with_version"
    told = tmp_path / "vendor" / "lib_with_version.egg-info"
    parts.mkdir(parents=True)
    told.mkdir()
    (told / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: lib-with-version\nVersion: 1.5\n")
    (parts / "__init__.py").write_text(
        "import importlib.metadata\nfrom torch import nn\n"
        "assert importlib.metadata.version('lib-with-version') == '1.5'\n"
    )
    (tmp_path / "net.py").write_text(
        f"import sys\nsys.path.insert(0, {str(parts.parent)!r})\n"
        "def build():\n    import lib_with_version\n    return lib_with_version.nn.Conv2d(1, 1, 1)\n"
    )
    before = list(sys.path)
    assert isinstance(load(f"{tmp_path / 'net.py'}:build"), nn.Conv2d)
    assert sys.path == before


def test_a_factory_that_misses_its_weights_is_told_of_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import torch\ndef build():\n    return torch.load('/nowhere/w.pth')\n")
    with pytest.raises(HostError, match="No such file") as caught:
        load(f"{tmp_path / 'net.py'}:build")
    assert "--checkpoint" in caught.value.fix


def test_a_clone_beside_a_file_that_is_called_like_its_package_does_not_hide_it(tmp_path: Path) -> None:
    clone = tmp_path / "lib_of_clones"
    package = clone / "lib_of_clones"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "net.py").write_text(NET)
    (tmp_path / "net.py").write_text(
        f"import sys\nsys.path.insert(0, {str(clone)!r})\n"
        "def build():\n    from lib_of_clones.net import Net\n    return Net()\n"
    )
    assert isinstance(load(f"{tmp_path / 'net.py'}:build"), nn.Module)


def test_an_exported_program_is_a_plain_graph_in_eval_mode(net: str, tmp_path: Path) -> None:
    module = load(net)
    example = torch.rand(2, 1, 16, 16)
    torch.export.save(torch.export.export(module, (example,)), tmp_path / "net.pt2")
    host = open_host(str(tmp_path / "net.pt2"))
    assert isinstance(host.module, torch.fx.GraphModule)
    assert host.example is not None
    assert host.example[0].shape == (2, 1, 16, 16)
    assert torch.equal(host.module(example), module(example))
    assert set(host.module.state_dict()) == set(module.state_dict())
    assert fingerprint(host.module) == fingerprint(module)
    host.module.train()
    host.module.eval()
    assert all("val" in node.meta for node in host.module.graph.nodes if node.op == "call_function")
    assert guess_inputs(host.module)[0].shape[1] == 1
    copied = pickle.loads(pickle.dumps(copy.deepcopy(host.module)))
    assert torch.equal(copied(example), module(example))


def test_a_program_exported_in_training_mode_is_refused(net: str, tmp_path: Path) -> None:
    module = load(net).train()
    torch.export.save(torch.export.export(module, (torch.rand(2, 1, 16, 16),)), tmp_path / "net.pt2")
    with pytest.raises(HostError, match="exported in training mode"):
        load(str(tmp_path / "net.pt2"))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:FutureWarning")
@pytest.mark.parametrize("name", ["net.pt", "net.ts"])
def test_a_torchscript_program_is_a_host(net: str, name: str, tmp_path: Path) -> None:
    module = load(net)
    file = tmp_path / name
    torch.jit.save(torch.jit.script(module), file)
    host = open_host(str(file))
    assert (host.name, fingerprint(host.module)) == ("Net", fingerprint(module))
    assert guess_inputs(host.module)[0].shape == (1, 1, 64, 64)
    nn.init.constant_(module.conv.weight, 0.5)
    torch.save(module.state_dict(), tmp_path / "w.pth")
    assert fingerprint(load(str(file), tmp_path / "w.pth")) == fingerprint(module)
    with pytest.raises(HostError, match="takes no arguments"):
        load(str(file), arguments={"channels": 3})
    nn.init.constant_(module.conv.weight, 0.25)
    torch.jit.save(torch.jit.script(module), file)
    assert fingerprint(load(net, file)) == fingerprint(module)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:FutureWarning")
def test_a_torchscript_program_that_is_damaged_cannot_be_read(net: str, tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(load(net)), tmp_path / "net.ts")
    with zipfile.ZipFile(tmp_path / "net.ts") as whole, zipfile.ZipFile(tmp_path / "cut.ts", "w") as cut:
        for name in whole.namelist():
            if "constants" in name or name.endswith(".py"):
                cut.writestr(name, whole.read(name)[:20])
    with pytest.raises(CheckpointError, match="the TorchScript program cannot be read"):
        load(str(tmp_path / "cut.ts"))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_program_that_was_traced_in_training_mode_is_refused(net: str, tmp_path: Path) -> None:
    module = load(net).train()
    torch.jit.save(torch.jit.trace(module, torch.rand(2, 1, 8, 8), check_trace=False), tmp_path / "net.pt")
    with pytest.raises(HostError, match="the program was traced in training mode") as caught:
        load(str(tmp_path / "net.pt"))
    assert "batch_norm" in caught.value.where


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:FutureWarning")
def test_a_frozen_program_is_known_by_its_constants(net: str, tmp_path: Path) -> None:
    opened = []
    for weight in (0.5, 0.25):
        module = load(net)
        nn.init.constant_(module.conv.weight, weight)
        torch.jit.save(torch.jit.freeze(torch.jit.script(module)), tmp_path / "net.pt")
        opened.append(load(str(tmp_path / "net.pt")))
    assert guess_inputs(opened[0])[0].shape == (1, 1, 64, 64)
    assert fingerprint(opened[0]) != fingerprint(opened[1])
    assert fingerprint(opened[1]) == fingerprint(load(str(tmp_path / "net.pt")))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_type_are_computed_in_float32_and_it_is_said(
    dtype: torch.dtype, net: str, tmp_path: Path
) -> None:
    file = tmp_path / "net.py"
    file.write_text(file.read_text() + f"\n\ndef other():\n    return Net().to({dtype})\n")
    host = open_host(net.replace(":Net", ":other"))
    assert {p.dtype for p in host.module.parameters()} == {torch.float32}
    assert host.report == (f"weights in {str(dtype)[6:]} are computed in float32",)
    try_inputs(host.module, guess_inputs(host.module))


def test_a_broken_program_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(b"nothing")
    with pytest.raises(HostError, match="the exported program cannot be read"):
        load(str(tmp_path / "net.pt2"))


def test_a_program_takes_no_checkpoint_and_no_arguments(net: str, tmp_path: Path) -> None:
    torch.export.save(torch.export.export(load(net), (torch.rand(2, 1, 16, 16),)), tmp_path / "net.pt2")
    for options in ({"checkpoint": "w.pt"}, {"arguments": {"a": 1}}):
        with pytest.raises(HostError, match="holds its own weights and takes no arguments"):
            load(str(tmp_path / "net.pt2"), **options)


@pytest.mark.parametrize(
    ("shape", "where"),
    [
        ((1, 64, 64), "it has 3 axes, the network takes 4: N, C and 2 spatial"),
        ((1, 3, 64, 64), "it has 3 channels, the network takes 1"),
        ((1, 1, 2, 2), "Kernel size"),
    ],
)
def test_an_input_the_network_does_not_take_says_what_it_takes(shape: tuple[int, ...], where: str) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 5), nn.BatchNorm2d(2)).eval()
    with pytest.raises(InputError, match="does not take an input of shape") as caught:
        try_inputs(network, (torch.rand(shape),))
    assert where in caught.value.where
    assert "--input 1,1,64,64" in caught.value.fix


class InAnotherOrder(nn.Module):
    """Calls last the convolution that it made first, and asks for volumes of at least 16."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(32, 2, 1)
        self.first = nn.Conv3d(4, 32, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take the mean over the depth."""
        deep = self.first(x)
        if x.shape[2] < 16:
            raise ValueError("too flat")
        made: torch.Tensor = self.last(deep.mean(2))
        return made


def test_the_axes_of_a_network_are_those_on_which_its_convolutions_agree() -> None:
    assert spatial_axes(nn.Sequential(nn.Conv3d(1, 2, 3), nn.Conv3d(2, 2, 1))) == 3
    assert spatial_axes(InAnotherOrder()) is None
    assert spatial_axes(nn.Linear(2, 2)) is None


def test_the_input_is_guessed_by_the_convolution_that_is_called_first() -> None:
    assert guess_inputs(InAnotherOrder())[0].shape == (1, 4, 32, 32, 32)
    with pytest.raises(InputError) as caught:
        try_inputs(InAnotherOrder(), (torch.rand(1, 3, 32, 32, 32),))
    assert caught.value.where == "it has 3 channels, the network takes 4"
    with pytest.raises(InputError) as caught:
        try_inputs(InAnotherOrder(), (torch.rand(1, 4, 8, 64, 64),))
    assert caught.value.where == "too flat"
    assert "--input 1,4,64,64,64" in caught.value.fix


def test_a_network_that_looks_at_its_input_itself_is_quoted() -> None:
    class Halved(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.shape[1] != 8:
                raise ValueError("eight channels, please")
            return super().forward(x[:, :4])

    with pytest.raises(InputError) as caught:
        try_inputs(nn.Sequential(Halved(4, 2, 1)), (torch.rand(1, 4, 64, 64),))
    assert caught.value.where == "eight channels, please"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_network_or_factory_that_asks_for_a_gpu_is_told_that_there_is_none(tmp_path: Path) -> None:
    class Moving(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + torch.ones(1).cuda()

    with pytest.raises(InputError, match="asks for a GPU, and there is none") as caught:
        try_inputs(Moving(1, 1, 1), (torch.rand(1, 1, 64, 64),))
    assert "test_opening.py:" in caught.value.where
    assert "x.device" in caught.value.fix
    net = tmp_path / "moved.py"
    net.write_text("import torch\ndef build():\n    return torch.nn.Conv2d(1, 1, 1).cuda()\n")
    with pytest.raises(HostError, match="the factory failed") as refused:
        load(f"{net}:build")
    assert refused.value.where.endswith("moved.py:3")
    assert "map_location='cpu'" in refused.value.fix


def test_a_mistake_in_the_code_of_a_network_is_named_with_its_line() -> None:
    class Forgotten(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * scale  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(InputError, match="own code fails: NameError: name 'scale' is not defined") as caught:
        try_inputs(Forgotten(1, 2, 1), (torch.rand(1, 1, 8, 8),))
    assert "test_opening.py:" in caught.value.where


class Timed(nn.Module):
    """Takes a time beside the image."""

    def forward(self, x: torch.Tensor, time: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
        """Add the time."""
        return x + strength * time


def test_inputs_that_are_missing_are_counted() -> None:
    with pytest.raises(InputError, match="the network takes 2 inputs, and was given 1") as caught:
        try_inputs(Timed(), (torch.rand(1, 1, 8, 8),))
    assert caught.value.where == "Timed.forward(x, time)"
    assert "--input once for each tensor" in caught.value.fix
    assert "--forward NAME=VALUE" in caught.value.fix


def test_inputs_are_guessed_in_each_rank_and_large_enough() -> None:
    assert guess_inputs(nn.Conv3d(2, 1, 3))[0].shape == (1, 2, 32, 32, 32)
    assert guess_inputs(nn.Conv1d(2, 1, 3))[0].shape == (1, 2, 128)
    assert guess_inputs(nn.Conv2d(1, 1, 100))[0].shape == (1, 1, 128, 128)


def test_inputs_that_cannot_be_guessed_are_asked_for() -> None:
    with pytest.raises(InputError, match="cannot be guessed: the network has no convolution"):
        guess_inputs(nn.Linear(3, 3))
    with pytest.raises(InputError, match="no guessed input runs"):
        guess_inputs(nn.Conv2d(1, 1, 600))
