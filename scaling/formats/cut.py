"""Cuts the source of the real blocks to what one network needs: the classes of its `model.py`.

Parses `space.blocks` and `space.network`, and evaluates their expressions for each module of the
network. An expression with a single value becomes that value. Branches that no module takes and
layers that change nothing are left out. Nothing depends on an operator, so a new one needs no edit
here.
"""

from __future__ import annotations

import ast
import copy
import inspect
import re
from collections import defaultdict
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from space import blocks, network
from space.architecture import Architecture, Block, Skip

#: Names of a network that a model does not need: for training, and for its description.
_LEFT_OUT = {"features", "extra_repr", "initialise", "architecture"}

#: Parameters that are the same for all modules of a network.
_SAME = {"architecture", "numerics"}

#: Tables of the sources; a model's blocks have the values that they look up in them.
_TABLES = ("ACTIVATIONS", "GATES", "BLOCKS")
_FOUND: Any = {None: nn.Identity, **blocks.ACTIVATIONS, **blocks.GATES, **blocks.BLOCKS}

_TYPES = {int: "int", bool: "bool", Skip: "str"}

_SOURCES = {
    node.name: node
    for module in (blocks, network)
    for node in ast.parse(inspect.getsource(module)).body
    if isinstance(node, ast.ClassDef) and node.name != "Dropout"  # torch's draws the same
}


def cut(architecture: Architecture) -> tuple[list[str], dict[str, str], list[list[str]]]:
    """The classes of a `model.py`, the types of a block's fields, and the blocks of each stage."""
    stages = architecture.blocks()
    blocks_ = [block for stage in stages for block in stage]
    if len(blocks_) == 1:  # the first block is never dropped
        architecture = replace(architecture, stochastic_depth=0.0)
    with torch.device("meta"):
        built = nn.ModuleList([network.build(architecture), network.build(architecture).eval()])
    scopes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path, module in built.named_modules():
        place = re.match(r"\d\.stages\.(\d+)\.(\d+)", path)
        own = {stages[int(place[1])][int(place[2])]} if place else set(blocks_)
        for kind in type(module).__mro__:
            scopes[kind.__name__] += [{"self": module, "block": block} for block in own]
    cutter, classes = _Cutter(architecture, blocks_), {}
    for name in [name for name in _SOURCES if name in scopes]:
        cutter.scopes = scopes[name]
        classes[name] = cutter.visit(copy.deepcopy(_SOURCES[name]))
    fields = [field for field in Block._fields if field in cutter.fields]
    types = {f: _TYPES.get(type(getattr(blocks_[0], f)), "type[nn.Module]") for f in fields}
    rows = [[_row(block, fields) for block in stage] for stage in stages]
    return _merged(classes), types, rows


def _row(block: Block, fields: list[str]) -> str:
    values = [getattr(block, field) for field in fields]
    return f"Block({', '.join(_literal(_FOUND.get(value, value)) for value in values)})"


def _literal(value: object) -> str:
    """The source of a class of layers, a choice or a number."""
    if isinstance(value, type):
        return f"nn.{value.__name__}" if hasattr(nn, value.__name__) else value.__name__
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _merged(classes: dict[str, Any]) -> list[str]:
    """The source of the classes; an only kind of block that ends in `join` takes in `Residual`."""
    heirs = [each for each in classes.values() if ast.unparse(each.bases[0]) == "Residual"]
    name, heir, base = "Residual", heirs[0], classes["Residual"]
    forward = heir.body[-1]
    if len(heirs) == 1 and ast.unparse(forward.body[0]).startswith("return self.join("):
        heir.body[1].body[:1] = base.body[1].body
        branch = forward.body[0].value.args[0]
        out = ast.AnnAssign(ast.Name("out"), ast.Name("Tensor"), branch, simple=1)
        forward.body = [out, *base.body[2].body]
        heir.bases, name = base.bases, heir.name
        del classes["Residual"]
    texts = [ast.unparse(each).replace("Residual", name) for each in classes.values()]
    return [text.replace("class Network(", "class Model(") for text in texts]


def _are_idle(layers: list[Any]) -> bool:
    """Whether layers of one class change nothing."""
    kinds = {type(each) for each in layers}
    dropped = len(kinds) == 1 and any(getattr(each, "p", 0) for each in layers)
    return kinds in ({type(None)}, {nn.Identity}, {blocks.Dropout}) and not dropped


