"""Weights that are linear expressions of parameters: the activation is multiplied by one parameter after the other.

`x (W + s A B)` becomes `x W + s ((x A) B)`, `x (g * V)` becomes `(x V) * g`: the same function, written on activations,
so that its graph is the one of a network that was written in that way. Expressions stay as they are where they are not
linear in each of their tensors, or where an intermediate value would be as large as the weight.

| operator | its computed operand |
|---|---|
| MatMul, Gemm, Einsum of two operands | either |
| Conv | the kernel (see `kernels_of`) |
| Gather along axis 0, by indices that are computed | the table (see `tables_of`) |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field

import onnx_ir as ir

from ..inference.shapes import Known
from .expressions import Expressions, NotLinear

__all__ = ["distribute"]

_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NONE = "."
"""In the place of a letter: an axis of size 1 that has none."""


def distribute(model: ir.Model, known: dict[ir.Value, Known], mixed: Set[ir.Value]) -> int:
    """Rewrite the contractions of a normalised model whose weight mixes parameters; returns how many were.

    known gains the new values. mixed: the values that are computed from several parameters, or places of one.
    """
    done = 0
    for node in list(model.graph):
        if node.domain or node.graph is None or mixed.issuperset(node.outputs):
            continue
        places = [i for i in _PLACES.get(node.op_type, ()) if i < len(node.inputs)]
        computed = [i for i in places if node.inputs[i] in mixed]
        if len(computed) == 1:
            done += _rewritten(_REWRITES[node.op_type], Expressions(node, known, mixed), computed[0])
    return done


def _rewritten(rewrite: Callable[[Expressions, int], ir.Value], made: Expressions, place: int) -> bool:
    try:
        result = rewrite(made, place)
    except NotLinear:
        return False
    made.replace(result)
    return True


@dataclass(frozen=True, slots=True)
class Term:
    """A value whose axes have letters, as in einsum."""

    value: ir.Value
    letters: str


@dataclass(slots=True)
class _Contraction:
    """`sum x * weight` over letters, one operand of the weight's expression after the other.

    out: the letters of the result. sizes: of every letter. cuts: for letters of which an expression is a part, how that
    is taken from an axis, the last step first. opened: whether any expression was taken apart.
    """

    made: Expressions
    out: str
    sizes: dict[str, int]
    cuts: dict[str, tuple[Callable[[ir.Value, int], ir.Value], ...]] = field(default_factory=dict)
    opened: bool = False

    def fresh(self, size: int) -> str:
        """A new letter."""
        letter = next(t for t in _ALPHABET if t not in self.sizes)
        self.sizes[letter] = size
        return letter

    def times(self, x: Term, value: ir.Value, letters: str, keep: str) -> Term:
        """`x` times an expression, with the letters `keep` left (those that there are)."""
        step = None if not self.made.computed(value) else _STEPS.get(self.made.operator(value))
        if step is None:
            return self._leaf(x, value, letters, keep)
        self.opened = True
        return step(self, x, value, letters, keep)

    def _leaf(self, x: Term, value: ir.Value, letters: str, keep: str) -> Term:
        value, letters = self.cut(value, letters)
        value = self.made.reshaped(value, [self.sizes[t] for t in letters])
        gone = [t for t in x.letters if t not in letters and t not in keep]
        if gone:
            x = self.summed(x, gone)
        contracted = [t for t in x.letters if t in letters and t not in keep]
        if not contracted and all(t in x.letters for t in letters):
            return self.joined("Mul", x, Term(value, letters))
        if not contracted or any(t not in keep and t not in x.letters for t in letters):
            raise NotLinear
        out = "".join(t for t in dict.fromkeys(x.letters + letters) if t in keep)
        shape = tuple(self.sizes[t] for t in out)
        if len(letters) == 2 and x.letters[-1:] == letters[:1] and out == x.letters[:-1] + letters[1:]:
            return Term(self.made.one("MatMul", x.value, value, shape=shape), out)
        equation = f"{x.letters},{letters}->{out}"
        return Term(self.made.one("Einsum", x.value, value, shape=shape, equation=equation), out)

    def cut(self, value: ir.Value, letters: str) -> tuple[ir.Value, str]:
        """The part of an operand that the letters mean, and its letters without axes of size 1."""
        for axis, letter in enumerate(letters):
            for take in reversed(self.cuts.get(letter, ())):
                value = take(value, axis)
        return value, letters.replace(_NONE, "")

    def summed(self, x: Term, gone: Sequence[str]) -> Term:
        """The sum over letters; axes of size 1 just go."""
        rest = "".join(t for t in x.letters if t not in gone)
        axes = [i for i, t in enumerate(x.letters) if t in gone and self.sizes[t] > 1]
        value = x.value if not axes else self.made.sum(x.value, axes)
        return Term(self.made.reshaped(value, [self.sizes[t] for t in rest]), rest)

    def joined(self, op: str, a: Term, b: Term) -> Term:
        """An elementwise operator of two terms, broadcast over the letters of both."""
        letters = a.letters + "".join(t for t in b.letters if t not in a.letters)
        operands = [self._aligned(t, letters) for t in (a, b)]
        return Term(self.made.one(op, *operands, shape=tuple(self.sizes[t] for t in letters)), letters)

    def _aligned(self, term: Term, letters: str) -> ir.Value:
        order = [term.letters.index(t) for t in letters if t in term.letters]
        value = self.made.transposed(term.value, order)
        first = next((i for i, t in enumerate(letters) if t in term.letters), len(letters))
        return self.made.reshaped(value, [self.sizes[t] if t in term.letters else 1 for t in letters[first:]])

    def ordered(self, term: Term, letters: str) -> ir.Value:
        """The value of a term over exactly these letters."""
        value = self._aligned(term, letters)
        return self.made.expanded(value, [self.sizes[t] for t in letters])

    def operands(self, value: ir.Value, letters: str) -> list[tuple[ir.Value, str]]:
        """The operands of an elementwise operator with their letters, none for axes along which they are broadcast."""
        found = []
        for operand in self.made.inputs(value):
            shape = self.made.shape(operand)
            own = letters[len(letters) - len(shape) :]
            found.append((operand, "".join(_NONE if n == 1 else t for n, t in zip(shape, own, strict=True))))
        return found

    def product(self, x: Term, first: tuple[ir.Value, str], then: tuple[ir.Value, str], keep: str) -> Term:
        """`x` times both, in the order in which no intermediate value has old and new letters at once."""
        for (a, own), (b, other) in sorted(
            ((first, then), (then, first)), key=lambda pair: self._rank(x, pair[0][1], keep)
        ):
            new = [t for t in own if t not in x.letters + _NONE]
            middle = [t for t in dict.fromkeys(x.letters + own) if t in other + keep]
            waiting = any(t in x.letters and t not in keep for t in middle)
            if not new or not waiting or any(t in x.letters and t not in middle for t in own):
                return self.times(self.times(x, a, own, "".join(middle)), b, other, keep)
        raise NotLinear

    def _rank(self, x: Term, letters: str, keep: str) -> int:
        """What sums over letters comes before what only scales the result."""
        return not any(t in x.letters and t not in keep for t in letters)


Step = Callable[["_Contraction", Term, ir.Value, str, str], Term]


def _same(c: _Contraction, x: Term, value: ir.Value, letters: str, keep: str) -> Term:
    return c.times(x, c.made.inputs(value)[0], letters, keep)


def _transpose(c: _Contraction, x: Term, value: ir.Value, letters: str, keep: str) -> Term:
    perm = c.made.permutation(value)
    own = [_NONE] * len(perm)
    for axis, letter in zip(perm, letters, strict=True):
        own[axis] = letter
    return c.times(x, c.made.inputs(value)[0], "".join(own), keep)


def _reshape(c: _Contraction, x: Term, value: ir.Value, letters: str, keep: str) -> Term:
    """Axes of size 1 come and go; axes that were merged are taken apart again, in `x` and in the result too."""
    source = c.made.inputs(value)[0]
    old, own, split = c.made.shape(source), "", {}
    groups = _groups(old, [1 if t == _NONE else c.sizes[t] for t in letters])
    for before, after in groups:
        names = [letters[i] for i in after if letters[i] != _NONE and c.sizes[letters[i]] > 1]
        wide = [i for i in before if old[i] > 1]
        if len(names) == len(wide) <= 1:
            renamed = iter(names)
            own += "".join(next(renamed) if i in wide else _NONE for i in before)
            continue
        if len(names) != 1 or names[0] in c.cuts:
            raise NotLinear
        split[names[0]] = "".join(c.fresh(old[i]) for i in wide)
        fresh = iter(split[names[0]])
        own += "".join(next(fresh) if i in wide else _NONE for i in before)
    if not split:
        return c.times(x, source, own, keep)

    def apart(text: str) -> str:
        return "".join(split.get(t, t) for t in text)

    wide_x = Term(c.made.reshaped(x.value, [c.sizes[t] for t in apart(x.letters)]), apart(x.letters))
    found = c.times(wide_x, source, own, apart(keep))
    together = [t for t in keep if t not in split or any(s in found.letters for s in split[t])]
    if any(s not in found.letters for t in together for s in split.get(t, "")):
        raise NotLinear
    order = apart("".join(together))
    rest = c._aligned(found, order)
    return Term(c.made.reshaped(rest, [c.sizes[t] for t in together]), "".join(together))


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Runs of axes with equally many entries, the shortest ones."""
    groups, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        before, after = [], []
        a = b = 1
        while True:
            if a <= b and i < len(old) and (a < b or not before):
                before.append(i)
                a *= old[i]
                i += 1
            elif j < len(new) and (b < a or not after):
                after.append(j)
                b *= new[j]
                j += 1
            else:
                break
        if a != b:
            raise NotLinear
        groups.append((before, after))
    return groups


