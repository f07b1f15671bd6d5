"""The real blocks' source, cut to what one network needs: the classes of its `model.py`.

`space.blocks` and `space.network` are read as syntax trees. An expression that is the same for the
network, or for all blocks that reach it, becomes a constant; branches that no block takes, and
layers that change nothing, are left out. What blocks differ in stays an attribute of `block`.
Nothing here knows an operator: a new one needs no edit.
"""

from __future__ import annotations

import ast
import copy
import inspect
import re
from enum import StrEnum
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

import space.blocks
import space.network
from space.architecture import Architecture, Block

#: What a network has for training and for its description, and a model has not.
_LEFT_OUT = {"features", "extra_repr", "initialise", "architecture", "_feature_maps"}

#: What blocks are built from, and what is the same for all of a network.
_DESCRIBED = {"architecture", "numerics"}

_Definition = ast.ClassDef | ast.FunctionDef
_TREES = [ast.parse(inspect.getsource(module)) for module in (space.blocks, space.network)]
_SOURCES = {n.name: n for tree in _TREES for n in tree.body if isinstance(n, _Definition)}

#: Stands for a layer that changes nothing.
_IDLE = SimpleNamespace(p=0.0)


def cut(network: Architecture) -> str:
    """The classes that a `model.py` needs; `Dropout` is left to torch's, which draws the same."""
    blocks = {block for stage in network.blocks() for block in stage}
    with torch.device("meta"):
        whole = space.network.build(network).named_modules()
        parts = [(part, blocks) for name, part in whole if not name.startswith("stages.")]
        for block in blocks:
            made = space.blocks.BLOCKS[block.operator](block, network.numerics)
            parts += [(part, {block}) for part in made.modules()]
    needing: dict[str, set[Block]] = {}
    for part, some in parts:
        for each in type(part).__mro__:
            needing.setdefault(each.__name__, set()).update(some)
    definitions: list[_Definition] = []
    for name in [name for name in _SOURCES if name in needing and name != "Dropout"]:
        first = _Cutter(network, needing[name], {}).visit(copy.deepcopy(_SOURCES[name]))
        cutter = _Cutter(network, needing[name], _constant_attributes(first, network))
        definitions.append(cutter.visit(copy.deepcopy(_SOURCES[name])))
    definitions = _merged(definitions)
    for method in [each for one in definitions for each in _methods(one)]:
        text = ast.unparse(method)
        if "block: Block" in text and "block." in text:
            method.body[:0] = ast.parse("fields = block").body  # its names are those of the table
    code = "\n\n\n".join(map(ast.unparse, definitions))
    for name, text in [(one.name, ast.unparse(one)) for one in definitions]:
        if f" {name}(block)" in code and len(re.findall(r"\bblock\b", text)) == 1:
            bare = text.replace("self, block: Block", "self")  # it needs nothing of its block
            code = code.replace(text, bare).replace(f"{name}(block)", f"{name}()")
    return code


def imports(names: set[str]) -> list[str]:
    """The statements by which the sources import those of `names` that are not ours."""
    found = []
    for node in copy.deepcopy([node for tree in _TREES for node in tree.body]):
        if isinstance(node, ast.Import | ast.ImportFrom):
            node.names = [each for each in node.names if (each.asname or each.name) in names]
            found += [ast.unparse(node)] if node.names else []
    return [line for line in found if not line.startswith("from space")]


