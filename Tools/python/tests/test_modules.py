"""Tools/check-modules, on copies of the package with violations planted."""

import os
import shutil
import subprocess
import xml.etree.ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PICTURE = "Documentation.docc/Resources/modules.svg"


def check(root: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run([root / "Tools/check-modules", *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """What the script reads of the package, in a folder of its own."""
    for name in ("Package.swift", "Tools/check-modules", PICTURE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)

    def others(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if not name.endswith(".swift") and not os.path.isdir(os.path.join(folder, name))]

    for name in ("Sources", "Tests"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=others)
    return tmp_path


def plant(root: Path, path: str, text: str) -> None:
    (root / path).write_text(text)


def edit_manifest(root: Path, old: str, new: str) -> None:
    manifest = root / "Package.swift"
    text = manifest.read_text()
    assert text.count(old) == 1
    manifest.write_text(text.replace(old, new))


def test_package(package: Path) -> None:
    code, text = check(package)
    assert code == 0, text
    assert "every rule is kept" in text


@pytest.mark.parametrize(
    "path, line, reason",
    [
        ("Sources/Reference/New.swift", "import Engine", "test each other"),
        ("Sources/Reference/New.swift", "@_exported import struct Kernels.KernelSet", "test each other"),
        ("Sources/Platform/New.swift", "import Kernels", "test each other"),
        ("Sources/Engine/New.swift", "import Goldens", "(Engine -> Goldens -> BFloat16)"),
        ("Sources/KernelsShared/Common/New.swift", "import ExactMath", "test each other"),
        ("Sources/Engine/New.swift", "import Foundation", "bits differ"),
        ("Sources/EngineOperations/New.swift", "import Reference", "through Goldens only"),
        ("Sources/Checker/New.swift", "import Engine", "bring the two sides together"),
        ("Sources/Goldens/New.swift", "import GoldenIO", "GoldenIO's business"),
        ("Sources/Cases/New.swift", "import Platform", "no C library"),
        ("Sources/Cases/New.swift", "import Foundation", "the text of numbers"),
        ("Sources/Checker/New.swift", "#if canImport(Glibc)\n    @preconcurrency import Glibc\n#endif", "only Platform may"),
        ("Sources/Checker/New.swift", "import CHDF5", "only GoldenIO may"),
        ("Sources/Studies/New.swift", "private import Subprocess", "only Checker and the tests may"),
        ("Sources/Studies/New.swift", "@testable import touchstone", "only the tests may"),
        ("Sources/Pages/New.swift", "import JSON", "does not declare it"),
        ("Sources/Pages/New.swift", "#if canImport(JSON)\n#endif", "does not declare it"),
        ("Sources/Pages/New.swift", "import Nothing", "neither a module of the package"),
        ("Sources/JSON/New.swift", "import Cases", "a cycle"),
    ],
)
def test_import(package: Path, path: str, line: str, reason: str) -> None:
    plant(package, path, f"// A file.\n{line}\n")
    code, text = check(package)
    assert code == 1, text
    number = 3 if "\n    " in line else 2
    name = path.replace("KernelsShared", "KernelsPortable")
    assert any(found.startswith(f"{name}:{number}: ") and reason in found for found in text.splitlines()), text


def test_dependencies(package: Path) -> None:
    edit_manifest(package, '.target(name: "Pages", swift', '.target(name: "Pages", dependencies: ["JSON"], swift')
    edit_manifest(package, '.target(name: "JSON", swift', '.target(name: "JSON", dependencies: ["Pages"], swift')
    code, text = check(package)
    assert code == 1
    assert "Pages depends on JSON: no file of the target imports it" in text
    assert "a cycle, JSON -> Pages -> JSON" in text


def test_no_imports(package: Path) -> None:
    text = (
        '/* import Engine /* nested */\nimport Engine\n*/\nlet a = """\nimport Engine\n"""\n'
        'let b = #"""\n\\#("/*")\nimport Engine\n"""#\nlet c = "\\(d ? "/*" : ")")" // "\n'
    )
    plant(package, "Sources/Reference/New.swift", text)
    code, printed = check(package)
    assert code == 0, printed
    plant(package, "Sources/Reference/New.swift", text + "import Engine\n")
    code, printed = check(package)
    assert code == 1
    assert "New.swift:12: import Engine" in printed


@pytest.mark.parametrize(
    "old, new",
    [
        ('.systemLibrary(\n            name: "CMPI"', '.plugin(\n            name: "CMPI"'),
        ('.target(name: "Pages", swift', '.target(name: "Pages", exclude: ["A.md"], swift'),
        ('.target(name: "Pages", swift', '.target(name: "Pages" + suffix, swift'),
        ('.target(name: "Pages", swift', '.target(name: "Pages", path: "Sources/Sheets", swift'),
    ],
)
def test_manifest_not_understood(package: Path, old: str, new: str) -> None:
    edit_manifest(package, old, new)
    code, text = check(package)
    assert code == 2, text
    assert text.startswith("check-modules: "), text


def test_picture(package: Path) -> None:
    xml.etree.ElementTree.parse(package / PICTURE)
    plant(package, PICTURE, "<svg/>")
    code, text = check(package)
    assert code == 1
    assert "run Tools/check-modules --draw" in text
    assert check(package, "--draw")[0] == 0
    assert (package / PICTURE).read_bytes() == (ROOT / PICTURE).read_bytes()
    assert check(package)[0] == 0


def test_usage(package: Path) -> None:
    assert check(package, "--drow")[0] == 64