def _sum(c: _Contraction, x: Term, value: ir.Value, letters: str, keep: str) -> Term:
    """Add, Sub, Sum: each operand by itself."""
    op = "Sub" if c.made.operator(value) == "Sub" else "Add"
    terms = [c.times(x, operand, own, keep) for operand, own in c.operands(value, letters)]
    total = terms[0]
    for term in terms[1:]:
        total = c.joined(op, total, term)
    return total


def _negative(c: _Contraction, x: Term, value: ir.Value, letters: str, keep: str) -> Term:
    term = c.times(x, c.made.inputs(value)[0], letters, keep)
    return Term(c.made.one("Neg", term.value, shape=tuple(c.sizes[t] for t in term.letters)), term.letters)


def _multiply(c: _Contraction, x: Term, value: ir.Value, letters: str, keep: str) -> Term:
    first, then = c.operands(value, letters)
    return c.product(x, first, then, keep)


def _divide(c: _Contraction, x: Term, value: ir.Value, letters: str, keep: str) -> Term:
    """The divisor scales the result, or it scales `x`."""
    (a, own), (divisor, other) = c.operands(value, letters)
    plain, under = c.cut(divisor, other)
    plain = c.made.reshaped(plain, [c.sizes[t] for t in under])
    if all(t in keep for t in under):
        return c.joined("Div", c.times(x, a, own, keep), Term(plain, under))
    if all(t in x.letters for t in under):
        return c.times(c.joined("Div", x, Term(plain, under)), a, own, keep)
    raise NotLinear


