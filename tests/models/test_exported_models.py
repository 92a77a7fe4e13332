"""What `matinee.models` exports, and that it costs nothing until it is used."""

import ast
import importlib
import inspect
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import matinee.models
from matinee.models.registry import MODELS

EXPORTED = matinee.models.__all__
NOT_FOR_SERVERS = ("numba", "scipy", "llvmlite")


def loaded_after(statement):
    program = f"import sys\n{statement}\nprint(*[name for name in {NOT_FOR_SERVERS} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


def documented_assignments(module):
    """The names that a module assigns and says in a string below what they are."""
    body = ast.parse(inspect.getsource(module)).body
    for statement, below in pairwise(body):
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and below.value.value.strip():
            if isinstance(statement, ast.Assign):
                yield from (target.id for target in statement.targets)
            elif isinstance(statement, ast.AnnAssign):
                yield statement.target.id


def test_exports_are_listed_once():
    assert set(EXPORTED) <= set(dir(matinee.models))
    assert len(EXPORTED) == len(set(EXPORTED))


def test_every_exported_name_is_importable_and_is_what_its_module_has():
    for name, module in matinee.models._MODULE_OF.items():
        its = getattr(importlib.import_module(f"matinee.models.{module}"), name)
        assert getattr(matinee.models, name) is its
        namespace = {}
        exec(f"from matinee.models import {name}", namespace)
        assert namespace[name] is its


def test_the_exports_stand_alike_in_all_three_places():
    tree = ast.parse(Path(matinee.models.__file__).read_text(encoding="utf-8"))
    shown_to_type_checkers = {
        (alias.name, node.module.rpartition(".")[2])
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("matinee.models.")
        for alias in node.names
    }
    assert shown_to_type_checkers == set(matinee.models._MODULE_OF.items())
    assert sorted(EXPORTED) == sorted(matinee.models._MODULE_OF)


@pytest.mark.parametrize("name", EXPORTED)
def test_every_exported_name_is_documented(name):
    value = getattr(matinee.models, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__doc__
        assert not value.__doc__.startswith(f"{name}(")  # what a dataclass makes up
    else:
        module = importlib.import_module(f"matinee.models.{matinee.models._MODULE_OF[name]}")
        assert name in set(documented_assignments(module))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_is_exported_with_its_hyperparameters(name):
    kind = MODELS[name]
    assert getattr(matinee.models, kind.__name__) is kind
    assert getattr(matinee.models, kind.params_type.__name__) is kind.params_type
    assert {kind.__name__, kind.params_type.__name__} <= set(EXPORTED)


def test_no_exported_name_is_that_of_a_module():
    modules = {path.stem for path in Path(matinee.models.__file__).parent.glob("*.py")}
    assert not modules & set(EXPORTED)  # importing the module would put it in the name's place


def test_submodules_stay_importable():
    from matinee.models import svd

    assert inspect.ismodule(svd)


def test_a_name_that_is_not_there_is_refused_as_ever():
    with pytest.raises(AttributeError, match=r"module 'matinee\.models' has no attribute 'SDV'"):
        _ = matinee.models.SDV
    with pytest.raises(ImportError, match="SDV"):
        from matinee.models import SDV  # noqa: F401
    assert not hasattr(matinee.models, "__path_that_is_not_there__")


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_after("import matinee.models") == []


@pytest.mark.parametrize("name", ["FoldIn", "confidence"])
def test_what_servers_need_loads_nothing_heavy(name):
    assert loaded_after(f"from matinee.models import {name}") == []


def test_a_compiled_model_loads_the_compiler():
    assert "numba" in loaded_after("from matinee.models import SVD")