class _Cutter(ast.NodeTransformer):
    """Cuts a class to what its modules need; `scopes` has the variables of each module.

    Collects the `fields` of a block that are read; those that are the same in all blocks are not.
    """

    def __init__(self, architecture: Architecture, all_blocks: list[Block]) -> None:
        self.globals = {name: value for name, value in vars(blocks).items() if name != "math"}
        self.globals |= {"architecture": architecture, "numerics": architecture.numerics}
        self.scopes: list[dict[str, Any]] = []
        self.variables: set[str] = set()
        self.fields: set[str] = set()
        values = {name: {getattr(block, name) for block in all_blocks} for name in Block._fields}
        self.different = {name for name, found in values.items() if len(found - {None}) > 1}

    def values(self, node: ast.AST) -> list[Any]:
        """The values of an expression in all scopes; empty if it needs other variables."""
        inside = {type(each) for each in ast.walk(node)}
        other = inside & {ast.Call, ast.Starred, ast.Slice, ast.Store}
        if not isinstance(node, ast.expr) or ast.Name not in inside or other:
            return []
        code = compile(ast.fix_missing_locations(ast.Expression(node)), "space", "eval")
        try:
            return [eval(code, self.globals, scope) for scope in self.scopes]
        except (NameError, AttributeError, TypeError, KeyError):
            return []

    def is_single(self, node: ast.AST) -> bool:
        """Whether an expression has the same value in all scopes."""
        value, *others = self.values(node) or [self, None]
        return all(other == value for other in others)

    def visit(self, node: ast.AST) -> Any:
        text = ast.unparse(node)
        if self.is_single(node) and "self" not in text and text not in self.variables:
            value = self.values(node)[0]
            layers = isinstance(value, type) and issubclass(value, nn.Module)
            if layers or isinstance(value, int | float | str | None):
                return ast.parse(_literal(value), mode="eval").body
        return super().visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        brief = (ast.get_docstring(node) or "").splitlines()[0]
        node.body = [each for each in map(self.visit, node.body[1:]) if each]
        node.body.insert(0, ast.Expr(ast.Constant(brief)))
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        outer, self.variables = self.scopes, {f"block.{name}" for name in self.different}
        self.scopes = [{**scope} for scope in outer]
        node.args.args = [each for each in node.args.args if each.arg not in _SAME]
        begin = ast.get_docstring(node) is not None
        node.body = [each for each in node.body[begin:] if not isinstance(each, ast.Assert)]
        self.generic_visit(node)
        self.scopes = outer
        return None if node.name in _LEFT_OUT else node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        """Drops variables with a single value: `visit` writes it where they are used."""
        names, values = [node.targets[0]], [node.value]
        if isinstance(names[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
            names, values = names[0].elts, node.value.elts
        for name, value in zip(names, values, strict=True):
            for scope, found in zip(self.scopes, self.values(value), strict=False):
                scope[ast.unparse(name)] = found
        if all(isinstance(name, ast.Name) for name in names) and all(map(self.is_single, values)):
            return None
        self.variables |= set(map(ast.unparse, names))
        return self.visit_AnnAssign(node)

    def visit_AnnAssign(self, node: ast.Assign | ast.AnnAssign) -> ast.AST | None:
        """Drops layers that change nothing."""
        target = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
        layers = self.values(ast.parse(target, mode="eval").body)
        found, kinds = self.visit_Expr(node), {type(each) for each in layers}
        empty = layers and node.value and ast.unparse(node.value) in ("nn.Identity()", "None")
        idle = _are_idle(layers) and (layers[0] is None or "| None" not in ast.unparse(node))
        return None if idle or (empty and not kinds & {nn.Identity, type(None)}) else found

    def visit_Expr(self, node: ast.stmt) -> ast.AST | None:
        self.generic_visit(node)
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        return None if names & _LEFT_OUT else node

    def visit_If(self, node: Any) -> Any:
        """Keeps the branch that all take, or both; a test that narrows a type stays."""
        truth, test = {bool(value) for value in self.values(node.test)}, ast.unparse(node.test)
        if len(truth) != 1 or (truth == {True} and "self." in test):
            return self.generic_visit(node)
        taken = ast.Module(node.body if truth == {True} else node.orelse, [])
        self.generic_visit(taken)
        return taken.body

    visit_IfExp = visit_If  # noqa: N815

    def visit_Call(self, node: ast.Call) -> Any:
        if ast.unparse(node) == "architecture.blocks()":
            return ast.Name("STAGES")
        if _are_idle(self.values(node.func)):
            return self.visit(node.args[0])
        node.args = [each for each in node.args if ast.unparse(each) not in _SAME]
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        looked_up = ast.unparse(node.value) in _TABLES
        return self.visit(node.slice) if looked_up else self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if ast.unparse(node.value) == "block":
            self.fields.add(node.attr)
        return self.generic_visit(node)
