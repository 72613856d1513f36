"""`from sega import ...`: what readers, type checkers and the interpreter see is one list."""

import ast
import subprocess
import sys
from importlib import import_module

import pytest

import sega


def test_type_checkers_see_the_same_names():
    tree = ast.parse(open(sega.__file__).read())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {name.name: node.module for node in block.body for name in node.names}
    assert seen == sega._HOMES and sorted(seen) == sega.__all__


@pytest.mark.parametrize("name", sega.__all__)
def test_a_name_is_what_its_module_defines(name):
    found = getattr(sega, name)
    assert found is getattr(import_module(sega._HOMES[name]), name) and found.__module__ == sega._HOMES[name]


def test_other_names_are_no_attributes():
    with pytest.raises(AttributeError, match="no attribute 'atach'"):
        sega.atach  # noqa: B018


def test_importing_the_package_does_not_import_torch():
    code = "import sys, sega; sega.RequestError; sega.Observation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
