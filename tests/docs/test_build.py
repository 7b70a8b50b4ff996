"""The documents build, and every link in them and in the README leads somewhere."""

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.docs.pages import PAGES, ROOT, Page


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="mkdocs is not installed: pip install 'verl-spark[docs]'")
def test_the_documents_build_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "index.html").exists()
    assert (tmp_path / "data-flow.svg").exists()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_to_files_and_headings(page):
    for link in page.links:
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.path.parent / name).resolve() if name else page.path
        assert target.exists(), link
        if anchor:
            assert anchor in Page(target).anchors, link


def test_the_first_table_of_troubleshooting_leads_to_each_of_the_fifteen_pains():
    page = Page(ROOT / "docs" / "troubleshooting.md")
    pains = page.anchors - {"troubleshooting", "known-limits"}
    assert len(pains) == 15
    assert set(re.findall(r"\(#(.+?)\)", page.text.partition("\n## ")[0])) == pains


def test_a_broken_link_would_be_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A title: `x.y`\n\n[here](#a-title-xy) [there](absent.md#b)\n\n```\n# no title [no](link)\n```\n")
    assert Page(page).anchors == {"a-title-xy"}
    assert Page(page).links == ["#a-title-xy", "absent.md#b"]


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text().partition("nav:\n  - index.md")[2]
    for page in PAGES[1:]:
        name = str(page.path.relative_to(ROOT / "docs"))
        assert name == "index.md" or f"- {name}\n" in navigation, name