class _Cutter(ast.NodeTransformer):
    """Cuts a class to what `blocks` need; `attributes` are those of its `self` that are known."""

    def __init__(
        self, network: Architecture, blocks: set[Block], attributes: dict[str, Any]
    ) -> None:
        self.known = {
            **{n: v for n, v in vars(space.blocks).items() if _is_known(v)},
            "nn": nn,
            "architecture": network,
            "numerics": network.numerics,
            "self": SimpleNamespace(**attributes),
        }
        self.stages, self.blocks = network.blocks(), blocks
        self.locals: dict[str, ast.expr] = {}

    def values(self, node: ast.expr) -> dict[Block, Any]:
        """What an expression is for each of the blocks; nothing where it depends on more."""
        kinds = {type(each) for each in ast.walk(node)}
        called = ast.Call in kinds and ast.unparse(node) != "architecture.blocks()"
        if called or ast.Name not in kinds or isinstance(node, ast.Starred | ast.Slice):
            return {}
        found = {}
        for block in self.blocks:
            scope = self.known | {"block": block}
            try:
                for name, value in self.locals.items():
                    scope[name] = _evaluated(value, scope)
                found[block] = _evaluated(node, scope)
            except (NameError, AttributeError, TypeError):
                return {}
        return found

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.expr) and isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            values = list(self.values(node).values())
            if values and all(value == values[0] for value in values):
                value = values[0]
                if value == self.stages:
                    return ast.Name("STAGES")
                if isinstance(value, type) and issubclass(value, nn.Module):
                    return ast.Attribute(ast.Name("nn"), value.__name__)
                if value is None or isinstance(value, bool | int | float | str):
                    return ast.Constant(value.value if isinstance(value, StrEnum) else value)
        return super().visit(node)

    def visit_If(self, node: Any) -> Any:
        """The branches that blocks take, each cut for those that take it."""
        blocks, values, taken = self.blocks, self.values(node.test), []
        for name, truth in (("body", True), ("orelse", False)):
            self.blocks = {each for each in blocks if bool(values.get(each, truth)) is truth}
            if self.blocks:
                branch = ast.Module(getattr(node, name), [])
                self.generic_visit(branch)
                setattr(node, name, branch.body)
                taken.append(name)
        self.blocks = blocks
        if len(taken) == 1:
            return getattr(node, taken[0])
        node.test = self.visit(node.test)
        return node

    visit_IfExp = visit_If  # noqa: N815

    def visit_Name(self, node: ast.Name) -> Any:
        if node.id in self.locals and isinstance(node.ctx, ast.Load):
            return self.visit(copy.deepcopy(self.locals[node.id]))
        return node

    def visit_Call(self, node: ast.Call) -> Any:
        if _IDLE in self.values(node.func).values():
            return self.visit(node.args[0])
        node.args = [each for each in node.args if ast.unparse(each) not in _DESCRIBED]
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        self.locals = {}
        node.args.args = [each for each in node.args.args if each.arg not in _DESCRIBED]
        node.body = node.body[ast.get_docstring(node) is not None :]
        self.generic_visit(node)
        last = {_attribute(each): each for each in node.body}
        node.body = [n for n in node.body if last[_attribute(n)] is n or not _attribute(n)]
        return None if node.name in _LEFT_OUT else node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        brief = (ast.get_docstring(node) or "").splitlines()[0]
        node.body[0] = ast.Expr(ast.Constant(brief))
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        """Names for what is known are written as that, and so not assigned."""
        pairs = [(node.targets[0], node.value)]
        if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = list(zip(node.targets[0].elts, node.value.elts, strict=True))
        if all(isinstance(name, ast.Name) and self.values(value) for name, value in pairs):
            self.locals |= {ast.unparse(name): value for name, value in pairs}
            return None
        return self.visit_Expr(node)

    def visit_Expr(self, node: ast.Assign | ast.AnnAssign | ast.Expr) -> ast.AST | None:
        if (attribute := _attribute(node)) and hasattr(self.known["self"], attribute):
            return None
        self.generic_visit(node)
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        return None if names & _LEFT_OUT else node

    visit_AnnAssign = visit_Expr  # noqa: N815

    def visit_Assert(self, node: ast.Assert) -> ast.AST | None:
        values = self.values(node.test).values()
        return None if values and all(values) else self.generic_visit(node)


def _evaluated(node: ast.expr, scope: dict[str, Any]) -> Any:
    code = compile(ast.fix_missing_locations(ast.Expression(node)), "space", "eval")
    return eval(code, {}, scope)


def _is_known(value: object) -> bool:
    """Whether blocks look it up: enumerations, and tables of their members, as `GATES`."""
    if isinstance(value, dict):
        return all(isinstance(key, StrEnum) for key in value) and value is not space.blocks.BLOCKS
    return isinstance(value, type) and issubclass(value, StrEnum)


def _attribute(node: ast.AST) -> str:
    """The X of `self.X = …`."""
    found = re.match(r"self\.(\w+)(: [^=]+)? =", ast.unparse(node))
    return found[1] if found else ""


def _constant_attributes(definition: _Definition, network: Architecture) -> dict[str, Any]:
    """The attributes of a class that are constants, or layers that change nothing."""
    idle = ("nn.Identity()",) if network.stochastic_depth else ("nn.Identity()", "Dropout(0.0)")
    values: dict[str, list[ast.expr]] = {}
    for node in ast.walk(definition):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            values.setdefault(_attribute(node), []).append(node.value)
    once = {name: found[0] for name, found in values.items() if name and len(found) == 1}
    constants = {name: v.value for name, v in once.items() if isinstance(v, ast.Constant)}
    return constants | {name: _IDLE for name, v in once.items() if ast.unparse(v) in idle}


def _methods(definition: _Definition) -> list[ast.FunctionDef]:
    return [each for each in definition.body if isinstance(each, ast.FunctionDef)]


def _merged(definitions: list[_Definition]) -> list[_Definition]:
    """A class that a single other one extends becomes a part of it."""
    kinds = [each for each in definitions if isinstance(each, ast.ClassDef)]
    for base in kinds:
        heirs = [each for each in kinds if base.name in map(ast.unparse, each.bases)]
        if len(heirs) != 1 or ast.unparse(heirs[0]).count("super()") > 1:
            continue
        (heir,) = heirs
        own = {each.name: each for each in _methods(heir)}
        for method in _methods(base):
            if method.name == "__init__":
                own["__init__"].body[:1] = method.body
            elif method.name not in own:
                heir.body.append(method)
                begins = re.match(r"out = self\.(\w+)\(x\)", ast.unparse(method.body[0]))
                if begins and len(own[begins[1]].body) == 2:  # its result is called `out`, too
                    method.body[0] = own[begins[1]].body[0]
                    heir.body.remove(own[begins[1]])
        heir.bases = base.bases
        definitions.remove(base)
        for node in [node for each in definitions for node in ast.walk(each)]:
            if isinstance(node, ast.Name) and node.id == base.name:
                node.id = heir.name
    return definitions
