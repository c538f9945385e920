"""Contracts an activation with a weight that is an expression, one tensor of the expression after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir

from .expressions import Expressions, NotLinear

__all__ = ["Contraction", "Term", "contracted"]

_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NONE = "."
"""Stands for an axis of size 1, which has no letter."""


@dataclass(frozen=True, slots=True)
class Term:
    """A value whose axes have letters, as in einsum."""

    value: onnx_ir.Value
    letters: str


@dataclass(slots=True)
class Contraction:
    """`sum x * weight` over letters, distributed over the operands of the weight's expression.

    sizes: the size of every letter. cuts: for letters along which the weight is a part of its expression, the functions
    that take that part from an axis, the last one first. distributed: whether any expression was taken apart.
    """

    made: Expressions
    sizes: dict[str, int]
    cuts: dict[str, tuple[Callable[[onnx_ir.Value, int], onnx_ir.Value], ...]] = field(default_factory=dict)
    distributed: bool = False

    def fresh(self, size: int) -> str:
        """A new letter."""
        letter = next((t for t in _ALPHABET if t not in self.sizes), None)
        if letter is None:
            raise NotLinear
        self.sizes[letter] = size
        return letter

    def times(self, x: Term, value: onnx_ir.Value, letters: str, keep: str) -> Term:
        """`x` times an expression, summed over all letters that are not in `keep`."""
        step = None if not self.made.computed(value) else _REWRITES.get(self.made.operator(value))
        if step is None:
            return self._leaf(x, value, letters, keep)
        self.distributed = True
        return step(self, x, value, letters, keep)

    def _leaf(self, x: Term, value: onnx_ir.Value, letters: str, keep: str) -> Term:
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

    def cut(self, value: onnx_ir.Value, letters: str) -> tuple[onnx_ir.Value, str]:
        """Apply the cuts to an operand; also returns its letters without axes of size 1."""
        for axis, letter in enumerate(letters):
            for take in reversed(self.cuts.get(letter, ())):
                value = take(value, axis)
        return value, letters.replace(_NONE, "")

    def summed(self, x: Term, gone: Sequence[str]) -> Term:
        """The sum over letters; axes of size 1 are only dropped."""
        rest = "".join(t for t in x.letters if t not in gone)
        axes = [i for i, t in enumerate(x.letters) if t in gone and self.sizes[t] > 1]
        value = x.value if not axes else self.made.sum(x.value, axes)
        return Term(self.made.reshaped(value, [self.sizes[t] for t in rest]), rest)

    def joined(self, op: str, a: Term, b: Term) -> Term:
        """An elementwise operator of two terms, broadcast over the letters of both."""
        letters = a.letters + "".join(t for t in b.letters if t not in a.letters)
        operands = [self._aligned(t, letters) for t in (a, b)]
        return Term(self.made.one(op, *operands, shape=tuple(self.sizes[t] for t in letters)), letters)

    def _aligned(self, term: Term, letters: str) -> onnx_ir.Value:
        order = [term.letters.index(t) for t in letters if t in term.letters]
        value = self.made.transposed(term.value, order)
        first = next((i for i, t in enumerate(letters) if t in term.letters), len(letters))
        return self.made.reshaped(value, [self.sizes[t] if t in term.letters else 1 for t in letters[first:]])

    def ordered(self, term: Term, letters: str) -> onnx_ir.Value:
        """The value of a term over exactly these letters."""
        value = self._aligned(term, letters)
        return self.made.expanded(value, [self.sizes[t] for t in letters])

    def operands(self, value: onnx_ir.Value, letters: str) -> list[tuple[onnx_ir.Value, str]]:
        """The operands of an elementwise operator with their letters, none for axes along which they are broadcast."""
        found = []
        for operand in self.made.inputs(value):
            shape = self.made.shape(operand)
            own = letters[len(letters) - len(shape) :]
            found.append((operand, "".join(_NONE if n == 1 else t for n, t in zip(shape, own, strict=True))))
        return found

    def product(self, x: Term, first: tuple[onnx_ir.Value, str], then: tuple[onnx_ir.Value, str], keep: str) -> Term:
        """`x` times both, in an order in which no intermediate value has both old and new letters."""
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
        """The sort key of an operand: those that are summed over come before those that only scale the result."""
        return not any(t in x.letters and t not in keep for t in letters)


Rewrite = Callable[["Contraction", Term, onnx_ir.Value, str, str], Term]


def _same(c: Contraction, x: Term, value: onnx_ir.Value, letters: str, keep: str) -> Term:
    return c.times(x, c.made.inputs(value)[0], letters, keep)


def _transpose(c: Contraction, x: Term, value: onnx_ir.Value, letters: str, keep: str) -> Term:
    perm = c.made.permutation(value)
    own = [_NONE] * len(perm)
    for axis, letter in zip(perm, letters, strict=True):
        own[axis] = letter
    return c.times(x, c.made.inputs(value)[0], "".join(own), keep)


def _reshape(c: Contraction, x: Term, value: onnx_ir.Value, letters: str, keep: str) -> Term:
    """Drop and insert axes of size 1; merged axes are split again, in `x` and in the result as well."""
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
    """The shortest groups of consecutive axes, old and new, with equally many entries."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        before: list[int] = []
        after: list[int] = []
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