def _matmul(c: _Contraction, x: Term, value: ir.Value, letters: str, keep: str) -> Term:
    a, b = c.made.inputs(value)[:2]
    ranks = len(c.made.shape(a)), len(c.made.shape(b))
    if max(ranks) > 2 or min(ranks) < 1:
        raise NotLinear
    inner = c.fresh(c.made.shape(a)[-1])
    left = letters[: ranks[0] - 1] + inner
    right = inner + (letters[-1:] if ranks[1] == 2 else "")
    return c.product(x, (a, left), (b, right), keep)


def _gemm(c: _Contraction, x: Term, value: ir.Value, letters: str, keep: str) -> Term:
    a, b, *more = c.made.inputs(value)
    alpha, beta, flipped = c.made.gemm(value)
    inner = c.fresh(c.made.shape(a)[0 if flipped[0] else 1])
    left, right = letters[0] + inner, inner + letters[1]
    y = c.product(x, (a, left[::-1] if flipped[0] else left), (b, right[::-1] if flipped[1] else right), keep)
    y = _scaled(c, y, alpha)
    if not more:
        return y
    shape = c.made.shape(more[0])
    own = letters[len(letters) - len(shape) :]
    own = "".join(_NONE if n == 1 else t for n, t in zip(shape, own, strict=True))
    return c.joined("Add", y, _scaled(c, c.times(x, more[0], own, keep), beta))


