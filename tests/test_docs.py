"""The documentation's code runs, and what it names exists."""

import doctest
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import CASES

import torch_lif as lif
from torch_lif import _C

ROOT = Path(__file__).parent.parent


PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def run_examples(page):
    """The Python blocks of a page, one after another as a reader would type them."""
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
        exec(compile(block, page, "exec"), names)
    return names


@pytest.mark.parametrize("page", PAGES)
def test_examples_run_in_order(page):
    names = run_examples(page)
    if page == "README.md":
        assert names["spikes"].shape == (8, 100, 512)
        assert names["model"][0].weight.grad is not None


def test_plot_of_the_surrogates(tmp_path):
    """The script that drew docs/surrogates.png still does."""
    pytest.importorskip("matplotlib")
    picture = tmp_path / "surrogates.png"
    subprocess.run([sys.executable, str(ROOT / "docs" / "plot_surrogates.py"), str(picture)], check=True)
    assert picture.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "module",
    [lif, lif.functional, lif.reference, lif.surrogate, *(getattr(lif.neurons, n) for n in ("lif", "alif", "cuba_lif", "li"))],
    ids=lambda m: m.__name__,
)
def test_doctests(module):
    assert doctest.testmod(module, extraglobs={"torch": torch, "lif": lif}).failed == 0


def test_every_neuron_is_tested_and_documented():
    names = set(_C.neurons())
    assert {case.name for case in CASES} == names
    readme = (ROOT / "README.md").read_text()
    for name in names:
        assert f"`functional.{name}`" in readme
        assert callable(getattr(lif.functional, name))
        assert callable(getattr(lif.reference, name))


@pytest.mark.parametrize("name", [name for name in lif.__all__ if isinstance(getattr(lif, name), type)])
def test_public_classes_have_docstrings(name):
    text = getattr(lif, name).__doc__
    assert text
    assert len(text) > 60


def test_every_python_file_would_be_installed():
    """By what setuptools itself would pack: a package left out of it works in a clone and fails where it is installed."""
    script = "import setuptools, json; d = setuptools.dist.Distribution(); d.parse_config_files(); print(json.dumps(d.packages))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    packed = set(json.loads(done.stdout.splitlines()[-1]))
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "torch_lif").rglob("*.py")}
    assert packed == folders


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", *PAGES])
def test_links_and_files_exist(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("http") or (ROOT / page).parent.joinpath(target).exists(), target
    for path in re.findall(r"`((?:csrc|torch_lif|tests|examples|benchmarks)/[\w./]+\.\w+)`", text):
        assert (ROOT / path).exists(), path