def _sum(c: Contraction, x: Term, value: onnx_ir.Value, letters: str, keep: str) -> Term:
    """Add, Sub, Sum: distribute over the operands."""
    op = "Sub" if c.made.operator(value) == "Sub" else "Add"
    terms = [c.times(x, operand, own, keep) for operand, own in c.operands(value, letters)]
    total = terms[0]
    for term in terms[1:]:
        total = c.joined(op, total, term)
    return total


def _reduced(c: Contraction, x: Term, value: onnx_ir.Value, letters: str, keep: str) -> Term:
    """ReduceSum: sum the product over letters for its axes."""
    source = c.made.inputs(value)[0]
    axes, shape = c.made.reduced(value), c.made.shape(source)
    rest = iter(letters if len(letters) < len(shape) else [t for i, t in enumerate(letters) if i not in axes])
    own = "".join(c.fresh(n) if i in axes else next(rest) for i, n in enumerate(shape))
    return c.times(x, source, own, keep)


def _negative(c: Contraction, x: Term, value: onnx_ir.Value, letters: str, keep: str) -> Term:
    term = c.times(x, c.made.inputs(value)[0], letters, keep)
    return Term(c.made.one("Neg", term.value, shape=tuple(c.sizes[t] for t in term.letters)), term.letters)


def _multiply(c: Contraction, x: Term, value: onnx_ir.Value, letters: str, keep: str) -> Term:
    first, then = c.operands(value, letters)
    return c.product(x, first, then, keep)


def _divide(c: Contraction, x: Term, value: onnx_ir.Value, letters: str, keep: str) -> Term:
    """Divide the result, or `x`."""
    (a, own), (divisor, other) = c.operands(value, letters)
    plain, under = c.cut(divisor, other)
    plain = c.made.reshaped(plain, [c.sizes[t] for t in under])
    if all(t in keep for t in under):
        return c.joined("Div", c.times(x, a, own, keep), Term(plain, under))
    if all(t in x.letters for t in under):
        return c.times(c.joined("Div", x, Term(plain, under)), a, own, keep)
    raise NotLinear


def _matmul(c: Contraction, x: Term, value: onnx_ir.Value, letters: str, keep: str) -> Term:
    a, b = c.made.inputs(value)[:2]
    ranks = len(c.made.shape(a)), len(c.made.shape(b))
    if max(ranks) > 2 or min(ranks) < 1:
        raise NotLinear
    inner = c.fresh(c.made.shape(a)[-1])
    left = letters[: ranks[0] - 1] + inner
    right = inner + (letters[-1:] if ranks[1] == 2 else "")
    return c.product(x, (a, left), (b, right), keep)


def _gemm(c: Contraction, x: Term, value: onnx_ir.Value, letters: str, keep: str) -> Term:
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


def _scaled(c: Contraction, term: Term, factor: float) -> Term:
    if factor == 1:
        return term
    shape = tuple(c.sizes[t] for t in term.letters)
    return Term(c.made.one("Mul", term.value, c.made.number(term.value, factor), shape=shape), term.letters)


def _einsum(c: Contraction, x: Term, value: onnx_ir.Value, letters: str, keep: str) -> Term:
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


def _concat(c: Contraction, x: Term, value: onnx_ir.Value, letters: str, keep: str) -> Term:
    """Sum over the parts of `x`, or concatenate parts of the result."""
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


def _part(c: Contraction, x: Term, value: onnx_ir.Value, letters: str, keep: str) -> Term:
    """Slice, Split, Gather at known indices: apply them to every operand of the expression."""
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


_REWRITES: Mapping[str, Rewrite] = {
    **dict.fromkeys(("Identity", "Cast", "CastLike", "Dropout"), _same),
    **dict.fromkeys(("Add", "Sub", "Sum"), _sum),
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Flatten"), _reshape),
    **dict.fromkeys(("Slice", "Split", "Gather"), _part),
    "Transpose": _transpose,
    "ReduceSum": _reduced,
    "Neg": _negative,
    "Mul": _multiply,
    "Div": _divide,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Einsum": _einsum,
    "Concat": _concat,
}


def contracted(
    made: Expressions, x: onnx_ir.Value, weight: onnx_ir.Value, letters: tuple[str, str, str]
) -> onnx_ir.Value:
    """Distribute a contraction over its weight; `letters` are those of x, weight and result. Raises `NotLinear`."""
    left, right, out = letters
    sizes = dict(zip(left, made.shape(x), strict=True)) | dict(zip(right, made.shape(weight), strict=True))
    c = Contraction(made, sizes)
    own = "".join(_NONE if n == 1 else t for n, t in zip(made.shape(weight), right, strict=True))
    term = c.times(Term(x, left), weight, own, out)
    if not c.distributed:
        raise NotLinear
    gone = [t for t in term.letters if t not in out]
    return c.ordered(c.summed(term, gone) if gone else term, out)