def _scaled(c: _Contraction, term: Term, factor: float) -> Term:
    if factor == 1:
        return term
    shape = tuple(c.sizes[t] for t in term.letters)
    return Term(c.made.one("Mul", term.value, c.made.number(term.value, factor), shape=shape), term.letters)


def _einsum(c: _Contraction, x: Term, value: ir.Value, letters: str, keep: str) -> Term:
    operands, (terms, out) = c.made.inputs(value), c.made.equation(value)
    if len(operands) != 2 or any(len(set(t)) < len(t) for t in terms):
        raise NotLinear
    names = dict(zip(out, letters, strict=True))
    for operand, term in zip(operands, terms, strict=True):
        for letter, size in zip(term, c.made.shape(operand), strict=True):
            if letter not in names:
                names[letter] = c.fresh(size)
    first, then = ((v, "".join(names[t] for t in term)) for v, term in zip(operands, terms, strict=True))
    return c.product(x, first, then, keep)


def _concat(c: _Contraction, x: Term, value: ir.Value, letters: str, keep: str) -> Term:
    """A sum over parts of `x`, or parts of the result."""
    axis, parts = c.made.axis(value), c.made.inputs(value)
    letter = letters[axis]
    if letter in c.cuts or letter == _NONE or (letter in x.letters and letter in keep):
        raise NotLinear
    size, at, found = c.sizes[letter], 0, []
    for part in parts:
        own = c.sizes[letter] = c.made.shape(part)[axis]
        here = x
        if letter in x.letters:
            here = Term(c.made.sliced(x.value, x.letters.index(letter), at, at + own), x.letters)
        found.append(c.times(here, part, letters, keep))
        at += own
    contracted = letter in x.letters
    if contracted:
        c.sizes[letter] = size
        total = found[0]
        for term in found[1:]:
            total = c.joined("Add", total, term)
        return total
    if any(t.letters != found[0].letters or letter not in t.letters for t in found):
        raise NotLinear
    c.sizes[letter] = size
    shape = tuple(c.sizes[t] for t in found[0].letters)
    at = found[0].letters.index(letter)
    return Term(c.made.one("Concat", *(t.value for t in found), shape=shape, axis=at), found[0].letters)


def _part(c: _Contraction, x: Term, value: ir.Value, letters: str, keep: str) -> Term:
    """Slice, Split, Gather at known places: of every operand of the expression."""
    steps = c.made.parts(value)
    before = dict(c.cuts)
    for axis, take in steps:
        letter = letters[axis]
        if letter == _NONE:
            raise NotLinear
        c.cuts[letter] = (*c.cuts.get(letter, ()), take)
    try:
        return c.times(x, c.made.inputs(value)[0], letters, keep)
    finally:
        c.cuts = before


