"""Build the distributions from what git tracks, install the wheel into a fresh environment and use it from elsewhere.

python .ci/dist_test.py            everything fresh: dependencies are installed into the new environment
python .ci/dist_test.py --quick    the new environment sees the dependencies of the running one
python .ci/dist_test.py --oldest   the oldest supported versions are installed into the new environment
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Tests that are about the installed package and need no checkout.
TESTS = ("test_network.py", "test_certificate.py", "test_rigorous.py", "test_cli.py", "test_cli_json.py")
TEST_PACKAGES = ("pytest>=8.3", "pytest-timeout", "hypothesis", "onnx")
ABSOLUTE = re.compile(rb"(?<![\w.:/])/(?:home|root|work|Users|tmp|opt)/[\w.-]+")
IN_SDIST = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "constraints.txt",
            "tests/conftest.py", "docs/conf.py", "examples/plot_first_fit.py")  # fmt: skip


def run(*command: object, where: Path) -> str:
    """Run a command; its output is shown when it fails."""
    text = [str(part) for part in command]
    done = subprocess.run(text, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(
            f"{' '.join(text)} failed with exit code {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        )
    return str(done.stdout)


def tracked(target: Path) -> list[str]:
    """Copy the files that git tracks, links as links; their names."""
    names = [name for name in run("git", "ls-files", "-z", where=ROOT).split("\0") if name]
    for name in names:
        source, copy = ROOT / name, target / name
        if source.is_symlink() or source.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)
    return names


def build(folder: Path) -> tuple[Path, Path, list[str]]:
    """The sdist of the tracked files, and the wheel of what the sdist holds."""
    source, out = folder / "source", folder / "dist"
    names = tracked(source)
    out.mkdir()
    backend = "from setuptools import build_meta as b; b.build_{}({!r})"
    run(sys.executable, "-c", backend.format("sdist", str(out)), where=source)
    sdist = next(out.glob("*.tar.gz"))
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    unpacked = next((folder / "unpacked").iterdir())
    run(sys.executable, "-c", backend.format("wheel", str(out)), where=unpacked)
    return sdist, next(out.glob("*.whl")), names


def look_inside(sdist: Path, wheel: Path, names: list[str]) -> None:
    """Everything of the package is there, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
        package = {name for name in names if name.startswith("convexnn/")}
        missing, extra = package - found, {n for n in found - package if ".dist-info/" not in n}
        assert not missing, f"the wheel lacks {sorted(missing)[:5]}"
        assert not extra, f"the wheel holds {sorted(extra)[:5]}"
        assert "convexnn/py.typed" in found
        info = next(name for name in found if name.endswith(".dist-info/METADATA")).rpartition("/")[0]
        assert any(name.startswith(info) and name.endswith("LICENSE") for name in found), "the wheel has no licence"
        metadata = archive.read(f"{info}/METADATA").decode()
        assert "License-Expression: BSD-3-Clause" in metadata
        assert "Provides-Extra: onnx" in metadata
        assert "convexnn = convexnn.cli:main" in archive.read(f"{info}/entry_points.txt").decode()
        paths = {name: ABSOLUTE.findall(archive.read(name)) for name in found}
        absolute = {name: hits[:2] for name, hits in paths.items() if hits}
        assert not absolute, f"absolute paths: {absolute}"
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
        assert set(IN_SDIST) <= inside, f"the sdist lacks {sorted(set(IN_SDIST) - inside)}"
        tests = {name for name in names if name.startswith("tests/") and name.endswith(".py")}
        assert tests <= inside, f"the sdist lacks {sorted(tests - inside)[:5]}"
        assert not [name for name in inside if "__pycache__" in name or name.startswith("docs/_build")]
    print(f"{wheel.name}: {len(found)} files, {wheel.stat().st_size // 1024} KiB; {sdist.name}: {len(inside)} files")


def install(wheel: Path, folder: Path, quick: bool, constraints: Path) -> Path:
    """A fresh environment with the wheel; its Python."""
    home = folder / "venv"
    venv.create(home, with_pip=True)
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check")
    if quick:
        site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", where=folder).strip()
        # the dependencies, but not the editable convexnn there: it comes from a .pth, which is not read this way
        Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        run(*pip, "--no-deps", wheel, where=folder)
    else:
        run(*pip, "-c", constraints, f"{wheel}[onnx]", *TEST_PACKAGES, where=folder)
        run(python, "-m", "pip", "check", where=folder)
    return python


def use(python: Path, folder: Path, allowed: tuple[str, ...]) -> None:
    """Import, command line, demo, and tests that travel in the sdist, all from another folder."""
    work = folder / "elsewhere"
    work.mkdir()
    place = run(python, "-c", "import convexnn; print(convexnn.__file__)", where=work).strip()
    assert Path(place).is_relative_to(folder / "venv"), f"convexnn was imported from {place}"
    script = python.parent / "convexnn"
    print(run(script, "--version", where=work).strip(), "imported from the new environment")
    run(script, "demo", "--quick", "--output", "demo", where=work)
    print(run(script, "check", "demo/certificate.npz", "demo/network.npz", where=work).strip().splitlines()[-1])
    unpacked = next((folder / "unpacked").iterdir())
    shutil.copytree(unpacked / "tests", work / "tests")
    settings = "[pytest]\nfilterwarnings = error\npythonpath = .\ntimeout = 600\nmarkers = slow: takes long\n"
    (work / "pytest.ini").write_text(settings, encoding="utf-8")
    options = ("-q", "-m", "not slow", "-p", "no:cacheprovider", *allowed)
    print(
        run(python, "-m", "pytest", *options, *(f"tests/{name}" for name in TESTS), where=work).strip().splitlines()[-1]
    )


def main() -> None:
    """Build, look inside, install, use."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--quick", action="store_true", help="take the dependencies of the running environment")
    kind.add_argument("--oldest", action="store_true", help="install the oldest supported versions")
    options = parser.parse_args()
    constraints = ROOT / ("constraints-oldest.txt" if options.oldest else "constraints.txt")
    # as in `make test-oldest`: a deprecation between scikit-learn and scipy
    allowed = ("-W", "ignore:scipy.optimize:DeprecationWarning") if options.oldest else ()
    with tempfile.TemporaryDirectory(prefix="convexnn-dist-") as name:
        folder = Path(name).resolve()
        sdist, wheel, names = build(folder)
        look_inside(sdist, wheel, names)
        use(install(wheel, folder, options.quick, constraints), folder, allowed)
    print("the distributions are good")


if __name__ == "__main__":
    main()
