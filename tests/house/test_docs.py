"""Every document: its links lead somewhere, and its code blocks are code."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)(?: \"[^\"]*\")?\)")
HEADING = re.compile(r"^#{1,6} +(?P<text>.+?) *#*$", re.MULTILINE)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _anchors(document: Path) -> set[str]:
    """The fragments that GitHub gives to headings."""
    text = FENCE.sub("", document.read_text())
    seen: dict[str, int] = {}
    anchors = set()
    for heading in HEADING.finditer(text):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading["text"])
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count = seen[slug] = seen.get(slug, -1) + 1
        anchors.add(f"{slug}-{count}" if count else slug)
    return anchors


def _links() -> list:
    found = []
    for document in DOCUMENTS:
        text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", document.read_text()))
        found += [
            pytest.param(document, link["target"], id=f"{_name(document)}:{link['target']}")
            for link in LINK.finditer(text)
        ]
    return found


def _blocks() -> list:
    found = []
    for document in DOCUMENTS:
        text = document.read_text()
        for block in FENCE.finditer(text):
            line = text.count("\n", 0, block.start()) + 1
            found.append(
                pytest.param(
                    block["language"], block["body"], block["indent"], id=f"{_name(document)}:{line}"
                )
            )
    return found


@pytest.mark.parametrize(("document", "target"), _links())
def test_link_leads_somewhere(document, target):
    """A relative link names a file of the repository, and its fragment a heading there."""
    if re.match(r"[a-z]+:", target):
        assert target.startswith(("https://", "mailto:")), "a link to the web is https"
        return
    path, _, fragment = target.partition("#")
    file = (document.parent / path).resolve() if path else document

    assert file.is_relative_to(ROOT)
    assert file.exists()
    if fragment:
        assert fragment in _anchors(file)


@pytest.mark.parametrize(("language", "body", "indent"), _blocks())
def test_code_block_is_code(language, body, indent):
    """A block marked python, json or yaml parses as that; python names of Frys exist."""
    body = re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)
    if language == "json":
        json.loads(body)
    elif language == "yaml":
        list(yaml.safe_load_all(body))
    elif language == "python":
        _check_python(body)


def _check_python(body: str) -> None:
    tree = compile(body, "block", "exec", flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "frys_runtime":
            module = __import__("frys_runtime")
            assert not {alias.name for alias in node.names} - set(module.__all__)


def test_documents_are_found():
    """The list of documents is not empty by mistake."""
    assert ROOT / "CONTRIBUTING.md" in DOCUMENTS