_STEPS: Mapping[str, Step] = {
    **dict.fromkeys(("Identity", "Cast", "CastLike", "Dropout"), _same),
    **dict.fromkeys(("Add", "Sub", "Sum"), _sum),
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Flatten"), _reshape),
    **dict.fromkeys(("Slice", "Split", "Gather"), _part),
    "Transpose": _transpose,
    "Neg": _negative,
    "Mul": _multiply,
    "Div": _divide,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Einsum": _einsum,
    "Concat": _concat,
}


def _contracted(made: Expressions, x: ir.Value, weight: ir.Value, letters: tuple[str, str, str]) -> ir.Value:
    """The contraction by letters of x, weight and result, taken apart. Raises `NotLinear` where it cannot be."""
    left, right, out = letters
    sizes = dict(zip(left, made.shape(x), strict=True)) | dict(zip(right, made.shape(weight), strict=True))
    c = _Contraction(made, out, sizes)
    own = "".join(_NONE if n == 1 else t for n, t in zip(made.shape(weight), right, strict=True))
    term = c.times(Term(x, left), weight, own, out)
    if not c.opened:
        raise NotLinear
    gone = [t for t in term.letters if t not in out]
    return c.ordered(c.summed(term, gone) if gone else term, out)


def _of_matmul(made: Expressions, place: int) -> ir.Value:
    x, weight = made.node.inputs[1 - place], made.node.inputs[place]
    assert x is not None
    assert weight is not None
    rank, batch = len(made.shape(x)), "abcdefghijkl"
    if len(made.shape(weight)) != 2 or rank < 1:
        raise NotLinear
    if place == 1:
        return _contracted(made, x, weight, (f"{batch[: rank - 1]}y", "yz", f"{batch[: rank - 1]}z"))
    if rank == 1:
        return _contracted(made, x, weight, ("y", "zy", "z"))
    lead = batch[: rank - 2]
    return _contracted(made, x, weight, (f"{lead}yw", "zy", f"{lead}zw"))


def _of_gemm(made: Expressions, place: int) -> ir.Value:
    node = made.node
    alpha, beta, flipped = made.gemm(node.outputs[0])
    x, weight = node.inputs[1 - place], node.inputs[place]
    assert x is not None
    assert weight is not None
    terms = ["ym" if flipped[0] else "my", "zy" if flipped[1] else "yz"]
    y = _contracted(made, x, weight, (terms[1 - place], terms[place], "mz"))
    if alpha != 1:
        y = made.one("Mul", y, made.number(y, alpha), shape=made.shape(y))
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None or beta == 0:
        return y
    if beta != 1:
        bias = made.one("Mul", bias, made.number(y, beta), shape=made.shape(bias))
    return made.one("Add", y, bias, shape=made.shape(y))


def _of_einsum(made: Expressions, place: int) -> ir.Value:
    terms, out = made.equation(made.node.outputs[0])
    x, weight = made.node.inputs[1 - place], made.node.inputs[place]
    if len(made.node.inputs) != 2 or x is None or weight is None or any(len(set(t)) < len(t) for t in terms):
        raise NotLinear
    return _contracted(made, x, weight, (terms[1 - place], terms[place], out))


def _of_conv(made: Expressions, place: int) -> ir.Value:
    """`kernels_of`: scales of channels go before or after, sums become sums, low-rank kernels two convolutions."""
    node = made.node
    x, kernel = node.inputs[0], node.inputs[1]
    assert x is not None
    assert kernel is not None
    y = _convolved(made, x, kernel, top=True)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        return y
    ones = [1] * (len(made.shape(y)) - 2)
    return made.one("Add", y, made.reshaped(bias, [*made.shape(bias), *ones]), shape=made.shape(y))


