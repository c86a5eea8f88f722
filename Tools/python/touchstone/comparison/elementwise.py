"""Scalar bf16 arithmetic and conversions of a library, by kinds of operands, with models of what it does instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from ..adapters import Unsupported
from ..files import STORAGE, Case, Tensor, bf16_to_fp32
from ..reference import derive
from ..reference.dot import sum_to_odd, to_fp32
from ..verify import differing, is_nan
from .rounding import flush_bf16, flush_fp32, fp32_to_bf16, fp64_to_fp32

SEED = 20240229

# Zeros, the ends of the subnormals and of the normals, ones and their neighbours, ties, NaNs of both kinds.
SPECIAL = np.array(
    [
        s | b
        for s in (0, 0x8000)
        for b in (
            0x0000,
            0x0001,
            0x0002,
            0x0040,
            0x007F,
            0x0080,
            0x0081,
            0x00FF,
            0x0100,
            0x1234,
            0x3380,
            0x3B80,
            0x3F00,
            0x3F7F,
            0x3F80,
            0x3F81,
            0x3FC0,
            0x4000,
            0x4049,
            0x42FF,
            0x437F,
            0x4B00,
            0x7E80,
            0x7F00,
            0x7F7E,
            0x7F7F,
            0x7F80,
            0x7F81,
            0x7FC0,
            0x7FFF,
        )
    ],
    np.uint16,
)

ALL = np.arange(1 << 16, dtype=np.uint16)


@dataclass
class Finding:
    """One operation on one kind of operands."""

    operation: str
    kind: str
    elements: int
    different: int
    largest_ulp: int
    reasons: list[str] = field(default_factory=list)
    nan_bits: str = ""
    example: str = ""


# Operands


def _exponent(generator: np.random.Generator, bits: np.ndarray, low: int, high: int) -> np.ndarray:
    """Random signs and significands with biased exponents in low ... high."""
    return ((bits & 0x807F) | (generator.integers(low, high + 1, len(bits)) << 7)).astype(np.uint16)


def binary_operands(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of special values, random bits, and pairs whose result is near an end of the range."""
    count = 12000
    a, b = (generator.integers(0, 1 << 16, 6 * count, np.uint16) for _ in range(2))
    part = [slice(i * count, (i + 1) * count) for i in range(6)]
    a[part[1]] &= 0x807F  # subnormal
    b[part[1]] = _exponent(generator, b[part[1]], 100, 150)
    a[part[2]] = _exponent(generator, a[part[2]], 0, 3)
    b[part[2]] = _exponent(generator, b[part[2]], 0, 3)
    a[part[3]] = _exponent(generator, a[part[3]], 30, 90)
    b[part[3]] = _exponent(generator, b[part[3]], 40, 95)
    a[part[4]] = _exponent(generator, a[part[4]], 180, 254)
    b[part[4]] = _exponent(generator, b[part[4]], 0, 254)
    a[part[5]] = _exponent(generator, a[part[5]], 120, 134)
    b[part[5]] = _exponent(generator, b[part[5]], 120, 134)
    return (np.concatenate([np.repeat(SPECIAL, len(SPECIAL)), a]), np.concatenate([np.tile(SPECIAL, len(SPECIAL)), b]))


