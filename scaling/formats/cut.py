"""Cuts the source of the real blocks to what one network needs: the classes of its `model.py`.

Parses `space.blocks` and `space.network`, and evaluates their expressions for each module of the
network. What is the same for all of its blocks becomes a constant; branches that no module takes
and layers that change nothing are left out. A new operator needs no edit here.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from space import blocks, network
from space.architecture import Architecture, Block, Skip

#: How statements begin that a model does not need: for training, and for its description.
_LEFT_OUT = ("assert", "def extra_repr", "def features", "self.apply", "self.architecture")

#: Parameters that are the same for all modules of a network.
_SAME = {"architecture", "numerics"}

#: What the real blocks look up in their tables; the blocks of a model have it themselves.
_FOUND: Any = {None: nn.Identity, **blocks.ACTIVATIONS, **blocks.GATES, **blocks.BLOCKS}

_TYPES = {int: "int", bool: "bool", Skip: "str", type: "type[nn.Module]"}


def cut(architecture: Architecture) -> tuple[list[str], list[list[str]]]:
    """The source of the classes of a `model.py`, and of the blocks of each stage."""
    stages = [
        [Block(*(_FOUND.get(value, value) for value in block)) for block in stage]
        for stage in architecture.blocks()
    ]
    every = {block for stage in stages for block in stage}
    if sum(map(len, stages)) == 1:  # the first block is never dropped
        architecture = replace(architecture, stochastic_depth=0.0)
    with torch.device("meta"):
        built = nn.ModuleList([network.build(architecture), network.build(architecture).eval()])
    scopes: dict[str, list[Any]] = defaultdict(list)
    for path, module in built.named_modules():
        place = re.match(r"\d\.stages\.(\d+)\.(\d+)", path)
        own = {stages[int(place[1])][int(place[2])]} if place else every
        for kind in type(module).__mro__:
            scopes[kind.__name__] += [{"self": module, "block": block} for block in own]
    names = {**vars(blocks), "architecture": architecture, "numerics": architecture.numerics}
    del names["math"], scopes["Dropout"]  # infinity has no literal; torch's dropout draws the same
    columns = dict(zip(Block._fields, map(set, zip(*every, strict=True)), strict=True))
    different = {f"block.{name}" for name in columns if len(columns[name] - {nn.Identity}) > 1}
    source = inspect.getsource(blocks) + inspect.getsource(network)
    source = re.sub(r"[A-Z]+\[(block\.\w+)\]", r"\1", source)
    cutter, classes = _Cutter(names, different), {}
    for node in ast.parse(source.replace("architecture.blocks()", "STAGES")).body:
        if isinstance(node, ast.ClassDef) and node.name in scopes:
            cutter.modules = scopes[node.name]
            classes[node.name] = cutter.visit(node)
    code = _joined(classes)
    fields = [name for name in Block._fields if f"block.{name}" in code]
    table = 'class Block(NamedTuple):\n    """What the blocks differ in."""\n'
    table += "".join(f"\n    {name}: {_TYPES[type(columns[name].pop())]}" for name in fields)
    rows = [[[getattr(block, name) for name in fields] for block in stage] for stage in stages]
    return [table, *code.split("\n\n\n")], [list(map(_literal, stage)) for stage in rows]


def _literal(value: object) -> str:
    """The source of a block, a class of layers, a choice or a number."""
    if isinstance(value, list):
        return f"Block({', '.join(map(_literal, value))})"
    if isinstance(value, type):
        return f"nn.{value.__name__}" if hasattr(nn, value.__name__) else value.__name__
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _joined(classes: dict[str, Any]) -> str:
    """The source of the classes; an only kind of block takes in `Residual`."""
    name = "Residual"
    kind, *others = [each for each in classes.values() if ast.unparse(each.bases[0]) == name]
    if not others:
        frame, name = classes.pop(name), kind.name
        kind.bases, kind.body[1].body[:1] = frame.bases, frame.body[1].body
        kind.body[2:2] = frame.body[2:]
    code = "\n\n\n".join(map(ast.unparse, classes.values()))
    # What a module gives has no type.
    code = re.sub(r"return (self\.(?!join).*)", r"out: Tensor = \1\n        return out", code)
    return code.replace("Residual", name).replace("class Network", "class Model")


def _are_idle(layers: list[Any]) -> bool:
    """Whether layers of one class change nothing."""
    kinds = {(type(each), getattr(each, "p", 0)) for each in layers}
    return kinds in [{(kind, 0)} for kind in (type(None), nn.Identity, blocks.Dropout)]


@dataclass
class _Cutter(ast.NodeTransformer):
    """Cuts a class to what its modules need; `scopes` has the variables of each in a function."""

    names: dict[str, Any]
    different: set[str]
    modules: list[Any] = field(default_factory=list)
    scopes: list[Any] = field(default_factory=list)
    variables: set[str] = field(default_factory=set)
    idle: set[str] = field(default_factory=set)

    def values(self, node: ast.AST) -> list[Any]:
        """The values of an expression in all scopes; empty if it needs other variables."""
        if not isinstance(node, ast.expr) or {ast.Call, ast.List} & {*map(type, ast.walk(node))}:
            return []
        try:
            code = compile(ast.unparse(node), "space", "eval")
            return [eval(code, self.names, scope) for scope in self.scopes]
        except (SyntaxError, NameError, AttributeError, TypeError, KeyError):
            return []

    def is_constant(self, node: ast.AST) -> bool:
        """Whether an expression has one value, and reads nothing in which the blocks differ."""
        values = self.values(node)
        read = {ast.unparse(n) for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute)}
        return values[1:] == values[:-1] and values != [] and read.isdisjoint(self.variables)

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.stmt) and ast.unparse(node).startswith(_LEFT_OUT):
            return None
        if not isinstance(node, ast.Constant) and self.is_constant(node):
            value = self.values(node)[0]
            if isinstance(value, type | int | float | str | None):
                return ast.parse(_literal(value), mode="eval").body
        return super().visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """Keeps the first line of a docstring."""
        return ast.Constant(node.value.splitlines()[0]) if isinstance(node.value, str) else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        self.variables, self.scopes = {"self", *self.different}, [{**each} for each in self.modules]
        node.args.args = [each for each in node.args.args if each.arg not in _SAME]
        self.generic_visit(node)
        if ast.unparse(node.body[0]) != "return out":
            return node
        self.idle.add(f"self.{node.name}")
        return None

    def visit_Assign(self, node: ast.Assign) -> Any:
        """Drops variables with a single value: `visit` writes it where they are used."""
        names, values = [node.targets[0]], [node.value]
        if isinstance(names[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
            names, values = names[0].elts, node.value.elts
        kept = []
        for name, value in zip(map(ast.unparse, names), values, strict=True):
            for scope, found in zip(self.scopes, self.values(value), strict=False):
                scope[name] = found
            left = self.visit(value)
            if not (name.isidentifier() and self.is_constant(left)):
                self.variables.add(name)
                kept.append((name, ast.unparse(left)))
        statement = " = ".join(map(", ".join, zip(*kept, strict=True)))
        return [*filter(None, map(self.visit_AnnAssign, ast.parse(statement).body))]

    def visit_AnnAssign(self, node: Any) -> Any:
        """Drops layers that change nothing, and a default that no module keeps."""
        layers = self.values(node.targets[0] if isinstance(node, ast.Assign) else node.target)
        kinds, text = {type(each) for each in layers}, ast.unparse(self.generic_visit(node))
        idle = _are_idle(layers) and not (kinds == {nn.Identity} and "| None" in text)
        replaced = layers and text.endswith(("= nn.Identity()", "= None"))
        return None if idle or (replaced and not kinds & {nn.Identity, type(None)}) else node

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
        if ast.unparse(node.func) in self.idle or _are_idle(self.values(node.func)):
            return self.visit(node.args[0])
        node.args = [each for each in node.args if ast.unparse(each) not in _SAME]
        return self.generic_visit(node)