def _convolved(made: Expressions, x: ir.Value, kernel: ir.Value, top: bool = False) -> ir.Value:
    shape = made.shape(kernel)
    out = (made.shape(made.node.outputs[0])[0], shape[0], *made.shape(made.node.outputs[0])[2:])
    op = made.operator(kernel) if made.computed(kernel) else ""
    ones = [1] * (len(shape) - 2)
    if op in ("Identity", "Cast", "CastLike"):
        return _convolved(made, x, made.inputs(kernel)[0], top)
    if op in ("Add", "Sub") and all(made.shape(v) == shape for v in made.inputs(kernel)):
        return made.one(op, *(_convolved(made, x, v) for v in made.inputs(kernel)), shape=out)
    if op == "Neg":
        return made.one("Neg", _convolved(made, x, made.inputs(kernel)[0]), shape=out)
    if op in ("Mul", "Div"):
        a, b = made.inputs(kernel)
        if op == "Mul" and made.shape(a) != shape:
            a, b = b, a
        if made.shape(a) == shape:
            own = (1,) * (len(shape) - len(made.shape(b))) + made.shape(b)
            wide = [i for i, n in enumerate(own) if n > 1]
            if wide in ([], [0]):
                return made.one(
                    op, _convolved(made, x, a), made.reshaped(b, [shape[0], *ones] if wide else []), shape=out
                )
            if wide == [1] and made.node.attributes.get_int("group", 1) == 1:
                scaled = made.one(op, x, made.reshaped(b, [shape[1], *ones]), shape=made.shape(x))
                return _convolved(made, scaled, a)
    if op == "Reshape":
        source = made.inputs(kernel)[0]
        inner = made.operator(source) if made.computed(source) else ""
        if inner == "MatMul" and made.node.attributes.get_int("group", 1) == 1:
            a, b = made.inputs(source)
            if made.shape(source)[0] == shape[0] and len(made.shape(a)) == len(made.shape(b)) == 2:
                small = _convolved(made, x, made.reshaped(b, [made.shape(b)[0], *shape[1:]]))
                return made.one("Conv", small, made.reshaped(a, [*made.shape(a), *ones]), shape=out)
        if inner in ("Add", "Sub", "Mul", "Div", "Neg"):
            return _convolved(made, x, made.pushed(source, shape))
    if top:
        raise NotLinear
    attributes = dict(made.node.attributes.items())
    return made.one("Conv", x, kernel, shape=out, keep=attributes)


def _of_gather(made: Expressions, place: int) -> ir.Value:
    """`tables_of`: rows of an elementwise expression, or of a product, are that of the rows."""
    node = made.node
    table, indices = node.inputs[0], node.inputs[1]
    if node.attributes.get_int("axis", 0) or table is None or indices is None or len(made.shape(table)) != 2:
        raise NotLinear
    return _rows(made, table, indices, top=True)


def _rows(made: Expressions, table: ir.Value, indices: ir.Value, top: bool = False) -> ir.Value:
    shape = made.shape(table)
    if len(shape) < 2 or shape[0] == 1:
        return table
    out = (*made.shape(indices), *shape[1:])
    op = made.operator(table) if made.computed(table) else ""
    if op in ("Add", "Sub", "Mul", "Div"):
        return made.one(op, *(_rows(made, v, indices) for v in made.inputs(table)), shape=out)
    if op == "Neg":
        return made.one(op, _rows(made, made.inputs(table)[0], indices), shape=out)
    if op == "MatMul" and len(made.shape(made.inputs(table)[0])) == 2:
        a, b = made.inputs(table)
        return made.one("MatMul", _rows(made, a, indices), b, shape=out)
    if top:
        raise NotLinear
    return made.one("Gather", table, indices, shape=out, axis=0)


_PLACES = {"MatMul": (0, 1), "Gemm": (0, 1), "Einsum": (0, 1), "Conv": (1,), "Gather": (0,)}
_REWRITES: Mapping[str, Callable[[Expressions, int], ir.Value]] = {
    "MatMul": _of_matmul,
    "Gemm": _of_gemm,
    "Einsum": _of_einsum,
    "Conv": _of_conv,
    "Gather": _of_gather,
}