def ternary_operands(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For fma: c near the product, at half a unit of it, and anywhere."""
    a, b = binary_operands(generator)
    c = generator.choice(np.concatenate([SPECIAL, ALL]), len(a)).astype(np.uint16)
    third = len(a) // 3
    a[:third] = _exponent(generator, a[:third], 117, 137)
    b[:third] = _exponent(generator, b[:third], 117, 137)
    with np.errstate(all="ignore"):
        product = fp32_to_bf16(bf16_to_fp32(a) * bf16_to_fp32(b))
    shift = generator.integers(-18, 19, third)
    exponents = np.clip(((product[:third] >> 7) & 255).astype(np.int64) + shift, 0, 254)
    c[:third] = (c[:third] & 0x807F) | (exponents << 7).astype(np.uint16)
    return a, b, c


def _is_subnormal(bits: np.ndarray) -> np.ndarray:
    return ((bits & 0x7F80) == 0) & ((bits & 0x7F) != 0)


def kinds(inputs: Iterable[np.ndarray], result: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """Names the kind of each element of an arithmetic operation."""
    inputs = list(inputs)
    kind = np.full(len(result), "normal", dtype=object)
    kind[(flags & 4) != 0] = "overflow"
    kind[_is_subnormal(result) | ((flags & 2) != 0)] = "subnormal result"
    kind[np.any([_is_subnormal(x) for x in inputs], axis=0)] = "subnormal operand"
    kind[np.any([(x & 0x7F80) == 0x7F80 for x in inputs], axis=0) | ((flags & 0x18) != 0)] = "NaN or infinity"
    return kind


# Models: what a library might compute instead. Each returns the predicted result.

Model = Callable[[Case], "Tensor | None"]


def _arithmetic(name: str, *values: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        if name == "sqrt":
            return np.sqrt(values[0])
        return {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}[name](*values)


def flushing(case: Case) -> Tensor | None:
    """fp32 arithmetic under DAZ and FTZ, then RNE; comparisons, minima and conversions of flushed operands."""
    name = case.op[5:]
    bits = [tensor.array for tensor in case.inputs.values() if tensor.type == "bf16"]
    if name in ("add", "sub", "mul", "div", "sqrt"):
        single = flush_fp32(_arithmetic(name, *(bf16_to_fp32(flush_bf16(x)) for x in bits)))
        return Tensor("bf16", fp32_to_bf16(single))
    if name == "from":
        if case.recipe["source"] != "fp64":
            return None
        return Tensor("bf16", fp32_to_bf16(flush_fp32(fp64_to_fp32(case.inputs["a"].array))))
    flushed = {name: Tensor("bf16", flush_bf16(tensor.array)) for name, tensor in case.inputs.items()}
    return derive(Case(case.name, case.op, case.recipe, inputs=flushed)).outputs["r"]


def through_fp32(case: Case) -> Tensor | None:
    """Rounded to fp32 first, and that to bf16: two roundings."""
    if case.op != "bf16.from" or case.recipe["source"] in ("fp16", "fp32"):
        return None
    return Tensor(
        "bf16",
        fp32_to_bf16(
            fp64_to_fp32(case.inputs["a"].array)
            if case.recipe["source"] == "fp64"
            else case.inputs["a"].array.astype(np.float32)
        ),
    )


def product_rounded(case: Case) -> Tensor | None:
    """bf16(bf16(a b) + c)."""
    if case.op != "bf16.fma":
        return None
    a, b, c = (bf16_to_fp32(case.inputs[name].array) for name in "abc")
    with np.errstate(all="ignore"):
        return Tensor("bf16", fp32_to_bf16(bf16_to_fp32(fp32_to_bf16(a * b)) + c))


def sum_in_fp32(case: Case) -> Tensor | None:
    """bf16(fp32(a b + c)): the product and sum in fp32, then a second rounding."""
    if case.op != "bf16.fma":
        return None
    a, b, c = (bf16_to_fp32(case.inputs[name].array) for name in "abc")
    with np.errstate(all="ignore"):
        return Tensor("bf16", fp32_to_bf16(a * b + c))


def fused_in_fp32(case: Case) -> Tensor | None:
    """bf16(fma32(a, b, c)): one rounding to fp32, then a second one."""
    if case.op != "bf16.fma":
        return None
    with np.errstate(all="ignore"):
        a, b, c = (bf16_to_fp32(case.inputs[name].array).astype(np.float64) for name in "abc")
        return Tensor("bf16", fp32_to_bf16(to_fp32(sum_to_odd(a * b, c))))


def _flushed(model: Model) -> Model:
    """The model on flushed operands, its fp32 result flushed."""

    def run(case: Case) -> Tensor | None:
        if case.op != "bf16.fma":
            return None
        a, b, c = (bf16_to_fp32(flush_bf16(case.inputs[name].array)) for name in "abc")
        with np.errstate(all="ignore"):
            if model is product_rounded:
                product = bf16_to_fp32(fp32_to_bf16(flush_fp32(a * b)))
                return Tensor("bf16", fp32_to_bf16(flush_fp32(flush_fp32(product) + c)))
            if model is sum_in_fp32:
                return Tensor("bf16", fp32_to_bf16(flush_fp32(flush_fp32(a * b) + c)))
            wide = sum_to_odd(a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64))
            return Tensor("bf16", fp32_to_bf16(flush_fp32(to_fp32(wide))))

    return run


MODELS: list[tuple[str, Model]] = [
    ("rounds to fp32, then to bf16", through_fp32),
    ("product rounded to bf16 before the sum", product_rounded),
    ("sum rounded to fp32, then to bf16", sum_in_fp32),
    ("fp32 fma, then rounded to bf16", fused_in_fp32),
    ("subnormals read and written as zero", flushing),
    ("product rounded to bf16 before the sum, subnormals read and written as zero", _flushed(product_rounded)),
    ("sum rounded to fp32, then to bf16, subnormals read and written as zero", _flushed(sum_in_fp32)),
    ("fp32 fma, then rounded to bf16, subnormals read and written as zero", _flushed(fused_in_fp32)),
]


def explain(
    case: Case, expected: Tensor, flags: np.ndarray, got: Tensor, mask: np.ndarray
) -> tuple[list[tuple[str, int]], np.ndarray]:
    """Reasons for the elements of `mask`, each with how many it accounts for, and a mask of those left over."""
    left = mask.copy()
    reasons: list[tuple[str, int]] = []

    def take(reason: str, explained: np.ndarray) -> None:
        nonlocal left
        count = int((left & explained).sum())
        if count:
            reasons.append((reason, count))
            left &= ~explained

    name = case.op[5:]
    bits = [tensor.array for tensor in case.inputs.values() if tensor.type == "bf16"]
    if name in ("minimum", "maximum", "minimumNumber", "maximumNumber"):
        take("-0 and +0 taken as equal", ((bits[0] | bits[1]) & 0x7FFF) == 0)
        signalling = np.any([((x & 0x7FFF) > 0x7F80) & ((x & 0x40) == 0) for x in bits], axis=0)
        take("a signalling NaN wins over the number", signalling & is_nan(got) & ~is_nan(expected))
    if name == "to" and "int" in got.type:
        take("no saturation: out of range and NaN give other integers", (flags & 16) != 0)
    candidates = []
    for reason, model in MODELS:
        predicted = model(case) if left.any() else None
        if predicted is not None and predicted.type == got.type:
            candidates.append((reason, ~differing(predicted, got)))
    # The model that predicts most of all elements, right and wrong ones, speaks first; the simpler one of equals.
    for reason, explained in sorted(candidates, key=lambda candidate: -int(candidate[1].sum())):
        take(reason, explained)
    if name in ("minimumNumber", "maximumNumber"):
        flushed = [flush_bf16(x) for x in bits]
        take("subnormals compared as zeros", (flushed[0] == flushed[1]) | (((flushed[0] | flushed[1]) & 0x7FFF) == 0))
    return reasons, left


def ulps(expected: Tensor, got: Tensor) -> np.ndarray:
    """Distance in units in the last place; of integers, their difference; -1 for a NaN against a number."""
    if "int" in expected.type:
        return np.abs(expected.array.astype(object) - got.array.astype(object))
    sign = 1 << (8 * expected.array.itemsize - 1)

    def ordered(tensor: Tensor) -> np.ndarray:
        bits = tensor.bits.astype(object)
        return np.where(bits >= sign, sign - bits, bits)

    distance = np.abs(ordered(expected) - ordered(got))
    return np.where(is_nan(expected) | is_nan(got), np.where(is_nan(expected) & is_nan(got), 0, -1), distance)


def nan_bits(case: Case, expected: Tensor, got: Tensor, mask: np.ndarray) -> str:
    """What the library puts where a NaN is due."""
    due = is_nan(expected) & is_nan(got) & mask if expected.type in ("bf16", "fp16", "fp32", "fp64") else None
    if due is None or not due.any():
        return ""
    bits = got.bits[due].astype(np.uint64)
    sign = np.uint64(1 << (8 * got.array.itemsize - 1))
    magnitudes = np.unique(bits & (sign - np.uint64(1)))
    signs = np.unique(bits & sign)
    canonical = int(expected.bits[due][0])
    if len(magnitudes) == 1:
        if len(signs) > 1:
            return ("canonical" if int(magnitudes[0]) == canonical else f"0x{int(magnitudes[0]):x}") + ", sign varies"
        return "canonical" if int(bits[0]) == canonical else f"0x{int(bits[0]):x}"
    quieted = (bits & np.uint64(_quiet_bit(got.type))) != 0
    return (
        f"{len(magnitudes)} payloads"
        + ("" if quieted.all() else ", some signalling")
        + (", sign varies" if len(signs) > 1 else "")
    )


def _quiet_bit(type: str) -> int:
    return {"bf16": 1 << 6, "fp16": 1 << 9, "fp32": 1 << 22, "fp64": 1 << 51}[type]


# The comparison


def arithmetic_cases() -> list[Case]:
    generator = np.random.default_rng(SEED)
    a, b = (Tensor("bf16", x) for x in binary_operands(generator))
    cases = [
        Case(name, f"bf16.{name}", {"rounding": "rne", "tininess": "after"}, inputs={"a": a, "b": b})
        for name in ("add", "sub", "mul", "div")
    ]
    cases.append(Case("sqrt", "bf16.sqrt", {"rounding": "rne"}, inputs={"a": Tensor("bf16", ALL)}))
    fma = dict(zip("abc", (Tensor("bf16", x) for x in ternary_operands(generator))))
    cases.append(Case("fma", "bf16.fma", {"rounding": "rne"}, inputs=fma))
    cases += [
        Case(name, f"bf16.{name}", {"rounding": "rne", "tininess": "after"}, inputs={"a": a, "b": b})
        for name in ("minimum", "maximum", "minimumNumber", "maximumNumber")
    ]
    cases.append(Case("compare", "bf16.compare", {"signalling": False}, inputs={"a": a, "b": b}))
    return cases


def conversion_cases() -> list[Case]:
    """One case a kind of operand: from every other type, and to it."""
    generator = np.random.default_rng(SEED + 1)
    cases = []

    def source(kind: str, type: str, array: np.ndarray) -> None:
        cases.append(
            Case(
                f"{type} -> bf16|{kind}",
                "bf16.from",
                {"source": type, "rounding": "rne"},
                inputs={"a": Tensor(type, np.ascontiguousarray(array, STORAGE[type]))},
            )
        )

    def words(high: np.ndarray, low: int) -> np.ndarray:
        return (high.astype(np.uint32) << 16) + np.uint32(low)

    def as_fp32(bits: np.ndarray) -> np.ndarray:
        return np.asarray(bits, np.uint32).view(np.float32)

    normal = ALL[((ALL & 0x7F80) != 0) & ((ALL & 0x7FFF) < 0x7F00)]
    subnormal = ALL[(ALL & 0x7F80) == 0]
    not_a_number = ALL[(ALL & 0x7FFF) > 0x7F80]
    source("all", "fp16", ALL.view(np.float16))
    source("random", "fp32", as_fp32(generator.integers(0x00800000, 0x7F000000, 50000, np.uint32)))
    source("ties", "fp32", as_fp32(words(normal, 0x8000)))
    source("next to a tie", "fp32", as_fp32(np.concatenate([words(normal, 0x7FFF), words(normal, 0x8001)])))
    source(
        "subnormal",
        "fp32",
        as_fp32(np.concatenate([words(subnormal, low) for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)])),
    )
    top = np.array([0x7F7F, 0xFF7F], np.uint16)
    source("overflow", "fp32", as_fp32(np.concatenate([words(top, low) for low in (0x7FFF, 0x8000, 0x8001, 0xFFFF)])))
    with np.errstate(invalid="ignore"):
        source(
            "NaN",
            "fp32",
            as_fp32(
                np.concatenate(
                    [words(not_a_number, low) for low in (0, 1, 0xFFFF)]
                    + [words(np.array([0x7F80, 0xFF80]), low) for low in (1, 0x8000, 0xFFFF)]
                )
            ),
        )
        ties = as_fp32(words(normal, 0x8000)).astype(np.float64)
        source(
            "random",
            "fp64",
            as_fp32(generator.integers(0x00800000, 0x7F000000, 50000, np.uint32)).astype(np.float64)
            * (1 + generator.integers(-(2**27), 2**27, 50000) * 2.0**-52),
        )
        source("ties", "fp64", ties)
        source(
            "next to a tie, beyond fp32",
            "fp64",
            np.concatenate([np.nextafter(ties, np.inf), np.nextafter(ties, -np.inf)]),
        )
        small = as_fp32(np.concatenate([words(subnormal, low) for low in (0, 0x7FFF, 0x8000, 0x8001)])).astype(
            np.float64
        )
        source(
            "subnormal",
            "fp64",
            np.concatenate([small, np.nextafter(small, np.inf), [2.0**-134, 2.0**-140, 5e-324, -5e-324]]),
        )
        edge = float(2**128 - 2**119)  # the tie between the largest number and infinity
        source(
            "overflow",
            "fp64",
            np.array([edge, np.nextafter(edge, 0), np.nextafter(edge, np.inf), -edge, 2.0**128, 1e300, -1e300]),
        )
        source(
            "NaN",
            "fp64",
            np.array([0x7FF8 << 48, 0xFFF8 << 48, 0x7FF0 << 48 | 1, 0xFFF4 << 48, 0x7FFF << 48 | 5], np.uint64).view(
                np.float64
            ),
        )
    for type in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"):
        limits = np.iinfo(type)
        drawn = generator.integers(limits.min, limits.max, 8000, np.dtype(type), endpoint=True)
        source(
            "random", type, np.concatenate([drawn, drawn >> generator.integers(0, limits.bits - 1, 8000).astype(type)])
        )
        traps = [
            (2 * k + 1) * 2 ** (shift - 9) + nudge  # a tie at 8 bits, and next to it
            for shift in range(10, limits.bits + 1)
            for k in (128, 129, 200, 255)
            for nudge in (-1, 0, 1)
        ]
        traps = [trap for trap in traps if trap <= limits.max]
        if traps:
            source("ties and next to them", type, np.array(traps, type))
    finite = ALL[(ALL & 0x7FFF) < 0x7F80]
    for type in ("fp16", "fp32", "fp64"):
        parts = {"NaN": not_a_number, "subnormal": subnormal, "other": finite[(finite & 0x7F80) != 0]}
        for kind, bits in parts.items():
            cases.append(
                Case(
                    f"bf16 -> {type}|{kind}",
                    "bf16.to",
                    {"target": type, "rounding": "rne"},
                    inputs={"a": Tensor("bf16", bits)},
                )
            )
    for type in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"):
        limits = np.iinfo(type)
        values = bf16_to_fp32(finite).astype(np.float64)
        inside = (values > limits.min - 1.0) & (values < limits.max + 1.0)
        for kind, bits in (
            ("in range", finite[inside]),
            ("out of range", finite[~inside]),
            ("NaN and infinity", ALL[(ALL & 0x7F80) == 0x7F80]),
        ):
            cases.append(
                Case(
                    f"bf16 -> {type}|{kind}",
                    "bf16.to",
                    {"target": type, "rounding": "rtz"},
                    inputs={"a": Tensor("bf16", bits)},
                )
            )
    return cases


def compare(case: Case, evaluate: Callable[[Case], Tensor], by_kind: bool) -> list[Finding]:
    """Runs a case through a library and says where and why it differs from the derivation."""
    derived = derive(case).outputs
    expected, flags = derived["r"], derived["flags"].array
    try:
        got = evaluate(case)
    except Unsupported:
        return []
    different = differing(expected, got)
    operation, _, kind = case.name.partition("|")
    if by_kind:
        if expected.type == "bf16":
            bits = [tensor.array for tensor in case.inputs.values()]
            names = kinds(bits, expected.array, flags)
        else:
            names = np.where(
                np.any([_is_subnormal(tensor.array) for tensor in case.inputs.values()], axis=0),
                "subnormal operand",
                "other",
            )
    else:
        names = np.full(len(flags), kind, dtype=object)
    findings = []
    for kind in sorted(set(names)):
        mask = names == kind
        wrong = mask & different
        finding = Finding(operation, kind, int(mask.sum()), int(wrong.sum()), 0)
        finding.nan_bits = nan_bits(case, expected, got, mask)
        if wrong.any():
            finding.largest_ulp = int(
                max(ulps(Tensor(expected.type, expected.array[wrong]), Tensor(got.type, got.array[wrong])))
            )
            reasons, left = explain(case, expected, flags, got, wrong)
            finding.reasons = [f"{reason} ({count:,})" for reason, count in reasons]
            if left.any():
                finding.reasons.append(f"not explained ({int(left.sum()):,})")
            index = int(np.flatnonzero(wrong)[0])

            def show(tensor: Tensor, index: int = index) -> str:
                return f"{int(tensor.bits[index]):0{2 * tensor.array.itemsize}x}"

            operands = " ".join(show(tensor) for tensor in case.inputs.values())
            finding.example = f"{operands} -> {show(got)}, not {show(expected)}"
        findings.append(finding)
    return findings
