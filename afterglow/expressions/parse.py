"""From text to tree: Jinja's parser reads, and only the nodes listed here pass.

Jinja is used for its grammar alone; nothing of it runs. Its tokens carry a line number only, so the offset of
each token is put in place of the line: every node then knows exactly where it stands, and so does every
error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from itertools import takewhile
from typing import Final, TypeVar

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.lexer import TokenStream
from jinja2.parser import Parser

from afterglow.expressions.filters import DATE_FORMATS, FILTERS
from afterglow.expressions.tree import (
    And,
    Arithmetic,
    Block,
    Call,
    Choice,
    Compare,
    Constant,
    DictOf,
    ExpressionError,
    Filtered,
    Get,
    Is,
    Join,
    ListOf,
    Loop,
    Name,
    Node,
    Not,
    Or,
    Output,
    Past,
    Static,
    When,
)  # fmt: skip
from afterglow.expressions.values import MISSING, plain
from afterglow.problems import did_you_mean

MAX_EXPRESSION: Final = 2_000
MAX_TEMPLATE: Final = 500_000
MAX_DEPTH: Final = 30
MAX_NODES: Final = 300
#: Blocks within blocks in a text, and loops within loops.
MAX_BLOCKS: Final = 10
MAX_LOOPS: Final = 2

TESTS: Final = frozenset({"defined", "missing", "none"})
#: Functions over a customer's events.
PAST: Final = frozenset({"count", "first", "last", "sum"})
_OPERATORS: Final = {
    "eq": "==", "ne": "!=", "lt": "<", "lteq": "<=", "gt": ">", "gteq": ">=", "in": "in", "notin": "not in",
}  # fmt: skip
_ARITHMETIC: Final[dict[type[nodes.Expr], str]] = {
    nodes.Add: "+",
    nodes.Sub: "-",
    nodes.Mul: "*",
    nodes.Div: "/",
}
_REFUSED: Final[dict[type[nodes.Node], str]] = {
    nodes.Pow: "'**' is not part of the language.",
    nodes.Mod: "'%' is not part of the language; join text with '~'.",
    nodes.FloorDiv: "'//' is not part of the language; divide with '/' and cut off with '| int'.",
    nodes.Slice: "Parts of a list or text ('[1:2]') cannot be taken; use '| first' or '| last'.",
    nodes.Tuple: "Write a list in square brackets: ['a', 'b'].",
    nodes.Include: "'include' is not part of the language.",
    nodes.Import: "'import' is not part of the language.",
    nodes.FromImport: "'import' is not part of the language.",
    nodes.Extends: "'extends' is not part of the language.",
    nodes.Block: "'block' is not part of the language.",
    nodes.Macro: "'macro' is not part of the language.",
    nodes.CallBlock: "'call' is not part of the language.",
    nodes.FilterBlock: "'filter' blocks are not part of the language; use '{{ value | filter }}'.",
    nodes.Assign: "'set' is not part of the language.",
    nodes.AssignBlock: "'set' is not part of the language.",
    nodes.With: "'with' is not part of the language.",
    nodes.Scope: "'autoescape' is not part of the language; texts escape by themselves.",
}
_Parsed = TypeVar("_Parsed")
_NEWLINE = re.compile(r"\r\n|\r")


class _Environment(Environment):
    """Jinja's grammar with offsets (from 1) in place of line numbers."""

    def _tokenize(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> TokenStream:
        tokens = self.lexer.tokeniter(source, name, filename, state)
        return TokenStream(self.lexer.wrap(_with_offsets(tokens, source), name, filename), name, filename)


_ENVIRONMENT: Final = _Environment(keep_trailing_newline=True)


def _with_offsets(tokens: Iterator[tuple[int, str, str]], source: str) -> Iterator[tuple[int, str, str]]:
    """The tokens with their offset for a line, found by looking on from the last one.

    Looking (rather than adding lengths up) because `{%-` makes the lexer drop white space; a token begins
    with none where that happens, so the next place its text stands is its own.
    """
    position = 0
    while True:
        try:
            _, kind, value = next(tokens)
        except StopIteration:
            return
        except TemplateSyntaxError as error:
            raise _error(source, position, _sentence(error.message or "")) from None
        start = source.find(value, position)
        if kind == "raw_begin":
            raise _error(source, start, "'raw' is not part of the language.")
        yield start + 1, kind, value
        position = start + len(value)


def _error(source: str, offset: int, message: str) -> ExpressionError:
    offset = max(0, min(offset, len(source)))
    line_start = source.rfind("\n", 0, offset) + 1
    return ExpressionError(message, source.count("\n", 0, offset) + 1, offset - line_start + 1)


def _sentence(message: str) -> str:
    """What Jinja's parser has to say, in the words of this house."""
    expected = re.match(r"[Ee]xpected token '(.+?)', got '(.+?)'", message)
    unexpected = re.match(r"unexpected (?:char )?'(.+?)'", message)
    unknown = re.match(r"Encountered unknown tag '(.+?)'", message)
    unclosed = re.search(r"innermost block that needs to be closed is '(.+?)'", message)
    if unclosed:
        return f"'{{% {unclosed[1]} %}}' is not closed where it should be: add '{{% end{unclosed[1]} %}}'."
    if "end of comment" in message:
        return "This comment is not closed: add '#}'."
    if unknown and unknown[1].startswith("end"):
        return f"'{{% {unknown[1]} %}}' closes nothing here."
    if unknown:
        return f"'{{% {unknown[1]} %}}' is not part of the language: only 'if' and 'for' are."
    if "end of template" in message or "end of print statement" in message:
        return "Something is missing at the end of the expression: a value, or a closing bracket."
    if expected:
        return f"'{expected[2]}' does not belong here: '{expected[1]}' should stand in its place."
    if unexpected:
        return f"'{unexpected[1]}' does not belong here."
    return f"This cannot be read: {message.rstrip('.')}."


def _only_expression(parser: Parser) -> nodes.Expr:
    expression = parser.parse_expression()
    if not parser.stream.eos:
        parser.fail(f"unexpected '{parser.stream.current.value}'", parser.stream.current.lineno)
    return expression


class Reader:
    """Turns Jinja's nodes into our tree, and notes on the way which names and calls the text contains.

    `names` leaves out loop variables, and a name goes as far as it is certain: `order.items[0].title` is
    noted as `order.items`. Every method raises ExpressionError with the place of what it refuses.
    """

    def __init__(self, text: str, functions: Collection[str]) -> None:
        self.source = _NEWLINE.sub("\n", text)
        self.functions = functions
        self.names: set[str] = set()
        self.calls: set[tuple[str, tuple[object, ...]]] = set()
        self.past: list[Past] = []
        self._bound: tuple[str, ...] = ()
        self._nodes_left = MAX_NODES

    def expression(self) -> Node:
        """The whole text as one expression."""
        if len(self.source) > MAX_EXPRESSION:
            raise ExpressionError(f"An expression has at most {MAX_EXPRESSION:,} characters.", 1, 1)
        if not self.source.strip():
            raise ExpressionError("An expression is expected here.", 1, 1)
        if self.source.lstrip().startswith("{{"):
            raise ExpressionError("An expression stands here without curly brackets.", 1, 1)
        return self._node(self._parsed(lambda: _only_expression(Parser(_ENVIRONMENT, self.source, state="variable"))))

    def template(self) -> tuple[Block, ...]:
        """The whole text as a template."""
        if len(self.source) > MAX_TEMPLATE:
            raise ExpressionError(f"A text has at most {MAX_TEMPLATE:,} characters.", 1, 1)
        return self._blocks(self._parsed(lambda: Parser(_ENVIRONMENT, self.source).parse()).body, 0)

    def _parsed(self, parse: Callable[[], _Parsed]) -> _Parsed:
        try:
            return parse()
        except ExpressionError:
            raise
        except TemplateSyntaxError as error:
            raise _error(self.source, error.lineno - 1, _sentence(error.message or "")) from None
        except RecursionError:
            raise ExpressionError("This is nested too deeply to be read.", 1, 1) from None
        except ValueError:  # a whole number of more than 4,300 digits
            raise ExpressionError("A number in this text is too long to be read.", 1, 1) from None

    def _refusal(self, node: nodes.Node, message: str) -> ExpressionError:
        # A few of Jinja's nodes have no place of their own; what is inside them has.
        places = (inner.lineno for inner in (node, *node.find_all(nodes.Node)) if inner.lineno)
        return _error(self.source, next(places, 1) - 1, message)

    # Blocks of a template

    def _blocks(self, body: list[nodes.Node], depth: int) -> tuple[Block, ...]:
        if body and depth > MAX_BLOCKS:
            raise self._refusal(body[0], f"Blocks are nested more than {MAX_BLOCKS} deep.")
        return tuple(block for node in body for block in self._block(node, depth))

    def _block(self, node: nodes.Node, depth: int) -> Iterator[Block]:
        match node:
            case nodes.Output():
                for part in node.nodes:
                    yield Static(part.data) if isinstance(part, nodes.TemplateData) else self._output(part)
            case nodes.If():
                branches = [(node.test, node.body), *((other.test, other.body) for other in node.elif_)]
                yield When(
                    tuple((self._fresh(test), self._blocks(body, depth + 1)) for test, body in branches),
                    self._blocks(node.else_, depth + 1),
                )
            case nodes.For():
                yield self._loop(node, depth)
            case _:
                raise self._refusal(
                    node, _REFUSED.get(type(node), "Only 'if' and 'for' blocks are part of the language.")
                )

    def _output(self, node: nodes.Node) -> Output:
        before, self.names = self.names, set()
        tree = self._fresh(node)
        names, self.names = self.names, before | self.names
        opened = self.source.rfind("{{", 0, node.lineno - 1) + 2
        written = self.source[opened : self.source.find("}}", node.lineno - 1)]
        start = opened + len(written) - len(written.lstrip("-+ \t\n"))
        place = _error(self.source, start, "")
        return Output(tree, frozenset(names), written.strip("-+ \t\n"), place.line, place.col)

    def _loop(self, node: nodes.For, depth: int) -> Loop:
        if not isinstance(node.target, nodes.Name):
            raise self._refusal(node, "A loop has one variable: {% for item in order.items %}.")
        if node.test is not None or node.recursive or node.else_:
            raise self._refusal(
                node, "A loop is only {% for item in list %} ... {% endfor %}; use 'where' to choose items."
            )
        if len(self._bound) == MAX_LOOPS:
            raise self._refusal(node, f"Loops are nested more than {MAX_LOOPS} deep.")
        variable = self._name(node, node.target.name)
        items = self._fresh(node.iter)
        outside, self._bound = self._bound, (*self._bound, variable)
        body = self._blocks(node.body, depth + 1)
        self._bound = outside
        place = _error(self.source, node.lineno - 1, "")
        return Loop(variable, items, body, place.line, place.col)

    # Expressions

    def _fresh(self, node: nodes.Node) -> Node:
        """One expression of a template, with a bound on its size of its own."""
        self._nodes_left = MAX_NODES
        return self._node(node)

    def _node(self, node: nodes.Node, depth: int = 1) -> Node:
        self._nodes_left -= 1
        if depth > MAX_DEPTH:
            raise self._refusal(node, f"This expression is nested more than {MAX_DEPTH} deep; make it several.")
        if self._nodes_left < 0:
            raise self._refusal(node, f"This expression has more than {MAX_NODES} parts; make it several.")
        match node:
            case nodes.Const():
                return Constant(self._constant(node, node.value))
            case nodes.Name() | nodes.Getattr() | nodes.Getitem():
                return self._path(node, depth)
            case nodes.Compare():
                rest = tuple((_OPERATORS[part.op], self._node(part.expr, depth + 1)) for part in node.ops)
                return Compare(self._node(node.expr, depth + 1), rest)
            case nodes.And():
                return And(tuple(self._node(part, depth + 1) for part in _chain(node, nodes.And)))
            case nodes.Or():
                return Or(tuple(self._node(part, depth + 1) for part in _chain(node, nodes.Or)))
            case nodes.Not():
                return Not(self._node(node.node, depth + 1))
            case nodes.Add() | nodes.Sub() | nodes.Mul() | nodes.Div():
                left, right = self._node(node.left, depth + 1), self._node(node.right, depth + 1)
                return Arithmetic(_ARITHMETIC[type(node)], left, right)
            case nodes.Neg() | nodes.Pos():
                return Arithmetic(
                    "-" if isinstance(node, nodes.Neg) else "+", Constant(0), self._node(node.node, depth + 1)
                )
            case nodes.Concat():
                return Join(tuple(self._node(part, depth + 1) for part in node.nodes))
            case nodes.CondExpr():
                otherwise = None if node.expr2 is None else self._node(node.expr2, depth + 1)
                return Choice(self._node(node.test, depth + 1), self._node(node.expr1, depth + 1), otherwise)
            case nodes.List():
                return ListOf(tuple(self._node(item, depth + 1) for item in node.items))
            case nodes.Dict():
                return DictOf(tuple((self._key(pair), self._node(pair.value, depth + 1)) for pair in node.items))
            case nodes.Filter():
                return self._filtered(node, depth)
            case nodes.Test():
                return self._test(node, depth)
            case nodes.Call():
                return self._call(node, depth)
            case _:
                raise self._refusal(node, _REFUSED.get(type(node), "This is not part of the language."))

    def _constant(self, node: nodes.Node, value: object) -> object:
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                raise self._refusal(node, "This text contains half a character.") from None
        constant = plain(value)
        if constant is MISSING:
            raise self._refusal(node, "This number is too large.")
        return constant

    def _name(self, node: nodes.Node, name: str) -> str:
        if name.startswith("__"):
            raise self._refusal(node, f"'{name}': names do not begin with two underscores.")
        return name

    def _path(self, node: nodes.Node, depth: int) -> Node:
        """A name and what is read from it, noted as one dotted name; anything else keeps its own base."""
        keys: list[str | int] = []
        inner = node
        while isinstance(inner, nodes.Getattr | nodes.Getitem):
            keys.append(self._name(inner, inner.attr) if isinstance(inner, nodes.Getattr) else self._subscript(inner))
            inner = inner.node
        if len(keys) + depth > MAX_DEPTH:
            raise self._refusal(node, f"This expression is nested more than {MAX_DEPTH} deep; make it several.")
        keys.reverse()
        tree: Node
        if isinstance(inner, nodes.Name):
            name = self._name(inner, inner.name)
            tree = Name(name)
            if name not in self._bound:
                certain = list(takewhile(lambda key: isinstance(key, str), keys))
                self.names.add(".".join([name, *map(str, certain)]))
        else:
            tree = self._node(inner, depth + 1)
        for key in keys:
            tree = Get(tree, key)
        return tree

    def _subscript(self, node: nodes.Getitem) -> str | int:
        match node.arg:
            case nodes.Const(value=str() as key):
                return self._name(node, key)
            case nodes.Const(value=int() as position) if not isinstance(position, bool):
                return position
            case nodes.Neg(node=nodes.Const(value=int() as position)) if not isinstance(position, bool):
                return -position
            case nodes.Slice():
                raise self._refusal(node, _REFUSED[nodes.Slice])
            case _:
                raise self._refusal(node, "Square brackets take a text or a whole number: body['a name'] or items[0].")

    def _key(self, pair: nodes.Pair) -> str:
        match pair.key:
            case nodes.Const(value=str() as key):
                return self._name(pair, key)
            case _:
                raise self._refusal(pair, "The keys of a dictionary are texts in quotes: {'id': order.id}.")

    def _filtered(self, node: nodes.Filter, depth: int) -> Node:
        known = FILTERS.get(node.name)
        if known is None:
            raise self._refusal(node, f"'{node.name}' is not a filter.{did_you_mean(node.name, FILTERS)}")
        if node.node is None:
            raise self._refusal(node, _REFUSED[nodes.FilterBlock])
        if node.kwargs or node.dyn_args or node.dyn_kwargs:
            raise self._refusal(node, f"Write the arguments of '{node.name}' without names: price('EUR').")
        if not known.fewest <= len(node.args) <= known.most:
            raise self._refusal(node, f"'{node.name}' takes {_count(known.fewest, known.most)}, not {len(node.args)}.")
        arguments = tuple(self._node(argument, depth + 1) for argument in node.args)
        self._check_arguments(node, arguments)
        return Filtered(self._node(node.node, depth + 1), node.name, arguments)

    def _check_arguments(self, node: nodes.Filter, arguments: tuple[Node, ...]) -> None:
        """What can be told before any customer comes by: the names and words given as written-out text."""
        match node.name, arguments:
            case (("map" | "where" | "sum"), (Constant(value=str() as attribute), *_)):
                for part in attribute.split("."):
                    self._name(node, part)
            case "date", (Constant(value=str() as words), *_) if words not in DATE_FORMATS:
                known = ", ".join(f"'{word}'" for word in sorted(DATE_FORMATS))
                raise self._refusal(node, f"'{words}' is not a way to write a date: use {known}.")

    def _test(self, node: nodes.Test, depth: int) -> Node:
        if node.name not in TESTS:
            meant = " Did you mean 'missing'?" if node.name == "undefined" else did_you_mean(node.name, TESTS)
            raise self._refusal(
                node, f"'is {node.name}' is not a test: there are 'defined', 'missing' and 'none'.{meant}"
            )
        if node.args or node.kwargs or node.dyn_args or node.dyn_kwargs:
            raise self._refusal(node, f"'is {node.name}' takes no arguments.")
        return Is(self._node(node.node, depth + 1), node.name)

    def _call(self, node: nodes.Call, depth: int) -> Node:
        if not isinstance(node.node, nodes.Name):
            raise self._refusal(node, "Only a plain name can be called; to work on a value write 'value | filter'.")
        name = node.node.name
        if name not in self.functions:
            allowed = did_you_mean(name, self.functions)
            raise self._refusal(node, f"'{name}' cannot be called here.{allowed}")
        if name in PAST:
            return self._past(node, name, depth)
        if node.kwargs or node.dyn_args or node.dyn_kwargs:
            raise self._refusal(node, f"Write the arguments of '{name}' without names.")
        arguments: list[object] = []
        for argument in node.args:
            if not isinstance(argument, nodes.Const):
                raise self._refusal(argument, f"'{name}' takes written-out values only, such as {name}('friends').")
            arguments.append(self._constant(argument, argument.value))
        self.calls.add((name, tuple(arguments)))
        return Call(name, tuple(arguments))

    def _past(self, node: nodes.Call, name: str, depth: int) -> Node:
        """`sum("order.paid", order.total, where=..., within="90 days")`."""
        takes = 2 if name == "sum" else 1
        event = node.args[0] if node.args else None
        if not (isinstance(event, nodes.Const) and isinstance(event.value, str)):
            raise self._refusal(node, f"'{name}' begins with the name of an event: {name}(\"order.paid\").")
        if len(node.args) != takes or node.dyn_args or node.dyn_kwargs:
            what = "an event and what is added up" if takes == 2 else "one event"
            raise self._refusal(node, f"'{name}' takes {what}, then where= and within= by their names.")
        given = {pair.key: pair.value for pair in node.kwargs}
        for key in given:
            if key not in ("where", "within"):
                meant = did_you_mean(key, ("where", "within"))
                raise self._refusal(node, f"'{name}' takes where= and within=, not '{key}'.{meant}")
        within = given.get("within")
        if within is not None and not (isinstance(within, nodes.Const) and isinstance(within.value, str)):
            raise self._refusal(within, "'within' is a length of time in quotes: within=\"90 days\".")
        # What stands inside reads the event alone: its names are no names of the expression, and nothing is called.
        outside, self.names, functions, self.functions = self.names, set(), self.functions, ()
        amount = self._node(node.args[1], depth + 1) if takes == 2 else None
        where = self._node(given["where"], depth + 1) if "where" in given else None
        self.names, self.functions = outside, functions
        length = within.value if isinstance(within, nodes.Const) else None
        past = Past(name, event.value, amount, where, length, self._call_text(name, node.lineno - 1))
        self.past.append(past)
        return past

    def _call_text(self, name: str, bracket: int) -> str:
        """A call as it is written, whose opening bracket stands at an offset."""
        depth, quote = 0, ""
        for at, char in enumerate(self.source[bracket:], bracket):
            if quote:
                quote = "" if char == quote else quote
            elif char in "\"'":
                quote = char
            elif char in "([{":
                depth += 1
            elif char in ")]}":
                depth -= 1
                if not depth:
                    return name + self.source[bracket : at + 1]
        return name


def _chain(node: nodes.BinExpr, kind: type[nodes.BinExpr]) -> list[nodes.Expr]:
    """`a and b and c` is nested to the left by the parser; here it is one row."""
    parts = []
    inner: nodes.Expr = node
    while isinstance(inner, kind):
        parts.append(inner.right)
        inner = inner.left
    return [inner, *reversed(parts)]


def _count(fewest: int, most: int) -> str:
    if most == 0:
        return "no arguments"
    if fewest == most:
        return "one argument" if most == 1 else f"{most} arguments"
    return f"{fewest} to {most} arguments"
