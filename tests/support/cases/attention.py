"""Cases of attention operators of com.microsoft: caches, packed operands, masks of every form, rotations, groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from support.cases.case import Case, rows

__all__ = ["attention_cases"]

MICROSOFT = "com.microsoft"


def attention_cases() -> Iterator[Case]:
    """One or more cases per form, alike to what it is written out where that is short."""
    yield from _caches()
    yield from _packed()
    yield from _masked()
    yield from _groups()


def _with_input(case: Case, *inputs: str) -> Case:
    """The case (and its other bodies) with more graph inputs."""
    more = "(float[1, 3, 4] x, " + ", ".join(inputs) + ")"

    def changed(text: str) -> str:
        return text.replace("(float[1, 3, 4] x)", more, 1)

    return replace(
        case,
        text=changed(case.text),
        variants=tuple(map(changed, case.variants)),
        alike=tuple(map(changed, case.alike)),
    )


def _caches() -> Iterator[Case]:
    both = "o, {}{} = com.microsoft.MultiHeadAttention<num_heads = 2{}>(h, g, h, , , , {})"
    past = ("float[1, 2, 4, 3] pk", "float[1, 2, 4, 3] pv")
    case = rows(
        "MultiHeadAttention",
        "past",
        both.format("n", ", m", "", "pk, pv"),
        domain=MICROSOFT,
        variants=[both.format("n", ", m", ", unidirectional = 1", "pk, pv")],
        symmetric=False,
        ints={"split": [1, 3, 2, 3]},
        alike=[
            " ".join(f"{n}s = Reshape({n}, split) {n}t = Transpose<perm = [0, 2, 1, 3]>({n}s)" for n in "gh")
            + " k = Concat<axis = 2>(pk, gt) v = Concat<axis = 2>(pv, ht)"
            + " o = com.microsoft.MultiHeadAttention<num_heads = 2>(h, k, v)"
        ],
    )
    yield _with_input(case, *past)
    yield rows(
        "MultiHeadAttention",
        "present",
        "a, n, m = com.microsoft.MultiHeadAttention<num_heads = 2>(h, g, h) "
        "r = Transpose<perm = [0, 2, 1, 3]>(n) s = Reshape(r, whole) o = Add(a, s)",
        domain=MICROSOFT,
        ints={"whole": [1, 3, 6]},
        alike=["a = com.microsoft.MultiHeadAttention<num_heads = 2>(h, g, h) o = Add(a, g)"],
    )
    text = "o, n = com.microsoft.Attention<num_heads = 2>(h, w, b, , past)"
    floats = {"w": (6, 18), "b": (18,)}
    case = rows("Attention", "microsoft past", text, domain=MICROSOFT, floats=floats)
    yield _with_input(case, "float[2, 1, 2, 4, 3] past")
    yield rows(
        "Attention",
        "microsoft present",
        "a, n = com.microsoft.Attention<num_heads = 2>(h, w, b) i = Gather<axis = 0>(n, one) "
        "r = Transpose<perm = [0, 2, 1, 3]>(i) s = Reshape(r, whole) o = Add(a, s)",
        domain=MICROSOFT,
        floats=floats,
        ints={"whole": [1, 3, 6], "one": 1},
    )
    token = "k1 = Slice(h, zero, first, first) k2 = Slice(g, zero, first, first) "
    names = "o, n, m = com.microsoft.DecoderMaskedMultiHeadAttention"
    ints = {"zero": [0], "first": [1]}
    case = rows(
        "DecoderMaskedMultiHeadAttention",
        "shared cache",
        token + names + "<num_heads = 2, past_present_share_buffer = 1>(k1, k2, k1, , , pk, pv, at)",
        domain=MICROSOFT,
        ints=ints,
        symmetric=False,
        values={"at": np.array([3], np.int32)},
    )
    yield _with_input(case, "float[1, 2, 8, 3] pk", "float[1, 2, 8, 3] pv")
    yield rows(
        "DecoderMaskedMultiHeadAttention",
        "crossed",
        token + "a = Reshape(g, apart) t = Transpose<perm = [0, 2, 1, 3]>(a) "
        "o = com.microsoft.DecoderMaskedMultiHeadAttention<num_heads = 2>(k1, t, t)",
        domain=MICROSOFT,
        ints={**ints, "apart": [1, 3, 2, 3]},
        alike=[token + "o = com.microsoft.MultiHeadAttention<num_heads = 2>(k1, g, g)"],
    )


def _packed() -> Iterator[Case]:
    # ONNX Runtime unpacks on GPUs alone.
    ints = {"apart": [1, 3, 2, 1, 3], "last": [3]}
    apart = " ".join(f"{n}p = Reshape({n}, apart)" for n in ("h", "g"))
    plain = "o = com.microsoft.MultiHeadAttention<num_heads = 2>({})"
    yield rows(
        "MultiHeadAttention",
        "packed",
        apart + " s = Concat<axis = 3>(hp, gp, hp) " + plain.format("s"),
        domain=MICROSOFT,
        ints=ints,
        runs=False,
        alike=[plain.format("h, g, h")],
    )
    yield rows(
        "MultiHeadAttention",
        "packed keys",
        apart + " s = Concat<axis = 3>(gp, hp) " + plain.format("h, s"),
        domain=MICROSOFT,
        ints=ints,
        runs=False,
        alike=[plain.format("h, g, h")],
    )
    yield rows(
        "MultiHeadAttention",
        "heads apart",
        "a = Reshape(g, split) t = Transpose<perm = [0, 2, 1, 3]>(a) " + plain.format("h, t, t"),
        domain=MICROSOFT,
        ints={"split": [1, 3, 2, 3]},
        alike=[plain.format("h, g, g")],
    )
    yield rows(
        "MultiHeadAttention",
        "scores",
        "a, , , s = com.microsoft.MultiHeadAttention<num_heads = 2>(h, g, h) o = Add(a, h)",
        domain=MICROSOFT,
        opaque="scores",
        symmetric=False,
    )


def _masked() -> Iterator[Case]:
    floats = {"w": (6, 18), "b": (18,)}
    for name, mask in (("lengths", [2]), ("starts", [3, 1]), ("cumulated", [2, 0, 3, 0, 3])):
        text = "o = com.microsoft.Attention<num_heads = 2>(h, w, b{})"
        yield rows(
            "Attention",
            f"microsoft {name}",
            text.format(", mask"),
            domain=MICROSOFT,
            floats=floats,
            values={"mask": np.array(mask, np.int32)},
            variants=[text.format("")] if name != "cumulated" else (),
        )
    text = "o = com.microsoft.MultiHeadAttention<num_heads = 2>(h, g, h, , mask)"
    case = rows("MultiHeadAttention", "computed lengths", text, domain=MICROSOFT)
    yield _with_input(case, "int32[1] mask")
    yield rows(
        "MultiHeadAttention",
        "lengths",
        text,
        domain=MICROSOFT,
        values={"mask": np.array([2], np.int32)},
        variants=["o = com.microsoft.MultiHeadAttention<num_heads = 2>(h, g, h)"],
    )


def _groups() -> Iterator[Case]:
    """Queries of 4 heads, keys and values of 2, of 16 entries each."""
    floats = {"wq": (6, 64), "wk": (6, 32), "wv": (6, 32), "cos": (8, 8), "sin": (8, 8), "sink": (4,), "pos_q": (16,)}
    floats |= {"pos_k": (16,), "w": (6, 128)}
    values = {"last": np.array([2], np.int32), "total": np.array(3, np.int32)}
    apart = "q = MatMul(h, wq) k = MatMul(h, wk) v = MatMul(h, wv) "
    text = (
        apart + "o{} = com.microsoft.GroupQueryAttention<num_heads = 4, kv_num_heads = 2{}>(q, k, v, {}, last, total{})"
    )

    def case(name: str, outputs: str, attributes: str, past: str, more: str, **options: object) -> Case:
        options = {"values": values, **options}
        body = text.format(outputs, attributes, past, more)
        return rows("GroupQueryAttention", name, body, width=64, domain=MICROSOFT, floats=floats, **options)

    plain = text.format("", "", ", ", "")
    yield case("windows", "", ", local_window_size = 2", ", ", "", variants=[plain])
    yield case("capped", "", ", softcap = 0.7", ", ", "", variants=[plain])
    yield case("not causal", "", ", causal = 0", ", ", "", variants=[plain])
    yield case("smooth", "", ", smooth_softmax = 1", ", ", "", variants=[plain])
    yield case("sink", "", "", ", ", ", , , , , sink", variants=[plain])
    rotary = ", do_rotary = 1"
    yield case("rotary", "", rotary, ", ", ", cos, sin", variants=[plain])
    yield case("rotary pairs", "", rotary + ", rotary_interleaved = 1", ", ", ", cos, sin", variants=[
        text.format("", rotary, ", ", ", cos, sin")])  # fmt: skip
    yield case("positions", "", rotary, ", ", ", cos, sin, places", ints={"places": [[2, 3, 4]]})
    # Kernels differ: on a CPU only the first one of them is read.
    yield case("positions in disorder", "", rotary, ", ", ", cos, sin, places", ints={"places": [[2, 0, 1]]},
               opaque="consecutive", symmetric=False)  # fmt: skip
    computed = case("computed positions", "", rotary, ", ", ", cos, sin, places")
    yield _with_input(computed, "int64[1, 3] places")
    group = "o = com.microsoft.GroupQueryAttention<num_heads = 4, kv_num_heads = 2>"
    yield rows(
        "GroupQueryAttention",
        "packed",
        f"p = MatMul(h, w) {group}(p, , , , , last, total)",
        width=64,
        domain=MICROSOFT,
        floats=floats,
        values=values,
        ints={"parts": [64, 32, 32]},
        alike=[f"p = MatMul(h, w) q, k, v = Split<axis = 2>(p, parts) {group}(q, k, v, , , last, total)"],
    )
    # ONNX Runtime normalises on GPUs alone.
    yield case("normed", "", ", qk_norm_epsilon = 0.001", ", ", ", , , , , , , , pos_q, pos_k", runs=False)
    past = ("float[1, 2, 4, 16] pk", "float[1, 2, 4, 16] pv")
    later = {"last": np.array([6], np.int32), "total": np.array(7, np.int32)}
    yield _with_input(case("past", ", n, m", "", "pk, pv", "", values=later), *past)
    within = {"last": np.array([3], np.int32), "total": np.array(4, np.int32)}
    yield _with_input(case("cache in place", ", n, m", "", "pk, pv", "", values=within), *past)
    computed = case("computed lengths", ", n, m", rotary, "pk, pv", ", cos, sin", values={"total": values["total"]})
    yield _with_input(replace(computed, values={"total": later["total"]}), *past, "int32[1] last")
    yield case("quantised cache", "", ", kv_cache_bit_width = 4", ", ", "", opaque="quantised", symmetric=False)
    yield case("unknown", "", ", some_day = 1", ", ", "", opaque="some_day", symmetric=False)
