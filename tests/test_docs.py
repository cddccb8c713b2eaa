"""The documentation's code runs, and what it names exists."""

import doctest
import json
import re
import shlex
import shutil
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
        assert names["model"][0].weight.grad is not None
        assert names["fused"].spikes.shape == (8, 100, 512)
        assert 0 < names["fused"].spikes.mean() < 1  # so that the loop beside it says something
        assert "assert torch.equal(fused.spikes, torch.stack(spikes, 1))" in (ROOT / page).read_text()


LISTING = re.compile(r"^( *)<!-- lines of (\S+) -->\n\1```\w+\n(.*?)\n\1```$", re.DOTALL | re.MULTILINE)
LISTINGS = [
    (page, file, "\n".join(line.removeprefix(indent) for line in text.split("\n")))
    for page in PAGES
    for indent, file, text in LISTING.findall((ROOT / page).read_text())
]


@pytest.mark.parametrize(("page", "file", "text"), LISTINGS, ids=[f"{page}-{file}" for page, file, _ in LISTINGS])
def test_listings_are_the_codes(page, file, text):
    """A code block under the comment `<!-- lines of FILE -->` is a run of whole lines of that file."""
    assert f"\n{text}\n" in "\n" + (ROOT / file).read_text()


def test_every_listing_is_found():
    """A block that names its file but is written in another way would not be compared."""
    assert len(LISTINGS) == sum((ROOT / page).read_text().count("<!-- lines of ") for page in PAGES) > 0


def test_the_page_of_a_new_neuron_knows_what_a_header_must_say():
    """docs/architecture.md lists each macro that csrc/neuron/neuron.h asks a neuron's header for."""
    asked = re.findall(r"^ \* (NEURON_[A-Z_]+(?:, NEURON_[A-Z_]+)*)[:,]", contract(), re.MULTILINE)
    names = {name for line in asked for name in line.split(", ")}
    assert len(names) >= 11
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert not {name for name in names if name not in page}


def contract():
    """The opening comment of csrc/neuron/neuron.h."""
    return (ROOT / "csrc" / "neuron" / "neuron.h").read_text().split("*/")[0]


@pytest.mark.parametrize("name", ["surrogates", "speed"])
def test_plots(name, tmp_path):
    """The scripts that drew docs/surrogates.png and docs/speed.png still do."""
    pytest.importorskip("matplotlib")
    picture = tmp_path / "picture.png"
    subprocess.run([sys.executable, str(ROOT / "docs" / f"plot_{name}.py"), str(picture)], check=True)
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_the_benchmarks_page_is_made_from_its_data(tmp_path, monkeypatch):
    """docs/benchmarks.md is what `python -m benchmarks report` makes of docs/benchmarks/*.json, by the command that it
    names."""
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import cli

    data = Path("docs", "benchmarks")
    shutil.copytree(ROOT / data, tmp_path / data)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    command = next(line for line in page.splitlines() if line.startswith("python -m benchmarks report "))
    assert cli.main(shlex.split(command)[3:]) == 0
    assert Path("docs", "benchmarks.md").read_text() == page
    assert {path.name for path in data.iterdir()} == {path.name for path in (ROOT / data).iterdir()}


CASES_OF_TABLE = {
    "LIF": "lif",
    "CubaLIF": "cuba-lif",
    "CubaLIF, gradients of every parameter too": "cuba-lif+parameters",
    "LI": "li",
    "ALIF": "alif",
    "EulerLIF": "euler-lif",
}


def figures(line, files):
    """For each column of a row of docs/performance.md, what the data say: seconds or a fraction; None: no such row."""
    name, _, rest = line[0].partition(", T ")
    name, _, surrogate = name.partition(", surrogate ")
    steps, batch = map(int, rest.split(", batch ")) if rest else (500, 16)
    shape = (steps, batch, int(line[1]))
    found = {}
    for report in files:
        for row in report.rows:
            same = (row.case, row.shape, row.dtype) == (CASES_OF_TABLE[name], shape, "float32")
            if not same or not row.median or (surrogate and not row.surrogate.startswith(surrogate)):
                continue
            time, part = 1e3 * row.median, report.derived(row)["copy_fraction"]
            kernel = row.implementation in (
                "torch_lif (graph)",
                *(["torch_lif"] if "gpu" not in report.machine else []),
            )
            if kernel:
                found.setdefault(row.pass_name, (time, part))
            elif row.implementation.startswith("SpikingJelly") and row.implementation.endswith("(graph)"):
                found[f"theirs, {row.pass_name}"] = min(time, found.get(f"theirs, {row.pass_name}", time))
    forward, both = found.get("forward", (None, None)), found.get("forward+backward", (None, None))
    return [*forward, *both, found.get("theirs, forward+backward")]


def test_the_figures_of_the_performance_page_are_the_datas(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.report import read

    read_all = [
        read(ROOT / "docs" / "benchmarks" / f"{name}.json") for name in ("layer-lif", "layer-others", "layer-pwl")
    ]
    read_cpu, compared = [read(ROOT / "docs" / "benchmarks" / "cpu.json")], 0
    for text in (ROOT / "docs" / "performance.md").read_text().splitlines():
        line = [cell.strip() for cell in text.strip("|").split("|")]
        if not text.startswith("| ") or line[0].split(",")[0] not in CASES_OF_TABLE:
            continue
        expected = figures(line, read_all if len(line) == 7 else read_cpu)
        for cell, value in zip(line[2:], expected, strict=False):
            if cell:
                number = cell.split(" ")[0]
                digits = len(number.partition(".")[2])
                assert value is not None, (line, cell)
                assert abs(float(number) - value) <= 0.501 * 10**-digits, (line, cell, value)
                compared += 1
    assert compared > 50


def test_pages_are_no_wider_than_they_may_be():
    """Prose wraps at 100 columns; tables, code and links to pictures may be wider."""
    for page in ["CONTRIBUTING.md", *PAGES]:
        text = re.sub(r"^( *)```.*?^\1```$", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
        wide = [
            line for line in text.splitlines() if len(line) > 100 and not line.lstrip().startswith(("|", "!", "    "))
        ]
        assert not wide, page


@pytest.mark.parametrize(
    "module",
    [
        lif,
        lif.functional,
        lif.reference,
        lif.surrogate,
        *(getattr(lif.neurons, n) for n in ("lif", "alif", "euler_lif", "li")),
    ],
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
    """By what setuptools itself would pack: a package left out of it works in a clone and fails where it is
    installed."""
    script = (
        "import setuptools, json; d = setuptools.dist.Distribution(); d.parse_config_files(); "
        "print(json.dumps(d.packages))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
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
